#include "engine/cpu/attention_head.h"

#include <math.h>
#include <stdlib.h>

#include "base/arena.h"
#include "engine/cpu/onednn.h"

enum {
    PRODUCT_SCORES,   /* scores (rows, keys) = a (rows, d) b (keys, d)^T: of q and k, and of dy and v */
    PRODUCT_ROWS,     /* (rows, d) = p (rows, keys) v (keys, d), or ds k */
    PRODUCT_KEYS,     /* (keys, d) = p (rows, keys)^T dy (rows, d), or ds^T q */
    PRODUCT_KEYS_ADD, /* the same, added */
    PRODUCTS
};

/* Queries come in blocks of one size and a last one that may be smaller; each size has its own primitives. */
enum { SIZE_WHOLE, SIZE_LAST, SIZES };

typedef struct HeadPlan {
    const Cpu *cpu;
    HeadShape shape;
    bool backward;
    Dtype type;     /* what the products compute in: BF16 or F32 */
    int64_t block;  /* queries */
    int64_t blocks; /* in a head */
    size_t scratchpad;
    DnnPrimitive *product[SIZES][PRODUCTS];
} HeadPlan;

/* A thread's part of the workspace. */
typedef struct HeadScratch {
    void *scratchpad;
    void *k, *v;        /* (keys, d) */
    void *q, *dy;       /* (block, d) */
    float *scores, *dp; /* (block, keys) */
    void *p, *ds;       /* the same in the products' type; `scores` and `dp` themselves when that is F32 */
    float *rows;        /* (block, d) */
    float *dk, *dv;     /* (keys, d) */
    float *inverse;     /* (block): 1 / sum of p */
} HeadScratch;

static HeadScratch scratch_carve(const HeadPlan *plan, Carver *carver)
{
    const int64_t d = plan->shape.d, keys = plan->shape.keys, block = plan->block;
    const size_t size = dtype_size(plan->type);
    HeadScratch s = {0};
    s.scratchpad = carve(carver, (int64_t)plan->scratchpad, 1);
    s.k = carve(carver, keys * d, size);
    s.v = carve(carver, keys * d, size);
    s.q = carve(carver, block * d, size);
    s.scores = carve_floats(carver, block * keys);
    s.p = plan->type == DTYPE_F32 ? s.scores : carve(carver, block * keys, size);
    s.rows = carve_floats(carver, block * d);
    s.inverse = carve_floats(carver, block);
    if (plan->backward) {
        s.dy = carve(carver, block * d, size);
        s.dp = carve_floats(carver, block * keys);
        s.ds = plan->type == DTYPE_F32 ? s.dp : carve(carver, block * keys, size);
        s.dk = carve_floats(carver, keys * d);
        s.dv = carve_floats(carver, keys * d);
    }
    return s;
}

static size_t scratch_bytes(const HeadPlan *plan)
{
    Carver carver = {0};
    scratch_carve(plan, &carver);
    return carver.used;
}

static HeadScratch scratch_of(const HeadPlan *plan, void *workspace, int32_t thread)
{
    Carver carver = {.base = (char *)workspace + (size_t)thread * scratch_bytes(plan)};
    return scratch_carve(plan, &carver);
}

static DnnTensor matrix(Dtype type, int64_t rows, int64_t columns, bool transposed)
{
    DnnTensor t = {type == DTYPE_BF16 ? DNN_BF16 : DNN_F32, 2, {rows, columns}, {columns, 1}};
    if (transposed) {
        t.stride[0] = 1;
        t.stride[1] = rows;
    }
    return t;
}

