/* The resizer's loops for x86-64: any, and with AVX2. A lane of 128 bits holds a row: from the bytes at a
 * pixel, shuffles make pairs of neighbouring pixels' channels, which one multiply-add with a pair of weights takes.
 *
 * With vectors of 512 bits these loops were a tenth faster and decoding, which comes in between, slower by more: the
 * processor lowers its clock for a while after each use of them. */
#ifdef __x86_64__
#include <immintrin.h>
#include <string.h>

#include "data/resize_kernels.h"

#define AVX2 __attribute__((target("avx2")))

/* Pixels 0 and 1, or 2 and 3, of 16 bytes: (r0 r1 g0 g1 b0 b1 - -), 16 bits each. */
#define Z ((char)0x80)
#define PIXELS_01 _mm_setr_epi8(0, Z, 3, Z, 1, Z, 4, Z, 2, Z, 5, Z, Z, Z, Z, Z)
#define PIXELS_23 _mm_setr_epi8(6, Z, 9, Z, 7, Z, 10, Z, 8, Z, 11, Z, Z, Z, Z, Z)

static inline int32_t weight_pair(const int16_t *w)
{
    int32_t both;
    memcpy(&both, w, sizeof both);
    return both;
}

static inline __m128i load16(const uint8_t *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

/* ---- SSE2 ---- */

static inline __m128i add_two(__m128i sum, const uint8_t *p, __m128i w)
{
    __m128i first = _mm_loadl_epi64((const __m128i *)(const void *)p);
    __m128i second = _mm_loadl_epi64((const __m128i *)(const void *)(p + 3));
    __m128i pairs = _mm_unpacklo_epi8(_mm_unpacklo_epi8(first, second), _mm_setzero_si128());
    return _mm_add_epi32(sum, _mm_madd_epi16(pairs, w));
}

static void rows_sse2(const ResizeAxis *axis, const uint8_t *const in[RESIZE_ROWS], bool mirror, uint32_t *const out[2])
{
    const __m128i half = _mm_set1_epi32((int32_t)1 << (axis->bits - 1)), bits = _mm_cvtsi32_si128(axis->bits);
    for (int j = 0; j < axis->to; j++) {
        int i = mirror ? axis->to - 1 - j : j;
        const int16_t *w = resize_weights(axis, i);
        size_t at = 3 * (size_t)axis->first[i];
        __m128i sum[RESIZE_ROWS] = {half, half, half, half};
        for (int k = 0; k < axis->taps[i]; k += 2, at += 6)
            for (int y = 0; y < RESIZE_ROWS; y++)
                sum[y] = add_two(sum[y], in[y] + at, _mm_set1_epi32(weight_pair(w + k)));
        for (int p = 0; p < 2; p++) {
            __m128i a = _mm_sra_epi32(sum[2 * p], bits), b = _mm_sra_epi32(sum[2 * p + 1], bits);
            /* clipped to 8 bits, then (a0 b0 a1 b1 ...) in 16 */
            __m128i levels = _mm_packus_epi16(_mm_packs_epi32(a, b), _mm_setzero_si128());
            levels = _mm_unpacklo_epi8(levels, _mm_setzero_si128());
            levels = _mm_unpacklo_epi16(levels, _mm_srli_si128(levels, 8));
            _mm_storeu_si128((__m128i *)(void *)(out[p] + 3 * (size_t)j), levels);
        }
    }
}

static void column_sse2(const ResizeAxis *axis, int i, const uint32_t *ring, size_t pitch, int mask, size_t width,
                        uint8_t *out)
{
    const __m128i half = _mm_set1_epi32((int32_t)1 << (axis->bits - 1)), bits = _mm_cvtsi32_si128(axis->bits);
    int odd = axis->first[i] & 1, at = axis->first[i] / 2, pairs = (odd + axis->taps[i] + 1) / 2;
    const int16_t *w = resize_weights(axis, i) - odd;
    for (size_t x = 0; x < width; x += 16) {
        __m128i sum[4] = {half, half, half, half};
        for (int k = 0; k < pairs; k++) {
            const __m128i *p = (const __m128i *)(const void *)(ring + (size_t)((at + k) & mask) * pitch + x);
            __m128i both = _mm_set1_epi32(weight_pair(w + 2 * k));
            for (int b = 0; b < 4; b++) sum[b] = _mm_add_epi32(sum[b], _mm_madd_epi16(_mm_load_si128(p + b), both));
        }
        for (int b = 0; b < 4; b++) sum[b] = _mm_sra_epi32(sum[b], bits);
        __m128i bytes = _mm_packus_epi16(_mm_packs_epi32(sum[0], sum[1]), _mm_packs_epi32(sum[2], sum[3]));
        if (width - x >= 16)
            _mm_storeu_si128((__m128i *)(void *)(out + x), bytes);
        else
            memcpy(out + x, &bytes, width - x);
    }
}

/* ---- AVX2 ---- */

AVX2 static inline __m256i load_two(const uint8_t *a, const uint8_t *b)
{
    return _mm256_inserti128_si256(_mm256_castsi128_si256(load16(a)), load16(b), 1);
}

AVX2 static inline __m256i add_four(__m256i sum, __m256i pixels, __m256i w01, __m256i w23)
{
    const __m256i p01 = _mm256_broadcastsi128_si256(PIXELS_01), p23 = _mm256_broadcastsi128_si256(PIXELS_23);
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_shuffle_epi8(pixels, p01), w01));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_shuffle_epi8(pixels, p23), w23));
}

