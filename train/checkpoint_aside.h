/* What is out of the way in RUN/checkpoints: checkpoints that were set aside, under names that no checkpoint of the run
 * has, and a `latest` that is a folder. Nothing here removes what might be somebody's only copy. */
#ifndef TRAIN_CHECKPOINT_ASIDE_H
#define TRAIN_CHECKPOINT_ASIDE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Makes a folder fit for a run that goes on at `step`. Checkpoints after it, left over from a branch of the run that is
 * given up, are renamed to step-NNNNNNN.set-aside, or step-NNNNNNN.set-aside-2 and so on where that is taken;
 * unfinished ones are removed; a `latest` that is a folder gets a name of its own; where `latest` leads nowhere, it
 * becomes a link to `step`. Rank 0. */
Status checkpoint_set_aside_after(const char *folder, int64_t step);

/* Names of what was set aside, sorted; free with file_free_list. */
Status checkpoint_list_aside(const char *folder, char ***names, size_t *count);

/* Whether FOLDER/latest, whose path goes to `out`, is a folder with a checkpoint in it where a link is expected: what a
 * copy of a run that has followed its links looks like. */
bool checkpoint_latest_is_folder(const char *folder, char out[PATH_MAX]);

#endif
