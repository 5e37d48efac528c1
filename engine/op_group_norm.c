#include <inttypes.h>

#include "engine/op_build.h"

TensorId op_group_norm(Graph *g, TensorId x, TensorId gamma, TensorId beta, TensorId scale_shift, int32_t groups,
                       float eps, Activation act)
{
    static const char name[] = "op_group_norm";
    const Operand ox = operand_read(g, name, "x", x, OPERAND_ACTIVATION);
    const Operand ogamma = operand_read(g, name, "gamma", gamma, OPERAND_F32);
    const Operand obeta = operand_read(g, name, "beta", beta, OPERAND_F32);
    const Operand oscale = operand_read_optional(g, name, "scale_shift", scale_shift, OPERAND_ACTIVATION);
    operand_want_dims(g, &ox, 3, 4);
    if (!graph_ok(g)) return TENSOR_NONE;
    const int64_t n = ox.shape.dim[0], c = shape_last(&ox.shape);
    operand_want_shape(g, &ogamma, SHAPE1(c));
    operand_want_shape(g, &obeta, SHAPE1(c));
    operand_want_shape(g, &oscale, SHAPE2(n, 2 * c));
    operand_want_dtype_of(g, &oscale, &ox);
    if (!graph_ok(g)) return TENSOR_NONE;
    if (groups < 1 || c % groups != 0) {
        graph_fail(g, ERR_INTERNAL, "%s: the %" PRId64 " channels of '%s' cannot be divided into %d groups", name, c,
                   graph_tensor(g, x)->name, groups);
        return TENSOR_NONE;
    }
    if (act != ACT_NONE && act != ACT_SILU) {
        graph_fail(g, ERR_INTERNAL, "%s: only SiLU can be fused; append op_activation", name);
        return TENSOR_NONE;
    }
    Op op = op_make(OP_GROUP_NORM);
    op.in_count = 4;
    op.in[0] = x, op.in[1] = gamma, op.in[2] = beta, op.in[3] = scale_shift;
    op.out_count = 2;
    op.out[1] = graph_new_value(g, DTYPE_F32, SHAPE3(n, groups, 2));
    op.attr.norm = (NormAttr){groups, eps, act};
    return op_append(g, &op, ox.dtype, ox.shape);
}

static Status group_norm_gradient(Backward *b, const Op *op)
{
    const TensorId x = op->in[0], gamma = op->in[1], beta = op->in[2], scale_shift = op->in[3];
    const TensorId dy = backward_upstream(b, op->out[0]);
    if (dy == TENSOR_NONE) return STATUS_OK;
    const TensorId in[] = {backward_value(b, x),
                           dy,
                           gamma,
                           beta,
                           backward_value(b, op->out[1]),
                           scale_shift == TENSOR_NONE ? TENSOR_NONE : backward_value(b, scale_shift)};
    return backward_emit(b, OP_GROUP_NORM_GRAD, &op->attr, in, 6, (TensorId[]){x, gamma, beta, scale_shift}, 4);
}

const OpInfo op_info_GROUP_NORM = {"group_norm", group_norm_gradient, op_cost_elementwise};
const OpInfo op_info_GROUP_NORM_GRAD = {"group_norm_grad", NULL, op_cost_elementwise};
