/* A small builder of operation graphs in cuDNN's backend interface. Tensors and operations are made one by one; the
 * first failure is kept, and everything after it does nothing, so that a graph is written down without a check after
 * each line. dnn_graph_free releases all that was made. */
#ifndef ENGINE_CUDA_DNN_GRAPH_H
#define ENGINE_CUDA_DNN_GRAPH_H

#include <cudnn.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/status.h"
#include "engine/tensor.h"

typedef cudnnBackendDescriptor_t DnnDesc;

/* A tensor that has memory of its own, or a value: what a plan wants when it runs. */
typedef struct DnnOperand {
    int64_t uid;
    int64_t bytes; /* from the first to past the last element */
    bool by_value; /* `value` is given with each run */
    float value;
    int32_t fill; /* of int32 tensors: a value that makes sense when times are measured; 0: other types */
} DnnOperand;

/* Bytes at whose multiples cuDNN may count on all tensors but counts, which are int32. */
enum { DNN_ALIGNMENT = 16 };

enum { DNN_GRAPH_DESCS = 320, DNN_GRAPH_OPS = 32, DNN_GRAPH_OPERANDS = 24 };
typedef struct DnnGraph {
    DnnDesc desc[DNN_GRAPH_DESCS]; /* all that were made */
    int32_t descs;
    DnnDesc op[DNN_GRAPH_OPS];
    int32_t ops;
    DnnOperand operand[DNN_GRAPH_OPERANDS];
    int32_t operands;
    int64_t virtuals;
    int64_t kernels[2]; /* of the engine that cuDNN proposes, worth a try where that is all it does; 0: none */
    Hash128 hash;       /* of all that was set so far: equal for equal graphs */
    Status status;      /* the first failure, recorded */
} DnnGraph;

/* An error's name, and cuDNN's own words on the last one, in one line. */
void dnn_error_text(cudnnStatus_t error, char *out, size_t capacity);
/* Records a failure that says which call cuDNN refused, and why. ERR_UNSUPPORTED: there is no such engine. */
Status dnn_fail(cudnnStatus_t error, const char *file, int line, const char *call);
#define TRY_DNN(call)                                                \
    do {                                                             \
        const cudnnStatus_t dnn_error = (call);                      \
        if (dnn_error != CUDNN_STATUS_SUCCESS) {                     \
            status = dnn_fail(dnn_error, __FILE__, __LINE__, #call); \
            goto fail;                                               \
        }                                                            \
    } while (0)

void dnn_graph_free(DnnGraph *graph);

/* Where dimensions are written, cuDNN's order holds: batch, channels (or heads), then two more. */
typedef struct DnnDims {
    int64_t dim[4];
} DnnDims;
#define DNN_DIMS(a, b, c, d) ((DnnDims){{(a), (b), (c), (d)}})

cudnnDataType_t dnn_type(Dtype type); /* F32 or BF16 */

/* uid 0: virtual, known to the graph alone. */
DnnDesc dnn_tensor(DnnGraph *g, int64_t uid, cudnnDataType_t type, DnnDims dims, DnnDims strides);
/* (N,C,H,W) whose memory is N,H,W,C. */
DnnDesc dnn_picture(DnnGraph *g, int64_t uid, cudnnDataType_t type, int64_t n, int64_t c, int64_t h, int64_t w);
DnnDesc dnn_scalar(DnnGraph *g, int64_t uid, float value); /* fp32, by value */
/* int32 (N,1,1,1); `fill` as in DnnOperand */
DnnDesc dnn_counts(DnnGraph *g, int64_t uid, int64_t n, int32_t fill);

/* y = mode(x, b) in fp32; b NULL for functions of one operand. */
void dnn_pointwise(DnnGraph *g, cudnnPointwiseMode_t mode, DnnDesc x, DnnDesc b, DnnDesc y);
/* The rest of pointwise operations: arithmetic in `math`, `axis` of GEN_INDEX (else -1), `t` of BINARY_SELECT. */
typedef struct DnnPointwise {
    cudnnPointwiseMode_t mode;
    cudnnDataType_t math;
    int64_t axis;
    DnnDesc x, b, t, y;
} DnnPointwise;
void dnn_pointwise_with(DnnGraph *g, const DnnPointwise *p);
void dnn_sum(DnnGraph *g, DnnDesc x, DnnDesc y); /* over the axes where y has 1 */
/* c = a b; m, n, k: counts (N) of the rows, columns and products that are valid, NULL: all. */
typedef struct DnnMatmul {
    DnnDesc a, b, c, m, n, k;
} DnnMatmul;
void dnn_matmul(DnnGraph *g, const DnnMatmul *m);
void dnn_reshape(DnnGraph *g, DnnDesc x, DnnDesc y);

/* The rows of a convolution: forward reads x and w and writes y, the gradients write x or w. */
typedef enum DnnConvolve { DNN_FORWARD, DNN_BACKWARD_DATA, DNN_BACKWARD_FILTER } DnnConvolve;
typedef struct DnnWindow {
    int64_t stride[2], before[2], after[2]; /* along H and W */
} DnnWindow;
void dnn_convolve(DnnGraph *g, DnnConvolve kind, const DnnWindow *window, DnnDesc x, DnnDesc w, DnnDesc y);

/* One operation of another kind: dnn_begin, its attributes, dnn_end. */
DnnDesc dnn_begin(DnnGraph *g, cudnnBackendDescriptorType_t type);
/* Anything but descriptors, of at most 64 bytes. */
void dnn_set(DnnGraph *g, DnnDesc desc, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
             int64_t count, const void *values);
void dnn_set_desc(DnnGraph *g, DnnDesc desc, cudnnBackendAttributeName_t name, DnnDesc value); /* NULL: not set */
void dnn_end(DnnGraph *g, DnnDesc operation);

#endif
