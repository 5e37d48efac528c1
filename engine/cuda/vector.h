/* Sixteen bytes at once, and loops over elements that use them: for kernels that only the memory limits. */
#ifndef ENGINE_CUDA_VECTOR_H
#define ENGINE_CUDA_VECTOR_H

#include "engine/cuda/language.h"

/* N neighbours of a tensor, loaded and stored by one instruction; N * sizeof(T) is a power of two, 16 at most. */
template <class T, int N> struct alignas(sizeof(T) * N) Pack {
    T at[N];
};

template <class T, int N> static __device__ __forceinline__ Pack<T, N> load_pack(const T *x)
{
    return *reinterpret_cast<const Pack<T, N> *>(x);
}
template <class T, int N> static __device__ __forceinline__ void store_pack(T *y, const Pack<T, N> &pack)
{
    *reinterpret_cast<Pack<T, N> *>(y) = pack;
}

/* Whether `bytes` at once may be read and written there. NULL is. */
static inline bool is_aligned(const void *x, size_t bytes)
{
    return (uintptr_t)x % bytes == 0;
}

/* How many of the elements fit in 16 bytes, the larger type deciding. */
template <class X, class Y> constexpr int pack_width()
{
    return 16 / (int)(sizeof(X) > sizeof(Y) ? sizeof(X) : sizeof(Y));
}

static inline int64_t blocks_for(int64_t items, int64_t items_per_block)
{
    return (items + items_per_block - 1) / items_per_block;
}

/* ---- y[i] = f(a[i], b[i]), or y[i] += that ----
 *
 * `f` is an object with `float operator()(float a, float b) const` that runs on the device, or, where F::inputs is 1,
 * `float operator()(float a) const`. It stands in an unnamed namespace, since names are shared by all files. Two packs
 * a thread are enough to keep the memory busy. */

enum { MAP_THREADS = 256, MAP_STEPS = 2 };

template <class F> static __device__ __forceinline__ float map_value(const F &f, float a, float b)
{
    if constexpr (F::inputs == 1) {
        return f(a);
    } else {
        return f(a, b);
    }
}

/* The elements that are left over after the last whole pack are done one by one by the first threads. */
template <class F, class X, class Y, int N>
static __global__ void __launch_bounds__(MAP_THREADS)
    map_kernel(F f, const X *a, const X *b, Y *y, int64_t count, bool add)
{
    const int64_t packs = count / N, thread = (int64_t)blockIdx.x * MAP_THREADS * MAP_STEPS + threadIdx.x;
    Pack<X, N> va[MAP_STEPS], vb[MAP_STEPS];
    Pack<Y, N> vy[MAP_STEPS];
#pragma unroll
    for (int s = 0; s < MAP_STEPS; s++) {
        const int64_t i = thread + s * MAP_THREADS;
        if (i >= packs) continue;
        va[s] = load_pack<X, N>(a + i * N);
        if (F::inputs > 1) vb[s] = load_pack<X, N>(b + i * N);
        if (add) vy[s] = load_pack<Y, N>(y + i * N);
    }
#pragma unroll
    for (int s = 0; s < MAP_STEPS; s++) {
        const int64_t i = thread + s * MAP_THREADS;
        if (i >= packs) continue;
#pragma unroll
        for (int e = 0; e < N; e++) {
            const float second = F::inputs > 1 ? to_float(vb[s].at[e]) : 0.0f;
            put(&vy[s].at[e], map_value(f, to_float(va[s].at[e]), second), add);
        }
        store_pack<Y, N>(y + i * N, vy[s]);
    }
    const int64_t left = packs * N + thread;
    if (left < count) put(&y[left], map_value(f, to_float(a[left]), F::inputs > 1 ? to_float(b[left]) : 0.0f), add);
}

template <int N, class F, class X, class Y>
static cudaError_t map_in_packs(F f, const X *a, const X *b, Y *y, int64_t count, bool add, cudaStream_t stream)
{
    const int64_t blocks = blocks_for(count / N + 1, MAP_THREADS * MAP_STEPS);
    LAUNCH((map_kernel<F, X, Y, N>), dim3((unsigned)blocks), dim3(MAP_THREADS), 0, stream, f, a, b, y, count, add);
    return cudaPeekAtLastError();
}

/* a, [b], y (count); any alignment. */
template <class F, class X, class Y>
static cudaError_t map(F f, const X *a, const X *b, Y *y, int64_t count, bool add, cudaStream_t stream)
{
    constexpr int N = pack_width<X, Y>();
    if (count == 0) return cudaSuccess;
    if (is_aligned(a, N * sizeof(X)) && is_aligned(b, N * sizeof(X)) && is_aligned(y, N * sizeof(Y))) {
        return map_in_packs<N>(f, a, b, y, count, add, stream);
    }
    return map_in_packs<1>(f, a, b, y, count, add, stream);
}

#endif
