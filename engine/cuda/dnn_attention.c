/* Fused attention: forward as cuDNN's one operation, its gradient as the operations of which cuDNN knows the pattern
 * (FlashAttention-2, Dao 2023; the graph is cudnn-frontend's, node/scaled_dot_product_flash_attention.h).
 *
 *   p = exp(scale q k^T - lse)                 (T,S), fp32; keys past a sample's length: 0
 *   dv = p^T dy
 *   ds = scale p (dy v^T - sum over d of dy y)
 *   dk = ds^T q,   dq = ds k
 *
 * lse is the natural log: the gradient's pattern takes e to the power of the scaled scores less lse. */
#include <math.h>
#include <stdio.h>

#include "engine/cuda/cuda.h"
#include "engine/cuda/dnn_inside.h"

enum { Q = 1, K, V, OUT, LSE, SCALE, D_OUT, D_Q, D_K, D_V, ONE, D_Q_SUM, ROW_SUM, ROWS, KEYS, HIDDEN };

/* Shapes of the parts, as (N,heads,rows,columns). */
typedef struct Parts {
    DnnDims q, k, kt, y, rows, scores, scores_t;
    DnnDims q_at, k_at, kt_at, y_at, dq_at, rows_at, scores_at, scores_t_at; /* strides */
} Parts;

static Parts parts_of(const DnnAttentionSpec *s)
{
    const int64_t n = s->n, h = s->heads, t = s->t, k = s->s, d = s->d;
    return (Parts){
        .q = DNN_DIMS(n, h, t, d),
        .k = DNN_DIMS(n, h, k, d),
        .kt = DNN_DIMS(n, h, d, k),
        .y = DNN_DIMS(n, h, t, d),
        .rows = DNN_DIMS(n, h, t, 1),
        .scores = DNN_DIMS(n, h, t, k),
        .scores_t = DNN_DIMS(n, h, k, t),
        .q_at = DNN_DIMS(s->q_batch, s->q_head, s->q_row, 1),
        .k_at = DNN_DIMS(s->k_batch, s->k_head, s->k_row, 1),
        .kt_at = DNN_DIMS(s->k_batch, s->k_head, 1, s->k_row),
        .y_at = DNN_DIMS(s->y_batch, s->y_head, s->y_row, 1),
        .dq_at = DNN_DIMS(s->dq_batch, s->dq_head, s->dq_row, 1),
        .rows_at = DNN_DIMS(h * t, t, 1, 1),
        .scores_at = DNN_DIMS(h * t * k, t * k, k, 1),
        .scores_t_at = DNN_DIMS(h * t * k, t * k, 1, k),
    };
}

static const cudnnDataType_t half = CUDNN_DATA_BFLOAT16, single = CUDNN_DATA_FLOAT;

static Status add_forward(DnnPlan *plan, const DnnAttentionSpec *s)
{
    const Parts p = parts_of(s);
    DnnGraph graph = {0}, *g = &graph;
    DnnDesc q = dnn_tensor(g, Q, half, p.q, p.q_at), k = dnn_tensor(g, K, half, p.k, p.k_at);
    DnnDesc v = dnn_tensor(g, V, half, p.k, p.k_at), y = dnn_tensor(g, OUT, half, p.y, p.y_at);
    DnnDesc lse = dnn_tensor(g, LSE, single, p.rows, p.rows_at), scale = dnn_scalar(g, SCALE, s->scale);
    DnnDesc rows = s->lengths ? dnn_counts(g, ROWS, s->n, (int32_t)s->t) : NULL;
    DnnDesc keys = s->lengths ? dnn_counts(g, KEYS, s->n, (int32_t)s->s) : NULL;
    DnnDesc op = dnn_begin(g, CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC, q);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC, k);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC, v);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC, y);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_SDPA_FWD_STATSDESC, lse);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC, scale);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_SDPA_FWD_SEQ_LEN_QDESC, rows);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_SDPA_FWD_SEQ_LEN_KVDESC, keys);
    dnn_end(g, op);
    return dnn_plan_add(plan, g, false);
}

/* ---- the gradient ---- */

typedef struct Gradient {
    DnnGraph *g;
    const Parts *p;
    DnnDesc q, kt, vt, y, lse, scale, dy, rows, keys;
} Gradient;

