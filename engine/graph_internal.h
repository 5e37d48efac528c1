/* The graph's own fields, for graph.c and backward.c only. */
#ifndef ENGINE_GRAPH_INTERNAL_H
#define ENGINE_GRAPH_INTERNAL_H

#include "base/arena.h"
#include "engine/graph.h"

struct Graph {
    Arena *arena; /* names and constants */
    ParamTable *params;
    Dtype compute;
    Tensor *tensors;
    size_t tensor_count, tensor_capacity;
    Op *ops;
    size_t op_count, op_capacity;
    int32_t forward_op_count; /* ops before backward began; -1 while forward is being written */
    int32_t segment;          /* the open segment, or -1 */
    int32_t segment_count;
    StatusRecord failure; /* the first failure of a constructor */
};

/* A tensor with every field set; `template` gives what is not the default. */
TensorId graph_add_tensor(Graph *graph, const Tensor *tensor);

#endif
