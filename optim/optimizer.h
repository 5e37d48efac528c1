/* The optimizer: moments, moving average and counters over the trainable buffers of a ParamStore. One optimizer_step
 * does gradient norm, clipping, AdamW and EMA. */
#ifndef OPTIM_OPTIMIZER_H
#define OPTIM_OPTIMIZER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/params.h"
#include "optim/optim_config.h"

typedef struct Optimizer Optimizer;

/* Counters that a checkpoint keeps beside m, v and ema. */
typedef struct OptimizerState {
    int64_t t;       /* updates applied; Adam's step, and the EMA's n */
    int64_t skipped; /* steps passed over because a gradient was NaN or infinite */
} OptimizerState;

typedef struct OptimizerReport {
    double lr, beta1;
    double grad_norm; /* of the scaled gradients, before clipping; NaN or infinity on a skipped step */
    double clip;      /* the factor of clipping, 1: none */
    double ema_decay;
    bool skipped;
} OptimizerReport;

/* `total_steps` shapes the schedule; it is config->total_steps, or train.steps where that is 0, or what the checkpoint
 * has frozen. The store is borrowed and needs gradients; `threads` >= 1. Moments start at zero, the EMA as a copy of
 * the weights as they are now: call optimizer_restart_ema after loading other weights. Allocates everything. */
Status optimizer_create(const OptimConfig *config, int64_t total_steps, const ParamStore *store, int threads,
                        Optimizer **out);
void optimizer_free(Optimizer *optimizer); /* NULL is fine */

/* One step with the values of schedule step `schedule_step` (from 0). The store's gradients, multiplied by
 * `grad_scale` (1 / world, or 1 / (world * micro-batches), whatever makes a sum a mean), are read and left as they
 * are. With a NaN or infinity among them nothing changes but the count of skipped steps, and report->skipped is set:
 * the step has used up its place in the schedule, not Adam's t. Ranks that hold the same bits stay the same. */
Status optimizer_step(Optimizer *optimizer, int64_t schedule_step, double grad_scale, OptimizerReport *report);

/* Flat fp32 buffers of optimizer_elements() = param_table_trainable_elements, at the offsets of the parameters; for
 * checkpoints, to read and to fill. */
int64_t optimizer_elements(const Optimizer *optimizer);
float *optimizer_m(Optimizer *optimizer);
float *optimizer_v(Optimizer *optimizer);
float *optimizer_ema(Optimizer *optimizer); /* NULL with ema_decay 0 */
int64_t optimizer_total_steps(const Optimizer *optimizer);
OptimizerState optimizer_state(const Optimizer *optimizer);
void optimizer_set_state(Optimizer *optimizer, OptimizerState state);
void optimizer_restart_ema(Optimizer *optimizer); /* ema = weights */
/* Bytes that optimizer_create allocates for `elements` trainable elements. */
int64_t optimizer_bytes(const OptimConfig *config, int64_t elements);

#endif