static DnnDesc scores(const Gradient *b, cudnnDataType_t type)
{
    return dnn_tensor(b->g, 0, type, b->p->scores, b->p->scores_at);
}

static DnnDesc scores_by(const Gradient *b, cudnnPointwiseMode_t mode, DnnDesc x, DnnDesc other, cudnnDataType_t type)
{
    DnnDesc y = scores(b, type);
    dnn_pointwise(b->g, mode, x, other, y);
    return y;
}

static DnnDesc transposed(const Gradient *b, DnnDesc x)
{
    DnnDesc y = dnn_tensor(b->g, 0, half, b->p->scores_t, b->p->scores_t_at);
    dnn_reshape(b->g, x, y);
    return y;
}

/* rows (N,heads,T,1): sum over d of dy y */
static DnnDesc row_sums(const Gradient *b)
{
    const Parts *p = b->p;
    const DnnDims strides =
        DNN_DIMS(p->q.dim[1] * p->q.dim[2] * p->q.dim[3], p->q.dim[2] * p->q.dim[3], p->q.dim[1] * p->q.dim[3], 1);
    DnnDesc product = dnn_tensor(b->g, 0, single, p->y, strides);
    DnnDesc sum = dnn_tensor(b->g, 0, single, p->rows, p->rows_at);
    DnnDesc out = dnn_tensor(b->g, ROW_SUM, single, p->rows, p->rows_at);
    dnn_pointwise(b->g, CUDNN_POINTWISE_MUL, b->dy, b->y, product);
    dnn_sum(b->g, product, sum);
    /* Where dropout would scale; the pattern wants it. */
    dnn_pointwise(b->g, CUDNN_POINTWISE_MUL, sum, dnn_scalar(b->g, ONE, 1), out);
    return out;
}

/* x where both its row and its key are below their counts, else -infinity. */
static DnnDesc hide(const Gradient *b, DnnDesc x)
{
    const cudnnDataType_t count = CUDNN_DATA_INT32, flag = CUDNN_DATA_BOOLEAN;
    DnnDesc row = scores(b, count), key = scores(b, count);
    DnnDesc row_ok = scores(b, flag), key_ok = scores(b, flag), both = scores(b, flag), out = scores(b, single);
    const DnnPointwise steps[] = {
        {CUDNN_POINTWISE_GEN_INDEX, count, 2, x, NULL, NULL, row},
        {CUDNN_POINTWISE_GEN_INDEX, count, 3, x, NULL, NULL, key},
        {CUDNN_POINTWISE_CMP_LT, flag, -1, row, b->rows, NULL, row_ok},
        {CUDNN_POINTWISE_CMP_LT, flag, -1, key, b->keys, NULL, key_ok},
        {CUDNN_POINTWISE_LOGICAL_AND, flag, -1, row_ok, key_ok, NULL, both},
        {CUDNN_POINTWISE_BINARY_SELECT, single, -1, x, dnn_scalar(b->g, HIDDEN, -INFINITY), both, out}};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) dnn_pointwise_with(b->g, &steps[i]);
    return out;
}

/* p = exp(scale q k^T - lse) */
static DnnDesc weights(const Gradient *b)
{
    DnnDesc product = scores(b, single);
    dnn_matmul(b->g, &(DnnMatmul){.a = b->q, .b = b->kt, .c = product, .m = b->rows, .n = b->keys});
    DnnDesc x = scores_by(b, CUDNN_POINTWISE_MUL, product, b->scale, single);
    if (b->keys) x = hide(b, x);
    x = scores_by(b, CUDNN_POINTWISE_SUB, x, b->lse, single);
    return scores_by(b, CUDNN_POINTWISE_EXP, x, NULL, single);
}

/* ds = scale p (dy v^T - rows), in bf16 */
static DnnDesc score_gradient(const Gradient *b, DnnDesc weight, DnnDesc sums)
{
    DnnDesc product = scores(b, single);
    dnn_matmul(b->g, &(DnnMatmul){.a = b->dy, .b = b->vt, .c = product, .m = b->rows, .n = b->keys});
    DnnDesc x = scores_by(b, CUDNN_POINTWISE_SUB, product, sums, single);
    x = scores_by(b, CUDNN_POINTWISE_MUL, x, weight, single);
    return scores_by(b, CUDNN_POINTWISE_MUL, x, b->scale, half);
}

