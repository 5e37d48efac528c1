/* Convolutions through oneDNN: activations plain NHWC, weights in the library's own layout, made again from the fp32
 * OHWI parameters each time those change. In fp32, 3x3 convolutions of stride 1 take Winograd's form where it pays. */
#include <stdlib.h>

#include "base/arena.h"
#include "base/log.h"
#include "engine/cpu/cpu.h"
#include "engine/cpu/onednn.h"
#include "engine/cpu/packing.h"
#include "engine/cpu/winograd.h"

typedef struct ConvState {
    const Cpu *cpu;
    DnnPrimitive *primitive;
    Winograd *winograd; /* instead of the primitive */
    bool widen;         /* bf16 operands, fp32 primitive */
    int64_t x_count, y_count, w_count, channels_out;
} ConvState;

/* Pieces of the workspace; NULL where not needed. */
typedef struct ConvWorkspace {
    void *scratchpad;
    float *x, *y; /* widened operands */
    void *dw;     /* the weights' gradient in the library's layout */
    float *db;    /* of one micro-batch, when it is to be added */
    void *dx;     /* the input's gradient, when it is to be added */
} ConvWorkspace;

static ConvWorkspace carve_workspace(const ConvState *s, OpKind kind, Carver *carver)
{
    ConvWorkspace w = {0};
    if (s->winograd) {
        w.scratchpad = carve(carver, (int64_t)winograd_workspace_bytes(s->winograd), 1);
        if (kind == OP_CONV2D_GRAD_W) w.db = carve_floats(carver, s->cpu->threads * s->channels_out);
        return w;
    }
    w.scratchpad = carve(carver, (int64_t)dnn_scratchpad_bytes(s->primitive), 1);
    if (s->widen) {
        w.x = carve_floats(carver, s->x_count);
        w.y = carve_floats(carver, s->y_count);
    }
    if (kind == OP_CONV2D_GRAD_W) {
        const size_t packed = dnn_packed_bytes(s->primitive);
        w.dw = packed > 0 ? carve(carver, (int64_t)packed, 1) : carve_floats(carver, s->w_count);
        w.db = carve_floats(carver, s->channels_out);
    }
    if (kind == OP_CONV2D_GRAD_X && !s->widen) w.dx = carve_floats(carver, s->x_count);
    return w;
}

static void conv_release(void *state)
{
    ConvState *s = state;
    if (!s) return;
    dnn_free(s->primitive);
    winograd_free(s->winograd);
    free(s);
}

static DnnTensor picture(const Tensor *t, DnnType type)
{
    const int64_t n = t->shape.dim[0], h = t->shape.dim[1], w = t->shape.dim[2], c = t->shape.dim[3];
    return (DnnTensor){type, 4, {n, c, h, w}, {h * w * c, 1, w * c, c}};
}

static DnnTensor weights(const Tensor *t, DnnType type)
{
    const int64_t o = t->shape.dim[0], kh = t->shape.dim[1], kw = t->shape.dim[2], c = t->shape.dim[3];
    return (DnnTensor){type, 4, {o, c, kh, kw}, {kh * kw * c, 1, kw * c, c}};
}

static WinogradKind winograd_kind(DnnKind kind)
{
    return kind == DNN_CONV_FORWARD         ? WINOGRAD_FORWARD
           : kind == DNN_CONV_BACKWARD_DATA ? WINOGRAD_INPUT_GRADIENT
                                            : WINOGRAD_WEIGHT_GRADIENT;
}

static bool may_use_winograd(const Cpu *cpu, const ConvAttr *attr, const Tensor *x, DnnKind kind,
                             const WinogradShape *shape)
{
    return cpu->winograd && x->dtype == DTYPE_F32 && attr->kh == 3 && attr->kw == 3 && attr->stride == 1 &&
           winograd_suits(cpu, winograd_kind(kind), shape);
}

