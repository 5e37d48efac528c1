/* The config section `optim:`: the optimizer, its schedule, clipping and the moving average of the weights. */
#ifndef OPTIM_OPTIM_CONFIG_H
#define OPTIM_OPTIM_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"

typedef enum OptimSchedule { OPTIM_ONE_CYCLE, OPTIM_CONSTANT } OptimSchedule;

/* Parameters whose names match a pattern (optim/param_groups.h). */
typedef struct OptimGroup {
    char *match;
    double lr;           /* factor of the learning rate; 0: held, nothing of them changes */
    double weight_decay; /* factor */
} OptimGroup;

typedef struct OptimConfig {
    int64_t total_steps; /* length of the schedule; 0: the caller's train.steps */
    int32_t schedule;    /* OptimSchedule */
    double max_lr;
    double pct_start;        /* share of the schedule with a rising learning rate */
    double div_factor;       /* first lr = max_lr / div_factor */
    double final_div_factor; /* last lr = first lr / final_div_factor */
    bool cycle_momentum;     /* beta1 goes max -> base -> max while lr goes up and down */
    double base_momentum, max_momentum;
    double beta1, beta2; /* beta1 is used where momentum does not cycle */
    double eps;
    double weight_decay; /* decoupled: p *= 1 - lr * weight_decay */
    double clip_norm;    /* global gradient norm; 0: off */
    double ema_decay;    /* 0: no average is kept, and its buffer does not exist */
    bool ema_warmup;     /* decay = min(ema_decay, (1 + n) / (10 + n)) at the n-th update, n from 1 */
    ConfigList groups;   /* OptimGroup: the first that matches a parameter is its group */
} OptimConfig;

extern const ConfigSchema OPTIM_CONFIG_SCHEMA;

/* Checks that involve several keys. `section` is the section's path in the file, "optim". */
Status optim_config_check(const OptimConfig *optim, const Config *config, const char *section);

#endif
