/* A hash by which ranks compare weights that must be the same to the bit. It is a sum over words, so any number of
 * threads or blocks may add up parts of it in any order, here and on a device (DeviceOps.hash):
 *
 *   hash = sum over i of mix((first + i) << 32 | word_i)  mod 2^64,  mix: the finalizer of SplitMix64
 *
 * mix is a bijection, so a single changed word always changes the hash; several cancel with probability 2^-64.
 * Source: G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number generators" (2014). */
#ifndef ENGINE_WEIGHT_HASH_H
#define ENGINE_WEIGHT_HASH_H

#include <stdint.h>

static inline uint64_t weight_hash_mix(uint64_t z)
{
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* `first`: the place of words[0] in the whole; at most 2^32 words in all. */
uint64_t weight_hash(const uint32_t *words, int64_t count, uint64_t first, int threads);

#endif
