#include "engine/cpu/cpu.h"

typedef struct Pass {
    const KernelCall *call;
    const Cpu *cpu;
    Dtype type;
    bool add;
} Pass;

static Status run(const KernelCall *call, Status (*body)(void *context, int64_t begin, int64_t end, int32_t thread))
{
    Pass pass = {call, cpu_of_call(call), cpu_in(call, 0)->dtype, cpu_adds(call, 0)};
    return cpu_parallel(pass.cpu, shape_count(&cpu_in(call, 0)->shape), CPU_GRAIN, body, &pass);
}

static void *at(const Pass *p, const void *data, int64_t i)
{
    return cpu_at(data, p->type, i);
}

static Status activation_share(void *context, int64_t begin, int64_t end, int32_t thread)
{
    const Pass *p = context;
    p->cpu->vector->activate(at(p, p->call->in[0], begin), at(p, p->call->out[0], begin), p->type, end - begin,
                             p->call->op->attr.elementwise.act);
    return STATUS_OK;
}

static Status activation_run(const KernelCall *call)
{
    return run(call, activation_share);
}

static Status activation_grad_share(void *context, int64_t begin, int64_t end, int32_t thread)
{
    const Pass *p = context;
    p->cpu->vector->activate_grad(at(p, p->call->in[0], begin), at(p, p->call->in[1], begin),
                                  at(p, p->call->out[0], begin), p->type, end - begin,
                                  p->call->op->attr.elementwise.act, p->add);
    return STATUS_OK;
}

static Status activation_grad_run(const KernelCall *call)
{
    return run(call, activation_grad_share);
}

static Status add_run(const KernelCall *call)
{
    const Tensor *a = cpu_in(call, 0);
    cpu_add(cpu_of_call(call), call->in[0], call->in[1], call->out[0], a->dtype, shape_count(&a->shape),
            cpu_adds(call, 0));
    return STATUS_OK;
}

static Status multiply_share(void *context, int64_t begin, int64_t end, int32_t thread)
{
    const Pass *p = context;
    p->cpu->vector->multiply(at(p, p->call->in[0], begin), at(p, p->call->in[1], begin), at(p, p->call->out[0], begin),
                             p->type, end - begin, p->add);
    return STATUS_OK;
}

static Status multiply_run(const KernelCall *call)
{
    return run(call, multiply_share);
}

static Status round_share(void *context, int64_t begin, int64_t end, int32_t thread)
{
    const Pass *p = context;
    p->cpu->vector->round_to(at(p, p->call->in[0], begin), at(p, p->call->out[0], begin), end - begin,
                             p->call->op->attr.elementwise.round);
    return STATUS_OK;
}

static Status round_run(const KernelCall *call)
{
    return run(call, round_share);
}

static Status affine_share(void *context, int64_t begin, int64_t end, int32_t thread)
{
    const Pass *p = context;
    const ElementwiseAttr *attr = &p->call->op->attr.elementwise;
    const float shift = p->call->op->kind == OP_AFFINE ? attr->shift : 0;
    p->cpu->vector->affine(at(p, p->call->in[0], begin), at(p, p->call->out[0], begin), p->type, end - begin,
                           attr->scale, shift, p->add);
    return STATUS_OK;
}

static Status affine_run(const KernelCall *call)
{
    return run(call, affine_share);
}

static Status cast_run(const KernelCall *call)
{
    const Tensor *x = cpu_in(call, 0), *y = cpu_out(call, 0);
    cpu_copy(cpu_of_call(call), call->in[0], x->dtype, call->out[0], y->dtype, shape_count(&x->shape),
             cpu_adds(call, 0));
    return STATUS_OK;
}

const Kernel cpu_kernel_ACTIVATION = {.prepare = cpu_prepare_plain, .run = activation_run};
const Kernel cpu_kernel_ACTIVATION_GRAD = {.prepare = cpu_prepare_plain, .run = activation_grad_run};
const Kernel cpu_kernel_ADD = {.prepare = cpu_prepare_plain, .run = add_run};
const Kernel cpu_kernel_MULTIPLY = {.prepare = cpu_prepare_plain, .run = multiply_run};
const Kernel cpu_kernel_AFFINE = {.prepare = cpu_prepare_plain, .run = affine_run};
const Kernel cpu_kernel_AFFINE_GRAD = {.prepare = cpu_prepare_plain, .run = affine_run};
const Kernel cpu_kernel_CAST = {.prepare = cpu_prepare_plain, .run = cast_run};
const Kernel cpu_kernel_ROUND = {.prepare = cpu_prepare_plain, .run = round_run};
