/* The update of the weights (engine/update.h) on the device. */
#ifndef ENGINE_CUDA_UPDATE_KERNELS_H
#define ENGINE_CUDA_UPDATE_KERNELS_H

#include <cuda_runtime_api.h>

#include "engine/update.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Queued; reads no host memory but `update` itself, so that it may be part of a recording. cudaErrorInvalidValue where
 * a buffer is not aligned. */
cudaError_t update_launch(const DeviceUpdate *update, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
