/* Neighbouring channels that the kernels of norms read and write at once: 16 bytes of them, or one. */
#ifndef ENGINE_CUDA_NORM_PACK_H
#define ENGINE_CUDA_NORM_PACK_H

#include <string.h>

#include "engine/cuda/language.h"

/* V values; 8 bf16 are 4 words, each with the lower channel in its lower half. */
template <class T, int V> struct Pack {
    T at[V];
};
template <> struct alignas(16) Pack<float, 4> {
    float at[4];
};
template <> struct alignas(16) Pack<Half, 8> {
    uint32_t word[4];
};
template <class T, int V> static __device__ __forceinline__ float pack_get(const Pack<T, V> &pack, int j)
{
    return to_float(pack.at[j]);
}
template <> __device__ __forceinline__ float pack_get<Half, 8>(const Pack<Half, 8> &pack, int j)
{
    const uint32_t word = pack.word[j / 2];
    return __uint_as_float(j % 2 == 0 ? word << 16 : word & 0xffff0000u);
}
template <class T, int V> static __device__ __forceinline__ Pack<T, V> pack_of(const float (&value)[V])
{
    Pack<T, V> pack;
#pragma unroll
    for (int j = 0; j < V; j++) pack.at[j] = from_float<T>(value[j]);
    return pack;
}
template <> __device__ __forceinline__ Pack<Half, 8> pack_of<Half, 8>(const float (&value)[8])
{
    Pack<Half, 8> pack;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const __nv_bfloat162 pair = __floats2bfloat162_rn(value[2 * i], value[2 * i + 1]);
        memcpy(&pack.word[i], &pair, sizeof(pair));
    }
    return pack;
}
template <class T, int V> static __device__ __forceinline__ Pack<T, V> pack_read(const T *from)
{
    return *reinterpret_cast<const Pack<T, V> *>(from);
}
template <class T, int V> static __device__ __forceinline__ void pack_write(T *to, const Pack<T, V> &pack)
{
    *reinterpret_cast<Pack<T, V> *>(to) = pack;
}

#endif
