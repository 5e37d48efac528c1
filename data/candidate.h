/* One sample on its way from a shard to a batch: read, filtered, decoded, cropped and resized by a decode thread.
 * Nothing here depends on the global index that the sample will get; what does is drawn when the batch is filled. */
#ifndef DATA_CANDIDATE_H
#define DATA_CANDIDATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"
#include "data/bad_samples.h"
#include "data/cursor.h"
#include "data/data_config.h"
#include "data/filter_set.h"
#include "data/picture.h"
#include "data/resize.h"
#include "data/shard_store.h"

typedef struct Caption {
    uint32_t language, text, text_size; /* offsets into Candidate.text; both NUL-terminated */
} Caption;

typedef enum CandidateStage { STAGE_READ, STAGE_TEXT, STAGE_DECODE, STAGE_RESIZE, CANDIDATE_STAGES } CandidateStage;

/* What a decode thread is given; the first member of every kind of work. */
typedef enum WorkKind { WORK_SAMPLE, WORK_ROW } WorkKind;

typedef struct Candidate {
    WorkKind kind; /* WORK_SAMPLE */
    /* the order: set when it is issued */
    int32_t source, shard;
    int64_t first, count; /* the window it belongs to: samples of the shard */
    int64_t sample;       /* in the shard */
    LanePosition after;   /* of its stream */
    int64_t visit_epoch;
    uint64_t visit_key; /* of (source, shard, sample, epoch): what is drawn for this visit is keyed by it */
    int32_t stream;
    struct Candidate *next; /* in its stream, or in the free list */
    bool in_use, replaced;  /* the walker's own */
    bool done;              /* guarded by the loader's lock */
    /* the result */
    SampleReason reason;
    bool nameless; /* its part of the shard could not be read; the key is "?" */
    Status fatal;  /* neither accepted nor passed over: the run must stop */
    char detail[512];
    const char *shard_path;
    StrBuf key, text;
    Caption *captions;
    size_t caption_count, caption_capacity;
    int64_t first_caption; /* in the file of precomputed text */
    uint8_t *pixels;       /* (R, R, 3); NULL when pictures are only looked at */
    int64_t bytes_read;
    double seconds[CANDIDATE_STAGES]; /* that it took */
} Candidate;

/* A decode thread's buffers. Zero-initialise. */
typedef struct CandidateScratch {
    uint8_t *buffer; /* a member's tar header and bytes */
    uint8_t *member; /* the bytes, in it */
    size_t buffer_capacity;
    Picture picture;
    Resizer resizer;
    PrecomputedScratch precomputed;
} CandidateScratch;

/* Told of a sample's fields before it is filtered, by the thread that reads it; and again when it is read again. */
typedef void (*CandidateLook)(void *looker, const Candidate *candidate, const SampleTable *table, const Sample *sample,
                              const Metadata *meta, int64_t min_side);

typedef struct CandidateContext {
    const DataConfig *config;
    const FilterSet *filters; /* of that config */
    ShardStore *store;
    int resolution;
    uint64_t seed;         /* of what is drawn for a visit */
    bool without_pictures; /* filters and captions only: pictures are not even read */
    CandidateLook look;    /* NULL: nobody looks */
    void *looker;
} CandidateContext;

void candidate_process(const CandidateContext *context, CandidateScratch *scratch, Candidate *candidate);
void candidate_free(Candidate *candidate); /* its buffers, not itself */
void candidate_scratch_free(CandidateScratch *scratch);

#endif
