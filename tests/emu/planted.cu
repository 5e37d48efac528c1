#include "planted.h"

#include "engine/cuda/language.h"

enum { THREADS = 128, WARPS = THREADS / 32 };

static __device__ float first_lane_after(float v)
{
    if (threadIdx.x % 32 == 7) return v;
    return __shfl_sync(0xffffff7fu, v, 7);
}

template <Planted mistake> static __global__ void row_sums(const float *x, float *y, int cols)
{
    __shared__ float part[WARPS];
    __shared__ float stale[1];
    DYNAMIC_SHARED(float, row);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    float sum = 0;
    for (int i = threadIdx.x; i < cols; i += THREADS) {
        row[i] = x[(size_t)blockIdx.x * cols + i];
        sum += row[i];
    }
    sum = warp_sum(sum);
    if (lane == 0) part[warp] = sum;
    if (mistake != PLANTED_MISSING_BARRIER) __syncthreads();
    if (mistake == PLANTED_GLOBAL_OVERRUN) y[gridDim.x] = 0;
    if (mistake == PLANTED_STATIC_OVERRUN) part[cols] = 0;
    if (mistake == PLANTED_DYNAMIC_OVERRUN) sum += row[cols];
    if (mistake == PLANTED_STALE_SHARED && blockIdx.x == 0) stale[0] = 0;
    if (mistake == PLANTED_STALE_SHARED) sum = stale[0];
    if (mistake == PLANTED_DIVERGENT) {
        if (warp < 2) {
            __syncthreads();
        } else {
            __syncthreads();
        }
    }
    if (mistake == PLANTED_LONELY) {
        if (lane < 16) {
            __syncthreads();
        } else {
            __syncwarp();
        }
    }
    if (mistake == PLANTED_ENDED_LANE) sum = first_lane_after(sum);
    if (threadIdx.x != 0) return;
    if (mistake != PLANTED_STALE_SHARED) sum = 0;
    for (int k = 0; k < WARPS; k++) sum += part[k];
    y[blockIdx.x] = sum;
}

cudaError_t planted_row_sums(Planted mistake, const float *x, float *y, int rows, int cols, cudaStream_t stream)
{
    const size_t shared = (size_t)cols * sizeof(float);
    switch (mistake) {
#define CASE(name)                                                           \
    case name:                                                               \
        LAUNCH((row_sums<name>), rows, THREADS, shared, stream, x, y, cols); \
        break;
        CASE(PLANTED_NOTHING)
        CASE(PLANTED_MISSING_BARRIER)
        CASE(PLANTED_GLOBAL_OVERRUN)
        CASE(PLANTED_STATIC_OVERRUN)
        CASE(PLANTED_DYNAMIC_OVERRUN)
        CASE(PLANTED_STALE_SHARED)
        CASE(PLANTED_DIVERGENT)
        CASE(PLANTED_LONELY)
        CASE(PLANTED_ENDED_LANE)
#undef CASE
    }
    return cudaPeekAtLastError();
}

static __global__ void fill(float *y, int n, float value)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = value;
}

cudaError_t planted_fill(float *y, int n, float value, int threads, cudaStream_t stream)
{
    LAUNCH(fill, dim3(n / threads + 1), threads, 0, stream, y, n, value);
    return cudaPeekAtLastError();
}

static __global__ void add(const float *x, const float *value, float *y, int n)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i] + *value;
}

cudaError_t planted_add(const float *x, const float *value, float *y, int n, cudaStream_t stream)
{
    LAUNCH(add, dim3(n / 64 + 1), 64, 0, stream, x, value, y, n);
    return cudaPeekAtLastError();
}
