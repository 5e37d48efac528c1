/* AdamW with decoupled weight decay, and the moving average of the weights, in one pass over the flat buffers.
 * Sources: I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization" (2019); the order of operations and the
 * bias corrections are those of torch.optim.AdamW. */
#ifndef OPTIM_ADAMW_H
#define OPTIM_ADAMW_H

#include <stdint.h>

#include "engine/update.h"

/* Factors of one group's learning rate and weight decay; a learning rate of 0 holds its elements. */
typedef struct AdamwGroup {
    double lr, weight_decay;
} AdamwGroup;

typedef struct AdamwStep {
    double lr, beta1, beta2, eps, weight_decay;
    double grad_scale;        /* multiplies every gradient first: 1/world */
    double clip_norm;         /* 0: off */
    double norm_limit;        /* as in UpdateValues */
    int64_t t;                /* number of this update, from 1 */
    double ema_decay;         /* of this update; unused without ema */
    const AdamwGroup *groups; /* (group_count) 1 to UPDATE_GROUPS_MAX; the first is that of all that have none */
    int32_t group_count;
} AdamwStep;

/* The scalars of the update, here or on a device (engine/update.h): computed in fp64, in the precision of the buffers
 * where they meet them. */
void adamw_values(const AdamwStep *step, UpdateValues *out);

/* Elements of one group, which is not held. `clip`: the factor of clipping, which multiplies grad_scale. All buffers
 * fp32 of `count` elements, not overlapping; grads are read only, ema may be NULL. Elements are independent, so the
 * result does not depend on `threads` nor on the instruction set. */
void adamw_update(const UpdateValues *values, int32_t group, double clip, int64_t count, int threads,
                  const float *grads, float *weights, float *m, float *v, float *ema);
/* What becomes of held elements: the average follows the weights. */
void adamw_average(const UpdateValues *values, int64_t count, int threads, const float *weights, float *ema);

#endif
