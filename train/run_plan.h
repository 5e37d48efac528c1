/* RUN/plan.json: what the run was planned to be when it was opened last, for those who look at it afterwards. */
#ifndef TRAIN_RUN_PLAN_H
#define TRAIN_RUN_PLAN_H

#include "train/network.h"

/* Writes the file, whole or not at all. `network`: planned, its memory too. Rank 0. */
Status run_plan_write(const char *path, const RunConfig *run, const Network *network, int ranks, const char *device);

#endif
