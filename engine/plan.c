#include "engine/plan.h"

#include <stdlib.h>
#include <string.h>

#include "engine/memory.h"
#include "engine/placement.h"

/* What libraries of devices ask of workspaces, which in scratch mode follow packed weights. */
#define PACKED_ALIGN 256
#define BUCKET_BYTES_DEFAULT ((int64_t)8 << 20)

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

size_t plan_packed_bytes(const Plan *plan, int32_t index)
{
    if (plan->pack == PLAN_PACK_IMAGE && plan->prepared[index].packs_halves) return 0;
    return (plan->prepared[index].packed_bytes + PACKED_ALIGN - 1) / PACKED_ALIGN * PACKED_ALIGN;
}

bool plan_shares_packed(const Plan *plan, int32_t index)
{
    const Op *op = graph_op(plan->graph, index);
    return plan->pack != PLAN_PACK_SCRATCH && op->is_recomputed &&
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
        } else if (pack != PLAN_PACK_SCRATCH) {
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

typedef struct FlatParam {
    int64_t offset, padded; /* elements */
    int32_t last_write;     /* the last op that writes its gradient */
} FlatParam;

static int by_offset(const void *pa, const void *pb)
{
    int64_t a = ((const FlatParam *)pa)->offset, b = ((const FlatParam *)pb)->offset;
    return a < b ? -1 : a > b;
}

/* Cuts the flat gradient buffer into slices of whole parameters, each at least `bucket_bytes` but the last. */
static Status cut_buckets(Plan *plan, int64_t bucket_bytes)
{
    Status status = STATUS_OK;
    const Graph *graph = plan->graph;
    const ParamTable *params = graph_params(graph);
    int32_t count = param_table_size(params);
    int64_t elements = param_table_trainable_elements(params);
    int64_t least = bucket_bytes / (int64_t)sizeof(float) > 0 ? bucket_bytes / (int64_t)sizeof(float) : 1;
    int32_t *last_write = mem_alloc_array((size_t)count + 1, sizeof *last_write);
    FlatParam *flat = mem_alloc_array((size_t)count + 1, sizeof *flat);
    plan->buckets = mem_alloc_array((size_t)(elements / least) + 2, sizeof *plan->buckets);
    if (last_write == NULL || flat == NULL || plan->buckets == NULL)
        FAIL(ERR_MEMORY, "out of memory for %d parameters", count);

    bool has_gradients = false;
    for (int32_t i = 0; i < graph_op_count(graph); i++)
        for (int32_t k = 0; k < OP_MAX_OUT; k++) {
            TensorId out = graph_op(graph, i)->out[k];
            if (out == TENSOR_NONE || graph_tensor(graph, out)->kind != TENSOR_PARAM_GRAD) continue;
            last_write[graph_tensor(graph, out)->param] = i;
            has_gradients = true;
        }
    if (!has_gradients) goto fail;

    int32_t flat_count = 0;
    for (int32_t p = 0; p < count; p++) {
        const Param *param = param_table_get(params, p);
        if (!param->trainable) continue;
        flat[flat_count++] = (FlatParam){.offset = param->offset,
                                         .padded = (param->count + PARAM_ALIGN - 1) / PARAM_ALIGN * PARAM_ALIGN,
                                         .last_write = last_write[p]};
    }
    qsort(flat, (size_t)flat_count, sizeof *flat, by_offset);
    Bucket open = {0};
    for (int32_t p = 0; p < flat_count; p++) {
        open.count += flat[p].padded;
        if (flat[p].last_write > open.ready_after) open.ready_after = flat[p].last_write;
        if (open.count < least && p + 1 < flat_count) continue;
        plan->buckets[plan->bucket_count++] = open;
        open = (Bucket){.offset = open.offset + open.count};
    }
fail:
    free(last_write);
    free(flat);
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
    TRY(cut_buckets(plan, options->bucket_bytes > 0 ? options->bucket_bytes : BUCKET_BYTES_DEFAULT));
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
