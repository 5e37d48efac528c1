/* The gradient of group norm: group_norm_kernels.h has the two ways it goes.
 *
 * With v = (x - mean) rstd gamma f + beta f + shift, f = 1 + scale, y = act(v), dv = dy act'(v), for each channel of
 * each sample: A = sum of dv, B = sum of dv xhat over positions. Then dgamma = sum over samples of f B, dbeta = ... of
 * f A;  dscale = gamma B + beta A, dshift = A; dx = rstd (dxhat - mean(dxhat) - xhat mean(dxhat xhat)), dxhat = dv
 * gamma f, the means over a group: those of gamma f A and of gamma f B. */
#include "engine/cuda/norm_device.h"

#define COMBINE_THREADS 128
#define PARAM_CHANNELS 32
#define PARAM_PARTS 8

/* What a thread needs of its V channels beside their Coefficients:
 * dx = dv a - (x - mean) square - constant, square = rstd^2 mean(dxhat xhat), constant = rstd mean(dxhat). */
template <int V> struct Means {
    float square[V], constant[V];
};

/* `means`: pairs of the groups from `first` on. */
template <int V>
static __device__ __forceinline__ void read_means(const GroupNormGrad &k, const NormCut &cut, const Place &p,
                                                  const float *means, int32_t first, Means<V> &out)
{
    if (!p.active) return;
    const float *stats = k.stats + p.n * cut.groups * 2;
#pragma unroll
    for (int j = 0; j < V; j++) {
        const int32_t group = (p.channel + p.column * V + j) / cut.width;
        const float rstd = stats[2 * group + 1];
        out.constant[j] = rstd * means[2 * (group - first)];
        out.square[j] = rstd * rstd * means[2 * (group - first) + 1];
    }
}

template <int V, bool SILU>
static __device__ __forceinline__ float upstream(float centred, float dy, const Coefficients<V> &c, int j)
{
    return SILU ? dy * silu_slope(centred * c.a[j] + c.b[j]) : dy;
}

template <class T, int V> static __device__ __forceinline__ void write_dx(T *dx, bool add, const float (&value)[V])
{
    if (!add) {
        pack_write(dx, pack_of<T, V>(value));
        return;
    }
    const Pack<T, V> old = pack_read<T, V>(dx);
    float sum[V];
#pragma unroll
    for (int j = 0; j < V; j++) sum[j] = pack_get(old, j) + value[j];
    pack_write(dx, pack_of<T, V>(sum));
}

/* A channel of a sample has its sums of dv and of dv (x - mean): what follows from them. They become its share of the
 * group's sums of dxhat and of dxhat xhat. */
template <class T>
static __device__ __forceinline__ void finish_channel(const GroupNormGrad &k, int64_t n, int32_t channel, float &a,
                                                      float &b)
{
    const NormCut &cut = k.plan.sums;
    b *= k.stats[2 * (n * cut.groups + channel / cut.width) + 1];
    const Factors of = factors_of<T>(k, cut, n, channel);
    if (k.dgamma) k.terms[n * 2 * cut.c + channel] = of.f * b;
    if (k.dbeta) k.terms[(n * 2 + 1) * cut.c + channel] = of.f * a;
    if (k.dscale_shift) {
        T *out = static_cast<T *>(k.dscale_shift) + n * 2 * cut.c + channel;
        put(out, of.gamma * b + of.beta * a, k.add_scale_shift);
        put(out + cut.c, a, k.add_scale_shift);
    }
    a *= of.gamma * of.f;
    b *= of.gamma * of.f;
}

