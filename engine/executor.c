#include "engine/executor.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "engine/memory.h"

struct Executor {
    const Plan *plan;
    ParamStore store;
    const float *weights; /* trainable weights in use: the store's, or those bound (EMA) */
    uint8_t *slab, *workspace, *packed;
    KernelCall *calls;        /* per op, pointers resolved */
    uint32_t *gradient_flags; /* per op: outputs that are parameter gradients */
    int32_t *bucket_order;    /* buckets by the op that completes them */
    int32_t *weight_order;    /* buckets by the first op that reads their weights */
    bool weights_changed;
};

static const float *own_weights(const Executor *executor)
{
    return executor->store.image ? executor->store.image->weights : executor->store.weights;
}

/* The address of a tensor, or NULL. */
static void *address_of(const Executor *executor, TensorId id)
{
    if (id == TENSOR_NONE) return NULL;
    const Graph *graph = executor->plan->graph;
    const Tensor *tensor = graph_tensor(graph, graph_root(graph, id));
    if (tensor->kind == TENSOR_PARAM || tensor->kind == TENSOR_PARAM_GRAD) {
        const Param *param = param_table_get(graph_params(graph), tensor->param);
        const ParamImage *image = executor->store.image;
        if (!param->trainable)
            return image ? image->frozen + param->offset : param_store_weight(&executor->store, tensor->param);
        if (tensor->kind == TENSOR_PARAM) return (float *)executor->weights + param->offset;
        return (image ? image->grads : executor->store.grads) + param->offset;
    }
    int64_t offset = executor->plan->offset[id];
    return offset < 0 ? NULL : executor->slab + offset;
}

/* The bf16 copy of a parameter, or NULL. */
static const uint16_t *half_of(const Executor *executor, TensorId id)
{
    const ParamImage *image = executor->store.image;
    if (id == TENSOR_NONE || !image || executor->plan->pack != PLAN_PACK_IMAGE) return NULL;
    const Tensor *tensor = graph_tensor(executor->plan->graph, graph_root(executor->plan->graph, id));
    if (tensor->kind != TENSOR_PARAM) return NULL;
    const Param *param = param_table_get(graph_params(executor->plan->graph), tensor->param);
    const uint16_t *half = param->trainable ? image->half_weights : image->half_frozen;
    return half ? half + param->offset : NULL;
}

/* Bound parameters that this backend's kernels cannot read where they are. */
static void align_params(const Executor *executor)
{
    const Graph *graph = executor->plan->graph;
    const size_t alignment = executor->plan->backend->param_alignment;
    for (TensorId t = 0; t < graph_tensor_count(graph); t++)
        if (graph_tensor(graph, t)->kind == TENSOR_PARAM)
            param_store_align(&executor->store, graph_tensor(graph, t)->param, alignment);
}

static void resolve_calls(Executor *executor)
{
    const Plan *plan = executor->plan;
    for (int32_t i = 0; i < graph_op_count(plan->graph); i++) {
        const Op *op = graph_op(plan->graph, i);
        KernelCall *call = &executor->calls[i];
        *call = (KernelCall){.graph = plan->graph, .op = op, .state = plan->prepared[i].state};
        if (!plan_packs_in_scratch(plan, i)) {
            call->packed = executor->packed + plan->packed_offset[i];
            call->workspace = executor->workspace;
        } else { /* packed weights first, what running wants behind them */
            call->packed = executor->workspace + plan->packed_offset[i];
            call->workspace = executor->workspace + plan_packed_bytes(plan, i);
        }
        executor->gradient_flags[i] = 0;
        for (int32_t k = 0; k < op->in_count; k++) {
            call->in[k] = address_of(executor, op->in[k]);
            call->half[k] = half_of(executor, op->in[k]);
        }
        for (int32_t k = 0; k < op->out_count; k++) {
            call->out[k] = address_of(executor, op->out[k]);
            if (op->out[k] != TENSOR_NONE && graph_tensor(plan->graph, op->out[k])->kind == TENSOR_PARAM_GRAD)
                executor->gradient_flags[i] |= 1u << k;
        }
    }
}

static Status upload_constants(Executor *executor)
{
    Status status = STATUS_OK;
    const Plan *plan = executor->plan;
    for (TensorId t = 0; t < graph_tensor_count(plan->graph); t++) {
        const Tensor *tensor = graph_tensor(plan->graph, t);
        if (tensor->kind != TENSOR_CONSTANT || tensor->view_of != TENSOR_NONE || plan->offset[t] < 0) continue;
        size_t bytes = (size_t)shape_count(&tensor->shape) * dtype_size(tensor->dtype);
        TRY(plan->backend->upload(plan->backend, executor->slab + plan->offset[t], tensor->constant, bytes));
    }
fail:
    return status;
}

