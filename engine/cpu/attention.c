/* ATTENTION: qkv (N,T,heads,[q|k|v],d) and context (N,S,heads,[k|v],d); keys are [context ; self]. */
#include "engine/cpu/attention_head.h"

static HeadRows qkv_rows(const Tensor *qkv, int64_t heads, int64_t d, void *data, int part, bool add)
{
    const int64_t pitch = heads * 3 * d;
    void *first = data ? cpu_at(data, qkv->dtype, part * d) : NULL;
    return (HeadRows){first, qkv->shape.dim[1] * pitch, pitch, 3 * d, add};
}

static HeadRows context_rows(const Tensor *context, int64_t heads, int64_t d, void *data, int part, bool add)
{
    const int64_t pitch = heads * 2 * d;
    if (!context || !data) return (HeadRows){0};
    return (HeadRows){cpu_at(data, context->dtype, part * d), context->shape.dim[1] * pitch, pitch, 2 * d, add};
}

static HeadRows y_rows(const Tensor *y, int64_t heads, int64_t d, void *data)
{
    return (HeadRows){data, y->shape.dim[1] * heads * d, heads * d, d, false};
}

static Status prepare(Backend *backend, const Graph *graph, const Op *op, bool backward, Prepared *out)
{
    const Tensor *qkv = cpu_operand(graph, op->in[0]), *context = cpu_operand(graph, op->in[1]);
    const int64_t queries = qkv->shape.dim[1];
    const HeadShape shape = {qkv->shape.dim[0],
                             op->attr.attention.heads,
                             op->attr.attention.head_dim,
                             queries,
                             queries + (context ? context->shape.dim[1] : 0),
                             op->attr.attention.scale,
                             qkv->dtype};
    return head_prepare(cpu_of(backend), &shape, backward, out);
}

static Status attention_prepare(Backend *backend, const Graph *graph, const Op *op, Prepared *out)
{
    return prepare(backend, graph, op, false, out);
}

static Status attention_grad_prepare(Backend *backend, const Graph *graph, const Op *op, Prepared *out)
{
    return prepare(backend, graph, op, true, out);
}

/* The operands that both directions read. */
static HeadOperands read_operands(const KernelCall *call)
{
    const int64_t heads = call->op->attr.attention.heads, d = call->op->attr.attention.head_dim;
    const Tensor *qkv = cpu_in(call, 0), *context = cpu_operand(call->graph, call->op->in[1]);
    HeadOperands o = {.first_keys = context ? context->shape.dim[1] : 0};
    o.mask = call->in[2];
    o.masked_keys = o.first_keys;
    o.q = qkv_rows(qkv, heads, d, call->in[0], 0, false);
    o.k[0] = context_rows(context, heads, d, call->in[1], 0, false);
    o.v[0] = context_rows(context, heads, d, call->in[1], 1, false);
    o.k[1] = qkv_rows(qkv, heads, d, call->in[0], 1, false);
    o.v[1] = qkv_rows(qkv, heads, d, call->in[0], 2, false);
    return o;
}

static Status attention_run(const KernelCall *call)
{
    const int64_t heads = call->op->attr.attention.heads, d = call->op->attr.attention.head_dim;
    HeadOperands o = read_operands(call);
    o.y = y_rows(cpu_out(call, 0), heads, d, call->out[0]);
    o.lse = call->out[1];
    return head_forward(call, &o);
}

/* in qkv, [context], [context_mask], y, lse, dy; out dqkv, [dcontext] */
static Status attention_grad_run(const KernelCall *call)
{
    const int64_t heads = call->op->attr.attention.heads, d = call->op->attr.attention.head_dim;
    const Tensor *qkv = cpu_in(call, 0), *context = cpu_operand(call->graph, call->op->in[1]);
    HeadOperands o = read_operands(call);
    o.y = y_rows(cpu_in(call, 3), heads, d, call->in[3]);
    o.lse = call->in[4];
    o.dy = y_rows(cpu_in(call, 5), heads, d, call->in[5]);
    o.dq = qkv_rows(qkv, heads, d, call->out[0], 0, cpu_adds(call, 0));
    o.dk[0] = context_rows(context, heads, d, call->out[1], 0, cpu_adds(call, 1));
    o.dv[0] = context_rows(context, heads, d, call->out[1], 1, cpu_adds(call, 1));
    o.dk[1] = qkv_rows(qkv, heads, d, call->out[0], 1, cpu_adds(call, 0));
    o.dv[1] = qkv_rows(qkv, heads, d, call->out[0], 2, cpu_adds(call, 0));
    return head_backward(call, &o);
}

const Kernel cpu_kernel_ATTENTION = {.prepare = attention_prepare, .run = attention_run, .release = head_release};
const Kernel cpu_kernel_ATTENTION_GRAD = {
    .prepare = attention_grad_prepare, .run = attention_grad_run, .release = head_release};
