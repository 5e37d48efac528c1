/* Linear layers as matrix products of oneDNN. The weights' gradient is a product with plain operands that writes, or
 * adds to, the flat fp32 gradient directly. */
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "engine/cpu/cpu.h"
#include "engine/cpu/onednn.h"
#include "engine/cpu/packing.h"

typedef struct LinearState {
    const Cpu *cpu;
    DnnPrimitive *set, *add; /* add: to the destination; the one that is never wanted is NULL */
    bool widen;              /* bf16 operands, fp32 primitive */
    int64_t rows, in, out;   /* x (rows,in), y (rows,out), w (out,in) */
} LinearState;

/* Pieces of the workspace; NULL where not needed. */
typedef struct LinearWorkspace {
    void *scratchpad;
    float *x, *y; /* widened operands */
    float *db;    /* for cpu_column_sums */
} LinearWorkspace;

static LinearWorkspace carve_workspace(const LinearState *s, OpKind kind, Carver *carver)
{
    LinearWorkspace w = {0};
    size_t scratchpad = s->set ? dnn_scratchpad_bytes(s->set) : 0;
    if (s->add && dnn_scratchpad_bytes(s->add) > scratchpad) scratchpad = dnn_scratchpad_bytes(s->add);
    w.scratchpad = carve(carver, (int64_t)scratchpad, 1);
    if (s->widen) {
        w.x = carve_floats(carver, s->rows * s->in);
        w.y = carve_floats(carver, s->rows * s->out);
    }
    if (kind == OP_LINEAR_GRAD_W) w.db = carve_floats(carver, s->cpu->threads * s->out);
    return w;
}

static void linear_release(void *state)
{
    LinearState *s = state;
    if (!s) return;
    dnn_free(s->set);
    dnn_free(s->add);
    free(s);
}

static DnnTensor matrix(DnnType type, int64_t rows, int64_t columns, int64_t row_stride, int64_t column_stride)
{
    return (DnnTensor){type, 2, {rows, columns}, {row_stride, column_stride}};
}

static Status state_create(const Cpu *cpu, const Tensor *x, const Tensor *y, LinearState **out)
{
    LinearState *s = mem_alloc_array(1, sizeof *s);
    if (!s) return ERR_MEMORY;
    s->cpu = cpu;
    s->widen = x->dtype == DTYPE_BF16 && !cpu->bf16;
    s->rows = shape_rows(&x->shape);
    s->in = shape_last(&x->shape);
    s->out = shape_last(&y->shape);
    cpu_use_threads(cpu);
    *out = s;
    return STATUS_OK;
}

static DnnType type_of(const LinearState *s, const Tensor *x)
{
    return x->dtype == DTYPE_BF16 && !s->widen ? DNN_BF16 : DNN_F32;
}

static void finish_prepare(LinearState *s, OpKind kind, Prepared *out)
{
    const DnnPrimitive *primitive = s->set ? s->set : s->add;
    Carver carver = {0};
    carve_workspace(s, kind, &carver);
    out->state = s;
    out->workspace_bytes = carver.used;
    out->packed_bytes = kind == OP_LINEAR_GRAD_W ? 0 : dnn_packed_bytes(primitive);
    out->detail = dnn_implementation(primitive);
}

static const void *widened(const LinearState *s, const void *data, float *wide, int64_t count)
{
    if (!s->widen) return data;
    cpu_copy(s->cpu, data, DTYPE_BF16, wide, DTYPE_F32, count, false);
    return wide;
}

/* ---- forward: x, w, [b], [residual] -> y = act(x w^T + b) + residual ---- */

static Status linear_prepare(Backend *backend, const Graph *graph, const Op *op, Prepared *out)
{
    Status status = STATUS_OK;
    LinearState *s = NULL;
    const Tensor *x = cpu_operand(graph, op->in[0]), *y = cpu_operand(graph, op->out[0]);
    TRY(state_create(cpu_of(backend), x, y, &s));
    const DnnType type = type_of(s, x);
    /* With an activation the residual comes after it; else the product is added to it. */
    const bool add = op->in[3] != TENSOR_NONE && op->attr.linear.act == ACT_NONE;
    DnnSpec spec = {.kind = DNN_MATMUL,
                    .src = matrix(type, s->rows, s->in, s->in, 1),
                    .weights = matrix(type, s->in, s->out, 1, s->in),
                    .dst = matrix(type, s->rows, s->out, s->out, 1),
                    .pack_weights = true,
                    .bias = op->in[2] != TENSOR_NONE,
                    .accumulate = add};
    TRY(dnn_create(&spec, add ? &s->add : &s->set));
    finish_prepare(s, op->kind, out);
    return STATUS_OK;
fail:
    linear_release(s);
    return status;
}

static Status linear_pack(const KernelCall *call)
{
    LinearState *s = call->state;
    return cpu_pack(s->cpu, s->set ? s->set : s->add, call->in[call->op->kind == OP_LINEAR ? 1 : 0], call->packed,
                    call->workspace);
}

typedef struct ActShare {
    const Cpu *cpu;
    void *y;
    Dtype type;
    Activation act;
} ActShare;

static Status act_share(void *context, int64_t begin, int64_t end, int32_t thread)
{
    const ActShare *a = context;
    void *y = cpu_at(a->y, a->type, begin);
    a->cpu->vector->activate(y, y, a->type, end - begin, a->act);
    return STATUS_OK;
}

