#include "engine/cuda/dnn_graph.h"

#include <stdio.h>
#include <string.h>

void dnn_error_text(cudnnStatus_t error, char *out, size_t capacity)
{
    char why[1024] = "";
    cudnnGetLastErrorString(why, sizeof why);
    for (char *c = why; *c; c++) {
        if (*c == '\n') *c = ' ';
    }
    snprintf(out, capacity, "%s: %s", cudnnGetErrorString(error), why);
}

/* What cuDNN has not may be done in another way; a library that it misses, or an error, is to be seen. */
static Status status_of(cudnnStatus_t error)
{
    const bool lacks = CUDNN_STATUS_CATEGORY((int)error) == CUDNN_STATUS_NOT_SUPPORTED &&
                       error != CUDNN_STATUS_NOT_SUPPORTED_RUNTIME_PREREQUISITE_MISSING;
    return lacks ? ERR_UNSUPPORTED : ERR_INTERNAL;
}

Status dnn_fail(cudnnStatus_t error, const char *file, int line, const char *call)
{
    char why[1200];
    dnn_error_text(error, why, sizeof why);
    return status_fail(status_of(error), file, line, "cuDNN: %s: %s", call, why);
}

void dnn_graph_free(DnnGraph *g)
{
    /* What refers to others was made after them. */
    while (g->descs > 0) cudnnBackendDestroyDescriptor(g->desc[--g->descs]);
    g->ops = 0;
}

static void note(DnnGraph *g, cudnnStatus_t error, int line, const char *call)
{
    if (error != CUDNN_STATUS_SUCCESS && g->status == STATUS_OK) g->status = dnn_fail(error, __FILE__, line, call);
}

DnnDesc dnn_begin(DnnGraph *g, cudnnBackendDescriptorType_t type)
{
    DnnDesc made = NULL;
    if (g->status != STATUS_OK) return NULL;
    if (g->descs == DNN_GRAPH_DESCS) {
        g->status = status_fail(ERR_INTERNAL, __FILE__, __LINE__, "an operation graph of over %d parts", g->descs);
        return NULL;
    }
    note(g, cudnnBackendCreateDescriptor(type, &made), __LINE__, "create a descriptor");
    if (made) g->desc[g->descs++] = made;
    return made;
}

/* Descriptors count by their place in the order of making. */
static int32_t place(const DnnGraph *g, DnnDesc desc)
{
    int32_t i = g->descs - 1;
    while (i >= 0 && g->desc[i] != desc) i--;
    return i;
}

static void remember(DnnGraph *g, DnnDesc desc, cudnnBackendAttributeName_t name, const void *values, size_t size)
{
    struct {
        Hash128 before;
        int32_t desc, name;
        unsigned char values[64];
    } text = {.before = g->hash, .desc = place(g, desc), .name = (int32_t)name};
    if (size > sizeof text.values) size = sizeof text.values;
    memcpy(text.values, values, size);
    g->hash = hash_memory(&text, sizeof text);
}

static int64_t size_of(cudnnBackendAttributeType_t type)
{
    switch (type) {
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_DOUBLE:
        return 8;
    case CUDNN_TYPE_BOOLEAN:
        return (int64_t)sizeof(bool);
    default:
        return 4; /* enumerations, floats */
    }
}

void dnn_set(DnnGraph *g, DnnDesc desc, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
             int64_t count, const void *values)
{
    if (g->status != STATUS_OK) return;
    remember(g, desc, name, values, (size_t)(count * size_of(type)));
    note(g, cudnnBackendSetAttribute(desc, name, type, count, values), __LINE__, "set an attribute");
}

void dnn_set_desc(DnnGraph *g, DnnDesc desc, cudnnBackendAttributeName_t name, DnnDesc value)
{
    if (!value || g->status != STATUS_OK) return;
    const int32_t at = place(g, value);
    remember(g, desc, name, &at, sizeof at);
    note(g, cudnnBackendSetAttribute(desc, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value), __LINE__, "set a part");
}

static void set_type(DnnGraph *g, DnnDesc desc, cudnnBackendAttributeName_t name, cudnnDataType_t type)
{
    dnn_set(g, desc, name, CUDNN_TYPE_DATA_TYPE, 1, &type);
}

