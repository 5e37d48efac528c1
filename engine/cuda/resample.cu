#include "engine/cuda/resample_kernels.h"
#include "engine/cuda/vector.h"

namespace
{

enum { THREADS = 256 };

/* The smaller picture in packs of channels: thread i has pack `channel` of its position `at`, over which lie the four
 * packs first, first + right, first + below, first + below + right of the larger. */
struct Corner {
    int64_t first, right, below;
};

template <class Index> __device__ __forceinline__ Corner corner(Index i, Index w, Index c)
{
    const Index at = i / c, channel = i - at * c, row = at / w;
    /* Position (row, x) of the smaller is (2 row, 2 x) of the larger: 2 row 2 w + 2 x = 2 at + 2 row w. */
    const int64_t first = (2 * (int64_t)at + 2 * (int64_t)row * (int64_t)w) * (int64_t)c + (int64_t)channel;
    return {first, (int64_t)c, 2 * (int64_t)w * (int64_t)c};
}

/* x (rows,w,c packs) -> y (2 rows,2w,c packs) */
template <class T, int N, class Index>
__global__ void __launch_bounds__(THREADS)
    spread_kernel(const T *x, T *y, int64_t packs, Index w, Index c, float factor, bool add)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= packs) return;
    const Corner k = corner<Index>((Index)i, w, c);
    const int64_t at[4] = {k.first, k.first + k.right, k.first + k.below, k.first + k.below + k.right};
    const Pack<T, N> vx = load_pack<T, N>(x + i * N);
    Pack<T, N> vy[4];
#pragma unroll
    for (int j = 0; j < 4; j++) {
        if (add) vy[j] = load_pack<T, N>(y + at[j] * N);
    }
#pragma unroll
    for (int j = 0; j < 4; j++) {
#pragma unroll
        for (int e = 0; e < N; e++) put(&vy[j].at[e], factor * to_float(vx.at[e]), add);
        store_pack<T, N>(y + at[j] * N, vy[j]);
    }
}

/* x (2 rows,2w,c packs) -> y (rows,w,c packs) */
template <class T, int N, class Index>
__global__ void __launch_bounds__(THREADS)
    gather_kernel(const T *x, T *y, int64_t packs, Index w, Index c, float factor, bool add)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= packs) return;
    const Corner k = corner<Index>((Index)i, w, c);
    const Pack<T, N> a = load_pack<T, N>(x + k.first * N), b = load_pack<T, N>(x + (k.first + k.right) * N);
    const Pack<T, N> p = load_pack<T, N>(x + (k.first + k.below) * N);
    const Pack<T, N> q = load_pack<T, N>(x + (k.first + k.below + k.right) * N);
    Pack<T, N> vy;
    if (add) vy = load_pack<T, N>(y + i * N);
#pragma unroll
    for (int e = 0; e < N; e++) {
        const float sum = to_float(a.at[e]) + to_float(b.at[e]) + to_float(p.at[e]) + to_float(q.at[e]);
        put(&vy.at[e], factor * sum, add);
    }
    store_pack<T, N>(y + i * N, vy);
}

template <class T, int N, class Index>
cudaError_t resample_in_packs(const ResampleLaunch *l, bool spreads, cudaStream_t stream)
{
    const int64_t packs = l->rows * l->w * (l->c / N);
    const dim3 grid((unsigned)blocks_for(packs, THREADS)), block(THREADS);
    const T *x = (const T *)l->x;
    T *y = (T *)l->y;
    const Index w = (Index)l->w, c = (Index)(l->c / N);
    const float factor = l->factor;
    const bool add = l->add;
    if (spreads) {
        LAUNCH((spread_kernel<T, N, Index>), grid, block, 0, stream, x, y, packs, w, c, factor, add);
    } else {
        LAUNCH((gather_kernel<T, N, Index>), grid, block, 0, stream, x, y, packs, w, c, factor, add);
    }
    return cudaPeekAtLastError();
}

/* Divisions of 32 bits are several times cheaper than those of 64. */
template <class T, int N> cudaError_t resample_by_index(const ResampleLaunch *l, bool spreads, cudaStream_t stream)
{
    if (l->rows * l->w * l->c <= INT32_MAX) return resample_in_packs<T, N, uint32_t>(l, spreads, stream);
    return resample_in_packs<T, N, uint64_t>(l, spreads, stream);
}

template <class T> cudaError_t resample(const ResampleLaunch *l, bool spreads, cudaStream_t stream)
{
    constexpr int N = pack_width<T, T>();
    if (l->c % N == 0 && is_aligned(l->x, 16) && is_aligned(l->y, 16)) {
        return resample_by_index<T, N>(l, spreads, stream);
    }
    return resample_by_index<T, 1>(l, spreads, stream);
}

} // namespace

cudaError_t spread_launch(const ResampleLaunch *launch, cudaStream_t stream)
{
    return launch->type == DTYPE_BF16 ? resample<Half>(launch, true, stream) : resample<float>(launch, true, stream);
}

cudaError_t gather_launch(const ResampleLaunch *launch, cudaStream_t stream)
{
    return launch->type == DTYPE_BF16 ? resample<Half>(launch, false, stream) : resample<float>(launch, false, stream);
}