static Status linear_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    LinearState *s = call->state;
    Carver carver = {.base = call->workspace};
    LinearWorkspace w = carve_workspace(s, call->op->kind, &carver);
    const Dtype type = cpu_in(call, 0)->dtype, y_type = s->widen ? DTYPE_F32 : type;
    const int64_t count = s->rows * s->out;
    const Activation act = call->op->attr.linear.act;
    DnnPrimitive *primitive = s->add ? s->add : s->set;
    void *y = s->widen ? w.y : call->out[0];
    if (s->add) cpu_copy(s->cpu, call->in[3], type, y, y_type, count, false);
    const void *x = widened(s, call->in[0], w.x, s->rows * s->in);
    cpu_use_threads(s->cpu);
    TRY(dnn_run(primitive, &(DnnArgs){.src = x,
                                      .weights = dnn_packed_bytes(primitive) > 0 ? call->packed : call->in[1],
                                      .bias = call->in[2],
                                      .dst = y,
                                      .scratchpad = w.scratchpad}));
    if (act != ACT_NONE) {
        TRY(cpu_parallel(s->cpu, count, CPU_GRAIN, act_share, &(ActShare){s->cpu, y, y_type, act}));
        if (call->in[3]) cpu_copy(s->cpu, call->in[3], type, y, y_type, count, true);
    }
    if (s->widen) cpu_copy(s->cpu, w.y, DTYPE_F32, call->out[0], DTYPE_BF16, count, false);
fail:
    return status;
}

/* ---- gradient of the input: w, dy -> dx = dy w ---- */

static Status linear_grad_x_prepare(Backend *backend, const Graph *graph, const Op *op, Prepared *out)
{
    Status status = STATUS_OK;
    LinearState *s = NULL;
    const Tensor *dx = cpu_operand(graph, op->out[0]), *dy = cpu_operand(graph, op->in[1]);
    TRY(state_create(cpu_of(backend), dx, dy, &s));
    const DnnType type = type_of(s, dx);
    const bool add = (op->accumulate & 1u) != 0;
    DnnSpec spec = {.kind = DNN_MATMUL,
                    .src = matrix(type, s->rows, s->out, s->out, 1),
                    .weights = matrix(type, s->out, s->in, s->in, 1),
                    .dst = matrix(type, s->rows, s->in, s->in, 1),
                    .pack_weights = true,
                    .accumulate = add};
    TRY(dnn_create(&spec, add ? &s->add : &s->set));
    finish_prepare(s, op->kind, out);
    return STATUS_OK;
fail:
    linear_release(s);
    return status;
}

static Status linear_grad_x_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    LinearState *s = call->state;
    Carver carver = {.base = call->workspace};
    LinearWorkspace w = carve_workspace(s, call->op->kind, &carver);
    const int64_t count = s->rows * s->in;
    DnnPrimitive *primitive = s->add ? s->add : s->set;
    void *dx = s->widen ? w.x : call->out[0];
    if (s->widen && s->add) cpu_copy(s->cpu, call->out[0], DTYPE_BF16, w.x, DTYPE_F32, count, false);
    const void *dy = widened(s, call->in[1], w.y, s->rows * s->out);
    cpu_use_threads(s->cpu);
    TRY(dnn_run(primitive, &(DnnArgs){.src = dy,
                                      .weights = dnn_packed_bytes(primitive) > 0 ? call->packed : call->in[0],
                                      .dst = dx,
                                      .scratchpad = w.scratchpad}));
    if (s->widen) cpu_copy(s->cpu, w.x, DTYPE_F32, call->out[0], DTYPE_BF16, count, false);
fail:
    return status;
}

/* ---- gradients of the weights: x, dy -> dw = dy^T x, [db = column sums of dy] ---- */

static Status linear_grad_w_prepare(Backend *backend, const Graph *graph, const Op *op, Prepared *out)
{
    Status status = STATUS_OK;
    LinearState *s = NULL;
    const Tensor *x = cpu_operand(graph, op->in[0]), *dy = cpu_operand(graph, op->in[1]);
    TRY(state_create(cpu_of(backend), x, dy, &s));
    const DnnType type = type_of(s, x);
    DnnSpec spec = {.kind = DNN_MATMUL,
                    .src = matrix(type, s->out, s->rows, 1, s->out),
                    .weights = matrix(type, s->rows, s->in, s->in, 1),
                    .dst = matrix(DNN_F32, s->out, s->in, s->in, 1)};
    TRY(dnn_create(&spec, &s->set));
    spec.accumulate = true;
    TRY(dnn_create(&spec, &s->add));
    finish_prepare(s, op->kind, out);
    return STATUS_OK;
fail:
    linear_release(s);
    return status;
}

static Status linear_grad_w_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    LinearState *s = call->state;
    Carver carver = {.base = call->workspace};
    LinearWorkspace w = carve_workspace(s, call->op->kind, &carver);
    const Dtype type = cpu_in(call, 0)->dtype;
    if (call->out[0]) {
        const void *x = widened(s, call->in[0], w.x, s->rows * s->in);
        const void *dy = widened(s, call->in[1], w.y, s->rows * s->out);
        cpu_use_threads(s->cpu);
        TRY(dnn_run(cpu_adds(call, 0) ? s->add : s->set,
                    &(DnnArgs){.src = dy, .weights = x, .dst = call->out[0], .scratchpad = w.scratchpad}));
    }
    if (call->out[1])
        cpu_column_sums(s->cpu, call->in[1], type, s->rows, s->out, call->out[1], cpu_adds(call, 1), w.db);
fail:
    return status;
}

const Kernel cpu_kernel_LINEAR = {
    .prepare = linear_prepare, .pack = linear_pack, .run = linear_run, .release = linear_release};
const Kernel cpu_kernel_LINEAR_GRAD_X = {
    .prepare = linear_grad_x_prepare, .pack = linear_pack, .run = linear_grad_x_run, .release = linear_release};
const Kernel cpu_kernel_LINEAR_GRAD_W = {
    .prepare = linear_grad_w_prepare, .run = linear_grad_w_run, .release = linear_release};
