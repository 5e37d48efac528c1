/* Sums over rows: gradients of biases. The same bits every time on one device. */
#ifndef ENGINE_CUDA_REDUCE_KERNELS_H
#define ENGINE_CUDA_REDUCE_KERNELS_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* out[k] = sum over rows of x[row][k], or added to it: x (rows,c) F32 or BF16, out (c) fp32. `partial` is scratch of
 * column_sums_partial floats; `processors`: the device's, the same in both calls. */
cudaError_t column_sums_launch(const void *x, Dtype type, int64_t rows, int64_t c, float *out, bool add, float *partial,
                               int32_t processors, cudaStream_t stream);
int64_t column_sums_partial(int64_t rows, int64_t c, int32_t processors);

#ifdef __cplusplus
}
#endif

#endif
