/* Kernels for the emulator's own tests: right ones, and ones with a mistake each. */
#ifndef TESTS_EMU_PLANTED_H
#define TESTS_EMU_PLANTED_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum Planted {
    PLANTED_NOTHING,
    PLANTED_MISSING_BARRIER,
    PLANTED_GLOBAL_OVERRUN,  /* writes one element behind y */
    PLANTED_STATIC_OVERRUN,  /* writes behind a static shared array */
    PLANTED_DYNAMIC_OVERRUN, /* reads behind the dynamic shared memory */
    PLANTED_STALE_SHARED,    /* all but the first block read what they have not written */
    PLANTED_DIVERGENT,       /* two halves of a block wait at two barriers */
    PLANTED_LONELY,          /* one warp waits for lanes that wait for the block */
    PLANTED_ENDED_LANE       /* a shuffle reads a lane that has ended */
} Planted;

/* y[row] = sum of row `row` of x (rows,cols), with 128 threads a row. */
cudaError_t planted_row_sums(Planted mistake, const float *x, float *y, int rows, int cols, cudaStream_t stream);
/* y[i] = value, with so many threads in a block. */
cudaError_t planted_fill(float *y, int n, float value, int threads, cudaStream_t stream);
/* y[i] = x[i] + *value */
cudaError_t planted_add(const float *x, const float *value, float *y, int n, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
