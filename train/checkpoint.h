/* Checkpoints: RUN/checkpoints/step-NNNNNNN/, a folder that is either whole or absent.
 *
 * Written by one rank:
 *   - weights.h5, ema.h5, adam_m.h5, adam_v.h5: fp32, one dataset a parameter, under the names and in the layout of the
 *     published weight files (convolutions O,C,KH,KW)
 *
 * Written by several:
 *   - share-KKKK-of-WWWW.h5: what rank K wrote of the four, each a flat dataset
 *   - weights.shares.json, ...: where each parameter lies in them (model/weight_shares.h)
 *
 * And in both:
 *   - state.json: step, counters, seed, where the data stands, the whole config, and what it was computed on
 *   - manifest.json: size and XXH3-128 of each of the above
 *
 * Saving: everything is written into step-NNNNNNN.tmp, closed and synced, then the manifest, then the folder is renamed
 * and its parent synced, then `latest` (a link) is moved, and only then are old checkpoints removed. So at every moment
 * the newest whole checkpoint is found. Loading checks sizes and hashes before any file is interpreted.
 *
 * Either is read by any number of ranks, with the optimizer whole or divided. How one is written:
 * train/checkpoint_saver.h. Only rank 0 reads files; see each function for what is collective. */
#ifndef TRAIN_CHECKPOINT_H
#define TRAIN_CHECKPOINT_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "data/cursor.h"
#include "engine/comm.h"
#include "engine/params.h"
#include "model/frozen_weights.h"
#include "optim/optimizer.h"
#include "train/guard.h"
#include "train/stages.h"

/* Of the manifest. */
enum { CHECKPOINT_FORMAT_WHOLE = 1, CHECKPOINT_FORMAT_SHARES = 2, CHECKPOINT_FORMAT = CHECKPOINT_FORMAT_SHARES };

/* What state.json says. */
typedef struct CheckpointState {
    int64_t step;        /* steps done */
    int64_t samples;     /* seen since the start of the run */
    int64_t total_steps; /* of the schedule, frozen when the run began */
    int64_t seed;
    OptimizerState optimizer;
    int64_t world, threads;                /* that wrote it */
    int64_t micro_batch;                   /* it was computed with; 0: not told (earlier versions) */
    char *backend;                         /* one line: processor, instruction set, versions */
    char *config;                          /* YAML, every key */
    char frozen[FROZEN_NETWORK_COUNT][33]; /* fingerprints of the frozen networks it was trained with; "": not used */
    StagePlace stage;                      /* where it stands in the run's stages */
    GuardState guard;                      /* empty in checkpoints of earlier versions */
    Cursor *cursor;                        /* NULL where none was saved */
} CheckpointState;
void checkpoint_state_free(CheckpointState *state);

/* The checkpoint meant by `path`: itself, or the newest good one of a run's folder or of its checkpoints folder; bad
 * ones are named in the log and passed over. ERR_IO when there is none; *found false (and STATUS_OK) for `optional`. */
Status checkpoint_find(const char *path, bool optional, char out[PATH_MAX], bool *found);
/* The same for going on: of a run, those without optimizer state are passed over, too. */
Status checkpoint_find_to_resume(const char *path, bool optional, char out[PATH_MAX], bool *found);
Status checkpoint_verify(const char *path); /* ERR_FORMAT names the file that is missing, short or changed */
Status checkpoint_read_state(const char *path, CheckpointState *out);

/* One flat buffer of trainable parameters: "weights", "ema", "adam_m" or "adam_v". Checks names and shapes. */
Status checkpoint_check_array(const char *path, const char *what, const ParamTable *table); /* no more than that */
Status checkpoint_read_params(const char *path, const char *what, const ParamTable *table, float *flat);
bool checkpoint_has(const char *path, const char *what);
/* Its manifest lists no moments: it cannot be resumed. */
bool checkpoint_lacks_optimizer(const char *path);

/* Weights, moments, EMA and counters of every rank from `path`, which only rank 0 reads. Collective. */
Status checkpoint_load(const char *path, const CheckpointState *state, Comm *comm, ParamStore *store,
                       Optimizer *optimizer);

/* state.json, in checkpoint_state.c. */
Status checkpoint_format_state(const CheckpointState *state, StrBuf *out);
Status checkpoint_parse_state(const char *path, const char *text, size_t size, CheckpointState *out);

#endif
