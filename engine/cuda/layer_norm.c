#include "engine/cuda/cuda.h"
#include "engine/cuda/layer_norm_kernels.h"

static RowNorm rows_of(const KernelCall *call)
{
    const Tensor *x = cuda_in(call, 0);
    return (RowNorm){.type = x->dtype,
                     .rows = shape_rows(&x->shape),
                     .c = shape_last(&x->shape),
                     .eps = call->op->attr.norm.eps,
                     .x = call->in[0],
                     .gamma = call->in[1],
                     .y = call->out[0]};
}

static Status layer_norm_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    RowNorm k = rows_of(call);
    k.beta = call->in[2];
    k.stats = call->out[1];
    TRY_CUDA(cuda_layer_norm(&k, cuda_of_call(call)->stream));
fail:
    return status;
}

static Status rms_norm_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    const RowNorm k = rows_of(call);
    TRY_CUDA(cuda_rms_norm(&k, cuda_of_call(call)->stream));
fail:
    return status;
}

static Status layer_norm_grad_prepare(Backend *backend, const Graph *graph, const Op *op, Prepared *out)
{
    Status status = STATUS_OK;
    TRY(cuda_prepare_plain(backend, graph, op, out));
    const Shape *x = &graph_tensor(graph, op->in[0])->shape;
    out->workspace_bytes = (size_t)(layer_norm_chunks(shape_rows(x)) * 2 * shape_last(x)) * sizeof(float);
fail:
    return status;
}

static Status layer_norm_grad_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    const Tensor *x = cuda_in(call, 0);
    const LayerNormGrad k = {.type = x->dtype,
                             .rows = shape_rows(&x->shape),
                             .c = shape_last(&x->shape),
                             .x = call->in[0],
                             .dy = call->in[1],
                             .gamma = call->in[2],
                             .stats = call->in[3],
                             .dx = call->out[0],
                             .dgamma = call->out[1],
                             .dbeta = call->out[2],
                             .add_x = cuda_adds(call, 0),
                             .add_gamma = cuda_adds(call, 1),
                             .add_beta = cuda_adds(call, 2),
                             .terms = call->workspace};
    TRY_CUDA(cuda_layer_norm_grad(&k, cuda_of_call(call)->stream));
fail:
    return status;
}

const Kernel cuda_kernel_LAYER_NORM = {.prepare = cuda_prepare_plain, .run = layer_norm_run};
const Kernel cuda_kernel_LAYER_NORM_GRAD = {.prepare = layer_norm_grad_prepare, .run = layer_norm_grad_run};
const Kernel cuda_kernel_RMS_NORM = {.prepare = cuda_prepare_plain, .run = rms_norm_run};
