/* engine/weight_hash.h on the device: a sum, so blocks add their parts in any order. */
#include "engine/cuda/hash_kernels.h"
#include "engine/cuda/language.h"

#define THREADS 256
#define MOST_BLOCKS 2048

/* weight_hash_mix, which is a function of the host. */
static __device__ __forceinline__ unsigned long long mix(unsigned long long z)
{
    z += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

static __global__ void __launch_bounds__(THREADS)
    hash_words(const uint32_t *words, int64_t count, uint64_t first, unsigned long long *out)
{
    unsigned long long sum = 0;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < count; i += (int64_t)gridDim.x * THREADS)
        sum += mix((first + (uint64_t)i) << 32 | words[i]);
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
    if (threadIdx.x % 32 == 0) atomicAdd(out, sum);
}

extern "C" cudaError_t hash_launch(const void *words, int64_t count, uint64_t first, uint64_t *out, cudaStream_t stream)
{
    const cudaError_t error = cudaMemsetAsync(out, 0, sizeof *out, stream);
    if (error != cudaSuccess || count == 0) return error;
    const int64_t wanted = (count + THREADS - 1) / THREADS;
    LAUNCH(hash_words, (unsigned)(wanted < MOST_BLOCKS ? wanted : MOST_BLOCKS), THREADS, 0, stream,
           (const uint32_t *)words, count, first, (unsigned long long *)out);
    return cudaPeekAtLastError();
}
