/* Attention by cuDNN, which wants all keys of a sample in one matrix and the hidden ones at its end.
 *
 * Where there is a mask, or two runs of keys, k and v are written into one buffer: first the run that is always
 * visible, then what the mask lets through (the softmax does not depend on the order of keys), then zeros. Zeros,
 * because cuDNN multiplies what lies behind the last key by weights of 0, and 0 times what memory happens to hold may
 * be NaN. They also serve a sample without any visible key, of which cuDNN must be told that it has one: a key of zeros
 * has the score 0, thus y = 1 v = 0 and lse = log(exp(0)) = 0, as it must be, and in backward dq = ds k = 0. Gradients
 * of that buffer are moved back to where its rows came from. Elsewhere operands are read and gradients written where
 * they lie. */
#include "engine/cuda/attention_head.h"

#include <stdlib.h>

#include "base/arena.h"

struct HeadFused {
    const Cuda *cuda;
    HeadShape shape;
    bool backward;
    bool joint;   /* k and v go through a buffer */
    bool counted; /* cuDNN is told how many rows and keys there are */
    int run;      /* if not: which run of keys is the one */
    DnnPlan *plan;
};

/* Parts of the workspace; what is not needed is NULL. */
typedef struct Work {
    void *kv, *dkv;          /* (N,keys,heads,[k|v],d) */
    int32_t *source, *place; /* (N,masked keys): HeadSlots */
    int32_t *lengths, *rows; /* (N) */
    void *dq, *dk, *dv;      /* gradients that cuDNN writes and nobody wants */
    /* What lay where cuDNN writes gradients, to be added afterwards: (N,rows,heads,d). */
    void *old_dq, *old_dk, *old_dv;
    void *dnn;
} Work;

/* For a gradient that cuDNN writes where it lies: what else is needed if it is to be added to, or not wanted. */
static void carve_gradient(const HeadFused *f, const HeadOutput *output, int64_t rows, int64_t sample_pitch,
                           CudaCarver *carver, void **unwanted, void **old)
{
    const HeadShape *s = &f->shape;
    const size_t size = (size_t)s->samples * dtype_size(s->type);
    if (!head_wanted(&output->rows)) {
        *unwanted = cuda_carve(carver, size * (size_t)sample_pitch);
    } else if (output->add) {
        *old = cuda_carve(carver, size * (size_t)(rows * s->heads * s->d));
    }
}

static Work carve_work(const HeadFused *f, const HeadOperands *o, CudaCarver *carver)
{
    const HeadShape *s = &f->shape;
    const int64_t row = s->heads * s->d, keys = head_keys(s);
    const size_t one = (size_t)(s->samples * row) * dtype_size(s->type); /* a row of each sample */
    const size_t marks = (size_t)(s->samples * s->keys[MASKABLE]) * sizeof(int32_t);
    Work w = {0};
    if (s->masked) {
        w.source = cuda_carve(carver, marks);
        w.place = cuda_carve(carver, marks);
    }
    if (f->counted) {
        w.lengths = cuda_carve(carver, (size_t)s->samples * sizeof(int32_t));
        w.rows = cuda_carve(carver, (size_t)s->samples * sizeof(int32_t));
    }
    if (f->joint) w.kv = cuda_carve(carver, 2 * one * (size_t)keys);
    if (f->joint && f->backward) w.dkv = cuda_carve(carver, 2 * one * (size_t)keys);
    if (f->backward) {
        carve_gradient(f, &o->dq, s->queries, s->queries * row, carver, &w.dq, &w.old_dq);
        if (!f->joint) {
            const int64_t pitched = o->k[f->run].sample; /* in qkv the rows of k have more than k in them */
            carve_gradient(f, &o->dk[f->run], keys, pitched, carver, &w.dk, &w.old_dk);
            carve_gradient(f, &o->dv[f->run], keys, pitched, carver, &w.dv, &w.old_dv);
        }
    }
    w.dnn = cuda_carve(carver, f->plan ? dnn_plan_workspace(f->plan) : 0);
    return w;
}

