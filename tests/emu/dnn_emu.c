/* engine/cuda/dnn.h without a device: opening, plans, and what both kinds of plans share. conv_emu.c and
 * attention_emu.c compute. */
#include "engine/cuda/dnn.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "dnn_emu.h"
#include "emu.h"

struct Dnn {
    cudaStream_t stream;
    bool plans_only;
};

enum { CONV, ATTENTION, ATTENTION_GRAD };
struct DnnPlan {
    const Dnn *dnn;
    int kind;
    DnnConvSpec conv;
    DnnAttentionSpec attention;
};

/* Garbage is written there, so that its users are seen not to share it. */
static const size_t workspace = 4096;

Status dnn_open(const DnnOptions *options, Dnn **out)
{
    Status status = STATUS_OK;
    *out = mem_alloc_array(1, sizeof **out);
    if (!*out) FAIL(ERR_MEMORY, "no memory for convolutions");
    **out = (Dnn){options->stream, options->properties != NULL};
fail:
    return status;
}

void dnn_close(Dnn *dnn)
{
    free(dnn);
}

size_t dnn_version(void)
{
    return 90000;
}

Status dnn_describe_device(Dnn *dnn, char **json)
{
    Status status = STATUS_OK;
    static const char text[] = "{\"name\": \"emulated device\"}\n";
    *json = NULL;
    if (dnn->plans_only) FAIL(ERR_UNSUPPORTED, "there is no device to describe");
    *json = mem_alloc_array(1, sizeof text);
    if (!*json) FAIL(ERR_MEMORY, "no memory for a description");
    memcpy(*json, text, sizeof text);
fail:
    return status;
}

void dnn_plan_free(DnnPlan *plan)
{
    free(plan);
}

size_t dnn_plan_workspace(const DnnPlan *plan)
{
    return workspace;
}

const char *dnn_plan_name(const DnnPlan *plan)
{
    return "emulated";
}

static Status plan_create(Dnn *dnn, int kind, DnnPlan **out)
{
    Status status = STATUS_OK;
    *out = mem_alloc_array(1, sizeof **out);
    if (!*out) FAIL(ERR_MEMORY, "no memory for a plan");
    **out = (DnnPlan){.dnn = dnn, .kind = kind};
fail:
    return status;
}

Status dnn_conv_create(Dnn *dnn, const DnnConvSpec *s, DnnPlan **out)
{
    Status status = STATUS_OK;
    const ConvAttr *a = &s->attr;
    *out = NULL;
    if ((s->h + a->pad_top + a->pad_bottom - a->kh) / a->stride + 1 != s->oh ||
        (s->w + a->pad_left + a->pad_right - a->kw) / a->stride + 1 != s->ow)
        FAIL(ERR_INTERNAL, "a convolution's shapes do not fit each other");
    if (s->type != DTYPE_F32 && s->type != DTYPE_BF16)
        FAIL(ERR_UNSUPPORTED, "a convolution in %s", dtype_name(s->type));
    if (s->kind != DNN_CONV && (s->bias || s->residual))
        FAIL(ERR_INTERNAL, "a convolution is asked for what its kind has not");
    TRY(plan_create(dnn, CONV, out));
    (*out)->conv = *s;
fail:
    return status;
}

Status dnn_attention_create(Dnn *dnn, const DnnAttentionSpec *spec, bool gradient, DnnPlan **out)
{
    Status status = STATUS_OK;
    *out = NULL;
    if (spec->n < 1 || spec->heads < 1 || spec->t < 1 || spec->s < 1 || spec->d < 1)
        FAIL(ERR_INTERNAL, "an attention of no size");
    if (gradient && (spec->s < 2 || (!spec->lengths && dnn_wants_lengths(gradient, spec->t, spec->s))))
        FAIL(ERR_INTERNAL, "a gradient of attention that cuDNN would get wrong");
    TRY(plan_create(dnn, gradient ? ATTENTION_GRAD : ATTENTION, out));
    (*out)->attention = *spec;
fail:
    return status;
}

