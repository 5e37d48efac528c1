#include "base/random.h"

#include <math.h>
#include <string.h>

#define PHILOX_M0 0xd2511f53u
#define PHILOX_M1 0xcd9e8d57u
#define PHILOX_W0 0x9e3779b9u /* golden ratio */
#define PHILOX_W1 0xbb67ae85u /* sqrt(3) - 1 */
#define PHILOX_ROUNDS 10

/* Counters of one (purpose, index) that no element/4 reaches, for draws that need more than one word an element. */
#define DOMAIN_LOW_WORD (UINT64_C(1) << 55)
#define DOMAIN_PERMUTE (UINT64_C(1) << 54)

void philox4x32(const uint32_t key[2], const uint32_t counter[4], uint32_t out[4])
{
    uint32_t k0 = key[0], k1 = key[1];
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    for (int round = 0; round < PHILOX_ROUNDS; round++) {
        uint64_t p0 = (uint64_t)PHILOX_M0 * c0;
        uint64_t p1 = (uint64_t)PHILOX_M1 * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += PHILOX_W0;
        k1 += PHILOX_W1;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

static void random_block(uint64_t seed, RandomPurpose purpose, uint64_t index, uint64_t block, uint32_t out[4])
{
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    const uint32_t counter[4] = {(uint32_t)block, ((uint32_t)(block >> 32) & 0xffffffu) | (uint32_t)purpose << 24,
                                 (uint32_t)index, (uint32_t)(index >> 32)};
    philox4x32(key, counter, out);
}

uint32_t random_u32(uint64_t seed, RandomPurpose purpose, uint64_t index, uint64_t element)
{
    uint32_t words[4];
    random_block(seed, purpose, index, element / 4, words);
    return words[element % 4];
}

float random_uniform(uint64_t seed, RandomPurpose purpose, uint64_t index, uint64_t element)
{
    return (float)(random_u32(seed, purpose, index, element) >> 8) * 0x1p-24f;
}

uint64_t random_below(uint64_t seed, RandomPurpose purpose, uint64_t index, uint64_t element, uint64_t n)
{
    uint32_t high[4], low[4];
    random_block(seed, purpose, index, element / 4, high);
    random_block(seed, purpose, index, element / 4 | DOMAIN_LOW_WORD, low);
    uint64_t x = (uint64_t)high[element % 4] << 32 | low[element % 4];
    return (uint64_t)(((unsigned __int128)x * n) >> 64);
}

/* --- many at once ---
 *
 * A group of blocks at a time in loops over arrays, which compilers turn into vector code. */

#define GROUP 16 /* blocks */

/* Words 0 to 3 of blocks `block` to `block` + GROUP - 1. */
static inline void philox_group(uint64_t seed, RandomPurpose purpose, uint64_t index, uint64_t block,
                                uint32_t *restrict c0, uint32_t *restrict c1, uint32_t *restrict c2,
                                uint32_t *restrict c3)
{
    for (int i = 0; i < GROUP; i++) {
        uint64_t b = block + (uint64_t)i;
        c0[i] = (uint32_t)b;
        c1[i] = ((uint32_t)(b >> 32) & 0xffffffu) | (uint32_t)purpose << 24;
        c2[i] = (uint32_t)index;
        c3[i] = (uint32_t)(index >> 32);
    }
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < PHILOX_ROUNDS; round++) {
        for (int i = 0; i < GROUP; i++) {
            uint64_t p0 = (uint64_t)PHILOX_M0 * c0[i];
            uint64_t p1 = (uint64_t)PHILOX_M1 * c2[i];
            c0[i] = (uint32_t)(p1 >> 32) ^ c1[i] ^ k0;
            c1[i] = (uint32_t)p1;
            c2[i] = (uint32_t)(p0 >> 32) ^ c3[i] ^ k1;
            c3[i] = (uint32_t)p0;
        }
        k0 += PHILOX_W0;
        k1 += PHILOX_W1;
    }
}

static void uniform_group(uint64_t seed, RandomPurpose purpose, uint64_t index, uint64_t block, float out[4 * GROUP])
{
    uint32_t c0[GROUP], c1[GROUP], c2[GROUP], c3[GROUP];
    philox_group(seed, purpose, index, block, c0, c1, c2, c3);
    for (int i = 0; i < GROUP; i++) {
        out[4 * i] = (float)(int32_t)(c0[i] >> 8) * 0x1p-24f;
        out[4 * i + 1] = (float)(int32_t)(c1[i] >> 8) * 0x1p-24f;
        out[4 * i + 2] = (float)(int32_t)(c2[i] >> 8) * 0x1p-24f;
        out[4 * i + 3] = (float)(int32_t)(c3[i] >> 8) * 0x1p-24f;
    }
}

typedef void (*GroupFn)(uint64_t, RandomPurpose, uint64_t, uint64_t, float[4 * GROUP]);

static void fill_by_groups(GroupFn fill_group, uint64_t seed, RandomPurpose purpose, uint64_t index, uint64_t first,
                           float *out, size_t count)
{
    float group[4 * GROUP];
    uint64_t block = first / 4;
    size_t skip = (size_t)(first % 4);
    while (count > 0) {
        size_t usable = 4 * GROUP - skip;
        size_t take = count < usable ? count : usable;
        fill_group(seed, purpose, index, block, group);
        memcpy(out, group + skip, take * sizeof *out);
        out += take;
        count -= take;
        block += GROUP;
        skip = 0;
    }
}

void random_uniforms(uint64_t seed, RandomPurpose purpose, uint64_t index, uint64_t first, float *out, size_t count)
{
    fill_by_groups(uniform_group, seed, purpose, index, first, out, count);
}

/* --- normals ---
 *
 * The elementary functions are polynomials of our own: the same bits with every libm, and no double precision. Every
 * element is computed by the same operations wherever the call began, so results do not depend on `first`. */

/* ln x for x in (0, 1]: x = 2^e m with m in [sqrt(1/2), sqrt(2)), ln m = 2 artanh s, s = (m - 1) / (m + 1), and the
 * artanh series; |s| < 0.172, so the first dropped term is below 5e-9 of the result. */
static inline float log_unit(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits -= 0x3f3504f3u; /* sqrt(1/2) */
    int32_t exponent = (int32_t)bits >> 23;
    bits = (bits & 0x007fffffu) + 0x3f3504f3u;
    float m;
    memcpy(&m, &bits, sizeof m);
    float s = (m - 1.0f) / (m + 1.0f);
    float z = s * s;
    float series = 1.0f + z * (1.0f / 3.0f + z * (1.0f / 5.0f + z * (1.0f / 7.0f + z * (1.0f / 9.0f))));
    return (float)exponent * 0.693147181f + 2.0f * s * series;
}

static void normal_group(uint64_t seed, RandomPurpose purpose, uint64_t index, uint64_t block, float out[4 * GROUP])
{
    uint32_t c0[GROUP], c1[GROUP], c2[GROUP], c3[GROUP];
    philox_group(seed, purpose, index, block, c0, c1, c2, c3);

    /* Box-Muller, pairs (c0, c1) and (c2, c3): radius sqrt(-2 ln u), angle 2 pi w / 2^32. */
    float pairs[2][2][GROUP]; /* pair, cosine or sine, block */
    for (int pair = 0; pair < 2; pair++) {
        const uint32_t *u = pair ? c2 : c0, *w = pair ? c3 : c1;
        float *even = pairs[pair][0], *odd = pairs[pair][1];
        for (int i = 0; i < GROUP; i++) {
            /* (0, 1], never 0: 31 bits, for a conversion from signed integers is one instruction. */
            float unit = ((float)(int32_t)(u[i] >> 1) + 0.5f) * 0x1p-31f;
            float radius = sqrtf(-2.0f * log_unit(unit));
            /* The angle is quadrant * pi/2 + x with |x| <= pi/4; sine and cosine of x by their series. */
            uint32_t quadrant = (w[i] + 0x20000000u) >> 30;
            float x = (float)(int32_t)(w[i] - (quadrant << 30)) * (1.57079633f * 0x1p-30f);
            float z = x * x;
            float sine = x + x * z * (-1.0f / 6 + z * (1.0f / 120 + z * (-1.0f / 5040 + z * (1.0f / 362880))));
            float cosine = 1.0f + z * (-0.5f + z * (1.0f / 24 + z * (-1.0f / 720 + z * (1.0f / 40320))));
            float c = quadrant & 1 ? sine : cosine;
            float s = quadrant & 1 ? cosine : sine;
            even[i] = radius * ((quadrant + 1) & 2 ? -c : c);
            odd[i] = radius * (quadrant & 2 ? -s : s);
        }
    }
    for (int i = 0; i < GROUP; i++) {
        out[4 * i] = pairs[0][0][i];
        out[4 * i + 1] = pairs[0][1][i];
        out[4 * i + 2] = pairs[1][0][i];
        out[4 * i + 3] = pairs[1][1][i];
    }
}

void random_normal(uint64_t seed, RandomPurpose purpose, uint64_t index, uint64_t first, float *out, size_t count)
{
    fill_by_groups(normal_group, seed, purpose, index, first, out, count);
}

/* --- permutations --- */

#define FEISTEL_ROUNDS 8

/* A permutation of [0, 2^bits): halves of `left` and `right` bits swap roles each round (an unbalanced Feistel
 * network; Luby and Rackoff 1988). */
static uint64_t feistel(uint64_t seed, RandomPurpose purpose, uint64_t index, unsigned bits, uint64_t value)
{
    unsigned right = bits / 2, left = bits - right;
    uint64_t left_mask = (UINT64_C(1) << left) - 1, right_mask = (UINT64_C(1) << right) - 1;
    uint64_t l = value >> right, r = value & right_mask;
    for (unsigned round = 0; round < FEISTEL_ROUNDS; round++) {
        uint32_t words[4];
        uint64_t input = round & 1 ? l : r;
        random_block(seed, purpose, index, DOMAIN_PERMUTE | (uint64_t)round << 32 | input, words);
        if (round & 1)
            r = (r ^ words[0]) & right_mask;
        else
            l = (l ^ words[0]) & left_mask;
    }
    return l << right | r;
}

uint64_t random_permute(uint64_t seed, RandomPurpose purpose, uint64_t index, uint64_t n, uint64_t i)
{
    if (n <= 1) return 0;
    unsigned bits = 64 - (unsigned)__builtin_clzll(n - 1);
    if (bits < 2) bits = 2;
    /* Following the cycle until it is back in [0, n) keeps the map one-to-one (Black and Rogaway 2002); fewer than
     * two turns on average, as 2^bits < 2 n (four for n = 2). */
    do i = feistel(seed, purpose, index, bits, i);
    while (i >= n);
    return i;
}
