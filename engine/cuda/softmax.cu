#include "engine/cuda/language.h"

#include <math.h>

#include "engine/cuda/softmax_kernels.h"

/* Short rows have a warp each, long ones a block. Rows are read twice, for the statistics and for the result; what one
 * block reads again is still in the caches. */
enum { THREADS = 256, WARPS = THREADS / 32, SHORT_KEYS = 1024 };

struct alignas(8) Half4 {
    Half at[4];
};

static __device__ __forceinline__ void load4(const float *x, float v[4])
{
    const float4 w = *(const float4 *)x;
    v[0] = w.x, v[1] = w.y, v[2] = w.z, v[3] = w.w;
}
static __device__ __forceinline__ void store4(float *y, const float v[4])
{
    *(float4 *)y = make_float4(v[0], v[1], v[2], v[3]);
}
static __device__ __forceinline__ void store4(Half *y, const float v[4])
{
    Half4 w;
    for (int k = 0; k < 4; k++) w.at[k] = from_float<Half>(v[k]);
    *(Half4 *)y = w;
}

/* One row of scores. */
struct Row {
    int64_t at;          /* where it begins */
    int64_t statistic;   /* its entry of lse */
    const int32_t *mask; /* (masked) or NULL */
    const float *bias;   /* (keys) or NULL */
};

static __device__ __forceinline__ Row row_of(const ScoreRows &a, int64_t i)
{
    const int64_t pair = a.first_pair + i / a.rows, t = a.first_row + i % a.rows;
    const int64_t n = pair / a.heads, head = pair % a.heads;
    return Row{i * a.pitch, pair * a.queries + t, a.mask ? a.mask + n * a.masked : nullptr,
               a.bias ? a.bias + (head * a.queries + t) * a.keys : nullptr};
}

/* Scores `key` to `key` + 3, minus infinity where hidden and behind the last. */
static __device__ __forceinline__ void scores4(const ScoreRows &a, const Row &row, const float *scores, int64_t key,
                                               float v[4])
{
    load4(scores + row.at + key, v);
    if (row.bias) {
        for (int k = 0; k < 4; k++)
            if (key + k < a.keys) v[k] += row.bias[key + k];
    }
    if (row.mask) {
        for (int k = 0; k < 4; k++)
            if (key + k < a.masked && row.mask[key + k] == 0) v[k] = -INFINITY;
    }
    for (int k = 0; k < 4; k++)
        if (key + k >= a.keys) v[k] = -INFINITY;
}

/* The largest value so far and the sum of exp(value - largest). */
struct Sum {
    float most, sum;
};

/* What to subtract: with nothing visible yet, exp(-inf - 0) = 0, and not exp(-inf + inf). */
static __device__ __forceinline__ float base_of(float most)
{
    return most == -INFINITY ? 0.0f : most;
}

static __device__ __forceinline__ void sum_add4(Sum *s, const float v[4])
{
    const float most = fmaxf(s->most, fmaxf(fmaxf(v[0], v[1]), fmaxf(v[2], v[3])));
    const float base = base_of(most);
    s->sum *= expf(s->most - base);
    s->most = most;
    for (int k = 0; k < 4; k++) s->sum += expf(v[k] - base);
}

static __device__ __forceinline__ Sum sum_over_warp(Sum s)
{
    const float most = warp_max(s.most);
    return Sum{most, warp_sum(s.sum * expf(s.most - base_of(most)))};
}

/* All threads of the block get the same. */
static __device__ __forceinline__ Sum sum_over_block(Sum s)
{
    __shared__ Sum part[WARPS];
    s = sum_over_warp(s);
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = s;
    __syncthreads();
    Sum all = {-INFINITY, 0.0f};
    for (int w = 0; w < WARPS; w++) all.most = fmaxf(all.most, part[w].most);
    for (int w = 0; w < WARPS; w++) all.sum += part[w].sum * expf(part[w].most - base_of(all.most));
    __syncthreads(); /* before the next row's parts */
    return all;
}

