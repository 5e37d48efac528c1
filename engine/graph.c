#include "engine/graph.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/graph_internal.h"

#define TENSORS_MAX (1 << 24)
#define ELEMENTS_MAX ((int64_t)1 << 40)

Status graph_create(ParamTable *params, Dtype compute, Graph **out)
{
    Status status = STATUS_OK;
    Graph *graph = mem_alloc_array(1, sizeof *graph);
    if (graph == NULL) return ERR_MEMORY;
    TRY(arena_create(&graph->arena));
    graph->params = params;
    graph->compute = compute;
    graph->forward_op_count = -1;
    graph->segment = -1;
    *out = graph;
    return STATUS_OK;
fail:
    graph_free(graph);
    return status;
}

void graph_free(Graph *graph)
{
    if (graph == NULL) return;
    arena_free(graph->arena);
    free(graph->tensors);
    free(graph->ops);
    free(graph);
}

Status graph_status(const Graph *graph)
{
    return graph->failure.status == STATUS_OK ? STATUS_OK : status_restore(&graph->failure);
}

bool graph_ok(const Graph *graph)
{
    return graph->failure.status == STATUS_OK;
}

ParamTable *graph_params(const Graph *graph)
{
    return graph->params;
}

Dtype graph_compute(const Graph *graph)
{
    return graph->compute;
}

/* Keeps the failure that status_fail has just recorded, if it is the first. */
static Status keep_failure(Graph *graph, Status status)
{
    if (graph_ok(graph)) status_save(status, &graph->failure);
    return status;
}

