/* Included by each isa_*.c, which sets VL (floats a vector), ISA_NAME and ISA_TABLE: the vector type and its
 * arithmetic, then the kernels, then the table. Everything is static, so each instruction set has its own copy. */
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "base/bf16.h"
#include "engine/cpu/vector.h"

#define INLINE static inline __attribute__((always_inline))

typedef float Vec __attribute__((vector_size(4 * VL)));
typedef int32_t VecInt __attribute__((vector_size(4 * VL)));
typedef uint32_t VecBits __attribute__((vector_size(4 * VL)));
typedef uint16_t VecHalf __attribute__((vector_size(2 * VL)));
/* The same in memory, at any address. */
typedef float VecAt __attribute__((vector_size(4 * VL), aligned(4), may_alias));
typedef int32_t VecIntAt __attribute__((vector_size(4 * VL), aligned(4), may_alias));
typedef uint16_t VecHalfAt __attribute__((vector_size(2 * VL), aligned(2), may_alias));

INLINE Vec vec_set(float x)
{
    return x - (Vec){0};
}

INLINE Vec vec_select(VecInt mask, Vec yes, Vec no)
{
    return (Vec)((mask & (VecInt)yes) | (~mask & (VecInt)no));
}

/* The smaller and the larger; `b` when either is a NaN. */
INLINE Vec vec_min(Vec a, Vec b)
{
#if VL == 16
    return (Vec)_mm512_min_ps((__m512)a, (__m512)b);
#elif VL == 8
    return (Vec)_mm256_min_ps((__m256)a, (__m256)b);
#else
    return (Vec)_mm_min_ps((__m128)a, (__m128)b);
#endif
}

INLINE Vec vec_max(Vec a, Vec b)
{
#if VL == 16
    return (Vec)_mm512_max_ps((__m512)a, (__m512)b);
#elif VL == 8
    return (Vec)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return (Vec)_mm_max_ps((__m128)a, (__m128)b);
#endif
}

/* Fixed order of addition: halves, quarters, ... */
INLINE float vec_sum(Vec x)
{
    float lane[VL];
    memcpy(lane, &x, sizeof lane);
    for (int step = VL / 2; step > 0; step /= 2)
        for (int i = 0; i < step; i++) lane[i] += lane[i + step];
    return lane[0];
}

INLINE float vec_largest(Vec x)
{
    float lane[VL];
    memcpy(lane, &x, sizeof lane);
    float largest = lane[0];
    for (int i = 1; i < VL; i++) largest = lane[i] > largest ? lane[i] : largest;
    return largest;
}

INLINE Vec widen(VecHalf half)
{
    return (Vec)(__builtin_convertvector(half, VecBits) << 16);
}

/* Round to nearest even, NaN stays NaN (base/bf16.h). */
INLINE VecHalf narrow(Vec x)
{
    VecBits bits = (VecBits)x, rounded = bits + 0x7fff + ((bits >> 16) & 1);
#if VL == 16
    const __mmask16 nan = _mm512_cmp_ps_mask((__m512)x, (__m512)x, _CMP_UNORD_Q);
    rounded = (VecBits)_mm512_mask_or_epi32((__m512i)rounded, nan, (__m512i)bits, _mm512_set1_epi32(0x400000));
#else
    const VecBits nan = (VecBits)(x != x);
    rounded = (rounded & ~nan) | ((bits | 0x400000) & nan);
#endif
    return __builtin_convertvector(rounded >> 16, VecHalf);
}

/* The nearest number of IEEE half precision (11 significant bits), as a float: ties to even, infinite beyond 65504.
 * Below the smallest normal, 2^-14, adding 1/2 leaves a unit of 2^-24, just what subnormal halves have. */
