/* Between a picture (N,H,W,C) and one of twice its sides (N,2H,2W,C), of `type`, F32 or BF16. Queued. */
#ifndef ENGINE_CUDA_RESAMPLE_KERNELS_H
#define ENGINE_CUDA_RESAMPLE_KERNELS_H

#include <cuda_runtime_api.h>

#include "engine/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ResampleLaunch {
    const void *x; /* what is read: the smaller to spread, the larger to gather */
    void *y;       /* what is set, or added to */
    Dtype type;
    int64_t rows, w, c; /* of the smaller: N H, W, C */
    float factor;
    bool add;
} ResampleLaunch;
/* Each element goes, times `factor`, to the 2x2 elements under it. */
cudaError_t spread_launch(const ResampleLaunch *launch, cudaStream_t stream);
/* Each element is `factor` times the sum of the 2x2 elements under it. */
cudaError_t gather_launch(const ResampleLaunch *launch, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