/* TEAM threads a row: 32 or THREADS. */
template <class P, int TEAM>
static __global__ void __launch_bounds__(THREADS) softmax(const ScoreRows a, const float *scores, P *p, float *lse)
{
    const int member = (int)threadIdx.x % TEAM, teams = THREADS / TEAM;
    const int64_t count = a.pairs * a.rows;
    for (int64_t i = (int64_t)blockIdx.x * teams + threadIdx.x / TEAM; i < count; i += (int64_t)gridDim.x * teams) {
        const Row row = row_of(a, i);
        float v[4];
        Sum s = {-INFINITY, 0.0f};
        for (int64_t key = member * 4; key < a.keys; key += TEAM * 4) {
            scores4(a, row, scores, key, v);
            sum_add4(&s, v);
        }
        s = TEAM == 32 ? sum_over_warp(s) : sum_over_block(s);
        const bool hidden = s.most == -INFINITY;
        const float base = base_of(s.most), inverse = hidden ? 0.0f : 1.0f / s.sum;
        for (int64_t key = member * 4; key < a.keys; key += TEAM * 4) {
            scores4(a, row, scores, key, v);
            for (int k = 0; k < 4; k++) v[k] = expf(v[k] - base) * inverse;
            store4(p + row.at + key, v);
        }
        if (member == 0) lse[row.statistic] = hidden ? 0.0f : s.most + logf(s.sum);
    }
}

template <class T, int TEAM>
static __global__ void __launch_bounds__(THREADS) softmax_grad(const ScoreRows a, const SoftmaxGrad g)
{
    const int member = (int)threadIdx.x % TEAM, teams = THREADS / TEAM;
    const int64_t count = a.pairs * a.rows;
    T *p = (T *)g.p, *ds = (T *)g.ds;
    for (int64_t i = (int64_t)blockIdx.x * teams + threadIdx.x / TEAM; i < count; i += (int64_t)gridDim.x * teams) {
        const Row row = row_of(a, i);
        const float lse = g.lse[row.statistic], delta = g.delta[row.statistic];
        for (int64_t key = member * 4; key < a.keys; key += TEAM * 4) {
            float v[4], slope[4];
            scores4(a, row, g.scores, key, v);
            load4(g.dp + row.at + key, slope);
            for (int k = 0; k < 4; k++) {
                v[k] = expf(v[k] - lse);
                slope[k] = v[k] * (slope[k] - delta);
            }
            store4(p + row.at + key, v);
            store4(ds + row.at + key, slope);
        }
    }
}

static bool is_short(const ScoreRows *rows)
{
    return rows->keys <= SHORT_KEYS;
}

static dim3 grid_of(const ScoreRows *rows)
{
    const int64_t teams = is_short(rows) ? WARPS : 1, count = rows->pairs * rows->rows;
    const int64_t blocks = (count + teams - 1) / teams;
    return dim3(blocks < 65536 ? (unsigned)blocks : 65536u);
}

template <class P>
static cudaError_t launch_softmax(const ScoreRows *rows, const float *scores, P *p, float *lse, cudaStream_t stream)
{
    if (is_short(rows)) {
        LAUNCH((softmax<P, 32>), grid_of(rows), dim3(THREADS), 0, stream, *rows, scores, p, lse);
    } else {
        LAUNCH((softmax<P, THREADS>), grid_of(rows), dim3(THREADS), 0, stream, *rows, scores, p, lse);
    }
    return cudaPeekAtLastError();
}

cudaError_t softmax_launch(const ScoreRows *rows, const float *scores, void *p, Dtype p_type, float *lse,
                           cudaStream_t stream)
{
    return p_type == DTYPE_BF16 ? launch_softmax(rows, scores, (Half *)p, lse, stream)
                                : launch_softmax(rows, scores, (float *)p, lse, stream);
}

template <class T> static cudaError_t launch_grad(const ScoreRows *rows, const SoftmaxGrad *grad, cudaStream_t stream)
{
    if (is_short(rows)) {
        LAUNCH((softmax_grad<T, 32>), grid_of(rows), dim3(THREADS), 0, stream, *rows, *grad);
    } else {
        LAUNCH((softmax_grad<T, THREADS>), grid_of(rows), dim3(THREADS), 0, stream, *rows, *grad);
    }
    return cudaPeekAtLastError();
}

cudaError_t softmax_grad_launch(const ScoreRows *rows, const SoftmaxGrad *grad, cudaStream_t stream)
{
    return grad->type == DTYPE_BF16 ? launch_grad<Half>(rows, grad, stream) : launch_grad<float>(rows, grad, stream);
}
