/* The update of the weights (engine/update.h) on the device. */
#ifndef ENGINE_CUDA_UPDATE_KERNELS_H
#define ENGINE_CUDA_UPDATE_KERNELS_H

#include <cuda_runtime_api.h>

#include "engine/update.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The two parts of the update (DeviceOps), queued. They read no host memory but `update` and its spans, and those
 * before they return, so that they may be part of a recording. cudaErrorInvalidValue where a buffer is not aligned, or
 * the spans are not those of engine/update.h: in order, one behind the other in the local buffers. */
cudaError_t update_norm_launch(const DeviceUpdate *update, cudaStream_t stream);
cudaError_t update_apply_launch(const DeviceUpdate *update, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
