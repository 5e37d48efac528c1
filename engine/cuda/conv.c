/* Convolutions through dnn.h. In bf16 weights and biases are read from bf16 copies: those kept beside the fp32
 * parameters, or packed ones. In fp32 they are read where they are, or copied where that is not aligned as cuDNN wants.
 */
#include <stdlib.h>

#include "base/arena.h"
#include "engine/cuda/convert_kernels.h"
#include "engine/cuda/cuda.h"
#include "engine/cuda/reduce_kernels.h"

typedef struct ConvState {
    const Cuda *cuda;
    DnnPlan *plan; /* NULL: not wanted */
    Dtype type;    /* of x and y */
    int64_t x_count, w_count, y_rows, channels_out;
    bool adds; /* GRAD_X: to what is there */
} ConvState;

static void conv_release(void *state)
{
    ConvState *s = state;
    if (!s) return;
    dnn_plan_free(s->plan);
    free(s);
}

/* x (N,H,W,C), y (N,OH,OW,O), w (O,KH,KW,C) */
static DnnConvSpec conv_spec(DnnConvKind kind, const Tensor *x, const Tensor *y, const ConvAttr *attr)
{
    const int64_t *i = x->shape.dim, *o = y->shape.dim;
    return (DnnConvSpec){.kind = kind,
                         .type = x->dtype,
                         .n = i[0],
                         .h = i[1],
                         .w = i[2],
                         .c = i[3],
                         .oh = o[1],
                         .ow = o[2],
                         .o = o[3],
                         .attr = *attr};
}

static Status state_create(const Cuda *cuda, const DnnConvSpec *spec, bool planned, ConvState **out)
{
    Status status = STATUS_OK;
    ConvState *s = mem_alloc_array(1, sizeof *s);
    if (!s) FAIL(ERR_MEMORY, "no memory for a convolution");
    s->cuda = cuda;
    s->type = spec->type;
    s->x_count = spec->n * spec->h * spec->w * spec->c;
    s->w_count = spec->o * spec->attr.kh * spec->attr.kw * spec->c;
    s->y_rows = spec->n * spec->oh * spec->ow;
    s->channels_out = spec->o;
    if (planned) TRY(dnn_conv_create(cuda->dnn, spec, &s->plan));
    *out = s;
    return STATUS_OK;
fail:
    conv_release(s);
    return status;
}

/* ---- weights and bias in the type of the activations ---- */

typedef struct ConvPacked {
    uint16_t *weights, *bias; /* bf16 */
} ConvPacked;

static ConvPacked carve_packed(const ConvState *s, bool bias, CudaCarver *carver)
{
    ConvPacked packed = {0};
    if (s->type != DTYPE_BF16) return packed;
    packed.weights = cuda_carve(carver, (size_t)s->w_count * sizeof(uint16_t));
    if (bias) packed.bias = cuda_carve(carver, (size_t)s->channels_out * sizeof(uint16_t));
    return packed;
}

static bool is_param(const Graph *graph, TensorId id)
{
    return id == TENSOR_NONE || graph_tensor(graph, graph_root(graph, id))->kind == TENSOR_PARAM;
}

static void prepare_packed(const ConvState *s, const Graph *graph, TensorId weights, TensorId bias, Prepared *out)
{
    CudaCarver carver = {0};
    carve_packed(s, bias != TENSOR_NONE, &carver);
    out->packed_bytes = carver.used;
    out->packs_halves = carver.used > 0 && is_param(graph, weights) && is_param(graph, bias);
}

static Status pack(const ConvState *s, const KernelCall *call, int k, uint16_t *packed, int64_t count)
{
    Status status = STATUS_OK;
    if (!packed || !call->in[k] || call->half[k]) return STATUS_OK;
    TRY_CUDA(convert_launch(call->in[k], DTYPE_F32, packed, DTYPE_BF16, count, false, s->cuda->stream));
fail:
    return status;
}

static bool is_aligned(const void *memory)
{
    return (uintptr_t)memory % 16 == 0;
}

