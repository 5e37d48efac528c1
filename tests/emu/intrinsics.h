/* The device's functions that C++ does not have: arithmetic with a stated rounding, bits, loads and stores with hints,
 * atomics. Arithmetic of two operands is C's: the compiler must not contract a*b+c (x86-64 without -march does not). */
#ifndef TESTS_EMU_INTRINSICS_H
#define TESTS_EMU_INTRINSICS_H

#include <math.h>
#include <stdint.h>
#include <string.h>
#include <type_traits>

#include "include/cuda_bf16.h"

namespace emu
{
template <class To, class From> static inline To reinterpret(From from)
{
    static_assert(sizeof(To) == sizeof(From), "sizes differ");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
} // namespace emu

/* ---- fp32 and fp64 ---- */

#define EMU_FUNCTION1(type, name, from, expression) \
    static inline type name(from x)                 \
    {                                               \
        return (type)(expression);                  \
    }
#define EMU_FUNCTION2(type, name, expression) \
    static inline type name(type x, type y)   \
    {                                         \
        return expression;                    \
    }
EMU_FUNCTION2(float, __fadd_rn, x + y)
EMU_FUNCTION2(float, __fsub_rn, x - y)
EMU_FUNCTION2(float, __fmul_rn, x *y)
EMU_FUNCTION2(float, __fdiv_rn, x / y)
EMU_FUNCTION2(float, __fdividef, x / y)
EMU_FUNCTION2(double, __dadd_rn, x + y)
EMU_FUNCTION2(double, __dsub_rn, x - y)
EMU_FUNCTION2(double, __dmul_rn, x *y)
EMU_FUNCTION2(double, __ddiv_rn, x / y)
EMU_FUNCTION1(float, __fsqrt_rn, float, sqrtf(x))
EMU_FUNCTION1(float, __frcp_rn, float, 1.0f / x)
EMU_FUNCTION1(float, __frsqrt_rn, float, 1.0 / sqrt((double)x))
EMU_FUNCTION1(double, __dsqrt_rn, double, sqrt(x))
EMU_FUNCTION1(double, __drcp_rn, double, 1.0 / x)
EMU_FUNCTION1(float, rsqrtf, float, 1.0f / sqrtf(x))
EMU_FUNCTION1(double, rsqrt, double, 1.0 / sqrt(x))
EMU_FUNCTION1(float, rcbrtf, float, 1.0f / cbrtf(x))
EMU_FUNCTION1(float, __saturatef, float, x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f)
EMU_FUNCTION1(float, sinpif, float, sin(M_PI *(double)x))
EMU_FUNCTION1(float, cospif, float, cos(M_PI *(double)x))
EMU_FUNCTION1(float, normcdff, float, 0.5 * erfc(-(double)x * M_SQRT1_2))
/* The C library keeps these names for itself. */
#define __expf expf
#define __exp10f exp10f
#define __logf logf
#define __log2f log2f
#define __log10f log10f
#define __sinf sinf
#define __cosf cosf
#define __tanf tanf
#define __powf powf
#define __sincosf sincosf
static inline float __fmaf_rn(float x, float y, float z)
{
    return fmaf(x, y, z);
}
static inline double __fma_rn(double x, double y, double z)
{
    return fma(x, y, z);
}

/* ---- conversions ---- */

EMU_FUNCTION1(float, __int2float_rn, int, x)
EMU_FUNCTION1(float, __uint2float_rn, unsigned, x)
EMU_FUNCTION1(float, __ll2float_rn, long long, x)
EMU_FUNCTION1(float, __ull2float_rn, unsigned long long, x)
EMU_FUNCTION1(float, __double2float_rn, double, x)
EMU_FUNCTION1(double, __int2double_rn, int, x)
EMU_FUNCTION1(double, __ll2double_rn, long long, x)
EMU_FUNCTION1(double, __ull2double_rn, unsigned long long, x)
EMU_FUNCTION1(int, __float2int_rn, float, rintf(x))
EMU_FUNCTION1(int, __float2int_rz, float, truncf(x))
EMU_FUNCTION1(int, __float2int_rd, float, floorf(x))
EMU_FUNCTION1(int, __float2int_ru, float, ceilf(x))
EMU_FUNCTION1(unsigned, __float2uint_rn, float, rintf(x))
EMU_FUNCTION1(unsigned, __float2uint_rz, float, truncf(x))
EMU_FUNCTION1(long long, __float2ll_rn, float, rintf(x))
EMU_FUNCTION1(long long, __double2ll_rn, double, rint(x))
EMU_FUNCTION1(int, __float_as_int, float, emu::reinterpret<int>(x))
EMU_FUNCTION1(unsigned, __float_as_uint, float, emu::reinterpret<unsigned>(x))
EMU_FUNCTION1(float, __int_as_float, int, emu::reinterpret<float>(x))
EMU_FUNCTION1(float, __uint_as_float, unsigned, emu::reinterpret<float>(x))
EMU_FUNCTION1(long long, __double_as_longlong, double, emu::reinterpret<long long>(x))
EMU_FUNCTION1(double, __longlong_as_double, long long, emu::reinterpret<double>(x))

/* ---- integers ---- */

EMU_FUNCTION2(unsigned, __umulhi, (unsigned)((uint64_t)x *y >> 32))
EMU_FUNCTION2(int, __mulhi, (int)((int64_t)x *y >> 32))
EMU_FUNCTION2(unsigned long long, __umul64hi, (unsigned long long)((unsigned __int128)x *y >> 64))
EMU_FUNCTION2(long long, __mul64hi, (long long)((__int128)x *y >> 64))
EMU_FUNCTION1(int, __popc, unsigned, __builtin_popcount(x))
EMU_FUNCTION1(int, __popcll, unsigned long long, __builtin_popcountll(x))
EMU_FUNCTION1(int, __clz, int, x == 0 ? 32 : __builtin_clz((unsigned)x))
EMU_FUNCTION1(int, __clzll, long long, x == 0 ? 64 : __builtin_clzll((unsigned long long)x))
EMU_FUNCTION1(int, __ffs, int, __builtin_ffs(x))
EMU_FUNCTION1(int, __ffsll, long long, __builtin_ffsll(x))
#undef EMU_FUNCTION1
#undef EMU_FUNCTION2

/* The overloads that CUDA has; for 64 bits C++ has three names. */
#define EMU_MIN_MAX(result, a, b)             \
    static inline result min(a x, b y)        \
    {                                         \
        return (result)x < (result)y ? x : y; \
    }                                         \
    static inline result max(a x, b y)        \
    {                                         \
        return (result)x > (result)y ? x : y; \
    }
EMU_MIN_MAX(int, int, int)
EMU_MIN_MAX(unsigned, unsigned, unsigned)
EMU_MIN_MAX(unsigned, int, unsigned)
EMU_MIN_MAX(unsigned, unsigned, int)
EMU_MIN_MAX(long, long, long)
EMU_MIN_MAX(unsigned long, unsigned long, unsigned long)
EMU_MIN_MAX(unsigned long, long, unsigned long)
EMU_MIN_MAX(unsigned long, unsigned long, long)
EMU_MIN_MAX(long long, long long, long long)
EMU_MIN_MAX(unsigned long long, unsigned long long, unsigned long long)
EMU_MIN_MAX(unsigned long long, long long, unsigned long long)
EMU_MIN_MAX(unsigned long long, unsigned long long, long long)
#undef EMU_MIN_MAX
#define EMU_MIN_MAX(result, a, b, suffix) \
    static inline result min(a x, b y)    \
    {                                     \
        return fmin##suffix(x, y);        \
    }                                     \
    static inline result max(a x, b y)    \
    {                                     \
        return fmax##suffix(x, y);        \
    }
EMU_MIN_MAX(float, float, float, f)
EMU_MIN_MAX(double, double, double, )
EMU_MIN_MAX(double, float, double, )
EMU_MIN_MAX(double, double, float, )
#undef EMU_MIN_MAX

/* ---- memory ---- */

#define EMU_LOAD(name)                                       \
    template <class T> static inline T name(const T *memory) \
    {                                                        \
        return *memory;                                      \
    }
#define EMU_STORE(name)                                                  \
    template <class T> static inline void name(T *memory, const T value) \
    {                                                                    \
        *memory = value;                                                 \
    }
EMU_LOAD(__ldg)
EMU_LOAD(__ldca)
EMU_LOAD(__ldcg)
EMU_LOAD(__ldcs)
EMU_LOAD(__ldlu)
EMU_LOAD(__ldcv)
EMU_STORE(__stwb)
EMU_STORE(__stcg)
EMU_STORE(__stcs)
EMU_STORE(__stwt)
#undef EMU_LOAD
#undef EMU_STORE

static inline void __threadfence()
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
static inline void __threadfence_block()
{
    __threadfence();
}
static inline void __threadfence_system()
{
    __threadfence();
}
[[noreturn]] static inline void __trap()
{
    __builtin_trap();
}

namespace emu
{
/* *memory = change(*memory); what was there before. */
template <class T, class Change> static inline T atomic_change(T *memory, Change change)
{
    T before, after;
    __atomic_load(memory, &before, __ATOMIC_RELAXED);
    do {
        after = change(before);
    } while (!__atomic_compare_exchange(memory, &before, &after, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return before;
}
template <class T> struct Plain {
    typedef T type;
};
} // namespace emu

#define EMU_ATOMIC(name, expression)                                                        \
    template <class T> static inline T name(T *memory, typename emu::Plain<T>::type y)      \
    {                                                                                       \
        return emu::atomic_change(memory, [y](T x) { return static_cast<T>(expression); }); \
    }
EMU_ATOMIC(atomicAdd, x + y)
EMU_ATOMIC(atomicSub, x - y)
EMU_ATOMIC(atomicExch, ((void)x, y))
EMU_ATOMIC(atomicMin, y < x ? y : x)
EMU_ATOMIC(atomicMax, y > x ? y : x)
EMU_ATOMIC(atomicAnd, x &y)
EMU_ATOMIC(atomicOr, x | y)
EMU_ATOMIC(atomicXor, x ^ y)
EMU_ATOMIC(atomicInc, x >= y ? 0 : x + 1)
EMU_ATOMIC(atomicDec, x == 0 || x > y ? y : x - 1)
#undef EMU_ATOMIC
template <class T>
static inline T atomicCAS(T *memory, typename emu::Plain<T>::type expected, typename emu::Plain<T>::type value)
{
    return emu::atomic_change(memory, [=](T x) { return x == expected ? value : x; });
}

#endif