/* Rows of k (part 0) or v (part 1) in the joint buffer, from `first` on. */
static HeadRows joint_rows(const HeadFused *f, void *kv, int part, int64_t first)
{
    const int64_t d = f->shape.d, row = 2 * f->shape.heads * d;
    return (HeadRows){head_at(kv, f->shape.type, first * row + part * d), head_keys(&f->shape) * row, row, 2 * d};
}

Status head_fused_create(Cuda *cuda, const HeadShape *shape, const HeadOperands *o, bool backward, HeadFused **out)
{
    Status status = STATUS_OK;
    HeadFused *f = mem_alloc_array(1, sizeof *f);
    if (!f) FAIL(ERR_MEMORY, "no memory for an attention");
    *f = (HeadFused){.cuda = cuda, .shape = *shape, .backward = backward};
    f->joint = shape->masked || (shape->keys[MASKABLE] > 0 && shape->keys[VISIBLE] > 0);
    f->run = shape->keys[MASKABLE] > 0 ? MASKABLE : VISIBLE;
    f->counted = shape->masked || dnn_wants_lengths(backward, shape->queries, head_keys(shape));
    const HeadRows q = o->q, k = f->joint ? joint_rows(f, NULL, 0, 0) : o->k[f->run];
    const HeadRows dq = head_wanted(&o->dq.rows) ? o->dq.rows : head_dense(shape, NULL, shape->queries);
    const DnnAttentionSpec spec = {.n = shape->samples,
                                   .heads = shape->heads,
                                   .t = shape->queries,
                                   .s = head_keys(shape),
                                   .d = shape->d,
                                   .scale = shape->scale,
                                   .q_row = q.row,
                                   .q_head = q.head,
                                   .q_batch = q.sample,
                                   .k_row = k.row,
                                   .k_head = k.head,
                                   .k_batch = k.sample,
                                   .y_row = o->y.row,
                                   .y_head = o->y.head,
                                   .y_batch = o->y.sample,
                                   .dq_row = dq.row,
                                   .dq_head = dq.head,
                                   .dq_batch = dq.sample,
                                   .lengths = f->counted};
    TRY(dnn_attention_create(cuda->dnn, &spec, backward, &f->plan));
    *out = f;
    return STATUS_OK;
fail:
    head_fused_free(f);
    return status;
}

void head_fused_free(HeadFused *f)
{
    if (!f) return;
    dnn_plan_free(f->plan);
    free(f);
}

size_t head_fused_workspace(const HeadFused *f, const HeadOperands *o)
{
    CudaCarver carver = {0};
    carve_work(f, o, &carver);
    return carver.used;
}

const char *head_fused_name(const HeadFused *f)
{
    return dnn_plan_name(f->plan);
}

static HeadMoves no_moves(const HeadFused *f)
{
    const HeadShape *s = &f->shape;
    return (HeadMoves){.samples = s->samples, .heads = s->heads, .d = s->d, .from = s->type, .to = s->type};
}

/* Without a mask: all of them. */
static Status count_all(const HeadFused *f, const Work *w)
{
    Status status = STATUS_OK;
    const HeadShape *s = &f->shape;
    const HeadCounts counts = {.samples = s->samples,
                               .queries = (int32_t)s->queries,
                               .keys = (int32_t)head_keys(s),
                               .rows = w->rows,
                               .lengths = w->lengths};
    TRY_CUDA(head_counts_launch(&counts, f->cuda->stream));
fail:
    return status;
}

/* Finds the places of the keys in the joint buffer and fills it. */
static Status gather_keys(const HeadFused *f, const HeadOperands *o, const Work *w)
{
    Status status = STATUS_OK;
    const HeadShape *s = &f->shape;
    const int64_t visible = s->keys[VISIBLE];
    HeadMoves moves = no_moves(f);
    if (s->masked) {
        const HeadSlots slots = {.mask = o->mask,
                                 .samples = s->samples,
                                 .keys = s->keys[MASKABLE],
                                 .before = (int32_t)visible,
                                 .queries = (int32_t)s->queries,
                                 .source = w->source,
                                 .place = w->place,
                                 .lengths = w->lengths,
                                 .rows = w->rows};
        TRY_CUDA(head_slots_launch(&slots, f->cuda->stream));
    }
    for (int part = 0; part < 2; part++) {
        const HeadRows *from = part == 0 ? o->k : o->v;
        head_move_add(&moves, (HeadMove){from[VISIBLE], joint_rows(f, w->kv, part, 0), visible, NULL, false});
        head_move_add(&moves, (HeadMove){from[MASKABLE], joint_rows(f, w->kv, part, visible), s->keys[MASKABLE],
                                         w->source, false});
    }
    TRY_CUDA(head_move_launch(&moves, f->cuda->stream));
fail:
    return status;
}

