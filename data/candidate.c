#include "data/candidate_inside.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

bool candidate_read_member(const CandidateContext *context, CandidateScratch *scratch, Candidate *c, const ShardWindow *window, const SampleMember *member,
                        int64_t limit)
{
    if (member->size > limit) {
        c->reason = SAMPLE_TOO_LARGE;
        snprintf(c->detail, sizeof c->detail, "its .%s has %" PRId64 " bytes, the limit is %" PRId64,
                 sample_suffix(&window->index->table, member), member->size, limit);
        return false;
    }
    Status status = mem_grow(&scratch->member, &scratch->member_capacity, (size_t)member->size + 1, 1);
    if (status != STATUS_OK) {
        candidate_stop_run(c, status);
        return false;
    }
    status = shard_window_read(context->store, window, member, scratch->member);
    if (status != STATUS_OK) {
        candidate_reject(c, SAMPLE_READ_ERROR);
        return false;
    }
    scratch->member[member->size] = 0;
    c->bytes_read += member->size;
    return true;
}

void candidate_process(const CandidateContext *context, CandidateScratch *scratch, Candidate *c)
{
    const ShardWindow *window = NULL;
    const FilterConfig *filter = &context->config->filter;
    int64_t min_side = filter->min_side < 0 ? context->resolution : filter->min_side;
    c->reason = SAMPLE_ACCEPTED;
    c->fatal = STATUS_OK;
    c->detail[0] = 0;
    c->shard_path = "";
    c->key.size = c->text.size = c->caption_count = 0;
    c->bytes_read = 0;

    if (shard_store_acquire(context->store, c->source, c->shard, &shard) != STATUS_OK) {
        candidate_reject(c, SAMPLE_READ_ERROR);
        if (strbuf_append(&c->key, "?", 1) != STATUS_OK) candidate_stop_run(c, ERR_MEMORY);
        return;
    }
    const SampleTable *table = &window->index->table;
    c->shard_path = window->path;
    if (window->fd < 0) { /* nothing is read from the shard itself */
        candidate_process_precomputed(context, scratch, c, window, min_side);
        goto done;
    }
    if (c->sample >= (int64_t)table->sample_count) {
        candidate_reject_with(c, SAMPLE_READ_ERROR, "the shard has fewer samples now than when it was indexed");
        if (strbuf_append(&c->key, "?", 1) != STATUS_OK) candidate_stop_run(c, ERR_MEMORY);
        goto done;
    }
    if (window->precomputed[PRECOMPUTED_LATENTS] || window->precomputed[PRECOMPUTED_TEXT]) {
        candidate_process_precomputed(context, scratch, c, window, min_side);
        goto done;
    }
    const Sample *sample = &table->samples[c->sample];
    const char *key = sample_key(table, sample);
    if (strbuf_append(&c->key, key, strlen(key)) != STATUS_OK) {
        candidate_stop_run(c, ERR_MEMORY);
        goto done;
    }
    if (sample->duplicate) {
        candidate_reject_with(c, SAMPLE_DUPLICATE_MEMBER, "two of its members have the same suffix");
        goto done;
    }
    if (candidate_read_texts(context, scratch, c, window, sample, min_side))
        candidate_read_picture(context, scratch, c, window, sample, min_side);
done:
    shard_store_release(context->store, shard);
    picture_trim(&scratch->picture);
    if (scratch->member_capacity > KEEP_BYTES) {
        free(scratch->member);
        scratch->member = NULL;
        scratch->member_capacity = 0;
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
    free(scratch->member);
    picture_free(&scratch->picture);
    resizer_free(&scratch->resizer);
    precomputed_scratch_free(&scratch->precomputed);
}
