/* CROSS_ATTENTION: q (N,T,heads,d), k and v (N,S,heads,d), key_mask (N,S), bias (heads,T,S). */
#include "engine/cuda/attention_head.h"

static HeadRows rows_of(const Graph *graph, const Op *op, TensorId id, void *const *data, int i)
{
    return head_rows(cuda_operand(graph, id), data ? data[i] : NULL, op, 1, 0);
}

static HeadOperands operands_of(const Graph *graph, const Op *op, void *const *in)
{
    return (HeadOperands){.q = rows_of(graph, op, op->in[0], in, 0),
                          .k = {rows_of(graph, op, op->in[1], in, 1)},
                          .v = {rows_of(graph, op, op->in[2], in, 2)},
                          .mask = in ? in[3] : NULL};
}

static HeadOperands forward_operands(const Graph *graph, const Op *op, void *const *in, void *const *out)
{
    HeadOperands o = operands_of(graph, op, in);
    o.bias = in ? in[4] : NULL;
    o.y = rows_of(graph, op, op->out[0], out, 0);
    o.lse = out ? out[1] : NULL;
    return o;
}

/* in q, k, v, [key_mask], y, lse, dy; out dq, dk, dv */
static HeadOperands backward_operands(const Graph *graph, const Op *op, void *const *in, void *const *out,
                                      uint32_t accumulate)
{
    HeadOperands o = operands_of(graph, op, in);
    o.y = rows_of(graph, op, op->in[4], in, 4);
    o.lse = in ? in[5] : NULL;
    o.dy = rows_of(graph, op, op->in[6], in, 6);
    o.dq = (HeadOutput){rows_of(graph, op, op->out[0], out, 0), accumulate & 1u};
    o.dk[MASKABLE] = (HeadOutput){rows_of(graph, op, op->out[1], out, 1), accumulate >> 1 & 1u};
    o.dv[MASKABLE] = (HeadOutput){rows_of(graph, op, op->out[2], out, 2), accumulate >> 2 & 1u};
    return o;
}

static HeadShape shape_of(const Graph *graph, const Op *op, bool biased)
{
    const Tensor *q = cuda_operand(graph, op->in[0]), *k = cuda_operand(graph, op->in[1]);
    return (HeadShape){.samples = q->shape.dim[0],
                       .heads = op->attr.attention.heads,
                       .d = op->attr.attention.head_dim,
                       .queries = q->shape.dim[1],
                       .keys = {k->shape.dim[1], 0},
                       .scale = op->attr.attention.scale,
                       .type = q->dtype,
                       .masked = op->in[3] != TENSOR_NONE,
                       .biased = biased};
}

static Status cross_attention_prepare(Backend *backend, const Graph *graph, const Op *op, Prepared *out)
{
    const HeadShape shape = shape_of(graph, op, op->in[4] != TENSOR_NONE);
    const HeadOperands o = forward_operands(graph, op, NULL, NULL);
    return head_prepare(backend, &shape, &o, false, out);
}

static Status cross_attention_run(const KernelCall *call)
{
    const HeadOperands o = forward_operands(call->graph, call->op, call->in, call->out);
    return head_run(call, &o);
}

static Status cross_attention_grad_prepare(Backend *backend, const Graph *graph, const Op *op, Prepared *out)
{
    const HeadShape shape = shape_of(graph, op, false);
    const HeadOperands o = backward_operands(graph, op, NULL, NULL, op->accumulate);
    return head_prepare(backend, &shape, &o, true, out);
}

static Status cross_attention_grad_run(const KernelCall *call)
{
    const HeadOperands o = backward_operands(call->graph, call->op, call->in, call->out, call->accumulate);
    return head_run(call, &o);
}

const Kernel cuda_kernel_CROSS_ATTENTION = {
    .prepare = cross_attention_prepare, .run = cross_attention_run, .release = head_release};
const Kernel cuda_kernel_CROSS_ATTENTION_GRAD = {
    .prepare = cross_attention_grad_prepare, .run = cross_attention_grad_run, .release = head_release};
