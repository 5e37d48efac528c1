/* Attention as products with our softmax between them, for what cuDNN does not take: fp32, wide heads, a bias.
 *
 *   S = scale q k^T;  P = softmax(S + bias, hidden keys out);  y = P v
 *   P = exp(S - lse);  dP = dy v^T;  dS = P (dP - delta), delta = rowsum(dy y);
 *   dq = scale dS k;  dk = scale dS^T q;  dv = P^T dy        (Dao et al. 2022, "FlashAttention", appendix B.4)
 *
 * Scores are fp32 and lie in memory, so they are made in chunks: some pairs of sample and head, or, where even one
 * pair's are too many, some of its queries. With bf16 operands P and dS are rounded to bf16 for the second product. */
#include "engine/cuda/attention_head.h"

#include <stdlib.h>

#include "base/arena.h"
#include "engine/cuda/softmax_kernels.h"

/* Scores and what is made of them, of a chunk. */
#define CHUNK_BYTES ((int64_t)384 << 20)

enum {
    PRODUCT_SCORES, /* (rows,keys) = q (rows,d) k (keys,d)^T, and of dy and v */
    PRODUCT_ROWS,   /* (rows,d) = P (rows,keys) v (keys,d), or dS k */
    PRODUCT_KEYS,   /* (keys,d) = P (rows,keys)^T dy (rows,d), or dS^T q; backward only */
    PRODUCTS
};

/* Chunks are of one size, but for the last, which may be smaller and has its own products. */
enum { SIZE_WHOLE, SIZE_LAST, SIZES };

struct HeadComposed {
    Cuda *cuda;
    HeadShape shape;
    bool backward;
    bool in_place;       /* forward, one head: q, k, v and y are matrices where they lie */
    int64_t d_pitch;     /* of packed rows */
    int64_t score_pitch; /* of rows of scores */
    int64_t pairs, rows; /* of a whole chunk; rows < T only where pairs is 1 */
    size_t blas_bytes;
    BlasProduct *product[SIZES][PRODUCTS];
};

/* Matrices of all pairs of sample and head, one behind the other. */
typedef struct Matrices {
    void *data;
    int64_t pitch, stride; /* elements from row to row and from pair to pair */
} Matrices;

typedef struct Work {
    Matrices q, k, v, y, dy; /* in the operands' type */
    Matrices dq, dk, dv;     /* F32 */
    float *delta;            /* (N,heads,T) */
    float *scores, *dp;      /* (pairs,rows,score_pitch) of a chunk */
    void *p, *ds;            /* the same in the operands' type; in F32 the very same */
    void *blas;
} Work;

/* A chunk. */
typedef struct Chunk {
    int64_t first_pair, pairs, first_row, rows;
    int size;
} Chunk;

static int64_t round_up(int64_t value, int64_t to)
{
    return (value + to - 1) / to * to;
}

static Matrices carve_matrices(const HeadComposed *c, CudaCarver *carver, int64_t rows, Dtype type)
{
    const int64_t stride = rows * c->d_pitch, pairs = c->shape.samples * c->shape.heads;
    return (Matrices){cuda_carve(carver, (size_t)(pairs * stride) * dtype_size(type)), c->d_pitch, stride};
}

static Matrices matrices_at(const HeadRows *rows)
{
    return (Matrices){rows->data, rows->row, rows->sample};
}

/* The run of keys where there is just one. */
static int only_run(const HeadShape *s)
{
    return s->keys[MASKABLE] > 0 ? MASKABLE : VISIBLE;
}

