/* What the kernels of group_norm.cu and group_norm_grad.cu share: a thread's place, sums over a block. */
#ifndef ENGINE_CUDA_NORM_DEVICE_H
#define ENGINE_CUDA_NORM_DEVICE_H

#include "engine/cuda/group_norm_kernels.h"
#include "engine/cuda/norm_pack.h"

/* Where a thread stands. Its elements: positions first + row, first + row + rows, ..., the V channels of its column. */
struct Place {
    int64_t n, first;           /* sample; first position of the block */
    int32_t length;             /* positions of the block */
    int32_t slice, tile;        /* of the sample */
    int32_t channel, channels;  /* first of the block, and how many */
    int32_t column, row, pitch; /* pitch: of per-channel values in shared memory, see slot() */
    bool active;                /* this thread has a column */
};

/* Blocks go through tiles, then slices, then samples: from the last sample to the first if `backwards`. */
static __device__ __forceinline__ Place norm_place(const NormCut &cut, bool backwards)
{
    Place p;
    const uint32_t block = blockIdx.x, tiles = cut.tiles, slices = cut.slices;
    p.tile = block % tiles;
    p.slice = block / tiles % slices;
    p.n = block / tiles / slices;
    if (backwards) p.n = cut.n - 1 - p.n;
    p.first = (int64_t)p.slice * cut.slice;
    p.length = (int32_t)min((int64_t)cut.slice, cut.positions - p.first);
    const int32_t channels = cut.columns * cut.vector;
    p.channel = p.tile * channels;
    p.channels = min(channels, (int32_t)cut.c - p.channel);
    p.column = threadIdx.x % cut.columns;
    p.row = threadIdx.x / cut.columns;
    p.pitch = cut.columns | 1; /* odd, so that neither neighbouring columns nor neighbouring channels share a bank */
    p.active = p.row < cut.rows && p.column * cut.vector < p.channels;
    return p;
}

/* The place of the block's channel c among values kept per channel: those of equal c % V lie together. */
template <int V> static __device__ __forceinline__ int32_t slot(const Place &p, int32_t c)
{
    return c % V * p.pitch + c / V;
}

/* The thread's first element. */
static __device__ __forceinline__ int64_t place_begin(const NormCut &cut, const Place &p)
{
    return (p.n * cut.positions + p.first + p.row) * cut.c + p.channel + p.column * cut.vector;
}

/* Calls act(u, at, i) for each position of the thread: the i-th of the thread, first asked for by ask(u, at), where
 * `at` is its element; U are asked for before the first of them is used, so that as many reads are on their way. */
template <int U, class Ask, class Act>
static __device__ __forceinline__ void walk(const NormCut &cut, const Place &p, Ask ask, Act act)
{
    if (!p.active) return;
    const int64_t step = cut.rows * cut.c;
    int64_t at = place_begin(cut, p);
    int32_t i = 0;
    for (int32_t r = p.row; r < p.length; r += U * cut.rows, at += U * step, i += U) {
#pragma unroll
        for (int u = 0; u < U; u++) {
            if (r + u * cut.rows < p.length) ask(u, at + u * step);
        }
#pragma unroll
        for (int u = 0; u < U; u++) {
            if (r + u * cut.rows < p.length) act(u, at + u * step, i + u);
        }
    }
}

/* Shared memory for sums over a block; group_norm_plan.c counts the same. */
struct NormSums {
    float *threads;  /* (V, max(rows, NORM_COEFFICIENTS), pitch): coefficients at first, then each thread's sums */
    float *channels; /* (parts, V, pitch): their sums over the threads, in the first part */
    float *first;    /* (V, pitch): those of the first of two */
    float *groups;   /* (groups touched, 2) */
};
template <int V> static __device__ __forceinline__ NormSums norm_sums(const NormCut &cut, const Place &p, void *shared)
{
    const int32_t plane = V * p.pitch;
    NormSums sums;
    sums.threads = static_cast<float *>(shared);
    sums.channels = sums.threads + max(cut.rows, NORM_COEFFICIENTS) * plane;
    sums.first = sums.channels + cut.parts * plane;
    sums.groups = sums.first + plane;
    return sums;
}

/* sums.channels[slot(c)] = the sum over the block's threads of their `value` of channel c. All threads call it. */
template <int V>
static __device__ __forceinline__ void channel_sums(const NormCut &cut, const Place &p, const NormSums &sums,
                                                    const float (&value)[V])
{
    if (p.row < cut.rows) {
#pragma unroll
        for (int k = 0; k < V; k++) {
            sums.threads[(k * cut.rows + p.row) * p.pitch + p.column] = p.active ? value[k] : 0;
        }
    }
    __syncthreads();
    const int32_t count = V * cut.columns, parts = cut.parts;
    for (int32_t i = threadIdx.x; i < count * parts; i += blockDim.x) {
        const int32_t part = i / count, k = i % count / cut.columns, column = i % cut.columns;
        const float *from = sums.threads + k * cut.rows * p.pitch + column;
        float sum = 0;
        for (int32_t row = part; row < cut.rows; row += parts) sum += from[row * p.pitch];
        sums.channels[(part * V + k) * p.pitch + column] = sum;
    }
    __syncthreads();
    if (parts == 1) return;
    for (int32_t i = threadIdx.x; i < count; i += blockDim.x) {
        float *to = sums.channels + i / cut.columns * p.pitch + i % cut.columns;
        float sum = *to;
        for (int32_t part = 1; part < parts; part++) sum += to[part * V * p.pitch];
        *to = sum;
    }
    __syncthreads();
}

