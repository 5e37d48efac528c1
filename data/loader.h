/* The loader: tar shards to host batches, in an order that is a function of the seed alone (data/order.h).
 *
 * Threads of one loader: decode threads, each of which reads one sample, filters it, decodes, crops and resizes its
 * picture; and one that walks the order, takes the accepted samples in order, draws and tokenizes captions and fills
 * batches of a bounded ring. The result does not depend on the number of threads.
 *
 * After the first batches no buffer grows unless a larger sample than ever before comes; libpng, libjpeg, libwebp,
 * json-c and SentencePiece allocate inside for every sample. */
#ifndef DATA_LOADER_H
#define DATA_LOADER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"
#include "data/bad_samples.h"
#include "data/candidate.h"
#include "data/cursor.h"
#include "data/data_config.h"
#include "data/precomputed.h"

typedef struct Loader Loader;

typedef struct LoaderOptions {
    uint64_t seed;
    int resolution;       /* R: pictures are cropped to the middle square and resized to R x R */
    int64_t global_batch; /* samples of one step on all ranks; `world` divides it */
    int rank, world;      /* world divides data.lanes */
    int64_t first_step;   /* the number of the first batch */
    const Cursor *start;  /* NULL: from the beginning, index first_step * global_batch; only read during the call */
    const PrecomputedSpec *precomputed; /* NULL: all comes from the shards; must outlive the loader */
    const char *bad_log; /* path of bad-shards.jsonl (data/bad_log.h); NULL: none. Only read during the call */
    bool keys_only;      /* pictures are decoded (acceptance needs that) but not resized; no pixels, no tokens */
} LoaderOptions;

/* The rows of this rank for one step, in ascending global index: index[k] = next_index + k * world + (rank's offset).
 * Owned by the loader, valid until loader_release. */
typedef struct Batch {
    int64_t step;
    int32_t count;                    /* global_batch / world */
    int32_t resolution;               /* R */
    int32_t tokens1_max, tokens2_max; /* T1, T2 */
    int64_t *index;                   /* (count) global sample index: the key of all random numbers of the sample */
    uint8_t *
        *pixels; /* (count) of (R, R, 3) RGB; pixels_to_floats makes the network's input of it. NULL with keys_only */
    float *moments; /* (count, side, side, M) in place of pixels where latents are precomputed */
    float *states1, *pooled1,
        *states2; /* (count, T1, D1), (count, P), (count, T2, D2) where text is precomputed, too */
    int64_t moment_values, width1, pooled, width2; /* side x side x M, D1, P, D2; 0 where not precomputed */
    int32_t *tokens1;                              /* (count, T1); NULL without data.tokenizer1 */
    int32_t *mask1;                                /* (count, T1), 1 on tokens */
    int32_t *tokens2;                              /* (count, T2) */
    int32_t *mask2;
    const char **keys;      /* (count) */
    const char **captions;  /* (count) the caption drawn, also where it is dropped */
    const char **languages; /* (count) its language code, "" where unknown */
    bool *dropped;          /* (count) tokens are those of the empty caption, for both encoders */
    int32_t *sources;       /* (count) index into data.sources */
    const Cursor *cursor;   /* after this batch: own lanes advanced; cursor_merge joins those of all ranks */
} Batch;

typedef struct LoaderStats {
    BadSamples bad; /* by reason; bad.counts[SAMPLE_ACCEPTED] are the samples served or waiting in the ring */
    int64_t bytes_read;
    int64_t batches;                        /* handed out */
    double seconds_waited;                  /* that loader_next slept, all in all */
    double stage_seconds[CANDIDATE_STAGES]; /* of all decode threads together */
    ShardAccessStats access;
} LoaderStats;

typedef struct LoaderSourceStats {
    int64_t accepted, passed_over, bytes_read;
} LoaderSourceStats;

/* Expands the shard lists, indexes the shards, starts the threads. A shard that cannot be opened is an error that
 * names source and path. With `start`: its seed, lanes and every source of the same name must agree with now (else
 * ERR_MISMATCH names the difference); sources it does not know start at their beginning. Not collective. */
Status loader_open(const DataConfig *config, const LoaderOptions *options, Loader **out);
void loader_close(Loader *loader); /* joins the threads; NULL is fine */

/* The next batch; blocks until it is there. STATUS_END when sources that do not repeat have nothing left for a whole
 * one: on other ranks there may be one batch more or less (the trainer lets them agree). Each must be given back with
 * loader_release, oldest first, and at most data.prefetch_batches may be held at once. After a failure every further
 * call fails in the same way. */
Status loader_next(Loader *loader, const Batch **out);
/* The same, but waits at most so long (0: not at all): *out NULL and STATUS_OK when none is there by then. */
Status loader_next_within(Loader *loader, double seconds, const Batch **out);
void loader_release(Loader *loader, const Batch *batch);

double loader_seconds_waited(const Loader *loader);
void loader_stats(Loader *loader, LoaderStats *out);
void loader_source_stats(Loader *loader, int32_t source, LoaderSourceStats *out);
bool loader_is_finite(const Loader *loader);                         /* no source repeats: loader_next ends some day */
int64_t loader_source_samples(const Loader *loader, int32_t source); /* in its shards, before any filter */
/* Greatest token id + 1 of tokenizer 1 or 2; 0 when there is none. */
int loader_vocabulary(const Loader *loader, int which);

#define LOADER_MAX_THREADS 256
int loader_threads(const DataConfig *config); /* that decode, of such a loader */
/* Bytes that the batches and the samples under way of such a loader take, about. */
int64_t loader_memory(const DataConfig *config, const LoaderOptions *options);

/* What `vasily data order` prints: opens `world` loaders and appends to `out` one line a step, its keys in global
 * order, separated by spaces (bytes up to 0x20 and '%' in a key are written %XX); with several sources SOURCE/KEY, a
 * '/' in a source's name written likewise. */
Status order_print(const DataConfig *config, const PrecomputedSpec *precomputed, uint64_t seed, int resolution,
                   int64_t global_batch, int world, int64_t steps, StrBuf *out);

#endif
