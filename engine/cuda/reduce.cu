/* Column sums in two passes: chunks of rows are summed by blocks that each own a tile of columns, then the chunks.
 * Which rows a chunk has depends on the shape and the device alone, and every sum has a fixed order. */
#include "engine/cuda/language.h"
#include "engine/cuda/reduce_kernels.h"

#define THREADS 256
#define TILE_COLUMNS 128 /* of bf16, 16 bytes a thread; what the count of chunks is reckoned with */
#define CHUNK_ROWS 64    /* at least */
#define BLOCKS_PER_SM 8  /* of 256 threads: all that an SM holds */
#define ROWS_IN_FLIGHT 4 /* loads that a thread has on their way */

/* V neighbouring values, loaded in one access where V values are 16 bytes. */
template <class T, int V> struct alignas(sizeof(T) * V) Values {
    T v[V];
};

static int64_t chunk_count(int64_t rows, int64_t c, int32_t processors)
{
    const int64_t tiles = (c + TILE_COLUMNS - 1) / TILE_COLUMNS;
    const int64_t wanted = ((int64_t)processors * BLOCKS_PER_SM + tiles - 1) / tiles;
    const int64_t most = (rows + CHUNK_ROWS - 1) / CHUNK_ROWS;
    const int64_t chunks = wanted < most ? wanted : most;
    return chunks < 1 ? 1 : chunks > 65535 ? 65535 : chunks;
}

extern "C" int64_t column_sums_partial(int64_t rows, int64_t c, int32_t processors)
{
    const int64_t chunks = chunk_count(rows, c, processors);
    return chunks > 1 ? chunks * c : 0;
}

/* grid (tiles, chunks): out[chunk][column] of the tile's WIDTH x V columns over the chunk's rows. Threads stand WIDTH
 * wide over columns; the others take rows in turn. */
template <class T, int V, int WIDTH>
static __global__ void __launch_bounds__(THREADS)
    chunk_sums(const T *x, int64_t rows, int64_t c, int64_t chunk_rows, float *out, bool add)
{
    constexpr int height = THREADS / WIDTH;
    __shared__ float shared[height][WIDTH * V];
    const int tx = threadIdx.x % WIDTH, ty = threadIdx.x / WIDTH;
    const int64_t column = ((int64_t)blockIdx.x * WIDTH + tx) * V;
    const int64_t first = blockIdx.y * chunk_rows;
    const int64_t end = first + chunk_rows < rows ? first + chunk_rows : rows;
    float sum[V];
    for (int k = 0; k < V; k++) sum[k] = 0;
    if (column < c) {
        int64_t r = first + ty;
        const T *p = x + r * c + column;
        for (; r + (ROWS_IN_FLIGHT - 1) * height < end; r += ROWS_IN_FLIGHT * height) {
            Values<T, V> row[ROWS_IN_FLIGHT];
#pragma unroll
            for (int i = 0; i < ROWS_IN_FLIGHT; i++, p += height * c)
                row[i] = *reinterpret_cast<const Values<T, V> *>(p);
#pragma unroll
            for (int i = 0; i < ROWS_IN_FLIGHT; i++)
#pragma unroll
                for (int k = 0; k < V; k++) sum[k] += to_float(row[i].v[k]);
        }
        for (; r < end; r += height, p += height * c) {
            const Values<T, V> row = *reinterpret_cast<const Values<T, V> *>(p);
#pragma unroll
            for (int k = 0; k < V; k++) sum[k] += to_float(row.v[k]);
        }
    }
#pragma unroll
    for (int k = 0; k < V; k++) shared[ty][tx * V + k] = sum[k];
    __syncthreads();
    const int64_t tile = (int64_t)blockIdx.x * WIDTH * V;
    for (int k = threadIdx.x; k < WIDTH * V && tile + k < c; k += THREADS) {
        float total = 0;
        for (int i = 0; i < height; i++) total += shared[i][k];
        put(out + blockIdx.y * c + tile + k, total, add);
    }
}

/* grid (columns / 32): out[column] = sum over chunks of partial[chunk][column] */
static __global__ void __launch_bounds__(THREADS)
    sum_chunks(const float *partial, int32_t chunks, int64_t c, float *out, bool add)
{
    constexpr int width = 32, height = THREADS / width;
    __shared__ float shared[height][width];
    const int tx = threadIdx.x % width, ty = threadIdx.x / width;
    const int64_t column = (int64_t)blockIdx.x * width + tx;
    float sum = 0;
    if (column < c) {
#pragma unroll 4
        for (int32_t i = ty; i < chunks; i += height) sum += partial[i * c + column];
    }
    shared[ty][tx] = sum;
    __syncthreads();
    if (ty > 0 || column >= c) return;
    float total = 0;
    for (int i = 0; i < height; i++) total += shared[i][tx];
    put(out + column, total, add);
}

template <class T, int V, int WIDTH>
static void launch_chunks(const T *x, int64_t rows, int64_t c, int64_t chunks, float *out, bool add,
                          cudaStream_t stream)
{
    const int64_t tile = WIDTH * V, chunk_rows = (rows + chunks - 1) / chunks;
    const dim3 grid((unsigned)((c + tile - 1) / tile), (unsigned)chunks);
    LAUNCH((chunk_sums<T, V, WIDTH>), grid, THREADS, 0, stream, x, rows, c, chunk_rows, out, add);
}

template <class T>
static void launch_typed(const T *x, int64_t rows, int64_t c, int64_t chunks, float *out, bool add, cudaStream_t stream)
{
    constexpr int wide = 16 / sizeof(T);
    if ((uintptr_t)x % 16 == 0 && c % wide == 0)
        launch_chunks<T, wide, 16>(x, rows, c, chunks, out, add, stream);
    else
        launch_chunks<T, 1, 32>(x, rows, c, chunks, out, add, stream);
}

extern "C" cudaError_t column_sums_launch(const void *x, Dtype type, int64_t rows, int64_t c, float *out, bool add,
                                          float *partial, int32_t processors, cudaStream_t stream)
{
    if (c < 1) return cudaSuccess;
    const int64_t chunks = chunk_count(rows, c, processors);
    float *sums = chunks > 1 ? partial : out;
    const bool chunk_adds = chunks > 1 ? false : add;
    if (type == DTYPE_BF16)
        launch_typed((const Half *)x, rows, c, chunks, sums, chunk_adds, stream);
    else
        launch_typed((const float *)x, rows, c, chunks, sums, chunk_adds, stream);
    if (chunks > 1)
        LAUNCH(sum_chunks, (unsigned)((c + 31) / 32), THREADS, 0, stream, partial, (int32_t)chunks, c, out, add);
    return cudaPeekAtLastError();
}
