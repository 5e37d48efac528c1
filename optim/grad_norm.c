#include "optim/grad_norm.h"

#include <math.h>

/* Several running sums, so that the compiler may use vectors without changing the order of any addition. */
#define LANES UPDATE_NORM_LANES
_Static_assert(LANES == 8, "block_sum adds up eight");

static double block_sum(const float *grads, int64_t count)
{
    double lane[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            double g = grads[i + l];
            lane[l] += g * g;
        }
    }
    for (int l = 0; i < count; i++, l++) {
        double g = grads[i];
        lane[l] += g * g;
    }
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

void grad_norm_blocks(const float *grads, int64_t count, int threads, double *block_sums)
{
    int64_t blocks = update_norm_block_count(count);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t b = 0; b < blocks; b++) {
        int64_t start = b * UPDATE_NORM_BLOCK;
        int64_t left = count - start;
        block_sums[b] = block_sum(grads + start, left < UPDATE_NORM_BLOCK ? left : UPDATE_NORM_BLOCK);
    }
}

double grad_norm_sum(const double *block_sums, int64_t block_count)
{
    double sum = 0;
    for (int64_t start = 0; start < block_count; start += UPDATE_NORM_GROUP) {
        double group = 0;
        for (int64_t b = start; b < block_count && b < start + UPDATE_NORM_GROUP; b++) group += block_sums[b];
        sum += group;
    }
    return sum;
}

double grad_clip_factor(double norm, double max_norm)
{
    if (max_norm == 0) return 1.0;
    double factor = max_norm / (norm + 1e-6);
    return factor < 1.0 ? factor : 1.0;
}
