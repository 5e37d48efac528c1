#include "engine/plan.h"

#include <stdlib.h>
#include <string.h>

#include "engine/memory.h"
#include "engine/placement.h"

/* What libraries of devices ask of workspaces, which in scratch mode follow packed weights. */
#define PACKED_ALIGN 256
/* A bucket, where the config says nothing: on the host small, so that the first starts early; on a device large enough
 * for its links (docs/scaling.md), but at least this many. */
#define HOST_BUCKET_BYTES ((int64_t)8 << 20)
#define DEVICE_BUCKET_BYTES ((int64_t)128 << 20)
#define DEVICE_BUCKETS 16

/* The ops between which each root's contents matter. Inputs are written before the first op; constants live always;
 * outputs live to the end. */
static void find_lifetimes(const Graph *graph, Lifetime *lifetimes)
{
    int32_t ops = graph_op_count(graph), tensors = graph_tensor_count(graph);
    for (TensorId t = 0; t < tensors; t++) {
        const Tensor *tensor = graph_tensor(graph, t);
        lifetimes[t] = (Lifetime){.first = ops, .last = -1, .offset = -1};
        if (tensor->view_of != TENSOR_NONE || tensor->kind == TENSOR_PARAM || tensor->kind == TENSOR_PARAM_GRAD)
            continue;
        lifetimes[t].bytes = shape_count(&tensor->shape) * (int64_t)dtype_size(tensor->dtype);
        if (tensor->kind == TENSOR_INPUT || tensor->kind == TENSOR_CONSTANT) lifetimes[t].first = -1;
        if (tensor->kind == TENSOR_CONSTANT) lifetimes[t].last = ops - 1;
    }
    for (int32_t i = 0; i < ops; i++) {
        const Op *op = graph_op(graph, i);
        for (int32_t k = 0; k < op->in_count + op->out_count; k++) {
            TensorId root = graph_root(graph, k < op->in_count ? op->in[k] : op->out[k - op->in_count]);
            if (root == TENSOR_NONE) continue;
            if (lifetimes[root].first > i) lifetimes[root].first = i;
            if (lifetimes[root].last < i) lifetimes[root].last = i;
        }
    }
    for (TensorId t = 0; t < tensors; t++) {
        if (graph_tensor(graph, t)->is_output) lifetimes[t].last = ops - 1;
        if (lifetimes[t].first > lifetimes[t].last) lifetimes[t].last = lifetimes[t].first; /* never read */
        if (lifetimes[t].first >= ops) lifetimes[t] = (Lifetime){.offset = -1};             /* never touched */
    }
}

static Status place_tensors(Plan *plan, bool reuse)
{
    Status status = STATUS_OK;
    int32_t count = graph_tensor_count(plan->graph);
    int64_t slab = 0, peak = 0;
    Lifetime *lifetimes = mem_alloc_array((size_t)count + 1, sizeof *lifetimes);
    plan->offset = mem_alloc_array((size_t)count + 1, sizeof *plan->offset);
    if (lifetimes == NULL || plan->offset == NULL) FAIL(ERR_MEMORY, "out of memory for a plan of %d tensors", count);
    find_lifetimes(plan->graph, lifetimes);
    TRY(placement_peak_live(lifetimes, (size_t)count, graph_op_count(plan->graph), &peak));
    TRY(placement_solve(lifetimes, (size_t)count, reuse, &slab));
    for (TensorId t = 0; t < count; t++) {
        TensorId root = graph_root(plan->graph, t);
        plan->offset[t] = lifetimes[root].bytes > 0 ? lifetimes[root].offset : -1;
    }
    plan->slab_bytes = (size_t)slab;
    plan->peak_live_bytes = (size_t)peak;
fail:
    free(lifetimes);
    return status;
}

/* Prepares each op's kernel (none for an estimate); every op without one is named in one failure. */
static Status prepare_kernels(Plan *plan, bool estimate)
{
    Status status = STATUS_OK;
    StrBuf missing = {0};
    int32_t ops = graph_op_count(plan->graph);
    bool reported[OP_COUNT] = {false};
    plan->prepared = mem_alloc_array((size_t)ops + 1, sizeof *plan->prepared);
    plan->packed_offset = mem_alloc_array((size_t)ops + 1, sizeof *plan->packed_offset);
    if (plan->prepared == NULL || plan->packed_offset == NULL) FAIL(ERR_MEMORY, "out of memory for %d ops", ops);
    for (int32_t i = 0; i < ops && !estimate; i++) {
        const Op *op = graph_op(plan->graph, i);
        const Kernel *kernel = plan->backend->kernel[op->kind];
        if (kernel == NULL) {
            if (!reported[op->kind]) TRY(strbuf_printf(&missing, " %s", op_info(op->kind)->name));
            reported[op->kind] = true;
            continue;
        }
        Prepared *prepared = &plan->prepared[i];
        if (kernel->prepare != NULL) TRY(kernel->prepare(plan->backend, plan->graph, op, prepared));
    }
    if (missing.size > 0) FAIL(ERR_UNSUPPORTED, "backend %s has no kernel for:%s", plan->backend->name, missing.data);
fail:
    strbuf_free(&missing);
    return status;
}