/* Sums of two rows to a pixel of pairs; the fourth number is of no use and is overwritten. */
AVX2 static inline void store_pair(__m256i sum, __m128i bits, uint32_t *out)
{
    __m256i v = _mm256_sra_epi32(sum, bits);
    v = _mm256_min_epi32(_mm256_max_epi32(v, _mm256_setzero_si256()), _mm256_set1_epi32(255));
    __m128i both = _mm_or_si128(_mm256_castsi256_si128(v), _mm_slli_epi32(_mm256_extracti128_si256(v, 1), 16));
    _mm_storeu_si128((__m128i *)(void *)out, both);
}

AVX2 static void rows_avx2(const ResizeAxis *axis, const uint8_t *const in[RESIZE_ROWS], bool mirror,
                           uint32_t *const out[2])
{
    const __m256i half = _mm256_set1_epi32((int32_t)1 << (axis->bits - 1));
    const __m128i bits = _mm_cvtsi32_si128(axis->bits);
    for (int j = 0; j < axis->to; j++) {
        int i = mirror ? axis->to - 1 - j : j;
        const int16_t *w = resize_weights(axis, i);
        size_t at = 3 * (size_t)axis->first[i];
        __m256i low = half, high = half;
        for (int k = 0; k < axis->taps[i]; k += 4, at += 12) {
            __m256i w01 = _mm256_set1_epi32(weight_pair(w + k)), w23 = _mm256_set1_epi32(weight_pair(w + k + 2));
            low = add_four(low, load_two(in[0] + at, in[1] + at), w01, w23);
            high = add_four(high, load_two(in[2] + at, in[3] + at), w01, w23);
        }
        store_pair(low, bits, out[0] + 3 * (size_t)j);
        store_pair(high, bits, out[1] + 3 * (size_t)j);
    }
}

AVX2 static void column_avx2(const ResizeAxis *axis, int i, const uint32_t *ring, size_t pitch, int mask, size_t width,
                             uint8_t *out)
{
    const __m256i half = _mm256_set1_epi32((int32_t)1 << (axis->bits - 1));
    const __m128i bits = _mm_cvtsi32_si128(axis->bits);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    int odd = axis->first[i] & 1, at = axis->first[i] / 2, pairs = (odd + axis->taps[i] + 1) / 2;
    const int16_t *w = resize_weights(axis, i) - odd;
    for (size_t x = 0; x < width; x += 32) {
        __m256i sum[4] = {half, half, half, half};
        for (int k = 0; k < pairs; k++) {
            const __m256i *p = (const __m256i *)(const void *)(ring + (size_t)((at + k) & mask) * pitch + x);
            __m256i both = _mm256_set1_epi32(weight_pair(w + 2 * k));
            for (int b = 0; b < 4; b++)
                sum[b] = _mm256_add_epi32(sum[b], _mm256_madd_epi16(_mm256_load_si256(p + b), both));
        }
        for (int b = 0; b < 4; b++) sum[b] = _mm256_sra_epi32(sum[b], bits);
        __m256i bytes = _mm256_packus_epi16(_mm256_packs_epi32(sum[0], sum[1]), _mm256_packs_epi32(sum[2], sum[3]));
        bytes = _mm256_permutevar8x32_epi32(bytes, order);
        if (width - x >= 32)
            _mm256_storeu_si256((__m256i *)(void *)(out + x), bytes);
        else
            memcpy(out + x, &bytes, width - x);
    }
}

const ResizeKernels resize_kernels_sse2 = {"sse2", rows_sse2, column_sse2};
const ResizeKernels resize_kernels_avx2 = {"avx2", rows_avx2, column_avx2};
#else
typedef int resize_x86_is_empty; /* ISO C wants a declaration */
#endif