/* The whole of some groups of a sample: its channels' sums are in sums.first and sums.channels, x and dv in `kept`. */
template <class T, int V>
static __device__ __forceinline__ void finish_whole(const GroupNormGrad &k, const NormCut &cut, const Place &p,
                                                    const NormSums &sums, const Coefficients<V> &coefficients,
                                                    const Pack<T, V> *kept_x, const Pack<T, V> *kept_dv)
{
    for (int32_t c = threadIdx.x; c < p.channels; c += blockDim.x) {
        const int32_t at = slot<V>(p, c);
        finish_channel<T>(k, p.n, p.channel + c, sums.first[at], sums.channels[at]);
    }
    if (!k.dx) return;
    __syncthreads();
    const int32_t first = groups_of(cut, p).first;
    const float count = (float)p.length * cut.width;
    group_sums(
        cut, p, [&](int32_t c) { return sums.first[slot<V>(p, c)]; },
        [&](int32_t group, float sum) { sums.groups[2 * (group - first)] = sum / count; });
    group_sums(
        cut, p, [&](int32_t c) { return sums.channels[slot<V>(p, c)]; },
        [&](int32_t group, float sum) { sums.groups[2 * (group - first) + 1] = sum / count; });
    __syncthreads();
    if (!p.active) return;
    Means<V> means;
    read_means<V>(k, cut, p, sums.groups, first, means);
    T *dx = static_cast<T *>(k.dx) + place_begin(cut, p);
    for (int32_t r = p.row, i = threadIdx.x; r < p.length; r += cut.rows, i += cut.rows * cut.columns) {
        const Pack<T, V> x = kept_x[i], dv = kept_dv[i];
        float value[V];
#pragma unroll
        for (int j = 0; j < V; j++) {
            const float centred = pack_get(x, j) - coefficients.mean[j];
            value[j] = pack_get(dv, j) * coefficients.a[j] - (centred * means.square[j] + means.constant[j]);
        }
        write_dx<T, V>(dx, k.add_x, value);
        dx += cut.rows * cut.c;
    }
}

/* A block's sums over its slice; everything but dgamma and dbeta when that is the whole sample. It keeps x and dv then:
 * dv in the tensors' type, as it would be if the activation were an op of its own. Blocks: those of plan.sums. */
template <class T, int V, bool WHOLE, bool SILU>
static __global__ void __launch_bounds__(NORM_THREADS, 2) group_norm_grad_block(const GroupNormGrad k)
{
    typedef Pack<T, V> Packed;
    DYNAMIC_SHARED(Packed, kept_x);
    Packed *kept_dv = reinterpret_cast<Packed *>(reinterpret_cast<char *>(kept_x) + k.plan.kept);
    const NormCut &cut = k.plan.sums;
    const Place p = norm_place(cut, true);
    const NormSums sums = norm_sums<V>(cut, p, reinterpret_cast<char *>(kept_dv) + k.plan.kept);
    const T *x = static_cast<const T *>(k.x), *dy = static_cast<const T *>(k.dy);
    Coefficients<V> coefficients;
    read_coefficients<T, V>(k, cut, p, sums.threads, coefficients);

    const int32_t step = cut.rows * cut.columns;
    float a[V] = {}, b[V] = {};
    Packed xs[2], dys[2];
    walk<2>(
        cut, p,
        [&](int u, int64_t at) {
            xs[u] = pack_read<T, V>(x + at);
            dys[u] = pack_read<T, V>(dy + at);
        },
        [&](int u, int64_t, int32_t i) {
            float dv[V];
#pragma unroll
            for (int j = 0; j < V; j++) {
                const float centred = pack_get(xs[u], j) - coefficients.mean[j];
                dv[j] = upstream<V, SILU>(centred, pack_get(dys[u], j), coefficients, j);
                a[j] += dv[j];
                b[j] += dv[j] * centred;
            }
            if (WHOLE) {
                kept_x[i * step + threadIdx.x] = xs[u];
                kept_dv[i * step + threadIdx.x] = pack_of<T, V>(dv);
            }
        });
    channel_sums<V>(cut, p, sums, a);
    for (int32_t i = threadIdx.x; i < V * p.pitch; i += blockDim.x) sums.first[i] = sums.channels[i];
    channel_sums<V>(cut, p, sums, b);
    if (WHOLE) {
        finish_whole<T, V>(k, cut, p, sums, coefficients, kept_x, kept_dv);
        return;
    }
    float *partial = k.partial + (p.n * cut.slices + p.slice) * 2 * cut.c + p.channel;
    for (int32_t c = threadIdx.x; c < p.channels; c += blockDim.x) {
        partial[c] = sums.first[slot<V>(p, c)];
        partial[cut.c + c] = sums.channels[slot<V>(p, c)];
    }
}

