#include <inttypes.h>

#include "engine/op_build.h"

TensorId op_concat(Graph *g, const TensorId *parts, int32_t count, int32_t axis)
{
    static const char name[] = "op_concat";
    if (!graph_ok(g)) return TENSOR_NONE;
    if (count < 2 || count > OP_MAX_IN) {
        graph_fail(g, ERR_INTERNAL, "%s: %d parts, expected 2 to %d", name, count, OP_MAX_IN);
        return TENSOR_NONE;
    }
    const Operand first = operand_read(g, name, "part 0", parts[0], OPERAND_ACTIVATION);
    if (!graph_ok(g)) return TENSOR_NONE;
    if (axis < 0 || axis >= first.shape.ndim) {
        graph_fail(g, ERR_INTERNAL, "%s: axis %d of '%s', which has %d dimensions", name, axis,
                   graph_tensor(g, parts[0])->name, first.shape.ndim);
        return TENSOR_NONE;
    }
    Shape out = first.shape;
    Op op = op_make(OP_CONCAT);
    op.in_count = count;
    op.in[0] = parts[0];
    for (int32_t i = 1; i < count; i++) {
        const Operand part = operand_read(g, name, "a part", parts[i], OPERAND_ACTIVATION);
        if (!graph_ok(g)) return TENSOR_NONE;
        Shape want = first.shape;
        if (part.shape.ndim == want.ndim) want.dim[axis] = part.shape.dim[axis];
        operand_want_shape(g, &part, want);
        operand_want_dtype_of(g, &part, &first);
        if (!graph_ok(g)) return TENSOR_NONE;
        out.dim[axis] += part.shape.dim[axis];
        op.in[i] = parts[i];
    }
    op.attr.slice.axis = axis;
    return op_append(g, &op, first.dtype, out);
}

TensorId op_slice(Graph *g, TensorId x, int32_t axis, int64_t begin, int64_t length)
{
    const Operand ox = operand_read(g, "op_slice", "x", x, OPERAND_ACTIVATION);
    if (!graph_ok(g)) return TENSOR_NONE;
    if (axis < 0 || axis >= ox.shape.ndim || begin < 0 || length < 1 || begin > ox.shape.dim[axis] - length) {
        char have[96];
        shape_format(&ox.shape, have, sizeof have);
        graph_fail(g, ERR_INTERNAL, "op_slice: [%" PRId64 ", +%" PRId64 ") of axis %d lies outside '%s' of shape %s",
                   begin, length, axis, graph_tensor(g, x)->name, have);
        return TENSOR_NONE;
    }
    Shape out = ox.shape;
    out.dim[axis] = length;
    Op op = op_make(OP_SLICE);
    op.in_count = 1;
    op.in[0] = x;
    op.attr.slice = (SliceAttr){axis, begin};
    return op_append(g, &op, ox.dtype, out);
}

static Status concat_gradient(Backward *b, const Op *op)
{
    Status status = STATUS_OK;
    const TensorId dy = backward_upstream(b, op->out[0]);
    if (dy == TENSOR_NONE) return STATUS_OK;
    OpAttr attr = op->attr;
    attr.slice.begin = 0;
    for (int32_t i = 0; i < op->in_count; i++) {
        const int64_t length = op_shape(backward_graph(b), op->in[i])->dim[attr.slice.axis];
        TRY(backward_emit(b, OP_SLICE, &attr, &dy, 1, &op->in[i], 1));
        attr.slice.begin += length;
    }
fail:
    return status;
}

static Status slice_gradient(Backward *b, const Op *op)
{
    const TensorId dy = backward_upstream(b, op->out[0]);
    if (dy == TENSOR_NONE) return STATUS_OK;
    return backward_emit(b, OP_SLICE_GRAD, &op->attr, &dy, 1, (TensorId[]){op->in[0]}, 1);
}

static double slice_bytes(const Graph *g, TensorId slice)
{
    const Tensor *t = graph_tensor(g, slice);
    return (double)shape_count(&t->shape) * (double)dtype_size(t->dtype);
}

static OpCost slice_cost(const Graph *g, const Op *op)
{
    return (OpCost){0, slice_bytes(g, op->out[0]) * (op->accumulate & 1u ? 3 : 2)}; /* only the slice is read */
}

static OpCost slice_grad_cost(const Graph *g, const Op *op)
{
    if (op->accumulate & 1u) return (OpCost){0, 3 * slice_bytes(g, op->in[0])}; /* nothing outside is touched */
    return (OpCost){0, op_operand_bytes(g, op)};
}

const OpInfo op_info_CONCAT = {"concat", concat_gradient, op_cost_elementwise};
const OpInfo op_info_SLICE = {"slice", slice_gradient, slice_cost};
const OpInfo op_info_SLICE_GRAD = {"slice_grad", NULL, slice_grad_cost};
