#include "engine/ref/ref.h"

static const double root_2_over_pi = 0.79788456080286535588;
static const double root_half = 0.70710678118654752440;
static const double gelu_cubic = 0.044715; /* Hendrycks & Gimpel 2016 */

double ref_activate(Activation act, double x)
{
    switch (act) {
    case ACT_NONE:
        break;
    case ACT_SILU:
        return x / (1 + exp(-x));
    case ACT_GELU:
        return 0.5 * x * (1 + erf(x * root_half));
    case ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(root_2_over_pi * (x + gelu_cubic * x * x * x)));
    }
    return x;
}

double ref_activate_slope(Activation act, double x)
{
    switch (act) {
    case ACT_NONE:
        break;
    case ACT_SILU: {
        const double s = 1 / (1 + exp(-x));
        return s * (1 + x * (1 - s));
    }
    case ACT_GELU:
        return 0.5 * (1 + erf(x * root_half)) + x * 0.5 * root_2_over_pi * exp(-0.5 * x * x);
    case ACT_GELU_TANH: {
        const double t = tanh(root_2_over_pi * (x + gelu_cubic * x * x * x));
        return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * root_2_over_pi * (1 + 3 * gelu_cubic * x * x);
    }
    }
    return 1;
}

static Status activation_run(const KernelCall *call)
{
    const RefTensor x = ref_in(call, 0), y = ref_out(call, 0);
    const int64_t count = shape_count(&x.shape);
    for (int64_t i = 0; i < count; i++) ref_put(&y, i, ref_activate(call->op->attr.elementwise.act, ref_get(&x, i)));
    return STATUS_OK;
}

static Status activation_grad_run(const KernelCall *call)
{
    const RefTensor x = ref_in(call, 0), dy = ref_in(call, 1), dx = ref_out(call, 0);
    const int64_t count = shape_count(&x.shape);
    for (int64_t i = 0; i < count; i++) {
        ref_put(&dx, i, ref_get(&dy, i) * ref_activate_slope(call->op->attr.elementwise.act, ref_get(&x, i)));
    }
    return STATUS_OK;
}

static Status add_run(const KernelCall *call)
{
    const RefTensor a = ref_in(call, 0), b = ref_in(call, 1), y = ref_out(call, 0);
    const int64_t count = shape_count(&a.shape);
    for (int64_t i = 0; i < count; i++) ref_put(&y, i, ref_get(&a, i) + ref_get(&b, i));
    return STATUS_OK;
}

static Status multiply_run(const KernelCall *call)
{
    const RefTensor a = ref_in(call, 0), b = ref_in(call, 1), y = ref_out(call, 0);
    const int64_t count = shape_count(&a.shape);
    for (int64_t i = 0; i < count; i++) ref_put(&y, i, ref_get(&a, i) * ref_get(&b, i));
    return STATUS_OK;
}

static Status affine_run(const KernelCall *call)
{
    const RefTensor x = ref_in(call, 0), y = ref_out(call, 0);
    const double scale = (double)call->op->attr.elementwise.scale, shift = (double)call->op->attr.elementwise.shift;
    const int64_t count = shape_count(&x.shape);
    for (int64_t i = 0; i < count; i++) ref_put(&y, i, scale * ref_get(&x, i) + shift);
    return STATUS_OK;
}

static Status affine_grad_run(const KernelCall *call)
{
    const RefTensor dy = ref_in(call, 0), dx = ref_out(call, 0);
    const double scale = (double)call->op->attr.elementwise.scale;
    const int64_t count = shape_count(&dy.shape);
    for (int64_t i = 0; i < count; i++) ref_put(&dx, i, scale * ref_get(&dy, i));
    return STATUS_OK;
}

static Status cast_run(const KernelCall *call)
{
    const RefTensor x = ref_in(call, 0), y = ref_out(call, 0);
    const int64_t count = shape_count(&x.shape);
    for (int64_t i = 0; i < count; i++) ref_put(&y, i, ref_get(&x, i));
    return STATUS_OK;
}

/* The nearest number of IEEE half precision: 11 significant bits, none below 2^-24, nothing above 65504. */
static double half_nearest(float x)
{
    int exponent;
    if (!isfinite(x)) return (double)x;
    frexp((double)x, &exponent);
    const double quantum = ldexp(1, exponent - 11 > -24 ? exponent - 11 : -24);
    const double nearest = rint((double)x / quantum) * quantum;
    return fabs(nearest) > 65504 ? copysign(INFINITY, (double)x) : nearest;
}

static Status round_run(const KernelCall *call)
{
    const RefTensor x = ref_in(call, 0), y = ref_out(call, 0);
    const int64_t count = shape_count(&x.shape);
    for (int64_t i = 0; i < count; i++) {
        const float value = (float)ref_get(&x, i);
        const bool half = call->op->attr.elementwise.round == ROUND_F16;
        ref_put(&y, i, half ? half_nearest(value) : (double)bf16_to_f32(bf16_from_f32(value)));
    }
    return STATUS_OK;
}

const Kernel ref_kernel_ACTIVATION = {.run = activation_run};
const Kernel ref_kernel_ACTIVATION_GRAD = {.run = activation_grad_run};
const Kernel ref_kernel_ADD = {.run = add_run};
const Kernel ref_kernel_MULTIPLY = {.run = multiply_run};
const Kernel ref_kernel_AFFINE = {.run = affine_run};
const Kernel ref_kernel_AFFINE_GRAD = {.run = affine_grad_run};
const Kernel ref_kernel_CAST = {.run = cast_run};
const Kernel ref_kernel_ROUND = {.run = round_run};