static Work carve_work(const HeadComposed *c, const HeadOperands *o, CudaCarver *carver)
{
    const HeadShape *s = &c->shape;
    const int64_t keys = head_keys(s), queries = s->queries;
    const size_t scores = (size_t)(c->pairs * c->rows * c->score_pitch);
    Work w = {0};
    if (c->in_place) {
        w.q = matrices_at(&o->q);
        w.k = matrices_at(&o->k[only_run(s)]);
        w.v = matrices_at(&o->v[only_run(s)]);
        w.y = matrices_at(&o->y);
    } else {
        w.q = carve_matrices(c, carver, queries, s->type);
        w.k = carve_matrices(c, carver, keys, s->type);
        w.v = carve_matrices(c, carver, keys, s->type);
        *(c->backward ? &w.dy : &w.y) = carve_matrices(c, carver, queries, s->type);
    }
    w.scores = cuda_carve(carver, scores * sizeof(float));
    w.p = s->type == DTYPE_F32 ? w.scores : cuda_carve(carver, scores * dtype_size(s->type));
    if (c->backward) {
        w.dq = carve_matrices(c, carver, queries, DTYPE_F32);
        w.dk = carve_matrices(c, carver, keys, DTYPE_F32);
        w.dv = carve_matrices(c, carver, keys, DTYPE_F32);
        w.delta = cuda_carve(carver, (size_t)(s->samples * s->heads * queries) * sizeof(float));
        w.dp = cuda_carve(carver, scores * sizeof(float));
        w.ds = s->type == DTYPE_F32 ? w.dp : cuda_carve(carver, scores * dtype_size(s->type));
    }
    w.blas = cuda_carve(carver, c->blas_bytes);
    return w;
}

/* Chunks as equal as they can be. */
static void choose_chunks(HeadComposed *c)
{
    const int64_t size = (int64_t)dtype_size(c->shape.type), all = c->shape.samples * c->shape.heads;
    const int64_t each = (c->shape.type == DTYPE_F32 ? 4 : 4 + size) * (c->backward ? 2 : 1);
    const int64_t row = each * c->score_pitch, most_rows = CHUNK_BYTES / row > 1 ? CHUNK_BYTES / row : 1;
    c->rows = c->shape.queries;
    c->pairs = 1;
    if (most_rows < c->rows) {
        const int64_t chunks = (c->rows + most_rows - 1) / most_rows;
        c->rows = (c->rows + chunks - 1) / chunks;
        if (round_up(c->rows, 64) <= most_rows) c->rows = round_up(c->rows, 64);
    } else {
        const int64_t most = most_rows / c->rows, chunks = (all + most - 1) / most;
        c->pairs = (all + chunks - 1) / chunks;
    }
}

/* The i-th chunk; false behind the last. */
static bool chunk_at(const HeadComposed *c, int64_t i, Chunk *out)
{
    const int64_t all = c->shape.samples * c->shape.heads;
    const int64_t blocks = (c->shape.queries + c->rows - 1) / c->rows; /* of queries; 1 where pairs is not */
    Chunk chunk = {.first_pair = i / blocks * c->pairs, .first_row = i % blocks * c->rows};
    if (chunk.first_pair >= all) return false;
    chunk.pairs = all - chunk.first_pair < c->pairs ? all - chunk.first_pair : c->pairs;
    chunk.rows = c->shape.queries - chunk.first_row < c->rows ? c->shape.queries - chunk.first_row : c->rows;
    chunk.size = chunk.pairs == c->pairs && chunk.rows == c->rows ? SIZE_WHOLE : SIZE_LAST;
    *out = chunk;
    return true;
}

static BlasSpec product_spec(const HeadComposed *c, const Work *w, int product, int64_t pairs, int64_t rows)
{
    const HeadShape *s = &c->shape;
    const int64_t keys = head_keys(s), scores = rows * c->score_pitch;
    const Matrices *row_side = c->backward ? &w->dq : &w->y;
    switch (product) {
    case PRODUCT_SCORES:
        return (BlasSpec){.m = rows,
                          .n = keys,
                          .k = s->d,
                          .ab = s->type,
                          .cd = DTYPE_F32,
                          .transpose_b = true,
                          .lda = w->q.pitch,
                          .ldb = w->k.pitch,
                          .ldd = c->score_pitch,
                          .batch = pairs,
                          .stride_a = w->q.stride,
                          .stride_b = w->k.stride,
                          .stride_d = scores};
    case PRODUCT_ROWS:
        return (BlasSpec){.m = rows,
                          .n = s->d,
                          .k = keys,
                          .ab = s->type,
                          .cd = c->backward ? DTYPE_F32 : s->type,
                          .lda = c->score_pitch,
                          .ldb = w->v.pitch,
                          .ldd = row_side->pitch,
                          .batch = pairs,
                          .stride_a = scores,
                          .stride_b = w->v.stride,
                          .stride_d = row_side->stride};
    default:
        return (BlasSpec){.m = keys,
                          .n = s->d,
                          .k = rows,
                          .ab = s->type,
                          .cd = DTYPE_F32,
                          .transpose_a = true,
                          .lda = c->score_pitch,
                          .ldb = w->q.pitch,
                          .ldd = w->dk.pitch,
                          .batch = pairs,
                          .stride_a = scores,
                          .stride_b = w->q.stride,
                          .stride_d = w->dk.stride,
                          .add = c->rows < s->queries};
    }
}

