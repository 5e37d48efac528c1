/* Layer norm, its gradient, and RMS norm: layer_norm_kernels.h. */
#include "engine/cuda/group_norm_kernels.h"
#include "engine/cuda/layer_norm_kernels.h"
#include "engine/cuda/norm_pack.h"

#define WARPS 8       /* of a block */
#define PACKS 4       /* of a row that a lane keeps in registers, at most */
#define CHUNK_ROWS 64 /* of a chunk, at least: 8 for each warp */
#define CHUNKS_MOST 512

/* A warp's row, of which each lane has every 32nd pack of V channels. */
struct Row {
    int64_t begin;   /* its first element */
    int64_t channel; /* the lane's first */
    int64_t c;
};
template <int V> static __device__ __forceinline__ Row row_of(int64_t row, int64_t c)
{
    return Row{row * c, (int64_t)(threadIdx.x % 32) * V, c};
}
/* Parameters of V channels, aligned like the tensors. */
template <int V> static __device__ __forceinline__ void read_params(const float *from, float (&out)[V])
{
    const int step = V % 4 == 0 ? 4 : 1;
#pragma unroll
    for (int i = 0; i < V; i += step) {
        const Pack<float, step> pack = pack_read<float, step>(from + i);
#pragma unroll
        for (int j = 0; j < step; j++) out[i + j] = pack_get(pack, j);
    }
}
static __device__ __forceinline__ int64_t row_index()
{
    return (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
}

/* A lane's part of a row, in registers if KEPT. */
template <class T, int V, bool KEPT> struct Values {
    Pack<T, V> packs[KEPT ? PACKS : 1];

    __device__ __forceinline__ void read(const T *x, const Row &row)
    {
        if (KEPT) {
#pragma unroll
            for (int i = 0; i < PACKS; i++) {
                const int64_t c = row.channel + i * 32 * V;
                if (c < row.c) packs[i] = pack_read<T, V>(x + row.begin + c);
            }
        }
    }
    __device__ __forceinline__ Pack<T, V> get(const T *x, const Row &row, int i, int64_t c) const
    {
        return KEPT ? packs[KEPT ? i : 0] : pack_read<T, V>(x + row.begin + c);
    }
};

/* Calls act(i, c) for each of the lane's packs: the i-th, beginning with channel c. */
template <int V, bool KEPT, class Act> static __device__ __forceinline__ void each_pack(const Row &row, Act act)
{
    if (KEPT) {
#pragma unroll
        for (int i = 0; i < PACKS; i++) {
            const int64_t c = row.channel + i * 32 * V;
            if (c < row.c) act(i, c);
        }
    } else {
        for (int64_t c = row.channel; c < row.c; c += 32 * V) act(0, c);
    }
}

template <class T, int V, bool KEPT>
static __global__ void __launch_bounds__(WARPS * 32) layer_norm_rows(const RowNorm k)
{
    const int64_t index = row_index();
    if (index >= k.rows) return;
    const Row row = row_of<V>(index, k.c);
    const T *x = static_cast<const T *>(k.x);
    T *y = static_cast<T *>(k.y) + row.begin;
    Values<T, V, KEPT> values;
    values.read(x, row);
    /* Sums of differences from the first value: a large mean does not cost digits. */
    const float first = to_float(x[row.begin]);
    float sum = 0, squares = 0;
    each_pack<V, KEPT>(row, [&](int i, int64_t c) {
        const Pack<T, V> pack = values.get(x, row, i, c);
#pragma unroll
        for (int j = 0; j < V; j++) sum += pack_get(pack, j) - first;
    });
    const float offset = warp_sum(sum) / (float)k.c; /* of the mean from there */
    each_pack<V, KEPT>(row, [&](int i, int64_t c) {
        const Pack<T, V> pack = values.get(x, row, i, c);
#pragma unroll
        for (int j = 0; j < V; j++) {
            const float d = pack_get(pack, j) - first - offset;
            squares += d * d;
        }
    });
    const float rstd = rsqrtf(warp_sum(squares) / (float)k.c + k.eps);
    each_pack<V, KEPT>(row, [&](int i, int64_t c) {
        const Pack<T, V> pack = values.get(x, row, i, c);
        float gamma[V], beta[V], out[V];
        read_params<V>(k.gamma + c, gamma);
        read_params<V>(k.beta + c, beta);
#pragma unroll
        for (int j = 0; j < V; j++) out[j] = (pack_get(pack, j) - first - offset) * rstd * gamma[j] + beta[j];
        pack_write(y + c, pack_of<T, V>(out));
    });
    if (k.stats && threadIdx.x % 32 == 0) {
        k.stats[2 * index] = first + offset;
        k.stats[2 * index + 1] = rstd;
    }
}

template <class T, int V, bool KEPT> static __global__ void __launch_bounds__(WARPS * 32) rms_norm_rows(const RowNorm k)
{
    const int64_t index = row_index();
    if (index >= k.rows) return;
    const Row row = row_of<V>(index, k.c);
    const T *x = static_cast<const T *>(k.x);
    T *y = static_cast<T *>(k.y) + row.begin;
    Values<T, V, KEPT> values;
    values.read(x, row);
    float squares = 0;
    each_pack<V, KEPT>(row, [&](int i, int64_t c) {
        const Pack<T, V> pack = values.get(x, row, i, c);
#pragma unroll
        for (int j = 0; j < V; j++) squares += pack_get(pack, j) * pack_get(pack, j);
    });
    const float scale = rsqrtf(warp_sum(squares) / (float)k.c + k.eps);
    each_pack<V, KEPT>(row, [&](int i, int64_t c) {
        const Pack<T, V> pack = values.get(x, row, i, c);
        float gamma[V], out[V];
        read_params<V>(k.gamma + c, gamma);
#pragma unroll
        for (int j = 0; j < V; j++) out[j] = pack_get(pack, j) * scale * gamma[j];
        pack_write(y + c, pack_of<T, V>(out));
    });
}

/* dx = rstd (dxhat - mean(dxhat) - xhat mean(dxhat xhat)), means over the row, dxhat = dy gamma */
template <class T, int V, bool KEPT>
static __global__ void __launch_bounds__(WARPS * 32) layer_norm_grad_rows(const LayerNormGrad k)
{
    const int64_t index = row_index();
    if (index >= k.rows) return;
    const Row row = row_of<V>(index, k.c);
    const T *x = static_cast<const T *>(k.x), *dy = static_cast<const T *>(k.dy);
    T *dx = static_cast<T *>(k.dx) + row.begin;
    Values<T, V, KEPT> xs, dys;
    xs.read(x, row);
    dys.read(dy, row);
    const float mean = k.stats[2 * index], rstd = k.stats[2 * index + 1];
    float sum = 0, sum_xhat = 0;
    each_pack<V, KEPT>(row, [&](int i, int64_t c) {
        const Pack<T, V> px = xs.get(x, row, i, c), pdy = dys.get(dy, row, i, c);
        float gamma[V];
        read_params<V>(k.gamma + c, gamma);
#pragma unroll
        for (int j = 0; j < V; j++) {
            const float dxhat = pack_get(pdy, j) * gamma[j];
            sum += dxhat;
            sum_xhat += dxhat * (pack_get(px, j) - mean);
        }
    });
    const float constant = warp_sum(sum) / (float)k.c, slope = warp_sum(sum_xhat) / (float)k.c * rstd * rstd;
    each_pack<V, KEPT>(row, [&](int i, int64_t c) {
        const Pack<T, V> px = xs.get(x, row, i, c), pdy = dys.get(dy, row, i, c);
        float gamma[V], out[V];
        read_params<V>(k.gamma + c, gamma);
#pragma unroll
        for (int j = 0; j < V; j++) {
            const float dxhat = pack_get(pdy, j) * gamma[j];
            out[j] = rstd * (dxhat - constant - (pack_get(px, j) - mean) * slope);
        }
        if (k.add_x) {
            const Pack<T, V> old = pack_read<T, V>(dx + c);
#pragma unroll
            for (int j = 0; j < V; j++) out[j] += pack_get(old, j);
        }
        pack_write(dx + c, pack_of<T, V>(out));
    });
}

/* A chunk's sums of dy xhat and of dy for 32 V channels. Grid: (tiles of channels, chunks). */
template <class T, int V>
static __global__ void __launch_bounds__(WARPS * 32) layer_norm_grad_chunk(const LayerNormGrad k)
{
    __shared__ float parts[2][V][WARPS][32];
    const int32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int64_t channel = ((int64_t)blockIdx.x * 32 + lane) * V;
    const int64_t first = k.rows * blockIdx.y / gridDim.y, end = k.rows * (blockIdx.y + 1) / gridDim.y;
    const T *x = static_cast<const T *>(k.x) + channel, *dy = static_cast<const T *>(k.dy) + channel;
    float gamma[V] = {}, beta[V] = {};
    if (channel < k.c) {
#pragma unroll 4
        for (int64_t row = first + warp; row < end; row += WARPS) {
            const Pack<T, V> px = pack_read<T, V>(x + row * k.c), pdy = pack_read<T, V>(dy + row * k.c);
            const float mean = k.stats[2 * row], rstd = k.stats[2 * row + 1];
#pragma unroll
            for (int j = 0; j < V; j++) {
                gamma[j] += pack_get(pdy, j) * ((pack_get(px, j) - mean) * rstd);
                beta[j] += pack_get(pdy, j);
            }
        }
    }
#pragma unroll
    for (int j = 0; j < V; j++) {
        parts[0][j][warp][lane] = gamma[j];
        parts[1][j][warp][lane] = beta[j];
    }
    __syncthreads();
    for (int32_t i = threadIdx.x; i < 2 * V * 32; i += WARPS * 32) {
        const int32_t which = i / (V * 32), at = i % (V * 32);
        const int64_t to = (int64_t)blockIdx.x * 32 * V + at;
        float sum = 0;
        for (int w = 0; w < WARPS; w++) sum += parts[which][at % V][w][at / V];
        if (to < k.c) k.terms[(2 * (int64_t)blockIdx.y + which) * k.c + to] = sum;
    }
}

static uint32_t row_blocks(int64_t rows)
{
    return (uint32_t)((rows + WARPS - 1) / WARPS);
}

int64_t layer_norm_chunks(int64_t rows)
{
    const int64_t chunks = (rows + CHUNK_ROWS - 1) / CHUNK_ROWS;
    return chunks < CHUNKS_MOST ? chunks : CHUNKS_MOST;
}

static uintptr_t bits(const void *pointer)
{
    return (uintptr_t)pointer;
}
/* Whether addresses, their bits joined, are multiples of 16. */
static bool aligned(uintptr_t addresses)
{
    return addresses % 16 == 0;
}

template <class T, int V, bool KEPT> static void launch_layer_norm(const RowNorm &k, cudaStream_t stream)
{
    LAUNCH((layer_norm_rows<T, V, KEPT>), row_blocks(k.rows), WARPS * 32, 0, stream, k);
}
template <class T, int V, bool KEPT> static void launch_rms_norm(const RowNorm &k, cudaStream_t stream)
{
    LAUNCH((rms_norm_rows<T, V, KEPT>), row_blocks(k.rows), WARPS * 32, 0, stream, k);
}

/* Packs if the tensors allow them, registers if the row fits. */
template <class T, int V> static void choose_norm(const RowNorm &k, bool rms, cudaStream_t stream)
{
    const bool vectors = k.c % V == 0 && aligned(bits(k.x) | bits(k.y) | bits(k.gamma) | bits(k.beta)),
               kept = k.c <= PACKS * 32 * V;
    if (vectors && kept) {
        rms ? launch_rms_norm<T, V, true>(k, stream) : launch_layer_norm<T, V, true>(k, stream);
    } else if (vectors) {
        rms ? launch_rms_norm<T, V, false>(k, stream) : launch_layer_norm<T, V, false>(k, stream);
    } else {
        rms ? launch_rms_norm<T, 1, false>(k, stream) : launch_layer_norm<T, 1, false>(k, stream);
    }
}

cudaError_t cuda_layer_norm(const RowNorm *k, cudaStream_t stream)
{
    k->type == DTYPE_BF16 ? choose_norm<Half, 8>(*k, false, stream) : choose_norm<float, 4>(*k, false, stream);
    return cudaPeekAtLastError();
}

cudaError_t cuda_rms_norm(const RowNorm *k, cudaStream_t stream)
{
    k->type == DTYPE_BF16 ? choose_norm<Half, 8>(*k, true, stream) : choose_norm<float, 4>(*k, true, stream);
    return cudaPeekAtLastError();
}

template <class T, int V, bool KEPT> static cudaError_t launch_grad(const LayerNormGrad &k, cudaStream_t stream)
{
    if (k.dx) LAUNCH((layer_norm_grad_rows<T, V, KEPT>), row_blocks(k.rows), WARPS * 32, 0, stream, k);
    if (k.dgamma || k.dbeta) {
        const int64_t chunks = layer_norm_chunks(k.rows);
        const dim3 grid((uint32_t)((k.c + 32 * V - 1) / (32 * V)), (uint32_t)chunks);
        LAUNCH((layer_norm_grad_chunk<T, V>), grid, WARPS * 32, 0, stream, k);
        const NormParams params = {k.terms, chunks, k.c, k.dgamma, k.dbeta, k.add_gamma, k.add_beta};
        return cuda_norm_params(&params, stream);
    }
    return cudaPeekAtLastError();
}

template <class T, int V> static cudaError_t choose_grad(const LayerNormGrad &k, cudaStream_t stream)
{
    if (k.c % V != 0 || !aligned(bits(k.x) | bits(k.dy) | bits(k.dx) | bits(k.gamma)))
        return launch_grad<T, 1, false>(k, stream);
    return k.c <= PACKS * 32 * V ? launch_grad<T, V, true>(k, stream) : launch_grad<T, V, false>(k, stream);
}

cudaError_t cuda_layer_norm_grad(const LayerNormGrad *k, cudaStream_t stream)
{
    return k->type == DTYPE_BF16 ? choose_grad<Half, 8>(*k, stream) : choose_grad<float, 4>(*k, stream);
}