bool plan_reads_halves(const Plan *plan)
{
    for (int32_t i = 0; i < graph_op_count(plan->graph); i++)
        if (plan->prepared[i].packs_halves) return true;
    return false;
}

bool plan_writes_gradient(const Plan *plan, int32_t param)
{
    const Graph *graph = plan->graph;
    for (int32_t i = 0; i < graph_op_count(graph); i++) {
        const Op *op = graph_op(graph, i);
        for (int32_t k = 0; k < op->out_count; k++) {
            const TensorId id = graph_root(graph, op->out[k]);
            if (id == TENSOR_NONE) continue;
            const Tensor *tensor = graph_tensor(graph, id);
            if (tensor->kind == TENSOR_PARAM_GRAD && tensor->param == param) return true;
        }
    }
    return false;
}

size_t plan_packed_bytes(const Plan *plan, int32_t index)
{
    if (plan->pack == PLAN_PACK_IMAGE && plan->prepared[index].packs_halves) return 0;
    return (plan->prepared[index].packed_bytes + PACKED_ALIGN - 1) / PACKED_ALIGN * PACKED_ALIGN;
}

bool plan_packs_in_scratch(const Plan *plan, int32_t index)
{
    return plan->pack == PLAN_PACK_SCRATCH || op_weights_are_computed(plan->graph, graph_op(plan->graph, index));
}

bool plan_shares_packed(const Plan *plan, int32_t index)
{
    const Op *op = graph_op(plan->graph, index);
    return !plan_packs_in_scratch(plan, index) && op->is_recomputed &&
           plan_packed_bytes(plan, index) == plan_packed_bytes(plan, op->forward);
}

void plan_set_pack(Plan *plan, PlanPack pack)
{
    plan->pack = pack;
    plan->packed_bytes = plan->workspace_bytes = 0;
    for (int32_t i = 0; i < graph_op_count(plan->graph); i++) {
        const Prepared *prepared = &plan->prepared[i];
        const size_t packed = plan_packed_bytes(plan, i);
        size_t workspace = prepared->workspace_bytes;
        if (plan_shares_packed(plan, i)) {
            plan->packed_offset[i] = plan->packed_offset[graph_op(plan->graph, i)->forward];
        } else if (!plan_packs_in_scratch(plan, i)) {
            plan->packed_offset[i] = (int64_t)plan->packed_bytes;
            plan->packed_bytes += packed;
        } else {
            plan->packed_offset[i] = 0;
            workspace += packed;
        }
        if (workspace > plan->workspace_bytes) plan->workspace_bytes = workspace;
    }
}

size_t plan_bytes(const Plan *plan)
{
    return plan->slab_bytes + plan->workspace_bytes + plan->packed_bytes;
}

void plan_choose_pack(Plan *plan, int64_t beside, int sharing)
{
    plan_set_pack(plan, PLAN_PACK_KEEP);
    const double wanted = ((double)plan_bytes(plan) + (double)beside) * sharing;
    if (1.05 * wanted > (double)backend_memory_available(plan->backend)) plan_set_pack(plan, PLAN_PACK_SCRATCH);
}

/* Elements of a bucket: about as many as asked for, in whole norm blocks for every share. */
static int64_t bucket_elements(const Plan *plan, const PlanOptions *options, int64_t elements)
{
    const int64_t quantum = (int64_t)UPDATE_NORM_BLOCK * (options->shares > 1 ? options->shares : 1);
    int64_t wanted = options->bucket_bytes / (int64_t)sizeof(float);
    if (wanted <= 0 && plan->backend->device == NULL) wanted = HOST_BUCKET_BYTES / (int64_t)sizeof(float);
    if (wanted <= 0) {
        wanted = DEVICE_BUCKET_BYTES / (int64_t)sizeof(float);
        if (wanted > elements / DEVICE_BUCKETS) wanted = elements / DEVICE_BUCKETS;
    }
    const int64_t quanta = wanted / quantum;
    return quanta > 1 ? quanta * quantum : quantum;
}

/* A parameter's first reader and the last op that writes its gradient widen the times of the buckets it lies in. */
static void extend_buckets(Plan *plan, const Param *param, int64_t size, int32_t last_write, int32_t first_read)
{
    const int64_t last = (param->offset + param->count - 1) / size;
    for (int64_t b = param->offset / size; b <= last; b++) {
        Bucket *bucket = &plan->buckets[b];
        if (last_write > bucket->ready_after) bucket->ready_after = last_write;
        if (first_read < bucket->needed_by) bucket->needed_by = first_read;
    }
}

