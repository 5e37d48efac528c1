/* Group norm, forward: group_norm_kernels.h has the two ways it goes. */
#include "engine/cuda/norm_device.h"

#define COMBINE_WARPS 4

template <class T, int V, bool SILU>
static __device__ __forceinline__ Pack<T, V> normalised(const Pack<T, V> &x, const Coefficients<V> &c)
{
    float y[V];
#pragma unroll
    for (int j = 0; j < V; j++) {
        const float v = (pack_get(x, j) - c.mean[j]) * c.a[j] + c.b[j];
        y[j] = SILU ? v * sigmoid(v) : v;
    }
    return pack_of<T, V>(y);
}

/* out[j] = the value of the thread's j-th channel's group. */
template <int V>
static __device__ __forceinline__ void spread(const NormCut &cut, const Place &p, const float *of_group,
                                              float (&out)[V])
{
    if (!p.active) return;
#pragma unroll
    for (int j = 0; j < V; j++) out[j] = of_group[group_of<V>(cut, p, j)];
}

/* The sums of squared deviations have been added up: statistics of a group if the block has all of it, else its share.
 */
template <bool WHOLE>
static __device__ __forceinline__ void write_statistics(const GroupNorm &k, const NormCut &cut, const Place &p,
                                                        int32_t group, float mean, float squares)
{
    const int64_t of_all = p.n * cut.groups + group;
    if (WHOLE) {
        k.stats[2 * of_all] = mean;
        k.stats[2 * of_all + 1] = rsqrtf(squares / ((float)p.length * cut.width) + k.eps);
        return;
    }
    const int32_t span = p.tile - group * cut.width / (cut.columns * cut.vector);
    float *to = k.partial + 2 * ((of_all * cut.slices + p.slice) * cut.spans + span);
    to[0] = mean;
    to[1] = squares;
}

/* The group's first value in the block, in fp32, for each group: what sums are taken of differences from. */
template <class T, int V>
static __device__ __forceinline__ void find_centres(const NormCut &cut, const Place &p, const Pack<T, V> &first,
                                                    float *groups)
{
    if (p.active && p.row == 0) {
#pragma unroll
        for (int j = 0; j < V; j++) {
            const int32_t c = p.column * V + j;
            if (c == 0 || (p.channel + c) % cut.width == 0) groups[group_of<V>(cut, p, j)] = pack_get(first, j);
        }
    }
    __syncthreads();
}

/* Statistics of a block's slice, which it keeps in registers; or of a whole sample's groups, kept in shared memory, and
 * y as well. Blocks: those of plan.sums. */
template <class T, int V, bool WHOLE, bool SILU>
static __global__ void __launch_bounds__(NORM_THREADS, 2) group_norm_block(const GroupNorm k)
{
    typedef Pack<T, V> Packed;
    DYNAMIC_SHARED(Packed, kept);
    const NormCut &cut = k.plan.sums;
    const Place p = norm_place(cut, true);
    const NormSums sums = norm_sums<V>(cut, p, reinterpret_cast<char *>(kept) + k.plan.kept);
    const T *x = static_cast<const T *>(k.x);
    const int32_t step = cut.rows * cut.columns; /* packs from one of a thread's to its next */
    Packed packs[NORM_SLICE_PACKS];
    walk<NORM_SLICE_PACKS>(
        cut, p, [&](int u, int64_t at) { packs[u] = pack_read<T, V>(x + at); },
        [&](int u, int64_t, int32_t i) {
            if (WHOLE) kept[i * step + threadIdx.x] = packs[u];
        });
    const auto each = [&](auto act) {
        if (!p.active) return;
        if (WHOLE) {
            for (int32_t r = p.row, i = threadIdx.x; r < p.length; r += cut.rows, i += step) act(kept[i]);
        } else {
#pragma unroll
            for (int u = 0; u < NORM_SLICE_PACKS; u++) {
                if (p.row + u * cut.rows < p.length) act(packs[u]);
            }
        }
    };
    const Groups groups = groups_of(cut, p);
    const auto of_channel = [&](int32_t c) { return sums.channels[slot<V>(p, c)]; };

    float centre[V] = {}, sum[V] = {};
    Packed first = packs[0];
    if (WHOLE && p.active) first = kept[threadIdx.x];
    find_centres<T, V>(cut, p, first, sums.groups);
    spread<V>(cut, p, sums.groups, centre);
    each([&](const Packed &pack) {
#pragma unroll
        for (int j = 0; j < V; j++) sum[j] += pack_get(pack, j) - centre[j];
    });
    channel_sums<V>(cut, p, sums, sum);
    group_sums(cut, p, of_channel, [&](int32_t group, float total) {
        const int32_t channels = group_end(cut, p, group) - group_begin(cut, p, group);
        sums.groups[group - groups.first] += total / ((float)p.length * channels);
    });
    __syncthreads();

    spread<V>(cut, p, sums.groups, centre);
#pragma unroll
    for (int j = 0; j < V; j++) sum[j] = 0;
    each([&](const Packed &pack) {
#pragma unroll
        for (int j = 0; j < V; j++) {
            const float d = pack_get(pack, j) - centre[j];
            sum[j] += d * d;
        }
    });
    channel_sums<V>(cut, p, sums, sum);
    group_sums(cut, p, of_channel, [&](int32_t group, float total) {
        write_statistics<WHOLE>(k, cut, p, group, sums.groups[group - groups.first], total);
    });
    if (!WHOLE) return;

    __syncthreads();
    Coefficients<V> coefficients;
    read_coefficients<T, V>(k, cut, p, sums.threads, coefficients);
    T *y = static_cast<T *>(k.y) + place_begin(cut, p);
    each([&](const Packed &pack) {
        pack_write(y, normalised<T, V, SILU>(pack, coefficients));
        y += cut.rows * cut.c;
    });
}