/* dq = ds k. Through an fp32 accumulator many blocks add to it at once, in an order that differs from run to run;
 * without one the engine keeps all of ds in its workspace and sums in order, for a few samples at a time. */
static void query_gradient(const Gradient *b, DnnDesc ds, bool deterministic)
{
    const Parts *p = b->p;
    const int64_t h = p->q.dim[1], t = p->q.dim[2], d = p->q.dim[3];
    DnnDesc k = dnn_tensor(b->g, 0, half, p->k, p->k_at), dq = dnn_tensor(b->g, D_Q, half, p->q, p->dq_at);
    dnn_reshape(b->g, b->kt, k);
    DnnDesc to = deterministic ? dq : dnn_tensor(b->g, D_Q_SUM, single, p->q, DNN_DIMS(h * t * d, t * d, d, 1));
    dnn_matmul(b->g, &(DnnMatmul){.a = ds, .b = k, .c = to, .m = b->rows, .k = b->keys});
    if (!deterministic) dnn_pointwise(b->g, CUDNN_POINTWISE_IDENTITY, to, NULL, dq);
}

static Status add_gradient(DnnPlan *plan, const DnnAttentionSpec *s)
{
    const Parts p = parts_of(s);
    DnnGraph graph = {0}, *g = &graph;
    const Gradient b = {.g = g,
                        .p = &p,
                        .q = dnn_tensor(g, Q, half, p.q, p.q_at),
                        .kt = dnn_tensor(g, K, half, p.kt, p.kt_at),
                        .vt = dnn_tensor(g, V, half, p.kt, p.kt_at),
                        .y = dnn_tensor(g, OUT, half, p.y, p.y_at),
                        .lse = dnn_tensor(g, LSE, single, p.rows, p.rows_at),
                        .scale = dnn_scalar(g, SCALE, s->scale),
                        .dy = dnn_tensor(g, D_OUT, half, p.y, p.y_at),
                        .rows = s->lengths ? dnn_counts(g, ROWS, s->n, (int32_t)s->t) : NULL,
                        .keys = s->lengths ? dnn_counts(g, KEYS, s->n, (int32_t)s->s) : NULL};
    DnnDesc dk = dnn_tensor(g, D_K, half, p.k, p.k_at), dv = dnn_tensor(g, D_V, half, p.k, p.k_at);
    DnnDesc sums = row_sums(&b), weight = weights(&b);
    dnn_matmul(g, &(DnnMatmul){.a = transposed(&b, weight), .b = b.dy, .c = dv, .m = b.keys, .k = b.rows});
    DnnDesc ds = score_gradient(&b, weight, sums);
    dnn_matmul(g, &(DnnMatmul){.a = transposed(&b, ds), .b = b.q, .c = dk, .m = b.keys, .k = b.rows});
    query_gradient(&b, ds, plan->dnn->deterministic);
    return dnn_plan_add(plan, g, false);
}

/* ---- plans ---- */

