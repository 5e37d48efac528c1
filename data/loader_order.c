/* What the loader serves in which order: the mixture, and where each lane of each source begins. */
#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "data/loader_inside.h"

/* Positions of the sources that a start cursor knows; the others begin at their beginning. */
static Status adopt_cursor(Loader *loader, const Cursor *start)
{
    Status status = STATUS_OK;
    Cursor *now = loader->cursor;
    if (start->seed != now->seed)
        FAIL(ERR_MISMATCH,
             "the data cursor is of seed %" PRIu64 ", the config has %" PRIu64 "; resume with the same seed",
             start->seed, now->seed);
    if (start->lanes != now->lanes)
        FAIL(ERR_MISMATCH, "the data cursor has %d lanes, data.lanes is %d; resume with the same value", start->lanes,
             now->lanes);
    for (int32_t s = 0; s < now->source_count; s++) {
        const CursorSource *new = &now->sources[s], *old = NULL;
        int32_t o;
        for (o = 0; o < start->source_count; o++)
            if (strcmp(start->sources[o].name, new->name) == 0) {
                old = &start->sources[o];
                break;
            }
        if (!old) {
            log_info("source %s is new to this run and starts at its beginning", new->name);
            continue;
        }
        if (old->samples != new->samples || old->identity != new->identity)
            FAIL(ERR_MISMATCH,
                 "source %s has changed since the checkpoint: %" PRId64 " samples then, %" PRId64
                 " now, or other shards; bring the old shards back, or give the source another name to start it anew",
                 new->name, old->samples, new->samples);
        if (old->block_size != new->block_size || old->mix != new->mix)
            FAIL(ERR_MISMATCH,
                 "source %s was cut into blocks of %" PRId64 " samples until the checkpoint (data.shuffle_block, or "
                 "less where a source is small), %d of them mixed (data.shuffle_mix), and now %" PRId64
                 " and %d; resume with the values of then",
                 new->name, old->block_size, old->mix, new->block_size, new->mix);
        memcpy(now->positions + (size_t)s * (size_t)now->lanes, start->positions + (size_t)o * (size_t)now->lanes,
               (size_t)now->lanes * sizeof now->positions[0]);
    }
    now->next_index = start->next_index;
fail:
    return status;
}

/* Shares of the mixture: weights, times samples where that is asked for. */
static Status make_shares(Loader *loader)
{
    Status status = STATUS_OK;
    const DataConfig *config = loader->config;
    double sum = 0;
    for (int32_t s = 0; s < loader->source_count; s++) {
        loader->shares[s] = data_config_source(config, (size_t)s)->weight;
        if (config->mixture == MIXTURE_SIZE) loader->shares[s] *= (double)loader->sources[s].samples;
        sum += loader->shares[s];
    }
    if (!(sum > 0)) FAIL(ERR_CONFIG, "the weights of the sources that have samples are 0; give them positive weights");
    for (int32_t s = 0; s < loader->source_count; s++) {
        loader->shares[s] /= sum;
        if (loader->options.rank == 0)
            log_info("source %s: %" PRId64 " samples in %d shards, %.4g of the mixture", loader->sources[s].name,
                     loader->sources[s].samples, shard_store_count(loader->store, s), loader->shares[s]);
    }
fail:
    return status;
}

Status loader_open_order(Loader *loader, const Cursor *start)
{
    Status status = STATUS_OK;
    const DataConfig *config = loader->config;
    const LoaderOptions *o = &loader->options;
    int32_t n = loader->source_count;
    const OrderShuffle shuffle = {
        .block = config->shuffle_block, .mix = (int32_t)config->shuffle_mix, .lanes = loader->lanes};
    loader->sources = mem_alloc_array((size_t)n, sizeof loader->sources[0]);
    loader->shares = mem_alloc_array((size_t)n, sizeof loader->shares[0]);
    loader->source_stats = mem_alloc_array((size_t)n, sizeof loader->source_stats[0]);
    loader->streams = mem_alloc_array((size_t)n * (size_t)loader->own_lanes, sizeof loader->streams[0]);
    loader->ended = mem_alloc_array((size_t)n * (size_t)loader->own_lanes, sizeof loader->ended[0]);
    if (!loader->sources || !loader->shares || !loader->source_stats || !loader->streams || !loader->ended)
        FAIL(ERR_MEMORY, "out of memory for the order");
    TRY(cursor_create(o->seed, loader->lanes, n, &loader->cursor));
    for (int32_t s = 0; s < n; s++) {
        const SourceConfig *source = data_config_source(config, (size_t)s);
        OrderSource *own = &loader->sources[s];
        TRY(order_source_create(source->name, shard_store_samples(loader->store, s),
                                shard_store_count(loader->store, s), &shuffle, own));
        TRY(cursor_set_source(loader->cursor, s, source->name,
                              &(CursorSource){.samples = own->samples,
                                              .block_size = own->block_size,
                                              .mix = own->mix,
                                              .identity = shard_store_identity(loader->store, s)}));
    }
    TRY(make_shares(loader));
    loader->cursor->next_index = o->first_step * o->global_batch;
    if (start) TRY(adopt_cursor(loader, start));
    for (int32_t s = 0; s < n; s++)
        for (int32_t l = 0; l < loader->own_lanes; l++) {
            Stream *stream = &loader->streams[(size_t)s * (size_t)loader->own_lanes + (size_t)l];
            int32_t lane = o->rank + l * o->world;
            LanePosition *p = &loader->cursor->positions[(size_t)s * (size_t)loader->lanes + (size_t)lane];
            TRY(order_stream_start(&stream->order, &loader->sources[s], o->seed, lane, loader->lanes, p->epoch,
                                   p->position));
            stream->once = !data_config_source(config, (size_t)s)->repeat;
            stream->epoch = stream->order.epoch;
            if (stream->once && p->epoch > 0 && l == 0 && o->rank == 0)
                log_info("source %s does not repeat, and was gone through before: it serves nothing more",
                         loader->sources[s].name);
            stream->fresh = stream->order.group == 0 && stream->order.in_group == 0;
        }
    /* The first index of this rank: the least one not below next_index with i mod W = rank. */
    int64_t next = loader->cursor->next_index;
    loader->take_index = next + ((o->rank - next % o->world) + o->world) % o->world;
    loader->issue_index = loader->take_index;
fail:
    return status;
}
