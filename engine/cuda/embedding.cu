#include "engine/cuda/embedding_kernels.h"
#include "engine/cuda/vector.h"

namespace
{

enum { THREADS = 256 };

/* ---- embedding: a pack of y a thread ---- */

template <class T, int N> __global__ void __launch_bounds__(THREADS) embedding_kernel(EmbeddingLaunch l)
{
    const int64_t width = l.d / N, i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= l.n * l.tokens * width) return;
    const int64_t row = i / width, e = (i - row * width) * N;
    const int64_t id = l.ids[row] >= 0 && l.ids[row] < l.rows ? l.ids[row] : 0;
    const Pack<float, N> word = load_pack<float, N>(l.table + id * l.d + e);
    Pack<float, N> place = {};
    if (l.positions) place = load_pack<float, N>(l.positions + row % l.tokens * l.d + e);
    Pack<T, N> y;
#pragma unroll
    for (int k = 0; k < N; k++) y.at[k] = from_float<T>(word.at[k] + place.at[k]);
    store_pack<T, N>((T *)l.y + row * l.d + e, y);
}

template <class T> cudaError_t embedding(const EmbeddingLaunch *l, cudaStream_t stream)
{
    constexpr int N = pack_width<float, T>();
    const EmbeddingLaunch copied = *l;
    const int64_t count = l->n * l->tokens * l->d;
    if (l->d % N == 0 && is_aligned(l->table, 16) && is_aligned(l->positions, 16) && is_aligned(l->y, N * sizeof(T))) {
        LAUNCH((embedding_kernel<T, N>), dim3((unsigned)blocks_for(count / N, THREADS)), dim3(THREADS), 0, stream,
               copied);
    } else {
        LAUNCH((embedding_kernel<T, 1>), dim3((unsigned)blocks_for(count, THREADS)), dim3(THREADS), 0, stream, copied);
    }
    return cudaPeekAtLastError();
}

/* ---- masked mean: a block has COLUMNS columns of one sample, its tokens dealt out to LANES rows of threads ---- */

enum { COLUMNS = 32, LANES = 8, MEAN_THREADS = COLUMNS * LANES };

template <class T>
__global__ void __launch_bounds__(MEAN_THREADS)
    masked_mean_kernel(const T *x, const int32_t *mask, T *y, int64_t tokens, int64_t d, int64_t blocks_per_sample)
{
    __shared__ float sums[LANES][COLUMNS];
    __shared__ int32_t counts[LANES];
    const int64_t n = blockIdx.x / blocks_per_sample;
    const int64_t e = (blockIdx.x - n * blocks_per_sample) * COLUMNS + threadIdx.x;
    float sum = 0;
    int32_t count = 0;
    for (int64_t t = threadIdx.y; t < tokens; t += LANES) {
        if (mask[n * tokens + t] == 0) continue;
        count++;
        if (e < d) sum += to_float(x[(n * tokens + t) * d + e]);
    }
    sums[threadIdx.y][threadIdx.x] = sum;
    if (threadIdx.x == 0) counts[threadIdx.y] = count;
    __syncthreads();
    if (threadIdx.y != 0 || e >= d) return;
    for (int k = 1; k < LANES; k++) {
        sum += sums[k][threadIdx.x];
        count += counts[k];
    }
    y[n * d + e] = from_float<T>(count > 0 ? sum / (float)count : 0.0f);
}

template <class T>
cudaError_t masked_mean(const T *x, const int32_t *mask, T *y, int64_t n, int64_t tokens, int64_t d,
                        cudaStream_t stream)
{
    const int64_t blocks_per_sample = blocks_for(d, COLUMNS);
    LAUNCH((masked_mean_kernel<T>), dim3((unsigned)(n * blocks_per_sample)), dim3(COLUMNS, LANES), 0, stream, x, mask,
           y, tokens, d, blocks_per_sample);
    return cudaPeekAtLastError();
}

/* ---- positions: a warp a row, 32 ids at a time ---- */

__global__ void __launch_bounds__(THREADS)
    position_ids_kernel(const int32_t *ids, int32_t *positions, int64_t n, int64_t tokens, int32_t padding)
{
    const int lane = threadIdx.x % 32;
    const int64_t row = (int64_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
    if (row >= n) return;
    int32_t before = 0;
    for (int64_t first = 0; first < tokens; first += 32) {
        const int64_t at = row * tokens + first + lane;
        const bool counts = first + lane < tokens && ids[at] != padding;
        const uint32_t counted = __ballot_sync(0xffffffffu, counts);
        const uint32_t up_to_here = 0xffffffffu >> (31 - lane);
        const int32_t position = counts ? before + __popc(counted & up_to_here) : 0;
        if (first + lane < tokens) positions[at] = padding + position;
        before += __popc(counted);
    }
}

/* ---- relative bias ---- */

__global__ void __launch_bounds__(THREADS)
    relative_bias_kernel(RelativeBuckets b, const float *table, float *y, int64_t heads, int64_t rows)
{
    const int64_t pair = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (pair >= rows * rows) return;
    const int64_t i = pair / rows, distance = pair - i * rows - i, away = distance < 0 ? -distance : distance;
    int64_t bucket = away < b.exact ? away : b.exact;
    for (int32_t k = 0; k < b.starts; k++) bucket += away >= b.start[k];
    if (distance > 0) bucket += b.half;
    for (int64_t h = blockIdx.y; h < heads; h += gridDim.y) y[h * rows * rows + pair] = table[bucket * heads + h];
}

} // namespace

cudaError_t embedding_launch(const EmbeddingLaunch *launch, cudaStream_t stream)
{
    return launch->type == DTYPE_BF16 ? embedding<Half>(launch, stream) : embedding<float>(launch, stream);
}

cudaError_t masked_mean_launch(const void *x, const int32_t *mask, void *y, Dtype type, int64_t n, int64_t tokens,
                               int64_t d, cudaStream_t stream)
{
    if (type == DTYPE_BF16) return masked_mean((const Half *)x, mask, (Half *)y, n, tokens, d, stream);
    return masked_mean((const float *)x, mask, (float *)y, n, tokens, d, stream);
}

cudaError_t position_ids_launch(const int32_t *ids, int32_t *positions, int64_t n, int64_t tokens, int32_t padding,
                                cudaStream_t stream)
{
    LAUNCH(position_ids_kernel, dim3((unsigned)blocks_for(n, THREADS / 32)), dim3(THREADS), 0, stream, ids, positions,
           n, tokens, padding);
    return cudaPeekAtLastError();
}

cudaError_t relative_bias_launch(const RelativeBuckets *buckets, const float *table, float *y, int64_t heads,
                                 int64_t rows, cudaStream_t stream)
{
    const RelativeBuckets copied = *buckets;
    const dim3 grid((unsigned)blocks_for(rows * rows, THREADS), (unsigned)(heads < 1024 ? heads : 1024));
    LAUNCH(relative_bias_kernel, grid, dim3(THREADS), 0, stream, copied, table, y, heads, rows);
    return cudaPeekAtLastError();
}