/* A block for each group of each sample: the slices' sums become the channels', and the group's means. */
template <class T>
static __global__ void __launch_bounds__(COMBINE_THREADS) group_norm_grad_combine(const GroupNormGrad k)
{
    __shared__ float part_a[COMBINE_THREADS], part_b[COMBINE_THREADS];
    const NormCut &cut = k.plan.sums;
    const int32_t group = blockIdx.x % cut.groups, thread = threadIdx.x;
    const int64_t n = blockIdx.x / cut.groups;
    float sum_a = 0, sum_b = 0; /* over the group, of this thread's channels */
    for (int32_t base = 0; base < cut.width; base += COMBINE_THREADS) {
        const int32_t channels = min(cut.width - base, COMBINE_THREADS), parts = COMBINE_THREADS / channels;
        const int32_t channel = group * cut.width + base + thread % channels;
        const float *partial = k.partial + n * cut.slices * 2 * cut.c + channel;
        float a = 0, b = 0;
        if (thread / channels < parts) {
#pragma unroll 4
            for (int32_t s = thread / channels; s < cut.slices; s += parts) {
                a += partial[s * 2 * cut.c];
                b += partial[(s * 2 + 1) * cut.c];
            }
        }
        part_a[thread] = a;
        part_b[thread] = b;
        __syncthreads();
        if (thread < channels) {
            for (int32_t part = 1; part < parts; part++) {
                a += part_a[part * channels + thread];
                b += part_b[part * channels + thread];
            }
            finish_channel<T>(k, n, channel, a, b);
            sum_a += a;
            sum_b += b;
        }
        __syncthreads();
    }
    sum_a = warp_sum(sum_a);
    sum_b = warp_sum(sum_b);
    if (thread % 32 == 0) {
        part_a[thread / 32] = sum_a;
        part_b[thread / 32] = sum_b;
    }
    __syncthreads();
    if (thread != 0) return;
    for (int32_t warp = 1; warp < COMBINE_THREADS / 32; warp++) {
        sum_a += part_a[warp];
        sum_b += part_b[warp];
    }
    const float count = (float)cut.positions * cut.width;
    k.means[2 * (int64_t)blockIdx.x] = sum_a / count;
    k.means[2 * (int64_t)blockIdx.x + 1] = sum_b / count;
}

/* The second pass over x and dy. Blocks: those of plan.apply. */
template <class T, int V, bool SILU>
static __global__ void __launch_bounds__(NORM_THREADS, 2) group_norm_grad_apply(const GroupNormGrad k)
{
    DYNAMIC_SHARED(float, shared);
    const NormCut &cut = k.plan.apply;
    const Place p = norm_place(cut, false);
    const T *x = static_cast<const T *>(k.x), *dy = static_cast<const T *>(k.dy);
    T *dx = static_cast<T *>(k.dx);
    Coefficients<V> coefficients;
    Means<V> means;
    read_coefficients<T, V>(k, cut, p, shared, coefficients);
    read_means<V>(k, cut, p, k.means + p.n * cut.groups * 2, 0, means);
    Pack<T, V> xs[2], dys[2];
    walk<2>(
        cut, p,
        [&](int u, int64_t at) {
            xs[u] = pack_read<T, V>(x + at);
            dys[u] = pack_read<T, V>(dy + at);
        },
        [&](int u, int64_t at, int32_t) {
            float value[V];
#pragma unroll
            for (int j = 0; j < V; j++) {
                const float centred = pack_get(xs[u], j) - coefficients.mean[j];
                const float dv = upstream<V, SILU>(centred, pack_get(dys[u], j), coefficients, j);
                value[j] = dv * coefficients.a[j] - (centred * means.square[j] + means.constant[j]);
            }
            write_dx<T, V>(dx + at, k.add_x, value);
        });
}

