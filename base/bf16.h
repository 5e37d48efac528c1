/* bfloat16: the upper half of a float, rounded to nearest even. */
#ifndef BASE_BF16_H
#define BASE_BF16_H

#include <stdint.h>
#include <string.h>

typedef uint16_t Bf16;

static inline float bf16_to_f32(Bf16 b)
{
    uint32_t u = (uint32_t)b << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline Bf16 bf16_from_f32(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (Bf16)((u >> 16) | 0x40u); /* NaN stays NaN */
    return (Bf16)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

#endif