/* Input k as the plan reads it; `spare` is room for a copy of `count` elements. */
static Status operand(const ConvState *s, const KernelCall *call, int k, const uint16_t *packed, void *spare,
                      int64_t count, const void **out)
{
    Status status = STATUS_OK;
    *out = s->type != DTYPE_BF16 ? call->in[k] : call->half[k] ? call->half[k] : packed;
    if (!*out || is_aligned(*out)) return STATUS_OK;
    TRY_CUDA(
        cudaMemcpyAsync(spare, *out, (size_t)count * dtype_size(s->type), cudaMemcpyDeviceToDevice, s->cuda->stream));
    *out = spare;
fail:
    return status;
}

/* Pieces of the workspace; NULL where not needed. */
typedef struct ConvWorkspace {
    void *plan;
    void *weights, *bias; /* copies of parameters that are not aligned */
    void *dx;             /* the input's gradient, when it is to be added */
    float *dw;            /* the weights' gradient, when it is to be added or has no aligned place */
    float *partial;       /* for column_sums_launch */
} ConvWorkspace;

static ConvWorkspace carve_workspace(const ConvState *s, OpKind kind, CudaCarver *carver)
{
    ConvWorkspace w = {0};
    const size_t size = dtype_size(s->type);
    w.plan = cuda_carve(carver, s->plan ? dnn_plan_workspace(s->plan) : 0);
    if (kind == OP_CONV2D_GRAD_W) {
        if (s->plan) w.dw = cuda_carve(carver, (size_t)s->w_count * sizeof(float));
        w.partial = cuda_carve(carver, (size_t)column_sums_partial(s->y_rows, s->channels_out, s->cuda->processors) *
                                           sizeof(float));
        return w;
    }
    w.weights = cuda_carve(carver, (size_t)s->w_count * size);
    if (kind == OP_CONV2D) w.bias = cuda_carve(carver, (size_t)s->channels_out * size);
    if (s->adds) w.dx = cuda_carve(carver, (size_t)s->x_count * size);
    return w;
}

static void prepared(ConvState *s, OpKind kind, Prepared *out)
{
    CudaCarver carver = {0};
    carve_workspace(s, kind, &carver);
    out->state = s;
    out->workspace_bytes = carver.used;
    out->detail = s->plan ? dnn_plan_name(s->plan) : NULL;
}

/* ---- forward: x, w, [b], [residual] -> y ---- */

static Status conv2d_prepare(Backend *backend, const Graph *graph, const Op *op, Prepared *out)
{
    Status status = STATUS_OK;
    ConvState *s = NULL;
    DnnConvSpec spec =
        conv_spec(DNN_CONV, graph_tensor(graph, op->in[0]), graph_tensor(graph, op->out[0]), &op->attr.conv);
    spec.bias = op->in[2] != TENSOR_NONE;
    spec.residual = op->in[3] != TENSOR_NONE;
    TRY(state_create(cuda_of(backend), &spec, true, &s));
    prepared(s, op->kind, out);
    prepare_packed(s, graph, op->in[1], op->in[2], out);
fail:
    return status;
}

static Status conv2d_pack(const KernelCall *call)
{
    Status status = STATUS_OK;
    const ConvState *s = call->state;
    CudaCarver carver = {.base = call->packed};
    const ConvPacked packed = carve_packed(s, call->in[2] != NULL, &carver);
    TRY(pack(s, call, 1, packed.weights, s->w_count));
    TRY(pack(s, call, 2, packed.bias, s->channels_out));
fail:
    return status;
}

static Status conv2d_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    const ConvState *s = call->state;
    CudaCarver carver = {.base = call->packed}, room = {.base = call->workspace};
    const ConvPacked packed = carve_packed(s, call->in[2] != NULL, &carver);
    const ConvWorkspace w = carve_workspace(s, call->op->kind, &room);
    const void *weights, *bias;
    TRY(operand(s, call, 1, packed.weights, w.weights, s->w_count, &weights));
    TRY(operand(s, call, 2, packed.bias, w.bias, s->channels_out, &bias));
    TRY(dnn_conv_run(s->plan, &(DnnConvArgs){.x = call->in[0],
                                             .w = weights,
                                             .bias = bias,
                                             .residual = call->in[3],
                                             .out = call->out[0],
                                             .workspace = w.plan}));
fail:
    return status;
}

/* ---- gradient of the input, or transposed convolution: w, dy -> dx ---- */

