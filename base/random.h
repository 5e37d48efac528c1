/* Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
 *
 * A number is a pure function of (seed, purpose, index, element): never of rank, thread, or time. `index` is usually
 * the global sample index, so sample i draws the same timestep and noise on 1 or 196 ranks and after any resume.
 * The counter is {element/4 (64 bits: low word, then high word's low 24 bits | purpose << 24), index (64 bits)}; the
 * key is the seed. Element e takes word e%4 of its block. */
#ifndef BASE_RANDOM_H
#define BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

typedef enum RandomPurpose {
    RANDOM_INIT = 1, /* index: hash of the parameter's name */
    RANDOM_TIMESTEP, /* index: global sample index, as below unless said otherwise */
    RANDOM_NOISE,
    RANDOM_CAPTION_DROP,
    RANDOM_CAPTION_PICK, /* which of several captions or languages */
    RANDOM_SOURCE,       /* which source of the mixture */
    RANDOM_SHARD_ORDER,  /* index: epoch (and source) */
    RANDOM_BLOCK_ORDER,  /* order within a block of samples */
    RANDOM_CROP,
    RANDOM_FLIP,
    RANDOM_MASK,
    RANDOM_POSTERIOR,    /* autoencoder posterior */
    RANDOM_SAMPLE_START, /* sampling: x_T of picture i */
    RANDOM_SAMPLE_STEP,  /* sampling: noise of a step; index = picture * 1024 + step */
    RANDOM_TEST
} RandomPurpose;

/* One block: out[4] from key[2] and counter[4]. Test vectors: Random123's kat_vectors. */
void philox4x32(const uint32_t key[2], const uint32_t counter[4], uint32_t out[4]);

uint32_t random_u32(uint64_t seed, RandomPurpose purpose, uint64_t index, uint64_t element);
/* Uniform on [0, 1) with 24 bits. */
float random_uniform(uint64_t seed, RandomPurpose purpose, uint64_t index, uint64_t element);
/* The same of many elements: out[k] is element first + k. */
void random_uniforms(uint64_t seed, RandomPurpose purpose, uint64_t index, uint64_t first, float *out, size_t count);
/* Uniform integer in [0, n), n >= 1, without modulo bias worth measuring (64-bit multiply-shift). */
uint64_t random_below(uint64_t seed, RandomPurpose purpose, uint64_t index, uint64_t element, uint64_t n);
/* Standard normals, Box-Muller on word pairs (0,1) and (2,3): out[k] is element first+k. */
void random_normal(uint64_t seed, RandomPurpose purpose, uint64_t index, uint64_t first, float *out, size_t count);
/* A permutation of [0, n) that can be evaluated one item at a time: the image of i (Feistel cycle-walking). */
uint64_t random_permute(uint64_t seed, RandomPurpose purpose, uint64_t index, uint64_t n, uint64_t i);

#endif
