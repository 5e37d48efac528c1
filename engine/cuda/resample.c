#include "engine/cuda/cuda.h"
#include "engine/cuda/resample_kernels.h"

static ResampleLaunch launch_of(const KernelCall *call, const Shape *smaller, float factor)
{
    return (ResampleLaunch){.x = call->in[0],
                            .y = call->out[0],
                            .type = cuda_in(call, 0)->dtype,
                            .rows = smaller->dim[0] * smaller->dim[1],
                            .w = smaller->dim[2],
                            .c = smaller->dim[3],
                            .factor = factor,
                            .add = cuda_adds(call, 0)};
}

/* Forward upwards, or back from a halving. */
static Status spread(const KernelCall *call, float factor)
{
    Status status = STATUS_OK;
    const ResampleLaunch launch = launch_of(call, &cuda_in(call, 0)->shape, factor);
    TRY_CUDA(spread_launch(&launch, cuda_of_call(call)->stream));
fail:
    return status;
}

static Status gather(const KernelCall *call, float factor)
{
    Status status = STATUS_OK;
    const ResampleLaunch launch = launch_of(call, &cuda_out(call, 0)->shape, factor);
    TRY_CUDA(gather_launch(&launch, cuda_of_call(call)->stream));
fail:
    return status;
}

static Status resample_run(const KernelCall *call)
{
    return call->op->attr.resample.mode == RESAMPLE_UP2_NEAREST ? spread(call, 1.0f) : gather(call, 0.25f);
}

static Status resample_grad_run(const KernelCall *call)
{
    return call->op->attr.resample.mode == RESAMPLE_UP2_NEAREST ? gather(call, 1.0f) : spread(call, 0.25f);
}

const Kernel cuda_kernel_RESAMPLE = {.prepare = cuda_prepare_plain, .run = resample_run};
const Kernel cuda_kernel_RESAMPLE_GRAD = {.prepare = cuda_prepare_plain, .run = resample_grad_run};
