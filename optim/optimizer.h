/* The optimizer: moments, moving average and counters over the trainable buffers of a ParamStore. One optimizer_step
 * does gradient norm, clipping, AdamW and EMA; on a device that has memory of its own everything lies and happens
 * there, with the same bits. Where the exchange divides it among ranks (engine/exchange.h), a rank has moments and
 * average of its spans alone and updates those; again with the same bits. */
#ifndef OPTIM_OPTIMIZER_H
#define OPTIM_OPTIMIZER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/backend.h"
#include "engine/exchange.h"
#include "engine/params.h"
#include "optim/optim_config.h"

typedef struct Optimizer Optimizer;

/* Counters that a checkpoint keeps beside m, v and ema. */
typedef struct OptimizerState {
    int64_t t;       /* updates applied; Adam's step, and the EMA's n */
    int64_t skipped; /* steps passed over: a gradient was NaN or infinite, or the norm above the limit */
} OptimizerState;

typedef struct OptimizerReport {
    double lr, beta1;
    double grad_norm; /* of the scaled gradients, before clipping; NaN or infinity on a skipped step */
    double clip;      /* the factor of clipping, 1: none */
    double ema_decay;
    UpdateSkip skipped; /* UPDATE_DONE: it was not */
} OptimizerReport;

/* `total_steps` shapes the schedule; it is config->total_steps, or train.steps where that is 0, or what the checkpoint
 * has frozen. The store is borrowed and needs gradients; so is `backend`, NULL or one without a device for the host's
 * memory; with a device the store needs its image there, and a bf16 copy in the image is kept up to date. `threads`
 * >= 1. `exchange`: among the ranks of a run; borrowed; NULL: there is one. Moments start at zero, the EMA as a copy of
 * the weights as they are now: call optimizer_restart_ema after loading other weights. The patterns of config->groups
 * (optim/param_groups.h) have been checked, and the parameters that they hold have gradients of zero. Allocates
 * everything. */
Status optimizer_create(const OptimConfig *config, int64_t total_steps, const ParamStore *store, Backend *backend,
                        int threads, Exchange *exchange, Optimizer **out);
void optimizer_free(Optimizer *optimizer); /* NULL is fine */

/* One step, the three parts below with the wait between them, with the values of schedule step `schedule_step` (from
 * 0). The store's gradients, multiplied by `grad_scale` (1 / world, or 1 / (world * micro-batches), whatever makes a
 * sum a mean), are read and left as they are. With a NaN or infinity among them nothing changes but the count of
 * skipped steps, and report->skipped is set: the step has used up its place in the schedule, not Adam's t. Ranks that
 * hold the same bits stay the same. */
Status optimizer_step(Optimizer *optimizer, int64_t schedule_step, double grad_scale, OptimizerReport *report);

/* The parts of a step. begin: computes this step's values and sends them. queue: queues the update and the
 * fetching of what became of it; it reads nothing that changes from step to step, so it may be recorded once and
 * replayed, but begin may not. end: once the device has finished; counts and reports. On the host `queue` does the
 * work. begin may be called again only after end. queue is collective where the optimizer is divided. */
Status optimizer_begin_step(Optimizer *optimizer, int64_t schedule_step, double grad_scale);
/* A gradient norm above `limit` passes a step over as one that is not finite does, from the next begin on; infinity, as
 * at first: none does. */
void optimizer_limit_norm(Optimizer *optimizer, double limit);
/* Between begin and queue: this step is passed over, whatever its gradients; the norm is told all the same. */
Status optimizer_refuse_update(Optimizer *optimizer);
Status optimizer_queue_update(Optimizer *optimizer);
void optimizer_end_step(Optimizer *optimizer, OptimizerReport *report);

/* Flat fp32 buffers in the backend's memory: of optimizer_elements() = param_table_trainable_elements, at the offsets
 * of the parameters; where the optimizer is divided, of exchange_local_elements(), span after span. */
int64_t optimizer_elements(const Optimizer *optimizer);
bool optimizer_is_divided(const Optimizer *optimizer);
float *optimizer_m(Optimizer *optimizer);
float *optimizer_v(Optimizer *optimizer);
float *optimizer_ema(Optimizer *optimizer); /* NULL with ema_decay 0 */
/* Elements [first, first + count) of the whole of one of them to or from the host's memory; they wait for what is
 * queued. ERR_INTERNAL for elements that are not there, or another rank's. */
typedef enum OptimizerArray { OPTIMIZER_M, OPTIMIZER_V, OPTIMIZER_EMA } OptimizerArray;
Status optimizer_read(Optimizer *optimizer, OptimizerArray which, int64_t first, int64_t count, float *out);
Status optimizer_write(Optimizer *optimizer, OptimizerArray which, int64_t first, int64_t count, const float *values);

/* The whole of them slice by slice, whoever has what: for checkpoints. Slices follow one another and cover all
 * elements. Reading is collective where the optimizer is divided (every rank gets the slice); writing keeps what is
 * this rank's. */
typedef struct OptimizerSlice {
    int64_t first, count;
} OptimizerSlice;
int32_t optimizer_slice_count(const Optimizer *optimizer);
OptimizerSlice optimizer_slice(const Optimizer *optimizer, int32_t index);
int64_t optimizer_largest_slice(const Optimizer *optimizer);
Status optimizer_read_slice(Optimizer *optimizer, OptimizerArray which, int32_t index, float *out);
Status optimizer_write_slice(Optimizer *optimizer, OptimizerArray which, int32_t index, const float *values);
bool optimizer_on_device(const Optimizer *optimizer);
int64_t optimizer_total_steps(const Optimizer *optimizer);
OptimizerState optimizer_state(const Optimizer *optimizer);
void optimizer_set_state(Optimizer *optimizer, OptimizerState state);
Status optimizer_restart_ema(Optimizer *optimizer); /* ema = weights; without an EMA: nothing */
/* Bytes that optimizer_create allocates for `elements` trainable elements divided among `shares` ranks (1: not), of the
 * host's memory or of a device's. */
int64_t optimizer_bytes(const OptimConfig *config, int64_t elements, int shares);

#endif
