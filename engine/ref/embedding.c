#include "engine/ref/ref.h"

/* y[n,t,:] = table[ids[n,t],:] + positions[t,:] */
static Status embedding_run(const KernelCall *call)
{
    const RefTensor ids = ref_in(call, 0), table = ref_in(call, 1), positions = ref_in_optional(call, 2);
    const RefTensor y = ref_out(call, 0);
    const int64_t n = ids.shape.dim[0], tokens = ids.shape.dim[1], rows = table.shape.dim[0], d = table.shape.dim[1];
    for (int64_t i = 0; i < n; i++) {
        for (int64_t t = 0; t < tokens; t++) {
            int64_t id = ref_get_int(&ids, i * tokens + t);
            if (id < 0 || id >= rows) id = 0;
            for (int64_t e = 0; e < d; e++) {
                const double value = ref_get(&table, id * d + e) + ref_get(&positions, t * d + e);
                ref_put(&y, (i * tokens + t) * d + e, value);
            }
        }
    }
    return STATUS_OK;
}

static Status masked_mean_run(const KernelCall *call)
{
    const RefTensor x = ref_in(call, 0), mask = ref_in(call, 1), y = ref_out(call, 0);
    const int64_t n = x.shape.dim[0], tokens = x.shape.dim[1], d = x.shape.dim[2];
    for (int64_t i = 0; i < n; i++) {
        for (int64_t e = 0; e < d; e++) {
            double sum = 0, count = 0;
            for (int64_t t = 0; t < tokens; t++) {
                if (ref_get_int(&mask, i * tokens + t) == 0) continue;
                sum += ref_get(&x, (i * tokens + t) * d + e);
                count++;
            }
            ref_put(&y, i * d + e, count > 0 ? sum / count : 0);
        }
    }
    return STATUS_OK;
}

static Status position_ids_run(const KernelCall *call)
{
    const Shape *shape = &graph_tensor(call->graph, call->op->in[0])->shape;
    const int32_t *ids = call->in[0], padding = call->op->attr.text.padding_id;
    int32_t *positions = call->out[0];
    const int64_t tokens = shape->dim[1];
    for (int64_t n = 0; n < shape->dim[0]; n++) {
        int32_t count = 0;
        for (int64_t t = n * tokens; t < (n + 1) * tokens; t++) {
            positions[t] = padding + (ids[t] == padding ? 0 : ++count);
        }
    }
    return STATUS_OK;
}

static Status relative_bias_run(const KernelCall *call)
{
    const RefTensor table = ref_in(call, 0), y = ref_out(call, 0);
    const int64_t buckets = table.shape.dim[0], heads = y.shape.dim[0], rows = y.shape.dim[1];
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < rows; j++) {
            const int64_t bucket = op_relative_bucket(j - i, buckets, call->op->attr.text.max_distance);
            for (int64_t h = 0; h < heads; h++) {
                ref_put(&y, (h * rows + i) * rows + j, ref_get(&table, bucket * heads + h));
            }
        }
    }
    return STATUS_OK;
}

const Kernel ref_kernel_EMBEDDING = {.run = embedding_run};
const Kernel ref_kernel_MASKED_MEAN = {.run = masked_mean_run};
const Kernel ref_kernel_POSITION_IDS = {.run = position_ids_run};
const Kernel ref_kernel_RELATIVE_BIAS = {.run = relative_bias_run};
