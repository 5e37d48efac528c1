/* The config section `init:`: the weights that a new run begins with. */
#ifndef TRAIN_INIT_WEIGHTS_H
#define TRAIN_INIT_WEIGHTS_H

#include <limits.h>

#include "base/config.h"
#include "engine/params.h"

typedef enum InitOptimizer {
    INIT_FRESH, /* moments of zero, an average that begins as the weights */
    INIT_KEPT   /* train/init_kept.h */
} InitOptimizer;

typedef struct InitConfig {
    char *from;        /* weight file, checkpoint or run's folder; empty: drawn from the seed */
    bool ema;          /* of a checkpoint: the moving average where there is one */
    int32_t optimizer; /* InitOptimizer */
} InitConfig;

extern const ConfigSchema INIT_CONFIG_SCHEMA;

/* Whether `path` is a checkpoint of ours, a folder of them or a run's folder. */
bool init_weights_is_checkpoint(const char *path);
/* The weight file that `path` stands for: itself, or of a checkpoint (or a run's newest good one, verified first) its
 * weights.h5 or ema.h5. *ema: whether it is the moving average. */
Status init_weights_find(const char *path, bool ema, char out[PATH_MAX], bool *is_ema);

/* Loads every trainable parameter. Missing, extra and mis-shaped tensors are named. An inpainting model takes the
 * weights of one for text alone, too, and is widened (weights_load_unet). Does nothing without init->from. */
Status init_weights_load(const InitConfig *init, ParamStore *store);

#endif
