#include <inttypes.h>

#include "engine/op_build.h"

ConvAttr conv_same(int32_t kernel)
{
    const int32_t pad = kernel / 2;
    return (ConvAttr){kernel, kernel, 1, pad, pad, pad, pad};
}

static bool attr_is_sane(const ConvAttr *a)
{
    const int32_t limit = 1 << 20; /* keeps every sum below within int64 */
    return a->kh >= 1 && a->kw >= 1 && a->stride >= 1 && a->pad_top >= 0 && a->pad_left >= 0 && a->pad_bottom >= 0 &&
           a->pad_right >= 0 && a->kh < limit && a->kw < limit && a->stride < limit && a->pad_top < limit &&
           a->pad_left < limit && a->pad_bottom < limit && a->pad_right < limit;
}

/* Output length along one axis; <= 0 where the kernel does not fit. */
static int64_t out_length(int64_t in, int32_t before, int32_t after, int32_t kernel, int32_t stride)
{
    const int64_t span = in + before + after - kernel;
    return span < 0 ? 0 : span / stride + 1;
}

TensorId op_conv2d(Graph *g, TensorId x, TensorId w, TensorId b, TensorId residual, ConvAttr attr)
{
    static const char name[] = "op_conv2d";
    const Operand ox = operand_read(g, name, "x", x, OPERAND_ACTIVATION);
    const Operand ow = operand_read(g, name, "w", w, OPERAND_F32);
    const Operand ob = operand_read_optional(g, name, "b", b, OPERAND_WEIGHT);
    const Operand oresidual = operand_read_optional(g, name, "residual", residual, OPERAND_ACTIVATION);
    operand_want_dims(g, &ox, 4, 4);
    operand_want_dims(g, &ow, 4, 4);
    if (!graph_ok(g)) return TENSOR_NONE;
    if (!attr_is_sane(&attr)) {
        graph_fail(g, ERR_INTERNAL, "%s: kernel %dx%d, stride %d or a padding is out of range", name, attr.kh, attr.kw,
                   attr.stride);
        return TENSOR_NONE;
    }
    const int64_t n = ox.shape.dim[0], h = ox.shape.dim[1], wide = ox.shape.dim[2], c = ox.shape.dim[3];
    const int64_t o = ow.shape.dim[0];
    const int64_t oh = out_length(h, attr.pad_top, attr.pad_bottom, attr.kh, attr.stride);
    const int64_t owide = out_length(wide, attr.pad_left, attr.pad_right, attr.kw, attr.stride);
    if (oh <= 0 || owide <= 0) {
        graph_fail(g, ERR_INTERNAL, "%s: a %dx%d kernel does not fit the padded %" PRId64 "x%" PRId64 " input of '%s'",
                   name, attr.kh, attr.kw, h, wide, graph_tensor(g, x)->name);
        return TENSOR_NONE;
    }
    const Shape out = SHAPE4(n, oh, owide, o);
    operand_want_shape(g, &ow, SHAPE4(o, attr.kh, attr.kw, c));
    operand_want_shape(g, &ob, SHAPE1(o));
    operand_want_shape(g, &oresidual, out);
    operand_want_dtype_of(g, &oresidual, &ox);
    Op op = op_make(OP_CONV2D);
    op.in_count = 4;
    op.in[0] = x, op.in[1] = w, op.in[2] = b, op.in[3] = residual;
    op.attr.conv = attr;
    return op_append(g, &op, ox.dtype, out);
}

TensorId op_conv2d_transposed(Graph *g, TensorId dy, TensorId w, int64_t height, int64_t width, ConvAttr attr)
{
    static const char name[] = "op_conv2d_transposed";
    const Operand ody = operand_read(g, name, "dy", dy, OPERAND_ACTIVATION);
    const Operand ow = operand_read(g, name, "w", w, OPERAND_WEIGHT);
    operand_want_dims(g, &ody, 4, 4);
    operand_want_dims(g, &ow, 4, 4);
    if (!graph_ok(g)) return TENSOR_NONE;
    if (!attr_is_sane(&attr) || height < 1 || width < 1) {
        graph_fail(g, ERR_INTERNAL, "%s: kernel, stride, a padding or the output size is out of range", name);
        return TENSOR_NONE;
    }
    const int64_t n = ody.shape.dim[0], o = ow.shape.dim[0], c = ow.shape.dim[3];
    operand_want_shape(g, &ow, SHAPE4(o, attr.kh, attr.kw, c));
    operand_want_shape(g, &ody,
                       SHAPE4(n, out_length(height, attr.pad_top, attr.pad_bottom, attr.kh, attr.stride),
                              out_length(width, attr.pad_left, attr.pad_right, attr.kw, attr.stride), o));
    Op op = op_make(OP_CONV2D_GRAD_X);
    op.in_count = 2;
    op.in[0] = w, op.in[1] = dy;
    op.attr.conv = attr;
    return op_append(g, &op, ody.dtype, SHAPE4(n, height, width, c));
}

static Status conv2d_gradient(Backward *b, const Op *op)
{
    Status status = STATUS_OK;
    const TensorId x = op->in[0], w = op->in[1], bias = op->in[2], residual = op->in[3];
    const TensorId dy = backward_upstream(b, op->out[0]);
    if (dy == TENSOR_NONE) return STATUS_OK;
    /* Weights first: their bucket is complete the earlier. */
    if (backward_wants(b, w) || backward_wants(b, bias)) {
        TRY(backward_emit(b, OP_CONV2D_GRAD_W, &op->attr, (TensorId[]){backward_value(b, x), dy}, 2,
                          (TensorId[]){w, bias}, 2));
    }
    TRY(backward_emit(b, OP_CONV2D_GRAD_X, &op->attr, (TensorId[]){w, dy}, 2, (TensorId[]){x}, 1));
    if (backward_wants(b, residual)) TRY(backward_pass(b, residual, dy));
fail:
    return status;
}

static double conv_flops(const Shape *y, int64_t channels, const ConvAttr *attr)
{
    return 2.0 * (double)shape_count(y) * (double)channels * attr->kh * attr->kw;
}

static OpCost conv2d_cost(const Graph *g, const Op *op)
{
    const double flops = conv_flops(op_shape(g, op->out[0]), shape_last(op_shape(g, op->in[0])), &op->attr.conv);
    return (OpCost){flops, op_operand_bytes(g, op)};
}

static OpCost conv2d_grad_x_cost(const Graph *g, const Op *op)
{
    const double flops = conv_flops(op_shape(g, op->in[1]), shape_last(op_shape(g, op->in[0])), &op->attr.conv);
    return (OpCost){flops, op_operand_bytes(g, op)};
}

static OpCost conv2d_grad_w_cost(const Graph *g, const Op *op)
{
    /* A frozen weight with a trainable bias needs the sum over dy alone. */
    const double flops = op->out[0] == TENSOR_NONE
                             ? 0
                             : conv_flops(op_shape(g, op->in[1]), shape_last(op_shape(g, op->in[0])), &op->attr.conv);
    return (OpCost){flops, op_operand_bytes(g, op)};
}

const OpInfo op_info_CONV2D = {"conv2d", conv2d_gradient, conv2d_cost};
const OpInfo op_info_CONV2D_GRAD_X = {"conv2d_grad_x", NULL, conv2d_grad_x_cost};
const OpInfo op_info_CONV2D_GRAD_W = {"conv2d_grad_w", NULL, conv2d_grad_w_cost};
