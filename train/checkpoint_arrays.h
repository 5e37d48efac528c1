/* The arrays of a checkpoint, read: parameters by name, in one file or in shares. For checkpoint*.c. */
#ifndef TRAIN_CHECKPOINT_ARRAYS_H
#define TRAIN_CHECKPOINT_ARRAYS_H

#include <limits.h>

#include "engine/comm.h"
#include "engine/param_order.h"
#include "optim/optimizer.h"

/* Rank 0 reads weights, average and moments, every rank gets what it holds. Collective. */
Status checkpoint_load_arrays(const char *path, Comm *comm, ParamStore *store, Optimizer *optimizer);

/* FOLDER/WHAT.h5, or FOLDER/WHAT.shares.json where that is there and the other is not. */
Status checkpoint_array_path(char out[PATH_MAX], const char *folder, const char *what);

#endif