static void finish(DnnGraph *g, DnnDesc desc, const char *what)
{
    if (g->status == STATUS_OK) note(g, cudnnBackendFinalize(desc), __LINE__, what);
}

void dnn_end(DnnGraph *g, DnnDesc operation)
{
    finish(g, operation, "finish an operation");
    if (g->status != STATUS_OK) return;
    if (g->ops == DNN_GRAPH_OPS) {
        g->status = status_fail(ERR_INTERNAL, __FILE__, __LINE__, "an operation graph of over %d operations", g->ops);
        return;
    }
    g->op[g->ops++] = operation;
}

cudnnDataType_t dnn_type(Dtype type)
{
    return type == DTYPE_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
}

/* ---- tensors ---- */

static void add_operand(DnnGraph *g, DnnOperand operand)
{
    if (g->status != STATUS_OK) return;
    for (int32_t i = 0; i < g->operands; i++) {
        if (g->operand[i].uid == operand.uid) return; /* the same memory seen in another way */
    }
    if (g->operands == DNN_GRAPH_OPERANDS) {
        g->status =
            status_fail(ERR_INTERNAL, __FILE__, __LINE__, "an operation graph of over %d operands", g->operands);
        return;
    }
    g->operand[g->operands++] = operand;
}

static DnnDesc make_tensor(DnnGraph *g, int64_t uid, cudnnDataType_t type, const DnnDims *dims, const DnnDims *strides,
                           bool by_value)
{
    const bool is_virtual = uid == 0;
    const int64_t id = is_virtual ? 1000 + g->virtuals++ : uid,
                  alignment = by_value || type == CUDNN_DATA_INT32 ? 4 : DNN_ALIGNMENT;
    DnnDesc t = dnn_begin(g, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    dnn_set(g, t, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &id);
    set_type(g, t, CUDNN_ATTR_TENSOR_DATA_TYPE, type);
    dnn_set(g, t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims->dim);
    dnn_set(g, t, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides->dim);
    dnn_set(g, t, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    dnn_set(g, t, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual);
    dnn_set(g, t, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &by_value);
    finish(g, t, "finish a tensor");
    return t;
}

DnnDesc dnn_tensor(DnnGraph *g, int64_t uid, cudnnDataType_t type, DnnDims dims, DnnDims strides)
{
    if (uid != 0) {
        int64_t last = 0;
        for (int i = 0; i < 4; i++) last += (dims.dim[i] - 1) * strides.dim[i];
        add_operand(g, (DnnOperand){.uid = uid, .bytes = (last + 1) * (type == CUDNN_DATA_BFLOAT16 ? 2 : 4)});
    }
    return make_tensor(g, uid, type, &dims, &strides, false);
}

DnnDesc dnn_picture(DnnGraph *g, int64_t uid, cudnnDataType_t type, int64_t n, int64_t c, int64_t h, int64_t w)
{
    return dnn_tensor(g, uid, type, DNN_DIMS(n, c, h, w), DNN_DIMS(h * w * c, 1, w * c, c));
}

DnnDesc dnn_scalar(DnnGraph *g, int64_t uid, float value)
{
    const DnnDims one = DNN_DIMS(1, 1, 1, 1);
    add_operand(g, (DnnOperand){.uid = uid, .by_value = true, .value = value});
    return make_tensor(g, uid, CUDNN_DATA_FLOAT, &one, &one, true);
}

DnnDesc dnn_counts(DnnGraph *g, int64_t uid, int64_t n, int32_t fill)
{
    const DnnDims dims = DNN_DIMS(n, 1, 1, 1), strides = DNN_DIMS(1, 1, 1, 1);
    add_operand(g, (DnnOperand){.uid = uid, .bytes = n * 4, .fill = fill});
    return make_tensor(g, uid, CUDNN_DATA_INT32, &dims, &strides, false);
}

/* ---- operations ---- */

void dnn_pointwise_with(DnnGraph *g, const DnnPointwise *p)
{
    DnnDesc how = dnn_begin(g, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    dnn_set(g, how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &p->mode);
    set_type(g, how, CUDNN_ATTR_POINTWISE_MATH_PREC, p->math);
    if (p->axis >= 0) dnn_set(g, how, CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, 1, &p->axis);
    finish(g, how, "finish a pointwise function");
    DnnDesc op = dnn_begin(g, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, p->x);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, p->b);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_POINTWISE_TDESC, p->t);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, p->y);
    dnn_end(g, op);
}

