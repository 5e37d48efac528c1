/* A checkpoint written anew in another layout, value by value: one file an array, or shares; with or without the
 * optimizer's state. Memory does not grow with the model. */
#ifndef TRAIN_CHECKPOINT_CONVERT_H
#define TRAIN_CHECKPOINT_CONVERT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

typedef struct ConvertOptions {
    int shares;     /* 0: one file an array */
    bool optimizer; /* moments, too */
} ConvertOptions;

typedef struct ConvertTotals {
    int arrays;
    int64_t values;
} ConvertTotals;

/* `from`: a good checkpoint. `to`: a new folder, whole or absent afterwards; state.json is the same to the byte. */
Status checkpoint_convert(const char *from, const char *to, const ConvertOptions *options, ConvertTotals *totals);

#endif
