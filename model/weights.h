/* Parameters of a ParamStore out of weight files and into them, by name and in the layout of the published files. */
#ifndef MODEL_WEIGHTS_H
#define MODEL_WEIGHTS_H

#include "engine/params.h"
#include "model/weight_names.h"

typedef struct WeightsFilter {
    bool trainable, frozen; /* which parameters of the table are meant */
} WeightsFilter;

/* Loads every parameter of a kind from any weight file (model/weight_file.h), under its published name. Missing,
 * unknown and mis-shaped tensors are all listed by name (the first few of each) in one error; with `allow_extra`,
 * unknown ones are passed over. */
Status weights_load(const char *path, ParamStore *store, WeightKind kind, bool allow_extra);
/* Saves parameters under their names as F32, BF16 or F16. `weights`: another flat buffer of trainable weights (EMA), or
 * NULL for the store's own. */
Status weights_save(const char *path, const ParamStore *store, const float *weights, WeightsFilter filter,
                    SafeDtype dtype);

#endif