/* Sorts bucket indices by readiness and by need; plans have few buckets, so insertion serves. */
static void order_buckets(Executor *executor)
{
    const Plan *plan = executor->plan;
    int32_t *ready = executor->bucket_order, *needed = executor->weight_order;
    for (int32_t b = 0; b < plan->bucket_count; b++) {
        int32_t k = b;
        for (; k > 0 && plan->buckets[ready[k - 1]].ready_after > plan->buckets[b].ready_after; k--)
            ready[k] = ready[k - 1];
        ready[k] = b;
        for (k = b; k > 0 && plan->buckets[needed[k - 1]].needed_by > plan->buckets[b].needed_by; k--)
            needed[k] = needed[k - 1];
        needed[k] = b;
    }
}

static Status allocate(Backend *backend, size_t bytes, const char *what, uint8_t **out)
{
    if (bytes == 0) return STATUS_OK;
    *out = backend->alloc(backend, bytes);
    if (*out != NULL) return STATUS_OK;
    return status_fail(ERR_MEMORY, __FILE__, __LINE__,
                       "no room for %.1f MB of %s; lower train.micro_batch or set train.recompute: true",
                       (double)bytes * 1e-6, what);
}

static Status check_memory(const Plan *plan)
{
    Status status = STATUS_OK;
    Backend *backend = plan->backend;
    int64_t free_bytes, total;
    if (backend->device == NULL) return memory_check(plan_bytes(plan));
    TRY(backend->device->memory(backend, &free_bytes, &total));
    if ((int64_t)plan_bytes(plan) > free_bytes)
        FAIL(ERR_MEMORY,
             "the plan wants %.2f GB on the device and %.2f of its %.2f GB are free; lower train.micro_batch, or set "
             "train.recompute: true to keep fewer activations",
             (double)plan_bytes(plan) * 1e-9, (double)free_bytes * 1e-9, (double)total * 1e-9);
fail:
    return status;
}

Status executor_create(const Plan *plan, const ParamStore *store, Executor **out)
{
    Status status = STATUS_OK;
    Executor *executor = mem_alloc_array(1, sizeof *executor);
    if (executor == NULL) return ERR_MEMORY;
    Backend *backend = plan->backend;
    size_t ops = (size_t)graph_op_count(plan->graph);
    executor->plan = plan;
    executor->store = *store;
    executor->weights = own_weights(executor);
    executor->weights_changed = true;
    executor->calls = mem_alloc_array(ops + 1, sizeof *executor->calls);
    executor->gradient_flags = mem_alloc_array(ops + 1, sizeof *executor->gradient_flags);
    executor->bucket_order = mem_alloc_array((size_t)plan->bucket_count + 1, sizeof *executor->bucket_order);
    executor->weight_order = mem_alloc_array((size_t)plan->bucket_count + 1, sizeof *executor->weight_order);
    if (executor->calls == NULL || executor->gradient_flags == NULL || executor->bucket_order == NULL ||
        executor->weight_order == NULL)
        FAIL(ERR_MEMORY, "out of memory for %zu ops", ops);
    if (plan->bucket_count > 0 && store->grads == NULL)
        FAIL(ERR_INTERNAL, "a graph with gradients needs a ParamStore with gradients");
    if (backend->device != NULL && store->image == NULL)
        FAIL(ERR_INTERNAL, "a device needs the parameters in its memory: call param_image_open first");
    if (plan->pack == PLAN_PACK_IMAGE && plan_reads_halves(plan) && !store->image->half_weights)
        FAIL(ERR_INTERNAL, "PLAN_PACK_IMAGE needs an image with bf16 copies");
    TRY(check_memory(plan));
    TRY(allocate(backend, plan->slab_bytes, "activations", &executor->slab));
    TRY(allocate(backend, plan->workspace_bytes, "workspace", &executor->workspace));
    TRY(allocate(backend, plan->packed_bytes, "packed weights", &executor->packed));
    TRY(upload_constants(executor));
    if (backend->device == NULL) align_params(executor);
    if (backend->device != NULL) TRY(backend->device->marks_reserve(backend, graph_op_count(plan->graph) + 1));
    resolve_calls(executor);
    order_buckets(executor);
    *out = executor;
    return STATUS_OK;
fail:
    executor_free(executor);
    return status;
}

void executor_free(Executor *executor)
{
    if (executor == NULL) return;
    Backend *backend = executor->plan->backend;
    backend->free(backend, executor->slab);
    backend->free(backend, executor->workspace);
    backend->free(backend, executor->packed);
    free(executor->calls);
    free(executor->gradient_flags);
    free(executor->bucket_order);
    free(executor->weight_order);
    free(executor);
}

void *executor_memory(Executor *executor, TensorId tensor)
{
    return address_of(executor, tensor);
}

/* The tensor's address after checking that `bytes` is its size. */
static Status checked_address(Executor *executor, TensorId id, size_t bytes, void **address)
{
    Status status = STATUS_OK;
    const Tensor *tensor = graph_tensor(executor->plan->graph, id);
    size_t size = (size_t)shape_count(&tensor->shape) * dtype_size(tensor->dtype);
    *address = address_of(executor, id);
    if (*address == NULL) FAIL(ERR_INTERNAL, "tensor '%s' has no place: no op uses it", tensor->name);
    if (bytes != size) FAIL(ERR_INTERNAL, "tensor '%s' has %zu bytes, not %zu", tensor->name, size, bytes);
fail:
    return status;
}

