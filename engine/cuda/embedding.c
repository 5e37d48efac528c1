#include <inttypes.h>

#include "engine/cuda/cuda.h"
#include "engine/cuda/embedding_kernels.h"

static Status embedding_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    const Shape *ids = &cuda_in(call, 0)->shape, *table = &cuda_in(call, 1)->shape;
    const EmbeddingLaunch launch = {.ids = call->in[0],
                                    .table = call->in[1],
                                    .positions = call->in[2],
                                    .y = call->out[0],
                                    .type = cuda_out(call, 0)->dtype,
                                    .n = ids->dim[0],
                                    .tokens = ids->dim[1],
                                    .rows = table->dim[0],
                                    .d = table->dim[1]};
    TRY_CUDA(embedding_launch(&launch, cuda_of_call(call)->stream));
fail:
    return status;
}

static Status masked_mean_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    const Tensor *x = cuda_in(call, 0);
    TRY_CUDA(masked_mean_launch(call->in[0], call->in[1], call->out[0], x->dtype, x->shape.dim[0], x->shape.dim[1],
                                x->shape.dim[2], cuda_of_call(call)->stream));
fail:
    return status;
}

static Status position_ids_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    const Shape *ids = &cuda_in(call, 0)->shape;
    TRY_CUDA(position_ids_launch(call->in[0], call->out[0], ids->dim[0], ids->dim[1], call->op->attr.text.padding_id,
                                 cuda_of_call(call)->stream));
fail:
    return status;
}

/* Each half of the buckets has half / 2 exact ones, and the rest begin somewhere among the distances. */
static int64_t most_starts(int64_t buckets)
{
    return buckets / 2 - buckets / 2 / 2 - 1;
}

static Status relative_bias_prepare(Backend *backend, const Graph *graph, const Op *op, Prepared *out)
{
    Status status = STATUS_OK;
    const int64_t buckets = graph_tensor(graph, op->in[0])->shape.dim[0];
    if (most_starts(buckets) > RELATIVE_STARTS) {
        FAIL(ERR_UNSUPPORTED, "relative_bias: %" PRId64 " buckets; on CUDA there may be %d", buckets,
             4 * RELATIVE_STARTS);
    }
    TRY(cuda_prepare_plain(backend, graph, op, out));
fail:
    return status;
}

/* A farther key is never in an earlier bucket, so each bucket has a distance at which it begins. */
static RelativeBuckets relative_buckets(int64_t buckets, int32_t max_distance, int64_t rows)
{
    RelativeBuckets b = {.half = (int32_t)(buckets / 2), .exact = (int32_t)(buckets / 2 / 2)};
    for (int64_t away = b.exact; away < rows && b.starts < most_starts(buckets); away++) {
        const int64_t begun = op_relative_bucket(-away, buckets, max_distance) - b.exact;
        while (b.starts < begun) b.start[b.starts++] = (int32_t)away;
    }
    return b;
}

static Status relative_bias_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    const Shape *table = &cuda_in(call, 0)->shape, *y = &cuda_out(call, 0)->shape;
    const RelativeBuckets b = relative_buckets(table->dim[0], call->op->attr.text.max_distance, y->dim[1]);
    TRY_CUDA(relative_bias_launch(&b, call->in[0], call->out[0], y->dim[0], y->dim[1], cuda_of_call(call)->stream));
fail:
    return status;
}

const Kernel cuda_kernel_EMBEDDING = {.prepare = cuda_prepare_plain, .run = embedding_run};
const Kernel cuda_kernel_MASKED_MEAN = {.prepare = cuda_prepare_plain, .run = masked_mean_run};
const Kernel cuda_kernel_POSITION_IDS = {.prepare = cuda_prepare_plain, .run = position_ids_run};
const Kernel cuda_kernel_RELATIVE_BIAS = {.prepare = relative_bias_prepare, .run = relative_bias_run};
