#include <inttypes.h>

#include "engine/op_build.h"

TensorId op_timestep_embedding(Graph *g, TensorId t, int64_t channels, float max_period)
{
    static const char name[] = "op_timestep_embedding";
    const Operand ot = operand_read(g, name, "t", t, OPERAND_F32);
    operand_want_dims(g, &ot, 1, 1);
    if (!graph_ok(g)) return TENSOR_NONE;
    if (channels < 2 || channels % 2 != 0 || !(max_period > 0)) {
        graph_fail(g, ERR_INTERNAL, "%s: %" PRId64 " channels (must be even), max_period %g (must be positive)", name,
                   channels, (double)max_period);
        return TENSOR_NONE;
    }
    Op op = op_make(OP_TIMESTEP_EMBEDDING);
    op.in_count = 1;
    op.in[0] = t;
    op.attr.diffusion.max_period = max_period;
    return op_append(g, &op, DTYPE_F32, SHAPE2(ot.shape.dim[0], channels));
}

TensorId op_noise(Graph *g, TensorId index, Shape shape, uint64_t seed, RandomPurpose purpose)
{
    const Operand oindex = operand_read(g, "op_noise", "index", index, OPERAND_I32);
    if (!graph_ok(g)) return TENSOR_NONE;
    operand_want_shape(g, &oindex, SHAPE2(shape.ndim > 0 ? shape.dim[0] : 1, 2));
    Op op = op_make(OP_NOISE);
    op.in_count = 1;
    op.in[0] = index;
    op.attr.diffusion.seed = seed;
    op.attr.diffusion.purpose = purpose;
    return op_append(g, &op, DTYPE_F32, shape);
}

TensorId op_posterior_sample(Graph *g, TensorId moments, TensorId noise, float scale)
{
    static const char name[] = "op_posterior_sample";
    const Operand omoments = operand_read(g, name, "moments", moments, OPERAND_F32);
    const Operand onoise = operand_read_optional(g, name, "noise", noise, OPERAND_F32);
    operand_want_dims(g, &omoments, 4, 4);
    if (!graph_ok(g)) return TENSOR_NONE;
    Shape out = omoments.shape;
    if (out.dim[3] % 2 != 0) {
        graph_fail(g, ERR_INTERNAL, "%s: the %" PRId64 " channels of moments '%s' are not means and log variances",
                   name, out.dim[3], graph_tensor(g, moments)->name);
        return TENSOR_NONE;
    }
    out.dim[3] /= 2;
    operand_want_shape(g, &onoise, out);
    if (!graph_ok(g)) return TENSOR_NONE;
    Op op = op_make(OP_POSTERIOR_SAMPLE);
    op.in_count = 2;
    op.in[0] = moments, op.in[1] = noise;
    op.attr.diffusion.latent_scale = scale;
    return op_append(g, &op, DTYPE_F32, out);
}

TensorId op_q_sample(Graph *g, TensorId x0, TensorId noise, TensorId t, TensorId table)
{
    static const char name[] = "op_q_sample";
    const Operand ox0 = operand_read(g, name, "x0", x0, OPERAND_F32);
    const Operand onoise = operand_read(g, name, "noise", noise, OPERAND_F32);
    const Operand ot = operand_read(g, name, "t", t, OPERAND_F32);
    const Operand otable = operand_read(g, name, "table", table, OPERAND_F32);
    operand_want_dims(g, &ox0, 4, 4);
    operand_want_dims(g, &otable, 2, 2);
    if (!graph_ok(g)) return TENSOR_NONE;
    operand_want_shape(g, &onoise, ox0.shape);
    operand_want_shape(g, &ot, SHAPE1(ox0.shape.dim[0]));
    operand_want_shape(g, &otable, SHAPE2(otable.shape.dim[0], 8));
    Op op = op_make(OP_Q_SAMPLE);
    op.in_count = 4;
    op.in[0] = x0, op.in[1] = noise, op.in[2] = t, op.in[3] = table;
    return op_append(g, &op, DTYPE_F32, ox0.shape);
}

