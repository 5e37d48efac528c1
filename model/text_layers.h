/* What the frozen text encoders (model/xlmr_clip.c, model/mt5.c) are built from.
 *
 * Between layers states are F32 in every precision; with bf16 only the operands of the matrix products and of the
 * attention are rounded, so that the error does not grow with the number of layers. */
#ifndef MODEL_TEXT_LAYERS_H
#define MODEL_TEXT_LAYERS_H

#include "engine/graph.h"

typedef struct TextLayers {
    Graph *graph;
    const char *prefix; /* of parameter names, with the dot at its end */
} TextLayers;

/* Dotted names: text_name("encoder.block", 3, "layer.0") is encoder.block.3.layer.0; a level < 0 is left out. */
typedef struct TextName {
    char text[128];
} TextName;
TextName text_name(const char *first, int64_t level, const char *rest);

/* A frozen parameter, called prefix + name. */
TensorId text_param(const TextLayers *t, const char *name, Shape shape, ParamInit init, double scale);

/* ids I32 (N,T) -> F32 (N,T,width): rows of the table `name` (rows,width), drawn with deviation `scale`. */
TensorId text_embedding(const TextLayers *t, const char *name, TensorId ids, int64_t rows, int64_t width, double scale);

/* What a linear layer's weights are unless read from a file: an input of unit variance gives one of gain^2. */
typedef struct TextDraw {
    ParamInit init; /* PARAM_INIT_NORMAL, or PARAM_INIT_IDENTITY: the input itself, as far as both are wide */
    double gain;
} TextDraw;

/* A linear layer `name`.weight (out,C) [`name`.bias (out)] on x (...,C), in x's dtype. Drawn biases are 0. */
TensorId text_linear(const TextLayers *t, const char *name, TensorId x, int64_t out, bool bias, Activation act,
                     TextDraw draw);

/* F32 (...) -> the graph's dtype of compute, and back; the same tensor where that is F32. */
TensorId text_to_compute(const TextLayers *t, TensorId x);
/* states F32 + x, F32. */
TensorId text_add(const TextLayers *t, TensorId states, TensorId x);

#endif
