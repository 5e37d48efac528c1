/* What a rank writes of a checkpoint, as it is at one step boundary: its share of weights, average and moments.
 *
 * With memory of its own (page-locked where a device computes) taking is a copy, and training goes on while the copy is
 * read from another thread. Without, nothing is copied, and all must be read before the next step. */
#ifndef TRAIN_CHECKPOINT_SNAPSHOT_H
#define TRAIN_CHECKPOINT_SNAPSHOT_H

#include "optim/optimizer.h"
#include "train/checkpoint_deal.h"

typedef enum CheckpointArray {
    CHECKPOINT_WEIGHTS,
    CHECKPOINT_EMA,
    CHECKPOINT_M,
    CHECKPOINT_V,
    CHECKPOINT_ARRAYS
} CheckpointArray;
extern const char *const CHECKPOINT_ARRAY_WORDS[]; /* "weights", "ema", "adam_m", "adam_v", NULL */

typedef struct SnapshotOptions { /* all borrowed */
    const ParamStore *store;
    Optimizer *optimizer;
    Backend *backend;
    const CheckpointDeal *deal; /* this rank's */
    bool copies;
} SnapshotOptions;

typedef struct Snapshot {
    SnapshotOptions options;
    float *memory[CHECKPOINT_ARRAYS]; /* (deal->elements); NULL: not there, or read where it is */
} Snapshot;

Status snapshot_create(const SnapshotOptions *options, Snapshot *out);
void snapshot_free(Snapshot *snapshot); /* zeroed is fine */
bool snapshot_has(const Snapshot *snapshot, CheckpointArray array);
/* Between steps, after exchange_refresh_weights. Waits for the device. */
Status snapshot_take(Snapshot *snapshot);
/* Elements [first, first + count) of the share, in *out: in the snapshot's memory, or in `room`, which has space for
 * them. Needs the backend, and so the thread that trains, only where nothing was copied. */
Status snapshot_read(const Snapshot *snapshot, CheckpointArray array, int64_t first, int64_t count, float *room,
                     const float **out);
/* Bytes that copies take on each of `ranks`. */
int64_t snapshot_bytes(int64_t elements, bool has_ema, int64_t ranks);

#endif