INLINE Vec vec_round_half(Vec x)
{
    const VecInt sign = (VecInt)x & (int32_t)0x80000000, magnitude = (VecInt)x & 0x7fffffff;
    VecInt normal = (magnitude + 0xfff + ((magnitude >> 13) & 1)) & ~0x1fff;
    const VecInt beyond = normal > 0x477fe000; /* 65504 */
    normal = (normal & ~beyond) | (0x7f800000 & beyond);
    const VecInt small = (VecInt)(((Vec)magnitude + 0.5f) - 0.5f);
    const VecInt is_small = magnitude < 0x38800000; /* 2^-14 */
    const VecInt rounded = sign | (small & is_small) | (normal & ~is_small);
    return vec_select(magnitude > 0x7f800000, x, (Vec)rounded); /* NaN stays NaN */
}

INLINE Vec load(const void *memory, int64_t at, Dtype type)
{
    if (type == DTYPE_BF16) return widen(*(const VecHalfAt *)((const Bf16 *)memory + at));
    return *(const VecAt *)((const float *)memory + at);
}

INLINE void store(void *memory, int64_t at, Dtype type, Vec x)
{
    if (type == DTYPE_BF16) {
        *(VecHalfAt *)((Bf16 *)memory + at) = narrow(x);
    } else {
        *(VecAt *)((float *)memory + at) = x;
    }
}

/* The first `count` < VL elements; the rest are zeros, or untouched. */
INLINE Vec load_part(const void *memory, int64_t at, Dtype type, int64_t count)
{
    if (type == DTYPE_BF16) {
        VecHalf half = {0};
        memcpy(&half, (const Bf16 *)memory + at, (size_t)count * sizeof(Bf16));
        return widen(half);
    }
    Vec x = {0};
    memcpy(&x, (const float *)memory + at, (size_t)count * sizeof(float));
    return x;
}

INLINE void store_part(void *memory, int64_t at, Dtype type, Vec x, int64_t count)
{
    if (type == DTYPE_BF16) {
        VecHalf half = narrow(x);
        memcpy((Bf16 *)memory + at, &half, (size_t)count * sizeof(Bf16));
    } else {
        memcpy((float *)memory + at, &x, (size_t)count * sizeof(float));
    }
}