/* x, w, y: the op's picture in, weights and picture out, or their gradients. */
static Status conv_prepare_with(const Cpu *cpu, const Op *op, DnnKind kind, const Tensor *x, const Tensor *w,
                                const Tensor *y, bool bias, bool residual, Prepared *out)
{
    Status status = STATUS_OK;
    ConvState *s = mem_alloc_array(1, sizeof *s);
    if (!s) return ERR_MEMORY;
    const bool bf16 = x->dtype == DTYPE_BF16 && cpu->bf16;
    const DnnType type = bf16 ? DNN_BF16 : DNN_F32;
    const ConvAttr *attr = &op->attr.conv;
    s->cpu = cpu;
    s->widen = x->dtype == DTYPE_BF16 && !cpu->bf16;
    s->x_count = shape_count(&x->shape);
    s->y_count = shape_count(&y->shape);
    s->w_count = shape_count(&w->shape);
    s->channels_out = w->shape.dim[0];
    DnnSpec spec = {.kind = kind,
                    .src = picture(x, type),
                    .weights = weights(w, kind == DNN_CONV_BACKWARD_WEIGHTS ? DNN_F32 : type),
                    .dst = picture(y, type),
                    .pack_weights = true,
                    .bias = bias,
                    .accumulate = residual,
                    .stride = attr->stride,
                    .pad_top = attr->pad_top,
                    .pad_left = attr->pad_left,
                    .pad_bottom = attr->pad_bottom,
                    .pad_right = attr->pad_right};
    const WinogradShape shape = {x->shape.dim[0], x->shape.dim[1], x->shape.dim[2], x->shape.dim[3], y->shape.dim[1],
                                 y->shape.dim[2], y->shape.dim[3], attr->pad_top,   attr->pad_left};
    Carver carver = {0};
    if (may_use_winograd(cpu, attr, x, kind, &shape)) {
        TRY(winograd_create(cpu, winograd_kind(kind), &shape, &s->winograd));
        carve_workspace(s, op->kind, &carver);
        out->state = s;
        out->workspace_bytes = carver.used;
        out->packed_bytes = winograd_packed_bytes(s->winograd);
        out->detail = winograd_detail(s->winograd);
        return STATUS_OK;
    }
    cpu_use_threads(cpu);
    TRY(dnn_create(&spec, &s->primitive));
    if (dnn_is_slow(s->primitive))
        log_warn("oneDNN has only its slow %s for a convolution of %lld to %lld channels",
                 dnn_implementation(s->primitive), (long long)spec.weights.dim[1], (long long)spec.weights.dim[0]);
    carve_workspace(s, op->kind, &carver);
    out->state = s;
    out->workspace_bytes = carver.used;
    out->packed_bytes = kind == DNN_CONV_BACKWARD_WEIGHTS ? 0 : dnn_packed_bytes(s->primitive);
    out->detail = dnn_implementation(s->primitive);
    return STATUS_OK;
fail:
    conv_release(s);
    return status;
}

static Status pack_from(const KernelCall *call, const float *plain)
{
    ConvState *s = call->state;
    if (s->winograd) return winograd_pack(s->winograd, plain, call->packed, call->workspace);
    return cpu_pack(s->cpu, s->primitive, plain, call->packed, call->workspace);
}

/* The fp32 form of a bf16 operand, or the operand itself. */
static const void *widened(const ConvState *s, const void *data, float *wide, int64_t count)
{
    if (!s->widen) return data;
    cpu_copy(s->cpu, data, DTYPE_BF16, wide, DTYPE_F32, count, false);
    return wide;
}

static const void *weights_of(const KernelCall *call, const void *plain)
{
    const ConvState *s = call->state;
    return dnn_packed_bytes(s->primitive) > 0 ? call->packed : plain;
}

/* ---- forward: x, w, [b], [residual] -> y ---- */

static Status conv2d_prepare(Backend *backend, const Graph *graph, const Op *op, Prepared *out)
{
    return conv_prepare_with(cpu_of(backend), op, DNN_CONV_FORWARD, cpu_operand(graph, op->in[0]),
                             cpu_operand(graph, op->in[1]), cpu_operand(graph, op->out[0]), op->in[2] != TENSOR_NONE,
                             op->in[3] != TENSOR_NONE, out);
}

static Status conv2d_pack(const KernelCall *call)
{
    return pack_from(call, call->in[1]);
}

static Status conv2d_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    ConvState *s = call->state;
    Carver carver = {.base = call->workspace};
    ConvWorkspace w = carve_workspace(s, call->op->kind, &carver);
    const Dtype type = cpu_in(call, 0)->dtype;
    if (s->winograd)
        return winograd_run(s->winograd, call->in[0], call->packed, call->in[2], call->in[3], call->out[0],
                            w.scratchpad);
    void *y = s->widen ? w.y : call->out[0];
    /* The primitive adds to its destination, before rounding: so the residual is put there first. */
    if (call->in[3]) cpu_copy(s->cpu, call->in[3], type, y, s->widen ? DTYPE_F32 : type, s->y_count, false);
    const void *x = widened(s, call->in[0], w.x, s->x_count);
    cpu_use_threads(s->cpu);
    TRY(dnn_run(s->primitive, &(DnnArgs){.src = x,
                                         .weights = weights_of(call, call->in[1]),
                                         .bias = call->in[2],
                                         .dst = y,
                                         .scratchpad = w.scratchpad}));
    if (s->widen) cpu_copy(s->cpu, w.y, DTYPE_F32, call->out[0], DTYPE_BF16, s->y_count, false);
fail:
    return status;
}

/* ---- gradient of the input: w, dy -> dx ---- */

