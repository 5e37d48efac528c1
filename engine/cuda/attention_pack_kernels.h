/* Launchers of attention_pack.cu: rows of attention heads from one layout to another, and which keys a mask lets
 * through.
 */
#ifndef ENGINE_CUDA_ATTENTION_PACK_KERNELS_H
#define ENGINE_CUDA_ATTENTION_PACK_KERNELS_H

#include <cuda_runtime_api.h>

#include "engine/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Rows of d elements:  data + sample * n + row * r + head * h  (elements). Pitches of 0: there is no such operand. */
typedef struct HeadRows {
    void *data;
    int64_t sample, row, head;
} HeadRows;

typedef struct HeadMove {
    HeadRows from, to;
    int64_t rows;       /* of `to`, in each sample */
    const int32_t *map; /* (N,rows): the row of `from`, negative for zeros; NULL: the row of the same number */
    bool add;           /* to what is there */
} HeadMove;

/* Moves of one launch; their targets must not overlap. */
enum { HEAD_MOVES_MAX = 6 };
typedef struct HeadMoves {
    int64_t samples, heads, d;
    Dtype from, to; /* alike, or F32 to BF16 */
    int32_t count;
    HeadMove move[HEAD_MOVES_MAX];
} HeadMoves;
cudaError_t head_move_launch(const HeadMoves *moves, cudaStream_t stream);

/* The visible keys of each sample, mask (N,S) not 0, in their order and without gaps, after `before` keys that always
 * are: */
typedef struct HeadSlots {
    const int32_t *mask;
    int64_t samples, keys; /* N, S */
    int32_t before, queries;
    int32_t *source;  /* (N,S): the key that comes i-th, -1 behind the last */
    int32_t *place;   /* (N,S): the other way: where key s comes, -1 if hidden */
    int32_t *lengths; /* (N): before + visible keys, at least 1 */
    int32_t *rows;    /* (N): queries */
} HeadSlots;
cudaError_t head_slots_launch(const HeadSlots *slots, cudaStream_t stream);

/* rows[n] = queries, lengths[n] = keys */
typedef struct HeadCounts {
    int64_t samples;
    int32_t queries, keys;
    int32_t *rows, *lengths; /* (N) */
} HeadCounts;
cudaError_t head_counts_launch(const HeadCounts *counts, cudaStream_t stream);

/* delta (N,heads,T) = the dot products of the rows of y and dy, T of them in a sample. */
typedef struct HeadDots {
    HeadRows y, dy;
    Dtype type;
    int64_t samples, heads, rows, d;
    float *delta;
} HeadDots;
cudaError_t head_dots_launch(const HeadDots *dots, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
