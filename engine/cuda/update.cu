/* Gradient norm, clipping, AdamW, moving average and bf16 copy. The bits are those of optim/grad_norm.c and
 * optim/adamw.c: the same sums in the same order, the same operations on each element, none of them contracted (this
 * file is compiled with --fmad=false) and all correctly rounded. */
#include <float.h>

#include "engine/cuda/language.h"
#include "engine/cuda/update_kernels.h"

#define THREADS 256
#define MOST_BLOCKS 65536

static_assert(UPDATE_NORM_LANES == 8 && UPDATE_NORM_BLOCK % 64 == 0, "eight threads sum a block");

/* ---- spans ----
 *
 * Spans lie one behind the other in the local buffers, so a launch goes over local norm blocks, and each block finds
 * the span that it is in. The table is an argument of the launch, so a recording keeps it; more spans than fit are
 * several launches. */

#define SPANS_OF_A_LAUNCH 128 /* 3 KiB of the 4 KiB of arguments that every driver takes */

struct SpanTable {
    int64_t first, end; /* norm blocks of the local buffers */
    int32_t count;
    UpdateSpan span[SPANS_OF_A_LAUNCH];
};

struct NormBlock {
    int64_t flat, local; /* of its first element */
    int count;           /* elements */
};

/* Of the local norm block `index`, first <= index < end. */
static __device__ __forceinline__ NormBlock find_block(const SpanTable &table, int64_t index)
{
    const int64_t local = index * UPDATE_NORM_BLOCK;
    int low = 0, high = table.count; /* the last span that begins at or before `local` */
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (table.span[middle].local <= local)
            low = middle;
        else
            high = middle;
    }
    const int64_t inside = local - table.span[low].local, left = table.span[low].count - inside;
    return {table.span[low].flat + inside, local, left < UPDATE_NORM_BLOCK ? (int)left : UPDATE_NORM_BLOCK};
}

/* ---- norm: a thread for each running sum ---- */

static __device__ __forceinline__ void add_square(double *sum, float g)
{
    *sum += (double)g * (double)g; /* the product is exact */
}

/* sums[b] = sum of the squares of block b of the flat buffer. Eight neighbouring threads share a block, so that a warp
 * reads whole sectors of memory; the loads of several elements are on their way while they are added in order. */