static Status conv2d_grad_x_prepare(Backend *backend, const Graph *graph, const Op *op, Prepared *out)
{
    return conv_prepare_with(cpu_of(backend), op, DNN_CONV_BACKWARD_DATA, cpu_operand(graph, op->out[0]),
                             cpu_operand(graph, op->in[0]), cpu_operand(graph, op->in[1]), false, false, out);
}

static Status conv2d_grad_x_pack(const KernelCall *call)
{
    return pack_from(call, call->in[0]);
}

static Status conv2d_grad_x_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    ConvState *s = call->state;
    Carver carver = {.base = call->workspace};
    ConvWorkspace w = carve_workspace(s, call->op->kind, &carver);
    const Dtype type = cpu_out(call, 0)->dtype;
    const bool add = cpu_adds(call, 0), aside = add || s->widen;
    if (s->winograd)
        return winograd_run(s->winograd, call->in[1], call->packed, NULL, add ? call->out[0] : NULL, call->out[0],
                            w.scratchpad);
    void *dx = s->widen ? (void *)w.x : add ? w.dx : call->out[0];
    const void *dy = widened(s, call->in[1], w.y, s->y_count);
    cpu_use_threads(s->cpu);
    TRY(dnn_run(
        s->primitive,
        &(DnnArgs){.src = dx, .weights = weights_of(call, call->in[0]), .dst = dy, .scratchpad = w.scratchpad}));
    if (aside) cpu_copy(s->cpu, dx, s->widen ? DTYPE_F32 : type, call->out[0], type, s->x_count, add);
fail:
    return status;
}

/* ---- gradients of the weights: x, dy -> dw, [db] ---- */

static Status conv2d_grad_w_prepare(Backend *backend, const Graph *graph, const Op *op, Prepared *out)
{
    Tensor w = *cpu_operand(graph, op->in[0]);
    const Tensor *dw = cpu_operand(graph, op->out[0]), *x = cpu_operand(graph, op->in[0]);
    const Tensor *dy = cpu_operand(graph, op->in[1]);
    /* Only the bias may want a gradient; the weights' shape follows from the others. */
    w.shape = dw ? dw->shape : SHAPE4(dy->shape.dim[3], op->attr.conv.kh, op->attr.conv.kw, x->shape.dim[3]);
    return conv_prepare_with(cpu_of(backend), op, DNN_CONV_BACKWARD_WEIGHTS, x, &w, dy, op->out[1] != TENSOR_NONE,
                             false, out);
}

static Status conv2d_grad_w_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    ConvState *s = call->state;
    Carver carver = {.base = call->workspace};
    ConvWorkspace w = carve_workspace(s, call->op->kind, &carver);
    float *dw = call->out[0], *db = call->out[1];
    if (s->winograd) {
        if (dw) TRY(winograd_run_weights(s->winograd, call->in[0], call->in[1], dw, cpu_adds(call, 0), w.scratchpad));
        if (db)
            cpu_column_sums(s->cpu, call->in[1], DTYPE_F32, s->y_count / s->channels_out, s->channels_out, db,
                            cpu_adds(call, 1), w.db);
        return STATUS_OK;
    }
    const void *x = widened(s, call->in[0], w.x, s->x_count), *dy = widened(s, call->in[1], w.y, s->y_count);
    const bool packed = dnn_packed_bytes(s->primitive) > 0, aside = packed || !dw || cpu_adds(call, 0);
    cpu_use_threads(s->cpu);
    TRY(dnn_run(s->primitive, &(DnnArgs){.src = x,
                                         .weights = aside ? w.dw : dw,
                                         .bias = cpu_adds(call, 1) ? w.db : db,
                                         .dst = dy,
                                         .scratchpad = w.scratchpad}));
    if (dw && packed) {
        TRY(cpu_unpack(s->cpu, s->primitive, w.dw, dw, cpu_adds(call, 0), w.scratchpad));
    } else if (dw && aside) {
        cpu_add(s->cpu, w.dw, dw, dw, DTYPE_F32, s->w_count, false);
    }
    if (db && cpu_adds(call, 1)) s->cpu->vector->add(w.db, db, db, DTYPE_F32, s->channels_out, false);
fail:
    return status;
}

const Kernel cpu_kernel_CONV2D = {
    .prepare = conv2d_prepare, .pack = conv2d_pack, .run = conv2d_run, .release = conv_release};
const Kernel cpu_kernel_CONV2D_GRAD_X = {
    .prepare = conv2d_grad_x_prepare, .pack = conv2d_grad_x_pack, .run = conv2d_grad_x_run, .release = conv_release};
const Kernel cpu_kernel_CONV2D_GRAD_W = {
    .prepare = conv2d_grad_w_prepare, .run = conv2d_grad_w_run, .release = conv_release};
