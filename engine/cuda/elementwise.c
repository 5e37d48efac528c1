#include "engine/cuda/convert_kernels.h"
#include "engine/cuda/cuda.h"
#include "engine/cuda/elementwise_kernels.h"

static int64_t count_of(const KernelCall *call)
{
    return shape_count(&cuda_in(call, 0)->shape);
}

static Status activation_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    TRY_CUDA(activation_launch(call->in[0], call->out[0], cuda_in(call, 0)->dtype, count_of(call),
                               call->op->attr.elementwise.act, cuda_adds(call, 0), cuda_of_call(call)->stream));
fail:
    return status;
}

static Status activation_grad_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    TRY_CUDA(activation_grad_launch(call->in[0], call->in[1], call->out[0], cuda_in(call, 0)->dtype, count_of(call),
                                    call->op->attr.elementwise.act, cuda_adds(call, 0), cuda_of_call(call)->stream));
fail:
    return status;
}

static Status add_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    TRY_CUDA(add_launch(call->in[0], call->in[1], call->out[0], cuda_in(call, 0)->dtype, count_of(call),
                        cuda_adds(call, 0), cuda_of_call(call)->stream));
fail:
    return status;
}

static Status multiply_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    TRY_CUDA(multiply_launch(call->in[0], call->in[1], call->out[0], cuda_in(call, 0)->dtype, count_of(call),
                             cuda_adds(call, 0), cuda_of_call(call)->stream));
fail:
    return status;
}

/* AFFINE, and its gradient: the same without the shift. */
static Status affine_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    const ElementwiseAttr *attr = &call->op->attr.elementwise;
    const float shift = call->op->kind == OP_AFFINE ? attr->shift : 0.0f;
    TRY_CUDA(affine_launch(call->in[0], call->out[0], cuda_in(call, 0)->dtype, count_of(call), attr->scale, shift,
                           cuda_adds(call, 0), cuda_of_call(call)->stream));
fail:
    return status;
}

static Status cast_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    TRY_CUDA(convert_launch(call->in[0], cuda_in(call, 0)->dtype, call->out[0], cuda_out(call, 0)->dtype,
                            count_of(call), cuda_adds(call, 0), cuda_of_call(call)->stream));
fail:
    return status;
}

static Status round_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    TRY_CUDA(round_launch(call->in[0], call->out[0], count_of(call), call->op->attr.elementwise.round,
                          cuda_adds(call, 0), cuda_of_call(call)->stream));
fail:
    return status;
}

const Kernel cuda_kernel_ACTIVATION = {.prepare = cuda_prepare_plain, .run = activation_run};
const Kernel cuda_kernel_ACTIVATION_GRAD = {.prepare = cuda_prepare_plain, .run = activation_grad_run};
const Kernel cuda_kernel_ADD = {.prepare = cuda_prepare_plain, .run = add_run};
const Kernel cuda_kernel_MULTIPLY = {.prepare = cuda_prepare_plain, .run = multiply_run};
const Kernel cuda_kernel_AFFINE = {.prepare = cuda_prepare_plain, .run = affine_run};
const Kernel cuda_kernel_AFFINE_GRAD = {.prepare = cuda_prepare_plain, .run = affine_run};
const Kernel cuda_kernel_CAST = {.prepare = cuda_prepare_plain, .run = cast_run};
const Kernel cuda_kernel_ROUND = {.prepare = cuda_prepare_plain, .run = round_run};