/* Cuts the flat buffers into buckets of equal size, but for the last. */
static Status cut_buckets(Plan *plan, const PlanOptions *options)
{
    Status status = STATUS_OK;
    const Graph *graph = plan->graph;
    const ParamTable *params = graph_params(graph);
    const int32_t count = param_table_size(params), ops = graph_op_count(graph);
    const int64_t elements = param_table_trainable_elements(params);
    const int64_t size = bucket_elements(plan, options, elements);
    bool has_gradients = false;
    int32_t *last_write = mem_alloc_array((size_t)count + 1, sizeof *last_write);
    int32_t *first_read = mem_alloc_array((size_t)count + 1, sizeof *first_read);
    plan->buckets = mem_alloc_array((size_t)(elements / size) + 2, sizeof *plan->buckets);
    if (last_write == NULL || first_read == NULL || plan->buckets == NULL)
        FAIL(ERR_MEMORY, "out of memory for %d parameters", count);
    for (int32_t p = 0; p < count; p++) first_read[p] = ops;
    for (int32_t i = ops - 1; i >= 0; i--) {
        const Op *op = graph_op(graph, i);
        for (int32_t k = 0; k < op->in_count + op->out_count; k++) {
            TensorId id = graph_root(graph, k < op->in_count ? op->in[k] : op->out[k - op->in_count]);
            if (id == TENSOR_NONE) continue;
            const Tensor *tensor = graph_tensor(graph, id);
            if (tensor->kind == TENSOR_PARAM) first_read[tensor->param] = i;
            if (tensor->kind != TENSOR_PARAM_GRAD) continue;
            if (last_write[tensor->param] == 0) last_write[tensor->param] = i; /* from the end: the last comes first */
            has_gradients = true;
        }
    }
    for (int64_t at = 0; has_gradients && at < elements; at += size)
        plan->buckets[plan->bucket_count++] =
            (Bucket){.offset = at, .count = elements - at < size ? elements - at : size, .needed_by = ops};
    for (int32_t p = 0; has_gradients && p < count; p++) {
        const Param *param = param_table_get(params, p);
        if (param->trainable) extend_buckets(plan, param, size, last_write[p], first_read[p]);
    }
fail:
    free(last_write);
    free(first_read);
    return status;
}

Status plan_create(const Graph *graph, Backend *backend, const PlanOptions *options, Plan **out)
{
    Status status = STATUS_OK;
    Plan *plan = mem_alloc_array(1, sizeof *plan);
    if (plan == NULL) return ERR_MEMORY;
    plan->graph = graph;
    plan->backend = backend;
    TRY(graph_status(graph));
    if (!param_table_is_laid_out(graph_params(graph)))
        FAIL(ERR_INTERNAL, "a plan needs the parameters laid out: call graph_backward or param_table_layout first");
    TRY(place_tensors(plan, options->reuse));
    TRY(prepare_kernels(plan, options->estimate));
    if (options->pack == PLAN_PACK_AUTO) {
        plan_choose_pack(plan, 0, 1);
    } else {
        plan_set_pack(plan, options->pack);
    }
    TRY(cut_buckets(plan, options));
    for (int32_t i = 0; i < graph_op_count(graph); i++) {
        const Op *op = graph_op(graph, i);
        double flops = op_info(op->kind)->cost(graph, op).flops;
        *(op->is_backward ? &plan->backward_flops : &plan->forward_flops) += flops;
    }
    *out = plan;
    return STATUS_OK;
fail:
    plan_free(plan);
    return status;
}

void plan_free(Plan *plan)
{
    if (plan == NULL) return;
    for (int32_t i = 0; plan->prepared != NULL && i < graph_op_count(plan->graph); i++) {
        const Kernel *kernel = plan->backend->kernel[graph_op(plan->graph, i)->kind];
        if (kernel != NULL && kernel->release != NULL) kernel->release(plan->prepared[i].state);
    }
    free(plan->prepared);
    free(plan->packed_offset);
    free(plan->offset);
    free(plan->buckets);
    free(plan);
}

Status plan_describe_ops(const Plan *plan, StrBuf *out)
{
    Status status = STATUS_OK;
    const Graph *graph = plan->graph;
    const Kernel *const *ref = ref_kernels();
    bool is_ref = strcmp(plan->backend->name, "ref") == 0;
    TRY(strbuf_printf(out, "%5s  %-22s %-44s %-20s %9s %9s  %s\n", "op", "kind", "output", "shape", "GFLOP", "MB",
                      "kernel"));
    for (int32_t i = 0; i < graph_op_count(graph); i++) {
        const Op *op = graph_op(graph, i);
        const Tensor *tensor = NULL;
        for (int32_t k = 0; k < op->out_count && tensor == NULL; k++)
            if (op->out[k] != TENSOR_NONE) tensor = graph_tensor(graph, op->out[k]);
        char shape[96] = "";
        if (tensor != NULL) shape_format(&tensor->shape, shape, sizeof shape);
        OpCost cost = op_info(op->kind)->cost(graph, op);
        const char *kernel = plan->prepared[i].detail;
        if (!is_ref && plan->backend->kernel[op->kind] == ref[op->kind]) kernel = "served by ref";
        TRY(strbuf_printf(out, "%5d  %-22s %-44s %-20s %9.3f %9.2f  %s%s\n", i, op_info(op->kind)->name,
                          tensor != NULL ? tensor->name : "", shape, cost.flops * 1e-9, cost.bytes * 1e-6,
                          kernel != NULL ? kernel : "", op->is_recomputed ? " (recomputed)" : ""));
    }
fail:
    return status;
}
