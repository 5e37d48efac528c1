/* A graph: a static list of ops over tensors of fixed shape. Append order is execution order.
 *
 * A model is a C function that appends ops with the constructors of engine/ops.h; it writes the forward pass only.
 * graph_backward then appends the gradient ops. Nothing is allocated for tensors here and nothing runs: a Plan
 * (engine/plan.h) places them, an Executor (engine/executor.h) runs them.
 *
 * Constructors return TensorIds and never fail one by one: the first failure (a wrong shape, out of memory) is kept in
 * the graph, later calls do nothing and return TENSOR_NONE, and graph_status tells. So a model reads like its formula.
 */
#ifndef ENGINE_GRAPH_H
#define ENGINE_GRAPH_H

#include "base/status.h"
#include "engine/op.h"
#include "engine/params.h"
#include "engine/tensor.h"

typedef enum TensorKind {
    TENSOR_INPUT,      /* written by the caller before a run */
    TENSOR_CONSTANT,   /* known when the graph is built; the graph owns a copy */
    TENSOR_PARAM,      /* weights, fp32, in a flat buffer */
    TENSOR_PARAM_GRAD, /* their gradient, fp32, in the flat gradient buffer */
    TENSOR_VALUE       /* everything computed */
} TensorKind;

typedef struct Tensor {
    const char *name; /* for messages and tables; may be "" */
    TensorKind kind;
    Dtype dtype;
    Shape shape;
    TensorId view_of; /* a view shares the storage of this tensor (never itself a view); else TENSOR_NONE */
    bool requires_grad;
    bool is_output;       /* kept until the end of the run and readable after it */
    int32_t param;        /* index in the ParamTable for PARAM and PARAM_GRAD; else -1 */
    const void *constant; /* CONSTANT: the data */
    TensorId grad;        /* after graph_backward: the tensor holding its gradient, else TENSOR_NONE */
} Tensor;

typedef struct Graph Graph;

/* `compute`: the dtype in which models built here keep activations (F32 or BF16). The table must outlive the graph. */
Status graph_create(ParamTable *params, Dtype compute, Graph **out);
void graph_free(Graph *graph);
Status graph_status(const Graph *graph);
ParamTable *graph_params(const Graph *graph);
Dtype graph_compute(const Graph *graph);

/* `requires_grad` of an input asks graph_backward for its gradient. */
TensorId graph_input(Graph *graph, const char *name, Dtype dtype, Shape shape, bool requires_grad);
TensorId graph_constant(Graph *graph, const char *name, Dtype dtype, Shape shape, const void *data);
/* A parameter, added to the table if new. `trainable` false, or `held`: no gradient. */
TensorId graph_param(Graph *graph, const Param *param);
TensorId graph_view(Graph *graph, TensorId tensor, Shape shape); /* same element count */
void graph_mark_output(Graph *graph, TensorId tensor);
void graph_name(Graph *graph, TensorId tensor, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Ops appended between begin and end form a segment that the plan may choose to recompute in backward instead of
 * keeping its inner tensors. Segments do not nest. */
void graph_segment_begin(Graph *graph);
void graph_segment_end(Graph *graph);

/* For op constructors (engine/op_*.c). */
TensorId graph_new_value(Graph *graph, Dtype dtype, Shape shape);
void graph_append(Graph *graph, const Op *op); /* sets requires_grad of the outputs */
Status graph_fail(Graph *graph, Status status, const char *format, ...) __attribute__((format(printf, 3, 4)));
bool graph_ok(const Graph *graph);

int32_t graph_op_count(const Graph *graph);
const Op *graph_op(const Graph *graph, int32_t index);
int32_t graph_tensor_count(const Graph *graph);
const Tensor *graph_tensor(const Graph *graph, TensorId id);
TensorId graph_root(const Graph *graph, TensorId id); /* the tensor that owns the storage: view_of, or itself */
int32_t graph_forward_op_count(const Graph *graph);   /* ops before backward began */

/* Appends the gradient of everything trainable and not held (and of inputs with requires_grad) for the scalar or tensor
 * `of`. `seed`: the gradient of `of`, of the same shape; TENSOR_NONE where `of` is produced by a loss op, whose own
 * gradient op starts the chain. `recompute`: segments are recomputed instead of kept. Lays out the table's trainable
 * parameters in the order in which their gradients are finished, if not yet laid out. */
Status graph_backward(Graph *graph, TensorId of, TensorId seed, bool recompute);

#endif
