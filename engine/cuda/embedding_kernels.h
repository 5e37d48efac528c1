/* Tables looked up, and what the text encoders count and average. Queued. */
#ifndef ENGINE_CUDA_EMBEDDING_KERNELS_H
#define ENGINE_CUDA_EMBEDDING_KERNELS_H

#include <cuda_runtime_api.h>

#include "engine/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* y (n tokens,d) of `type` = table[id] + positions[t]; ids outside the table read row 0. */
typedef struct EmbeddingLaunch {
    const int32_t *ids;     /* (n,tokens) */
    const float *table;     /* (rows,d) */
    const float *positions; /* (tokens or more,d), or NULL */
    void *y;
    Dtype type;
    int64_t n, tokens, rows, d;
} EmbeddingLaunch;
cudaError_t embedding_launch(const EmbeddingLaunch *launch, cudaStream_t stream);

/* y (n,d): the mean of the rows of x (n,tokens,d) whose mask (n,tokens) is not 0; zeros where there are none. */
cudaError_t masked_mean_launch(const void *x, const int32_t *mask, void *y, Dtype type, int64_t n, int64_t tokens,
                               int64_t d, cudaStream_t stream);

/* positions (n,tokens): `padding` where ids has it, elsewhere padding + the count of others up to and including it. */
cudaError_t position_ids_launch(const int32_t *ids, int32_t *positions, int64_t n, int64_t tokens, int32_t padding,
                                cudaStream_t stream);

/* op_relative_bucket (engine/op.h) as the distances at which its buckets begin, so that the device agrees with it on
 * every distance: |distance| < exact has the bucket |distance|, farther ones exact + how many of `start` they reach;
 * `half` more where a key lies after its query. */
enum { RELATIVE_STARTS = 512 };
typedef struct RelativeBuckets {
    int32_t half, exact, starts;
    int32_t start[RELATIVE_STARTS];
} RelativeBuckets;
/* y (heads,rows,rows) = table[bucket(j - i)][head], table (2 half or more,heads). */
cudaError_t relative_bias_launch(const RelativeBuckets *buckets, const float *table, float *y, int64_t heads,
                                 int64_t rows, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