static Status create_products(HeadComposed *c, const HeadOperands *o)
{
    Status status = STATUS_OK;
    CudaCarver carver = {0};
    const Work w = carve_work(c, o, &carver);
    Chunk chunk;
    for (int64_t i = 0; chunk_at(c, i, &chunk); i++) {
        for (int product = 0; product < (c->backward ? PRODUCTS : PRODUCT_KEYS); product++) {
            BlasProduct **made = &c->product[chunk.size][product];
            if (*made) continue;
            const BlasSpec spec = product_spec(c, &w, product, chunk.pairs, chunk.rows);
            TRY(blas_product_create(c->cuda->blas, &spec, made));
            const size_t bytes = blas_product_workspace(*made);
            if (bytes > c->blas_bytes) c->blas_bytes = bytes;
        }
    }
fail:
    return status;
}

/* Whether products can read rows where they lie, at addresses and pitches of 16 bytes. */
static bool is_matrix(const HeadShape *s, const HeadRows *rows)
{
    const int64_t lanes = 16 / (int64_t)dtype_size(s->type);
    return s->d % lanes == 0 && rows->row % lanes == 0 && rows->sample % lanes == 0;
}

Status head_composed_create(Cuda *cuda, const HeadShape *shape, const HeadOperands *o, bool backward,
                            HeadComposed **out)
{
    Status status = STATUS_OK;
    HeadComposed *c = mem_alloc_array(1, sizeof *c);
    if (!c) FAIL(ERR_MEMORY, "no memory for an attention");
    *c = (HeadComposed){.cuda = cuda, .shape = *shape, .backward = backward};
    c->d_pitch = round_up(shape->d, 8);
    c->score_pitch = round_up(head_keys(shape), 8);
    c->in_place = !backward && shape->heads == 1 && (shape->keys[MASKABLE] == 0 || shape->keys[VISIBLE] == 0) &&
                  is_matrix(shape, &o->q) && is_matrix(shape, &o->k[only_run(shape)]) && is_matrix(shape, &o->y);
    choose_chunks(c);
    TRY(create_products(c, o));
    *out = c;
    return STATUS_OK;
fail:
    head_composed_free(c);
    return status;
}

void head_composed_free(HeadComposed *c)
{
    if (!c) return;
    for (int size = 0; size < SIZES; size++)
        for (int product = 0; product < PRODUCTS; product++) blas_product_free(c->product[size][product]);
    free(c);
}

size_t head_composed_workspace(const HeadComposed *c, const HeadOperands *o)
{
    CudaCarver carver = {0};
    carve_work(c, o, &carver);
    return carver.used;
}

const char *head_composed_name(const HeadComposed *c)
{
    return blas_product_name(c->product[SIZE_WHOLE][PRODUCT_SCORES]);
}

/* Packed matrices as rows of heads, from row `first` on. */
static HeadRows packed_rows(const HeadComposed *c, const Matrices *m, Dtype type, int64_t first)
{
    return (HeadRows){head_at(m->data, type, first * m->pitch), c->shape.heads * m->stride, m->pitch, m->stride};
}

static HeadMoves no_moves(const HeadComposed *c, Dtype from)
{
    const HeadShape *s = &c->shape;
    return (HeadMoves){.samples = s->samples, .heads = s->heads, .d = s->d, .from = from, .to = s->type};
}

