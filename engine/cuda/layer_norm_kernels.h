/* Norms of rows (rows,c). A warp has a row, in registers where it fits (1024 bf16 or 512 fp32 channels), else read
 * again, from the first-level cache; so x is read once and y written once, and 32 warps on a multiprocessor ask for 64
 * KB at a time, more than is on its way at full speed. The gradient reads x and dy a second time for dgamma and dbeta:
 * by then the second-level cache has them at the sizes there are (7400 rows of 768). */
#ifndef ENGINE_CUDA_LAYER_NORM_KERNELS_H
#define ENGINE_CUDA_LAYER_NORM_KERNELS_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct RowNorm {
    Dtype type;
    int64_t rows, c;
    float eps;
    const void *x;
    const float *gamma, *beta; /* (c); beta: layer norm only */
    void *y;
    float *stats; /* (rows,2: mean, rstd) or NULL; layer norm only */
} RowNorm;
cudaError_t cuda_layer_norm(const RowNorm *k, cudaStream_t stream);
cudaError_t cuda_rms_norm(const RowNorm *k, cudaStream_t stream);

/* Rows are cut into chunks for dgamma and dbeta; their count for this many rows. */
int64_t layer_norm_chunks(int64_t rows);

typedef struct LayerNormGrad {
    Dtype type;
    int64_t rows, c;
    const void *x, *dy;
    const float *gamma, *stats;
    void *dx; /* NULL: not wanted, as the next */
    float *dgamma, *dbeta;
    bool add_x, add_gamma, add_beta;
    float *terms; /* (chunks,2,c): what each chunk of rows adds to dgamma and to dbeta */
} LayerNormGrad;
cudaError_t cuda_layer_norm_grad(const LayerNormGrad *k, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