void dnn_pointwise(DnnGraph *g, cudnnPointwiseMode_t mode, DnnDesc x, DnnDesc b, DnnDesc y)
{
    dnn_pointwise_with(g, &(DnnPointwise){.mode = mode, .math = CUDNN_DATA_FLOAT, .axis = -1, .x = x, .b = b, .y = y});
}

void dnn_sum(DnnGraph *g, DnnDesc x, DnnDesc y)
{
    const cudnnReduceTensorOp_t add = CUDNN_REDUCE_TENSOR_ADD;
    DnnDesc how = dnn_begin(g, CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
    dnn_set(g, how, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, &add);
    set_type(g, how, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_DATA_FLOAT);
    finish(g, how, "finish a reduction");
    DnnDesc op = dnn_begin(g, CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_REDUCTION_DESC, how);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, y);
    dnn_end(g, op);
}

void dnn_matmul(DnnGraph *g, const DnnMatmul *m)
{
    const double padding = 0;
    DnnDesc how = dnn_begin(g, CUDNN_BACKEND_MATMUL_DESCRIPTOR);
    set_type(g, how, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_DATA_FLOAT);
    if (m->m || m->n || m->k) dnn_set(g, how, CUDNN_ATTR_MATMUL_PADDING_VALUE, CUDNN_TYPE_DOUBLE, 1, &padding);
    finish(g, how, "finish a product");
    DnnDesc op = dnn_begin(g, CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_MATMUL_DESC, how);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_MATMUL_ADESC, m->a);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_MATMUL_BDESC, m->b);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_MATMUL_CDESC, m->c);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC, m->m);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_MATMUL_GEMM_N_OVERRIDE_DESC, m->n);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_MATMUL_GEMM_K_OVERRIDE_DESC, m->k);
    dnn_end(g, op);
}

void dnn_reshape(DnnGraph *g, DnnDesc x, DnnDesc y)
{
    DnnDesc op = dnn_begin(g, CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, x);
    dnn_set_desc(g, op, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, y);
    dnn_end(g, op);
}

static DnnDesc window_desc(DnnGraph *g, const DnnWindow *window)
{
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const int64_t axes = 2, dilation[2] = {1, 1};
    DnnDesc how = dnn_begin(g, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    set_type(g, how, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_DATA_FLOAT);
    dnn_set(g, how, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    dnn_set(g, how, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &axes);
    dnn_set(g, how, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, window->before);
    dnn_set(g, how, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, window->after);
    dnn_set(g, how, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation);
    dnn_set(g, how, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, window->stride);
    finish(g, how, "finish a convolution's window");
    return how;
}

typedef struct ConvolveNames {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t alpha, beta, window, x, w, y;
} ConvolveNames;

static const ConvolveNames convolve_names[] = {
    [DNN_FORWARD] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y},
    [DNN_BACKWARD_DATA] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY},
    [DNN_BACKWARD_FILTER] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY},
};

void dnn_convolve(DnnGraph *g, DnnConvolve kind, const DnnWindow *window, DnnDesc x, DnnDesc w, DnnDesc y)
{
    const ConvolveNames *names = &convolve_names[kind];
    const float alpha = 1, beta = 0;
    DnnDesc how = window_desc(g, window);
    DnnDesc op = dnn_begin(g, names->type);
    dnn_set(g, op, names->alpha, CUDNN_TYPE_FLOAT, 1, &alpha);
    dnn_set(g, op, names->beta, CUDNN_TYPE_FLOAT, 1, &beta);
    dnn_set_desc(g, op, names->window, how);
    dnn_set_desc(g, op, names->x, x);
    dnn_set_desc(g, op, names->w, w);
    dnn_set_desc(g, op, names->y, y);
    dnn_end(g, op);
}