static Status pack(const HeadComposed *c, const HeadOperands *o, const Work *w)
{
    Status status = STATUS_OK;
    const HeadShape *s = &c->shape;
    HeadMoves moves = no_moves(c, s->type);
    head_move_add(&moves, (HeadMove){o->q, packed_rows(c, &w->q, s->type, 0), s->queries, NULL, false});
    if (c->backward)
        head_move_add(&moves, (HeadMove){o->dy, packed_rows(c, &w->dy, s->type, 0), s->queries, NULL, false});
    for (int run = 0; run < KEY_RUNS; run++) {
        const int64_t first = run == MASKABLE ? 0 : s->keys[MASKABLE];
        head_move_add(&moves, (HeadMove){o->k[run], packed_rows(c, &w->k, s->type, first), s->keys[run], NULL, false});
        head_move_add(&moves, (HeadMove){o->v[run], packed_rows(c, &w->v, s->type, first), s->keys[run], NULL, false});
    }
    TRY_CUDA(head_move_launch(&moves, c->cuda->stream));
fail:
    return status;
}

static Status unpack_gradients(const HeadComposed *c, const HeadOperands *o, const Work *w)
{
    Status status = STATUS_OK;
    const HeadShape *s = &c->shape;
    HeadMoves moves = no_moves(c, DTYPE_F32);
    head_move_add(&moves, (HeadMove){packed_rows(c, &w->dq, DTYPE_F32, 0), o->dq.rows, s->queries, NULL, o->dq.add});
    for (int run = 0; run < KEY_RUNS; run++) {
        const int64_t first = run == MASKABLE ? 0 : s->keys[MASKABLE];
        head_move_add(&moves, (HeadMove){packed_rows(c, &w->dk, DTYPE_F32, first), o->dk[run].rows, s->keys[run], NULL,
                                         o->dk[run].add});
        head_move_add(&moves, (HeadMove){packed_rows(c, &w->dv, DTYPE_F32, first), o->dv[run].rows, s->keys[run], NULL,
                                         o->dv[run].add});
    }
    TRY_CUDA(head_move_launch(&moves, c->cuda->stream));
fail:
    return status;
}

/* A chunk's first pair, and of matrices with a row per query its first row. */
static void *pairs_at(const Matrices *m, Dtype type, const Chunk *chunk)
{
    return head_at(m->data, type, chunk->first_pair * m->stride);
}
static void *rows_at(const Matrices *m, Dtype type, const Chunk *chunk)
{
    return head_at(m->data, type, chunk->first_pair * m->stride + chunk->first_row * m->pitch);
}

static ScoreRows score_rows(const HeadComposed *c, const HeadOperands *o, const Chunk *chunk)
{
    return (ScoreRows){.heads = c->shape.heads,
                       .queries = c->shape.queries,
                       .first_pair = chunk->first_pair,
                       .pairs = chunk->pairs,
                       .first_row = chunk->first_row,
                       .rows = chunk->rows,
                       .keys = head_keys(&c->shape),
                       .pitch = c->score_pitch,
                       .mask = o->mask,
                       .masked = c->shape.keys[MASKABLE],
                       .bias = o->bias};
}

/* d = alpha a b + beta d */
static Status product(const HeadComposed *c, const Work *w, const Chunk *chunk, int which, BlasArgs args)
{
    args.workspace = w->blas;
    args.c = args.d;
    return blas_product_run(c->product[chunk->size][which], &args);
}

static Status forward_chunk(const HeadComposed *c, const HeadOperands *o, const Work *w, const Chunk *chunk)
{
    Status status = STATUS_OK;
    const Dtype type = c->shape.type;
    const ScoreRows rows = score_rows(c, o, chunk);
    TRY(product(c, w, chunk, PRODUCT_SCORES,
                (BlasArgs){.a = rows_at(&w->q, type, chunk),
                           .b = pairs_at(&w->k, type, chunk),
                           .d = w->scores,
                           .alpha = c->shape.scale}));
    TRY_CUDA(softmax_launch(&rows, w->scores, w->p, type, o->lse, c->cuda->stream));
    TRY(product(
        c, w, chunk, PRODUCT_ROWS,
        (BlasArgs){.a = w->p, .b = pairs_at(&w->v, type, chunk), .d = rows_at(&w->y, type, chunk), .alpha = 1.0f}));
fail:
    return status;
}

