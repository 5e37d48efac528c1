#include "engine/cuda/language.h"

#include "engine/cuda/attention_pack_kernels.h"

enum { THREADS = 256, WARPS = THREADS / 32 };

/* Enough to fill any device; more would only set out more often. */
static unsigned blocks_for(int64_t blocks)
{
    return blocks < 4096 ? (unsigned)blocks : 4096u;
}

/* V elements that one thread loads or stores at once. */
template <class T, int V> struct alignas(sizeof(T) * V) Lanes {
    T at[V];
};

template <class To, int V> static __device__ __forceinline__ Lanes<To, V> zeros()
{
    Lanes<To, V> z;
    for (int i = 0; i < V; i++) z.at[i] = from_float<To>(0.0f);
    return z;
}

static __device__ __forceinline__ void convert(float x, float *y)
{
    *y = x;
}
static __device__ __forceinline__ void convert(Half x, Half *y)
{
    *y = x;
}
static __device__ __forceinline__ void convert(float x, Half *y)
{
    *y = from_float<Half>(x);
}

/* blockIdx.y: which move. A block is columns x rows of threads; each keeps its columns and walks down the rows of all
 * samples. */
template <class From, class To, int V>
static __global__ void __launch_bounds__(THREADS) head_move(const HeadMoves moves)
{
    const HeadMove &move = moves.move[blockIdx.y];
    const int per_head = (int)moves.d / V, columns = (int)moves.heads * per_head;
    const unsigned rows = (unsigned)move.rows, all = rows * (unsigned)moves.samples;
    const unsigned first = blockIdx.x * blockDim.y + threadIdx.y, step = gridDim.x * blockDim.y;
    for (int c = (int)threadIdx.x; c < columns; c += (int)blockDim.x) {
        const int head = c / per_head, at = (c - head * per_head) * V;
        const From *from = (const From *)move.from.data + head * move.from.head + at;
        To *to = (To *)move.to.data + head * move.to.head + at;
        for (unsigned i = first; i < all; i += step) {
            const unsigned n = i / rows, row = i - n * rows;
            const int64_t source = move.map ? move.map[i] : (int64_t)row;
            Lanes<To, V> *target = (Lanes<To, V> *)(to + n * move.to.sample + row * move.to.row);
            Lanes<To, V> y = zeros<To, V>();
            if (source >= 0) {
                const Lanes<From, V> x =
                    *(const Lanes<From, V> *)(from + n * move.from.sample + source * move.from.row);
                for (int k = 0; k < V; k++) convert(x.at[k], &y.at[k]);
            }
            if (move.add) {
                const Lanes<To, V> old = *target;
                for (int k = 0; k < V; k++) y.at[k] = from_float<To>(to_float(old.at[k]) + to_float(y.at[k]));
            }
            *target = y;
        }
    }
}

/* Whether all rows begin at multiples of `lanes` elements and `bytes` bytes. */
static bool is_aligned(const HeadRows *rows, int lanes, size_t bytes)
{
    return (uintptr_t)rows->data % bytes == 0 && rows->sample % lanes == 0 && rows->row % lanes == 0 &&
           rows->head % lanes == 0;
}

template <class From, class To> static cudaError_t move_launch(const HeadMoves *moves, cudaStream_t stream)
{
    constexpr int lanes = (int)(16 / (sizeof(From) > sizeof(To) ? sizeof(From) : sizeof(To)));
    bool wide = moves->d % lanes == 0;
    int64_t rows = 0;
    for (int i = 0; i < moves->count; i++) {
        const HeadMove *move = &moves->move[i];
        wide = wide && is_aligned(&move->from, lanes, lanes * sizeof(From)) &&
               is_aligned(&move->to, lanes, lanes * sizeof(To));
        if (move->rows * moves->samples > rows) rows = move->rows * moves->samples;
    }
    const int64_t columns = moves->heads * moves->d / (wide ? lanes : 1);
    if (rows > INT32_MAX || columns > INT32_MAX) return cudaErrorInvalidValue;
    if (rows == 0) return cudaSuccess;
    const unsigned x = columns < THREADS ? (unsigned)(columns + 31) / 32 * 32 : (unsigned)THREADS, y = THREADS / x;
    const dim3 grid(blocks_for((rows + y - 1) / y), (unsigned)moves->count), block(x, y);
    if (wide) {
        LAUNCH((head_move<From, To, lanes>), grid, block, 0, stream, *moves);
    } else {
        LAUNCH((head_move<From, To, 1>), grid, block, 0, stream, *moves);
    }
    return cudaPeekAtLastError();
}

