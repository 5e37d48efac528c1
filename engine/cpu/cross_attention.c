/* CROSS_ATTENTION: q (N,T,heads,d), k and v (N,S,heads,d), key_mask (N,S), bias (heads,T,S). */
#include "engine/cpu/attention_head.h"

static HeadRows rows_of(const Tensor *t, const Op *op, void *data, bool add)
{
    const int64_t heads = op->attr.attention.heads, d = op->attr.attention.head_dim;
    return (HeadRows){data, t->shape.dim[1] * heads * d, heads * d, d, add};
}

static Status prepare(Backend *backend, const Graph *graph, const Op *op, bool backward, Prepared *out)
{
    const Tensor *q = cpu_operand(graph, op->in[0]), *k = cpu_operand(graph, op->in[1]);
    const HeadShape shape = {q->shape.dim[0], op->attr.attention.heads, op->attr.attention.head_dim,
                             q->shape.dim[1], k->shape.dim[1],          op->attr.attention.scale,
                             q->dtype};
    return head_prepare(cpu_of(backend), &shape, backward, out);
}

static Status cross_attention_prepare(Backend *backend, const Graph *graph, const Op *op, Prepared *out)
{
    return prepare(backend, graph, op, false, out);
}

static Status cross_attention_grad_prepare(Backend *backend, const Graph *graph, const Op *op, Prepared *out)
{
    return prepare(backend, graph, op, true, out);
}

static HeadOperands read_operands(const KernelCall *call)
{
    HeadOperands o = {.q = rows_of(cpu_in(call, 0), call->op, call->in[0], false)};
    o.mask = call->in[3];
    o.masked_keys = cpu_in(call, 1)->shape.dim[1];
    o.k[1] = rows_of(cpu_in(call, 1), call->op, call->in[1], false);
    o.v[1] = rows_of(cpu_in(call, 2), call->op, call->in[2], false);
    return o;
}

static Status cross_attention_run(const KernelCall *call)
{
    HeadOperands o = read_operands(call);
    o.bias = call->in[4];
    o.y = rows_of(cpu_out(call, 0), call->op, call->out[0], false);
    o.lse = call->out[1];
    return head_forward(call, &o);
}

/* in q, k, v, [key_mask], y, lse, dy; out dq, dk, dv */
static Status cross_attention_grad_run(const KernelCall *call)
{
    HeadOperands o = read_operands(call);
    o.y = rows_of(cpu_in(call, 4), call->op, call->in[4], false);
    o.lse = call->in[5];
    o.dy = rows_of(cpu_in(call, 6), call->op, call->in[6], false);
    o.dq = rows_of(cpu_in(call, 0), call->op, call->out[0], cpu_adds(call, 0));
    o.dk[1] = rows_of(cpu_in(call, 1), call->op, call->out[1], cpu_adds(call, 1));
    o.dv[1] = rows_of(cpu_in(call, 2), call->op, call->out[2], cpu_adds(call, 2));
    return head_backward(call, &o);
}

const Kernel cpu_kernel_CROSS_ATTENTION = {
    .prepare = cross_attention_prepare, .run = cross_attention_run, .release = head_release};
const Kernel cpu_kernel_CROSS_ATTENTION_GRAD = {
    .prepare = cross_attention_grad_prepare, .run = cross_attention_grad_run, .release = head_release};
