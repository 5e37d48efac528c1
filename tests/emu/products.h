/* Matrix products in fp32 for the stand-ins of cuBLASLt and cuDNN: the right-hand matrix packed once, the left one a
 * few rows at a time. */
#ifndef TESTS_EMU_PRODUCTS_H
#define TESTS_EMU_PRODUCTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bf16.h"
#include "engine/tensor.h"

/* b (k,n) in panels of 8 columns, the last one padded with zeros. */
typedef struct Panels {
    int64_t k, n;
    float *data;
} Panels;

/* Memory that work on the emulated device needs for itself; ends the program where there is none. */
float *emu_floats(int64_t count);
/* Element i of an array of F32 or BF16. */
static inline float emu_get(const void *data, Dtype type, int64_t i)
{
    return type == DTYPE_BF16 ? bf16_to_f32(((const Bf16 *)data)[i]) : ((const float *)data)[i];
}
static inline void emu_put(void *data, Dtype type, int64_t i, float value)
{
    if (type == DTYPE_BF16) {
        ((Bf16 *)data)[i] = bf16_from_f32(value);
    } else {
        ((float *)data)[i] = value;
    }
}

/* From element (i,j) at b[i step_k + j step_n]. Freed with panels_free. */
Panels panels_of(const void *b, Dtype type, int64_t k, int64_t n, int64_t step_k, int64_t step_n);
void panels_free(Panels *panels);
/* c (m,n) = a (m,k) b, or c += a b; dense rows of a and c. Uses the calling thread alone. */
void panels_multiply(int64_t m, const float *a, const Panels *b, float *c, bool add);

#endif
