#include "engine/cuda/attention_head.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"

typedef struct HeadPlan {
    HeadFused *fused; /* one of them */
    HeadComposed *composed;
    char detail[160];
} HeadPlan;

void *head_at(void *data, Dtype type, int64_t elements)
{
    return data ? (char *)data + elements * (int64_t)dtype_size(type) : NULL;
}

HeadRows head_rows(const Tensor *tensor, void *data, const Op *op, int parts, int part)
{
    const int64_t heads = op->attr.attention.heads, d = op->attr.attention.head_dim;
    if (!tensor) return (HeadRows){0};
    const int64_t pitch = heads * parts * d;
    return (HeadRows){head_at(data, tensor->dtype, part * d), tensor->shape.dim[1] * pitch, pitch, parts * d};
}

HeadRows head_dense(const HeadShape *shape, void *data, int64_t rows)
{
    const int64_t pitch = shape->heads * shape->d;
    return (HeadRows){data, rows * pitch, pitch, shape->d};
}

void head_move_add(HeadMoves *moves, HeadMove move)
{
    if (move.rows > 0 && head_wanted(&move.from) && head_wanted(&move.to)) moves->move[moves->count++] = move;
}

void head_release(void *state)
{
    HeadPlan *plan = state;
    if (!plan) return;
    head_fused_free(plan->fused);
    head_composed_free(plan->composed);
    free(plan);
}

/* What cuDNN's attention takes. */
static bool can_fuse(const HeadShape *shape, bool backward)
{
    return shape->type == DTYPE_BF16 && shape->d <= 128 && shape->d % 8 == 0 && !shape->biased &&
           (!backward || head_keys(shape) > 1);
}

Status head_prepare(Backend *backend, const HeadShape *shape, const HeadOperands *operands, bool backward,
                    Prepared *out)
{
    Status status = STATUS_OK;
    Cuda *cuda = cuda_of(backend);
    const char *why = "";
    HeadPlan *plan = mem_alloc_array(1, sizeof *plan);
    if (!plan) FAIL(ERR_MEMORY, "no memory for an attention");
    if (can_fuse(shape, backward)) {
        status = head_fused_create(cuda, shape, operands, backward, &plan->fused);
        if (status == ERR_UNSUPPORTED) {
            why = ", no fused engine";
        } else {
            TRY(status);
        }
    }
    if (plan->fused) {
        out->workspace_bytes = head_fused_workspace(plan->fused, operands);
        snprintf(plan->detail, sizeof plan->detail, "fused: %s", head_fused_name(plan->fused));
    } else {
        TRY(head_composed_create(cuda, shape, operands, backward, &plan->composed));
        out->workspace_bytes = head_composed_workspace(plan->composed, operands);
        snprintf(plan->detail, sizeof plan->detail, "composed%s: %s", why, head_composed_name(plan->composed));
    }
    out->state = plan;
    out->detail = plan->detail;
    return STATUS_OK;
fail:
    head_release(plan);
    return status;
}

Status head_run(const KernelCall *call, const HeadOperands *operands)
{
    const HeadPlan *plan = call->state;
    return plan->fused ? head_fused_run(plan->fused, operands, call->workspace)
                       : head_composed_run(plan->composed, operands, call->workspace);
}