static size_t aligned(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

static size_t row_sums_bytes(const DnnAttentionSpec *s)
{
    return aligned((size_t)(s->n * s->heads * s->t) * sizeof(float));
}
static size_t dq_sum_bytes(const DnnAttentionSpec *s)
{
    return aligned((size_t)(s->n * s->heads * s->t * s->d) * sizeof(float));
}

/* The fewest equal slices of the batch of which each one's ds fits into what a plan may take; or if none does, the
 * most. Each slice's lse must be aligned, too: other operands have rows that are. */
static int64_t slices_of(const DnnAttentionSpec *s)
{
    static const double limit = 512e6;
    const double all = (double)s->n * (double)s->heads * (double)s->t * (double)s->s * 2;
    int64_t best = 1;
    for (int64_t slices = 2; slices <= s->n && all > limit * (double)best; slices++) {
        const int64_t lse_bytes = s->n / slices * s->heads * s->t * (int64_t)sizeof(float);
        if (s->n % slices == 0 && lse_bytes % DNN_ALIGNMENT == 0) best = slices;
    }
    return best;
}

static Status create_gradient(DnnPlan *plan)
{
    Status status = STATUS_OK;
    DnnAttentionSpec *s = &plan->attention;
    char design[64] = "attention grad";
    const bool deterministic = plan->dnn->deterministic;
    if (deterministic) {
        plan->slices = slices_of(s);
        s->n /= plan->slices;
        snprintf(design, sizeof design, "attention grad, in order, %lld at once", (long long)s->n);
    }
    TRY(add_gradient(plan, s));
    dnn_plan_finish(plan, design, row_sums_bytes(s) + (deterministic ? 0 : dq_sum_bytes(s)));
fail:
    return status;
}

Status dnn_attention_create(Dnn *dnn, const DnnAttentionSpec *s, bool gradient, DnnPlan **out)
{
    Status status = STATUS_OK;
    DnnPlan *plan = NULL;
    if (gradient && s->s < 2)
        FAIL(ERR_UNSUPPORTED, "cuDNN's gradient wants two keys at least"); /* it has a plan, though */
    if (!s->lengths && dnn_wants_lengths(gradient, s->t, s->s)) FAIL(ERR_INTERNAL, "lengths are wanted");
    TRY(dnn_plan_create(dnn, &plan));
    plan->attention = *s;
    plan->gradient = gradient;
    plan->slices = 1;
    if (gradient) {
        TRY(create_gradient(plan));
    } else {
        TRY(add_forward(plan, s));
        dnn_plan_finish(plan, "attention", 0);
    }
    *out = plan;
    return STATUS_OK;
fail:
    status_prefix(
        "%s of %lldx%lld heads, %lld rows, %lld keys of %lld: ", gradient ? "gradient of attention" : "attention",
        (long long)s->n, (long long)s->heads, (long long)s->t, (long long)s->s, (long long)s->d);
    dnn_plan_free(plan);
    return status;
}

/* Operands of slice i: i times n samples on. */
static const void *from(const void *memory, int64_t i, int64_t n, int64_t batch, size_t size)
{
    return memory ? (const char *)memory + (size_t)(i * n * batch) * size : NULL;
}

static Status run_slice(const DnnPlan *plan, const DnnAttentionArgs *args, int64_t i)
{
    Status status = STATUS_OK;
    const DnnAttentionSpec *s = &plan->attention;
    const float one = 1, hidden = -INFINITY;
    char *row_sum = (char *)args->workspace + plan->behind, *dq_sum = row_sum + row_sums_bytes(s);
    if (plan->gradient && !plan->dnn->deterministic)
        TRY_CUDA(cudaMemsetAsync(dq_sum, 0, dq_sum_bytes(s), plan->dnn->stream));
    const DnnBinding bindings[] = {{Q, from(args->q, i, s->n, s->q_batch, 2)},
                                   {K, from(args->k, i, s->n, s->k_batch, 2)},
                                   {V, from(args->v, i, s->n, s->k_batch, 2)},
                                   {OUT, from(args->y, i, s->n, s->y_batch, 2)},
                                   {LSE, from(args->lse, i, s->n, s->heads * s->t, 4)},
                                   {SCALE, &s->scale},
                                   {ROWS, from(args->rows, i, s->n, 1, 4)},
                                   {KEYS, from(args->lengths, i, s->n, 1, 4)},
                                   {D_OUT, from(args->dy, i, s->n, s->y_batch, 2)},
                                   {D_Q, from(args->dq, i, s->n, s->dq_batch, 2)},
                                   {D_K, from(args->dk, i, s->n, s->k_batch, 2)},
                                   {D_V, from(args->dv, i, s->n, s->k_batch, 2)},
                                   {ONE, &one},
                                   {HIDDEN, &hidden},
                                   {ROW_SUM, row_sum},
                                   {D_Q_SUM, dq_sum}};
    TRY(dnn_step_run(plan->dnn, &plan->step[0], bindings, (int32_t)(sizeof bindings / sizeof bindings[0]),
                     args->workspace));
fail:
    return status;
}

Status dnn_attention_run(const DnnPlan *plan, const DnnAttentionArgs *args)
{
    Status status = STATUS_OK;
    for (int64_t i = 0; i < plan->slices; i++) TRY(run_slice(plan, args, i));
fail:
    return status;
}
