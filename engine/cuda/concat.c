#include "engine/cuda/concat_kernels.h"
#include "engine/cuda/cuda.h"

/* A tensor seen around one axis: rows of `width` elements. */
typedef struct AxisRows {
    int64_t rows, width, inner; /* width = length * inner */
} AxisRows;

static AxisRows axis_rows(const Shape *shape, int32_t axis)
{
    AxisRows v = {1, shape->dim[axis], 1};
    for (int32_t i = 0; i < axis; i++) v.rows *= shape->dim[i];
    for (int32_t i = axis + 1; i < shape->ndim; i++) v.inner *= shape->dim[i];
    v.width *= v.inner;
    return v;
}

static char *element(void *data, Dtype type, int64_t i)
{
    return (char *)data + i * (int64_t)dtype_size(type);
}

static Status concat_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    const Tensor *y = cuda_out(call, 0);
    const AxisRows whole = axis_rows(&y->shape, call->op->attr.slice.axis);
    CopyBlocks blocks = {.count = call->op->in_count, .rows = whole.rows};
    int64_t begin = 0;
    for (int32_t i = 0; i < call->op->in_count; i++) {
        const int64_t width = axis_rows(&cuda_in(call, i)->shape, call->op->attr.slice.axis).width;
        blocks.block[i] = (CopyBlock){call->in[i], element(call->out[0], y->dtype, begin), width, whole.width, width};
        begin += width;
    }
    TRY_CUDA(copy_blocks_launch(&blocks, y->dtype, cuda_adds(call, 0), cuda_of_call(call)->stream));
fail:
    return status;
}

static Status slice_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    const Tensor *x = cuda_in(call, 0);
    const SliceAttr *attr = &call->op->attr.slice;
    const AxisRows whole = axis_rows(&x->shape, attr->axis), part = axis_rows(&cuda_out(call, 0)->shape, attr->axis);
    const CopyBlocks blocks = {.block = {{.x = element(call->in[0], x->dtype, attr->begin * whole.inner),
                                          .y = call->out[0],
                                          .x_pitch = whole.width,
                                          .y_pitch = part.width,
                                          .width = part.width}},
                               .count = 1,
                               .rows = whole.rows};
    TRY_CUDA(copy_blocks_launch(&blocks, x->dtype, cuda_adds(call, 0), cuda_of_call(call)->stream));
fail:
    return status;
}

/* What lies before the slice, the slice, and what lies after it; when adding, only the slice changes. */
static Status slice_grad_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    const Tensor *dy = cuda_in(call, 0), *dx = cuda_out(call, 0);
    const SliceAttr *attr = &call->op->attr.slice;
    const AxisRows whole = axis_rows(&dx->shape, attr->axis), part = axis_rows(&dy->shape, attr->axis);
    const int64_t begin = attr->begin * whole.inner, end = begin + part.width;
    CopyBlocks blocks = {
        .block = {{call->in[0], element(call->out[0], dx->dtype, begin), part.width, whole.width, part.width}},
        .count = 1,
        .rows = whole.rows};
    if (!cuda_adds(call, 0)) {
        const CopyBlock before = {NULL, call->out[0], 0, whole.width, begin};
        const CopyBlock after = {NULL, element(call->out[0], dx->dtype, end), 0, whole.width, whole.width - end};
        if (before.width > 0) blocks.block[blocks.count++] = before;
        if (after.width > 0) blocks.block[blocks.count++] = after;
    }
    TRY_CUDA(copy_blocks_launch(&blocks, dx->dtype, cuda_adds(call, 0), cuda_of_call(call)->stream));
fail:
    return status;
}

const Kernel cuda_kernel_CONCAT = {.prepare = cuda_prepare_plain, .run = concat_run};
const Kernel cuda_kernel_SLICE = {.prepare = cuda_prepare_plain, .run = slice_run};
const Kernel cuda_kernel_SLICE_GRAD = {.prepare = cuda_prepare_plain, .run = slice_grad_run};
