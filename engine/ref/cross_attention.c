#include "engine/ref/attention_head.h"

/* q (N,T,heads,d), k and v (N,S,heads,d), key_mask (N,S), bias (heads,T,S). */
typedef struct CrossOperands {
    RefTensor q, k, v, mask, bias;
    int64_t heads;
} CrossOperands;

static HeadRow q_row(const Head *h, int64_t t)
{
    const CrossOperands *o = h->operands;
    return (HeadRow){&o->q, ((h->n * h->queries + t) * o->heads + h->head) * h->d};
}

static HeadRow k_row(const Head *h, int64_t s)
{
    const CrossOperands *o = h->operands;
    return (HeadRow){&o->k, ((h->n * h->keys + s) * o->heads + h->head) * h->d};
}

static HeadRow v_row(const Head *h, int64_t s)
{
    const CrossOperands *o = h->operands;
    return (HeadRow){&o->v, k_row(h, s).at};
}

static double mask_and_bias(const Head *h, int64_t t, int64_t s)
{
    const CrossOperands *o = h->operands;
    if (o->mask.data && ref_get_int(&o->mask, h->n * h->keys + s) == 0) return -INFINITY;
    return ref_get(&o->bias, (h->head * h->queries + t) * h->keys + s);
}

static Head head_of(const KernelCall *call, const CrossOperands *o)
{
    return (Head){.queries = o->q.shape.dim[1],
                  .keys = o->k.shape.dim[1],
                  .d = call->op->attr.attention.head_dim,
                  .scale = (double)call->op->attr.attention.scale,
                  .operands = o,
                  .q = q_row,
                  .k = k_row,
                  .v = v_row,
                  .bias = o->mask.data || o->bias.data ? mask_and_bias : NULL};
}

static Status cross_attention_prepare(Backend *backend, const Graph *graph, const Op *op, Prepared *out)
{
    out->workspace_bytes = (size_t)graph_tensor(graph, op->in[1])->shape.dim[1] * sizeof(double);
    return STATUS_OK;
}

static Status cross_attention_run(const KernelCall *call)
{
    const CrossOperands o = {ref_in(call, 0),          ref_in(call, 1),          ref_in(call, 2),
                             ref_in_optional(call, 3), ref_in_optional(call, 4), call->op->attr.attention.heads};
    const RefTensor y = ref_out(call, 0), lse = ref_out(call, 1);
    ref_heads_forward(head_of(call, &o), o.q.shape.dim[0], o.heads, &y, &lse, call->workspace);
    return STATUS_OK;
}

static Status cross_attention_grad_prepare(Backend *backend, const Graph *graph, const Op *op, Prepared *out)
{
    const int64_t keys = graph_tensor(graph, op->in[1])->shape.dim[1];
    out->workspace_bytes = ref_heads_backward_bytes(keys, op->attr.attention.head_dim);
    return STATUS_OK;
}

static Status cross_attention_grad_run(const KernelCall *call)
{
    const CrossOperands o = {.q = ref_in(call, 0),
                             .k = ref_in(call, 1),
                             .v = ref_in(call, 2),
                             .mask = ref_in_optional(call, 3),
                             .heads = call->op->attr.attention.heads};
    const RefTensor y = ref_in(call, 4), lse = ref_in(call, 5), dy = ref_in(call, 6);
    const CrossOperands gradients = {
        .q = ref_out(call, 0), .k = ref_out(call, 1), .v = ref_out(call, 2), .heads = o.heads};
    const HeadGrad grad = {&y, &lse, &dy, &gradients, call->workspace};
    ref_heads_backward(head_of(call, &o), o.q.shape.dim[0], o.heads, &grad);
    return STATUS_OK;
}

const Kernel ref_kernel_CROSS_ATTENTION = {.prepare = cross_attention_prepare, .run = cross_attention_run};
const Kernel ref_kernel_CROSS_ATTENTION_GRAD = {.prepare = cross_attention_grad_prepare,
                                                .run = cross_attention_grad_run};
