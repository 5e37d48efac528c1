#include "model/text_layers.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "engine/ops.h"

TextName text_name(const char *first, int64_t level, const char *rest)
{
    TextName name;
    if (level >= 0)
        snprintf(name.text, sizeof name.text, "%s.%" PRId64 ".%s", first, level, rest);
    else
        snprintf(name.text, sizeof name.text, "%s.%s", first, rest);
    return name;
}

TensorId text_param(const TextLayers *t, const char *name, Shape shape, ParamInit init, double scale)
{
    char full[256];
    snprintf(full, sizeof full, "%s%s", t->prefix, name);
    return graph_param(t->graph, &(Param){.name = full,
                                          .shape = shape,
                                          .layout = PARAM_PLAIN,
                                          .init = init,
                                          .init_scale = (float)scale,
                                          .trainable = false});
}

TensorId text_embedding(const TextLayers *t, const char *name, TensorId ids, int64_t rows, int64_t width, double scale)
{
    TensorId table = text_param(t, name, SHAPE2(rows, width), PARAM_INIT_NORMAL, scale);
    return op_embedding(t->graph, ids, table, TENSOR_NONE, DTYPE_F32);
}

TensorId text_linear(const TextLayers *t, const char *name, TensorId x, int64_t out, bool bias, Activation act,
                     TextDraw draw)
{
    if (!graph_ok(t->graph)) return TENSOR_NONE;
    const Shape *shape = &graph_tensor(t->graph, x)->shape;
    int64_t in = shape->dim[shape->ndim - 1];
    double scale = draw.init == PARAM_INIT_NORMAL ? draw.gain / sqrt((double)in) : draw.gain;
    TensorId w = text_param(t, text_name(name, -1, "weight").text, SHAPE2(out, in), draw.init, scale);
    TensorId b = TENSOR_NONE;
    if (bias) b = text_param(t, text_name(name, -1, "bias").text, SHAPE1(out), PARAM_INIT_ZERO, 0);
    return op_linear(t->graph, x, w, b, TENSOR_NONE, act);
}

static TensorId to_dtype(Graph *graph, TensorId x, Dtype dtype)
{
    if (!graph_ok(graph) || graph_tensor(graph, x)->dtype == dtype) return x;
    return op_cast(graph, x, dtype);
}

TensorId text_to_compute(const TextLayers *t, TensorId x)
{
    return to_dtype(t->graph, x, graph_compute(t->graph));
}

TensorId text_add(const TextLayers *t, TensorId states, TensorId x)
{
    return op_add(t->graph, states, to_dtype(t->graph, x, DTYPE_F32));
}
