/* Blocks of rows copied between tensors: parts of a whole along one axis, each seen as (outer, length * inner). */
#ifndef ENGINE_CUDA_CONCAT_KERNELS_H
#define ENGINE_CUDA_CONCAT_KERNELS_H

#include <cuda_runtime_api.h>

#include "engine/op.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct CopyBlock {
    const void *x; /* NULL: zeros */
    void *y;
    int64_t x_pitch, y_pitch; /* elements from one row to the next */
    int64_t width;            /* elements of a row that are copied */
} CopyBlock;

typedef struct CopyBlocks {
    CopyBlock block[OP_MAX_IN];
    int32_t count;
    int64_t rows; /* of every block */
} CopyBlocks;

/* y = x, or y += x, for each block, of `type`: F32 or BF16. Blocks do not overlap. Queued. */
cudaError_t copy_blocks_launch(const CopyBlocks *blocks, Dtype type, bool add, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
