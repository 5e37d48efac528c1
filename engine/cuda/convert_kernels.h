/* Conversion between F32 and BF16, for every kernel that has to change the type of what it reads or writes. */
#ifndef ENGINE_CUDA_CONVERT_KERNELS_H
#define ENGINE_CUDA_CONVERT_KERNELS_H

#include <cuda_runtime_api.h>

#include "engine/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* y = x, or y += x: x, y (count), each F32 or BF16, any alignment. Queued. */
cudaError_t convert_launch(const void *x, Dtype x_type, void *y, Dtype y_type, int64_t count, bool add,
                           cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