static Status conv2d_grad_x_prepare(Backend *backend, const Graph *graph, const Op *op, Prepared *out)
{
    Status status = STATUS_OK;
    ConvState *s = NULL;
    const DnnConvSpec spec =
        conv_spec(DNN_CONV_GRAD_X, graph_tensor(graph, op->out[0]), graph_tensor(graph, op->in[1]), &op->attr.conv);
    TRY(state_create(cuda_of(backend), &spec, true, &s));
    s->adds = (op->accumulate & 1u) != 0;
    prepared(s, op->kind, out);
    prepare_packed(s, graph, op->in[0], TENSOR_NONE, out);
fail:
    return status;
}

static Status conv2d_grad_x_pack(const KernelCall *call)
{
    const ConvState *s = call->state;
    CudaCarver carver = {.base = call->packed};
    return pack(s, call, 0, carve_packed(s, false, &carver).weights, s->w_count);
}

static Status conv2d_grad_x_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    const ConvState *s = call->state;
    CudaCarver carver = {.base = call->packed}, room = {.base = call->workspace};
    const ConvPacked packed = carve_packed(s, false, &carver);
    const ConvWorkspace w = carve_workspace(s, call->op->kind, &room);
    const bool adds = cuda_adds(call, 0);
    const void *weights;
    if (adds && !s->adds) FAIL(ERR_INTERNAL, "a convolution's input gradient was not planned to be added");
    TRY(operand(s, call, 0, packed.weights, w.weights, s->w_count, &weights));
    TRY(dnn_conv_run(
        s->plan,
        &(DnnConvArgs){.y = call->in[1], .w = weights, .out = adds ? w.dx : call->out[0], .workspace = w.plan}));
    if (adds) TRY_CUDA(convert_launch(w.dx, s->type, call->out[0], s->type, s->x_count, true, s->cuda->stream));
fail:
    return status;
}

/* ---- gradients of the weights: x, dy -> [dw], [db], both fp32 ---- */

static Status conv2d_grad_w_prepare(Backend *backend, const Graph *graph, const Op *op, Prepared *out)
{
    Status status = STATUS_OK;
    ConvState *s = NULL;
    const DnnConvSpec spec =
        conv_spec(DNN_CONV_GRAD_W, graph_tensor(graph, op->in[0]), graph_tensor(graph, op->in[1]), &op->attr.conv);
    TRY(state_create(cuda_of(backend), &spec, op->out[0] != TENSOR_NONE, &s));
    prepared(s, op->kind, out);
fail:
    return status;
}

/* Whether the gradient is set or added is known only now (the first micro-batch sets). It is added aside: a second plan
 * that adds would double the time to plan, for what is less than a hundredth of the convolution's own time. */
static Status conv2d_grad_w_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    const ConvState *s = call->state;
    const cudaStream_t stream = s->cuda->stream;
    CudaCarver room = {.base = call->workspace};
    const ConvWorkspace w = carve_workspace(s, call->op->kind, &room);
    float *dw = call->out[0], *db = call->out[1];
    if (dw) {
        const bool adds = cuda_adds(call, 0), aside = adds || !is_aligned(dw);
        TRY(dnn_conv_run(
            s->plan,
            &(DnnConvArgs){.x = call->in[0], .y = call->in[1], .out = aside ? w.dw : dw, .workspace = w.plan}));
        if (aside) TRY_CUDA(convert_launch(w.dw, DTYPE_F32, dw, DTYPE_F32, s->w_count, adds, stream));
    }
    if (db)
        TRY_CUDA(column_sums_launch(call->in[1], s->type, s->y_rows, s->channels_out, db, cuda_adds(call, 1), w.partial,
                                    s->cuda->processors, stream));
fail:
    return status;
}

const Kernel cuda_kernel_CONV2D = {
    .prepare = conv2d_prepare, .pack = conv2d_pack, .run = conv2d_run, .release = conv_release};
const Kernel cuda_kernel_CONV2D_GRAD_X = {
    .prepare = conv2d_grad_x_prepare, .pack = conv2d_grad_x_pack, .run = conv2d_grad_x_run, .release = conv_release};
const Kernel cuda_kernel_CONV2D_GRAD_W = {
    .prepare = conv2d_grad_w_prepare, .run = conv2d_grad_w_run, .release = conv_release};