static Status create_product(HeadPlan *plan, int size, int product, int64_t rows)
{
    Status status = STATUS_OK;
    const int64_t d = plan->shape.d, keys = plan->shape.keys;
    DnnSpec spec = {.kind = DNN_MATMUL, .lanes = plan->cpu->threads, .accumulate = product == PRODUCT_KEYS_ADD};
    switch (product) {
    case PRODUCT_SCORES:
        spec.src = matrix(plan->type, rows, d, false);
        spec.weights = matrix(plan->type, d, keys, true);
        spec.dst = matrix(DTYPE_F32, rows, keys, false);
        break;
    case PRODUCT_ROWS:
        spec.src = matrix(plan->type, rows, keys, false);
        spec.weights = matrix(plan->type, keys, d, false);
        spec.dst = matrix(DTYPE_F32, rows, d, false);
        break;
    default:
        spec.src = matrix(plan->type, keys, rows, true);
        spec.weights = matrix(plan->type, rows, d, false);
        spec.dst = matrix(DTYPE_F32, keys, d, false);
        break;
    }
    TRY(dnn_create(&spec, &plan->product[size][product]));
    const size_t bytes = dnn_scratchpad_bytes(plan->product[size][product]);
    if (bytes > plan->scratchpad) plan->scratchpad = bytes;
fail:
    return status;
}

void head_release(void *state)
{
    HeadPlan *plan = state;
    if (!plan) return;
    for (int size = 0; size < SIZES; size++)
        for (int product = 0; product < PRODUCTS; product++) dnn_free(plan->product[size][product]);
    free(plan);
}

/* Queries a block. Scores of a block stay in the second-level cache; where not even a head's keys do, larger blocks
 * read those less often, as long as every thread has one. */
static int64_t block_of(const Cpu *cpu, const HeadShape *shape)
{
    int64_t most = 128, block = 131072 / shape->keys / 16 * 16;
    if (shape->keys * shape->d > 1 << 20) {
        const int64_t share = shape->samples * shape->heads * shape->queries / cpu->threads;
        block = share / 16 * 16;
        most = 256;
    }
    block = block < 32 ? 32 : block > most ? most : block;
    return block < shape->queries ? block : shape->queries;
}

Status head_prepare(const Cpu *cpu, const HeadShape *shape, bool backward, Prepared *out)
{
    Status status = STATUS_OK;
    HeadPlan *plan = mem_alloc_array(1, sizeof *plan);
    if (!plan) FAIL(ERR_MEMORY, "no memory for the products of an attention");
    plan->cpu = cpu;
    plan->shape = *shape;
    if (!(shape->scale > 0)) plan->shape.scale = (float)(1 / sqrt((double)shape->d));
    plan->backward = backward;
    plan->type = shape->type == DTYPE_BF16 && cpu->bf16 ? DTYPE_BF16 : DTYPE_F32;
    plan->block = block_of(cpu, shape);
    plan->blocks = (shape->queries + plan->block - 1) / plan->block;
    const int64_t last = shape->queries - (plan->blocks - 1) * plan->block;
    cpu_use_one_thread();
    for (int size = 0; size < SIZES; size++) {
        if (size == SIZE_LAST && last == plan->block) continue;
        for (int product = 0; product < PRODUCTS; product++) {
            if (!backward && product >= PRODUCT_KEYS) continue;
            TRY(create_product(plan, size, product, size == SIZE_LAST ? last : plan->block));
        }
    }
    out->state = plan;
    out->workspace_bytes = (size_t)cpu->threads * scratch_bytes(plan);
    out->detail = dnn_implementation(plan->product[SIZE_WHOLE][PRODUCT_SCORES]);
fail:
    cpu_use_threads(cpu);
    if (status != STATUS_OK) head_release(plan);
    return status;
}

/* A block of queries of one head. */
typedef struct Block {
    HeadPlan *plan;
    const HeadOperands *o;
    HeadScratch s;
    int32_t thread;
    int64_t sample, head, first, count; /* queries */
} Block;

static Status product(const Block *b, int which, const void *src, const void *weights, void *dst)
{
    const int size = b->count == b->plan->block ? SIZE_WHOLE : SIZE_LAST;
    return dnn_run(
        b->plan->product[size][which],
        &(DnnArgs){.lane = b->thread, .src = src, .weights = weights, .dst = dst, .scratchpad = b->s.scratchpad});
}

static void *rows_at(const Block *b, const HeadRows *rows, int64_t row)
{
    return cpu_at(rows->data, b->plan->shape.type,
                  b->sample * rows->sample_pitch + row * rows->row_pitch + b->head * rows->head_pitch);
}

