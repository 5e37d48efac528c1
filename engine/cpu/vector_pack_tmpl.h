/* Part of vector_tmpl.h: pieces of weights into and out of the layouts of matrix kernels (engine/cpu/packing.h). Only
 * with 16 floats a vector; the others leave it to oneDNN. */
#if VL == 16
/* The bits of x rounded to bf16 in the upper half of each lane; the lower half is garbage. */
INLINE VecBits half_bits(Vec x)
{
    const VecBits bits = (VecBits)x, rounded = bits + 0x7fff + ((bits >> 16) & 1);
    const __mmask16 nan = _mm512_cmp_ps_mask((__m512)x, (__m512)x, _CMP_UNORD_Q);
    return (VecBits)_mm512_mask_or_epi32((__m512i)rounded, nan, (__m512i)bits, _mm512_set1_epi32(0x400000));
}

/* Two bf16 a lane, `first` in the lower half. */
INLINE __m512i pair_up(VecBits first, VecBits second)
{
    return (__m512i)(first >> 16 | (second & 0xffff0000u));
}

/* To memory without reading it into the caches first: half of the time of a reorder. */
INLINE void stream(void *to, __m512i x)
{
    _mm512_stream_si512(to, x);
}

/* Rows become columns. */
INLINE void transpose16(__m512i r[16])
{
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) { /* r[4 g + i]: columns i, i + 4, i + 8, i + 12 of rows 4 g to 4 g + 3 */
        const __m512i a = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88), b = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd);
        const __m512i c = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88);
        const __m512i d = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
        t[i] = _mm512_shuffle_i32x4(a, c, 0x88);
        t[4 + i] = _mm512_shuffle_i32x4(b, d, 0x88);
        t[8 + i] = _mm512_shuffle_i32x4(a, c, 0xdd);
        t[12 + i] = _mm512_shuffle_i32x4(b, d, 0xdd);
    }
    for (int i = 0; i < 16; i++) r[i] = t[i];
}

static void pack_pairs_along(const float *x, int64_t pitch, uint16_t *y, const int64_t at[16])
{
    const __m512i even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    const __m512i odd = _mm512_set_epi32(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    __m512i r[16];
    for (int i = 0; i < 16; i++) {
        const __m512i a = (__m512i)half_bits((Vec)_mm512_loadu_ps(x + i * pitch));
        const __m512i b = (__m512i)half_bits((Vec)_mm512_loadu_ps(x + i * pitch + 16));
        r[i] = pair_up((VecBits)_mm512_permutex2var_epi32(a, even, b), (VecBits)_mm512_permutex2var_epi32(a, odd, b));
    }
    transpose16(r);
    for (int i = 0; i < 16; i++) stream(y + at[i], r[i]);
}

static void pack_pairs_across(const float *x, int64_t pitch, int64_t pairs, uint16_t *y, int64_t y_pitch)
{
    for (int64_t i = 0; i < pairs; i++) {
        const VecBits first = half_bits((Vec)_mm512_loadu_ps(x + 2 * i * pitch));
        const VecBits second = half_bits((Vec)_mm512_loadu_ps(x + (2 * i + 1) * pitch));
        stream(y + i * y_pitch, pair_up(first, second));
    }
}

static void unpack_square(const float *x, float *y, int64_t pitch, bool add)
{
    __m512i r[16];
    for (int i = 0; i < 16; i++) r[i] = _mm512_loadu_si512(x + 16 * i);
    transpose16(r);
    if (!add && ((uintptr_t)y | (uintptr_t)pitch * sizeof *y) % 64 == 0) {
        for (int i = 0; i < 16; i++) stream(y + i * pitch, r[i]);
        return;
    }
    for (int i = 0; i < 16; i++) {
        Vec value = (Vec)r[i];
        if (add) value += (Vec)_mm512_loadu_ps(y + i * pitch);
        _mm512_storeu_ps(y + i * pitch, (__m512)value);
    }
}
#define PACK_KERNELS \
    .pack_pairs_along = pack_pairs_along, .pack_pairs_across = pack_pairs_across, .unpack_square = unpack_square
#else
#define PACK_KERNELS .pack_pairs_along = NULL
#endif
