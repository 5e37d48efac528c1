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
    int64_t queries, keys, d;
    int64_t n, head; /* which */
    double scale;
    const void *operands; /* for the functions below */
    HeadRow (*q)(const Head *h, int64_t t);
    HeadRow (*k)(const Head *h, int64_t s);
    HeadRow (*v)(const Head *h, int64_t s);
    double (*bias)(const Head *h, int64_t t, int64_t s); /* added to the scaled score, -INFINITY hides; may be NULL */
};

/* Every head of every sample: rows of y (N,T,heads*d) and entries of lse (N,heads,T). `h` tells all but the sample and
 * the head; `p` holds `keys` doubles. */
void ref_heads_forward(Head h, int64_t samples, int64_t heads, const RefTensor *y, const RefTensor *lse, double *p);

typedef struct HeadGrad {
    const RefTensor *y, *lse, *dy;
    const void *gradients; /* as Head.operands, but of the gradients: the same functions tell where their rows lie */
    void *workspace;       /* ref_heads_backward_bytes */
} HeadGrad;
void ref_heads_backward(Head h, int64_t samples, int64_t heads, const HeadGrad *grad);
size_t ref_heads_backward_bytes(int64_t keys, int64_t d);

#endif
