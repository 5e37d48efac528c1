/* Saving a checkpoint beside training. One rank's part:
 *
 *   prepare   rank 0: an empty step-N.tmp
 *   begin     the snapshot is taken; then this rank's files are written, synced and hashed
 *   commit    rank 0, once all ranks have written: indices, state.json, manifest.json; step-N.tmp becomes step-N; old
 *             checkpoints are removed. A rank alone goes on to this by itself.
 *
 * Where the snapshot has memory of its own, writing and committing are a thread's work and the calls return at once;
 * else the calls do it. The thread makes no MPI call and touches no device: that the ranks wait for each other is the
 * caller's business (train/trainer_save.c). One save at a time. */
#ifndef TRAIN_CHECKPOINT_SAVER_H
#define TRAIN_CHECKPOINT_SAVER_H

#include "engine/exchange.h"
#include "train/checkpoint.h"
#include "train/checkpoint_folder.h"
#include "train/checkpoint_manifest.h"

typedef struct CheckpointSaver CheckpointSaver;

typedef struct SaverOptions { /* borrowed, and must outlive the saver */
    const char *folder;       /* RUN/checkpoints, the same on all ranks */
    CheckpointKeep keep;
    const ParamStore *store;
    Optimizer *optimizer;
    Backend *backend;
    const Exchange *exchange;
    int rank, world, group; /* group: engine/comm.h */
    bool async;
} SaverOptions;

/* All memory is taken here. */
Status saver_create(const SaverOptions *options, CheckpointSaver **out);
/* Waits for what is being written; a rank alone commits it. NULL is fine. */
void saver_free(CheckpointSaver *saver);
bool saver_is_async(const CheckpointSaver *saver);

typedef enum SaverState {
    SAVER_IDLE,     /* nothing to tell */
    SAVER_BUSY,     /* files are written, or committed */
    SAVER_WRITTEN,  /* this rank's files are whole and on the disk */
    SAVER_COMMITTED /* the checkpoint is in its place */
} SaverState;

/* Rank 0; the other ranks may begin once it is done. */
Status saver_prepare(CheckpointSaver *saver, int64_t step);
/* Between steps, weights refreshed. `state`: rank 0's, NULL elsewhere; used up when this returns. */
Status saver_begin(CheckpointSaver *saver, int64_t step, const CheckpointState *state);
/* Where this rank is, without waiting. Anything but STATUS_OK: it has failed, its files are removed, and the message
 * says that the checkpoint could not be saved. */
Status saver_look(CheckpointSaver *saver, SaverState *state);
/* The same once it is no longer busy. */
Status saver_wait(CheckpointSaver *saver, SaverState *state);
/* The one file that this rank of several has written; SAVER_WRITTEN only. */
FileFacts saver_share(const CheckpointSaver *saver);
/* Rank 0: all ranks have written; `shares` of all (world) are used up when this returns. */
void saver_commit(CheckpointSaver *saver, const FileFacts *shares);
/* The save is over for this rank: committed, or given up. */
void saver_end(CheckpointSaver *saver);
/* Rank 0: removes step-N.tmp of a save that is given up; no rank writes any longer. */
void saver_remove(CheckpointSaver *saver);

double saver_seconds(const CheckpointSaver *saver); /* of the last save, from begin until it was committed */

#endif
