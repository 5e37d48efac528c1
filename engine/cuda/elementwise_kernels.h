/* One value at a time. All tensors are of `type`, F32 or BF16, and have any alignment; y is set, or added to. Queued.
 */
#ifndef ENGINE_CUDA_ELEMENTWISE_KERNELS_H
#define ENGINE_CUDA_ELEMENTWISE_KERNELS_H

#include <cuda_runtime_api.h>

#include "engine/op.h"

#ifdef __cplusplus
extern "C" {
#endif

cudaError_t activation_launch(const void *x, void *y, Dtype type, int64_t count, Activation act, bool add,
                              cudaStream_t stream);
/* dx = dy act'(x) */
cudaError_t activation_grad_launch(const void *x, const void *dy, void *dx, Dtype type, int64_t count, Activation act,
                                   bool add, cudaStream_t stream);
cudaError_t add_launch(const void *a, const void *b, void *y, Dtype type, int64_t count, bool add, cudaStream_t stream);
cudaError_t multiply_launch(const void *a, const void *b, void *y, Dtype type, int64_t count, bool add,
                            cudaStream_t stream);
/* y = scale x + shift */
cudaError_t affine_launch(const void *x, void *y, Dtype type, int64_t count, float scale, float shift, bool add,
                          cudaStream_t stream);
/* F32 to F32. */
cudaError_t round_launch(const float *x, float *y, int64_t count, RoundTo to, bool add, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
