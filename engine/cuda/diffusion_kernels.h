/* Noise, diffusion and the hybrid loss; all F32. `table` (steps,8) is the schedule, its columns as engine/ops.h has
 * them; `elements` are those of x0 in a sample. Queued. */
#ifndef ENGINE_CUDA_DIFFUSION_KERNELS_H
#define ENGINE_CUDA_DIFFUSION_KERNELS_H

#include <cuda_runtime_api.h>

#include "base/random.h"

#ifdef __cplusplus
extern "C" {
#endif

/* y (n,2 half) = [cos(t f_k) | sin(t f_k)], f_k = exp(-log_period k / half) */
cudaError_t timestep_embedding_launch(const float *t, float *y, int64_t n, int64_t half, double log_period,
                                      cudaStream_t stream);

/* y (n,elements): normals of the samples index (n,2: low, high word), the bits that random_normal gives. noise.cu */
cudaError_t noise_launch(const int32_t *index, float *y, int64_t n, int64_t elements, uint64_t seed,
                         RandomPurpose purpose, cudaStream_t stream);

/* y (positions,c) from moments (positions,2c) and noise (positions,c), or NULL. */
cudaError_t posterior_sample_launch(const float *moments, const float *noise, float *y, int64_t positions, int64_t c,
                                    float scale, cudaStream_t stream);

/* y (n,elements) = table[t][0] x0 + table[t][1] noise */
typedef struct QSampleLaunch {
    const float *x0, *noise, *t, *table;
    float *y;
    int64_t n, elements, steps;
} QSampleLaunch;
cudaError_t q_sample_launch(const QSampleLaunch *launch, cudaStream_t stream);

/* y (positions,2c+1) = [x_t | x0 keep | keep] from x_t and x0 (positions,c) and keep (positions). */
cudaError_t inpaint_input_launch(const float *x_t, const float *x0, const float *keep, float *y, int64_t positions,
                                 int64_t c, cudaStream_t stream);

typedef struct LossLaunch {
    const float *out;              /* (n,H,W,2c) */
    const float *x0, *x_t;         /* (n,H,W,c) */
    const float *noise;            /* (n,H,W,c) */
    const float *t, *table;        /* (n), (steps,8) */
    int64_t n, elements, c, steps; /* elements = H W c */
} LossLaunch;
size_t loss_workspace(int64_t n, int64_t elements); /* bytes */
/* terms (n,2): mean squared error and the weighted bound in bits. */
cudaError_t loss_launch(const LossLaunch *launch, float vb_weight, float *terms, void *workspace, cudaStream_t stream);
/* dout (n,H,W,2c), set or added to. */
cudaError_t loss_grad_launch(const LossLaunch *launch, float loss_scale, float vb_weight, float *dout, bool add,
                             cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