static __global__ void __launch_bounds__(PARAM_CHANNELS *PARAM_PARTS) norm_params(const NormParams k)
{
    __shared__ float parts[2][PARAM_PARTS][PARAM_CHANNELS];
    const int32_t column = threadIdx.x % PARAM_CHANNELS, part = threadIdx.x / PARAM_CHANNELS;
    const int64_t channel = (int64_t)blockIdx.x * PARAM_CHANNELS + column;
    float gamma = 0, beta = 0;
    if (channel < k.c) {
#pragma unroll 4
        for (int64_t i = part; i < k.count; i += PARAM_PARTS) {
            if (k.dgamma) gamma += k.terms[i * 2 * k.c + channel];
            if (k.dbeta) beta += k.terms[(i * 2 + 1) * k.c + channel];
        }
    }
    parts[0][part][column] = gamma;
    parts[1][part][column] = beta;
    __syncthreads();
    if (part != 0 || channel >= k.c) return;
    for (int32_t i = 1; i < PARAM_PARTS; i++) {
        gamma += parts[0][i][column];
        beta += parts[1][i][column];
    }
    if (k.dgamma) put(k.dgamma + channel, gamma, k.add_gamma);
    if (k.dbeta) put(k.dbeta + channel, beta, k.add_beta);
}

cudaError_t cuda_norm_params(const NormParams *k, cudaStream_t stream)
{
    LAUNCH(norm_params, (uint32_t)((k->c + PARAM_CHANNELS - 1) / PARAM_CHANNELS), PARAM_CHANNELS * PARAM_PARTS, 0,
           stream, *k);
    return cudaPeekAtLastError();
}

template <class T, int V, bool SILU> static cudaError_t launch(const GroupNormGrad &k, cudaStream_t stream)
{
    const NormPlan &plan = k.plan;
    if (plan.whole) {
        const cudaError_t error = norm_allow_shared(group_norm_grad_block<T, V, true, SILU>, plan.shared);
        if (error != cudaSuccess) return error;
        LAUNCH((group_norm_grad_block<T, V, true, SILU>), norm_blocks(plan.sums), plan.sums.threads, plan.shared,
               stream, k);
    } else {
        const cudaError_t error = norm_allow_shared(group_norm_grad_block<T, V, false, SILU>, plan.shared);
        if (error != cudaSuccess) return error;
        LAUNCH((group_norm_grad_block<T, V, false, SILU>), norm_blocks(plan.sums), plan.sums.threads, plan.shared,
               stream, k);
        LAUNCH((group_norm_grad_combine<T>), (uint32_t)(plan.sums.n * plan.sums.groups), COMBINE_THREADS, 0, stream, k);
        if (k.dx) {
            LAUNCH((group_norm_grad_apply<T, V, SILU>), norm_blocks(plan.apply), plan.apply.threads,
                   norm_coefficient_bytes(plan.apply), stream, k);
        }
    }
    if (k.dgamma || k.dbeta) {
        const NormParams params = {k.terms, plan.sums.n, plan.sums.c, k.dgamma, k.dbeta, k.add_gamma, k.add_beta};
        return cuda_norm_params(&params, stream);
    }
    return cudaPeekAtLastError();
}

template <class T, int V> static cudaError_t launch_act(const GroupNormGrad &k, cudaStream_t stream)
{
    return k.silu ? launch<T, V, true>(k, stream) : launch<T, V, false>(k, stream);
}

cudaError_t cuda_group_norm_grad(const GroupNormGrad *k, cudaStream_t stream)
{
    const bool vectors = k->plan.sums.vector > 1;
    if (k->plan.type == DTYPE_BF16) {
        return vectors ? launch_act<Half, 8>(*k, stream) : launch_act<Half, 1>(*k, stream);
    }
    return vectors ? launch_act<float, 4>(*k, stream) : launch_act<float, 1>(*k, stream);
}