typedef struct ConvRun {
    DnnConvSpec spec;
    DnnConvArgs args;
} ConvRun;
static void run_conv(void *closure)
{
    const ConvRun *run = closure;
    memset(run->args.workspace, 0xff, workspace);
    emu_conv(&run->spec, &run->args);
}

typedef struct AttentionRun {
    DnnAttentionSpec spec;
    DnnAttentionArgs args;
} AttentionRun;
static void run_attention(void *closure)
{
    const AttentionRun *run = closure;
    memset(run->args.workspace, 0xff, workspace);
    emu_attention(&run->spec, &run->args);
}
static void run_attention_grad(void *closure)
{
    const AttentionRun *run = closure;
    memset(run->args.workspace, 0xff, workspace);
    emu_attention_grad(&run->spec, &run->args);
}

/* Every operand that this plan reads or writes is in device memory, and aligned as cuDNN's plans are told. */
static Status check_operands(const DnnPlan *plan, const char *what, const void *const *operands, size_t count,
                             const void *scratch)
{
    Status status = STATUS_OK;
    if (plan->dnn->plans_only) FAIL(ERR_UNSUPPORTED, "there is no device to run %s on", what);
    for (size_t i = 0; i < count; i++) {
        if (!emu_is_device(operands[i])) FAIL(ERR_INTERNAL, "operand %zu of %s is not in device memory", i, what);
        if ((uintptr_t)operands[i] % 16 != 0) FAIL(ERR_INTERNAL, "operand %zu of %s is not aligned", i, what);
    }
    if (!emu_is_device(scratch) || (uintptr_t)scratch % 256 != 0)
        FAIL(ERR_INTERNAL, "the workspace of %s is missing or not aligned", what);
fail:
    return status;
}

static Status enqueue(const DnnPlan *plan, void (*work)(void *), const void *closure, size_t size)
{
    Status status = STATUS_OK;
    if (emu_enqueue(plan->dnn->stream, work, closure, size) != cudaSuccess)
        FAIL(ERR_INTERNAL, "a plan cannot be queued: %s", cudaGetErrorName(cudaPeekAtLastError()));
fail:
    return status;
}

Status dnn_conv_run(const DnnPlan *plan, const DnnConvArgs *args)
{
    Status status = STATUS_OK;
    const ConvRun run = {plan->conv, *args};
    const DnnConvSpec *s = &plan->conv;
    const void *operands[] = {args->out, s->kind == DNN_CONV_GRAD_X ? args->y : args->x,
                              s->kind == DNN_CONV_GRAD_W ? args->y : args->w, s->bias ? args->bias : args->out,
                              s->residual ? args->residual : args->out};
    if (plan->kind != CONV) FAIL(ERR_INTERNAL, "this plan is no convolution");
    TRY(check_operands(plan, "a convolution", operands, sizeof operands / sizeof *operands, args->workspace));
    TRY(enqueue(plan, run_conv, &run, sizeof run));
fail:
    return status;
}

Status dnn_attention_run(const DnnPlan *plan, const DnnAttentionArgs *args)
{
    Status status = STATUS_OK;
    const AttentionRun run = {plan->attention, *args};
    const bool gradient = plan->kind == ATTENTION_GRAD, lengths = plan->attention.lengths;
    const void *operands[] = {args->q,
                              args->k,
                              args->v,
                              args->y,
                              args->lse,
                              lengths ? (const void *)args->lengths : args->q,
                              lengths ? (const void *)args->rows : args->q,
                              gradient ? args->dy : args->q,
                              gradient ? args->dq : args->q,
                              gradient ? args->dk : args->q,
                              gradient ? args->dv : args->q};
    if (plan->kind == CONV) FAIL(ERR_INTERNAL, "this plan is no attention");
    TRY(check_operands(plan, "an attention", operands, sizeof operands / sizeof *operands, args->workspace));
    TRY(enqueue(plan, gradient ? run_attention_grad : run_attention, &run, sizeof run));
fail:
    return status;
}
