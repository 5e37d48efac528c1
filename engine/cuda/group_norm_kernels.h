/* Group norm over N,H,W,C, and its gradient.
 *
 * A group's C/G channels (12 to 48 in the UNet) are 24 to 96 bytes of a position, so a block for each group would read
 * pieces that share the 64 bytes the memory delivers at once. Blocks take many channels side by side instead; a thread
 * keeps one column of 16 bytes (8 bf16 or 4 fp32 channels, which may belong to several groups) and walks over
 * positions, so that its coefficients and sums stay in registers. There are two ways.
 *
 * Whole: one kernel. A block has all positions of a few groups and keeps them in its shared memory (113 KB or less, so
 * that two to four blocks share a multiprocessor). It reads and writes everything once. For 32x32 and below, where that
 * much holds groups that together end with a column.
 *
 * Sliced: a block has a slice of the positions and all channels or many. A first kernel leaves sums of each slice, a
 * small one combines them, another goes over the tensors a second time. For 64x64 and above.
 *
 * Statistics: a block first sums differences from the group's first value there, then, of what it kept, squares of
 * differences from its mean; slices are combined by Chan, Golub & LeVeque (1979), each with its mean and sum of squared
 * deviations. No difference of large sums is ever taken. All sums have a fixed order that depends on the shape alone:
 * the same bits every time.
 *
 * What this should cost in bf16, where a device moves D bytes per second (H200: 4.8e12, of which copies reach 0.9):
 *
 *   shape               MB of x   forward                              gradient (x, dy; dx)
 *   (48,64,64,384)      151       sliced, 2 reads + 1 write: 453 MB    sliced, 4 reads + 1 write: 755 MB
 *   (48,32,32,768)       75       whole, 1 + 1: 151 MB                 whole, 2 + 1: 226 MB
 *   (48,8,8,1536)         9.4     whole, 1 + 1: 19 MB                  whole, 2 + 1: 28 MB
 *
 * The sliced way should reach 0.85 D: its kernels only stream, with about 20 instructions for each element and at most
 * two exponentials and reciprocals, of which a multiprocessor does 16 in the time in which memory brings it 21 bytes;
 * 768 threads ask for 48 KB at a time, where 25 KB are enough. The first kernel walks the samples backwards and the
 * last one forwards, so that each begins with what the one before left in the second-level cache (50 MB; about a tenth
 * of the bytes of the first shape). So 105 us forward and 175 us for the gradient, of which the combining kernel is 3.
 * The whole way alternates between reading, summing and writing, and the blocks beside it fill the gaps: 0.7 to 0.75 D,
 * 45 us and 65 us for the second shape, less than slicing with its 3/2 and 5/3 of the bytes. The third fits the cache:
 * start and latency rule there, about 6 us, which is why it must be one kernel. The gradient adds a kernel for dgamma
 * and dbeta, 3 us. These are predictions, not measurements. */
#ifndef ENGINE_CUDA_GROUP_NORM_KERNELS_H
#define ENGINE_CUDA_GROUP_NORM_KERNELS_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

#define NORM_THREADS 384    /* of a block, at most */
#define NORM_SLICE_PACKS 8  /* columns of a slice that a thread keeps in registers */
#define NORM_COEFFICIENTS 3 /* of a channel: mean, a, b */

/* How a pass over x (n, positions, c) is cut into blocks: n * slices * tiles of them. */
#define GROUP_NORM_SHARED_MOST                                                            \
    (113 * 1024) /* bytes of shared memory of a block: two fit a multiprocessor of 228 KB \
                  */

typedef struct NormCut {
    int64_t n, positions, c;
    int32_t groups, width; /* c = groups * width */
    int32_t vector;        /* channels of a column: 16 bytes of them, or 1 */
    int32_t threads;       /* of a block: columns * rows or more */
    int32_t columns;       /* of a block, side by side; the last tile may have fewer */
    int32_t rows;          /* positions that a block's threads read at once */
    int32_t parts;         /* threads that share the rows of one channel when they are summed */
    int32_t tiles, slices;
    int32_t slice; /* positions of a block; the last slice may have fewer */
    int32_t spans; /* tiles that a group may touch: partial statistics of a group in a slice */
} NormCut;

typedef struct NormPlan {
    Dtype type;
    bool whole;
    NormCut sums;  /* the first kernel; the only one when whole */
    NormCut apply; /* the second pass; of the first but for its slices */
    size_t kept;   /* shared memory of the first kernel for what it keeps of one tensor, bytes */
    size_t shared; /* ... and all of it */
} NormPlan;
/* `shared`: the most that a block may use. `aligned`: the tensors begin at multiples of 16 bytes. */
NormPlan norm_plan(const Shape *x, Dtype type, int32_t groups, bool gradient, bool aligned, size_t shared);

typedef struct GroupNorm {
    NormPlan plan;
    float eps;
    bool silu;
    const void *x, *scale_shift; /* (n,positions,c), (n,2c) or NULL: type */
    const float *gamma, *beta;   /* (c) */
    void *y;
    float *stats;   /* (n,groups,2) */
    float *partial; /* sliced: (n,groups,slices,spans,2), mean and sum of squared deviations */
} GroupNorm;
cudaError_t cuda_group_norm(const GroupNorm *k, cudaStream_t stream);

typedef struct GroupNormGrad {
    NormPlan plan;
    bool silu;
    const void *x, *dy, *scale_shift;
    const float *gamma, *beta, *stats;
    void *dx, *dscale_shift; /* NULL: not wanted, as the next */
    float *dgamma, *dbeta;
    bool add_x, add_gamma, add_beta, add_scale_shift;
    float *terms;   /* (n,2,c): what each sample adds to dgamma and to dbeta */
    float *means;   /* sliced: (n,groups,2), of dxhat and of dxhat xhat */
    float *partial; /* sliced: (n,slices,2,c), sums over positions of dv and of dv xhat */
} GroupNormGrad;
cudaError_t cuda_group_norm_grad(const GroupNormGrad *k, cudaStream_t stream);

/* dgamma and dbeta (c), either may be NULL, from `count` terms (count,2,c) of both, added in a fixed order. */
typedef struct NormParams {
    const float *terms;
    int64_t count, c;
    float *dgamma, *dbeta;
    bool add_gamma, add_beta;
} NormParams;
cudaError_t cuda_norm_params(const NormParams *k, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
