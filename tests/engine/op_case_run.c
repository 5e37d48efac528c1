/* Running the graph of a case op by op, with guards around all memory. */
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/bf16.h"
#include "op_case_device.h"
#include "op_cases.h"

enum { GUARD = 64, GUARD_BYTE = 0xa5 };

static bool guarded_open(size_t size, size_t shift, Guarded *out)
{
    *out = (Guarded){.size = size};
    if (size == 0) return true;
    out->block = mem_alloc_aligned(size + shift + 2 * GUARD);
    if (!out->block) return false;
    memset(out->block, GUARD_BYTE, size + shift + 2 * GUARD);
    out->data = out->block + GUARD + shift;
    return true;
}

static bool guard_holds(const Guarded *g)
{
    for (size_t i = 0; i < GUARD && g->data; i++) {
        if (g->block[i] != GUARD_BYTE || g->data[g->size + i] != GUARD_BYTE) return false;
    }
    return true;
}

static void guarded_close(Guarded *g)
{
    mem_free_aligned(g->block);
    *g = (Guarded){0};
}

static const Tensor *tensor(const CaseRun *run, TensorId id)
{
    return graph_tensor(run->c->graph, id);
}

void *case_run_data(const CaseRun *run, TensorId id)
{
    return id == TENSOR_NONE ? NULL : run->memory[graph_root(run->c->graph, id)].data;
}

int64_t case_count(const CaseRun *run, TensorId id)
{
    return shape_count(&tensor(run, id)->shape);
}

size_t case_bytes(const CaseRun *run, TensorId id)
{
    return (size_t)case_count(run, id) * dtype_size(tensor(run, id)->dtype);
}

double case_get(const CaseRun *run, TensorId id, int64_t i)
{
    const void *data = case_run_data(run, id);
    if (tensor(run, id)->dtype == DTYPE_I32) return ((const int32_t *)data)[i];
    return tensor(run, id)->dtype == DTYPE_BF16 ? bf16_to_f32(((const Bf16 *)data)[i]) : ((const float *)data)[i];
}

void case_set(CaseRun *run, TensorId id, int64_t i, double value)
{
    void *data = case_run_data(run, id);
    if (tensor(run, id)->dtype == DTYPE_BF16) {
        ((Bf16 *)data)[i] = bf16_from_f32((float)value);
    } else if (tensor(run, id)->dtype == DTYPE_I32) {
        ((int32_t *)data)[i] = (int32_t)value;
    } else {
        ((float *)data)[i] = (float)value;
    }
}

/* Values of one tensor, drawn by its index: two graphs of one case get the same. */
static void fill_normals(CaseRun *run, TensorId id, uint64_t seed, float deviation, bool rounded)
{
    float values[512];
    const int64_t count = case_count(run, id), part = sizeof values / sizeof values[0];
    for (int64_t first = 0; first < count; first += part) {
        const int64_t n = count - first < part ? count - first : part;
        random_normal(seed, RANDOM_TEST, (uint64_t)id, (uint64_t)first, values, (size_t)n);
        for (int64_t i = 0; i < n; i++) {
            const float value = values[i] * deviation;
            case_set(run, id, first + i, rounded ? bf16_to_f32(bf16_from_f32(value)) : value);
        }
    }
}

static Status fill(CaseRun *run, uint64_t seed, bool rounded)
{
    const Graph *g = run->c->graph;
    for (TensorId id = 0; id < graph_tensor_count(g); id++) {
        const Tensor *t = graph_tensor(g, id);
        if (t->view_of != TENSOR_NONE) continue;
        switch (t->kind) {
        case TENSOR_CONSTANT:
            memcpy(case_run_data(run, id), t->constant, case_bytes(run, id));
            break;
        case TENSOR_INPUT:
            fill_normals(run, id, seed, 1, rounded);
            break;
        case TENSOR_PARAM:
            fill_normals(run, id, seed, param_table_get(run->c->params, t->param)->init_scale, rounded);
            break;
        case TENSOR_PARAM_GRAD:
        case TENSOR_VALUE:
            break;
        }
    }
    return STATUS_OK;
}

