/* Whether held-out shards are held out. */
#ifndef TRAIN_VALIDATION_OVERLAP_H
#define TRAIN_VALIDATION_OVERLAP_H

#include "data/data_config.h"
#include "data/precomputed.h"

/* One warning where shards of `held_out` are among those of `training`, by path or, for files, by what the path leads
 * to. What cannot be listed is passed over: whoever opens the shards says so. */
void validation_warn_overlap(const DataConfig *held_out, const DataConfig *training,
                             const PrecomputedSpec *precomputed);

#endif
