/* Attention and its gradient, a head at a time: whole score matrices in fp32. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dnn_emu.h"
#include "products.h"

/* One head of one sample; matrices (rows,d) in fp32. */
typedef struct Head {
    int64_t n, head, keys;
    float *q, *k, *v;
} Head;

static float *take(const void *data, int64_t rows, int64_t d, int64_t step, int64_t at)
{
    float *out = emu_floats(rows * d);
    for (int64_t i = 0; i < rows * d; i++) out[i] = emu_get(data, DTYPE_BF16, at + i / d * step + i % d);
    return out;
}

/* Rows from `rows` on to `all` are zero. */
static void give(void *data, const float *from, int64_t rows, int64_t all, int64_t d, int64_t step, int64_t at)
{
    for (int64_t i = 0; i < all * d; i++) {
        emu_put(data, DTYPE_BF16, at + i / d * step + i % d, i < rows * d ? from[i] : 0);
    }
}

static Head head_open(const DnnAttentionSpec *s, const DnnAttentionArgs *args, int64_t index)
{
    Head h = {.n = index / s->heads, .head = index % s->heads, .keys = s->s};
    if (s->lengths) {
        h.keys = args->lengths[h.n];
        if (h.keys < 1 || h.keys > s->s || args->rows[h.n] != s->t) {
            fprintf(stderr, "emulated device: attention over %lld of %lld keys, %d of %lld queries\n",
                    (long long)h.keys, (long long)s->s, args->rows[h.n], (long long)s->t);
            abort();
        }
    }
    const int64_t kv = h.n * s->k_batch + h.head * s->k_head;
    h.q = take(args->q, s->t, s->d, s->q_row, h.n * s->q_batch + h.head * s->q_head);
    h.k = take(args->k, h.keys, s->d, s->k_row, kv);
    h.v = take(args->v, h.keys, s->d, s->k_row, kv);
    return h;
}

static void head_close(Head *h)
{
    free(h->q);
    free(h->k);
    free(h->v);
}

/* out (m,n) = a (m,k) b, b's element (i,j) at b[i step_k + j step_n] */
static void multiply(float *out, int64_t m, int64_t k, int64_t n, const float *a, const float *b, int64_t step_k,
                     int64_t step_n)
{
    Panels panels = panels_of(b, DTYPE_F32, k, n, step_k, step_n);
    panels_multiply(m, a, &panels, out, false);
    panels_free(&panels);
}

static float *transposed(const float *a, int64_t rows, int64_t columns)
{
    float *out = emu_floats(rows * columns);
    for (int64_t i = 0; i < rows * columns; i++) out[i % columns * rows + i / columns] = a[i];
    return out;
}

/* log of the sum of exp */
static float log_sum(const float *row, int64_t count)
{
    float most = row[0];
    for (int64_t j = 1; j < count; j++) most = fmaxf(most, row[j]);
    double sum = (double)expf(row[0] - most);
    for (int64_t j = 1; j < count; j++) sum += (double)expf(row[j] - most);
    return most + (float)log(sum);
}

/* p (t,keys) = exp(scale q k^T - lse); lse is found first where `find`. */
static float *probabilities(const DnnAttentionSpec *s, const Head *h, float *lse, bool find)
{
    float *p = emu_floats(s->t * h->keys);
    multiply(p, s->t, s->d, h->keys, h->q, h->k, 1, s->d);
    for (int64_t i = 0; i < s->t; i++) {
        float *row = p + i * h->keys;
        for (int64_t j = 0; j < h->keys; j++) row[j] *= s->scale;
        if (find) lse[i] = log_sum(row, h->keys);
        for (int64_t j = 0; j < h->keys; j++) row[j] = expf(row[j] - lse[i]);
    }
    return p;
}

static float *lse_of(const DnnAttentionSpec *s, const DnnAttentionArgs *args, const Head *h)
{
    return args->lse + (h->n * s->heads + h->head) * s->t;
}

void emu_attention(const DnnAttentionSpec *s, const DnnAttentionArgs *args)
{
#pragma omp parallel for schedule(dynamic)
    for (int64_t index = 0; index < s->n * s->heads; index++) {
        Head h = head_open(s, args, index);
        float *p = probabilities(s, &h, lse_of(s, args, &h), true), *y = emu_floats(s->t * s->d);
        multiply(y, s->t, h.keys, s->d, p, h.v, s->d, 1);
        give(args->y, y, s->t, s->t, s->d, s->y_row, h.n * s->y_batch + h.head * s->y_head);
        free(p);
        free(y);
        head_close(&h);
    }
}

/* dp (t,keys) becomes ds = scale p (dp - sum of dy y) */
static void score_gradients(const DnnAttentionSpec *s, const Head *h, const float *p, const float *dy, const float *y,
                            float *dp)
{
    for (int64_t i = 0; i < s->t; i++) {
        double sum = 0;
        for (int64_t c = 0; c < s->d; c++) sum += (double)dy[i * s->d + c] * (double)y[i * s->d + c];
        for (int64_t j = i * h->keys; j < (i + 1) * h->keys; j++) dp[j] = s->scale * p[j] * (dp[j] - (float)sum);
    }
}

static void head_gradient(const DnnAttentionSpec *s, const DnnAttentionArgs *args, const Head *h)
{
    const int64_t t = s->t, d = s->d, keys = h->keys, y_at = h->n * s->y_batch + h->head * s->y_head;
    const int64_t k_at = h->n * s->k_batch + h->head * s->k_head;
    float *p = probabilities(s, h, lse_of(s, args, h), false), *ds = emu_floats(t * keys);
    float *y = take(args->y, t, d, s->y_row, y_at), *dy = take(args->dy, t, d, s->y_row, y_at);
    float *turned = transposed(p, t, keys), *gradient = emu_floats((t > keys ? t : keys) * d);
    multiply(gradient, keys, t, d, turned, dy, d, 1);
    give(args->dv, gradient, keys, s->s, d, s->k_row, k_at);
    multiply(ds, t, d, keys, dy, h->v, 1, d);
    score_gradients(s, h, p, dy, y, ds);
    multiply(gradient, t, keys, d, ds, h->k, d, 1);
    give(args->dq, gradient, t, t, d, s->dq_row, h->n * s->dq_batch + h->head * s->dq_head);
    free(turned);
    turned = transposed(ds, t, keys);
    multiply(gradient, keys, t, d, turned, h->q, d, 1);
    give(args->dk, gradient, keys, s->s, d, s->k_row, k_at);
    free(p);
    free(ds);
    free(y);
    free(dy);
    free(turned);
    free(gradient);
}

void emu_attention_grad(const DnnAttentionSpec *s, const DnnAttentionArgs *args)
{
#pragma omp parallel for schedule(dynamic)
    for (int64_t index = 0; index < s->n * s->heads; index++) {
        Head h = head_open(s, args, index);
        head_gradient(s, args, &h);
        head_close(&h);
    }
}