/* A warp for each group of each sample: mean and variance of parts with `weight` elements each, of which mean and sum
 * of squared deviations M2 are known. M2 = sum M2_i + weight_i (mean_i - mean)^2 (Chan, Golub & LeVeque 1979). */
static __global__ void __launch_bounds__(COMBINE_WARPS * 32) group_norm_combine(const GroupNorm k)
{
    const NormCut &cut = k.plan.sums;
    const int64_t of_all = (int64_t)blockIdx.x * COMBINE_WARPS + threadIdx.x / 32;
    if (of_all >= cut.n * cut.groups) return;
    const int32_t begin = (int32_t)(of_all % cut.groups) * cut.width, end = begin + cut.width;
    const int32_t channels = cut.columns * cut.vector, parts = cut.slices * cut.spans;
    const float *partial = k.partial + of_all * parts * 2;
    const auto weight = [&](int32_t i) {
        const int32_t tile = begin / channels + i % cut.spans;
        const int32_t shared = min(end, (tile + 1) * channels) - max(begin, tile * channels);
        const int64_t first = (int64_t)(i / cut.spans) * cut.slice;
        return shared > 0 ? (float)min((int64_t)cut.slice, cut.positions - first) * shared : 0;
    };
    const float reference = partial[0], count = (float)cut.positions * cut.width;
    float sum = 0, squares = 0;
    for (int32_t i = threadIdx.x % 32; i < parts; i += 32) {
        const float w = weight(i);
        if (w > 0) sum += w * (partial[2 * i] - reference);
    }
    const float offset = warp_sum(sum) / count;
    for (int32_t i = threadIdx.x % 32; i < parts; i += 32) {
        const float w = weight(i), d = partial[2 * i] - reference - offset;
        if (w > 0) squares += partial[2 * i + 1] + w * d * d;
    }
    squares = warp_sum(squares);
    if (threadIdx.x % 32 != 0) return;
    k.stats[2 * of_all] = reference + offset;
    k.stats[2 * of_all + 1] = rsqrtf(squares / count + k.eps);
}

template <class T, int V, bool SILU>
static __global__ void __launch_bounds__(NORM_THREADS, 2) group_norm_apply(const GroupNorm k)
{
    DYNAMIC_SHARED(float, shared);
    const NormCut &cut = k.plan.apply;
    const Place p = norm_place(cut, false);
    const T *x = static_cast<const T *>(k.x);
    T *y = static_cast<T *>(k.y);
    Coefficients<V> coefficients;
    read_coefficients<T, V>(k, cut, p, shared, coefficients);
    Pack<T, V> packs[4];
    walk<4>(
        cut, p, [&](int u, int64_t at) { packs[u] = pack_read<T, V>(x + at); },
        [&](int u, int64_t at, int32_t) { pack_write(y + at, normalised<T, V, SILU>(packs[u], coefficients)); });
}

template <class T, int V, bool SILU> static cudaError_t launch(const GroupNorm &k, cudaStream_t stream)
{
    const NormPlan &plan = k.plan;
    if (plan.whole) {
        const cudaError_t error = norm_allow_shared(group_norm_block<T, V, true, SILU>, plan.shared);
        if (error != cudaSuccess) return error;
        LAUNCH((group_norm_block<T, V, true, SILU>), norm_blocks(plan.sums), plan.sums.threads, plan.shared, stream, k);
        return cudaPeekAtLastError();
    }
    const cudaError_t error = norm_allow_shared(group_norm_block<T, V, false, false>, plan.shared);
    if (error != cudaSuccess) return error;
    LAUNCH((group_norm_block<T, V, false, false>), norm_blocks(plan.sums), plan.sums.threads, plan.shared, stream, k);
    const int64_t groups = plan.sums.n * plan.sums.groups;
    LAUNCH(group_norm_combine, (uint32_t)((groups + COMBINE_WARPS - 1) / COMBINE_WARPS), COMBINE_WARPS * 32, 0, stream,
           k);
    const size_t shared = norm_coefficient_bytes(plan.apply);
    LAUNCH((group_norm_apply<T, V, SILU>), norm_blocks(plan.apply), plan.apply.threads, shared, stream, k);
    return cudaPeekAtLastError();
}

template <class T, int V> static cudaError_t launch_act(const GroupNorm &k, cudaStream_t stream)
{
    return k.silu ? launch<T, V, true>(k, stream) : launch<T, V, false>(k, stream);
}

cudaError_t cuda_group_norm(const GroupNorm *k, cudaStream_t stream)
{
    const bool vectors = k->plan.sums.vector > 1;
    if (k->plan.type == DTYPE_BF16) {
        return vectors ? launch_act<Half, 8>(*k, stream) : launch_act<Half, 1>(*k, stream);
    }
    return vectors ? launch_act<float, 4>(*k, stream) : launch_act<float, 1>(*k, stream);
}