/* p and ds of a chunk. */
static Status backward_scores(const HeadComposed *c, const HeadOperands *o, const Work *w, const Chunk *chunk)
{
    Status status = STATUS_OK;
    const Dtype type = c->shape.type;
    const ScoreRows rows = score_rows(c, o, chunk);
    const SoftmaxGrad grad = {w->scores, w->dp, o->lse, w->delta, w->p, w->ds, type};
    TRY(product(c, w, chunk, PRODUCT_SCORES,
                (BlasArgs){.a = rows_at(&w->q, type, chunk),
                           .b = pairs_at(&w->k, type, chunk),
                           .d = w->scores,
                           .alpha = c->shape.scale}));
    TRY(product(
        c, w, chunk, PRODUCT_SCORES,
        (BlasArgs){.a = rows_at(&w->dy, type, chunk), .b = pairs_at(&w->v, type, chunk), .d = w->dp, .alpha = 1.0f}));
    TRY_CUDA(softmax_grad_launch(&rows, &grad, c->cuda->stream));
fail:
    return status;
}

static Status backward_chunk(const HeadComposed *c, const HeadOperands *o, const Work *w, const Chunk *chunk)
{
    Status status = STATUS_OK;
    const Dtype type = c->shape.type;
    const float beta =
        chunk->first_row == 0 ? 0.0f : 1.0f; /* a pair's dk and dv, from one block of queries to the next */
    TRY(backward_scores(c, o, w, chunk));
    TRY(product(c, w, chunk, PRODUCT_ROWS,
                (BlasArgs){.a = w->ds,
                           .b = pairs_at(&w->k, type, chunk),
                           .d = rows_at(&w->dq, DTYPE_F32, chunk),
                           .alpha = c->shape.scale}));
    TRY(product(c, w, chunk, PRODUCT_KEYS,
                (BlasArgs){.a = w->ds,
                           .b = rows_at(&w->q, type, chunk),
                           .d = pairs_at(&w->dk, DTYPE_F32, chunk),
                           .alpha = c->shape.scale,
                           .beta = beta}));
    TRY(product(c, w, chunk, PRODUCT_KEYS,
                (BlasArgs){.a = w->p,
                           .b = rows_at(&w->dy, type, chunk),
                           .d = pairs_at(&w->dv, DTYPE_F32, chunk),
                           .alpha = 1.0f,
                           .beta = beta}));
fail:
    return status;
}

static Status run_forward(const HeadComposed *c, const HeadOperands *o, const Work *w)
{
    Status status = STATUS_OK;
    HeadMoves moves = no_moves(c, c->shape.type);
    Chunk chunk;
    if (!c->in_place) TRY(pack(c, o, w));
    for (int64_t i = 0; chunk_at(c, i, &chunk); i++) TRY(forward_chunk(c, o, w, &chunk));
    if (c->in_place) return STATUS_OK;
    head_move_add(&moves, (HeadMove){packed_rows(c, &w->y, c->shape.type, 0), o->y, c->shape.queries, NULL, false});
    TRY_CUDA(head_move_launch(&moves, c->cuda->stream));
fail:
    return status;
}

static Status run_backward(const HeadComposed *c, const HeadOperands *o, const Work *w)
{
    Status status = STATUS_OK;
    const HeadShape *s = &c->shape;
    const HeadDots dots = {o->y, o->dy, s->type, s->samples, s->heads, s->queries, s->d, w->delta};
    Chunk chunk;
    TRY(pack(c, o, w));
    TRY_CUDA(head_dots_launch(&dots, c->cuda->stream));
    for (int64_t i = 0; chunk_at(c, i, &chunk); i++) TRY(backward_chunk(c, o, w, &chunk));
    TRY(unpack_gradients(c, o, w));
fail:
    return status;
}

Status head_composed_run(const HeadComposed *c, const HeadOperands *o, void *workspace)
{
    CudaCarver carver = {.base = workspace};
    const Work w = carve_work(c, o, &carver);
    return c->backward ? run_backward(c, o, &w) : run_forward(c, o, &w);
}
