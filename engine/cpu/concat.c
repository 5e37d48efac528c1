#include <string.h>

#include "engine/cpu/cpu.h"

/* A tensor seen around one axis: (outer, length * inner). */
static int64_t outer_rows(const Shape *shape, int32_t axis)
{
    int64_t rows = 1;
    for (int32_t i = 0; i < axis; i++) rows *= shape->dim[i];
    return rows;
}

static int64_t inner_width(const Shape *shape, int32_t axis)
{
    int64_t width = 1;
    for (int32_t i = axis + 1; i < shape->ndim; i++) width *= shape->dim[i];
    return width;
}

typedef struct Rows {
    const Cpu *cpu;
    CopyRows copy;
} Rows;

static Status copy_share(void *context, int64_t begin, int64_t end, int32_t thread)
{
    const Rows *rows = context;
    CopyRows part = rows->copy;
    part.x = cpu_at(part.x, part.x_type, begin * part.x_pitch);
    part.y = cpu_at(part.y, part.y_type, begin * part.y_pitch);
    part.rows = end - begin;
    rows->cpu->vector->copy_rows(&part);
    return STATUS_OK;
}

/* Copies `width` elements a row, on all threads. */
static Status copy_all(const Cpu *cpu, const CopyRows *copy)
{
    Rows rows = {cpu, *copy};
    return cpu_parallel(cpu, copy->rows, CPU_GRAIN / (copy->width + 1) + 2, copy_share, &rows);
}

static Status concat_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    const Tensor *y = cpu_out(call, 0);
    const int32_t axis = call->op->attr.slice.axis;
    const int64_t inner = inner_width(&y->shape, axis), pitch = y->shape.dim[axis] * inner;
    int64_t begin = 0;
    for (int32_t i = 0; i < call->op->in_count; i++) {
        const int64_t width = cpu_in(call, i)->shape.dim[axis] * inner;
        TRY(copy_all(cpu_of_call(call), &(CopyRows){.x = call->in[i],
                                                    .y = cpu_at(call->out[0], y->dtype, begin),
                                                    .x_type = y->dtype,
                                                    .y_type = y->dtype,
                                                    .x_pitch = width,
                                                    .y_pitch = pitch,
                                                    .rows = outer_rows(&y->shape, axis),
                                                    .width = width,
                                                    .scale = 1.0f,
                                                    .add = cpu_adds(call, 0)}));
        begin += width;
    }
fail:
    return status;
}

/* Both directions of a slice: rows of `width` at `offset` of rows of `pitch`. */
typedef struct SliceRows {
    int64_t rows, pitch, offset, width;
} SliceRows;

static SliceRows slice_rows(const KernelCall *call, const Shape *whole, const Shape *part)
{
    const SliceAttr *attr = &call->op->attr.slice;
    const int64_t inner = inner_width(whole, attr->axis);
    return (SliceRows){outer_rows(whole, attr->axis), whole->dim[attr->axis] * inner, attr->begin * inner,
                       part->dim[attr->axis] * inner};
}

static Status slice_run(const KernelCall *call)
{
    const Tensor *x = cpu_in(call, 0), *y = cpu_out(call, 0);
    const SliceRows s = slice_rows(call, &x->shape, &y->shape);
    return copy_all(cpu_of_call(call), &(CopyRows){.x = cpu_at(call->in[0], x->dtype, s.offset),
                                                   .y = call->out[0],
                                                   .x_type = x->dtype,
                                                   .y_type = y->dtype,
                                                   .x_pitch = s.pitch,
                                                   .y_pitch = s.width,
                                                   .rows = s.rows,
                                                   .width = s.width,
                                                   .scale = 1.0f,
                                                   .add = cpu_adds(call, 0)});
}

static Status slice_grad_run(const KernelCall *call)
{
    const Tensor *dy = cpu_in(call, 0), *dx = cpu_out(call, 0);
    const SliceRows s = slice_rows(call, &dx->shape, &dy->shape);
    const Cpu *cpu = cpu_of_call(call);
    const bool add = cpu_adds(call, 0);
    /* 0 times what is there would keep NaNs, so zeros are stored, not scaled. */
    if (!add) memset(call->out[0], 0, (size_t)shape_count(&dx->shape) * dtype_size(dx->dtype));
    return copy_all(cpu, &(CopyRows){.x = call->in[0],
                                     .y = cpu_at(call->out[0], dx->dtype, s.offset),
                                     .x_type = dy->dtype,
                                     .y_type = dx->dtype,
                                     .x_pitch = s.width,
                                     .y_pitch = s.pitch,
                                     .rows = s.rows,
                                     .width = s.width,
                                     .scale = 1.0f,
                                     .add = add});
}

const Kernel cpu_kernel_CONCAT = {.prepare = cpu_prepare_plain, .run = concat_run};
const Kernel cpu_kernel_SLICE = {.prepare = cpu_prepare_plain, .run = slice_run};
const Kernel cpu_kernel_SLICE_GRAD = {.prepare = cpu_prepare_plain, .run = slice_grad_run};
