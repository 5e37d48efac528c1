/* Our own vector kernels: plain loops over contiguous rows, one thread, no allocation. vector_tmpl.h is compiled once
 * per instruction set (isa_*.c); vector_kernels picks a table at run time. Operands are F32 or BF16 as `type` says,
 * arithmetic is fp32. Pointers need the alignment of their element only. */
#ifndef ENGINE_CPU_VECTOR_H
#define ENGINE_CPU_VECTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/op.h"

/* Rows of `width` elements, `x_pitch` and `y_pitch` elements apart:  y = scale * row_scale[row] * x, or y += ... */
typedef struct CopyRows {
    const void *x;
    void *y;
    Dtype x_type, y_type;
    int64_t x_pitch, y_pitch, rows, width;
    float scale;
    const float *row_scale; /* NULL: ones */
    bool add;
} CopyRows;

/* Normalisation of x (rows, channels):  d = x - mean[c];  v = d * scale[c] + shift[c];  y = act(v). */
typedef struct NormRows {
    const void *x;
    Dtype type;
    int64_t rows, channels;
    const float *mean, *scale, *shift;
    Activation act; /* ACT_NONE or ACT_SILU */
} NormRows;

typedef struct LayerNormRows {
    const void *x;
    Dtype type;
    int64_t rows, channels;
    const float *gamma, *beta;
    float eps;
    float *stats; /* (rows,2: mean, rstd); written forward, read backward */
} LayerNormRows;

/* One row of attention scores in fp32, `keys` long. */
typedef struct ScoreRow {
    float *scores; /* q.k, unscaled */
    int64_t keys;
    float scale;
    const float *bias;   /* added to the scaled scores; NULL: none */
    const int32_t *mask; /* 0 hides a key, of the first `masked`; NULL: none */
    int64_t masked;
    void *p; /* out: probabilities, not yet divided by their sum (forward); may be `scores` when F32 */
    Dtype p_type;
} ScoreRow;

typedef struct VectorKernels {
    const char *name;
    void (*copy_rows)(const CopyRows *args);
    /* y = a + b, or y += a + b */
    void (*add)(const void *a, const void *b, void *y, Dtype type, int64_t count, bool accumulate);
    /* y = a b, or y += a b */
    void (*multiply)(const void *a, const void *b, void *y, Dtype type, int64_t count, bool accumulate);
    /* F32 to the nearest numbers of f16 or bf16, ties to even, kept in F32; x may be y */
    void (*round_to)(const float *x, float *y, int64_t count, RoundTo to);
    /* y = scale x + shift, or y += ... */
    void (*affine)(const void *x, void *y, Dtype type, int64_t count, float scale, float shift, bool accumulate);
    void (*activate)(const void *x, void *y, Dtype type, int64_t count, Activation act);
    /* dx = dy act'(x), or dx += ... */
    void (*activate_grad)(const void *x, const void *dy, void *dx, Dtype type, int64_t count, Activation act,
                          bool accumulate);
    /* sum[c] += the column's sum */
    void (*column_sums)(const void *x, Dtype type, int64_t rows, int64_t channels, float *sum);

    /* sum[c] += sum of (x - shift[c]), square[c] += sum of (x - shift[c])^2 */
    void (*norm_sums)(const void *x, Dtype type, int64_t rows, int64_t channels, const float *shift, float *sum,
                      float *square);
    void (*norm_apply)(const NormRows *args, void *y);
    /* With g = dy act'(v):  sum[c] += g, product[c] += g d */
    void (*norm_grad_sums)(const NormRows *args, const void *dy, float *sum, float *product);
    /* dx = g scale[c] - a[c] - d b[c], or dx += ... */
    void (*norm_grad_apply)(const NormRows *args, const void *dy, const float *a, const float *b, void *dx,
                            bool accumulate);

    void (*layer_norm)(const LayerNormRows *args, void *y);
    /* y = x / sqrt(mean of x^2 + eps) gamma; beta and stats are not looked at */
    void (*rms_norm)(const LayerNormRows *args, void *y);
    /* dx (NULL: not wanted) = or += ; dgamma[c] +=, dbeta[c] += */
    void (*layer_norm_grad)(const LayerNormRows *args, const void *dy, void *dx, bool accumulate, float *dgamma,
                            float *dbeta);

    /* p = exp(s - max), returns sum(p) and the log of the sum of exp(s); a row with every key hidden gives zeros, a sum
     * and a logarithm of 0. */
    void (*softmax_row)(const ScoreRow *args, float *sum, float *lse);
    /* p = exp(scale scores - lse);  ds = p (dp - delta) scale, both in p_type; ds may be dp when F32. */
    void (*softmax_grad_row)(const ScoreRow *args, float lse, const float *dp, float delta, void *ds);
    float (*dot)(const void *x, const void *y, Dtype type, int64_t count);

    /* A row of `width` pixels of `channels`: y = or += factor times the sum of 2x2 pixels of rows top and bottom. */
    void (*pool_row)(const void *top, const void *bottom, void *y, Dtype type, int64_t width, int64_t channels,
                     float factor, bool accumulate);

    /* The transforms of Winograd's F(2x2, 3x3), fp32 pixels of `channels`; the 16 results of a 4x4 transform lie
     * `pitch` floats apart (engine/cpu/winograd.h says what they are for). */
    void (*winograd_input)(const float *const pixel[16], int64_t channels, float *v, int64_t pitch);
    /* Pixels that are NULL are not written; `from`, NULL or pixels like those, and bias are added. */
    void (*winograd_output)(const float *m, int64_t pitch, int64_t channels, const float *bias,
                            const float *const from[4], float *const pixel[4]);
    void (*winograd_weights)(const float *const g[9], int64_t channels, float *u, int64_t pitch);
    void (*winograd_dy)(const float *const pixel[4], int64_t channels, float *m, int64_t pitch);
    /* u is the sum of `parts` transforms `part_pitch` floats apart; g = or += */
    void (*winograd_dweights)(const float *u, int64_t pitch, int64_t parts, int64_t part_pitch, int64_t channels,
                              bool accumulate, float *const g[9]);

    /* Weights and oneDNN's layouts (engine/cpu/packing.h); NULL where this instruction set leaves them to the library.
     * They write past the caches: _mm_sfence before another thread reads, and y is 64-byte aligned in the first two.
     * 16 rows of 32 floats, `pitch` apart, to bf16: the 16 rows' values 2 k and 2 k + 1 lie together at y + at[k]. */
    void (*pack_pairs_along)(const float *x, int64_t pitch, uint16_t *y, const int64_t at[16]);
    /* 2 `pairs` rows of 16 floats to bf16: rows 2 k and 2 k + 1 interleaved at y + k y_pitch. */
    void (*pack_pairs_across)(const float *x, int64_t pitch, int64_t pairs, uint16_t *y, int64_t y_pitch);
    /* A dense square of 16 x 16, turned: y[i][j] = or += x[j][i]. */
    void (*unpack_square)(const float *x, float *y, int64_t pitch, bool add);
} VectorKernels;

extern const VectorKernels vector_kernels_sse2, vector_kernels_avx2, vector_kernels_avx512;

/* The best this processor has, or, for tests, the one that the environment's VASILY_ISA names (sse2, avx2, avx512). */
const VectorKernels *vector_kernels(void);
/* The i-th of those that this processor can run, simplest first; NULL past the last. */
const VectorKernels *vector_kernels_available(int i);

#endif
