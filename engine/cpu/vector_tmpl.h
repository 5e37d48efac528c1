/* Included by each isa_*.c, which sets VL (floats a vector), ISA_NAME and ISA_TABLE: the vector type and its
 * arithmetic, then the kernels, then the table. Everything is static, so each instruction set has its own copy. */
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
typedef uint16_t VecHalfAt __attribute__((vector_size(2 * VL), aligned(2), may_alias));

INLINE Vec vec_set(float x)
{
    return x - (Vec){0};
}

INLINE Vec vec_select(VecInt mask, Vec yes, Vec no)
{
    return (Vec)((mask & (VecInt)yes) | (~mask & (VecInt)no));
}

INLINE Vec vec_max(Vec a, Vec b)
{
    return vec_select(a > b, a, b);
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
    VecBits bits = (VecBits)x, nan = (VecBits)(x != x);
    VecBits rounded = bits + 0x7fff + ((bits >> 16) & 1);
    return __builtin_convertvector(((rounded & ~nan) | ((bits | 0x400000) & nan)) >> 16, VecHalf);
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

/* e^x to 2 ulp by x = n ln 2 + r, 2^n and a polynomial in r in [-ln2/2, ln2/2]; below -87.3 zero, above 88.3 held. */
INLINE Vec vec_exp(Vec x)
{
    const float log2_e = 1.44269504f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
    const float round_magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    VecInt tiny = x < vec_set(-87.3f);
    x = vec_select(x > vec_set(88.3f), vec_set(88.3f), x);
    x = vec_select(tiny, vec_set(-87.3f), x);
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
    Vec power = (Vec)(((VecInt)shifted - (VecInt)vec_set(round_magic) + 127) << 23);
    return (Vec)((VecInt)(p * power) & ~tiny);
}

/* In this form the lower tail goes to zero exactly, however large |x|. */
INLINE Vec vec_sigmoid(Vec x)
{
    Vec e = vec_exp(x);
    return e / (1.0f + e);
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

/* 1 + tanh(u) = 2 sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3) (Hendrycks & Gimpel 2016) */
INLINE Vec vec_gelu_tanh_gate(Vec x)
{
    return vec_sigmoid(1.59576912f * (x + 0.044715f * x * x * x));
}

INLINE Vec vec_activate(Vec x, Activation act)
{
    switch (act) {
    case ACT_SILU:
        return x * vec_sigmoid(x);
    case ACT_GELU:
        return x * vec_normal_cdf(x);
    case ACT_GELU_TANH:
        return x * vec_gelu_tanh_gate(x);
    default:
        return x;
    }
}

INLINE Vec vec_activate_slope(Vec x, Activation act)
{
    switch (act) {
    case ACT_SILU: {
        Vec s = vec_sigmoid(x);
        return s * (1.0f + x * (1.0f - s));
    }
    case ACT_GELU:
        return vec_normal_cdf(x) + x * 0.39894228f * vec_exp(-0.5f * x * x);
    case ACT_GELU_TANH: {
        Vec s = vec_gelu_tanh_gate(x);
        return s + x * s * (1.0f - s) * 1.59576912f * (1.0f + 0.134145f * x * x);
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

const VectorKernels ISA_TABLE = {
    .name = ISA_NAME,
    .copy_rows = copy_rows,
    .add = add,
    .affine = affine,
    .activate = activate,
    .activate_grad = activate_grad,
    .column_sums = column_sums,
    .norm_sums = norm_sums,
    .norm_apply = norm_apply,
    .norm_grad_sums = norm_grad_sums,
    .norm_grad_apply = norm_grad_apply,
    .layer_norm = layer_norm,
    .layer_norm_grad = layer_norm_grad,
    .softmax_row = softmax_row,
    .softmax_grad_row = softmax_grad_row,
    .dot = dot,
    .pool_row = pool_row,
};
