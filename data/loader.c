#include "data/loader.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "data/loader_inside.h"

#define MOST_WINDOWS 16384

/* ---- opening ---- */

static Status check_options(const DataConfig *config, const LoaderOptions *o)
{
    Status status = STATUS_OK;
    if (o->world < 1 || o->rank < 0 || o->rank >= o->world) FAIL(ERR_USAGE, "rank %d of %d", o->rank, o->world);
    if (config->lanes % o->world != 0)
        FAIL(ERR_CONFIG, "%d ranks do not divide data.lanes (%" PRId64 "); use a number of ranks that does", o->world,
             config->lanes);
    if (o->global_batch < 1 || o->global_batch % o->world != 0)
        FAIL(ERR_CONFIG, "%d ranks do not divide train.global_batch (%" PRId64 ")", o->world, o->global_batch);
    if (o->global_batch > INT32_MAX) FAIL(ERR_LIMIT, "a global batch of %" PRId64 " samples", o->global_batch);
    if (o->resolution < 1 || o->resolution > 16384) FAIL(ERR_CONFIG, "a resolution of %d pixels", o->resolution);
    if (o->first_step < 0 || o->first_step > INT64_MAX / 4 / o->global_batch)
        FAIL(ERR_USAGE, "a first step of %" PRId64, o->first_step);
fail:
    return status;
}

static Status open_buffers(Loader *loader)
{
    Status status = STATUS_OK;
    int rows = loader->maker.count < 64 ? loader->maker.count : 64;
    size_t side = (size_t)loader->options.resolution;
    const PrecomputedSpec *precomputed = loader->options.precomputed;
    bool pixels = !loader->options.keys_only && !(precomputed && precomputed->wanted[PRECOMPUTED_LATENTS]);
    loader->lookahead = 4 * loader->thread_count > rows ? 4 * loader->thread_count : rows;
    loader->candidate_count = 2 * loader->lookahead + 1; /* one is in the walker's hand */
    loader->candidates = mem_alloc_array((size_t)loader->candidate_count, sizeof loader->candidates[0]);
    if (!loader->candidates) FAIL(ERR_MEMORY, "out of memory for samples under way");
    for (int i = 0; i < loader->candidate_count; i++) {
        Candidate *c = &loader->candidates[i];
        if (pixels) {
            c->pixels = mem_alloc_array(side * side, 3);
            if (!c->pixels) FAIL(ERR_MEMORY, "out of memory for samples under way");
        }
        c->next = loader->free_list;
        loader->free_list = c;
    }
    if (batch_has_rows(&loader->maker)) {
        loader->rows = mem_alloc_array((size_t)loader->maker.count, sizeof loader->rows[0]);
        if (!loader->rows) FAIL(ERR_MEMORY, "out of memory for a batch's rows");
    }
    TRY(queue_create((size_t)loader->candidate_count + (size_t)loader->maker.count, &loader->jobs));
    int batches = (int)loader->config->prefetch_batches + 1;
    TRY(queue_create((size_t)batches, &loader->ready));
    TRY(queue_create((size_t)batches, &loader->empty));
    loader->batches = mem_alloc_array((size_t)batches, sizeof loader->batches[0]);
    if (!loader->batches) FAIL(ERR_MEMORY, "out of memory for batches");
    for (; loader->batch_count < batches; loader->batch_count++) {
        TRY(batch_create(&loader->maker, loader->cursor, &loader->batches[loader->batch_count]));
        (void)queue_push(loader->empty, loader->batches[loader->batch_count]);
    }
fail:
    return status;
}

/* A window for every block that the streams are in, and some more for those that they come to. */
static Status open_store(Loader *loader)
{
    const DataConfig *config = loader->config;
    int64_t windows = (int64_t)loader->own_lanes * loader->source_count * config->shuffle_mix;
    windows += windows / 8 + loader->thread_count + 8;
    if (windows > MOST_WINDOWS) windows = MOST_WINDOWS;
    return shard_store_open(&(ShardStoreOptions){.config = config,
                                                 .precomputed = loader->options.precomputed,
                                                 .bad_log = loader->bad_log,
                                                 .write_index = config->write_index && loader->options.rank == 0,
                                                 .progress = loader->options.rank == 0,
                                                 .threads = loader->thread_count,
                                                 .windows = (int)windows},
                            &loader->bad, &loader->store);
}

static Status start_threads(Loader *loader)
{
    Status status = STATUS_OK;
    for (; loader->started < loader->thread_count; loader->started++)
        if (pthread_create(&loader->workers[loader->started], NULL, loader_decode, loader) != 0)
            FAIL(ERR_MEMORY, "cannot start decode thread %d; lower data.decode_threads", loader->started);
    if (pthread_create(&loader->walker, NULL, loader_walk, loader) != 0)
        FAIL(ERR_MEMORY, "cannot start the loader's thread");
    loader->walking = true;
fail:
    return status;
}

