/* The resizer's loops in plain C, which compilers turn into what vectors the target has. */
#include <string.h>

#include "data/resize_kernels.h"

static uint32_t level(int32_t sum, int bits)
{
    int32_t v = sum >> bits;
    return (uint32_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

typedef int32_t Int4 __attribute__((vector_size(16)));
typedef uint8_t Byte4 __attribute__((vector_size(4)));

/* A pixel; the fourth number belongs to the next one and does no harm. */
static inline Int4 pixel(const uint8_t *at)
{
    Byte4 bytes;
    memcpy(&bytes, at, sizeof bytes);
    return __builtin_convertvector(bytes, Int4);
}

/* Two rows. */
static void pair(const ResizeAxis *axis, const uint8_t *a, const uint8_t *b, bool mirror, uint32_t *out)
{
    const int32_t half = (int32_t)1 << (axis->bits - 1);
    for (int j = 0; j < axis->to; j++, out += 3) {
        int i = mirror ? axis->to - 1 - j : j;
        const int16_t *w = resize_weights(axis, i);
        size_t at = 3 * (size_t)axis->first[i];
        Int4 low = {half, half, half, half}, high = low;
        for (int k = 0; k < axis->taps[i]; k++, at += 3) {
            low += pixel(a + at) * w[k];
            high += pixel(b + at) * w[k];
        }
        for (int c = 0; c < 3; c++) out[c] = level(low[c], axis->bits) | level(high[c], axis->bits) << 16;
    }
}

static void rows(const ResizeAxis *axis, const uint8_t *const in[RESIZE_ROWS], bool mirror, uint32_t *const out[2])
{
    for (int p = 0; p < 2; p++) pair(axis, in[2 * p], in[2 * p + 1], mirror, out[p]);
}

#define BLOCK 64

static void column(const ResizeAxis *axis, int i, const uint32_t *ring, size_t pitch, int mask, size_t width,
                   uint8_t *out)
{
    int odd = axis->first[i] & 1, at = axis->first[i] / 2, pairs = (odd + axis->taps[i] + 1) / 2;
    const int16_t *w = resize_weights(axis, i) - odd;
    for (size_t x = 0; x < width; x += BLOCK) {
        int32_t sums[BLOCK];
        for (int b = 0; b < BLOCK; b++) sums[b] = (int32_t)1 << (axis->bits - 1);
        for (int k = 0; k < pairs; k++) {
            const uint32_t *p = ring + (size_t)((at + k) & mask) * pitch + x;
            int32_t w0 = w[2 * k], w1 = w[2 * k + 1];
            for (int b = 0; b < BLOCK; b++) sums[b] += (int32_t)(p[b] & 0xffff) * w0 + (int32_t)(p[b] >> 16) * w1;
        }
        size_t count = width - x < BLOCK ? width - x : BLOCK;
        for (size_t b = 0; b < count; b++) out[x + b] = (uint8_t)level(sums[b], axis->bits);
    }
}

const ResizeKernels resize_kernels_plain = {"plain", rows, column};
