/* The folder RUN/checkpoints: what its entries are called, and how one comes to be and goes. One process at a time
 * (rank 0, or a command while no trainer runs). */
#ifndef TRAIN_CHECKPOINT_FOLDER_H
#define TRAIN_CHECKPOINT_FOLDER_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* What stays: the newest `keep`, and all whose step is a multiple of permanent_every (0: none). */
typedef struct CheckpointKeep {
    int64_t keep, permanent_every;
} CheckpointKeep;

/* The step of a committed checkpoint's folder name; -1 for anything else. */
int64_t checkpoint_step_of_name(const char *name);
/* FOLDER/step-NNNNNNN and the suffix: "" or ".tmp". */
Status checkpoint_step_path(char out[PATH_MAX], const char *folder, int64_t step, const char *suffix);
/* The folder of checkpoints that `path` means: PATH/checkpoints of a run, or PATH itself. ERR_IO where there is none.
 */
Status checkpoint_folder_of(const char *path, char out[PATH_MAX]);
/* Steps of the committed checkpoints, ascending. The caller frees. */
Status checkpoint_list_steps(const char *folder, int64_t **steps, size_t *count);
/* The same without those that have no optimizer state: they are not the run's own, and neither counted nor removed. */
Status checkpoint_list_resumable(const char *folder, int64_t **steps, size_t *count);

/* An empty step-N.tmp on a disk that has room for `bytes`. */
Status checkpoint_prepare(const char *folder, int64_t step, int64_t bytes);
/* step-N.tmp, whose files are synced, becomes step-N: synced, renamed, and `latest` moved to it; *committed says
 * whether it is good whatever failed after that. Then those that are not to stay are removed. */
Status checkpoint_commit(const char *folder, int64_t step, CheckpointKeep keep, bool *committed);
/* `latest` is a link to the folder beside it, moved by rename. */
Status checkpoint_move_latest(const char *folder, int64_t step);
/* Renamed to step-N.removed.tmp first, so that nobody finds half of it; absent is fine, and so is another process that
 * removes it at the same time. */
Status checkpoint_remove(const char *folder, int64_t step);
/* Whether that is such a name. */
bool checkpoint_is_removed(const char *name);

/* Of the ascending `steps`, moves to the front those that are not to stay, still ascending, and tells how many. */
size_t checkpoint_choose_old(int64_t *steps, size_t count, CheckpointKeep keep);

#endif
