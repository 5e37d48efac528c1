/* The config section `watch:`: what a run writes for those who look at it while it goes. */
#ifndef TRAIN_WATCH_CONFIG_H
#define TRAIN_WATCH_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"

typedef struct WatchConfig {
    bool tensorboard;
    int64_t every; /* steps between numbers in TensorBoard's files */
    bool report;
    int64_t report_every; /* steps; 0: with each checkpoint */
} WatchConfig;

extern const ConfigSchema WATCH_CONFIG_SCHEMA;

#endif
