#include "engine/ref/attention_head.h"

/* qkv (N,T,heads,[q|k|v],d), context (N,S,heads,[k|v],d) and its mask (N,S). */
typedef struct SelfOperands {
    RefTensor qkv, context, mask;
    int64_t heads, texts; /* S */
} SelfOperands;

static HeadRow qkv_row(const Head *h, int64_t t, int64_t part)
{
    const SelfOperands *o = h->operands;
    return (HeadRow){&o->qkv, (((h->n * h->queries + t) * o->heads + h->head) * 3 + part) * h->d};
}

static HeadRow context_row(const Head *h, int64_t s, int64_t part)
{
    const SelfOperands *o = h->operands;
    return (HeadRow){&o->context, (((h->n * o->texts + s) * o->heads + h->head) * 2 + part) * h->d};
}

static HeadRow q_row(const Head *h, int64_t t)
{
    return qkv_row(h, t, 0);
}

static HeadRow k_row(const Head *h, int64_t s)
{
    const int64_t texts = ((const SelfOperands *)h->operands)->texts;
    return s < texts ? context_row(h, s, 0) : qkv_row(h, s - texts, 1);
}

static HeadRow v_row(const Head *h, int64_t s)
{
    const int64_t texts = ((const SelfOperands *)h->operands)->texts;
    return s < texts ? context_row(h, s, 1) : qkv_row(h, s - texts, 2);
}

static double context_hidden(const Head *h, int64_t t, int64_t s)
{
    const SelfOperands *o = h->operands;
    return s < o->texts && ref_get_int(&o->mask, h->n * o->texts + s) == 0 ? -INFINITY : 0;
}

static int64_t text_rows(const Graph *graph, const Op *op)
{
    return op->in[1] == TENSOR_NONE ? 0 : graph_tensor(graph, op->in[1])->shape.dim[1];
}

static int64_t key_rows(const Graph *graph, const Op *op)
{
    return graph_tensor(graph, op->in[0])->shape.dim[1] + text_rows(graph, op);
}

static SelfOperands operands(const KernelCall *call)
{
    return (SelfOperands){ref_in(call, 0), ref_in_optional(call, 1), ref_in_optional(call, 2),
                          call->op->attr.attention.heads, text_rows(call->graph, call->op)};
}

static Head head_of(const KernelCall *call, const SelfOperands *o)
{
    return (Head){.queries = o->qkv.shape.dim[1],
                  .keys = o->qkv.shape.dim[1] + o->texts,
                  .d = call->op->attr.attention.head_dim,
                  .scale = (double)call->op->attr.attention.scale,
                  .operands = o,
                  .q = q_row,
                  .k = k_row,
                  .v = v_row,
                  .bias = o->mask.data ? context_hidden : NULL};
}

static Status attention_prepare(Backend *backend, const Graph *graph, const Op *op, Prepared *out)
{
    out->workspace_bytes = (size_t)key_rows(graph, op) * sizeof(double);
    return STATUS_OK;
}

static Status attention_run(const KernelCall *call)
{
    const SelfOperands o = operands(call);
    const RefTensor y = ref_out(call, 0), lse = ref_out(call, 1);
    ref_heads_forward(head_of(call, &o), o.qkv.shape.dim[0], o.heads, &y, &lse, call->workspace);
    return STATUS_OK;
}

static Status attention_grad_prepare(Backend *backend, const Graph *graph, const Op *op, Prepared *out)
{
    out->workspace_bytes = ref_heads_backward_bytes(key_rows(graph, op), op->attr.attention.head_dim);
    return STATUS_OK;
}

static Status attention_grad_run(const KernelCall *call)
{
    const SelfOperands o = operands(call);
    const RefTensor y = ref_in(call, 3), lse = ref_in(call, 4), dy = ref_in(call, 5);
    const SelfOperands gradients = {
        .qkv = ref_out(call, 0), .context = ref_out(call, 1), .heads = o.heads, .texts = o.texts};
    const HeadGrad grad = {&y, &lse, &dy, &gradients, call->workspace};
    ref_heads_backward(head_of(call, &o), o.qkv.shape.dim[0], o.heads, &grad);
    return STATUS_OK;
}

const Kernel ref_kernel_ATTENTION = {.prepare = attention_prepare, .run = attention_run};
const Kernel ref_kernel_ATTENTION_GRAD = {.prepare = attention_grad_prepare, .run = attention_grad_run};
