/* Launchers of softmax.cu: attention's softmax over rows of scores in memory, forward and backward. */
#ifndef ENGINE_CUDA_SOFTMAX_KERNELS_H
#define ENGINE_CUDA_SOFTMAX_KERNELS_H

#include <cuda_runtime_api.h>

#include "engine/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Scores of some pairs of sample and head (pair = sample * heads + head), and of some queries of each:
 * (pairs,rows,pitch), of which `keys` columns count. */
typedef struct ScoreRows {
    int64_t heads, queries; /* of the whole attention */
    int64_t first_pair, pairs;
    int64_t first_row, rows;
    int64_t keys, pitch; /* pitch: a multiple of 8 */
    const int32_t *mask; /* (N,masked) of the first keys: 0 hides; NULL: none */
    int64_t masked;
    const float *bias; /* (heads,queries,keys), added; forward only; NULL: none */
} ScoreRows;

/* p = softmax of the scores, in F32 (p may be the scores) or BF16; lse (N,heads,queries): natural log of the sum of
 * exp. A row without a visible key: zeros, and 0. Columns behind the keys become anything. 16-byte aligned. */
cudaError_t softmax_launch(const ScoreRows *rows, const float *scores, void *p, Dtype p_type, float *lse,
                           cudaStream_t stream);

/* p = exp(scores - lse), ds = p (dp - delta); delta like lse. Both in `type`; in F32 p may be the scores, ds may be dp.
 */
typedef struct SoftmaxGrad {
    const float *scores, *dp;
    const float *lse, *delta;
    void *p, *ds;
    Dtype type;
} SoftmaxGrad;
cudaError_t softmax_grad_launch(const ScoreRows *rows, const SoftmaxGrad *grad, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
