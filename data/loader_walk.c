/* What the loader's threads do. */
#include <inttypes.h>

#include "data/loader_inside.h"

#define DRY_SAMPLES 100 /* an epoch of a lane without an accepted sample is an error from this many on */

/* Notes that a piece of work is done. The walker is woken only when that is of use to it: it takes samples in order,
 * and may issue others in place of those passed over. */
static void settle(Loader *loader, WorkKind *work)
{
    bool wake;
    pthread_mutex_lock(&loader->lock);
    if (*work == WORK_ROW) {
        wake = --loader->rows_under_way == 0;
    } else {
        Candidate *c = (Candidate *)(void *)work;
        c->done = true;
        wake = loader->awaited && (c == loader->awaited || c->reason != SAMPLE_ACCEPTED);
    }
    if (wake) pthread_cond_signal(&loader->settled);
    pthread_mutex_unlock(&loader->lock);
}

void *loader_decode(void *argument)
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
        settle(loader, work);
    }
    candidate_scratch_free(&scratch);
    return NULL;
}

/* ---- the walker ---- */

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
 * the pool idle. The order stays: a stream's samples are issued and taken in one order whatever the timing. At
 * most `lookahead` of them at a time, so that a candidate is left for each row. Called with the lock held. */
static void replace_rejected(Loader *loader)
{
    for (int i = 0; i < loader->candidate_count && loader->replaced < loader->lookahead; i++) {
        Candidate *c = &loader->candidates[i];
        if (!c->in_use || !c->done || c->replaced || c->reason == SAMPLE_ACCEPTED || c->fatal != STATUS_OK) continue;
        c->replaced = true;
        loader->replaced++;
        issue(loader, &loader->streams[c->stream]);
    }
}

static void give_back(Loader *loader, Candidate *c)
{
    if (c->replaced) loader->replaced--;
    c->in_use = false;
    c->next = loader->free_list;
    loader->free_list = c;
}

/* What helps against the commonest of the reasons. */
static const char *dry_remedy(const BadSamples *bad)
{
    SampleReason most = SAMPLE_READ_ERROR;
    for (int r = SAMPLE_READ_ERROR; r < SHARD_EMPTY; r++)
        if (bad->counts[r] > bad->counts[most]) most = (SampleReason)r;
    switch (most) {
    case SAMPLE_LANGUAGE:
        return "ask for other languages in data.caption_language or data.sources[].language";
    case SAMPLE_WHERE:
        return "loosen data.filter.where or data.sources[].where";
    case SAMPLE_MISSING_FIELD:
        return "ask for fields that the samples have, or set data.filter.missing: pass";
    case SAMPLE_SMALL:
        return "lower data.filter.min_side";
    case SAMPLE_WATERMARK:
        return "raise data.filter.watermark_max";
    case SAMPLE_UNSAFE:
        return "raise data.filter.unsafe_max";
    case SAMPLE_SIMILARITY:
        return "lower data.filter.similarity_min";
    case SAMPLE_AESTHETIC:
        return "lower data.filter.aesthetic_min";
    case SAMPLE_NO_CAPTION:
        return "look where captions are: data.sources[].caption";
    case SAMPLE_TOO_LARGE:
        return "raise data.limits";
    default:
        return "repair or replace the shards";
    }
}

static Status dry_error(Loader *loader, const Stream *stream)
{
    StrBuf text = {0};
    pthread_mutex_lock(&loader->lock);
    (void)bad_samples_format(&loader->bad, &text);
    const char *remedy = dry_remedy(&loader->bad);
    pthread_mutex_unlock(&loader->lock);
    Status status = status_fail(ERR_FORMAT, __FILE__, __LINE__,
                                "source %s: a whole epoch of lane %d without one sample to train on (%" PRId64
                                " passed over in a row; so far: %s); %s. `vasily data stats` shows what is left out",
                                stream->order.source->name, stream->order.lane, stream->passed_over,
                                text.data ? text.data : "", remedy);
    strbuf_free(&text);
    return status;
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
    if (sample_reason_is_broken(c->reason) && !c->nameless) /* such parts are listed by the store */
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
            loader->awaited = c;
            pthread_cond_wait(&loader->settled, &loader->lock);
        }
        loader->awaited = NULL;
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
        if (status != STATUS_OK) {
            char shown[SHARD_NAME_MAX];
            shard_show(c->shard_path, shown, sizeof shown);
            status_prefix("%s in %s: ", c->key.data, shown);
        }
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

void *loader_walk(void *argument)
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
