/* What later stages will read, looked at before the first of them trains. */
#ifndef TRAIN_STAGES_AHEAD_H
#define TRAIN_STAGES_AHEAD_H

#include "train/stages.h"

/* A warning for each source, picture and folder of a later stage of which files of this machine are not there: they may
 * still come, but better known now than after days. For rank 0. */
Status stages_look_ahead(const StageRun *run);

#endif