Status executor_write(Executor *executor, TensorId tensor, const void *data, size_t bytes)
{
    Status status = STATUS_OK;
    void *address = NULL;
    TRY(checked_address(executor, tensor, bytes, &address));
    TRY(executor->plan->backend->upload(executor->plan->backend, address, data, bytes));
fail:
    return status;
}

Status executor_read(Executor *executor, TensorId tensor, void *data, size_t bytes)
{
    Status status = STATUS_OK;
    void *address = NULL;
    TRY(checked_address(executor, tensor, bytes, &address));
    TRY(executor->plan->backend->download(executor->plan->backend, data, address, bytes));
fail:
    return status;
}

void executor_bind_weights(Executor *executor, const float *weights)
{
    executor->weights = weights != NULL ? weights : own_weights(executor);
    executor->weights_changed = true;
    resolve_calls(executor);
}

void executor_weights_changed(Executor *executor)
{
    executor->weights_changed = true;
}

/* Makes op `index`'s packed weights, where it has some. */
static Status pack_op(Executor *executor, int32_t index, double *seconds)
{
    Status status = STATUS_OK;
    const Plan *plan = executor->plan;
    const KernelCall *call = &executor->calls[index];
    const Kernel *kernel = plan->backend->kernel[call->op->kind];
    if (kernel->pack == NULL || plan->prepared[index].packed_bytes == 0) return STATUS_OK;
    const double start = seconds != NULL ? clock_seconds() : 0;
    TRY(kernel->pack(call));
    if (seconds != NULL) *seconds += clock_seconds() - start;
fail:
    return status;
}

/* Whether packed weights of op `index` are made now, just before it runs: always, or when weights have changed. */
static bool packs_now(const Executor *executor, int32_t index)
{
    const Plan *plan = executor->plan;
    if (plan_packs_in_scratch(plan, index)) return true;
    return executor->weights_changed && !plan_shares_packed(plan, index) && plan_packed_bytes(plan, index) > 0;
}

Status executor_pack(Executor *executor)
{
    Status status = STATUS_OK;
    if (executor->plan->pack == PLAN_PACK_SCRATCH) return STATUS_OK;
    for (int32_t i = 0; i < graph_op_count(executor->plan->graph); i++)
        if (!plan_packs_in_scratch(executor->plan, i) && packs_now(executor, i)) TRY(pack_op(executor, i, NULL));
    executor->weights_changed = false;
fail:
    return status;
}

static Status run_op(Executor *executor, int32_t index, const ExecutorRun *run)
{
    Status status = STATUS_OK;
    const Plan *plan = executor->plan;
    const DeviceOps *device = plan->backend->device;
    KernelCall *call = &executor->calls[index];
    if (packs_now(executor, index)) TRY(pack_op(executor, index, run->pack_seconds));
    call->accumulate = call->op->accumulate | (run->add_gradients ? executor->gradient_flags[index] : 0);
    const bool timed = run->op_seconds != NULL && device == NULL;
    const double start = timed ? clock_seconds() : 0;
    TRY(plan->backend->kernel[call->op->kind]->run(call));
    if (timed) run->op_seconds[index] += clock_seconds() - start;
    if (run->op_seconds != NULL && device != NULL) TRY(device->mark(plan->backend, index + 1));
fail:
    return status;
}

/* A device's times come from marks in its queue. */
static Status read_marks(Executor *executor, double *op_seconds)
{
    Status status = STATUS_OK;
    Backend *backend = executor->plan->backend;
    TRY(backend->device->finish(backend));
    for (int32_t i = 0; i < graph_op_count(executor->plan->graph); i++) {
        double seconds = 0;
        TRY(backend->device->mark_seconds(backend, i, i + 1, &seconds));
        op_seconds[i] += seconds;
    }
fail:
    return status;
}

Status executor_run(Executor *executor, const ExecutorRun *run)
{
    static const ExecutorRun DEFAULTS = {0};
    Status status = STATUS_OK;
    const Plan *plan = executor->plan;
    const DeviceOps *device = plan->backend->device;
    int32_t next_bucket = 0, next_weights = 0;
    if (run == NULL) run = &DEFAULTS;
    if (run->op_seconds != NULL && device != NULL) TRY(device->mark(plan->backend, 0));
    for (int32_t i = 0; i < graph_op_count(plan->graph); i++) {
        for (; run->on_weights != NULL && next_weights < plan->bucket_count &&
               plan->buckets[executor->weight_order[next_weights]].needed_by <= i;
             next_weights++)
            TRY(run->on_weights(run->context, executor->weight_order[next_weights]));
        TRY(run_op(executor, i, run));
        for (; run->on_bucket != NULL && next_bucket < plan->bucket_count &&
               plan->buckets[executor->bucket_order[next_bucket]].ready_after <= i;
             next_bucket++)
            TRY(run->on_bucket(run->context, executor->bucket_order[next_bucket]));
    }
    executor->weights_changed = false; /* each op packed its own before it ran */
    if (run->op_seconds != NULL && device != NULL) TRY(read_marks(executor, run->op_seconds));
fail:
    return status;
}
