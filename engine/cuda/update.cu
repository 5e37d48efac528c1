/* Gradient norm, clipping, AdamW, moving average and bf16 copy. The bits are those of optim/grad_norm.c and
 * optim/adamw.c: the same sums in the same order, the same operations on each element, none of them contracted (this
 * file is compiled with --fmad=false) and all correctly rounded. */
#include <float.h>

#include "engine/cuda/language.h"
#include "engine/cuda/update_kernels.h"

#define THREADS 256
#define MOST_BLOCKS 65536

static_assert(UPDATE_NORM_LANES == 8 && UPDATE_NORM_BLOCK % 64 == 0, "eight threads sum a block");

/* ---- norm: a thread for each running sum ---- */

static __device__ __forceinline__ void add_square(double *sum, float g)
{
    *sum += (double)g * (double)g; /* the product is exact */
}

/* sums[b] = sum of the squares of block b. Eight neighbouring threads share a block, so that a warp reads whole sectors
 * of memory; the loads of several elements are on their way while they are added in order. */
static __global__ void __launch_bounds__(THREADS) block_squares(const float *grads, int64_t count, double *sums)
{
    constexpr int in_flight = 8;
    const int lane = threadIdx.x % UPDATE_NORM_LANES;
    const int64_t block = ((int64_t)blockIdx.x * THREADS + threadIdx.x) / UPDATE_NORM_LANES;
    const int64_t start = block * UPDATE_NORM_BLOCK;
    const float *g = grads + start + lane;
    double sum = 0;
    if (start + UPDATE_NORM_BLOCK <= count) {
        for (int i = 0; i < UPDATE_NORM_BLOCK; i += UPDATE_NORM_LANES * in_flight) {
            float value[in_flight];
#pragma unroll
            for (int k = 0; k < in_flight; k++) value[k] = g[i + k * UPDATE_NORM_LANES];
#pragma unroll
            for (int k = 0; k < in_flight; k++) add_square(&sum, value[k]);
        }
    } else {
        for (int64_t i = start + lane; i < count; i += UPDATE_NORM_LANES) add_square(&sum, grads[i]);
    }
    /* ((0 + 4) + (2 + 6)) + ((1 + 5) + (3 + 7)); addition commutes to the bit, so every lane gets it. */
    sum += __shfl_xor_sync(0xffffffffu, sum, 4);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    if (lane == 0 && start < count) sums[block] = sum;
}

/* values[0] + values[1] + ... in this order, by thread 0 of the block; the others fetch. `shared`: UPDATE_NORM_GROUP.
 */
static __device__ __forceinline__ double sum_in_order(const double *values, int64_t count, double *shared)
{
    double sum = 0;
    for (int64_t start = 0; start < count; start += UPDATE_NORM_GROUP) {
        const int length = count - start < UPDATE_NORM_GROUP ? (int)(count - start) : UPDATE_NORM_GROUP;
        __syncthreads();
        for (int i = threadIdx.x; i < length; i += THREADS) shared[i] = values[start + i];
        __syncthreads();
        if (threadIdx.x == 0) {
#pragma unroll 8
            for (int i = 0; i < length; i++) sum += shared[i];
        }
    }
    return sum;
}

/* grid (groups) */
static __global__ void __launch_bounds__(THREADS) group_sums(const double *blocks, int64_t block_count, double *groups)
{
    __shared__ double shared[UPDATE_NORM_GROUP];
    const int64_t first = (int64_t)blockIdx.x * UPDATE_NORM_GROUP, left = block_count - first;
    const double sum = sum_in_order(blocks + first, left < UPDATE_NORM_GROUP ? left : UPDATE_NORM_GROUP, shared);
    if (threadIdx.x == 0) groups[blockIdx.x] = sum;
}

/* One block. */
static __global__ void __launch_bounds__(THREADS)
    decide(const double *groups, int64_t group_count, const UpdateValues *values, UpdateResult *result)
{
    __shared__ double shared[UPDATE_NORM_GROUP];
    const double squares = sum_in_order(groups, group_count, shared);
    if (threadIdx.x > 0) return;
    const double norm = values->grad_scale * sqrt(squares);
    double clip = 1;
    if (values->clip_norm != 0) {
        const double factor = values->clip_norm / (norm + 1e-6);
        if (factor < 1) clip = factor;
    }
    const bool skipped = !(squares <= DBL_MAX); /* NaN or infinite: squares are not negative */
    result->squares = squares;
    result->norm = norm;
    result->clip = skipped ? 1 : clip;
    result->skipped = skipped;
    result->unused = 0;
}

/* ---- AdamW ---- */

struct Scalars {
    float grad_scale, keep, one_minus_beta1, beta2, one_minus_beta2, inv_root_bc2, eps, step_size, one_minus_ema;
};

/* One element, as in optim/adamw.c. */
static __device__ __forceinline__ void adamw(const Scalars &c, float grad, float *weight, float *m, float *v)
{
    const float g = grad * c.grad_scale;
    float p = *weight * c.keep;
    const float mi = *m + c.one_minus_beta1 * (g - *m);
    const float vi = *v * c.beta2 + c.one_minus_beta2 * g * g;
    p -= c.step_size * (mi / (sqrtf(vi) * c.inv_root_bc2 + c.eps));
    *m = mi;
    *v = vi;
    *weight = p;
}

