#include <string.h>

#include "engine/cpu/cpu.h"

typedef struct Lookup {
    const KernelCall *call;
    const Cpu *cpu;
} Lookup;

/* y[n,t,:] = table[ids[n,t],:] + positions[t,:], rows (n,t) one after the other. */
static Status embedding_share(void *context, int64_t begin, int64_t end, int32_t thread)
{
    const Lookup *l = context;
    const KernelCall *call = l->call;
    const Dtype type = cpu_out(call, 0)->dtype;
    const int64_t tokens = cpu_in(call, 0)->shape.dim[1];
    const int64_t rows = cpu_in(call, 1)->shape.dim[0], d = cpu_in(call, 1)->shape.dim[1];
    const int32_t *ids = call->in[0];
    const float *table = call->in[1], *positions = call->in[2];
    for (int64_t i = begin; i < end; i++) {
        const int64_t id = ids[i] < 0 || ids[i] >= rows ? 0 : ids[i];
        CopyRows copy = {.x = table + id * d,
                         .y = cpu_at(call->out[0], type, i * d),
                         .x_type = DTYPE_F32,
                         .y_type = type,
                         .rows = 1,
                         .width = d,
                         .scale = 1.0f};
        if (!positions) {
            l->cpu->vector->copy_rows(&copy);
        } else if (type == DTYPE_F32) {
            l->cpu->vector->add(table + id * d, positions + i % tokens * d, copy.y, DTYPE_F32, d, false);
        } else {
            /* Added in fp32 and rounded once: the sum goes through a piece of the stack. */
            float sum[256];
            for (int64_t e = 0; e < d; e += 256) {
                const int64_t width = d - e < 256 ? d - e : 256;
                l->cpu->vector->add(table + id * d + e, positions + i % tokens * d + e, sum, DTYPE_F32, width, false);
                copy.x = sum;
                copy.y = cpu_at(call->out[0], type, i * d + e);
                copy.width = width;
                l->cpu->vector->copy_rows(&copy);
            }
        }
    }
    return STATUS_OK;
}

static Status embedding_run(const KernelCall *call)
{
    Lookup l = {call, cpu_of_call(call)};
    const int64_t rows = shape_count(&cpu_in(call, 0)->shape);
    return cpu_parallel(l.cpu, rows, CPU_GRAIN / cpu_in(call, 1)->shape.dim[1] + 2, embedding_share, &l);
}

/* Sums in fp32, in a row of the workspace a thread. */
static Status masked_mean_share(void *context, int64_t begin, int64_t end, int32_t thread)
{
    const Lookup *l = context;
    const KernelCall *call = l->call;
    const Tensor *x = cpu_in(call, 0);
    const int64_t tokens = x->shape.dim[1], d = x->shape.dim[2];
    const int32_t *mask = call->in[1];
    float *sum = (float *)call->workspace + thread * d;
    for (int64_t n = begin; n < end; n++) {
        int64_t count = 0;
        for (int64_t e = 0; e < d; e++) sum[e] = 0;
        for (int64_t t = 0; t < tokens; t++) {
            if (mask[n * tokens + t] == 0) continue;
            count++;
            l->cpu->vector->copy_rows(&(CopyRows){.x = cpu_at(call->in[0], x->dtype, (n * tokens + t) * d),
                                                  .y = sum,
                                                  .x_type = x->dtype,
                                                  .y_type = DTYPE_F32,
                                                  .rows = 1,
                                                  .width = d,
                                                  .scale = 1.0f,
                                                  .add = true});
        }
        l->cpu->vector->copy_rows(&(CopyRows){.x = sum,
                                              .y = cpu_at(call->out[0], x->dtype, n * d),
                                              .x_type = DTYPE_F32,
                                              .y_type = x->dtype,
                                              .rows = 1,
                                              .width = d,
                                              .scale = count > 0 ? 1.0f / (float)count : 0.0f});
    }
    return STATUS_OK;
}

static Status masked_mean_prepare(Backend *backend, const Graph *graph, const Op *op, Prepared *out)
{
    const Cpu *cpu = cpu_of(backend);
    out->workspace_bytes = (size_t)cpu->threads * (size_t)shape_last(&graph_tensor(graph, op->in[0])->shape) * 4;
    return cpu_prepare_plain(backend, graph, op, out);
}

static Status masked_mean_run(const KernelCall *call)
{
    Lookup l = {call, cpu_of_call(call)};
    return cpu_parallel(l.cpu, cpu_in(call, 0)->shape.dim[0], 2, masked_mean_share, &l);
}

/* A head's rows are windows of one line: its bias at the distances 1 - rows ... rows - 1. */
static Status relative_bias_share(void *context, int64_t begin, int64_t end, int32_t thread)
{
    const Lookup *l = context;
    const KernelCall *call = l->call;
    const int64_t buckets = cpu_in(call, 0)->shape.dim[0], heads = cpu_in(call, 0)->shape.dim[1];
    const int64_t rows = cpu_out(call, 0)->shape.dim[1];
    const float *table = call->in[0];
    float *line = (float *)call->workspace + thread * 2 * rows, *y = call->out[0];
    for (int64_t h = begin; h < end; h++) {
        for (int64_t i = 0; i < 2 * rows - 1; i++) {
            line[i] = table[op_relative_bucket(i + 1 - rows, buckets, call->op->attr.text.max_distance) * heads + h];
        }
        for (int64_t i = 0; i < rows; i++) {
            memcpy(y + (h * rows + i) * rows, line + rows - 1 - i, (size_t)rows * sizeof *y);
        }
    }
    return STATUS_OK;
}

static Status relative_bias_prepare(Backend *backend, const Graph *graph, const Op *op, Prepared *out)
{
    const int64_t rows = graph_tensor(graph, op->out[0])->shape.dim[1];
    out->workspace_bytes = (size_t)cpu_of(backend)->threads * (size_t)(2 * rows) * sizeof(float);
    return cpu_prepare_plain(backend, graph, op, out);
}

static Status relative_bias_run(const KernelCall *call)
{
    Lookup l = {call, cpu_of_call(call)};
    const Shape *shape = &cpu_out(call, 0)->shape;
    return cpu_parallel(l.cpu, shape->dim[0], CPU_GRAIN / (shape->dim[1] * shape->dim[1]) + 2, relative_bias_share, &l);
}

const Kernel cpu_kernel_EMBEDDING = {.prepare = cpu_prepare_plain, .run = embedding_run};
const Kernel cpu_kernel_MASKED_MEAN = {.prepare = masked_mean_prepare, .run = masked_mean_run};
const Kernel cpu_kernel_RELATIVE_BIAS = {.prepare = relative_bias_prepare, .run = relative_bias_run};
