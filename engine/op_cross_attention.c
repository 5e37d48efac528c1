#include <inttypes.h>
#include <math.h>

#include "engine/op_build.h"

TensorId op_cross_attention(Graph *g, TensorId q, TensorId k, TensorId v, TensorId key_mask, TensorId bias,
                            int32_t heads, float scale)
{
    static const char name[] = "op_cross_attention";
    const Operand oq = operand_read(g, name, "q", q, OPERAND_ACTIVATION);
    const Operand ok = operand_read(g, name, "k", k, OPERAND_ACTIVATION);
    const Operand ov = operand_read(g, name, "v", v, OPERAND_ACTIVATION);
    const Operand omask = operand_read_optional(g, name, "key_mask", key_mask, OPERAND_I32);
    const Operand obias = operand_read_optional(g, name, "bias", bias, OPERAND_F32);
    operand_want_dims(g, &oq, 3, 3);
    operand_want_dims(g, &ok, 3, 3);
    if (!graph_ok(g)) return TENSOR_NONE;
    const int64_t n = oq.shape.dim[0], t = oq.shape.dim[1], width = oq.shape.dim[2], s = ok.shape.dim[1];
    if (heads < 1 || width % heads != 0 || width > INT32_MAX) {
        graph_fail(g, ERR_INTERNAL, "%s: the %" PRId64 " channels of q '%s' cannot be divided into %d heads", name,
                   width, graph_tensor(g, q)->name, heads);
        return TENSOR_NONE;
    }
    operand_want_shape(g, &ok, SHAPE3(n, s, width));
    operand_want_shape(g, &ov, SHAPE3(n, s, width));
    operand_want_shape(g, &omask, SHAPE2(n, s));
    operand_want_shape(g, &obias, SHAPE3(heads, t, s));
    operand_want_dtype_of(g, &ok, &oq);
    operand_want_dtype_of(g, &ov, &oq);
    if (!graph_ok(g)) return TENSOR_NONE;
    const int32_t head_dim = (int32_t)(width / heads);
    Op op = op_make(OP_CROSS_ATTENTION);
    op.in_count = 5;
    op.in[0] = q, op.in[1] = k, op.in[2] = v, op.in[3] = key_mask, op.in[4] = bias;
    op.out_count = 2;
    op.out[1] = graph_new_value(g, DTYPE_F32, SHAPE3(n, heads, t));
    op.attr.attention = (AttentionAttr){heads, head_dim, scale > 0 ? scale : 1.0f / sqrtf((float)head_dim)};
    return op_append(g, &op, oq.dtype, oq.shape);
}

static Status cross_attention_gradient(Backward *b, const Op *op)
{
    Status status = STATUS_OK;
    const TensorId q = op->in[0], k = op->in[1], v = op->in[2];
    const TensorId dy = backward_upstream(b, op->out[0]);
    if (dy == TENSOR_NONE) return STATUS_OK;
    if (op->in[4] != TENSOR_NONE) {
        FAIL(ERR_UNSUPPORTED, "cross_attention with a bias has no gradient");
    }
    const Graph *g = backward_graph(b);
    const TensorId q_root = graph_root(g, q), k_root = graph_root(g, k), v_root = graph_root(g, v);
    if (q_root == k_root || q_root == v_root || k_root == v_root) {
        FAIL(ERR_UNSUPPORTED, "cross_attention: q, k and v must differ for a gradient");
    }
    const TensorId in[] = {backward_value(b, q),
                           backward_value(b, k),
                           backward_value(b, v),
                           backward_value(b, op->in[3]),
                           backward_value(b, op->out[0]),
                           backward_value(b, op->out[1]),
                           dy};
    TRY(backward_emit(b, OP_CROSS_ATTENTION_GRAD, &op->attr, in, 7, (TensorId[]){q, k, v}, 3));
fail:
    return status;
}

static double matmul_flops(const Graph *g, const Op *op)
{
    const Shape *q = op_shape(g, op->in[0]), *k = op_shape(g, op->in[1]);
    return 2.0 * (double)shape_count(q) * (double)k->dim[1];
}

static OpCost cross_attention_cost(const Graph *g, const Op *op)
{
    return (OpCost){2 * matmul_flops(g, op), op_operand_bytes(g, op)}; /* q k^T, p v */
}

static OpCost cross_attention_grad_cost(const Graph *g, const Op *op)
{
    return (OpCost){5 * matmul_flops(g, op), op_operand_bytes(g, op)}; /* q k^T again, dy v^T, p^T dy, ds k, ds^T q */
}

const OpInfo op_info_CROSS_ATTENTION = {"cross_attention", cross_attention_gradient, cross_attention_cost};
const OpInfo op_info_CROSS_ATTENTION_GRAD = {"cross_attention_grad", NULL, cross_attention_grad_cost};