TensorId op_inpaint_input(Graph *g, TensorId x_t, TensorId x0, TensorId keep)
{
    static const char name[] = "op_inpaint_input";
    const Operand ox_t = operand_read(g, name, "x_t", x_t, OPERAND_F32);
    const Operand ox0 = operand_read(g, name, "x0", x0, OPERAND_F32);
    const Operand okeep = operand_read(g, name, "keep", keep, OPERAND_F32);
    operand_want_dims(g, &ox_t, 4, 4);
    if (!graph_ok(g)) return TENSOR_NONE;
    Shape out = ox_t.shape;
    operand_want_shape(g, &ox0, out);
    operand_want_shape(g, &okeep, SHAPE3(out.dim[0], out.dim[1], out.dim[2]));
    out.dim[3] = 2 * out.dim[3] + 1;
    Op op = op_make(OP_INPAINT_INPUT);
    op.in_count = 3;
    op.in[0] = x_t, op.in[1] = x0, op.in[2] = keep;
    return op_append(g, &op, DTYPE_F32, out);
}

TensorId op_diffusion_loss(Graph *g, TensorId out, TensorId x0, TensorId x_t, TensorId noise, TensorId t,
                           TensorId table, float loss_scale, float vb_weight)
{
    static const char name[] = "op_diffusion_loss";
    const Operand oout = operand_read(g, name, "out", out, OPERAND_F32);
    const Operand ox0 = operand_read(g, name, "x0", x0, OPERAND_F32);
    const Operand ox_t = operand_read(g, name, "x_t", x_t, OPERAND_F32);
    const Operand onoise = operand_read(g, name, "noise", noise, OPERAND_F32);
    const Operand ot = operand_read(g, name, "t", t, OPERAND_F32);
    const Operand otable = operand_read(g, name, "table", table, OPERAND_F32);
    operand_want_dims(g, &ox0, 4, 4);
    operand_want_dims(g, &otable, 2, 2);
    if (!graph_ok(g)) return TENSOR_NONE;
    Shape doubled = ox0.shape;
    doubled.dim[3] *= 2;
    operand_want_shape(g, &oout, doubled);
    operand_want_shape(g, &ox_t, ox0.shape);
    operand_want_shape(g, &onoise, ox0.shape);
    operand_want_shape(g, &ot, SHAPE1(ox0.shape.dim[0]));
    operand_want_shape(g, &otable, SHAPE2(otable.shape.dim[0], 8));
    Op op = op_make(OP_DIFFUSION_LOSS);
    op.in_count = 6;
    op.in[0] = out, op.in[1] = x0, op.in[2] = x_t, op.in[3] = noise, op.in[4] = t, op.in[5] = table;
    op.attr.diffusion.loss_scale = loss_scale;
    op.attr.diffusion.vb_weight = vb_weight;
    return op_append(g, &op, DTYPE_F32, SHAPE2(ox0.shape.dim[0], 2));
}

static Status diffusion_loss_gradient(Backward *b, const Op *op)
{
    Status status = STATUS_OK;
    TensorId in[6];
    for (int i = 0; i < 6; i++) {
        if (i > 0 && backward_wants(b, op->in[i])) {
            FAIL(ERR_UNSUPPORTED, "diffusion_loss: only the network's output has a gradient, not '%s'",
                 graph_tensor(backward_graph(b), op->in[i])->name);
        }
        in[i] = backward_value(b, op->in[i]);
    }
    TRY(backward_emit(b, OP_DIFFUSION_LOSS_GRAD, &op->attr, in, 6, (TensorId[]){op->in[0]}, 1));
fail:
    return status;
}

const OpInfo op_info_TIMESTEP_EMBEDDING = {"timestep_embedding", NULL, op_cost_elementwise};
const OpInfo op_info_NOISE = {"noise", NULL, op_cost_elementwise};
const OpInfo op_info_POSTERIOR_SAMPLE = {"posterior_sample", NULL, op_cost_elementwise};
const OpInfo op_info_Q_SAMPLE = {"q_sample", NULL, op_cost_elementwise};
const OpInfo op_info_INPAINT_INPUT = {"inpaint_input", NULL, op_cost_elementwise};
const OpInfo op_info_DIFFUSION_LOSS = {"diffusion_loss", diffusion_loss_gradient, op_cost_elementwise};
const OpInfo op_info_DIFFUSION_LOSS_GRAD = {"diffusion_loss_grad", NULL, op_cost_elementwise};
