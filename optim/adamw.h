/* AdamW with decoupled weight decay, and the moving average of the weights, in one pass over the flat buffers.
 * Sources: I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization" (2019); the order of operations and the
 * bias corrections are those of torch.optim.AdamW. */
#ifndef OPTIM_ADAMW_H
#define OPTIM_ADAMW_H

#include <stdint.h>

typedef struct AdamwStep {
    double lr, beta1, beta2, eps, weight_decay;
    double grad_scale; /* multiplies every gradient first: 1/world, clipping */
    int64_t t;         /* number of this update, from 1 */
    double ema_decay;  /* of this update; unused without ema */
} AdamwStep;

/* All buffers fp32 of `count` elements, not overlapping; grads are read only, ema may be NULL. Elements are
 * independent, so the result does not depend on `threads` nor on the instruction set. */
void adamw_update(const AdamwStep *step, int64_t count, int threads, const float *grads, float *weights, float *m,
                  float *v, float *ema);

#endif
