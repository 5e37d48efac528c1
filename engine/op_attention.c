#include <inttypes.h>
#include <math.h>

#include "engine/op_build.h"

TensorId op_attention(Graph *g, TensorId qkv, TensorId context, TensorId context_mask, int32_t heads)
{
    static const char name[] = "op_attention";
    const Operand oqkv = operand_read(g, name, "qkv", qkv, OPERAND_ACTIVATION);
    const Operand ocontext = operand_read_optional(g, name, "context", context, OPERAND_ACTIVATION);
    const Operand omask = operand_read_optional(g, name, "context_mask", context_mask, OPERAND_I32);
    operand_want_dims(g, &oqkv, 3, 3);
    operand_want_dims(g, &ocontext, 3, 3);
    if (!graph_ok(g)) return TENSOR_NONE;
    const int64_t n = oqkv.shape.dim[0], t = oqkv.shape.dim[1], width = oqkv.shape.dim[2];
    if (heads < 1 || width % (3 * (int64_t)heads) != 0 || width / 3 > INT32_MAX) {
        graph_fail(g, ERR_INTERNAL, "%s: the %" PRId64 " channels of qkv '%s' are not q, k and v of %d heads", name,
                   width, graph_tensor(g, qkv)->name, heads);
        return TENSOR_NONE;
    }
    const int32_t head_dim = (int32_t)(width / 3 / heads);
    if (ocontext.present) operand_want_shape(g, &ocontext, SHAPE3(n, ocontext.shape.dim[1], width / 3 * 2));
    operand_want_dtype_of(g, &ocontext, &oqkv);
    if (ocontext.present) operand_want_shape(g, &omask, SHAPE2(n, ocontext.shape.dim[1]));
    if (graph_ok(g) && omask.present && !ocontext.present) {
        graph_fail(g, ERR_INTERNAL, "%s: context_mask '%s' without a context", name,
                   graph_tensor(g, context_mask)->name);
    }
    if (!graph_ok(g)) return TENSOR_NONE;
    Op op = op_make(OP_ATTENTION);
    op.in_count = 3;
    op.in[0] = qkv, op.in[1] = context, op.in[2] = context_mask;
    op.out_count = 2;
    op.out[1] = graph_new_value(g, DTYPE_F32, SHAPE3(n, heads, t));
    op.attr.attention = (AttentionAttr){heads, head_dim, 1.0f / sqrtf((float)head_dim)};
    return op_append(g, &op, oqkv.dtype, SHAPE3(n, t, width / 3));
}

static Status attention_gradient(Backward *b, const Op *op)
{
    const TensorId qkv = op->in[0], context = op->in[1];
    const TensorId dy = backward_upstream(b, op->out[0]);
    if (dy == TENSOR_NONE) return STATUS_OK;
    const TensorId in[] = {backward_value(b, qkv),        backward_value(b, context),    backward_value(b, op->in[2]),
                           backward_value(b, op->out[0]), backward_value(b, op->out[1]), dy};
    return backward_emit(b, OP_ATTENTION_GRAD, &op->attr, in, 6, (TensorId[]){qkv, context}, 2);
}

/* Multiply-adds of one T x keys x d matmul over all samples and heads, times two. */
static double matmul_flops(const Graph *g, const Op *op)
{
    const Shape *qkv = op_shape(g, op->in[0]);
    const int64_t t = qkv->dim[1];
    const int64_t keys = t + (op->in[1] == TENSOR_NONE ? 0 : op_shape(g, op->in[1])->dim[1]);
    const double width = (double)op->attr.attention.heads * op->attr.attention.head_dim;
    return 2.0 * (double)qkv->dim[0] * (double)t * (double)keys * width;
}

static OpCost attention_cost(const Graph *g, const Op *op)
{
    return (OpCost){2 * matmul_flops(g, op), op_operand_bytes(g, op)}; /* q k^T, p v */
}

static OpCost attention_grad_cost(const Graph *g, const Op *op)
{
    return (OpCost){5 * matmul_flops(g, op), op_operand_bytes(g, op)}; /* q k^T again, dy v^T, p^T dy, ds k, ds^T q */
}

const OpInfo op_info_ATTENTION = {"attention", attention_gradient, attention_cost};
const OpInfo op_info_ATTENTION_GRAD = {"attention_grad", NULL, attention_grad_cost};
