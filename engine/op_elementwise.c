#include "engine/op_build.h"

TensorId op_activation(Graph *g, TensorId x, Activation act)
{
    const Operand ox = operand_read(g, "op_activation", "x", x, OPERAND_ACTIVATION);
    if (!graph_ok(g)) return TENSOR_NONE;
    Op op = op_make(OP_ACTIVATION);
    op.in_count = 1;
    op.in[0] = x;
    op.attr.elementwise.act = act;
    return op_append(g, &op, ox.dtype, ox.shape);
}

TensorId op_add(Graph *g, TensorId a, TensorId b)
{
    const Operand oa = operand_read(g, "op_add", "a", a, OPERAND_ACTIVATION);
    const Operand ob = operand_read(g, "op_add", "b", b, OPERAND_ACTIVATION);
    operand_want_shape(g, &ob, oa.shape);
    operand_want_dtype_of(g, &ob, &oa);
    if (!graph_ok(g)) return TENSOR_NONE;
    Op op = op_make(OP_ADD);
    op.in_count = 2;
    op.in[0] = a, op.in[1] = b;
    return op_append(g, &op, oa.dtype, oa.shape);
}

TensorId op_multiply(Graph *g, TensorId a, TensorId b)
{
    const Operand oa = operand_read(g, "op_multiply", "a", a, OPERAND_ACTIVATION);
    const Operand ob = operand_read(g, "op_multiply", "b", b, OPERAND_ACTIVATION);
    operand_want_shape(g, &ob, oa.shape);
    operand_want_dtype_of(g, &ob, &oa);
    if (!graph_ok(g)) return TENSOR_NONE;
    Op op = op_make(OP_MULTIPLY);
    op.in_count = 2;
    op.in[0] = a, op.in[1] = b;
    return op_append(g, &op, oa.dtype, oa.shape);
}

TensorId op_affine(Graph *g, TensorId x, float scale, float shift)
{
    const Operand ox = operand_read(g, "op_affine", "x", x, OPERAND_ACTIVATION);
    if (!graph_ok(g)) return TENSOR_NONE;
    Op op = op_make(OP_AFFINE);
    op.in_count = 1;
    op.in[0] = x;
    op.attr.elementwise.scale = scale;
    op.attr.elementwise.shift = shift;
    return op_append(g, &op, ox.dtype, ox.shape);
}

TensorId op_cast(Graph *g, TensorId x, Dtype dtype)
{
    const Operand ox = operand_read(g, "op_cast", "x", x, OPERAND_ACTIVATION);
    if (!graph_ok(g)) return TENSOR_NONE;
    if (dtype != DTYPE_F32 && dtype != DTYPE_BF16) {
        graph_fail(g, ERR_INTERNAL, "op_cast: to %s; only f32 and bf16 are cast", dtype_name(dtype));
        return TENSOR_NONE;
    }
    Op op = op_make(OP_CAST);
    op.in_count = 1;
    op.in[0] = x;
    return op_append(g, &op, dtype, ox.shape);
}

TensorId op_round(Graph *g, TensorId x, RoundTo to)
{
    const Operand ox = operand_read(g, "op_round", "x", x, OPERAND_F32);
    if (!graph_ok(g)) return TENSOR_NONE;
    if (to != ROUND_F16 && to != ROUND_BF16) {
        graph_fail(g, ERR_INTERNAL, "op_round: to type %d; only f16 and bf16 are rounded to", (int)to);
        return TENSOR_NONE;
    }
    Op op = op_make(OP_ROUND);
    op.in_count = 1;
    op.in[0] = x;
    op.attr.elementwise.round = to;
    return op_append(g, &op, DTYPE_F32, ox.shape);
}

static Status activation_gradient(Backward *b, const Op *op)
{
    const TensorId dy = backward_upstream(b, op->out[0]);
    if (dy == TENSOR_NONE) return STATUS_OK;
    return backward_emit(b, OP_ACTIVATION_GRAD, &op->attr, (TensorId[]){backward_value(b, op->in[0]), dy}, 2,
                         (TensorId[]){op->in[0]}, 1);
}

static Status add_gradient(Backward *b, const Op *op)
{
    Status status = STATUS_OK;
    const TensorId dy = backward_upstream(b, op->out[0]);
    if (dy == TENSOR_NONE) return STATUS_OK;
    for (int i = 0; i < 2; i++) {
        if (backward_wants(b, op->in[i])) TRY(backward_pass(b, op->in[i], dy));
    }
fail:
    return status;
}

/* d(a b) = dy b and dy a: each a product like the forward one. */
static Status multiply_gradient(Backward *b, const Op *op)
{
    Status status = STATUS_OK;
    const TensorId dy = backward_upstream(b, op->out[0]);
    if (dy == TENSOR_NONE) return STATUS_OK;
    for (int i = 0; i < 2; i++) {
        const TensorId in[] = {dy, backward_value(b, op->in[1 - i])};
        TRY(backward_emit(b, OP_MULTIPLY, &op->attr, in, 2, &op->in[i], 1));
    }
fail:
    return status;
}

static Status affine_gradient(Backward *b, const Op *op)
{
    const TensorId dy = backward_upstream(b, op->out[0]);
    if (dy == TENSOR_NONE) return STATUS_OK;
    return backward_emit(b, OP_AFFINE_GRAD, &op->attr, &dy, 1, (TensorId[]){op->in[0]}, 1);
}

static Status cast_gradient(Backward *b, const Op *op)
{
    const TensorId dy = backward_upstream(b, op->out[0]);
    if (dy == TENSOR_NONE) return STATUS_OK;
    return backward_emit(b, OP_CAST, &op->attr, &dy, 1, (TensorId[]){op->in[0]}, 1);
}

const OpInfo op_info_ACTIVATION = {"activation", activation_gradient, op_cost_elementwise};
const OpInfo op_info_ACTIVATION_GRAD = {"activation_grad", NULL, op_cost_elementwise};
const OpInfo op_info_ADD = {"add", add_gradient, op_cost_elementwise};
const OpInfo op_info_MULTIPLY = {"multiply", multiply_gradient, op_cost_elementwise};
const OpInfo op_info_AFFINE = {"affine", affine_gradient, op_cost_elementwise};
const OpInfo op_info_AFFINE_GRAD = {"affine_grad", NULL, op_cost_elementwise};
const OpInfo op_info_CAST = {"cast", cast_gradient, op_cost_elementwise};
const OpInfo op_info_ROUND = {"round", NULL, op_cost_elementwise};
