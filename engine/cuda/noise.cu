/* base/random.c on the device: the same operations in the same order, and so the same bits. That holds without
 * contraction of a*b+c alone, for which this file is compiled with --fmad=false. */
#include <string.h>

#include "engine/cuda/diffusion_kernels.h"
#include "engine/cuda/vector.h"

namespace
{

enum { THREADS = 128 };

struct Words {
    uint32_t at[4];
};

/* Philox4x32-10. */
__device__ __forceinline__ Words philox(uint64_t key, Words c)
{
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xd2511f53u * c.at[0], p1 = (uint64_t)0xcd9e8d57u * c.at[2];
        c = {{(uint32_t)(p1 >> 32) ^ c.at[1] ^ k0, (uint32_t)p1, (uint32_t)(p0 >> 32) ^ c.at[3] ^ k1, (uint32_t)p0}};
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    return c;
}

/* ln x for x in (0, 1]: random.c's log_unit. */
__device__ __forceinline__ float log_unit(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits -= 0x3f3504f3u; /* sqrt(1/2) */
    const int32_t exponent = (int32_t)bits >> 23;
    bits = (bits & 0x007fffffu) + 0x3f3504f3u;
    float m;
    memcpy(&m, &bits, sizeof m);
    const float s = (m - 1.0f) / (m + 1.0f);
    const float z = s * s;
    const float series = 1.0f + z * (1.0f / 3.0f + z * (1.0f / 5.0f + z * (1.0f / 7.0f + z * (1.0f / 9.0f))));
    return (float)exponent * 0.693147181f + 2.0f * s * series;
}

/* Box-Muller of two words: radius sqrt(-2 ln u), angle 2 pi w / 2^32; random.c's normal_group. */
__device__ __forceinline__ void normal_pair(uint32_t u, uint32_t w, float *even, float *odd)
{
    const float unit = ((float)(int32_t)(u >> 1) + 0.5f) * 0x1p-31f;
    const float radius = sqrtf(-2.0f * log_unit(unit));
    const uint32_t quadrant = (w + 0x20000000u) >> 30;
    const float x = (float)(int32_t)(w - (quadrant << 30)) * (1.57079633f * 0x1p-30f);
    const float z = x * x;
    const float sine = x + x * z * (-1.0f / 6 + z * (1.0f / 120 + z * (-1.0f / 5040 + z * (1.0f / 362880))));
    const float cosine = 1.0f + z * (-0.5f + z * (1.0f / 24 + z * (-1.0f / 720 + z * (1.0f / 40320))));
    const float c = quadrant & 1 ? sine : cosine, s = quadrant & 1 ? cosine : sine;
    *even = radius * ((quadrant + 1) & 2 ? -c : c);
    *odd = radius * (quadrant & 2 ? -s : s);
}

/* A thread has one block of Philox: four elements of a sample. */
__global__ void __launch_bounds__(THREADS) noise_kernel(const int32_t *index, float *y, int64_t n, int64_t elements,
                                                        uint64_t seed, uint32_t purpose, bool in_packs)
{
    const int64_t per_sample = (elements + 3) / 4, i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n * per_sample) return;
    const int64_t sample = i / per_sample, block = i - sample * per_sample;
    const Words counter = {{(uint32_t)block, ((uint32_t)(block >> 32) & 0xffffffu) | purpose << 24,
                            (uint32_t)index[2 * sample], (uint32_t)index[2 * sample + 1]}};
    const Words words = philox(seed, counter);
    Pack<float, 4> normals;
    normal_pair(words.at[0], words.at[1], &normals.at[0], &normals.at[1]);
    normal_pair(words.at[2], words.at[3], &normals.at[2], &normals.at[3]);
    float *to = y + sample * elements + 4 * block;
    if (in_packs) {
        store_pack<float, 4>(to, normals);
    } else {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            if (4 * block + e < elements) to[e] = normals.at[e];
        }
    }
}

} // namespace

cudaError_t noise_launch(const int32_t *index, float *y, int64_t n, int64_t elements, uint64_t seed,
                         RandomPurpose purpose, cudaStream_t stream)
{
    const bool in_packs = elements % 4 == 0 && is_aligned(y, 16);
    LAUNCH(noise_kernel, dim3((unsigned)blocks_for(n * blocks_for(elements, 4), THREADS)), dim3(THREADS), 0, stream,
           index, y, n, elements, seed, (uint32_t)purpose, in_packs);
    return cudaPeekAtLastError();
}