static __global__ void __launch_bounds__(THREADS)
    block_squares(const __grid_constant__ SpanTable table, const float *grads, double *sums)
{
    constexpr int in_flight = 8;
    const int lane = threadIdx.x % UPDATE_NORM_LANES;
    const int64_t index = table.first + ((int64_t)blockIdx.x * THREADS + threadIdx.x) / UPDATE_NORM_LANES;
    NormBlock block = {0, 0, 0};
    if (index < table.end) block = find_block(table, index);
    const float *g = grads + block.flat + lane;
    double sum = 0;
    if (block.count == UPDATE_NORM_BLOCK) {
        for (int i = 0; i < UPDATE_NORM_BLOCK; i += UPDATE_NORM_LANES * in_flight) {
            float value[in_flight];
#pragma unroll
            for (int k = 0; k < in_flight; k++) value[k] = g[i + k * UPDATE_NORM_LANES];
#pragma unroll
            for (int k = 0; k < in_flight; k++) add_square(&sum, value[k]);
        }
    } else {
        for (int i = lane; i < block.count; i += UPDATE_NORM_LANES) add_square(&sum, grads[block.flat + i]);
    }
    /* ((0 + 4) + (2 + 6)) + ((1 + 5) + (3 + 7)); addition commutes to the bit, so every lane gets it. */
    sum += __shfl_xor_sync(0xffffffffu, sum, 4);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    if (lane == 0 && block.count > 0) sums[block.flat / UPDATE_NORM_BLOCK] = sum;
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
    UpdateSkip skipped = UPDATE_DONE;
    if (norm > values->norm_limit) skipped = UPDATE_OVER_LIMIT;
    if (!(squares <= DBL_MAX)) skipped = UPDATE_NOT_FINITE; /* NaN or infinite: squares are not negative */
    result->squares = squares;
    result->norm = norm;
    result->clip = skipped == UPDATE_DONE ? clip : 1;
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

/* Where the elements of a norm block are. */
struct Place {
    const float *grads;
    float *weights, *m, *v, *ema;
    Half *half;
};

template <bool EMA, bool HALF>
static __device__ __forceinline__ void update_four(const Place &at, const Scalars &c, int i)
{
    const Four g = load_four(at.grads + i);
    Four weight = load_four(at.weights + i), m = load_four(at.m + i), v = load_four(at.v + i), ema;
    if (EMA) ema = load_four(at.ema + i);
#pragma unroll
    for (int k = 0; k < 4; k++) {
        adamw(c, g.v[k], &weight.v[k], &m.v[k], &v.v[k]);
        if (EMA) average(c, weight.v[k], &ema.v[k]);
    }
    store_four(at.m + i, m);
    store_four(at.v + i, v);
    store_four(at.weights + i, weight);
    if (EMA) store_four(at.ema + i, ema);
    if (HALF) {
        FourHalves half;
#pragma unroll
        for (int k = 0; k < 4; k++) half.v[k] = from_float<Half>(weight.v[k]);
        *reinterpret_cast<FourHalves *>(at.half + i) = half;
    }
}

template <bool EMA, bool HALF>
static __device__ __forceinline__ void update_one(const Place &at, const Scalars &c, int i)
{
    adamw(c, at.grads[i], &at.weights[i], &at.m[i], &at.v[i]);
    if (EMA) average(c, at.weights[i], &at.ema[i]);
    if (HALF) at.half[i] = from_float<Half>(at.weights[i]);
}

template <bool EMA, bool HALF>
static __device__ __forceinline__ void update_block(const Place &at, const Scalars &c, int count)
{
    const int fours = count / 4;
    if (count == UPDATE_NORM_BLOCK) {
#pragma unroll
        for (int k = 0; k < UPDATE_NORM_BLOCK / 4 / THREADS; k++)
            update_four<EMA, HALF>(at, c, 4 * (k * THREADS + (int)threadIdx.x));
        return;
    }
    for (int i = threadIdx.x; i < fours; i += THREADS) update_four<EMA, HALF>(at, c, 4 * i);
    const int odd = 4 * fours + (int)threadIdx.x;
    if (odd < count) update_one<EMA, HALF>(at, c, odd);
}

/* ---- groups ---- */

/* The segment that holds element `flat`. */
static __device__ __forceinline__ const UpdateSegment *find_segment(const DeviceUpdate &u, int64_t flat)
{
    int low = 0, high = u.segment_count - 1; /* the first that ends after it */
    while (low < high) {
        const int middle = (low + high) / 2;
        if (u.segments[middle].end <= flat)
            low = middle + 1;
        else
            high = middle;
    }
    return &u.segments[low];
}

static __device__ __forceinline__ Scalars scalars_of(const UpdateValues *values, double clip, const UpdateGroup &group)
{
    return {(float)(values->grad_scale * clip),
            group.keep,
            values->one_minus_beta1,
            values->beta2,
            values->one_minus_beta2,
            values->inv_root_bc2,
            values->eps,
            group.step_size,
            values->one_minus_ema};
}

/* A block with elements of several groups. A segment begins at a multiple of 16, so a four has one group. */
template <bool EMA, bool HALF>
static __device__ __forceinline__ void update_mixed(const DeviceUpdate &u, const Place &at, const NormBlock &block)
{
    for (int i = 4 * (int)threadIdx.x; i < block.count; i += 4 * THREADS) {
        const UpdateGroup group = u.values->group[find_segment(u, block.flat + i)->group];
        const Scalars c = scalars_of(u.values, u.result->clip, group);
        const int end = i + 4 < block.count ? i + 4 : block.count;
        if (group.held) {
            for (int k = i; EMA && k < end; k++) average(c, at.weights[k], &at.ema[k]);
        } else if (end == i + 4) {
            update_four<EMA, HALF>(at, c, i);
        } else {
            for (int k = i; k < end; k++) update_one<EMA, HALF>(at, c, k);
        }
    }
}

/* A block of one group, if it is: else false. */
template <bool EMA, bool HALF>
static __device__ __forceinline__ bool update_uniform(const DeviceUpdate &u, const Place &at, const NormBlock &block)
{
    const UpdateSegment *segment = u.segments ? find_segment(u, block.flat) : NULL;
    if (segment && segment->end < block.flat + block.count) return false;
    const UpdateGroup group = u.values->group[segment ? segment->group : 0];
    const Scalars c = scalars_of(u.values, u.result->clip, group);
    if (!group.held) {
        update_block<EMA, HALF>(at, c, block.count);
    } else if (EMA) {
        for (int i = threadIdx.x; i < block.count; i += THREADS) average(c, at.weights[i], &at.ema[i]);
    }
    return true;
}

static_assert(UPDATE_NORM_BLOCK % (4 * THREADS) == 0, "a block of threads takes whole fours of a norm block");

/* A block of threads for each norm block, and again if they are too many. */
template <bool EMA, bool HALF>
static __global__ void __launch_bounds__(THREADS)
    update_weights(const __grid_constant__ SpanTable table, const __grid_constant__ DeviceUpdate u)
{
    if (u.result->skipped) return;
    for (int64_t index = table.first + blockIdx.x; index < table.end; index += gridDim.x) {
        const NormBlock block = find_block(table, index);
        const Place at = {u.grads + block.flat,
                          u.weights + block.flat,
                          u.m + block.local,
                          u.v + block.local,
                          EMA ? u.ema + block.local : NULL,
                          HALF ? reinterpret_cast<Half *>(u.half) + block.flat : NULL};
        if (!update_uniform<EMA, HALF>(u, at, block)) update_mixed<EMA, HALF>(u, at, block);
    }
}

template <bool EMA>
static void launch_weights(const SpanTable &table, const DeviceUpdate &u, unsigned blocks, cudaStream_t stream)
{
    if (u.half)
        LAUNCH((update_weights<EMA, true>), blocks, THREADS, 0, stream, table, u);
    else
        LAUNCH((update_weights<EMA, false>), blocks, THREADS, 0, stream, table, u);
}

/* ---- launches ---- */

/* Aligned buffers, and spans as engine/update.h says. */
static bool well_formed(const DeviceUpdate *u)
{
    const uintptr_t fours =
        (uintptr_t)u->grads | (uintptr_t)u->weights | (uintptr_t)u->m | (uintptr_t)u->v | (uintptr_t)u->ema;
    int64_t local = 0;
    if (fours % 16 != 0 || (uintptr_t)u->half % 8 != 0 || u->span_count < 0) return false;
    if (u->segments && u->segment_count < 1) return false;
    for (int32_t i = 0; i < u->span_count; i++) {
        const UpdateSpan *span = &u->spans[i];
        const bool last = i == u->span_count - 1;
        if (span->local != local || span->flat < 0 || span->flat % UPDATE_NORM_BLOCK != 0) return false;
        if (span->count < 0 || span->count > u->count - span->flat) return false;
        if (!last && span->count % UPDATE_NORM_BLOCK != 0) return false;
        local += span->count;
    }
    return true;
}

/* The next spans that one launch takes, from *next on; false: there are none. */
static bool next_table(const DeviceUpdate *u, int32_t *next, SpanTable *table)
{
    table->count = 0;
    while (*next < u->span_count && table->count < SPANS_OF_A_LAUNCH) {
        const UpdateSpan span = u->spans[(*next)++];
        if (span.count > 0) table->span[table->count++] = span;
    }
    if (table->count == 0) return false;
    const UpdateSpan last = table->span[table->count - 1];
    table->first = table->span[0].local / UPDATE_NORM_BLOCK;
    table->end = update_norm_block_count(last.local + last.count);
    return true;
}

extern "C" cudaError_t update_norm_launch(const DeviceUpdate *u, cudaStream_t stream)
{
    SpanTable table = {};
    int32_t next = 0;
    if (!well_formed(u)) return cudaErrorInvalidValue;
    while (next_table(u, &next, &table)) {
        const int64_t per_block = THREADS / UPDATE_NORM_LANES, blocks = table.end - table.first;
        LAUNCH(block_squares, (unsigned)((blocks + per_block - 1) / per_block), THREADS, 0, stream, table, u->grads,
               u->sums);
    }
    return cudaPeekAtLastError();
}

extern "C" cudaError_t update_apply_launch(const DeviceUpdate *u, cudaStream_t stream)
{
    const int64_t blocks = update_norm_block_count(u->count), groups = update_norm_group_count(u->count);
    double *group = u->sums + blocks;
    SpanTable table = {};
    int32_t next = 0;
    if (!well_formed(u)) return cudaErrorInvalidValue;
    if (groups > 0) LAUNCH(group_sums, (unsigned)groups, THREADS, 0, stream, u->sums, blocks, group);
    LAUNCH(decide, 1, THREADS, 0, stream, group, groups, u->values, u->result);
    while (next_table(u, &next, &table)) {
        const int64_t wanted = table.end - table.first;
        const unsigned grid = (unsigned)(wanted < MOST_BLOCKS ? wanted : MOST_BLOCKS);
        if (u->ema)
            launch_weights<true>(table, *u, grid, stream);
        else
            launch_weights<false>(table, *u, grid, stream);
    }
    return cudaPeekAtLastError();
}
