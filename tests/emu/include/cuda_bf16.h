/* Stand-in for the part of CUDA's cuda_bf16.h that kernels use: storage, conversions as the device rounds them, and
 * arithmetic through fp32. C++ only. */
#ifndef TESTS_EMU_CUDA_BF16_H
#define TESTS_EMU_CUDA_BF16_H

#include <stdint.h>
#include <string.h>

#include "vector_functions.h"

typedef struct __nv_bfloat16_raw {
    unsigned short x;
} __nv_bfloat16_raw;

namespace emu
{
static inline float bf16_widen(unsigned short bits)
{
    const uint32_t u = (uint32_t)bits << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}
/* To nearest even; the device has one NaN. */
static inline unsigned short bf16_narrow(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    if ((u & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
    return (unsigned short)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}
/* Towards zero. */
static inline unsigned short bf16_cut(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return (u & 0x7fffffffu) > 0x7f800000u ? 0x7fff : (unsigned short)(u >> 16);
}
} // namespace emu

/* Fresh ones are not initialised, so that they can lie in shared memory. */
struct __nv_bfloat16 {
    unsigned short bits;
    __nv_bfloat16() = default;
    __nv_bfloat16(float f) : bits(emu::bf16_narrow(f))
    {
    }
    explicit __nv_bfloat16(double d) : bits(emu::bf16_narrow((float)d))
    {
    }
    explicit __nv_bfloat16(int i) : bits(emu::bf16_narrow((float)i))
    {
    }
    __nv_bfloat16(__nv_bfloat16_raw raw) : bits(raw.x)
    {
    }
    operator float() const
    {
        return emu::bf16_widen(bits);
    }
    operator __nv_bfloat16_raw() const
    {
        return __nv_bfloat16_raw{bits};
    }
};
typedef __nv_bfloat16 nv_bfloat16;

struct __attribute__((aligned(4))) __nv_bfloat162 {
    __nv_bfloat16 x, y;
    __nv_bfloat162() = default;
    __nv_bfloat162(__nv_bfloat16 a, __nv_bfloat16 b) : x(a), y(b)
    {
    }
};
typedef __nv_bfloat162 nv_bfloat162;

static inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits)
{
    return __nv_bfloat16(__nv_bfloat16_raw{bits});
}
static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x)
{
    return x.bits;
}
static inline __nv_bfloat16 __short_as_bfloat16(short bits)
{
    return __ushort_as_bfloat16((unsigned short)bits);
}
static inline short __bfloat16_as_short(__nv_bfloat16 x)
{
    return (short)x.bits;
}
static inline float __bfloat162float(__nv_bfloat16 x)
{
    return emu::bf16_widen(x.bits);
}
static inline __nv_bfloat16 __float2bfloat16(float f)
{
    return __ushort_as_bfloat16(emu::bf16_narrow(f));
}
static inline __nv_bfloat16 __float2bfloat16_rn(float f)
{
    return __float2bfloat16(f);
}
static inline __nv_bfloat16 __float2bfloat16_rz(float f)
{
    return __ushort_as_bfloat16(emu::bf16_cut(f));
}
static inline __nv_bfloat16 __double2bfloat16(double d)
{
    return __float2bfloat16((float)d);
}
static inline __nv_bfloat162 __floats2bfloat162_rn(float a, float b)
{
    return __nv_bfloat162(__float2bfloat16(a), __float2bfloat16(b));
}
static inline __nv_bfloat162 __float22bfloat162_rn(float2 v)
{
    return __floats2bfloat162_rn(v.x, v.y);
}
static inline __nv_bfloat162 __float2bfloat162_rn(float f)
{
    return __floats2bfloat162_rn(f, f);
}
static inline float2 __bfloat1622float2(__nv_bfloat162 v)
{
    return make_float2(__bfloat162float(v.x), __bfloat162float(v.y));
}
static inline float __low2float(__nv_bfloat162 v)
{
    return __bfloat162float(v.x);
}
static inline float __high2float(__nv_bfloat162 v)
{
    return __bfloat162float(v.y);
}
static inline __nv_bfloat16 __low2bfloat16(__nv_bfloat162 v)
{
    return v.x;
}
static inline __nv_bfloat16 __high2bfloat16(__nv_bfloat162 v)
{
    return v.y;
}
static inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 a, __nv_bfloat16 b)
{
    return __nv_bfloat162(a, b);
}
static inline __nv_bfloat162 __bfloat162bfloat162(__nv_bfloat16 a)
{
    return __nv_bfloat162(a, a);
}
static inline __nv_bfloat162 make_bfloat162(__nv_bfloat16 a, __nv_bfloat16 b)
{
    return __nv_bfloat162(a, b);
}
static inline bool __hisnan(__nv_bfloat16 x)
{
    return (x.bits & 0x7fff) > 0x7f80;
}

#endif
