#include <stdlib.h>

#include "engine/cuda/cuda.h"
#include "engine/cuda/group_norm_kernels.h"

/* What two whole blocks of a multiprocessor can have each: of 228 KB, 1 KB for each is the system's. */

typedef struct NormState {
    const Cuda *cuda;
    NormPlan plan[2]; /* [1]: for tensors at multiples of 16 bytes */
} NormState;

/* Whether the tensors' addresses, one given as their bits joined, are multiples of 16. */
static const NormPlan *plan_for(const NormState *state, uintptr_t addresses)
{
    return &state->plan[addresses % 16 == 0];
}

static uintptr_t bits(const void *pointer)
{
    return (uintptr_t)pointer;
}

static Status shared_limit(const Cuda *cuda, size_t *out)
{
    Status status = STATUS_OK;
    *out = GROUP_NORM_SHARED_MOST;
    if (!cuda->plans_only) {
        int device, bytes;
        TRY_CUDA(cudaGetDevice(&device));
        TRY_CUDA(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
        if ((size_t)bytes < *out) *out = (size_t)bytes;
    }
fail:
    return status;
}

static Status state_create(Backend *backend, const Graph *graph, const Op *op, bool gradient, NormState **out)
{
    Status status = STATUS_OK;
    NormState *state = calloc(1, sizeof(*state));
    if (!state) FAIL(ERR_MEMORY, "out of memory for a group norm's plan");
    state->cuda = cuda_of(backend);
    size_t shared;
    TRY(shared_limit(state->cuda, &shared));
    const Tensor *x = graph_tensor(graph, op->in[0]);
    for (int aligned = 0; aligned < 2; aligned++) {
        state->plan[aligned] = norm_plan(&x->shape, x->dtype, op->attr.norm.groups, gradient, aligned != 0, shared);
    }
    *out = state;
    return STATUS_OK;
fail:
    free(state);
    return status;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Workspace of a plan; its size where k->... are NULL afterwards. */
static size_t carve(const NormPlan *plan, void *workspace, GroupNorm *k)
{
    const NormCut *cut = &plan->sums;
    const size_t groups = (size_t)(cut->n * cut->groups);
    CudaCarver carver = {.base = workspace};
    float *stats = cuda_carve(&carver, groups * 2 * sizeof(float));
    if (!k->stats) k->stats = stats;
    if (!plan->whole) {
        k->partial = cuda_carve(&carver, groups * (size_t)cut->slices * (size_t)cut->spans * 2 * sizeof(float));
    }
    return carver.used;
}

static Status group_norm_prepare(Backend *backend, const Graph *graph, const Op *op, Prepared *out)
{
    Status status = STATUS_OK;
    NormState *state;
    TRY(state_create(backend, graph, op, false, &state));
    GroupNorm none = {0};
    out->state = state;
    out->workspace_bytes = larger(carve(&state->plan[0], NULL, &none), carve(&state->plan[1], NULL, &none));
    out->detail = state->plan[1].whole ? "whole" : "sliced";
fail:
    return status;
}

static Status group_norm_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    const NormState *state = call->state;
    const NormPlan *plan = plan_for(state, bits(call->in[0]) | bits(call->out[0]));
    GroupNorm k = {.plan = *plan,
                   .eps = call->op->attr.norm.eps,
                   .silu = call->op->attr.norm.act == ACT_SILU,
                   .x = call->in[0],
                   .gamma = call->in[1],
                   .beta = call->in[2],
                   .scale_shift = call->in[3],
                   .y = call->out[0],
                   .stats = call->out[1]};
    carve(plan, call->workspace, &k);
    TRY_CUDA(cuda_group_norm(&k, state->cuda->stream));
fail:
    return status;
}

static size_t carve_grad(const NormPlan *plan, void *workspace, GroupNormGrad *k)
{
    const NormCut *cut = &plan->sums;
    const size_t sample = (size_t)(cut->n * 2 * cut->c) * sizeof(float);
    CudaCarver carver = {.base = workspace};
    k->terms = cuda_carve(&carver, sample);
    if (!plan->whole) {
        k->means = cuda_carve(&carver, (size_t)(cut->n * cut->groups) * 2 * sizeof(float));
        k->partial = cuda_carve(&carver, sample * (size_t)cut->slices);
    }
    return carver.used;
}

static Status group_norm_grad_prepare(Backend *backend, const Graph *graph, const Op *op, Prepared *out)
{
    Status status = STATUS_OK;
    NormState *state;
    TRY(state_create(backend, graph, op, true, &state));
    GroupNormGrad none = {0};
    out->state = state;
    out->workspace_bytes = larger(carve_grad(&state->plan[0], NULL, &none), carve_grad(&state->plan[1], NULL, &none));
    out->detail = state->plan[1].whole ? "whole" : "sliced";
fail:
    return status;
}

static Status group_norm_grad_run(const KernelCall *call)
{
    Status status = STATUS_OK;
    const NormState *state = call->state;
    const NormPlan *plan = plan_for(state, bits(call->in[0]) | bits(call->in[1]) | bits(call->out[0]));
    GroupNormGrad k = {.plan = *plan,
                       .silu = call->op->attr.norm.act == ACT_SILU,
                       .x = call->in[0],
                       .dy = call->in[1],
                       .gamma = call->in[2],
                       .beta = call->in[3],
                       .stats = call->in[4],
                       .scale_shift = call->in[5],
                       .dx = call->out[0],
                       .dgamma = call->out[1],
                       .dbeta = call->out[2],
                       .dscale_shift = call->out[3],
                       .add_x = cuda_adds(call, 0),
                       .add_gamma = cuda_adds(call, 1),
                       .add_beta = cuda_adds(call, 2),
                       .add_scale_shift = cuda_adds(call, 3)};
    carve_grad(plan, call->workspace, &k);
    TRY_CUDA(cuda_group_norm_grad(&k, state->cuda->stream));
fail:
    return status;
}

const Kernel cuda_kernel_GROUP_NORM = {.prepare = group_norm_prepare, .run = group_norm_run, .release = free};
const Kernel cuda_kernel_GROUP_NORM_GRAD = {
    .prepare = group_norm_grad_prepare, .run = group_norm_grad_run, .release = free};
