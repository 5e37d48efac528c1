#include "engine/op_build.h"

TensorId op_layer_norm(Graph *g, TensorId x, TensorId gamma, TensorId beta, float eps)
{
    static const char name[] = "op_layer_norm";
    const Operand ox = operand_read(g, name, "x", x, OPERAND_ACTIVATION);
    const Operand ogamma = operand_read(g, name, "gamma", gamma, OPERAND_F32);
    const Operand obeta = operand_read(g, name, "beta", beta, OPERAND_F32);
    operand_want_dims(g, &ox, 1, SHAPE_MAX_DIMS);
    if (!graph_ok(g)) return TENSOR_NONE;
    const int64_t c = shape_last(&ox.shape);
    operand_want_shape(g, &ogamma, SHAPE1(c));
    operand_want_shape(g, &obeta, SHAPE1(c));
    if (!graph_ok(g)) return TENSOR_NONE;
    Op op = op_make(OP_LAYER_NORM);
    op.in_count = 3;
    op.in[0] = x, op.in[1] = gamma, op.in[2] = beta;
    op.out_count = 2;
    op.out[1] = graph_new_value(g, DTYPE_F32, SHAPE2(shape_rows(&ox.shape), 2));
    op.attr.norm = (NormAttr){1, eps, ACT_NONE};
    return op_append(g, &op, ox.dtype, ox.shape);
}

TensorId op_rms_norm(Graph *g, TensorId x, TensorId gamma, float eps)
{
    static const char name[] = "op_rms_norm";
    const Operand ox = operand_read(g, name, "x", x, OPERAND_ACTIVATION);
    const Operand ogamma = operand_read(g, name, "gamma", gamma, OPERAND_F32);
    operand_want_dims(g, &ox, 1, SHAPE_MAX_DIMS);
    if (!graph_ok(g)) return TENSOR_NONE;
    operand_want_shape(g, &ogamma, SHAPE1(shape_last(&ox.shape)));
    if (!graph_ok(g)) return TENSOR_NONE;
    Op op = op_make(OP_RMS_NORM);
    op.in_count = 2;
    op.in[0] = x, op.in[1] = gamma;
    op.attr.norm = (NormAttr){1, eps, ACT_NONE};
    return op_append(g, &op, ox.dtype, ox.shape);
}

static Status layer_norm_gradient(Backward *b, const Op *op)
{
    const TensorId x = op->in[0], gamma = op->in[1], beta = op->in[2];
    const TensorId dy = backward_upstream(b, op->out[0]);
    if (dy == TENSOR_NONE) return STATUS_OK;
    const TensorId in[] = {backward_value(b, x), dy, gamma, backward_value(b, op->out[1])};
    return backward_emit(b, OP_LAYER_NORM_GRAD, &op->attr, in, 4, (TensorId[]){x, gamma, beta}, 3);
}

const OpInfo op_info_LAYER_NORM = {"layer_norm", layer_norm_gradient, op_cost_elementwise};
const OpInfo op_info_LAYER_NORM_GRAD = {"layer_norm_grad", NULL, op_cost_elementwise};
const OpInfo op_info_RMS_NORM = {"rms_norm", NULL, op_cost_elementwise};
