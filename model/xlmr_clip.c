#include "model/xlmr_clip.h"

#include <math.h>
#include <stdlib.h>

#include "base/arena.h"
#include "engine/ops.h"
#include "model/text_layers.h"

#define NORM_EPS 1e-5f
#define TYPES 1 /* XLM-RoBERTa has one token type */

/* Of the weights that are drawn (see the header). */
#define POSITION_SCALE 0.1
#define SCORE_DEVIATION 0.25 /* of q.k / sqrt(d): attention weights stay within about e^+-0.25 of their mean */
#define ATTENTION_GAIN 1.0   /* of all layers together */
#define FEED_FORWARD_GAIN 0.25

typedef struct Xlmr {
    TextLayers layers;
    const XlmrConfig *config;
    int64_t width;
    TensorId mask;
} Xlmr;

static TensorId norm(const Xlmr *x, const char *name, TensorId states)
{
    TensorId gamma = text_param(&x->layers, text_name(name, -1, "weight").text, SHAPE1(x->width), PARAM_INIT_ONE, 0);
    TensorId beta = text_param(&x->layers, text_name(name, -1, "bias").text, SHAPE1(x->width), PARAM_INIT_ZERO, 0);
    return op_layer_norm(x->layers.graph, states, gamma, beta, NORM_EPS);
}

/* tokens I32 (N,T) -> F32 (N,T,width). */
static TensorId embed(const Xlmr *x, TensorId tokens)
{
    Graph *graph = x->layers.graph;
    const TextLayers *t = &x->layers;
    if (!graph_ok(graph)) return TENSOR_NONE;
    Shape shape = graph_tensor(graph, tokens)->shape;
    int32_t *zeros = mem_alloc_array((size_t)shape_count(&shape), sizeof *zeros);
    if (zeros == NULL) {
        graph_fail(graph, ERR_MEMORY, "out of memory for the token types");
        return TENSOR_NONE;
    }
    TensorId types = graph_constant(graph, "token_types", DTYPE_I32, shape, zeros);
    free(zeros);
    TensorId positions = op_position_ids(graph, tokens, XLMR_PADDING_ID);
    TensorId sum =
        text_embedding(t, "transformer.embeddings.word_embeddings.weight", tokens, x->config->vocab, x->width, 1);
    sum = op_add(graph, sum,
                 text_embedding(t, "transformer.embeddings.token_type_embeddings.weight", types, TYPES, x->width, 0));
    sum = op_add(graph, sum,
                 text_embedding(t, "transformer.embeddings.position_embeddings.weight", positions, x->config->positions,
                                x->width, POSITION_SCALE));
    return norm(x, "transformer.embeddings.LayerNorm", sum);
}

static TextName layer_name(int64_t layer, const char *rest)
{
    return text_name("transformer.encoder.layer", layer, rest);
}

/* states F32 (N,T,width) -> the same. */
static TensorId attention(const Xlmr *x, int64_t layer, TensorId states)
{
    const TextLayers *t = &x->layers;
    TextDraw scores = {PARAM_INIT_NORMAL, sqrt(SCORE_DEVIATION)}, value = {PARAM_INIT_IDENTITY, 1};
    TextDraw output = {PARAM_INIT_IDENTITY, ATTENTION_GAIN / sqrt((double)x->config->layers)};
    TensorId in = text_to_compute(t, states);
    TensorId q = text_linear(t, layer_name(layer, "attention.self.query").text, in, x->width, true, ACT_NONE, scores);
    TensorId k = text_linear(t, layer_name(layer, "attention.self.key").text, in, x->width, true, ACT_NONE, scores);
    TensorId v = text_linear(t, layer_name(layer, "attention.self.value").text, in, x->width, true, ACT_NONE, value);
    TensorId y = op_cross_attention(t->graph, q, k, v, x->mask, TENSOR_NONE, (int32_t)x->config->heads, 0);
    y = text_linear(t, layer_name(layer, "attention.output.dense").text, y, x->width, true, ACT_NONE, output);
    return norm(x, layer_name(layer, "attention.output.LayerNorm").text, text_add(t, states, y));
}

static TensorId feed_forward(const Xlmr *x, int64_t layer, TensorId states)
{
    const TextLayers *t = &x->layers;
    TextDraw inner = {PARAM_INIT_NORMAL, 1};
    TextDraw output = {PARAM_INIT_NORMAL, FEED_FORWARD_GAIN / sqrt((double)x->config->layers)};
    TensorId y = text_to_compute(t, states);
    y = text_linear(t, layer_name(layer, "intermediate.dense").text, y, x->config->feed_forward, true, ACT_GELU, inner);
    y = text_linear(t, layer_name(layer, "output.dense").text, y, x->width, true, ACT_NONE, output);
    return norm(x, layer_name(layer, "output.LayerNorm").text, text_add(t, states, y));
}

XlmrStates xlmr_clip_forward(Graph *graph, const ModelConfig *model, TensorId tokens, TensorId mask)
{
    Xlmr x = {{graph, XLMR_PREFIX}, &model->text_encoder1, model->text1_dim, mask};
    XlmrStates out;
    TensorId states = embed(&x, tokens);
    for (int64_t layer = 0; layer < x.config->layers; layer++) {
        states = attention(&x, layer, states);
        states = feed_forward(&x, layer, states);
    }
    out.states = states;
    graph_name(graph, out.states, "text_encoder1");
    TensorId mean = op_masked_mean(graph, states, mask);
    out.pooled = text_linear(&x.layers, "LinearTransformation", mean, model->pooled_dim, true, ACT_NONE,
                             (TextDraw){PARAM_INIT_NORMAL, 1});
    graph_name(graph, out.pooled, "text_encoder1.pooled");
    return out;
}
