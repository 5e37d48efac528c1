#include "data/order.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/hash.h"
#include "base/random.h"

#define BLOCKS_PER_LANE 16 /* so that lanes are about equally long */

Status order_source_create(const char *name, const int64_t *shard_samples, int32_t shard_count,
                           const OrderShuffle *shuffle, OrderSource *out)
{
    Status status = STATUS_OK;
    OrderSource source = {
        .name = name, .name_hash = hash_string64(name), .shard_count = shard_count, .mix = shuffle->mix};
    *out = (OrderSource){0};
    if (shuffle->mix < 1 || shuffle->mix > ORDER_MAX_MIX)
        FAIL(ERR_CONFIG, "data.shuffle_mix is %d, at most %d is possible", shuffle->mix, ORDER_MAX_MIX);
    for (int32_t i = 0; i < shard_count; i++) {
        if (shard_samples[i] < 0 || shard_samples[i] > ORDER_MAX_SHARD_SAMPLES)
            FAIL(ERR_LIMIT, "source %s: a shard of %" PRId64 " samples", name, shard_samples[i]);
        source.samples += shard_samples[i];
    }
    if (source.samples == 0)
        FAIL(ERR_CONFIG, "source %s: its shards have no samples; give it others, or take the source out", name);
    if (source.samples < shuffle->lanes)
        FAIL(ERR_CONFIG,
             "source %s has %" PRId64 " samples, fewer than data.lanes (%d); add samples, or set data.lanes to at most "
             "that (the number of ranks must divide it)",
             name, source.samples, shuffle->lanes);
    int64_t block = source.samples / ((int64_t)shuffle->lanes * BLOCKS_PER_LANE);
    if (block > shuffle->block) block = shuffle->block;
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

/* Block number `turn` of the lane in this epoch; its number among all blocks of the source. A shard's samples are split
 * evenly over its blocks. */
static int64_t find_block(const OrderStream *stream, int64_t turn, OrderBlock *out)
{
    const OrderSource *source = stream->source;
    uint64_t place = (uint64_t)stream->lane + (uint64_t)turn * (uint64_t)stream->lanes;
    int64_t block = (int64_t)random_permute(
        stream->seed, RANDOM_SHARD_ORDER, source->name_hash + (uint64_t)stream->epoch, (uint64_t)source->blocks, place);
    out->shard = find_shard(source, block);
    int64_t in_shard = block - source->first_block[out->shard];
    int64_t blocks = source->first_block[out->shard + 1] - source->first_block[out->shard];
    int64_t samples = source->shard_samples[out->shard];
    out->first = samples * in_shard / blocks;
    out->size = samples * (in_shard + 1) / blocks - out->first;
    return block;
}

static int64_t turns_per_epoch(const OrderStream *stream)
{
    return (stream->source->blocks - stream->lane + stream->lanes - 1) / stream->lanes;
}

/* False when the epoch has no such group. */
static bool load_group(OrderStream *stream)
{
    const int64_t turns = turns_per_epoch(stream), mix = stream->source->mix;
    if (stream->group >= (turns + mix - 1) / mix) return false;
    const int64_t first = stream->group * mix;
    stream->block_count = (int32_t)(turns - first < mix ? turns - first : mix);
    stream->starts[0] = 0;
    for (int32_t b = 0; b < stream->block_count; b++) {
        int64_t number = find_block(stream, first + b, &stream->blocks[b]);
        if (b == 0) stream->first_block = number;
        stream->starts[b + 1] = stream->starts[b] + stream->blocks[b].size;
    }
    return true;
}

static int64_t group_size(const OrderStream *stream)
{
    return stream->starts[stream->block_count];
}

static int64_t position(const OrderStream *stream)
{
    return stream->group * stream->source->mix * stream->source->block_size + stream->in_group;
}

/* Puts a stream whose group is over on the next one, in the next epoch after the last. */
static void settle(OrderStream *stream)
{
    if (stream->in_group < group_size(stream)) return;
    stream->in_group = 0;
    stream->group++;
    if (load_group(stream)) return;
    stream->group = 0;
    stream->epoch++;
    (void)load_group(stream); /* every lane has a block: there are at least as many as lanes */
}

Status order_stream_start(OrderStream *stream, const OrderSource *source, uint64_t seed, int32_t lane, int32_t lanes,
                          int64_t epoch, int64_t at)
{
    Status status = STATUS_OK;
    const int64_t stride = source->mix * source->block_size;
    *stream = (OrderStream){.source = source,
                            .seed = seed,
                            .lane = lane,
                            .lanes = lanes,
                            .epoch = epoch,
                            .group = at / stride,
                            .in_group = at % stride};
    if (epoch < 0 || at < 0 || !load_group(stream) || stream->in_group >= group_size(stream))
        FAIL(ERR_MISMATCH, "source %s: lane %d has no position %" PRId64 " in epoch %" PRId64, source->name, lane, at,
             epoch);
fail:
    return status;
}

void order_stream_next(OrderStream *stream, OrderVisit *visit)
{
    /* One permutation a (source, epoch, group): the odd multiplier keeps the groups of an epoch apart. */
    uint64_t key =
        stream->source->name_hash + (uint64_t)stream->epoch + (uint64_t)(stream->first_block + 1) * 0x9e3779b97f4a7c15u;
    int64_t item = (int64_t)random_permute(stream->seed, RANDOM_BLOCK_ORDER, key, (uint64_t)group_size(stream),
                                           (uint64_t)stream->in_group);
    int32_t b = 0;
    while (item >= stream->starts[b + 1]) b++;
    visit->block = stream->blocks[b];
    visit->sample = visit->block.first + item - stream->starts[b];
    visit->visit_epoch = stream->epoch;
    stream->in_group++;
    settle(stream);
    visit->epoch = stream->epoch;
    visit->position = position(stream);
}

uint64_t order_visit_key(const OrderSource *source, const OrderVisit *visit)
{
    const uint64_t words[] = {source->name_hash, (uint64_t)visit->block.shard, (uint64_t)visit->sample,
                              (uint64_t)visit->visit_epoch};
    return hash_memory(words, sizeof words).low;
}

#define STRATUM 4096
#define DRAWS 64

static int32_t source_at(double u, const double *shares, int32_t count)
{
    double below = 0;
    int32_t last = 0;
    for (int32_t s = 0; s < count; s++) {
        if (!(shares[s] > 0)) continue;
        last = s;
        below += shares[s];
        if (u < below) break;
    }
    return last;
}

int32_t order_pick_source(uint64_t seed, int64_t i, const double *shares, const bool *ended, int32_t count)
{
    uint64_t place = random_permute(seed, RANDOM_SOURCE, (uint64_t)(i / STRATUM), STRATUM, (uint64_t)(i % STRATUM));
    double inside = random_u32(seed, RANDOM_SOURCE, (uint64_t)i, 0) * 0x1p-32;
    int32_t s = source_at(((double)place + inside) / STRATUM, shares, count);
    for (uint64_t draw = 1; ended[s] && draw < DRAWS; draw++)
        s = source_at(random_u32(seed, RANDOM_SOURCE, (uint64_t)i, draw) * 0x1p-32, shares, count);
    if (!ended[s]) return s;
    for (int32_t n = 1; n <= count; n++) { /* what is left has tiny shares only, or nothing is */
        int32_t other = (s + n) % count;
        if (!ended[other] && shares[other] > 0) return other;
    }
    return -1;
}
