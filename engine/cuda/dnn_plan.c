/* Plans: steps from the cache or chosen, and their runs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "engine/cuda/dnn_cache.h"
#include "engine/cuda/dnn_inside.h"

void dnn_step_free(DnnStep *step)
{
    if (step->plan) cudnnBackendDestroyDescriptor(step->plan);
    step->plan = NULL;
}

/* ---- the cache ---- */

static bool plan_text(const DnnStep *step, DnnEntry *entry)
{
    int64_t size = 0;
    if (cudnnBackendGetAttribute(step->plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, 0, &size,
                                 NULL) != CUDNN_STATUS_SUCCESS ||
        size <= 0)
        return false;
    entry->plan = malloc((size_t)size);
    if (!entry->plan) return false;
    if (cudnnBackendGetAttribute(step->plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, size,
                                 &size, entry->plan) != CUDNN_STATUS_SUCCESS)
        return false;
    entry->plan_size = (size_t)size;
    return true;
}

static bool plan_from_text(const Dnn *dnn, const DnnEntry *entry, DnnStep *out)
{
    int64_t count = 0;
    if (cudnnBackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &out->plan) != CUDNN_STATUS_SUCCESS)
        return false;
    if (cudnnBackendSetAttribute(out->plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                                 (int64_t)entry->plan_size, entry->plan) == CUDNN_STATUS_SUCCESS &&
        cudnnBackendSetAttribute(out->plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                 &dnn->device) == CUDNN_STATUS_SUCCESS &&
        cudnnBackendFinalize(out->plan) == CUDNN_STATUS_SUCCESS &&
        cudnnBackendGetAttribute(out->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &count,
                                 &out->workspace) == CUDNN_STATUS_SUCCESS)
        return true;
    dnn_step_free(out);
    return false;
}

static bool from_cache(const Dnn *dnn, DnnGraph *g, Hash128 key, DnnStep *out)
{
    DnnEntry entry;
    if (!dnn_cache_read(dnn->cache, key, dnn_measures(dnn), &entry)) return false;
    bool found = false;
    *out = (DnnStep){.operands = g->operands};
    memcpy(out->operand, g->operand, sizeof out->operand);
    if (entry.plan) found = plan_from_text(dnn, &entry, out);
    if (found)
        dnn_engine_name(&entry.choice, "kept", out->engine);
    else
        found = dnn_choose_again(dnn, g, &entry.choice, out) == STATUS_OK;
    if (!found) log_warn("cuDNN does not take a plan of the cache; it is made anew");
    free(entry.plan);
    return found;
}

static void to_cache(const Dnn *dnn, Hash128 key, const DnnChoice *choice, const DnnStep *step)
{
    DnnEntry entry = {.choice = *choice};
    if (!plan_text(step, &entry)) entry.plan_size = 0;
    dnn_cache_write(dnn->cache, key, &entry);
    free(entry.plan);
}

Status dnn_step_make(const Dnn *dnn, DnnGraph *g, bool precise, DnnStep *out)
{
    Status status = STATUS_OK;
    DnnChoice choice;
    TRY(g->status);
    const Hash128 key = dnn_cache_key(dnn, g, precise);
    if (dnn->cache && from_cache(dnn, g, key, out)) return STATUS_OK;
    TRY(dnn_choose(dnn, g, precise, &choice, out));
    /* What could not be measured now is tried again the next time. */
    if (dnn->cache && choice.measured == dnn_measures(dnn)) to_cache(dnn, key, &choice, out);
fail:
    return status;
}

/* ---- runs ---- */

static bool is_aligned(const DnnOperand *operand, const void *memory)
{
    const uintptr_t alignment = operand->by_value || operand->fill ? sizeof(int32_t) : DNN_ALIGNMENT;
    return (uintptr_t)memory % alignment == 0;
}

Status dnn_step_run(const Dnn *dnn, const DnnStep *step, const DnnBinding *bindings, int32_t count, void *workspace)
{
    Status status = STATUS_OK;
    DnnDesc pack = NULL;
    int64_t uids[DNN_GRAPH_OPERANDS];
    const void *pointers[DNN_GRAPH_OPERANDS];
    if (!dnn->handle) FAIL(ERR_UNSUPPORTED, "a plan without a device cannot run");
    for (int32_t i = 0; i < step->operands; i++) {
        uids[i] = step->operand[i].uid;
        pointers[i] = NULL;
        for (int32_t k = 0; k < count; k++) {
            if (bindings[k].uid == uids[i]) pointers[i] = bindings[k].memory;
        }
        if (!pointers[i]) FAIL(ERR_INTERNAL, "operand %lld of a plan is missing", (long long)uids[i]);
        if (!is_aligned(&step->operand[i], pointers[i]))
            FAIL(ERR_INTERNAL, "operand %lld of a plan is not aligned as was planned", (long long)uids[i]);
    }
    TRY_DNN(cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack));
    TRY_DNN(cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, step->operands, uids));
    TRY_DNN(cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, step->operands,
                                     pointers));
    TRY_DNN(cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace));
    TRY_DNN(cudnnBackendFinalize(pack));
    TRY_DNN(cudnnBackendExecute(dnn->handle, step->plan, pack));
fail:
    if (pack) cudnnBackendDestroyDescriptor(pack);
    return status;
}

/* ---- plans ---- */

Status dnn_plan_create(const Dnn *dnn, DnnPlan **out)
{
    Status status = STATUS_OK;
    DnnPlan *plan = calloc(1, sizeof *plan);
    if (!plan) FAIL(ERR_MEMORY, "no memory for a plan");
    plan->dnn = dnn;
    *out = plan;
fail:
    return status;
}

Status dnn_plan_add(DnnPlan *plan, DnnGraph *graph, bool precise)
{
    Status status = STATUS_OK;
    TRY(dnn_step_make(plan->dnn, graph, precise, &plan->step[plan->steps]));
    plan->steps++;
fail:
    dnn_graph_free(graph);
    return status;
}

void dnn_plan_finish(DnnPlan *plan, const char *design, size_t extra)
{
    size_t workspace = 0;
    for (int32_t i = 0; i < plan->steps; i++) {
        if ((size_t)plan->step[i].workspace > workspace) workspace = (size_t)plan->step[i].workspace;
    }
    plan->behind = (workspace + 255) / 256 * 256;
    plan->extra = (extra + 255) / 256 * 256;
    plan->workspace = plan->behind + plan->extra;
    int at = snprintf(plan->name, sizeof plan->name, "cudnn %s", design);
    for (int32_t i = 0; i < plan->steps && at < (int)sizeof plan->name; i++)
        at += snprintf(plan->name + at, sizeof plan->name - (size_t)at, "%s %s", i ? "," : ":", plan->step[i].engine);
}

void dnn_plan_free(DnnPlan *plan)
{
    if (!plan) return;
    for (int32_t i = 0; i < plan->steps; i++) dnn_step_free(&plan->step[i]);
    free(plan);
}

size_t dnn_plan_workspace(const DnnPlan *plan)
{
    return plan->workspace;
}

const char *dnn_plan_name(const DnnPlan *plan)
{
    return plan->name;
}
