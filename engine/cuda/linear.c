/* Linear layers as matrix products. In bf16 weights and biases are read from bf16 copies: those kept beside the fp32
 * parameters, or packed ones. */
#include <stdlib.h>

#include "base/arena.h"
#include "engine/cuda/convert_kernels.h"
#include "engine/cuda/cuda.h"
#include "engine/cuda/elementwise_kernels.h"
#include "engine/cuda/reduce_kernels.h"

typedef struct LinearState {
    const Cuda *cuda;
    BlasProduct *product;  /* NULL: not wanted */
    Dtype type;            /* of x and y */
    int64_t rows, in, out; /* x (rows,in), y (rows,out), w (out,in) */
} LinearState;

static void linear_release(void *state)
{
    LinearState *s = state;
    if (!s) return;
    blas_product_free(s->product);
    free(s);
}

static Status state_create(const Cuda *cuda, const Tensor *x, const Tensor *y, LinearState **out)
{
    Status status = STATUS_OK;
    LinearState *s = mem_alloc_array(1, sizeof *s);
    if (!s) FAIL(ERR_MEMORY, "no memory for a linear layer");
    s->cuda = cuda;
    s->type = x->dtype;
    s->rows = shape_rows(&x->shape);
    s->in = shape_last(&x->shape);
    s->out = shape_last(&y->shape);
    *out = s;
fail:
    return status;
}

/* ---- weight (input k of the op) and bias in the type of the product ---- */

typedef struct LinearPacked {
    uint16_t *weight, *bias; /* bf16 */
} LinearPacked;

static LinearPacked carve_packed(const LinearState *s, bool bias, CudaCarver *carver)
{
    LinearPacked packed = {0};
    if (s->type != DTYPE_BF16) return packed;
    packed.weight = cuda_carve(carver, (size_t)(s->in * s->out) * sizeof(uint16_t));
    if (bias) packed.bias = cuda_carve(carver, (size_t)s->out * sizeof(uint16_t));
    return packed;
}

static bool is_param(const Graph *graph, TensorId id)
{
    return id == TENSOR_NONE || graph_tensor(graph, graph_root(graph, id))->kind == TENSOR_PARAM;
}

static void prepare_packed(const LinearState *s, const Graph *graph, TensorId weight, TensorId bias, Prepared *out)
{
    CudaCarver carver = {0};
    carve_packed(s, bias != TENSOR_NONE, &carver);
    out->packed_bytes = carver.used;
    out->packs_halves = carver.used > 0 && is_param(graph, weight) && is_param(graph, bias);
}

static const void *operand(const LinearState *s, const KernelCall *call, int k, const uint16_t *packed)
{
    if (s->type != DTYPE_BF16) return call->in[k];
    return call->half[k] ? call->half[k] : packed;
}

static Status pack(const LinearState *s, const KernelCall *call, int k, uint16_t *packed, int64_t count)
{
    Status status = STATUS_OK;
    if (!packed || call->half[k]) return STATUS_OK;
    TRY_CUDA(convert_launch(call->in[k], DTYPE_F32, packed, DTYPE_BF16, count, false, s->cuda->stream));
fail:
    return status;
}

/* ---- forward: x, w, [b], [residual] -> y = act(x w^T + b) + residual ---- */

static Status linear_prepare(Backend *backend, const Graph *graph, const Op *op, Prepared *out)
{
    Status status = STATUS_OK;
    LinearState *s = NULL;
    TRY(state_create(cuda_of(backend), cuda_operand(graph, op->in[0]), cuda_operand(graph, op->out[0]), &s));
    const BlasSpec spec = {.m = s->rows,
                           .n = s->out,
                           .k = s->in,
                           .ab = s->type,
                           .cd = s->type,
                           .transpose_b = true,
                           .lda = s->in,
                           .ldb = s->in,
                           .ldd = s->out,
                           .batch = 1,
                           .bias = op->in[2] != TENSOR_NONE,
                           .add = op->in[3] != TENSOR_NONE && op->attr.linear.act == ACT_NONE};
    TRY(blas_product_create(s->cuda->blas, &spec, &s->product));
    out->state = s;
    out->workspace_bytes = blas_product_workspace(s->product);
    out->detail = blas_product_name(s->product);
    prepare_packed(s, graph, op->in[1], op->in[2], out);
    return STATUS_OK;
fail:
    linear_release(s);
    return status;
}

static Status linear_pack(const KernelCall *call)
{
    Status status = STATUS_OK;
    const LinearState *s = call->state;
    CudaCarver carver = {.base = call->packed};
    const LinearPacked packed = carve_packed(s, call->in[2] != NULL, &carver);
    TRY(pack(s, call, 1, packed.weight, s->in * s->out));
    TRY(pack(s, call, 2, packed.bias, s->out));
fail:
    return status;
}

static Status linear_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    const LinearState *s = call->state;
    const cudaStream_t stream = s->cuda->stream;
    const Activation act = call->op->attr.linear.act;
    const void *residual = call->in[3];
    const int64_t count = s->rows * s->out;
    CudaCarver carver = {.base = call->packed};
    const LinearPacked packed = carve_packed(s, call->in[2] != NULL, &carver);
    const bool add = residual && act == ACT_NONE;
    TRY(blas_product_run(s->product, &(BlasArgs){.a = call->in[0],
                                                 .b = operand(s, call, 1, packed.weight),
                                                 .c = add ? residual : NULL,
                                                 .bias = call->in[2] ? operand(s, call, 2, packed.bias) : NULL,
                                                 .d = call->out[0],
                                                 .alpha = 1,
                                                 .beta = add ? 1 : 0,
                                                 .workspace = call->workspace}));
    if (act != ACT_NONE) { /* cuBLASLt's own GELU is the tanh form only */
        TRY_CUDA(activation_launch(call->out[0], call->out[0], s->type, count, act, false, stream));
        if (residual) TRY_CUDA(add_launch(call->out[0], residual, call->out[0], s->type, count, false, stream));
    }
