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

void ref_head_forward(const Head *h, int64_t heads, const RefTensor *y, const RefTensor *lse, double *p)
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

/* p = exp(s - lse);  ds = p (dy v^T - D) with D = rowsum(dy y);  dq = scale ds k;  dk = scale ds^T q;  dv = p^T dy.
 * (Dao et al. 2022, "FlashAttention", appendix B.4) */
void ref_head_backward(const Head *h, const HeadGrad *grad)
{
    const size_t bytes = (size_t)(h->keys * h->d) * sizeof(double);
    memset(grad->dk, 0, bytes);
    memset(grad->dv, 0, bytes);
    for (int64_t t = 0; t < h->queries; t++) {
        const HeadRow q = h->q(h, t);
        const int64_t y_at = ((h->n * h->queries + t) * grad->heads + h->head) * h->d;
        const double lse = ref_get(grad->lse, (h->n * grad->heads + h->head) * h->queries + t);
        const double row_sum = ref_dot(grad->dy, y_at, grad->y, y_at, h->d);
        for (int64_t s = 0; s < h->keys; s++) {
            const HeadRow v = h->v(h, s);
            grad->p[s] = exp(score(h, q, t, s) - lse);
            grad->ds[s] = grad->p[s] * (ref_dot(grad->dy, y_at, v.tensor, v.at, h->d) - row_sum) * h->scale;
            for (int64_t i = 0; i < h->d; i++) {
                grad->dk[s * h->d + i] += grad->ds[s] * ref_get(q.tensor, q.at + i);
                grad->dv[s * h->d + i] += grad->p[s] * ref_get(grad->dy, y_at + i);
            }
        }
        const int64_t dq_at = grad->dq_row(h, t).at;
        for (int64_t i = 0; i < h->d; i++) {
            double sum = 0;
            for (int64_t s = 0; s < h->keys; s++) {
                const HeadRow k = h->k(h, s);
                sum += grad->ds[s] * ref_get(k.tensor, k.at + i);
            }
            ref_put(grad->dq, dq_at + i, sum);
        }
    }
}

size_t ref_head_backward_bytes(int64_t keys, int64_t d)
{
    return (size_t)(2 * keys + 2 * keys * d) * sizeof(double);
}

void ref_head_backward_carve(HeadGrad *grad, void *workspace, int64_t keys, int64_t d)
{
    grad->p = workspace;
    grad->ds = grad->p + keys;
    grad->dk = grad->ds + keys;
    grad->dv = grad->dk + keys * d;
}
