/* Stand-in for the part of CUDA's cuda_fp16.h that kernels use: storage and conversions. C++ only. */
#ifndef TESTS_EMU_CUDA_FP16_H
#define TESTS_EMU_CUDA_FP16_H

#include <stdint.h>
#include <string.h>

namespace emu
{
static inline float f16_widen(unsigned short bits)
{
    const uint32_t sign = (uint32_t)(bits & 0x8000u) << 16, exponent = bits >> 10 & 31u, fraction = bits & 1023u;
    uint32_t u = sign | (exponent + 112) << 23 | fraction << 13;
    float f;
    if (exponent == 31) u = sign | 0x7f800000u | fraction << 13;
    memcpy(&f, &u, sizeof f);
    if (exponent > 0) return f;
    const float small = (float)fraction / 16777216.0f; /* 2^-24 each */
    return sign ? -small : small;
}
/* To nearest even. */
static inline unsigned short f16_narrow(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    const unsigned short sign = (unsigned short)(u >> 16 & 0x8000u);
    const uint32_t size = u & 0x7fffffffu;
    if (size > 0x7f800000u) return 0x7fff;
    if (size >= 0x477ff000u) return (unsigned short)(sign | 0x7c00u); /* 65520 and more */
    if (size >= 0x38800000u) return (unsigned short)(sign | ((size - 0x38000000u + 0xfffu + (size >> 13 & 1u)) >> 13));
    float magnitude;
    memcpy(&magnitude, &size, sizeof magnitude);
    magnitude += 0.5f; /* its last bit is worth 2^-24 there: the sum rounds to one */
    memcpy(&u, &magnitude, sizeof u);
    return (unsigned short)(sign | (u - 0x3f000000u));
}
} // namespace emu

struct __half {
    unsigned short bits;
};
typedef __half half;

static inline __half __float2half_rn(float f)
{
    return __half{emu::f16_narrow(f)};
}
static inline __half __float2half(float f)
{
    return __float2half_rn(f);
}
static inline float __half2float(__half h)
{
    return emu::f16_widen(h.bits);
}
static inline unsigned short __half_as_ushort(__half h)
{
    return h.bits;
}
static inline __half __ushort_as_half(unsigned short bits)
{
    return __half{bits};
}

#endif
