/* What is out of the way in RUN/checkpoints: checkpoints that were set aside, under names that no checkpoint of the run
 * has, and a `latest` that is a folder. Nothing here removes what might be somebody's only copy. */
#ifndef TRAIN_CHECKPOINT_ASIDE_H
#define TRAIN_CHECKPOINT_ASIDE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Makes a folder fit for a run that goes on at `step` from the checkpoint `from` ("": from none). Checkpoints after it,
 * left over from a branch of the run that is given up, are renamed to step-NNNNNNN.set-aside, or
 * step-NNNNNNN.set-aside-2 and so on where that is taken; unfinished ones are removed. The folder's own of `step` is
 * set aside, too, unless it is `from` or a good copy of it; and a `from` that was set aside there, or is its `latest`,
 * gets the name of its step. A `latest` that is a folder gets a name of its own, and `latest` becomes a link to `step`
 * where that is there. `from` may have another name afterwards; *own: the folder's checkpoint of `step` is it now, or a
 * copy. Rank 0. */
Status checkpoint_set_aside_after(const char *folder, int64_t step, const char *from, bool *own);

/* One alone; `why` goes to the log after its path. */
Status checkpoint_set_aside(const char *path, const char *why);

/* Names of what was set aside, sorted; free with file_free_list. */
Status checkpoint_list_aside(const char *folder, char ***names, size_t *count);

/* Whether FOLDER/latest, whose path goes to `out`, is a folder with a checkpoint in it where a link is expected: what a
 * copy of a run that has followed its links looks like. */
bool checkpoint_latest_is_folder(const char *folder, char out[PATH_MAX]);
/* Its step where that is so and the folder has no other of this step; -1 else. */
int64_t checkpoint_latest_only(const char *folder, char out[PATH_MAX]);

#endif
