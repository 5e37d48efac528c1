#include "data/order.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/hash.h"
#include "base/random.h"

#define BLOCKS_PER_LANE 16 /* so that lanes are about equally long */

Status order_source_create(const char *name, const int64_t *shard_samples, int32_t shard_count, int64_t shuffle_block,
                           int32_t lanes, OrderSource *out)
{
    Status status = STATUS_OK;
    OrderSource source = {.name = name, .name_hash = hash_string64(name), .shard_count = shard_count};
    *out = (OrderSource){0};
    for (int32_t i = 0; i < shard_count; i++) source.samples += shard_samples[i];
    if (source.samples < lanes)
        FAIL(ERR_CONFIG,
             "source %s has %" PRId64 " samples, fewer than data.lanes (%d); add samples, or set data.lanes to at most "
             "that (the number of ranks must divide it)",
             name, source.samples, lanes);
    int64_t block = source.samples / ((int64_t)lanes * BLOCKS_PER_LANE);
    if (block > shuffle_block) block = shuffle_block;
    source.block_size = block < 1 ? 1 : block;

    source.shard_samples = mem_alloc_array((size_t)shard_count, sizeof source.shard_samples[0]);
    source.first_block = mem_alloc_array((size_t)shard_count + 1, sizeof source.first_block[0]);
    if (!source.shard_samples || !source.first_block) FAIL(ERR_MEMORY, "out of memory for the order of %s", name);
    for (int32_t i = 0; i < shard_count; i++) {
        source.shard_samples[i] = shard_samples[i];
        source.first_block[i + 1] =
            source.first_block[i] + (shard_samples[i] + source.block_size - 1) / source.block_size;
    }
    source.blocks = source.first_block[shard_count];
    *out = source;
    return STATUS_OK;
fail:
    order_source_free(&source);
    return status;
}

void order_source_free(OrderSource *source)
{
    free(source->shard_samples);
    free(source->first_block);
    *source = (OrderSource){0};
}

static int32_t find_shard(const OrderSource *source, int64_t block)
{
    int32_t low = 0, high = source->shard_count; /* first_block[low] <= block < first_block[high] */
    while (high - low > 1) {
        int32_t middle = low + (high - low) / 2;
        if (source->first_block[middle] <= block)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* The lane's block number `turn` of this epoch. A shard's samples are split evenly over its blocks. */
static void load_block(OrderStream *stream)
{
    const OrderSource *source = stream->source;
    uint64_t place = (uint64_t)stream->lane + (uint64_t)stream->turn * (uint64_t)stream->lanes;
    stream->block = (int64_t)random_permute(
        stream->seed, RANDOM_SHARD_ORDER, source->name_hash + (uint64_t)stream->epoch, (uint64_t)source->blocks, place);
    stream->shard = find_shard(source, stream->block);
    int64_t in_shard = stream->block - source->first_block[stream->shard];
    int64_t blocks = source->first_block[stream->shard + 1] - source->first_block[stream->shard];
    int64_t samples = source->shard_samples[stream->shard];
    /* samples < 2^32 a shard and blocks <= samples: the products fit */
    stream->first = samples * in_shard / blocks;
    stream->size = samples * (in_shard + 1) / blocks - stream->first;
}

static int64_t turns_per_epoch(const OrderStream *stream)
{
    return (stream->source->blocks - stream->lane + stream->lanes - 1) / stream->lanes;
}

/* Puts the stream on the block that holds its next sample, at the beginning of the next epoch when this one is over. */
static void settle(OrderStream *stream)
{
    while (stream->in_block >= stream->size) {
        stream->in_block -= stream->size;
        if (++stream->turn >= turns_per_epoch(stream)) {
            stream->turn = 0;
            stream->epoch++;
            stream->position = 0;
        }
        load_block(stream);
    }
}

Status order_stream_start(OrderStream *stream, const OrderSource *source, uint64_t seed, int32_t lane, int32_t lanes,
                          int64_t epoch, int64_t position)
{
    Status status = STATUS_OK;
    *stream = (OrderStream){.source = source, .seed = seed, .lane = lane, .lanes = lanes, .epoch = epoch};
    load_block(stream);
    int64_t left = position;
    while (left >= stream->size) {
        left -= stream->size;
        if (++stream->turn >= turns_per_epoch(stream)) {
            if (left > 0)
                FAIL(ERR_MISMATCH, "source %s: lane %d has no position %" PRId64 " in epoch %" PRId64, source->name,
                     lane, position, epoch);
            stream->in_block = stream->size; /* exactly at the end: settle moves on */
            stream->turn--;
            stream->position = position;
            settle(stream);
            return STATUS_OK;
        }
        load_block(stream);
    }
    stream->in_block = left;
    stream->position = position;
    return STATUS_OK;
fail:
    return status;
}

void order_stream_next(OrderStream *stream, OrderVisit *visit)
{
    const OrderSource *source = stream->source;
    /* One permutation a (source, epoch, block): the odd multiplier keeps the blocks of an epoch apart. */
    uint64_t key = source->name_hash + (uint64_t)stream->epoch + (uint64_t)(stream->block + 1) * 0x9e3779b97f4a7c15u;
    uint64_t item =
        random_permute(stream->seed, RANDOM_BLOCK_ORDER, key, (uint64_t)stream->size, (uint64_t)stream->in_block);
    visit->shard = stream->shard;
    visit->sample = stream->first + (int64_t)item;
    visit->visit_epoch = stream->epoch;
    stream->in_block++;
    stream->position++;
    settle(stream);
    visit->epoch = stream->epoch;
    visit->position = stream->position;
}

int32_t order_pick_source(uint64_t seed, int64_t i, const double *cumulative, int32_t count)
{
    if (count == 1) return 0;
    double u = random_u32(seed, RANDOM_SOURCE, (uint64_t)i, 0) * 0x1p-32;
    int32_t s = 0;
    while (s < count - 1 && u >= cumulative[s]) s++;
    return s;
}
