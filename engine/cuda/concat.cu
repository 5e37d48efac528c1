#include "engine/cuda/concat_kernels.h"
#include "engine/cuda/vector.h"

namespace
{

enum { THREADS = 256, STEPS = 2 };

/* blockIdx.y is the block of rows; along x its packs are copied in order of rows, STEPS a thread. */
template <class T, int N, class Index, bool add>
__global__ void __launch_bounds__(THREADS) copy_blocks_kernel(CopyBlocks blocks)
{
    const CopyBlock block = blocks.block[blockIdx.y];
    const Index width = (Index)(block.width / N);
    const int64_t packs = blocks.rows * (int64_t)width, first = (int64_t)blockIdx.x * THREADS * STEPS + threadIdx.x;
    Pack<T, N> vx[STEPS], vy[STEPS];
    T *y[STEPS];
#pragma unroll
    for (int s = 0; s < STEPS; s++) {
        const int64_t i = first + s * THREADS;
        if (i >= packs) continue;
        const Index row = (Index)i / width, column = (Index)i - row * width;
        y[s] = (T *)block.y + (int64_t)row * block.y_pitch + (int64_t)column * N;
        if (block.x) {
            vx[s] = load_pack<T, N>((const T *)block.x + (int64_t)row * block.x_pitch + (int64_t)column * N);
        } else {
#pragma unroll
            for (int e = 0; e < N; e++) vx[s].at[e] = from_float<T>(0.0f);
        }
        if (add) vy[s] = load_pack<T, N>(y[s]);
    }
#pragma unroll
    for (int s = 0; s < STEPS; s++) {
        if (first + s * THREADS >= packs) continue;
        if (add) {
#pragma unroll
            for (int e = 0; e < N; e++) put(&vx[s].at[e], to_float(vy[s].at[e]), true);
        }
        store_pack<T, N>(y[s], vx[s]);
    }
}

template <class T, int N, class Index>
cudaError_t copy_in_packs(const CopyBlocks *blocks, int64_t largest, bool add, cudaStream_t stream)
{
    const dim3 grid((unsigned)blocks_for(largest / N, THREADS * STEPS), (unsigned)blocks->count);
    const CopyBlocks copied = *blocks;
    if (add) {
        LAUNCH((copy_blocks_kernel<T, N, Index, true>), grid, dim3(THREADS), 0, stream, copied);
    } else {
        LAUNCH((copy_blocks_kernel<T, N, Index, false>), grid, dim3(THREADS), 0, stream, copied);
    }
    return cudaPeekAtLastError();
}

/* Divisions of 32 bits are several times cheaper than those of 64. */
template <class T, int N>
cudaError_t copy_by_index(const CopyBlocks *blocks, int64_t largest, bool add, cudaStream_t stream)
{
    if (largest <= INT32_MAX) return copy_in_packs<T, N, uint32_t>(blocks, largest, add, stream);
    return copy_in_packs<T, N, uint64_t>(blocks, largest, add, stream);
}

template <class T> cudaError_t copy_blocks(const CopyBlocks *blocks, bool add, cudaStream_t stream)
{
    constexpr int N = pack_width<T, T>();
    int64_t largest = 0; /* elements */
    bool in_packs = true;
    for (int32_t i = 0; i < blocks->count; i++) {
        const CopyBlock *b = &blocks->block[i];
        if (b->width * blocks->rows > largest) largest = b->width * blocks->rows;
        in_packs = in_packs && b->width % N == 0 && b->x_pitch % N == 0 && b->y_pitch % N == 0 &&
                   is_aligned(b->x, 16) && is_aligned(b->y, 16);
    }
    if (largest == 0) return cudaSuccess;
    if (in_packs) return copy_by_index<T, N>(blocks, largest, add, stream);
    return copy_by_index<T, 1>(blocks, largest, add, stream);
}

} // namespace

cudaError_t copy_blocks_launch(const CopyBlocks *blocks, Dtype type, bool add, cudaStream_t stream)
{
    return type == DTYPE_BF16 ? copy_blocks<Half>(blocks, add, stream) : copy_blocks<float>(blocks, add, stream);
}