Status loader_open(const DataConfig *config, const LoaderOptions *options, Loader **out)
{
    Status status = STATUS_OK;
    Loader *loader = NULL;
    *out = NULL;
    TRY(data_config_check(NULL, "data", config));
    TRY(check_options(config, options));
    loader = mem_alloc_array(1, sizeof *loader);
    if (!loader) FAIL(ERR_MEMORY, "out of memory for the loader");
    loader->config = config;
    loader->options = *options;
    loader->options.start = NULL; /* the caller's, only read while opening */
    loader->source_count = (int32_t)config->sources.count;
    loader->lanes = (int32_t)config->lanes;
    loader->own_lanes = loader->lanes / options->world;
    loader->step = options->first_step;
    loader->thread_count = loader_threads(config);
    atomic_init(&loader->stop, false);
    if (pthread_mutex_init(&loader->lock, NULL) != 0) FAIL(ERR_MEMORY, "cannot create a lock");
    if (pthread_cond_init(&loader->settled, NULL) != 0) {
        pthread_mutex_destroy(&loader->lock);
        FAIL(ERR_MEMORY, "cannot create a lock");
    }
    loader->locks = true;

    if (options->bad_log) TRY(bad_log_create(options->bad_log, options->rank, &loader->bad_log));
    TRY(open_store(loader));
    TRY(loader_open_order(loader, options->start));
    TRY(batch_maker_init(&loader->maker, config, options));
    TRY(filter_set_create(NULL, "data", config, &loader->filters));
    loader->context = (CandidateContext){.config = config,
                                         .filters = loader->filters,
                                         .store = loader->store,
                                         .resolution = options->resolution,
                                         .seed = options->seed};
    TRY(open_buffers(loader));
    TRY(start_threads(loader));
    *out = loader;
    return STATUS_OK;
fail:
    loader_close(loader);
    return status;
}

void loader_close(Loader *loader)
{
    if (!loader) return;
    atomic_store(&loader->stop, true);
    if (loader->store) shard_store_stop(loader->store);
    if (loader->jobs) queue_close(loader->jobs);
    if (loader->empty) queue_close(loader->empty);
    if (loader->ready) queue_close(loader->ready);
    if (loader->locks) {
        pthread_mutex_lock(&loader->lock);
        pthread_cond_broadcast(&loader->settled);
        pthread_mutex_unlock(&loader->lock);
    }
    if (loader->walking) pthread_join(loader->walker, NULL);
    for (int i = 0; i < loader->started; i++) pthread_join(loader->workers[i], NULL);
    for (int i = 0; loader->candidates && i < loader->candidate_count; i++) candidate_free(&loader->candidates[i]);
    for (int i = 0; loader->batches && i < loader->batch_count; i++) batch_free(loader->batches[i]);
    for (int32_t s = 0; loader->sources && s < loader->source_count; s++) order_source_free(&loader->sources[s]);
    queue_free(loader->jobs);
    queue_free(loader->ready);
    queue_free(loader->empty);
    batch_maker_free(&loader->maker);
    cursor_free(loader->cursor);
    shard_store_close(loader->store);
    filter_set_free(loader->filters);
    bad_log_free(loader->bad_log);
    if (loader->locks) {
        pthread_mutex_destroy(&loader->lock);
        pthread_cond_destroy(&loader->settled);
    }
    free(loader->candidates);
    free(loader->rows);
    free(loader->batches);
    free(loader->sources);
    free(loader->shares);
    free(loader->source_stats);
    free(loader->ended);
    free(loader->streams);
    free(loader);
}

/* ---- the caller's side ---- */

Status loader_next_within(Loader *loader, double seconds, const Batch **out)
{
    void *item = queue_try_pop(loader->ready);
    bool came = item != NULL;
    *out = NULL;
    if (!came) {
        double start = clock_seconds();
        came = queue_pop_within(loader->ready, seconds, &item);
        loader->seconds_waited += clock_seconds() - start;
    }
    if (!came) return STATUS_OK;
    if (!item) return loader->failure.status == STATUS_END ? STATUS_END : status_restore(&loader->failure);
    loader->batches_given++;
    *out = &((OwnBatch *)item)->batch;
    return STATUS_OK;
}

Status loader_next(Loader *loader, const Batch **out)
{
    Status status = STATUS_OK;
    do status = loader_next_within(loader, 3600, out);
    while (status == STATUS_OK && !*out);
    return status;
}

void loader_release(Loader *loader, const Batch *batch)
{
    for (int i = 0; i < loader->batch_count; i++)
        if (&loader->batches[i]->batch == batch) (void)queue_push(loader->empty, loader->batches[i]);
}

double loader_seconds_waited(const Loader *loader)
{
    return loader->seconds_waited;
}

void loader_stats(Loader *loader, LoaderStats *out)
{
    pthread_mutex_lock(&loader->lock);
    out->bad = loader->bad;
    out->bytes_read = loader->bytes_read;
    memcpy(out->stage_seconds, loader->stage_seconds, sizeof out->stage_seconds);
    pthread_mutex_unlock(&loader->lock);
    shard_store_access_stats(loader->store, &out->access);
    out->batches = loader->batches_given;
    out->seconds_waited = loader->seconds_waited;
}

void loader_source_stats(Loader *loader, int32_t source, LoaderSourceStats *out)
{
    pthread_mutex_lock(&loader->lock);
    *out = loader->source_stats[source];
    pthread_mutex_unlock(&loader->lock);
}

bool loader_is_finite(const Loader *loader)
{
    for (int32_t s = 0; s < loader->source_count; s++)
        if (loader->shares[s] > 0 && data_config_source(loader->config, (size_t)s)->repeat) return false;
    return true;
}

int64_t loader_source_samples(const Loader *loader, int32_t source)
{
    return loader->sources[source].samples;
}

int loader_vocabulary(const Loader *loader, int which)
{
    const Tokenizer *tokenizer = which == 1 ? loader->maker.tokenizers[0] : loader->maker.tokenizers[1];
    return tokenizer ? tokenizer_vocabulary(tokenizer) : 0;
}
