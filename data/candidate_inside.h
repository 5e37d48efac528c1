/* The parts of candidate_process (data/candidate.c). What returns false has settled the candidate: it is passed over,
 * or the run must stop. */
#ifndef DATA_CANDIDATE_INSIDE_H
#define DATA_CANDIDATE_INSIDE_H

#include "data/candidate.h"

/* Passes the candidate over with the last recorded message as its detail. */
void candidate_reject(Candidate *c, SampleReason reason);
void candidate_reject_with(Candidate *c, SampleReason reason, const char *detail);
void candidate_stop_run(Candidate *c, Status status);

/* The candidate's sample in the window's index. */
static inline const Sample *candidate_sample(const Candidate *c, const ShardWindow *window)
{
    return &window->index->table.samples[c->sample - window->first];
}

/* A member into the scratch buffer, NUL-terminated. */
bool candidate_read_member(const CandidateContext *context, CandidateScratch *scratch, Candidate *c,
                           const ShardWindow *window, const SampleMember *member, int64_t limit);
/* Appends a caption without the blanks around it; an empty one is left out. */
bool candidate_add_caption(Candidate *c, const char *language, size_t language_size, const char *text, size_t size);
/* Collects the captions that the config lets through. */
bool candidate_read_captions(const CandidateContext *context, CandidateScratch *scratch, Candidate *c,
                             const ShardWindow *window, const Sample *sample, const Metadata *meta);
/* Filters by the .json and collects the captions. */
bool candidate_read_texts(const CandidateContext *context, CandidateScratch *scratch, Candidate *c,
                          const ShardWindow *window, const Sample *sample, int64_t min_side);
/* NULL: it has none. */
const SampleMember *candidate_picture_member(const SampleTable *table, const Sample *sample);
/* Why a picture that begins with these bytes cannot be decoded. */
SampleReason candidate_broken_picture(const uint8_t *data, size_t size);
/* Decodes, crops and resizes the picture. */
void candidate_read_picture(const CandidateContext *context, CandidateScratch *scratch, Candidate *c,
                            const ShardWindow *window, const Sample *sample, int64_t min_side);
/* Samples whose latents, text or both are in precomputed files; what is not comes from the shard. */
void candidate_process_precomputed(const CandidateContext *context, CandidateScratch *scratch, Candidate *c,
                                   const ShardWindow *window, int64_t min_side);

#endif
