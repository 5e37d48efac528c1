#include "data/loader.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/queue.h"
#include "data/batch.h"
#include "data/candidate.h"
#include "data/order.h"

#define MOST_WINDOWS 16384
#define DRY_SAMPLES 100 /* an epoch of a lane without an accepted sample is an error from this many on */

/* One (source, lane): its order, and its samples under way in that order. */
typedef struct Stream {
    OrderStream order;
    Candidate *head, *tail;
    int64_t epoch;       /* of the last sample taken */
    int64_t passed_over; /* in a row */
    bool fresh, kept;    /* that epoch was seen from its first sample on; something of it was accepted */
    bool once;           /* the source does not repeat: there is no second epoch */
} Stream;

struct Loader {
    const DataConfig *config;
    LoaderOptions options;
    ShardStore *store;
    BadLog *bad_log; /* NULL: none */
    OrderSource *sources;
    double *shares; /* (source_count) of the mixture, 1 in all */
    bool *ended;    /* (own_lanes, source_count): a source that does not repeat has nothing left for the lane */
    int32_t source_count, lanes, own_lanes;
    Stream *streams; /* (source_count, own_lanes): lane = rank + world * own lane */
    BatchMaker maker;
    FilterSet *filters;
    CandidateContext context;
    Cursor *cursor; /* as of the last sample taken */

    /* the walker's */
    Candidate *candidates;
    BatchRow *rows; /* (maker.count) of the batch that is filled; NULL where nothing is precomputed */
    int candidate_count, lookahead, under_way;
    Candidate *free_list;
    int64_t take_index, issue_index, step;

    /* threads */
    pthread_t walker, workers[LOADER_MAX_THREADS];
    int thread_count, started;
    bool walking, locks;
    pthread_mutex_t lock;
    pthread_cond_t settled; /* a candidate is done, or the loader stops */
    atomic_bool stop;
    Queue *jobs, *ready, *empty;
    OwnBatch **batches;
    int batch_count;
    StatusRecord failure; /* written before `ready` is closed */

    /* guarded by lock */
    int32_t rows_under_way;
    BadSamples bad;
    int64_t bytes_read;
    double stage_seconds[CANDIDATE_STAGES];
    LoaderSourceStats *source_stats; /* (source_count) */
    /* the caller's */
    int64_t batches_given;
    double seconds_waited;
};

/* ---- decode threads ---- */

static void *work_thread(void *argument)
{
    Loader *loader = argument;
    CandidateScratch scratch = {0};
    WorkKind *work;
    while ((work = queue_pop(loader->jobs)) != NULL) {
        bool stop = atomic_load(&loader->stop);
        if (*work == WORK_ROW) {
            if (!stop) batch_read_row(loader->store, &scratch.precomputed, (BatchRow *)(void *)work);
        } else if (!stop) {
            candidate_process(&loader->context, &scratch, (Candidate *)(void *)work);
        }
        pthread_mutex_lock(&loader->lock);
        if (*work == WORK_ROW)
            loader->rows_under_way--;
        else
            ((Candidate *)(void *)work)->done = true;
        pthread_cond_broadcast(&loader->settled);
        pthread_mutex_unlock(&loader->lock);
    }
    candidate_scratch_free(&scratch);
    return NULL;
}

/* ---- the walker: issues samples in order, takes the accepted ones in order, fills batches ---- */

/* The stream that sample i is taken from; NULL: its lane has nothing left. */
static Stream *stream_of(Loader *loader, int64_t i)
{
    const size_t own_lane = (size_t)(i % loader->lanes) / (size_t)loader->options.world;
    const bool *ended = loader->ended + own_lane * (size_t)loader->source_count;
    int32_t source = order_pick_source(loader->options.seed, i, loader->shares, ended, loader->source_count);
    return source < 0 ? NULL : &loader->streams[(size_t)source * (size_t)loader->own_lanes + own_lane];
}

/* All samples of the stream were issued: of a source that does not repeat. */
static bool is_exhausted(const Stream *stream)
{
    return stream->once && stream->order.epoch > 0;
}

static void mark_ended(Loader *loader, const Stream *stream)
{
    const size_t at = (size_t)(stream - loader->streams), lanes = (size_t)loader->own_lanes;
    loader->ended[at % lanes * (size_t)loader->source_count + at / lanes] = true;
}

/* The stream's next sample, if it has one, to the decode threads. There is a free candidate. */
static void issue(Loader *loader, Stream *stream)
{
    Candidate *c = loader->free_list;
    OrderVisit visit;
    if (is_exhausted(stream)) return;
    loader->free_list = c->next;
    order_stream_next(&stream->order, &visit);
    c->source = (int32_t)((stream - loader->streams) / loader->own_lanes);
    c->stream = (int32_t)(stream - loader->streams);
    c->shard = visit.block.shard;
    c->first = visit.block.first;
    c->count = visit.block.size;
    c->sample = visit.sample;
    c->visit_key = order_visit_key(stream->order.source, &visit);
    c->after = (LanePosition){.epoch = visit.epoch, .position = visit.position};
    c->visit_epoch = visit.visit_epoch;
    c->next = NULL;
    c->in_use = true;
    c->replaced = c->done = false;
    if (stream->tail)
        stream->tail->next = c;
    else
        stream->head = c;
    stream->tail = c;
    (void)queue_push(loader->jobs, c); /* never full; when closed, the loader stops anyway */
}

