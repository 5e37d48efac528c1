#include "engine/ref/ref.h"

/* A tensor seen around one axis: (outer, length, inner). */
typedef struct AxisView {
    int64_t outer, length, inner;
} AxisView;

static AxisView axis_view(const Shape *shape, int32_t axis)
{
    AxisView v = {1, shape->dim[axis], 1};
    for (int32_t i = 0; i < axis; i++) v.outer *= shape->dim[i];
    for (int32_t i = axis + 1; i < shape->ndim; i++) v.inner *= shape->dim[i];
    return v;
}

static Status concat_run(const KernelCall *call)
{
    const RefTensor y = ref_out(call, 0);
    const AxisView whole = axis_view(&y.shape, call->op->attr.slice.axis);
    int64_t begin = 0;
    for (int32_t i = 0; i < call->op->in_count; i++) {
        const RefTensor part = ref_in(call, i);
        const AxisView v = axis_view(&part.shape, call->op->attr.slice.axis);
        const int64_t run = v.length * v.inner;
        for (int64_t o = 0; o < v.outer; o++) {
            const int64_t to = (o * whole.length + begin) * whole.inner;
            for (int64_t e = 0; e < run; e++) ref_put(&y, to + e, ref_get(&part, o * run + e));
        }
        begin += v.length;
    }
    return STATUS_OK;
}

static Status slice_run(const KernelCall *call)
{
    const RefTensor x = ref_in(call, 0), y = ref_out(call, 0);
    const SliceAttr attr = call->op->attr.slice;
    const AxisView whole = axis_view(&x.shape, attr.axis), v = axis_view(&y.shape, attr.axis);
    const int64_t run = v.length * v.inner;
    for (int64_t o = 0; o < v.outer; o++) {
        const int64_t from = (o * whole.length + attr.begin) * whole.inner;
        for (int64_t e = 0; e < run; e++) ref_put(&y, o * run + e, ref_get(&x, from + e));
    }
    return STATUS_OK;
}

static Status slice_grad_run(const KernelCall *call)
{
    const RefTensor dy = ref_in(call, 0), dx = ref_out(call, 0);
    const SliceAttr attr = call->op->attr.slice;
    const AxisView whole = axis_view(&dx.shape, attr.axis), v = axis_view(&dy.shape, attr.axis);
    for (int64_t o = 0; o < whole.outer; o++) {
        for (int64_t a = 0; a < whole.length; a++) {
            const bool inside = a >= attr.begin && a - attr.begin < v.length;
            for (int64_t e = 0; e < whole.inner; e++) {
                const int64_t from = (o * v.length + a - attr.begin) * v.inner + e;
                ref_put(&dx, (o * whole.length + a) * whole.inner + e, inside ? ref_get(&dy, from) : 0);
            }
        }
    }
    return STATUS_OK;
}

const Kernel ref_kernel_CONCAT = {.run = concat_run};
const Kernel ref_kernel_SLICE = {.run = slice_run};
const Kernel ref_kernel_SLICE_GRAD = {.run = slice_grad_run};