/* The other way: gradients of the joint buffer to those of its rows; zeros to the hidden ones. */
static Status scatter_keys(const HeadFused *f, const HeadOperands *o, const Work *w)
{
    Status status = STATUS_OK;
    const int64_t visible = f->shape.keys[VISIBLE];
    HeadMoves moves = no_moves(f);
    for (int part = 0; part < 2; part++) {
        const HeadOutput *to = part == 0 ? o->dk : o->dv;
        head_move_add(&moves,
                      (HeadMove){joint_rows(f, w->dkv, part, 0), to[VISIBLE].rows, visible, NULL, to[VISIBLE].add});
        head_move_add(&moves, (HeadMove){joint_rows(f, w->dkv, part, visible), to[MASKABLE].rows,
                                         f->shape.keys[MASKABLE], w->place, to[MASKABLE].add});
    }
    TRY_CUDA(head_move_launch(&moves, f->cuda->stream));
fail:
    return status;
}

/* cuDNN only sets. Of gradients to be added to, what was there is kept before and added afterwards. */
static Status keep_or_add_old(const HeadFused *f, const HeadOperands *o, const Work *w, bool add)
{
    Status status = STATUS_OK;
    const HeadShape *s = &f->shape;
    const HeadOutput *outputs[3] = {&o->dq, f->joint ? NULL : &o->dk[f->run], f->joint ? NULL : &o->dv[f->run]};
    void *const old[3] = {w->old_dq, w->old_dk, w->old_dv};
    HeadMoves moves = no_moves(f);
    for (int i = 0; i < 3; i++) {
        if (!outputs[i] || !outputs[i]->add) continue;
        const int64_t rows = i == 0 ? s->queries : head_keys(s);
        const HeadRows there = outputs[i]->rows, kept = head_dense(s, old[i], rows);
        head_move_add(&moves,
                      add ? (HeadMove){kept, there, rows, NULL, true} : (HeadMove){there, kept, rows, NULL, false});
    }
    TRY_CUDA(head_move_launch(&moves, f->cuda->stream));
fail:
    return status;
}

static void *where(const HeadRows *rows, void *otherwise)
{
    return head_wanted(rows) ? rows->data : otherwise;
}

Status head_fused_run(const HeadFused *f, const HeadOperands *o, void *workspace)
{
    Status status = STATUS_OK;
    CudaCarver carver = {.base = workspace};
    const Work w = carve_work(f, o, &carver);
    DnnAttentionArgs args = {
        .q = o->q.data, .y = o->y.data, .lse = o->lse, .lengths = w.lengths, .rows = w.rows, .workspace = w.dnn};
    if (f->counted && !f->shape.masked) TRY(count_all(f, &w));
    if (f->joint) {
        TRY(gather_keys(f, o, &w));
        args.k = joint_rows(f, w.kv, 0, 0).data;
        args.v = joint_rows(f, w.kv, 1, 0).data;
    } else {
        args.k = o->k[f->run].data;
        args.v = o->v[f->run].data;
    }
    if (f->backward) {
        args.dy = o->dy.data;
        args.dq = where(&o->dq.rows, w.dq);
        args.dk = f->joint ? joint_rows(f, w.dkv, 0, 0).data : where(&o->dk[f->run].rows, w.dk);
        args.dv = f->joint ? joint_rows(f, w.dkv, 1, 0).data : where(&o->dv[f->run].rows, w.dv);
        TRY(keep_or_add_old(f, o, &w, false));
    }
    TRY(dnn_attention_run(f->plan, &args));
    if (f->backward) TRY(keep_or_add_old(f, o, &w, true));
    if (f->backward && f->joint) TRY(scatter_keys(f, o, &w));
fail:
    return status;
}