/* Samples that are known to be passed over get a successor before their turn comes, so that strict filters do not make
 * the pool idle. The order stays: a stream's samples are issued and taken in one order whatever the timing. Called with
 * the lock held. */
static void replace_rejected(Loader *loader)
{
    for (int i = 0; i < loader->candidate_count && loader->free_list; i++) {
        Candidate *c = &loader->candidates[i];
        if (!c->in_use || !c->done || c->replaced || c->reason == SAMPLE_ACCEPTED || c->fatal != STATUS_OK) continue;
        c->replaced = true;
        issue(loader, &loader->streams[c->stream]);
    }
}

static void give_back(Loader *loader, Candidate *c)
{
    c->in_use = false;
    c->next = loader->free_list;
    loader->free_list = c;
}

static Status dry_error(Loader *loader, const Stream *stream)
{
    StrBuf text = {0};
    pthread_mutex_lock(&loader->lock);
    (void)bad_samples_format(&loader->bad, &text);
    pthread_mutex_unlock(&loader->lock);
    Status status =
        status_fail(ERR_FORMAT, __FILE__, __LINE__,
                    "source %s: a whole epoch of lane %d without one sample to train on (%" PRId64
                    " passed over in a row; so far: %s); loosen data.filter, or repair or replace the shards",
                    stream->order.source->name, stream->order.lane, stream->passed_over, text.data ? text.data : "");
    strbuf_free(&text);
    return status;
}

/* Of a part of a shard that could not be read, which the store has listed as a whole. */
static bool is_nameless(const Candidate *c)
{
    return c->key.size == 1 && c->key.data[0] == '?';
}

/* Counts a sample whose turn has come and moves the cursor past it. */
static Status account(Loader *loader, Stream *stream, const Candidate *c)
{
    Status status = STATUS_OK;
    pthread_mutex_lock(&loader->lock);
    bad_samples_add(&loader->bad, c->reason, c->shard_path, c->key.data ? c->key.data : "", c->detail);
    loader->bytes_read += c->bytes_read;
    for (int stage = 0; stage < CANDIDATE_STAGES; stage++) loader->stage_seconds[stage] += c->seconds[stage];
    LoaderSourceStats *of_source = &loader->source_stats[c->source];
    of_source->bytes_read += c->bytes_read;
    if (c->reason == SAMPLE_ACCEPTED)
        of_source->accepted++;
    else
        of_source->passed_over++;
    if (c->reason != SAMPLE_ACCEPTED) status = bad_samples_check(&loader->bad, loader->config->max_bad_share);
    pthread_mutex_unlock(&loader->lock);
    if (status != STATUS_OK) return status_trace(status, __FILE__, __LINE__);
    if (sample_reason_is_broken(c->reason) && !is_nameless(c))
        bad_log_sample(loader->bad_log, stream->order.source->name, c->shard_path, c->key.data, c->reason, c->detail);

    size_t at = (size_t)c->source * (size_t)loader->lanes + (size_t)stream->order.lane;
    loader->cursor->positions[at] = c->after;
    if (c->visit_epoch != stream->epoch) {
        if (stream->fresh && !stream->kept && stream->passed_over >= DRY_SAMPLES) return dry_error(loader, stream);
        stream->epoch = c->visit_epoch;
        stream->fresh = true;
        stream->kept = false;
    }
    if (c->reason == SAMPLE_ACCEPTED) {
        stream->kept = true;
        stream->passed_over = 0;
    } else {
        stream->passed_over++;
    }
    return STATUS_OK;
}

/* The next accepted sample of a stream, in *out; the caller gives it back. STATUS_END when it has none left. */
static Status take(Loader *loader, Stream *stream, Candidate **out)
{
    Status status = STATUS_OK;
    *out = NULL;
    for (;;) {
        if (!stream->head) issue(loader, stream); /* none was issued when another source was expected to serve */
        Candidate *c = stream->head;
        if (!c) return STATUS_END;
        pthread_mutex_lock(&loader->lock);
        while (!c->done && !atomic_load(&loader->stop)) {
            replace_rejected(loader);
            pthread_cond_wait(&loader->settled, &loader->lock);
        }
        pthread_mutex_unlock(&loader->lock);
        if (atomic_load(&loader->stop)) FAIL(ERR_INTERRUPTED, "the loader was closed");
        stream->head = c->next;
        if (!stream->head) stream->tail = NULL;
        if (c->fatal != STATUS_OK) FAIL(c->fatal, "%s", c->detail);
        TRY(account(loader, stream, c));
        if (c->reason == SAMPLE_ACCEPTED) {
            *out = c;
            return STATUS_OK;
        }
        bool replaced = c->replaced;
        give_back(loader, c);
        if (!replaced) issue(loader, stream);
    }
fail:
    return status;
}