cudaError_t head_move_launch(const HeadMoves *moves, cudaStream_t stream)
{
    if (moves->count == 0) return cudaSuccess;
    if (moves->from == DTYPE_BF16 && moves->to == DTYPE_BF16) return move_launch<Half, Half>(moves, stream);
    if (moves->from == DTYPE_F32 && moves->to == DTYPE_BF16) return move_launch<float, Half>(moves, stream);
    if (moves->from == DTYPE_F32 && moves->to == DTYPE_F32) return move_launch<float, float>(moves, stream);
    return cudaErrorInvalidValue;
}

/* One warp a sample: 32 keys at a time, each counts the visible ones before it. */
static __global__ void __launch_bounds__(32) head_slots(const HeadSlots s)
{
    const int64_t first = blockIdx.x * s.keys;
    const int lane = (int)threadIdx.x;
    int visible = 0;
    for (int64_t at = 0; at < s.keys; at += 32) {
        const int64_t key = at + lane;
        const bool seen = key < s.keys && s.mask[first + key] != 0;
        const unsigned seen_by = __ballot_sync(0xffffffffu, seen);
        const int slot = visible + __popc(seen_by & ((1u << lane) - 1u));
        if (key < s.keys) s.place[first + key] = seen ? slot : -1;
        if (seen) s.source[first + slot] = (int32_t)key;
        visible += __popc(seen_by);
    }
    for (int64_t slot = visible + lane; slot < s.keys; slot += 32) s.source[first + slot] = -1;
    if (lane == 0) {
        s.lengths[blockIdx.x] = s.before + visible > 0 ? s.before + visible : 1;
        s.rows[blockIdx.x] = s.queries;
    }
}

cudaError_t head_slots_launch(const HeadSlots *slots, cudaStream_t stream)
{
    if (slots->samples > INT32_MAX || slots->before + slots->keys > INT32_MAX) return cudaErrorInvalidValue;
    LAUNCH(head_slots, dim3((unsigned)slots->samples), dim3(32), 0, stream, *slots);
    return cudaPeekAtLastError();
}

static __global__ void __launch_bounds__(THREADS) head_counts(const HeadCounts c)
{
    const int64_t n = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (n < c.samples) {
        c.rows[n] = c.queries;
        c.lengths[n] = c.keys;
    }
}

cudaError_t head_counts_launch(const HeadCounts *counts, cudaStream_t stream)
{
    const int64_t blocks = (counts->samples + THREADS - 1) / THREADS;
    if (blocks > INT32_MAX) return cudaErrorInvalidValue;
    LAUNCH(head_counts, dim3((unsigned)blocks), dim3(THREADS), 0, stream, *counts);
    return cudaPeekAtLastError();
}

/* One warp a row, in the order in which they lie: (N,T,heads). */
template <class T> static __global__ void __launch_bounds__(THREADS) head_dots(const HeadDots a)
{
    const int lane = (int)threadIdx.x % 32;
    const int64_t count = a.samples * a.rows * a.heads;
    for (int64_t i = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32; i < count; i += (int64_t)gridDim.x * WARPS) {
        const int64_t head = i % a.heads, row = i / a.heads % a.rows, n = i / a.heads / a.rows;
        const T *y = (const T *)a.y.data + n * a.y.sample + row * a.y.row + head * a.y.head;
        const T *dy = (const T *)a.dy.data + n * a.dy.sample + row * a.dy.row + head * a.dy.head;
        float sum = 0;
        for (int64_t k = lane; k < a.d; k += 32) sum += to_float(y[k]) * to_float(dy[k]);
        sum = warp_sum(sum);
        if (lane == 0) a.delta[(n * a.heads + head) * a.rows + row] = sum;
    }
}

cudaError_t head_dots_launch(const HeadDots *dots, cudaStream_t stream)
{
    const int64_t blocks = (dots->samples * dots->rows * dots->heads + WARPS - 1) / WARPS;
    const dim3 grid(blocks_for(blocks));
    if (dots->type == DTYPE_BF16) {
        LAUNCH(head_dots<Half>, grid, dim3(THREADS), 0, stream, *dots);
    } else {
        LAUNCH(head_dots<float>, grid, dim3(THREADS), 0, stream, *dots);
    }
    return cudaPeekAtLastError();
}
