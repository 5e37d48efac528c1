/* init.optimizer: kept. A new run goes on with the optimizer of a checkpoint of ours: its weights, Adam's moments and
 * count of updates and the moving average, each matched by name. Step, schedule, data and random numbers are the new
 * run's own. */
#ifndef TRAIN_INIT_KEPT_H
#define TRAIN_INIT_KEPT_H

#include "engine/comm.h"
#include "engine/params.h"
#include "optim/optimizer.h"
#include "train/init_weights.h"

bool init_keeps_optimizer(const InitConfig *init);
/* ERR_CONFIG where init.from is none of our checkpoints. Looks at names alone. */
Status init_kept_check(const InitConfig *init, const Config *config);
/* Loads all of it on every rank; rank 0 reads. A checkpoint without a moving average begins it as the weights.
 * ERR_FORMAT for a damaged one, ERR_MISMATCH names a parameter that one side lacks or that has another shape.
 * Collective. */
Status init_kept_load(const InitConfig *init, Comm *comm, ParamStore *store, Optimizer *optimizer);

#endif