static __device__ __forceinline__ void average(const Scalars &c, float weight, float *ema)
{
    *ema += c.one_minus_ema * (weight - *ema);
}

/* Four elements in one access: fp32, and bf16. */
struct alignas(16) Four {
    float v[4];
};
struct alignas(8) FourHalves {
    Half v[4];
};

static __device__ __forceinline__ Four load_four(const float *p)
{
    return *reinterpret_cast<const Four *>(p);
}
static __device__ __forceinline__ void store_four(float *p, const Four &x)
{
    *reinterpret_cast<Four *>(p) = x;
}

template <bool EMA, bool HALF>
static __device__ __forceinline__ void update_four(const DeviceUpdate &u, const Scalars &c, int64_t i)
{
    const Four g = load_four(u.grads + i);
    Four weight = load_four(u.weights + i), m = load_four(u.m + i), v = load_four(u.v + i), ema;
    if (EMA) ema = load_four(u.ema + i);
#pragma unroll
    for (int k = 0; k < 4; k++) {
        adamw(c, g.v[k], &weight.v[k], &m.v[k], &v.v[k]);
        if (EMA) average(c, weight.v[k], &ema.v[k]);
    }
    store_four(u.m + i, m);
    store_four(u.v + i, v);
    store_four(u.weights + i, weight);
    if (EMA) store_four(u.ema + i, ema);
    if (HALF) {
        FourHalves half;
#pragma unroll
        for (int k = 0; k < 4; k++) half.v[k] = from_float<Half>(weight.v[k]);
        *reinterpret_cast<FourHalves *>(u.half + i) = half;
    }
}

/* Grid-stride over fours of elements; the last thread that has nothing whole left takes the odd ones. */
template <bool EMA, bool HALF> static __global__ void __launch_bounds__(THREADS) update_weights(DeviceUpdate u)
{
    const UpdateResult *result = u.result;
    if (result->skipped) return;
    const UpdateValues *values = u.values;
    const Scalars c = {(float)(values->grad_scale * result->clip),
                       values->keep,
                       values->one_minus_beta1,
                       values->beta2,
                       values->one_minus_beta2,
                       values->inv_root_bc2,
                       values->eps,
                       values->step_size,
                       values->one_minus_ema};
    const int64_t fours = u.count / 4, stride = (int64_t)gridDim.x * THREADS;
    const int64_t thread = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    for (int64_t i = thread; i < fours; i += stride) update_four<EMA, HALF>(u, c, 4 * i);
    const int64_t odd = 4 * fours + thread;
    if (odd >= u.count) return;
    adamw(c, u.grads[odd], &u.weights[odd], &u.m[odd], &u.v[odd]);
    if (EMA) average(c, u.weights[odd], &u.ema[odd]);
    if (HALF) reinterpret_cast<Half *>(u.half)[odd] = from_float<Half>(u.weights[odd]);
}

template <bool EMA> static void launch_weights(const DeviceUpdate &u, unsigned blocks, cudaStream_t stream)
{
    if (u.half)
        LAUNCH((update_weights<EMA, true>), blocks, THREADS, 0, stream, u);
    else
        LAUNCH((update_weights<EMA, false>), blocks, THREADS, 0, stream, u);
}

static bool aligned(const DeviceUpdate *u)
{
    const uintptr_t fours =
        (uintptr_t)u->grads | (uintptr_t)u->weights | (uintptr_t)u->m | (uintptr_t)u->v | (uintptr_t)u->ema;
    return fours % 16 == 0 && (uintptr_t)u->half % 8 == 0;
}

extern "C" cudaError_t update_launch(const DeviceUpdate *update, cudaStream_t stream)
{
    const DeviceUpdate u = *update;
    if (!aligned(update)) return cudaErrorInvalidValue;
    const int64_t blocks = update_norm_block_count(u.count), groups = update_norm_group_count(u.count);
    double *group = u.sums + blocks;
    if (u.count > 0) {
        const int64_t per_block = THREADS / UPDATE_NORM_LANES;
        LAUNCH(block_squares, (unsigned)((blocks + per_block - 1) / per_block), THREADS, 0, stream, u.grads, u.count,
               u.sums);
        LAUNCH(group_sums, (unsigned)groups, THREADS, 0, stream, u.sums, blocks, group);
    }
    LAUNCH(decide, 1, THREADS, 0, stream, group, groups, u.values, u.result);
    if (u.count > 0) {
        const int64_t wanted = (u.count / 4 + THREADS) / THREADS;
        const unsigned grid = (unsigned)(wanted < MOST_BLOCKS ? wanted : MOST_BLOCKS);
        if (u.ema)
            launch_weights<true>(u, grid, stream);
        else
            launch_weights<false>(u, grid, stream);
    }
    return cudaPeekAtLastError();
}
