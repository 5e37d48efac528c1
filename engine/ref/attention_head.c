#include "engine/ref/attention_head.h"

#include <string.h>

/* Scaled and biased score of query t and key s; minus infinity for a hidden key, whatever it holds. */
static double score(const Head *h, HeadRow q, int64_t t, int64_t s)
{
    const HeadRow k = h->k(h, s);
    const double bias = h->bias ? h->bias(h, t, s) : 0;
    if (isinf(bias) && bias < 0) return bias;
    return ref_dot(q.tensor, q.at, k.tensor, k.at, h->d) * h->scale + bias;
}

static void head_forward(const Head *h, int64_t heads, const RefTensor *y, const RefTensor *lse, double *p)
{
    for (int64_t t = 0; t < h->queries; t++) {
        const HeadRow q = h->q(h, t);
        const int64_t y_at = ((h->n * h->queries + t) * heads + h->head) * h->d;
        double most = -INFINITY, sum = 0;
        for (int64_t s = 0; s < h->keys; s++) {
            p[s] = score(h, q, t, s);
            most = fmax(most, p[s]);
        }
        const bool hidden = isinf(most) && most < 0; /* no key to look at: zeros, and an lse of 0 */
        for (int64_t s = 0; s < h->keys; s++) {
            p[s] = hidden ? 0 : exp(p[s] - most);
            sum += p[s];
        }
        for (int64_t i = 0; i < h->d; i++) {
            double value = 0;
            for (int64_t s = 0; s < h->keys; s++) {
                const HeadRow v = h->v(h, s);
                if (p[s] > 0) value += p[s] * ref_get(v.tensor, v.at + i);
            }
            ref_put(y, y_at + i, hidden ? 0 : value / sum);
        }
        ref_put(lse, (h->n * heads + h->head) * h->queries + t, hidden ? 0 : most + log(sum));
    }
}

void ref_heads_forward(Head h, int64_t samples, int64_t heads, const RefTensor *y, const RefTensor *lse, double *p)
{
    for (h.n = 0; h.n < samples; h.n++)
        for (h.head = 0; h.head < heads; h.head++) head_forward(&h, heads, y, lse, p);
}

/* Scratch of one head. */
typedef struct HeadScratch {
    double *p, *ds;  /* (keys) */
    double *dk, *dv; /* (keys, d) */
} HeadScratch;

size_t ref_heads_backward_bytes(int64_t keys, int64_t d)
{
    return (size_t)(2 * keys + 2 * keys * d) * sizeof(double);
}

static void put_row(HeadRow row, const double *values, int64_t d)
{
    for (int64_t i = 0; i < d; i++) ref_put(row.tensor, row.at + i, values[i]);
}

/* p = exp(s - lse);  ds = p (dy v^T - D) with D = rowsum(dy y);  dq = scale ds k;  dk = scale ds^T q;  dv = p^T dy.
 * (Dao et al. 2022, "FlashAttention", appendix B.4) */
static void head_backward(const Head *h, int64_t heads, const HeadGrad *grad, const HeadScratch *w)
{
    Head to = *h;
    to.operands = grad->gradients;
    const size_t bytes = (size_t)(h->keys * h->d) * sizeof(double);
    memset(w->dk, 0, bytes);
    memset(w->dv, 0, bytes);
    for (int64_t t = 0; t < h->queries; t++) {
        const HeadRow q = h->q(h, t), dq = to.q(&to, t);
        const int64_t y_at = ((h->n * h->queries + t) * heads + h->head) * h->d;
        const double lse = ref_get(grad->lse, (h->n * heads + h->head) * h->queries + t);
        const double row_sum = ref_dot(grad->dy, y_at, grad->y, y_at, h->d);
        for (int64_t s = 0; s < h->keys; s++) {
            const HeadRow v = h->v(h, s);
            w->p[s] = exp(score(h, q, t, s) - lse);
            w->ds[s] = w->p[s] * (ref_dot(grad->dy, y_at, v.tensor, v.at, h->d) - row_sum) * h->scale;
            for (int64_t i = 0; i < h->d; i++) {
                w->dk[s * h->d + i] += w->ds[s] * ref_get(q.tensor, q.at + i);
                w->dv[s * h->d + i] += w->p[s] * ref_get(grad->dy, y_at + i);
            }
        }
        for (int64_t i = 0; i < h->d; i++) {
            double sum = 0;
            for (int64_t s = 0; s < h->keys; s++) {
                const HeadRow k = h->k(h, s);
                sum += w->ds[s] * ref_get(k.tensor, k.at + i);
            }
            ref_put(dq.tensor, dq.at + i, sum);
        }
    }
    for (int64_t s = 0; s < h->keys; s++) {
        put_row(to.k(&to, s), w->dk + s * h->d, h->d);
        put_row(to.v(&to, s), w->dv + s * h->d, h->d);
    }
}

void ref_heads_backward(Head h, int64_t samples, int64_t heads, const HeadGrad *grad)
{
    HeadScratch w = {.p = grad->workspace};
    w.ds = w.p + h.keys;
    w.dk = w.ds + h.keys;
    w.dv = w.dk + h.keys * h.d;
    for (h.n = 0; h.n < samples; h.n++)
        for (h.head = 0; h.head < heads; h.head++) head_backward(&h, heads, grad, &w);
}
