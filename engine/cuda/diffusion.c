#include <math.h>

#include "engine/cuda/cuda.h"
#include "engine/cuda/diffusion_kernels.h"

static Status timestep_embedding_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    const Shape *y = &cuda_out(call, 0)->shape;
    TRY_CUDA(timestep_embedding_launch(call->in[0], call->out[0], y->dim[0], y->dim[1] / 2,
                                       log((double)call->op->attr.diffusion.max_period), cuda_of_call(call)->stream));
fail:
    return status;
}

static Status noise_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    const DiffusionAttr *attr = &call->op->attr.diffusion;
    const int64_t n = cuda_in(call, 0)->shape.dim[0], elements = shape_count(&cuda_out(call, 0)->shape) / n;
    TRY_CUDA(
        noise_launch(call->in[0], call->out[0], n, elements, attr->seed, attr->purpose, cuda_of_call(call)->stream));
fail:
    return status;
}

static Status posterior_sample_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    const Shape *y = &cuda_out(call, 0)->shape;
    TRY_CUDA(posterior_sample_launch(call->in[0], call->in[1], call->out[0], shape_rows(y), shape_last(y),
                                     call->op->attr.diffusion.latent_scale, cuda_of_call(call)->stream));
fail:
    return status;
}

static Status q_sample_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    const Shape *x0 = &cuda_in(call, 0)->shape;
    const QSampleLaunch launch = {.x0 = call->in[0],
                                  .noise = call->in[1],
                                  .t = call->in[2],
                                  .table = call->in[3],
                                  .y = call->out[0],
                                  .n = x0->dim[0],
                                  .elements = shape_count(x0) / x0->dim[0],
                                  .steps = cuda_in(call, 3)->shape.dim[0]};
    TRY_CUDA(q_sample_launch(&launch, cuda_of_call(call)->stream));
fail:
    return status;
}

static Status inpaint_input_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    const Shape *x_t = &cuda_in(call, 0)->shape;
    TRY_CUDA(inpaint_input_launch(call->in[0], call->in[1], call->in[2], call->out[0], shape_rows(x_t), shape_last(x_t),
                                  cuda_of_call(call)->stream));
fail:
    return status;
}

static LossLaunch loss_of(const KernelCall *call)
{
    const Shape *x0 = &cuda_in(call, 1)->shape;
    return (LossLaunch){.out = call->in[0],
                        .x0 = call->in[1],
                        .x_t = call->in[2],
                        .noise = call->in[3],
                        .t = call->in[4],
                        .table = call->in[5],
                        .n = x0->dim[0],
                        .elements = shape_count(x0) / x0->dim[0],
                        .c = shape_last(x0),
                        .steps = cuda_in(call, 5)->shape.dim[0]};
}

static Status diffusion_loss_prepare(Backend *backend, const Graph *graph, const Op *op, Prepared *out)
{
    const Shape *x0 = &graph_tensor(graph, op->in[1])->shape;
    out->workspace_bytes = loss_workspace(x0->dim[0], shape_count(x0) / x0->dim[0]);
    return cuda_prepare_plain(backend, graph, op, out);
}

static Status diffusion_loss_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    const LossLaunch launch = loss_of(call);
    TRY_CUDA(loss_launch(&launch, call->op->attr.diffusion.vb_weight, call->out[0], call->workspace,
                         cuda_of_call(call)->stream));
fail:
    return status;
}

static Status diffusion_loss_grad_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    const LossLaunch launch = loss_of(call);
    const DiffusionAttr *attr = &call->op->attr.diffusion;
    TRY_CUDA(loss_grad_launch(&launch, attr->loss_scale, attr->vb_weight, call->out[0], cuda_adds(call, 0),
                              cuda_of_call(call)->stream));
fail:
    return status;
}

const Kernel cuda_kernel_TIMESTEP_EMBEDDING = {.prepare = cuda_prepare_plain, .run = timestep_embedding_run};
const Kernel cuda_kernel_NOISE = {.prepare = cuda_prepare_plain, .run = noise_run};
const Kernel cuda_kernel_POSTERIOR_SAMPLE = {.prepare = cuda_prepare_plain, .run = posterior_sample_run};
const Kernel cuda_kernel_Q_SAMPLE = {.prepare = cuda_prepare_plain, .run = q_sample_run};
const Kernel cuda_kernel_INPAINT_INPUT = {.prepare = cuda_prepare_plain, .run = inpaint_input_run};
const Kernel cuda_kernel_DIFFUSION_LOSS = {.prepare = diffusion_loss_prepare, .run = diffusion_loss_run};
const Kernel cuda_kernel_DIFFUSION_LOSS_GRAD = {.prepare = cuda_prepare_plain, .run = diffusion_loss_grad_run};
