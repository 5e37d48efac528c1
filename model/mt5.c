#include "model/mt5.h"

#include <math.h>

#include "engine/ops.h"
#include "model/text_layers.h"

#define NORM_EPS 1e-6f

/* Of the weights that are drawn (model/xlmr_clip.h). */
#define SCORE_DEVIATION 0.25
#define BIAS_DEVIATION 0.25
#define ATTENTION_GAIN 1.0
#define FEED_FORWARD_GAIN 0.25

typedef struct Mt5 {
    TextLayers layers;
    const Mt5Config *config;
    int64_t width;
    TensorId mask, bias; /* I32 (N,T); F32 (heads,T,T) */
} Mt5;

static TensorId norm(const Mt5 *m, const char *name, TensorId states)
{
    TensorId gamma = text_param(&m->layers, text_name(name, -1, "weight").text, SHAPE1(m->width), PARAM_INIT_ONE, 0);
    return op_rms_norm(m->layers.graph, states, gamma, NORM_EPS);
}

static TextName block_name(int64_t block, const char *rest)
{
    return text_name("encoder.block", block, rest);
}

static TensorId linear(const Mt5 *m, int64_t block, const char *name, TensorId x, int64_t out, Activation act,
                       TextDraw draw)
{
    return text_linear(&m->layers, block_name(block, name).text, x, out, false, act, draw);
}

/* states F32 (N,T,width) -> what is added to them. Queries, keys and values stay F32 in every precision: T5 does not
 * scale its scores, so that in bf16 large ones would be off by whole tenths. It is a hundredth of the encoders' work.
 */
static TensorId attention(const Mt5 *m, int64_t block, TensorId states)
{
    const Mt5Config *c = m->config;
    int64_t inner = c->heads * c->head_channels;
    TextDraw scores = {PARAM_INIT_NORMAL, sqrt(SCORE_DEVIATION / sqrt((double)c->head_channels))};
    TextDraw value = {PARAM_INIT_IDENTITY, 1};
    TextDraw output = {PARAM_INIT_IDENTITY, ATTENTION_GAIN / sqrt((double)c->layers)};
    TensorId in = norm(m, block_name(block, "layer.0.layer_norm").text, states);
    TensorId q = linear(m, block, "layer.0.SelfAttention.q", in, inner, ACT_NONE, scores);
    TensorId k = linear(m, block, "layer.0.SelfAttention.k", in, inner, ACT_NONE, scores);
    TensorId v = linear(m, block, "layer.0.SelfAttention.v", in, inner, ACT_NONE, value);
    TensorId y = op_cross_attention(m->layers.graph, q, k, v, m->mask, m->bias, (int32_t)c->heads, 1);
    y = text_to_compute(&m->layers, y);
    return linear(m, block, "layer.0.SelfAttention.o", y, m->width, ACT_NONE, output);
}

static TensorId feed_forward(const Mt5 *m, int64_t block, TensorId states)
{
    const Mt5Config *c = m->config;
    TextDraw inner = {PARAM_INIT_NORMAL, 1};
    TextDraw output = {PARAM_INIT_NORMAL, FEED_FORWARD_GAIN / sqrt((double)c->layers)};
    TensorId in = text_to_compute(&m->layers, norm(m, block_name(block, "layer.1.layer_norm").text, states));
    TensorId gate = linear(m, block, "layer.1.DenseReluDense.wi_0", in, c->feed_forward, ACT_GELU_TANH, inner);
    TensorId value = linear(m, block, "layer.1.DenseReluDense.wi_1", in, c->feed_forward, ACT_NONE, inner);
    TensorId y = op_multiply(m->layers.graph, gate, value);
    return linear(m, block, "layer.1.DenseReluDense.wo", y, m->width, ACT_NONE, output);
}

TensorId mt5_forward(Graph *graph, const ModelConfig *model, TensorId tokens, TensorId mask)
{
    Mt5 m = {{graph, MT5_PREFIX}, &model->text_encoder2, model->text2_dim, mask, TENSOR_NONE};
    const TextLayers *t = &m.layers;
    if (!graph_ok(graph)) return TENSOR_NONE;
    int64_t rows = graph_tensor(graph, tokens)->shape.dim[1];
    TensorId states = text_embedding(t, "shared.weight", tokens, m.config->vocab, m.width, 1);
    TensorId table = text_param(t, "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
                                SHAPE2(m.config->buckets, m.config->heads), PARAM_INIT_NORMAL, BIAS_DEVIATION);
    m.bias = op_relative_bias(graph, table, rows, (int32_t)m.config->max_distance);
    for (int64_t block = 0; block < m.config->layers; block++) {
        states = text_add(t, states, attention(&m, block, states));
        states = text_add(t, states, feed_forward(&m, block, states));
    }
    states = norm(&m, "encoder.final_layer_norm", states);
    graph_name(graph, states, "text_encoder2");
    return states;
}