/* `count` rows from `first` into a dense matrix of the products' type. */
static void gather(const Block *b, const HeadRows *rows, int64_t first, int64_t count, void *to)
{
    const int64_t d = b->plan->shape.d;
    b->plan->cpu->vector->copy_rows(&(CopyRows){.x = rows_at(b, rows, first),
                                                .y = to,
                                                .x_type = b->plan->shape.type,
                                                .y_type = b->plan->type,
                                                .x_pitch = rows->row_pitch,
                                                .y_pitch = d,
                                                .rows = count,
                                                .width = d,
                                                .scale = 1.0f});
}

/* The other way, from fp32; `row_scale` may be NULL. */
static void scatter(const Block *b, const float *from, const float *row_scale, const HeadRows *rows, int64_t first,
                    int64_t count)
{
    const int64_t d = b->plan->shape.d;
    if (!rows->data) return;
    b->plan->cpu->vector->copy_rows(&(CopyRows){.x = from,
                                                .y = rows_at(b, rows, first),
                                                .x_type = DTYPE_F32,
                                                .y_type = b->plan->shape.type,
                                                .x_pitch = d,
                                                .y_pitch = rows->row_pitch,
                                                .rows = count,
                                                .width = d,
                                                .scale = 1.0f,
                                                .row_scale = row_scale,
                                                .add = rows->add});
}

static void gather_keys(const Block *b, const HeadRows rows[2], void *to)
{
    const int64_t first = b->o->first_keys;
    if (first > 0) gather(b, &rows[0], 0, first, to);
    gather(b, &rows[1], 0, b->plan->shape.keys - first, cpu_at(to, b->plan->type, first * b->plan->shape.d));
}

static void scatter_keys(const Block *b, const float *from, const HeadRows rows[2])
{
    const int64_t first = b->o->first_keys;
    if (first > 0) scatter(b, from, NULL, &rows[0], 0, first);
    scatter(b, from + first * b->plan->shape.d, NULL, &rows[1], 0, b->plan->shape.keys - first);
}

static float *lse_of(const Block *b)
{
    const HeadShape *shape = &b->plan->shape;
    return b->o->lse + (b->sample * shape->heads + b->head) * shape->queries + b->first;
}

static ScoreRow score_row(const Block *b, int64_t i)
{
    const HeadShape *shape = &b->plan->shape;
    return (ScoreRow){.scores = b->s.scores + i * shape->keys,
                      .keys = shape->keys,
                      .scale = shape->scale,
                      .bias = b->o->bias ? b->o->bias + (b->head * shape->queries + b->first + i) * shape->keys : NULL,
                      .mask = b->o->mask ? b->o->mask + b->sample * b->o->masked_keys : NULL,
                      .masked = b->o->masked_keys,
                      .p = cpu_at(b->s.p, b->plan->type, i * shape->keys),
                      .p_type = b->plan->type};
}

static Status forward_block(const Block *b)
{
    Status status = STATUS_OK;
    gather(b, &b->o->q, b->first, b->count, b->s.q);
    TRY(product(b, PRODUCT_SCORES, b->s.q, b->s.k, b->s.scores));
    for (int64_t i = 0; i < b->count; i++) {
        const ScoreRow row = score_row(b, i);
        float sum, lse;
        b->plan->cpu->vector->softmax_row(&row, &sum, &lse);
        b->s.inverse[i] = sum > 0 || sum != sum ? 1.0f / sum : 0.0f;
        if (b->o->lse) lse_of(b)[i] = lse;
    }
    TRY(product(b, PRODUCT_ROWS, b->s.p, b->s.v, b->s.rows));
    scatter(b, b->s.rows, b->s.inverse, &b->o->y, b->first, b->count);
fail:
    return status;
}

/* P = exp(scale q k^T - lse);  dP = dy v^T;  dS = P (dP - delta) scale, delta = the row's dot of dy and y;
 * dq = dS k;  dk += dS^T q;  dv += P^T dy. */