fail:
    return status;
}

/* ---- gradient of the input: w, dy -> dx = dy w ---- */

static Status linear_grad_x_prepare(Backend *backend, const Graph *graph, const Op *op, Prepared *out)
{
    Status status = STATUS_OK;
    LinearState *s = NULL;
    TRY(state_create(cuda_of(backend), cuda_operand(graph, op->out[0]), cuda_operand(graph, op->in[1]), &s));
    const BlasSpec spec = {.m = s->rows,
                           .n = s->in,
                           .k = s->out,
                           .ab = s->type,
                           .cd = s->type,
                           .lda = s->out,
                           .ldb = s->in,
                           .ldd = s->in,
                           .batch = 1,
                           .add = true};
    TRY(blas_product_create(s->cuda->blas, &spec, &s->product));
    out->state = s;
    out->workspace_bytes = blas_product_workspace(s->product);
    out->detail = blas_product_name(s->product);
    prepare_packed(s, graph, op->in[0], TENSOR_NONE, out);
    return STATUS_OK;
fail:
    linear_release(s);
    return status;
}

static Status linear_grad_x_pack(const KernelCall *call)
{
    const LinearState *s = call->state;
    CudaCarver carver = {.base = call->packed};
    return pack(s, call, 0, carve_packed(s, false, &carver).weight, s->in * s->out);
}

static Status linear_grad_x_run(const KernelCall *call)
{
    const LinearState *s = call->state;
    CudaCarver carver = {.base = call->packed};
    const LinearPacked packed = carve_packed(s, false, &carver);
    return blas_product_run(s->product, &(BlasArgs){.a = call->in[1],
                                                    .b = operand(s, call, 0, packed.weight),
                                                    .c = call->out[0],
                                                    .d = call->out[0],
                                                    .alpha = 1,
                                                    .beta = cuda_adds(call, 0) ? 1 : 0,
                                                    .workspace = call->workspace});
}

/* ---- gradient of the weights: x, dy -> dw = dy^T x, [db = column sums of dy], both fp32 ---- */

typedef struct GradWorkspace {
    void *product;
    float *partial; /* for column_sums_launch */
} GradWorkspace;

static GradWorkspace carve_grad(const LinearState *s, CudaCarver *carver)
{
    GradWorkspace w = {0};
    w.product = cuda_carve(carver, s->product ? blas_product_workspace(s->product) : 0);
    w.partial = cuda_carve(carver, (size_t)column_sums_partial(s->rows, s->out, s->cuda->processors) * sizeof(float));
    return w;
}

static Status linear_grad_w_prepare(Backend *backend, const Graph *graph, const Op *op, Prepared *out)
{
    Status status = STATUS_OK;
    LinearState *s = NULL;
    TRY(state_create(cuda_of(backend), cuda_operand(graph, op->in[0]), cuda_operand(graph, op->in[1]), &s));
    const BlasSpec spec = {.m = s->out,
                           .n = s->in,
                           .k = s->rows,
                           .ab = s->type,
                           .cd = DTYPE_F32,
                           .transpose_a = true,
                           .lda = s->out,
                           .ldb = s->in,
                           .ldd = s->in,
                           .batch = 1,
                           .add = true}; /* decided in each run: micro-batches after the first add */
    if (op->out[0] != TENSOR_NONE) TRY(blas_product_create(s->cuda->blas, &spec, &s->product));
    CudaCarver carver = {0};
    carve_grad(s, &carver);
    out->state = s;
    out->workspace_bytes = carver.used;
    out->detail = s->product ? blas_product_name(s->product) : NULL;
    return STATUS_OK;
fail:
    linear_release(s);
    return status;
}

static Status linear_grad_w_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    const LinearState *s = call->state;
    CudaCarver carver = {.base = call->workspace};
    const GradWorkspace w = carve_grad(s, &carver);
    if (s->product && call->out[0])
        TRY(blas_product_run(s->product, &(BlasArgs){.a = call->in[1],
                                                     .b = call->in[0],
                                                     .c = call->out[0],
                                                     .d = call->out[0],
                                                     .alpha = 1,
                                                     .beta = cuda_adds(call, 0) ? 1 : 0,
                                                     .workspace = w.product}));
    if (call->out[1])
        TRY_CUDA(column_sums_launch(call->in[1], s->type, s->rows, s->out, call->out[1], cuda_adds(call, 1), w.partial,
                                    s->cuda->processors, s->cuda->stream));
fail:
    return status;
}

const Kernel cuda_kernel_LINEAR = {
    .prepare = linear_prepare, .pack = linear_pack, .run = linear_run, .release = linear_release};
const Kernel cuda_kernel_LINEAR_GRAD_X = {
    .prepare = linear_grad_x_prepare, .pack = linear_grad_x_pack, .run = linear_grad_x_run, .release = linear_release};
const Kernel cuda_kernel_LINEAR_GRAD_W = {
    .prepare = linear_grad_w_prepare, .run = linear_grad_w_run, .release = linear_release};
