#include "engine/op_build.h"

TensorId op_linear(Graph *g, TensorId x, TensorId w, TensorId b, TensorId residual, Activation act)
{
    static const char name[] = "op_linear";
    const Operand ox = operand_read(g, name, "x", x, OPERAND_ACTIVATION);
    const Operand ow = operand_read(g, name, "w", w, OPERAND_WEIGHT);
    const Operand ob = operand_read_optional(g, name, "b", b, OPERAND_WEIGHT);
    const Operand oresidual = operand_read_optional(g, name, "residual", residual, OPERAND_ACTIVATION);
    operand_want_dims(g, &ox, 1, SHAPE_MAX_DIMS);
    operand_want_dims(g, &ow, 2, 2);
    if (!graph_ok(g)) return TENSOR_NONE;
    const int64_t o = ow.shape.dim[0], c = shape_last(&ox.shape);
    Shape out = ox.shape;
    out.dim[out.ndim - 1] = o;
    operand_want_shape(g, &ow, SHAPE2(o, c));
    operand_want_shape(g, &ob, SHAPE1(o));
    operand_want_shape(g, &oresidual, out);
    operand_want_dtype_of(g, &oresidual, &ox);
    const bool trained = ox.requires_grad || ow.requires_grad || ob.requires_grad || oresidual.requires_grad;
    const bool split = trained && act != ACT_NONE; /* backward needs the value before the activation */
    Op op = op_make(OP_LINEAR);
    op.in_count = 4;
    op.in[0] = x, op.in[1] = w, op.in[2] = b, op.in[3] = split ? TENSOR_NONE : residual;
    op.attr.linear.act = split ? ACT_NONE : act;
    TensorId y = op_append(g, &op, ox.dtype, out);
    if (split) {
        y = op_activation(g, y, act);
        if (oresidual.present) y = op_add(g, y, residual);
    }
    return y;
}

static Status linear_gradient(Backward *b, const Op *op)
{
    Status status = STATUS_OK;
    const TensorId x = op->in[0], w = op->in[1], bias = op->in[2], residual = op->in[3];
    const TensorId dy = backward_upstream(b, op->out[0]);
    if (dy == TENSOR_NONE) return STATUS_OK;
    if (backward_wants(b, w) || backward_wants(b, bias)) {
        TRY(backward_emit(b, OP_LINEAR_GRAD_W, &op->attr, (TensorId[]){backward_value(b, x), dy}, 2,
                          (TensorId[]){w, bias}, 2));
    }
    TRY(backward_emit(b, OP_LINEAR_GRAD_X, &op->attr, (TensorId[]){w, dy}, 2, (TensorId[]){x}, 1));
    if (backward_wants(b, residual)) TRY(backward_pass(b, residual, dy));
fail:
    return status;
}

static OpCost linear_cost(const Graph *g, const Op *op)
{
    const double flops =
        2.0 * (double)shape_count(op_shape(g, op->out[0])) * (double)shape_last(op_shape(g, op->in[0]));
    return (OpCost){flops, op_operand_bytes(g, op)};
}

static OpCost linear_grad_x_cost(const Graph *g, const Op *op)
{
    const double flops = 2.0 * (double)shape_count(op_shape(g, op->in[1])) * (double)shape_last(op_shape(g, op->in[0]));
    return (OpCost){flops, op_operand_bytes(g, op)};
}

static OpCost linear_grad_w_cost(const Graph *g, const Op *op)
{
    double flops = 0;
    if (op->out[0] != TENSOR_NONE) {
        flops = 2.0 * (double)shape_count(op_shape(g, op->in[1])) * (double)shape_last(op_shape(g, op->in[0]));
    }
    return (OpCost){flops, op_operand_bytes(g, op)};
}

const OpInfo op_info_LINEAR = {"linear", linear_gradient, linear_cost};
const OpInfo op_info_LINEAR_GRAD_X = {"linear_grad_x", NULL, linear_grad_x_cost};
const OpInfo op_info_LINEAR_GRAD_W = {"linear_grad_w", NULL, linear_grad_w_cost};
