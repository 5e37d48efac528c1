/* ATTENTION: qkv (N,T,heads,[q|k|v],d) and context (N,S,heads,[k|v],d); keys are [context ; self]. */
#include "engine/cuda/attention_head.h"

/* Both directions find their first three inputs in the same places. `in` is NULL while preparing. */
static HeadOperands operands_of(const Graph *graph, const Op *op, void *const *in)
{
    const Tensor *qkv = cuda_operand(graph, op->in[0]), *context = cuda_operand(graph, op->in[1]);
    void *qkv_data = in ? in[0] : NULL, *context_data = in ? in[1] : NULL;
    return (HeadOperands){.q = head_rows(qkv, qkv_data, op, 3, 0),
                          .k = {head_rows(context, context_data, op, 2, 0), head_rows(qkv, qkv_data, op, 3, 1)},
                          .v = {head_rows(context, context_data, op, 2, 1), head_rows(qkv, qkv_data, op, 3, 2)},
                          .mask = in ? in[2] : NULL};
}

static HeadOperands forward_operands(const Graph *graph, const Op *op, void *const *in, void *const *out)
{
    HeadOperands o = operands_of(graph, op, in);
    o.y = head_rows(cuda_operand(graph, op->out[0]), out ? out[0] : NULL, op, 1, 0);
    o.lse = out ? out[1] : NULL;
    return o;
}

/* in qkv, [context], [context_mask], y, lse, dy; out dqkv, [dcontext] */
static HeadOperands backward_operands(const Graph *graph, const Op *op, void *const *in, void *const *out,
                                      uint32_t accumulate)
{
    const Tensor *dqkv = cuda_operand(graph, op->out[0]), *dcontext = cuda_operand(graph, op->out[1]);
    void *dqkv_data = out ? out[0] : NULL, *dcontext_data = out ? out[1] : NULL;
    const bool add = accumulate & 1u, add_context = accumulate >> 1 & 1u;
    HeadOperands o = operands_of(graph, op, in);
    o.y = head_rows(cuda_operand(graph, op->in[3]), in ? in[3] : NULL, op, 1, 0);
    o.lse = in ? in[4] : NULL;
    o.dy = head_rows(cuda_operand(graph, op->in[5]), in ? in[5] : NULL, op, 1, 0);
    o.dq = (HeadOutput){head_rows(dqkv, dqkv_data, op, 3, 0), add};
    o.dk[VISIBLE] = (HeadOutput){head_rows(dqkv, dqkv_data, op, 3, 1), add};
    o.dv[VISIBLE] = (HeadOutput){head_rows(dqkv, dqkv_data, op, 3, 2), add};
    o.dk[MASKABLE] = (HeadOutput){head_rows(dcontext, dcontext_data, op, 2, 0), add_context};
    o.dv[MASKABLE] = (HeadOutput){head_rows(dcontext, dcontext_data, op, 2, 1), add_context};
    return o;
}

static HeadShape shape_of(const Graph *graph, const Op *op)
{
    const Tensor *qkv = cuda_operand(graph, op->in[0]), *context = cuda_operand(graph, op->in[1]);
    const int64_t rows = qkv->shape.dim[1];
    return (HeadShape){.samples = qkv->shape.dim[0],
                       .heads = op->attr.attention.heads,
                       .d = op->attr.attention.head_dim,
                       .queries = rows,
                       .keys = {context ? context->shape.dim[1] : 0, rows},
                       .scale = op->attr.attention.scale,
                       .type = qkv->dtype,
                       .masked = op->in[2] != TENSOR_NONE};
}

static Status attention_prepare(Backend *backend, const Graph *graph, const Op *op, Prepared *out)
{
    const HeadShape shape = shape_of(graph, op);
    const HeadOperands o = forward_operands(graph, op, NULL, NULL);
    return head_prepare(backend, &shape, &o, false, out);
}

static Status attention_run(const KernelCall *call)
{
    const HeadOperands o = forward_operands(call->graph, call->op, call->in, call->out);
    return head_run(call, &o);
}

static Status attention_grad_prepare(Backend *backend, const Graph *graph, const Op *op, Prepared *out)
{
    const HeadShape shape = shape_of(graph, op);
    const HeadOperands o = backward_operands(graph, op, NULL, NULL, op->accumulate);
    return head_prepare(backend, &shape, &o, true, out);
}

static Status attention_grad_run(const KernelCall *call)
{
    const HeadOperands o = backward_operands(call->graph, call->op, call->in, call->out, call->accumulate);
    return head_run(call, &o);
}

const Kernel cuda_kernel_ATTENTION = {.prepare = attention_prepare, .run = attention_run, .release = head_release};
const Kernel cuda_kernel_ATTENTION_GRAD = {
    .prepare = attention_grad_prepare, .run = attention_grad_run, .release = head_release};
