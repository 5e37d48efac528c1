/* What later stages will read and need, looked at before the first of them trains. */
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

/* In a run with days, which ends after `steps` steps (train.steps) at the latest: before `step` + 1, a warning for each
 * stage that cannot have all of its steps, by what the stages before it take at least. And at the end, after `step`,
 * one that names those that were cut off or never began; a last stage of days ends with the run. For rank 0. */
void stages_look_ahead_end(const StageRun *run, int64_t step, int64_t steps);
void stages_tell_left_out(const StageRun *run, int64_t step, int64_t steps);
/* The key that says after how many steps it ends. */
const char *stages_key_of_end(const StageRun *run);

#endif