Status case_run_open(const CaseGraph *c, Backend *backend, uint64_t seed, bool rounded, CaseRun *out)
{
    Status status = STATUS_OK;
    const int32_t tensors = graph_tensor_count(c->graph);
    *out = (CaseRun){.c = c, .backend = backend};
    out->memory = mem_alloc_array((size_t)tensors, sizeof *out->memory);
    if (!out->memory) FAIL(ERR_MEMORY, "no memory for a case");
    for (TensorId id = 0; id < tensors; id++) {
        if (graph_tensor(c->graph, id)->view_of != TENSOR_NONE) continue;
        const size_t shift = graph_tensor(c->graph, id)->kind == TENSOR_PARAM ? backend->param_alignment : 0;
        if (!guarded_open(case_bytes(out, id), shift, &out->memory[id])) FAIL(ERR_MEMORY, "no memory for a case");
    }
    TRY(fill(out, seed, rounded));
    return STATUS_OK;
fail:
    case_run_close(out);
    return status;
}

void case_run_close(CaseRun *run)
{
    for (TensorId id = 0; run->memory && id < graph_tensor_count(run->c->graph); id++) guarded_close(&run->memory[id]);
    free(run->memory);
    *run = (CaseRun){0};
}

/* The op as a plan would prepare it so that running it with these bits is right. */
static Op op_prepared_for(const CaseRun *run, int32_t index, uint32_t accumulate)
{
    Op op = *graph_op(run->c->graph, index);
    const uint32_t known = op.accumulate;
    op.accumulate = accumulate;
    for (int32_t k = 0; k < op.out_count; k++) {
        const bool is_parameter = op.out[k] != TENSOR_NONE && tensor(run, op.out[k])->kind == TENSOR_PARAM_GRAD;
        if (is_parameter && !(known >> k & 1u)) op.accumulate &= ~(1u << k);
    }
    return op;
}

Status case_run_op(CaseRun *run, int32_t index, uint32_t accumulate, bool *guards_hold)
{
    Status status = STATUS_OK;
    const Op op = op_prepared_for(run, index, accumulate);
    const Kernel *kernel = run->backend->kernel[op.kind];
    Prepared prepared = {0};
    Guarded workspace = {0}, packed = {0};
    if (!kernel) FAIL(ERR_UNSUPPORTED, "backend %s has no %s", run->backend->name, op_info(op.kind)->name);
    if (kernel->prepare) TRY(kernel->prepare(run->backend, run->c->graph, &op, &prepared));
    if (run->backend->device) {
        TRY(case_run_op_device(run, &op, kernel, &prepared, accumulate, guards_hold));
        goto fail;
    }
    if (!guarded_open(prepared.workspace_bytes, 0, &workspace) || !guarded_open(prepared.packed_bytes, 0, &packed)) {
        FAIL(ERR_MEMORY, "no memory for a workspace");
    }
    if (workspace.data) memset(workspace.data, 0xff, workspace.size); /* NaN */
    if (packed.data) memset(packed.data, 0xff, packed.size);
    KernelCall call = {.graph = run->c->graph,
                       .op = &op,
                       .state = prepared.state,
                       .accumulate = accumulate,
                       .workspace = workspace.data,
                       .packed = packed.data};
    for (int32_t k = 0; k < op.in_count; k++) call.in[k] = case_run_data(run, op.in[k]);
    for (int32_t k = 0; k < op.out_count; k++) call.out[k] = case_run_data(run, op.out[k]);
    if (kernel->pack && packed.data) TRY(kernel->pack(&call));
    TRY(kernel->run(&call));
    *guards_hold = guard_holds(&workspace) && guard_holds(&packed);
fail:
    if (kernel && kernel->release && prepared.state) kernel->release(prepared.state);
    guarded_close(&workspace);
    guarded_close(&packed);
    return status;
}

bool case_run_guards_hold(const CaseRun *run)
{
    for (TensorId id = 0; id < graph_tensor_count(run->c->graph); id++) {
        if (!guard_holds(&run->memory[id])) return false;
    }
    return true;
}
