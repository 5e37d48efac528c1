/* The arrays of a checkpoint, read: parameters by name, in one file or in shares. For checkpoint*.c. */
#ifndef TRAIN_CHECKPOINT_ARRAYS_H
#define TRAIN_CHECKPOINT_ARRAYS_H

#include <limits.h>

#include "engine/comm.h"
#include "optim/optimizer.h"

/* Trainable parameters in the order of the flat buffers. */
typedef struct ParamOrder {
    const Param **params; /* (count) */
    int32_t count;
    int64_t largest; /* elements; at least 1 */
} ParamOrder;
Status param_order_make(const ParamTable *table, ParamOrder *out);
void param_order_free(ParamOrder *order);

/* Rank 0 reads weights, average and moments, every rank gets what it holds. Collective. */
Status checkpoint_load_arrays(const char *path, Comm *comm, ParamStore *store, Optimizer *optimizer);

/* FOLDER/WHAT.h5, or FOLDER/WHAT.shares.json where that is there and the other is not. */
Status checkpoint_array_path(char out[PATH_MAX], const char *folder, const char *what);

#endif
