/* The config's section `checkpoint`. */
#ifndef TRAIN_CHECKPOINT_CONFIG_H
#define TRAIN_CHECKPOINT_CONFIG_H

#include <stdint.h>

#include "base/config.h"

typedef enum CheckpointAsync { CHECKPOINT_ASYNC_FALSE, CHECKPOINT_ASYNC_TRUE, CHECKPOINT_ASYNC_AUTO } CheckpointAsync;

typedef struct CheckpointConfig {
    int64_t every; /* steps; 0: at the end only */
    double every_minutes;
    int64_t keep;
    int64_t permanent_every; /* steps; 0: none is permanent */
    int32_t async;           /* CheckpointAsync */
} CheckpointConfig;

extern const ConfigSchema CHECKPOINT_CONFIG_SCHEMA;

#endif
