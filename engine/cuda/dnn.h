/* Convolutions and fused attention by cuDNN's graph interface. Activations are N,H,W,C, filters O,KH,KW,C.
 * tests/emu/dnn_emu.c is the same interface in plain C, for machines without a device. */
#ifndef ENGINE_CUDA_DNN_H
#define ENGINE_CUDA_DNN_H

#include <cuda_runtime_api.h>

#include "base/status.h"
#include "engine/op.h"
#include "engine/tensor.h"

typedef struct Dnn Dnn;
typedef struct DnnOptions {
    cudaStream_t stream;
    const char *properties; /* text of a device's description (JSON): plans are made for that device and cannot run;
                               NULL: the current device */
    bool deterministic;     /* engines that may give other bits from run to run are passed over */
    const char *cache;      /* folder where choices and compiled plans are kept between runs; NULL or "": nowhere */
} DnnOptions;
Status dnn_open(const DnnOptions *options, Dnn **out);
void dnn_close(Dnn *dnn); /* NULL is fine */
size_t dnn_version(void);
/* The current device's description, as `properties` takes it; the caller frees. */
Status dnn_describe_device(Dnn *dnn, char **json);

/* A plan: an operation on fixed shapes, with its engine chosen. */
typedef struct DnnPlan DnnPlan;
void dnn_plan_free(DnnPlan *plan);              /* NULL is fine */
size_t dnn_plan_workspace(const DnnPlan *plan); /* bytes, 256-byte aligned */
const char *dnn_plan_name(const DnnPlan *plan); /* for tables: engine and how it was found */

typedef enum DnnConvKind {
    DNN_CONV,        /* x, w -> y = conv(x, w) [+ residual] [+ bias] */
    DNN_CONV_GRAD_X, /* y, w -> x */
    DNN_CONV_GRAD_W  /* x, y -> w in fp32 */
} DnnConvKind;

typedef struct DnnConvSpec {
    DnnConvKind kind;
    Dtype type;         /* of x, y, residual, bias, and of w but in GRAD_W; fp32 is computed in fp32, never in TF32 */
    int64_t n, h, w, c; /* x */
    int64_t oh, ow, o;  /* y */
    ConvAttr attr;
    bool bias, residual; /* CONV only */
} DnnConvSpec;
typedef struct DnnConvArgs {
    const void *x, *w, *y;       /* the operands that are read */
    const void *bias, *residual; /* (O), like y */
    void *out;                   /* what is written: y, x or w */
    void *workspace;
} DnnConvArgs;
Status dnn_conv_create(Dnn *dnn, const DnnConvSpec *spec, DnnPlan **out);
Status dnn_conv_run(const DnnPlan *plan, const DnnConvArgs *args); /* queued */

/* Fused attention in bf16: per batch and head, y (T,d) = softmax(scale q (T,d) k^T (S,d)) v (S,d), over the first
 * lengths[n] keys where lengths are given (1 or more). lse (N,heads,T) fp32: natural log of the sum of exp of the
 * scaled scores. Elements from one row to the next, and from one head to the next (`_head`), are free, so that operands
 * lie in interleaved buffers; the last dimension is dense.
 *
 * The gradient wants more: two keys at least, and lengths wherever dnn_wants_lengths, for its engines do not hide the
 * rest of a tile of keys or queries otherwise, and exp(0 - lse) there is infinite once lse is below -88. */
typedef struct DnnAttentionSpec {
    int64_t n, heads, t, s, d;
    float scale;
    int64_t q_row, q_head, q_batch;
    int64_t k_row, k_head, k_batch; /* of k and v, dk and dv alike */
    int64_t y_row, y_head, y_batch; /* of y and dy */
    int64_t dq_row, dq_head, dq_batch;
    bool lengths;
} DnnAttentionSpec;
typedef struct DnnAttentionArgs {
    const void *q, *k, *v;
    void *y;
    float *lse;
    const int32_t *lengths; /* (N): keys */
    const int32_t *rows;    /* (N): queries, all T; wanted where lengths are */
    /* gradient only */
    const void *dy;
    void *dq, *dk, *dv;
    void *workspace;
} DnnAttentionArgs;
enum { DNN_ATTENTION_TILE = 128 }; /* the largest of the engines' */
static inline bool dnn_wants_lengths(bool gradient, int64_t t, int64_t s)
{
    return gradient && (t % DNN_ATTENTION_TILE != 0 || s % DNN_ATTENTION_TILE != 0);
}
Status dnn_attention_create(Dnn *dnn, const DnnAttentionSpec *spec, bool gradient, DnnPlan **out);
Status dnn_attention_run(const DnnPlan *plan, const DnnAttentionArgs *args); /* queued; the gradient reads y and lse */

#endif
