/* Attention of one head of one sample, on rows that may lie in different tensors: what self-attention over
 * [context ; image] and cross-attention share. */
#ifndef ENGINE_REF_ATTENTION_HEAD_H
#define ENGINE_REF_ATTENTION_HEAD_H

#include "engine/ref/ref.h"

/* Where the d elements of a row begin. */
typedef struct HeadRow {
    const RefTensor *tensor;
    int64_t at;
} HeadRow;

typedef struct Head Head;
struct Head {
    int64_t n, head, queries, keys, d; /* sample, head, and sizes */
    double scale;
    const void *operands; /* for the functions below */
    HeadRow (*q)(const Head *h, int64_t t);
    HeadRow (*k)(const Head *h, int64_t s);
    HeadRow (*v)(const Head *h, int64_t s);
    double (*bias)(const Head *h, int64_t t, int64_t s); /* added to the scaled score, -INFINITY hides; may be NULL */
};

/* Rows of y (N,T,heads*d) and entries of lse (N,heads,T) of this head; `p` holds `keys` doubles. */
void ref_head_forward(const Head *h, int64_t heads, const RefTensor *y, const RefTensor *lse, double *p);

/* The gradients of this head's rows: dq is written where dq_row says, dk and dv (keys x d each, zeroed
 * here) are left for the caller. p and ds hold `keys` doubles each. */
typedef struct HeadGrad {
    const RefTensor *y, *lse, *dy;
    int64_t heads;
    double *p, *ds, *dk, *dv;
    const RefTensor *dq;
    HeadRow (*dq_row)(const Head *h, int64_t t); /* its tensor is ignored: only where in dq */
} HeadGrad;
void ref_head_backward(const Head *h, const HeadGrad *grad);
size_t ref_head_backward_bytes(int64_t keys, int64_t d);
void ref_head_backward_carve(HeadGrad *grad, void *workspace, int64_t keys, int64_t d);

#endif