/* The groups that a block touches, and which of the block's channels are in one of them. */
struct Groups {
    int32_t first, count;
};
static __device__ __forceinline__ Groups groups_of(const NormCut &cut, const Place &p)
{
    Groups g;
    g.first = p.channel / cut.width;
    g.count = (p.channel + p.channels - 1) / cut.width - g.first + 1;
    return g;
}
static __device__ __forceinline__ int32_t group_begin(const NormCut &cut, const Place &p, int32_t group)
{
    return max(group * cut.width - p.channel, 0);
}
static __device__ __forceinline__ int32_t group_end(const NormCut &cut, const Place &p, int32_t group)
{
    return min((group + 1) * cut.width - p.channel, p.channels);
}
/* The group of channel V * column + j of the block, counted from the first that it touches. */
template <int V> static __device__ __forceinline__ int32_t group_of(const NormCut &cut, const Place &p, int j)
{
    return (p.channel + p.column * V + j) / cut.width - p.channel / cut.width;
}

/* Calls act(group, sum) in one thread for each group the block touches, with the sum of values(c) over its channels. */
template <class Values, class Act>
static __device__ __forceinline__ void group_sums(const NormCut &cut, const Place &p, Values values, Act act)
{
    const Groups groups = groups_of(cut, p);
    for (int32_t i = threadIdx.x / 32; i < groups.count; i += blockDim.x / 32) {
        const int32_t group = groups.first + i, end = group_end(cut, p, group);
        float sum = 0;
        for (int32_t c = group_begin(cut, p, group) + threadIdx.x % 32; c < end; c += 32) sum += values(c);
        sum = warp_sum(sum);
        if (threadIdx.x % 32 == 0) act(group, sum);
    }
}

/* Of a channel of a sample; f = 1 + scale. */
struct Factors {
    float gamma, beta, f, shift;
};
template <class T, class Call> /* GroupNorm or GroupNormGrad */
static __device__ __forceinline__ Factors factors_of(const Call &k, const NormCut &cut, int64_t n, int32_t channel)
{
    Factors of = {k.gamma[channel], k.beta[channel], 1, 0};
    if (k.scale_shift) {
        const T *sample = static_cast<const T *>(k.scale_shift) + n * 2 * cut.c;
        of.f += to_float(sample[channel]);
        of.shift = to_float(sample[cut.c + channel]);
    }
    return of;
}

/* What a thread needs of its V channels: v = (x - mean) a + b, a = rstd gamma f, b = beta f + shift. x - mean is taken
 * first, since x a - mean a would lose what a large mean leaves of x. */
template <int V> struct Coefficients {
    float mean[V], a[V], b[V];
};

/* Through `shared`, (3, V, pitch): neighbouring threads read neighbouring channels. All threads call it. */
template <class T, int V, class Call>
static __device__ __forceinline__ void read_coefficients(const Call &k, const NormCut &cut, const Place &p,
                                                         float *shared, Coefficients<V> &out)
{
    const int32_t plane = V * p.pitch;
    const float *stats = k.stats + p.n * cut.groups * 2;
    for (int32_t c = threadIdx.x; c < p.channels; c += blockDim.x) {
        const int32_t channel = p.channel + c, group = channel / cut.width;
        const Factors of = factors_of<T>(k, cut, p.n, channel);
        float *to = shared + slot<V>(p, c);
        to[0] = stats[2 * group];
        to[plane] = stats[2 * group + 1] * of.gamma * of.f;
        to[2 * plane] = of.beta * of.f + of.shift;
    }
    __syncthreads();
    if (p.active) {
#pragma unroll
        for (int j = 0; j < V; j++) {
            const float *from = shared + j * p.pitch + p.column;
            out.mean[j] = from[0];
            out.a[j] = from[plane];
            out.b[j] = from[2 * plane];
        }
    }
    __syncthreads();
}

/* 1 / (1 + exp(-v)); 0 where exp(-v) is beyond the range. */
static __device__ __forceinline__ float sigmoid(float v)
{
    return __fdividef(1.0f, 1.0f + __expf(-v));
}
/* d (v sigmoid(v)) / dv */
static __device__ __forceinline__ float silu_slope(float v)
{
    const float s = sigmoid(v);
    return s * (1.0f + v * (1.0f - s));
}

/* More shared memory than 48 KB must be asked for. Always for as much: the limit is the kernel's, and lowering it for
 * one op would leave others, recorded before with more, beyond it. */
template <class Kernel> static cudaError_t norm_allow_shared(Kernel *kernel, size_t bytes)
{
    int device, most;
    if (bytes <= 48 * 1024) return cudaSuccess;
    cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    if (error != cudaSuccess) return error;
    return cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                most < GROUP_NORM_SHARED_MOST ? most : GROUP_NORM_SHARED_MOST);
}

static inline uint32_t norm_blocks(const NormCut &cut)
{
    return (uint32_t)(cut.n * cut.slices * cut.tiles);
}
static inline size_t norm_coefficient_bytes(const NormCut &cut)
{
    return (size_t)NORM_COEFFICIENTS * cut.vector * (cut.columns | 1) * sizeof(float);
}

#endif