Status graph_fail(Graph *graph, Status status, const char *format, ...)
{
    char message[STATUS_MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return keep_failure(graph, status_fail(status, __FILE__, __LINE__, "%s", message));
}

/* True when the shape has 1 to SHAPE_MAX_DIMS positive dimensions and a sane number of elements. */
static bool shape_is_sane(const Shape *shape)
{
    if (shape->ndim < 1 || shape->ndim > SHAPE_MAX_DIMS) return false;
    int64_t count = 1;
    for (int32_t k = 0; k < shape->ndim; k++) {
        if (shape->dim[k] < 1 || shape->dim[k] > ELEMENTS_MAX / count) return false;
        count *= shape->dim[k];
    }
    return true;
}

TensorId graph_add_tensor(Graph *graph, const Tensor *tensor)
{
    if (!graph_ok(graph)) return TENSOR_NONE;
    if (!shape_is_sane(&tensor->shape)) {
        char text[96];
        shape_format(&tensor->shape, text, sizeof text);
        graph_fail(graph, ERR_INTERNAL, "tensor '%s' has the impossible shape %s", tensor->name, text);
        return TENSOR_NONE;
    }
    if (graph->tensor_count >= TENSORS_MAX) {
        graph_fail(graph, ERR_LIMIT, "a graph holds at most %d tensors", TENSORS_MAX);
        return TENSOR_NONE;
    }
    Status status = mem_grow(&graph->tensors, &graph->tensor_capacity, graph->tensor_count + 1, sizeof *graph->tensors);
    if (status != STATUS_OK) {
        keep_failure(graph, status);
        return TENSOR_NONE;
    }
    graph->tensors[graph->tensor_count] = *tensor;
    return (TensorId)graph->tensor_count++;
}

static TensorId add_named(Graph *graph, const char *name, Tensor tensor)
{
    if (!graph_ok(graph)) return TENSOR_NONE;
    tensor.name = name[0] == '\0' ? "" : arena_strdup(graph->arena, name);
    if (tensor.name == NULL) {
        keep_failure(graph, ERR_MEMORY);
        return TENSOR_NONE;
    }
    tensor.view_of = TENSOR_NONE;
    tensor.grad = TENSOR_NONE;
    return graph_add_tensor(graph, &tensor);
}

TensorId graph_input(Graph *graph, const char *name, Dtype dtype, Shape shape, bool requires_grad)
{
    return add_named(
        graph, name,
        (Tensor){.kind = TENSOR_INPUT, .dtype = dtype, .shape = shape, .requires_grad = requires_grad, .param = -1});
}

TensorId graph_constant(Graph *graph, const char *name, Dtype dtype, Shape shape, const void *data)
{
    if (!graph_ok(graph)) return TENSOR_NONE;
    if (!shape_is_sane(&shape)) {
        graph_fail(graph, ERR_INTERNAL, "constant '%s' has an impossible shape", name);
        return TENSOR_NONE;
    }
    size_t bytes = (size_t)shape_count(&shape) * dtype_size(dtype);
    void *copy = arena_alloc(graph->arena, bytes);
    if (copy == NULL) {
        keep_failure(graph, ERR_MEMORY);
        return TENSOR_NONE;
    }
    memcpy(copy, data, bytes);
    return add_named(graph, name,
                     (Tensor){.kind = TENSOR_CONSTANT, .dtype = dtype, .shape = shape, .constant = copy, .param = -1});
}

TensorId graph_param(Graph *graph, const Param *param)
{
    if (!graph_ok(graph)) return TENSOR_NONE;
    int32_t index = -1;
    Status status = param_table_add(graph->params, param, &index);
    if (status != STATUS_OK) {
        keep_failure(graph, status);
        return TENSOR_NONE;
    }
    /* One tensor per parameter, so that its gradient is one tensor too, however often it is used. */
    for (size_t i = 0; i < graph->tensor_count; i++) {
        const Tensor *t = &graph->tensors[i];
        if (t->kind == TENSOR_PARAM && t->param == index && t->view_of == TENSOR_NONE) return (TensorId)i;
    }
    const Param *known = param_table_get(graph->params, index);
    return add_named(graph, known->name,
                     (Tensor){.kind = TENSOR_PARAM,
                              .dtype = DTYPE_F32,
                              .shape = known->shape,
                              .requires_grad = known->trainable && !known->held,
                              .param = index});
}

TensorId graph_root(const Graph *graph, TensorId id)
{
    if (id == TENSOR_NONE) return TENSOR_NONE;
    TensorId base = graph->tensors[id].view_of;
    return base == TENSOR_NONE ? id : base;
}

TensorId graph_view(Graph *graph, TensorId tensor, Shape shape)
{
    if (!graph_ok(graph)) return TENSOR_NONE;
    if (tensor < 0 || (size_t)tensor >= graph->tensor_count) {
        graph_fail(graph, ERR_INTERNAL, "graph_view of a tensor that does not exist");
        return TENSOR_NONE;
    }
    Tensor view = graph->tensors[tensor];
    if (shape_equal(&view.shape, &shape)) return tensor;
    if (!shape_is_sane(&shape) || shape_count(&shape) != shape_count(&view.shape)) {
        char from[96], to[96];
        shape_format(&view.shape, from, sizeof from);
        shape_format(&shape, to, sizeof to);
        graph_fail(graph, ERR_INTERNAL, "tensor '%s' of shape %s cannot be seen as %s", view.name, from, to);
        return TENSOR_NONE;
    }
    view.shape = shape;
    view.view_of = graph_root(graph, tensor);
    view.grad = TENSOR_NONE;
    return graph_add_tensor(graph, &view);
}

void graph_mark_output(Graph *graph, TensorId tensor)
{
    if (!graph_ok(graph) || tensor == TENSOR_NONE) return;
    graph->tensors[tensor].is_output = true;
    graph->tensors[graph_root(graph, tensor)].is_output = true;
}

void graph_name(Graph *graph, TensorId tensor, const char *format, ...)
{
    if (!graph_ok(graph) || tensor == TENSOR_NONE) return;
    char name[256];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    char *copy = arena_strdup(graph->arena, name);
    if (copy == NULL) {
        keep_failure(graph, ERR_MEMORY);
        return;
    }
    graph->tensors[tensor].name = copy;
}

void graph_segment_begin(Graph *graph)
{
    if (!graph_ok(graph)) return;
    if (graph->segment >= 0) {
        graph_fail(graph, ERR_INTERNAL, "recomputation segments do not nest");
        return;
    }
    graph->segment = graph->segment_count++;
}

void graph_segment_end(Graph *graph)
{
    graph->segment = -1;
}

TensorId graph_new_value(Graph *graph, Dtype dtype, Shape shape)
{
    return add_named(graph, "", (Tensor){.kind = TENSOR_VALUE, .dtype = dtype, .shape = shape, .param = -1});
}

void graph_append(Graph *graph, const Op *op)
{
    if (!graph_ok(graph)) return;
    Status status = mem_grow(&graph->ops, &graph->op_capacity, graph->op_count + 1, sizeof *graph->ops);
    if (status != STATUS_OK) {
        keep_failure(graph, status);
        return;
    }
    Op *added = &graph->ops[graph->op_count++];
    *added = *op;
    for (int32_t k = added->in_count; k < OP_MAX_IN; k++) added->in[k] = TENSOR_NONE;
    for (int32_t k = added->out_count; k < OP_MAX_OUT; k++) added->out[k] = TENSOR_NONE;
    if (op->is_backward) return;

    added->segment = graph->segment;
    added->forward = -1;
    bool wants = false;
    for (int32_t k = 0; k < added->in_count; k++)
        wants |= added->in[k] != TENSOR_NONE && graph->tensors[added->in[k]].requires_grad;
    for (int32_t k = 0; k < added->out_count; k++)
        if (added->out[k] != TENSOR_NONE) graph->tensors[added->out[k]].requires_grad = wants;
}

int32_t graph_op_count(const Graph *graph)
{
    return (int32_t)graph->op_count;
}

const Op *graph_op(const Graph *graph, int32_t index)
{
    return &graph->ops[index];
}

int32_t graph_tensor_count(const Graph *graph)
{
    return (int32_t)graph->tensor_count;
}

const Tensor *graph_tensor(const Graph *graph, TensorId id)
{
    return &graph->tensors[id];
}

int32_t graph_forward_op_count(const Graph *graph)
{
    return graph->forward_op_count < 0 ? (int32_t)graph->op_count : graph->forward_op_count;
}
