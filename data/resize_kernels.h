/* The loops of the resizer, once in plain C and once for each instruction set; all give the same numbers. Used by
 * resize.c and its test only. */
#ifndef DATA_RESIZE_KERNELS_H
#define DATA_RESIZE_KERNELS_H

#include "data/resize.h"

#define RESIZE_READS 16 /* bytes that a kernel may read from the first byte of a row's last pixel on */
#define RESIZE_PITCH 64 /* the middle picture's rows hold a multiple of this many numbers */

typedef struct ResizeKernels {
    const char *name;
    /* RESIZE_ROWS rows into two rows of pairs: out[p][3 i + c] = level of row 2 p | level of row 2 p + 1 << 16. Writes
     * up to one number behind the row. */
    void (*rows)(const ResizeAxis *axis, const uint8_t *const in[RESIZE_ROWS], bool mirror, uint32_t *const out[2]);
    /* Row i of the result, `width` bytes, from a ring of rows of pairs. */
    void (*column)(const ResizeAxis *axis, int i, const uint32_t *ring, size_t pitch, int mask, size_t width,
                   uint8_t *out);
} ResizeKernels;

/* Those that this processor can run, the fastest last; NULL behind it. */
const ResizeKernels *resize_kernels_available(int i);

extern const ResizeKernels resize_kernels_plain;
#ifdef __x86_64__
extern const ResizeKernels resize_kernels_sse2, resize_kernels_avx2;
#endif

/* Numbers in a row of weights: a multiple of four taps, which the kernels take at once, a zero before and behind. */
static inline size_t resize_stride(const ResizeAxis *axis)
{
    return ((size_t)axis->max_taps + 3) / 4 * 4 + 4;
}

/* Weights of target pixel i, one for each tap; before the first and behind the last there are zeros. */
static inline const int16_t *resize_weights(const ResizeAxis *axis, int i)
{
    return axis->weights + (size_t)i * resize_stride(axis) + 1;
}

#endif
