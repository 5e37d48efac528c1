/* The hash of weights (engine/weight_hash.h) on the device. */
#ifndef ENGINE_CUDA_HASH_KERNELS_H
#define ENGINE_CUDA_HASH_KERNELS_H

#include <stdint.h>

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Queued: *out, of the device, becomes the hash of `count` words, the first of which has the place `first`. */
cudaError_t hash_launch(const void *words, int64_t count, uint64_t first, uint64_t *out, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