/* Hands the batch's row k to the decode threads, which read its precomputed arrays. */
static void issue_row(Loader *loader, int32_t k)
{
    pthread_mutex_lock(&loader->lock);
    loader->rows_under_way++;
    pthread_mutex_unlock(&loader->lock);
    (void)queue_push(loader->jobs, &loader->rows[k].kind);
}

/* Waits until all rows of the batch are read. */
static Status wait_for_rows(Loader *loader)
{
    Status status = STATUS_OK;
    pthread_mutex_lock(&loader->lock);
    while (loader->rows_under_way > 0 && !atomic_load(&loader->stop))
        pthread_cond_wait(&loader->settled, &loader->lock);
    pthread_mutex_unlock(&loader->lock);
    if (atomic_load(&loader->stop)) FAIL(ERR_INTERRUPTED, "the loader was closed");
    for (int32_t k = 0; k < loader->maker.count; k++)
        if (loader->rows[k].failed != STATUS_OK) FAIL(loader->rows[k].failed, "%s", loader->rows[k].detail);
fail:
    return status;
}

/* The next accepted sample of the run, of the sources that have not ended. */
static Status take_next(Loader *loader, Candidate **out)
{
    Status status = STATUS_OK;
    Stream *stream;
    *out = NULL;
    while ((stream = stream_of(loader, loader->take_index)) != NULL) {
        status = take(loader, stream, out);
        if (status != STATUS_END) return status;
        mark_ended(loader, stream);
    }
    return STATUS_END;
}

static Status fill(Loader *loader, OwnBatch *own)
{
    Status status = STATUS_OK;
    const LoaderOptions *options = &loader->options;
    batch_begin(own, loader->step++);
    for (int32_t k = 0; k < loader->maker.count; k++) {
        Candidate *c;
        while (loader->under_way < loader->lookahead) {
            Stream *stream = stream_of(loader, loader->issue_index);
            if (stream) issue(loader, stream);
            loader->issue_index += options->world;
            loader->under_way++;
        }
        status = take_next(loader, &c);
        if (status == STATUS_END) return status;
        TRY(status);
        loader->under_way--;
        status = batch_put(&loader->maker, own, k, loader->take_index, c, loader->rows ? &loader->rows[k] : NULL);
        if (status != STATUS_OK) status_prefix("%s in %s: ", c->key.data, c->shard_path);
        give_back(loader, c);
        TRY(status);
        if (loader->rows) issue_row(loader, k);
        loader->take_index += options->world;
    }
    if (loader->rows) TRY(wait_for_rows(loader));
    loader->cursor->next_index += options->global_batch;
    batch_end(own, loader->cursor);
fail:
    return status;
}

static void *walk(void *argument)
{
    Loader *loader = argument;
    OwnBatch *own;
    while ((own = queue_pop(loader->empty)) != NULL) {
        Status status = fill(loader, own);
        if (status != STATUS_OK) {
            status_save(status, &loader->failure);
            break;
        }
        if (!queue_push(loader->ready, own)) break;
    }
    queue_close(loader->ready);
    return NULL;
}

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
                 "source %s had blocks of %" PRId64 " samples in the checkpoint, %d mixed, now %" PRId64
                 " and %d; resume with the same data.shuffle_block and data.shuffle_mix",
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

static Status open_order(Loader *loader, const Cursor *start)
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
            stream->fresh = stream->order.group == 0 && stream->order.in_group == 0;
        }
    /* The first index of this rank: the least one not below next_index with i mod W = rank. */
    int64_t next = loader->cursor->next_index;
    loader->take_index = next + ((o->rank - next % o->world) + o->world) % o->world;
    loader->issue_index = loader->take_index;
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
        if (pthread_create(&loader->workers[loader->started], NULL, work_thread, loader) != 0)
            FAIL(ERR_MEMORY, "cannot start decode thread %d; lower data.decode_threads", loader->started);
    if (pthread_create(&loader->walker, NULL, walk, loader) != 0) FAIL(ERR_MEMORY, "cannot start the loader's thread");
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
    TRY(open_order(loader, options->start));
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

Status loader_next(Loader *loader, const Batch **out)
{
    OwnBatch *own = queue_try_pop(loader->ready);
    *out = NULL;
    if (!own) {
        double start = clock_seconds();
        own = queue_pop(loader->ready);
        loader->seconds_waited += clock_seconds() - start;
    }
    if (!own) return loader->failure.status == STATUS_END ? STATUS_END : status_restore(&loader->failure);
    loader->batches_given++;
    *out = &own->batch;
    return STATUS_OK;
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
