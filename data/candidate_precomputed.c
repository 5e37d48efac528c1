/* Samples of which something was precomputed. */
#include "data/candidate_inside.h"

static Status take_caption(void *context, const char *language, size_t language_size, const char *text, size_t size)
{
    Candidate *c = context;
    size_t before = c->caption_count;
    if (!candidate_add_caption(c, language, language_size, text, size) || c->caption_count != before + 1)
        return status_fail(ERR_FORMAT, __FILE__, __LINE__, "its precomputed captions are damaged");
    return STATUS_OK;
}

/* The key, and whether the sample was accepted, as the precomputed files say. Where there are two, they agree unless
 * reading failed in one of the runs that made them. False: the candidate is settled. */
static bool read_verdict(Candidate *c, const ShardWindow *window)
{
    SampleReason reason;
    bool first = true;
    for (int kind = 0; kind < PRECOMPUTED_KINDS; kind++) {
        if (!window->precomputed[kind]) continue;
        c->key.size = 0;
        Status status = precomputed_read_sample(window->precomputed[kind], c->sample, &reason, &c->key);
        if (status != STATUS_OK) {
            candidate_stop_run(c, status);
            return false;
        }
        if (first || reason != SAMPLE_ACCEPTED) c->reason = reason;
        first = false;
    }
    if (c->reason != SAMPLE_ACCEPTED) candidate_reject_with(c, c->reason, "as `vasily precompute` found");
    return c->reason == SAMPLE_ACCEPTED;
}

static bool read_captions(CandidateScratch *scratch, Candidate *c, const ShardWindow *window)
{
    PrecomputedFile *file = window->precomputed[PRECOMPUTED_TEXT];
    Status status =
        precomputed_read_captions(file, &scratch->precomputed, c->sample, take_caption, c, &c->first_caption);
    if (status == STATUS_OK && c->caption_count == 0)
        status = status_fail(ERR_FORMAT, __FILE__, __LINE__, "%s: an accepted sample without a caption",
                             precomputed_file_path(file));
    if (status != STATUS_OK) candidate_stop_run(c, status);
    return status == STATUS_OK;
}

void candidate_process_precomputed(const CandidateContext *context, CandidateScratch *scratch, Candidate *c,
                                   const ShardWindow *window, int64_t min_side)
{
    const Sample *sample = candidate_sample(c, window);
    if (!read_verdict(c, window)) return;
    if (window->precomputed[PRECOMPUTED_TEXT]) {
        if (!read_captions(scratch, c, window)) return;
    } else if (!candidate_read_texts(context, scratch, c, window, sample, min_side)) {
        return;
    }
    if (!window->precomputed[PRECOMPUTED_LATENTS])
        candidate_read_picture(context, scratch, c, window, sample, min_side);
}
