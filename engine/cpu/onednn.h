/* Our own small interface over oneDNN: convolutions and matrix products prepared for fixed shapes, run on raw pointers.
 * onednn2.c serves the C API of oneDNN 2, onednn3.c that of oneDNN 3; the build takes one, and only these two files
 * name the library's types.
 *
 * A primitive is made for the number of OpenMP threads that its maker would use (omp_get_max_threads) and must run with
 * the same number; one made for one thread may run inside a parallel region. Its scratchpad is the caller's, and each
 * lane has memory objects of its own, so different lanes may run at the same time. */
#ifndef ENGINE_CPU_ONEDNN_H
#define ENGINE_CPU_ONEDNN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef enum DnnType { DNN_F32, DNN_BF16 } DnnType;

#define DNN_MAX_DIMS 4

/* Logical dimensions as oneDNN orders them (pictures N,C,H,W; weights O,C,KH,KW; matrices [batch,]rows,columns); the
 * strides, in elements, say how they lie in memory. */
typedef struct DnnTensor {
    DnnType type;
    int32_t ndim;
    int64_t dim[DNN_MAX_DIMS], stride[DNN_MAX_DIMS];
} DnnTensor;

typedef enum DnnKind {
    DNN_CONV_FORWARD,          /* dst = conv(src, weights) [+ bias] [+ dst] */
    DNN_CONV_BACKWARD_DATA,    /* src = the gradient of src, from dst's gradient and weights */
    DNN_CONV_BACKWARD_WEIGHTS, /* weights and [bias] = their gradients, from src and dst's gradient */
    DNN_MATMUL                 /* dst = src weights [+ bias] [+ dst] */
} DnnKind;

typedef struct DnnSpec {
    DnnKind kind;
    DnnTensor src, weights, dst;
    /* The library chooses how the weights lie. `weights` then describes the caller's plain fp32 weights, weights.type
     * what they become; dnn_pack and dnn_unpack convert. */
    bool pack_weights;
    bool bias;       /* fp32, one a channel or column of dst */
    bool accumulate; /* what dst holds is added, before rounding; not for the backward kinds */
    int64_t stride, pad_top, pad_left, pad_bottom, pad_right; /* convolutions */
    int32_t lanes; /* how many threads may run it at the same time, each with a lane of its own; 0 means 1 */
} DnnSpec;

typedef struct DnnPrimitive DnnPrimitive;

/* ERR_UNSUPPORTED when the library has no implementation. */
Status dnn_create(const DnnSpec *spec, DnnPrimitive **out);
void dnn_free(DnnPrimitive *primitive);
const char *dnn_implementation(const DnnPrimitive *primitive); /* the library's name for it */
bool dnn_is_slow(const DnnPrimitive *primitive);               /* a reference implementation, to be avoided */
size_t dnn_scratchpad_bytes(const DnnPrimitive *primitive);    /* for running, packing and unpacking alike */
/* The size of the weights in the library's own layout; 0 when that is the caller's fp32 layout, which is then given as
 * DnnArgs.weights as it is. */
size_t dnn_packed_bytes(const DnnPrimitive *primitive);

/* How packed weights lie: an element's place is the sum over dimensions of index / (product of its blocks) * stride,
 * and within the blocks, outermost first, as in a dense array of theirs. */
#define DNN_MAX_BLOCKS 4
typedef struct DnnBlocked {
    DnnType type;
    int32_t blocks;                                     /* how many */
    int32_t block_dim[DNN_MAX_BLOCKS];                  /* of which dimension each is */
    int64_t block[DNN_MAX_BLOCKS];                      /* and its size */
    int64_t padded[DNN_MAX_DIMS], stride[DNN_MAX_DIMS]; /* dimensions as multiples of their blocks */
} DnnBlocked;
const DnnBlocked *dnn_packed_layout(const DnnPrimitive *primitive); /* NULL where it cannot be told in this way */
const DnnTensor *dnn_plain_weights(const DnnPrimitive *primitive);  /* the caller's */

typedef struct DnnArgs {
    int32_t lane;
    const void *src, *weights, *bias, *dst; /* the destination of the kind is written */
    void *scratchpad;                       /* 64-byte aligned */
} DnnArgs;
Status dnn_run(DnnPrimitive *primitive, const DnnArgs *args);
/* Plain fp32 weights into the library's layout and type. */
Status dnn_pack(DnnPrimitive *primitive, const float *plain, void *packed, void *scratchpad);
/* Gradients of weights back into the plain fp32 layout; `add`: to what is there. */
Status dnn_unpack(DnnPrimitive *primitive, const void *packed, float *plain, bool add, void *scratchpad);

size_t dnn_alignment(void);       /* that the library needs of the caller's weights and biases, bytes */
bool dnn_has_bf16(void);          /* native arithmetic in bf16 */
const char *dnn_isa_name(void);   /* the instruction set the library uses */
void dnn_version(int version[3]); /* of the library that is loaded: major, minor, patch */

#endif
