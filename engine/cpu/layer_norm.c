#include <string.h>

#include "engine/cpu/cpu.h"

typedef struct LayerCall {
    const KernelCall *call;
    const Cpu *cpu;
    Dtype type;
    int64_t rows, c;
    float *partial; /* backward: a thread's (2, c) sums for dgamma and dbeta */
} LayerCall;

static LayerCall layer_call(const KernelCall *call)
{
    const Tensor *x = cpu_in(call, 0);
    return (LayerCall){call,           cpu_of_call(call), x->dtype, shape_rows(&x->shape), shape_last(&x->shape),
                       call->workspace};
}

/* Rows below which one thread does all. */
static int64_t row_grain(const LayerCall *k)
{
    return CPU_GRAIN / k->c + 2;
}

static Status forward_share(void *context, int64_t begin, int64_t end, int32_t thread)
{
    const LayerCall *k = context;
    const KernelCall *call = k->call;
    LayerNormRows rows = {.x = cpu_at(call->in[0], k->type, begin * k->c),
                          .type = k->type,
                          .rows = end - begin,
                          .channels = k->c,
                          .gamma = call->in[1],
                          .beta = call->in[2],
                          .eps = call->op->attr.norm.eps,
                          .stats = call->out[1] ? (float *)call->out[1] + 2 * begin : NULL};
    k->cpu->vector->layer_norm(&rows, cpu_at(call->out[0], k->type, begin * k->c));
    return STATUS_OK;
}

static Status layer_norm_run(const KernelCall *call)
{
    LayerCall k = layer_call(call);
    return cpu_parallel(k.cpu, k.rows, row_grain(&k), forward_share, &k);
}

static Status rms_norm_share(void *context, int64_t begin, int64_t end, int32_t thread)
{
    const LayerCall *k = context;
    const KernelCall *call = k->call;
    LayerNormRows rows = {.x = cpu_at(call->in[0], k->type, begin * k->c),
                          .type = k->type,
                          .rows = end - begin,
                          .channels = k->c,
                          .gamma = call->in[1],
                          .eps = call->op->attr.norm.eps};
    k->cpu->vector->rms_norm(&rows, cpu_at(call->out[0], k->type, begin * k->c));
    return STATUS_OK;
}

static Status rms_norm_run(const KernelCall *call)
{
    LayerCall k = layer_call(call);
    return cpu_parallel(k.cpu, k.rows, row_grain(&k), rms_norm_share, &k);
}

static Status backward_share(void *context, int64_t begin, int64_t end, int32_t thread)
{
    const LayerCall *k = context;
    const KernelCall *call = k->call;
    float *dgamma = k->partial + thread * 2 * k->c;
    memset(dgamma, 0, (size_t)(2 * k->c) * sizeof *dgamma);
    LayerNormRows rows = {.x = cpu_at(call->in[0], k->type, begin * k->c),
                          .type = k->type,
                          .rows = end - begin,
                          .channels = k->c,
                          .gamma = call->in[2],
                          .stats = (float *)call->in[3] + 2 * begin};
    void *dx = call->out[0] ? cpu_at(call->out[0], k->type, begin * k->c) : NULL;
    k->cpu->vector->layer_norm_grad(&rows, cpu_at(call->in[1], k->type, begin * k->c), dx, cpu_adds(call, 0), dgamma,
                                    dgamma + k->c);
    return STATUS_OK;
}

static Status layer_norm_grad_prepare(Backend *backend, const Graph *graph, const Op *op, Prepared *out)
{
    const int64_t c = shape_last(&cpu_operand(graph, op->in[0])->shape);
    out->workspace_bytes = (size_t)(cpu_of(backend)->threads * 2 * c) * sizeof(float);
    return cpu_prepare_plain(backend, graph, op, out);
}

static Status layer_norm_grad_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    LayerCall k = layer_call(call);
    memset(k.partial, 0, (size_t)(k.cpu->threads * 2 * k.c) * sizeof *k.partial);
    TRY(cpu_parallel(k.cpu, k.rows, row_grain(&k), backward_share, &k));
    /* The threads' sums, in thread order. */
    for (int i = 0; i < 2; i++) {
        float *grad = call->out[1 + i];
        for (int64_t c = 0; grad && c < k.c; c++) {
            float sum = 0;
            for (int32_t t = 0; t < k.cpu->threads; t++) sum += k.partial[(t * 2 + i) * k.c + c];
            grad[c] = cpu_adds(call, 1 + i) ? grad[c] + sum : sum;
        }
    }
fail:
    return status;
}

const Kernel cpu_kernel_LAYER_NORM = {.prepare = cpu_prepare_plain, .run = layer_norm_run};
const Kernel cpu_kernel_LAYER_NORM_GRAD = {.prepare = layer_norm_grad_prepare, .run = layer_norm_grad_run};
const Kernel cpu_kernel_RMS_NORM = {.prepare = cpu_prepare_plain, .run = rms_norm_run};
