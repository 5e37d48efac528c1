/* What the reference kernels share. They are written to be read: one loop per sum, storage converted element by
 * element, sums in fp64, no blocking and no threads. Everything faster is tested against them. */
#ifndef ENGINE_REF_REF_H
#define ENGINE_REF_REF_H

#include <math.h>

#include "base/bf16.h"
#include "engine/backend.h"

#define OP(NAME, family) extern const Kernel ref_kernel_##NAME;
#include "engine/ops.def"
#undef OP

/* An operand in memory. */
typedef struct RefTensor {
    void *data; /* NULL: absent, or not wanted */
    Dtype dtype;
    Shape shape;
    bool add; /* outputs: add to what is there */
} RefTensor;

static inline RefTensor ref_in(const KernelCall *call, int i)
{
    const Tensor *t = graph_tensor(call->graph, call->op->in[i]);
    return (RefTensor){call->in[i], t->dtype, t->shape, false};
}

static inline RefTensor ref_in_optional(const KernelCall *call, int i)
{
    if (call->op->in[i] == TENSOR_NONE) return (RefTensor){0};
    return ref_in(call, i);
}

static inline RefTensor ref_out(const KernelCall *call, int k)
{
    if (call->op->out[k] == TENSOR_NONE) return (RefTensor){0};
    const Tensor *t = graph_tensor(call->graph, call->op->out[k]);
    return (RefTensor){call->out[k], t->dtype, t->shape, call->accumulate >> k & 1u};
}

/* An absent operand reads as zero: no bias, no residual, no scale and shift. */
static inline double ref_get(const RefTensor *t, int64_t i)
{
    if (!t->data) return 0;
    return t->dtype == DTYPE_BF16 ? bf16_to_f32(((const Bf16 *)t->data)[i]) : ((const float *)t->data)[i];
}

static inline int32_t ref_get_int(const RefTensor *t, int64_t i)
{
    return ((const int32_t *)t->data)[i];
}

/* Sets element i, or adds to it; nothing where the output is not wanted. */
static inline void ref_put(const RefTensor *t, int64_t i, double value)
{
    if (!t->data) return;
    if (t->add) value += ref_get(t, i);
    if (t->dtype == DTYPE_BF16) {
        ((Bf16 *)t->data)[i] = bf16_from_f32((float)value);
    } else {
        ((float *)t->data)[i] = (float)value;
    }
}

/* Sum of a[first_a + i] * b[first_b + i], i < count. */
static inline double ref_dot(const RefTensor *a, int64_t first_a, const RefTensor *b, int64_t first_b, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += ref_get(a, first_a + i) * ref_get(b, first_b + i);
    return sum;
}

double ref_activate(Activation act, double x);
double ref_activate_slope(Activation act, double x); /* d act / dx */

#endif
