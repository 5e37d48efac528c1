#include <math.h>
#include <string.h>

#include "engine/cuda/elementwise_kernels.h"
#include "engine/cuda/vector.h"

namespace
{

constexpr float root_2_over_pi = 0.79788456080286535588f;
constexpr float root_half = 0.70710678118654752440f;
constexpr float gelu_cubic = 0.044715f; /* Hendrycks & Gimpel 2016 */

/* 1 / (1 + exp(-x)). The fast exponential and quotient are off by some 1e-6 of the result; with the exact ones these
 * kernels would wait for arithmetic instead of memory. */
__device__ __forceinline__ float sigmoid(float x)
{
    return __fdividef(1.0f, 1.0f + __expf(-x));
}

struct Same {
    static constexpr int inputs = 1;
    __device__ __forceinline__ float operator()(float x) const
    {
        return x;
    }
};

struct Silu {
    static constexpr int inputs = 1;
    __device__ __forceinline__ float operator()(float x) const
    {
        return __fdividef(x, 1.0f + __expf(-x));
    }
};

struct Gelu {
    static constexpr int inputs = 1;
    __device__ __forceinline__ float operator()(float x) const
    {
        return 0.5f * x * (1.0f + erff(x * root_half));
    }
};

/* (1 + tanh u) / 2 = sigmoid(2 u), which is exact in both tails. */
__device__ __forceinline__ float gelu_tanh_gate(float x)
{
    return sigmoid(2 * root_2_over_pi * (x + gelu_cubic * x * x * x));
}

struct GeluTanh {
    static constexpr int inputs = 1;
    __device__ __forceinline__ float operator()(float x) const
    {
        return x * gelu_tanh_gate(x);
    }
};

/* The slopes, times dy. */
struct SameGrad {
    static constexpr int inputs = 2;
    __device__ __forceinline__ float operator()(float x, float dy) const
    {
        return dy;
    }
};

struct SiluGrad {
    static constexpr int inputs = 2;
    __device__ __forceinline__ float operator()(float x, float dy) const
    {
        const float s = sigmoid(x);
        return dy * s * (1.0f + x * (1.0f - s));
    }
};

struct GeluGrad {
    static constexpr int inputs = 2;
    __device__ __forceinline__ float operator()(float x, float dy) const
    {
        const float density = 0.5f * root_2_over_pi * __expf(-0.5f * x * x);
        return dy * (0.5f * (1.0f + erff(x * root_half)) + x * density);
    }
};

/* With t = 2 s - 1: (1 + t) / 2 = s and (1 - t^2) / 2 = 2 s (1 - s). Far out that is 0, times a square that must not
 * become infinite. */
struct GeluTanhGrad {
    static constexpr int inputs = 2;
    __device__ __forceinline__ float operator()(float x, float dy) const
    {
        const float s = gelu_tanh_gate(x);
        const float slope = root_2_over_pi * (1.0f + 3.0f * gelu_cubic * fminf(x * x, 1e6f));
        return dy * (s + 2.0f * x * s * (1.0f - s) * slope);
    }
};

struct Add {
    static constexpr int inputs = 2;
    __device__ __forceinline__ float operator()(float a, float b) const
    {
        return a + b;
    }
};

struct Multiply {
    static constexpr int inputs = 2;
    __device__ __forceinline__ float operator()(float a, float b) const
    {
        return a * b;
    }
};

struct Affine {
    static constexpr int inputs = 1;
    float scale, shift;
    __device__ __forceinline__ float operator()(float x) const
    {
        return scale * x + shift;
    }
};

struct RoundBf16 {
    static constexpr int inputs = 1;
    __device__ __forceinline__ float operator()(float x) const
    {
        return to_float(from_float<Half>(x));
    }
};

/* IEEE half precision keeps 10 of the 23 bits behind the point, none of them below 2^-24. */
struct RoundF16 {
    static constexpr int inputs = 1;
    __device__ __forceinline__ float operator()(float x) const
    {
        const float size = fabsf(x);
        float nearest;
        if (size < 0x1p-14f) {
            nearest = size + 0.75f - 0.75f; /* floats around 0.75 are 2^-24 apart */
        } else {
            uint32_t bits;
            memcpy(&bits, &size, sizeof bits);
            bits = (bits + 0xfffu + (bits >> 13 & 1u)) & ~0x1fffu;
            memcpy(&nearest, &bits, sizeof nearest);
            if (nearest > 65504.0f) nearest = INFINITY;
        }
        return isnan(x) ? x : copysignf(nearest, x);
    }
};

template <class F>
cudaError_t map_one(F f, const void *x, void *y, Dtype type, int64_t count, bool add, cudaStream_t stream)
{
    if (type == DTYPE_BF16) return map(f, (const Half *)x, (const Half *)NULL, (Half *)y, count, add, stream);
    return map(f, (const float *)x, (const float *)NULL, (float *)y, count, add, stream);
}

template <class F>
cudaError_t map_two(F f, const void *a, const void *b, void *y, Dtype type, int64_t count, bool add,
                    cudaStream_t stream)
{
    if (type == DTYPE_BF16) return map(f, (const Half *)a, (const Half *)b, (Half *)y, count, add, stream);
    return map(f, (const float *)a, (const float *)b, (float *)y, count, add, stream);
}

} // namespace

cudaError_t activation_launch(const void *x, void *y, Dtype type, int64_t count, Activation act, bool add,
                              cudaStream_t stream)
{
    switch (act) {
    case ACT_NONE:
        break;
    case ACT_SILU:
        return map_one(Silu{}, x, y, type, count, add, stream);
    case ACT_GELU:
        return map_one(Gelu{}, x, y, type, count, add, stream);
    case ACT_GELU_TANH:
        return map_one(GeluTanh{}, x, y, type, count, add, stream);
    }
    return map_one(Same{}, x, y, type, count, add, stream);
}

cudaError_t activation_grad_launch(const void *x, const void *dy, void *dx, Dtype type, int64_t count, Activation act,
                                   bool add, cudaStream_t stream)
{
    switch (act) {
    case ACT_NONE:
        break;
    case ACT_SILU:
        return map_two(SiluGrad{}, x, dy, dx, type, count, add, stream);
    case ACT_GELU:
        return map_two(GeluGrad{}, x, dy, dx, type, count, add, stream);
    case ACT_GELU_TANH:
        return map_two(GeluTanhGrad{}, x, dy, dx, type, count, add, stream);
    }
    return map_two(SameGrad{}, x, dy, dx, type, count, add, stream);
}

cudaError_t add_launch(const void *a, const void *b, void *y, Dtype type, int64_t count, bool add, cudaStream_t stream)
{
    return map_two(Add{}, a, b, y, type, count, add, stream);
}

cudaError_t multiply_launch(const void *a, const void *b, void *y, Dtype type, int64_t count, bool add,
                            cudaStream_t stream)
{
    return map_two(Multiply{}, a, b, y, type, count, add, stream);
}

cudaError_t affine_launch(const void *x, void *y, Dtype type, int64_t count, float scale, float shift, bool add,
                          cudaStream_t stream)
{
    return map_one(Affine{scale, shift}, x, y, type, count, add, stream);
}

cudaError_t round_launch(const float *x, float *y, int64_t count, RoundTo to, bool add, cudaStream_t stream)
{
    if (to == ROUND_F16) return map(RoundF16{}, x, (const float *)NULL, y, count, add, stream);
    return map(RoundBf16{}, x, (const float *)NULL, y, count, add, stream);
}
