/* The arrays of a checkpoint, one HDF5 file each: parameters by name, in the layout of the published weight files. For
 * checkpoint.c. */
#ifndef TRAIN_CHECKPOINT_ARRAYS_H
#define TRAIN_CHECKPOINT_ARRAYS_H

#include "engine/comm.h"
#include "optim/optimizer.h"

#define CHECKPOINT_ARRAYS 4

/* Rank 0 writes weights, average and moments into `folder`; names[0, *count) are the files. The other ranks call
 * checkpoint_contribute (train/checkpoint.h) meanwhile where the optimizer is divided among them. */
Status checkpoint_write_arrays(const char *folder, const ParamStore *store, Optimizer *optimizer,
                               const char *names[CHECKPOINT_ARRAYS], size_t *count);
/* Rank 0 reads them, every rank gets what it holds. Collective. */
Status checkpoint_load_arrays(const char *path, Comm *comm, ParamStore *store, Optimizer *optimizer);

/* FOLDER/WHAT.h5 */
Status checkpoint_array_path(char out[PATH_MAX], const char *folder, const char *what);

#endif
