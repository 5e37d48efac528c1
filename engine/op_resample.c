#include <inttypes.h>

#include "engine/op_build.h"

TensorId op_resample(Graph *g, TensorId x, ResampleMode mode)
{
    const Operand ox = operand_read(g, "op_resample", "x", x, OPERAND_ACTIVATION);
    operand_want_dims(g, &ox, 4, 4);
    if (!graph_ok(g)) return TENSOR_NONE;
    Shape out = ox.shape;
    const int64_t h = out.dim[1], w = out.dim[2];
    if (mode == RESAMPLE_DOWN2_AVERAGE) {
        if (h % 2 != 0 || w % 2 != 0) {
            graph_fail(g, ERR_INTERNAL, "op_resample: '%s' is %" PRId64 "x%" PRId64 "; halving needs even sides",
                       graph_tensor(g, x)->name, h, w);
            return TENSOR_NONE;
        }
        out.dim[1] = h / 2, out.dim[2] = w / 2;
    } else {
        out.dim[1] = h * 2, out.dim[2] = w * 2;
    }
    Op op = op_make(OP_RESAMPLE);
    op.in_count = 1;
    op.in[0] = x;
    op.attr.resample.mode = mode;
    return op_append(g, &op, ox.dtype, out);
}

static Status resample_gradient(Backward *b, const Op *op)
{
    const TensorId dy = backward_upstream(b, op->out[0]);
    if (dy == TENSOR_NONE) return STATUS_OK;
    return backward_emit(b, OP_RESAMPLE_GRAD, &op->attr, &dy, 1, (TensorId[]){op->in[0]}, 1);
}

const OpInfo op_info_RESAMPLE = {"resample", resample_gradient, op_cost_elementwise};
const OpInfo op_info_RESAMPLE_GRAD = {"resample_grad", NULL, op_cost_elementwise};
