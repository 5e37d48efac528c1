/* What our kernels (*.cu) are written in: the part of CUDA C++ that tests/emu runs on a processor as well. No inline
 * PTX, no cooperative groups, no tensor-core instructions: large products belong to cuBLASLt and cuDNN.
 *
 * DYNAMIC_SHARED(type, name): the block's dynamic shared memory. LAUNCH(kernel, grid, block, shared, stream, args...):
 * a launch; a kernel with template arguments goes in parentheses. */
#ifndef ENGINE_CUDA_LANGUAGE_H
#define ENGINE_CUDA_LANGUAGE_H

#ifndef CUDA_EMU /* defined by tests/emu/cuda_emu.h, which g++ includes before everything else */
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#define DYNAMIC_SHARED(type, name)                                \
    extern __shared__ __align__(16) unsigned char name##_bytes[]; \
    type *name = reinterpret_cast<type *>(name##_bytes)
#define LAUNCH(kernel, grid, block, shared, stream, ...) (kernel<<<(grid), (block), (shared), (stream)>>>(__VA_ARGS__))
#endif

#include <stddef.h>
#include <stdint.h>

typedef __nv_bfloat16 Half;

static __device__ __forceinline__ float to_float(float x)
{
    return x;
}
static __device__ __forceinline__ float to_float(Half x)
{
    return __bfloat162float(x);
}
template <class T> static __device__ __forceinline__ T from_float(float x);
template <> __device__ __forceinline__ float from_float<float>(float x)
{
    return x;
}
template <> __device__ __forceinline__ Half from_float<Half>(float x)
{
    return __float2bfloat16_rn(x);
}

/* y = value, or y + value. */
template <class T> static __device__ __forceinline__ void put(T *y, float value, bool add)
{
    *y = from_float<T>(add ? to_float(*y) + value : value);
}

/* Sums and maxima over a warp, the same in every lane; all 32 lanes take part. */
static __device__ __forceinline__ float warp_sum(float v)
{
    for (int step = 16; step > 0; step /= 2) v += __shfl_xor_sync(0xffffffffu, v, step);
    return v;
}
static __device__ __forceinline__ float warp_max(float v)
{
    for (int step = 16; step > 0; step /= 2) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, step));
    return v;
}

#endif
