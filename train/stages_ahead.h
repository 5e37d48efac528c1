/* What later stages will read, looked at before the first of them trains. */
#ifndef TRAIN_STAGES_AHEAD_H
#define TRAIN_STAGES_AHEAD_H

#include "train/network.h"
#include "train/stages.h"

/* A warning for each source, picture and folder of a later stage of which files of this machine are not there: they may
 * still come, but better known now than after days. For rank 0. */
Status stages_look_ahead(const StageRun *run);
/* And one for each later stage whose plan does not fit the memory that is free now, before this stage takes any. The
 * ranks are those that train, `sharing` of them on this machine. For rank 0. */
Status stages_look_ahead_memory(const StageRun *run, Backend *backend, int ranks, int sharing);

#endif
