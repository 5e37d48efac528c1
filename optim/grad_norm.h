/* The global gradient norm, the same bits for any number of threads or shards, and on a device: squares are summed in
 * fp64 in the order that engine/update.h describes. */
#ifndef OPTIM_GRAD_NORM_H
#define OPTIM_GRAD_NORM_H

#include <stdint.h>

#include "engine/update.h"

/* block_sums[b] = sum of squares of block b; update_norm_block_count(count) of them. Squares of floats cannot overflow
 * fp64, so a block sum is NaN or infinite exactly where a gradient is. */
void grad_norm_blocks(const float *grads, int64_t count, int threads, double *block_sums);
/* The blocks of each group in order, then the groups in order. */
double grad_norm_sum(const double *block_sums, int64_t block_count);
/* As torch.nn.utils.clip_grad_norm_: min(1, max_norm / (norm + 1e-6)); 1 where max_norm is 0 (off). */
double grad_clip_factor(double norm, double max_norm);

#endif