/* e^x to 2 ulp by x = n ln 2 + r, 2^n and a polynomial in r in [-ln2/2, ln2/2]; zero below -87.7, held above 88.3. */
INLINE Vec vec_exp(Vec x)
{
    const float log2_e = 1.44269504f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
    const float round_magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    x = vec_min(vec_set(88.3f), vec_max(vec_set(-88.02f), x));
    Vec shifted = x * log2_e + round_magic;
    Vec n = shifted - round_magic;
    Vec r = x - n * ln2_high;
    r = r - n * ln2_low;
    /* The polynomial of Cephes' expf. */
    Vec p = vec_set(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    /* 2^n, and 0 for n = -127; the magic number's own bits all fall out of the shift. */
    return p * (Vec)(((VecInt)shifted + 127) << 23);
}

/* sigmoid(x) = e^x / (1 + e^x), and 1 - sigmoid(x) = 1 / (1 + e^x) without cancellation. In this form the lower tail
 * goes to zero exactly, however large |x|. */
INLINE Vec vec_sigmoid_pair(Vec x, Vec *complement)
{
#if VL == 16
    /* A reciprocal to 14 bits and a Newton step: half the time of a division. e stays far from overflow. */
    Vec e = vec_exp(vec_min(vec_set(60.0f), x)), d = 1.0f + e;
    Vec guess = (Vec)_mm512_rcp14_ps((__m512)d);
    *complement = guess * (2.0f - d * guess);
#else
    Vec e = vec_exp(x);
    *complement = 1.0f / (1.0f + e);
#endif
    return e * *complement;
}

INLINE Vec vec_sigmoid(Vec x)
{
    Vec complement;
    return vec_sigmoid_pair(x, &complement);
}

INLINE Vec vec_abs(Vec x)
{
    return (Vec)((VecInt)x & 0x7fffffff);
}

/* The standard normal's distribution function, absolute error 2e-7, relative 5e-6 in the lower tail:
 * erfc(z) = t e^(-z^2 + P(t)), t = 1 / (1 + z/2), the Chebyshev fit of Numerical Recipes (erfcc), z = |x| / sqrt 2. */
INLINE Vec vec_normal_cdf(Vec x)
{
    Vec z = vec_abs(x) * 0.70710678f;
    Vec t = 1.0f / (1.0f + 0.5f * z);
    Vec p = vec_set(0.17087277f);
    p = p * t - 0.82215223f;
    p = p * t + 1.48851587f;
    p = p * t - 1.13520398f;
    p = p * t + 0.27886807f;
    p = p * t - 0.18628806f;
    p = p * t + 0.09678418f;
    p = p * t + 0.37409196f;
    p = p * t + 1.00002368f;
    p = p * t - 1.26551223f;
    Vec tail = 0.5f * t * vec_exp(p - z * z);
    return vec_select(x < (Vec){0}, tail, 1.0f - tail);
}

/* (1 + tanh(u)) / 2 = sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3) (Hendrycks & Gimpel 2016); this is 2u. */
INLINE Vec vec_gelu_tanh_argument(Vec x)
{
    return 1.59576912f * (x + 0.044715f * x * x * x);
}

INLINE Vec vec_activate(Vec x, Activation act)
{
    switch (act) {
    case ACT_SILU:
        return x * vec_sigmoid(x);
    case ACT_GELU:
        return x * vec_normal_cdf(x);
    case ACT_GELU_TANH:
        return x * vec_sigmoid(vec_gelu_tanh_argument(x));
    default:
        return x;
    }
}

INLINE Vec vec_activate_slope(Vec x, Activation act)
{
    switch (act) {
    case ACT_SILU: {
        Vec rest, s = vec_sigmoid_pair(x, &rest);
        return s * (1.0f + x * rest);
    }
    case ACT_GELU:
        return vec_normal_cdf(x) + x * 0.39894228f * vec_exp(-0.5f * x * x);
    case ACT_GELU_TANH: {
        Vec rest, s = vec_sigmoid_pair(vec_gelu_tanh_argument(x), &rest);
        return s + x * s * rest * 1.59576912f * (1.0f + 0.134145f * x * x);
    }
    default:
        return vec_set(1.0f);
    }
}

/* Runs BODY(type) with the type known to the compiler. */
#define BY_TYPE(type, BODY)         \
    do {                            \
        if ((type) == DTYPE_BF16) { \
            BODY(DTYPE_BF16);       \
        } else {                    \
            BODY(DTYPE_F32);        \
        }                           \
    } while (0)

#include "engine/cpu/vector_rows_tmpl.h"

#include "engine/cpu/vector_norm_tmpl.h"

#include "engine/cpu/vector_softmax_tmpl.h"

#include "engine/cpu/vector_winograd_tmpl.h"

#include "engine/cpu/vector_pack_tmpl.h"

const VectorKernels ISA_TABLE = {
    .name = ISA_NAME,
    .copy_rows = copy_rows,
    .add = add,
    .multiply = multiply,
    .round_to = round_to,
    .affine = affine,
    .activate = activate,
    .activate_grad = activate_grad,
    .column_sums = column_sums,
    .norm_sums = norm_sums,
    .norm_apply = norm_apply,
    .norm_grad_sums = norm_grad_sums,
    .norm_grad_apply = norm_grad_apply,
    .layer_norm = layer_norm,
    .rms_norm = rms_norm,
    .layer_norm_grad = layer_norm_grad,
    .softmax_row = softmax_row,
    .softmax_grad_row = softmax_grad_row,
    .dot = dot,
    .pool_row = pool_row,
    .winograd_input = winograd_input,
    .winograd_output = winograd_output,
    .winograd_weights = winograd_weights,
    .winograd_dy = winograd_dy,
    .winograd_dweights = winograd_dweights,
    PACK_KERNELS,
};
