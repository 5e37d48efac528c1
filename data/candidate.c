#include "data/candidate_inside.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

#define KEEP_BYTES ((size_t)32 << 20)
#define KEEP_TEXT ((size_t)64 << 10)

void candidate_reject(Candidate *c, SampleReason reason)
{
    c->reason = reason;
    snprintf(c->detail, sizeof c->detail, "%s", status_message());
}

void candidate_reject_with(Candidate *c, SampleReason reason, const char *detail)
{
    c->reason = reason;
    if (detail != c->detail) snprintf(c->detail, sizeof c->detail, "%s", detail);
}

void candidate_stop_run(Candidate *c, Status status)
{
    c->fatal = status;
    snprintf(c->detail, sizeof c->detail, "%s", status_message());
}

bool candidate_read_member(const CandidateContext *context, CandidateScratch *scratch, Candidate *c,
                           const ShardWindow *window, const SampleMember *member, int64_t limit)
{
    if (member->size > limit) {
        c->reason = SAMPLE_TOO_LARGE;
        snprintf(c->detail, sizeof c->detail, "its .%s has %" PRId64 " bytes, the limit is %" PRId64,
                 sample_suffix(&window->index->table, member), member->size, limit);
        return false;
    }
    size_t size = SHARD_HEADER + (size_t)member->size + 1;
    Status status = mem_grow(&scratch->buffer, &scratch->buffer_capacity, size, 1);
    if (status != STATUS_OK) {
        candidate_stop_run(c, status);
        return false;
    }
    double start = clock_seconds();
    status = shard_window_read(context->store, window, member, scratch->buffer);
    c->seconds[STAGE_READ] += clock_seconds() - start;
    if (status != STATUS_OK) {
        candidate_reject(c, SAMPLE_READ_ERROR);
        return false;
    }
    scratch->member = scratch->buffer + SHARD_HEADER;
    scratch->member[member->size] = 0;
    c->bytes_read += member->size;
    return true;
}

/* The sample has no key yet, and will not get one. */
static void reject_nameless(Candidate *c)
{
    c->nameless = true;
    if (strbuf_append(&c->key, "?", 1) != STATUS_OK) candidate_stop_run(c, ERR_MEMORY);
}

/* Reads, filters and decodes a sample of an open window. */
static void process_sample(const CandidateContext *context, CandidateScratch *scratch, Candidate *c,
                           const ShardWindow *window, const Sample *sample, int64_t min_side)
{
    const char *key = sample_key(&window->index->table, sample);
    c->key.size = c->text.size = c->caption_count = 0;
    c->reason = SAMPLE_ACCEPTED;
    if (strbuf_append(&c->key, key, strlen(key)) != STATUS_OK) {
        candidate_stop_run(c, ERR_MEMORY);
        return;
    }
    if (sample->duplicate) {
        candidate_reject_with(c, SAMPLE_DUPLICATE_MEMBER, "two of its members have the same suffix");
        return;
    }
    double start = clock_seconds(), read = c->seconds[STAGE_READ];
    bool going = candidate_read_texts(context, scratch, c, window, sample, min_side);
    c->seconds[STAGE_TEXT] += clock_seconds() - start - (c->seconds[STAGE_READ] - read);
    if (going && !context->without_pictures) candidate_read_picture(context, scratch, c, window, sample, min_side);
}

static void process_window(const CandidateContext *context, CandidateScratch *scratch, Candidate *c,
                           const ShardWindow *window, int64_t min_side)
{
    if (!window->file) { /* nothing is read from the shard itself */
        candidate_process_precomputed(context, scratch, c, window, min_side);
        return;
    }
    if (c->sample - window->first >= (int64_t)window->index->table.sample_count) {
        candidate_reject_with(c, SAMPLE_READ_ERROR, "the shard has fewer samples than its list or index says");
        reject_nameless(c);
        return;
    }
    if (window->precomputed[PRECOMPUTED_LATENTS] || window->precomputed[PRECOMPUTED_TEXT]) {
        candidate_process_precomputed(context, scratch, c, window, min_side);
        return;
    }
    const Sample *sample = candidate_sample(c, window);
    do /* bytes that came over a network and make no sense are fetched again */
        process_sample(context, scratch, c, window, sample, min_side);
    while (c->fatal == STATUS_OK && c->reason != SAMPLE_DUPLICATE_MEMBER && sample_reason_is_broken(c->reason) &&
           shard_window_doubt(window, sample));
}

void candidate_process(const CandidateContext *context, CandidateScratch *scratch, Candidate *c)
{
    const ShardWindow *window = NULL;
    const FilterConfig *filter = &context->config->filter;
    int64_t min_side = filter->min_side < 0 ? context->resolution : filter->min_side;
    c->reason = SAMPLE_ACCEPTED;
    c->fatal = STATUS_OK;
    c->nameless = false;
    c->detail[0] = 0;
    c->key.size = c->text.size = c->caption_count = 0;
    c->bytes_read = 0;
    memset(c->seconds, 0, sizeof c->seconds);
    c->shard_path = shard_store_path(context->store, c->source, c->shard);

    double start = clock_seconds();
    Status status = shard_store_acquire(context->store, c->source, c->shard, c->first, c->count, &window);
    c->seconds[STAGE_READ] += clock_seconds() - start;
    if (status == ERR_MEMORY || status == ERR_INTERRUPTED || status == ERR_SPACE) {
        candidate_stop_run(c, status);
        reject_nameless(c);
        return;
    }
    if (status != STATUS_OK) {
        candidate_reject(c, SAMPLE_READ_ERROR);
        reject_nameless(c);
        return;
    }
    process_window(context, scratch, c, window, min_side);
    shard_store_release(context->store, window);
    picture_trim(&scratch->picture);
    if (scratch->buffer_capacity > KEEP_BYTES) {
        free(scratch->buffer);
        scratch->buffer = scratch->member = NULL;
        scratch->buffer_capacity = 0;
    }
    if (c->reason != SAMPLE_ACCEPTED && c->text.capacity > KEEP_TEXT) strbuf_free(&c->text);
}

void candidate_free(Candidate *c)
{
    strbuf_free(&c->key);
    strbuf_free(&c->text);
    free(c->captions);
    free(c->pixels);
}

void candidate_scratch_free(CandidateScratch *scratch)
{
    free(scratch->buffer);
    picture_free(&scratch->picture);
    resizer_free(&scratch->resizer);
    precomputed_scratch_free(&scratch->precomputed);
}