static Status backward_block(const Block *b)
{
    Status status = STATUS_OK;
    const HeadShape *shape = &b->plan->shape;
    const VectorKernels *vector = b->plan->cpu->vector;
    const int keys_product = b->first == 0 ? PRODUCT_KEYS : PRODUCT_KEYS_ADD;
    gather(b, &b->o->q, b->first, b->count, b->s.q);
    gather(b, &b->o->dy, b->first, b->count, b->s.dy);
    TRY(product(b, PRODUCT_SCORES, b->s.q, b->s.k, b->s.scores));
    TRY(product(b, PRODUCT_SCORES, b->s.dy, b->s.v, b->s.dp));
    for (int64_t i = 0; i < b->count; i++) {
        const ScoreRow row = score_row(b, i);
        const float delta =
            vector->dot(rows_at(b, &b->o->dy, b->first + i), rows_at(b, &b->o->y, b->first + i), shape->type, shape->d);
        vector->softmax_grad_row(&row, lse_of(b)[i], b->s.dp + i * shape->keys, delta,
                                 cpu_at(b->s.ds, b->plan->type, i * shape->keys));
    }
    TRY(product(b, keys_product, b->s.p, b->s.dy, b->s.dv));
    TRY(product(b, keys_product, b->s.ds, b->s.q, b->s.dk));
    if (b->o->dq.data) {
        TRY(product(b, PRODUCT_ROWS, b->s.ds, b->s.k, b->s.rows));
        scatter(b, b->s.rows, NULL, &b->o->dq, b->first, b->count);
    }
fail:
    return status;
}

typedef struct Run {
    HeadPlan *plan;
    const HeadOperands *operands;
    void *workspace;
} Run;

/* Blocks [begin, end) of queries, heads and samples one after the other. */
static Status forward_share(void *context, int64_t begin, int64_t end, int32_t thread)
{
    Status status = STATUS_OK;
    const Run *run = context;
    HeadPlan *plan = run->plan;
    Block b = {plan, run->operands, scratch_of(plan, run->workspace, thread), thread, 0, 0, 0, 0};
    for (int64_t i = begin; i < end; i++) {
        const int64_t index = i / plan->blocks;
        b.sample = index / plan->shape.heads;
        b.head = index % plan->shape.heads;
        b.first = i % plan->blocks * plan->block;
        b.count = plan->shape.queries - b.first < plan->block ? plan->shape.queries - b.first : plan->block;
        if (i == begin || b.first == 0) {
            gather_keys(&b, b.o->k, b.s.k);
            gather_keys(&b, b.o->v, b.s.v);
        }
        TRY(forward_block(&b));
    }
fail:
    return status;
}

Status head_forward(const KernelCall *call, const HeadOperands *operands)
{
    HeadPlan *plan = call->state;
    Run run = {plan, operands, call->workspace};
    cpu_use_one_thread(); /* the products' number, for what runs on the calling thread */
    return cpu_parallel(plan->cpu, plan->shape.samples * plan->shape.heads * plan->blocks, 1, forward_share, &run);
}

/* Heads [begin, end): one thread has all blocks of a head, for they add to the same dk and dv. */
static Status backward_share(void *context, int64_t begin, int64_t end, int32_t thread)
{
    Status status = STATUS_OK;
    const Run *run = context;
    HeadPlan *plan = run->plan;
    Block b = {plan, run->operands, scratch_of(plan, run->workspace, thread), thread, 0, 0, 0, 0};
    for (int64_t i = begin; i < end; i++) {
        b.sample = i / plan->shape.heads;
        b.head = i % plan->shape.heads;
        gather_keys(&b, b.o->k, b.s.k);
        gather_keys(&b, b.o->v, b.s.v);
        for (b.first = 0; b.first < plan->shape.queries; b.first += plan->block) {
            b.count = plan->shape.queries - b.first < plan->block ? plan->shape.queries - b.first : plan->block;
            TRY(backward_block(&b));
        }
        scatter_keys(&b, b.s.dk, b.o->dk);
        scatter_keys(&b, b.s.dv, b.o->dv);
    }
fail:
    return status;
}

Status head_backward(const KernelCall *call, const HeadOperands *operands)
{
    HeadPlan *plan = call->state;
    Run run = {plan, operands, call->workspace};
    cpu_use_one_thread(); /* the products' number, for what runs on the calling thread */
    return cpu_parallel(plan->cpu, plan->shape.samples * plan->shape.heads, 1, backward_share, &run);
}
