#include "model/text_encoder.h"

#include <math.h>
#include <stdio.h>

#include "engine/ops.h"

#define NORM_EPS 1e-5f
/* Of q.k in the mixing layer, per channel of a head: rows are normalised, so |q.k| is at most the head's width and the
 * weights stay within e^+-0.5 of each other: a soft mean. */
#define MIXING_TEMPERATURE 0.5
#define POSITION_WEIGHT 0.1

typedef struct Encoder {
    Graph *graph;
    const TextEncoderConfig *config;
    const char *name;
    int64_t width, rows;
} Encoder;

static TensorId frozen(const Encoder *e, const char *suffix, Shape shape, ParamInit init, double scale)
{
    char name[128];
    snprintf(name, sizeof name, "%s.%s", e->name, suffix);
    return graph_param(e->graph, &(Param){.name = name,
                                          .shape = shape,
                                          .layout = PARAM_PLAIN,
                                          .init = init,
                                          .init_scale = (float)scale,
                                          .trainable = false});
}

static TensorId norm(const Encoder *e, const char *suffix, TensorId x)
{
    char gamma[64], beta[64];
    snprintf(gamma, sizeof gamma, "%s.weight", suffix);
    snprintf(beta, sizeof beta, "%s.bias", suffix);
    TensorId weight = frozen(e, gamma, SHAPE1(e->width), PARAM_INIT_ONE, 0);
    TensorId bias = frozen(e, beta, SHAPE1(e->width), PARAM_INIT_ZERO, 0);
    return op_layer_norm(e->graph, x, weight, bias, NORM_EPS);
}

/* tokens, mask I32 (N,T) -> (N,T,width), compute dtype. */
static TensorId seeded_states(const Encoder *e, TensorId tokens, TensorId mask)
{
    Graph *graph = e->graph;
    int32_t heads = (int32_t)e->config->heads;
    TensorId table = frozen(e, "token_embedding", SHAPE2(e->config->vocab, e->width), PARAM_INIT_NORMAL, 1);
    TensorId positions = frozen(e, "positions", SHAPE2(e->rows, e->width), PARAM_INIT_NORMAL, POSITION_WEIGHT);
    TensorId h = op_embedding(graph, tokens, table, positions, graph_compute(graph));
    h = norm(e, "ln_token", h);
    float scale = (float)(MIXING_TEMPERATURE * e->config->heads / (double)e->width);
    TensorId mean = op_cross_attention(graph, h, h, h, mask, TENSOR_NONE, heads, scale);
    h = norm(e, "ln_state", op_add(graph, h, mean));
    graph_name(graph, h, "%s", e->name);
    return h;
}

TextStates text_encoders_forward(Graph *graph, const ModelConfig *model, TensorId tokens1, TensorId mask1,
                                 TensorId tokens2, TensorId mask2)
{
    Encoder first = {graph, &model->text_encoder1, "text_encoder1", model->text1_dim, model->max_tokens};
    Encoder second = {graph, &model->text_encoder2, "text_encoder2", model->text2_dim, model->max_tokens};
    TextStates states;
    states.full_emb1 = seeded_states(&first, tokens1, mask1);
    TensorId pooling = frozen(&first, "pooling", SHAPE2(model->pooled_dim, model->text1_dim), PARAM_INIT_NORMAL,
                              1 / sqrt((double)model->text1_dim));
    TensorId mean = op_masked_mean(graph, states.full_emb1, mask1);
    states.pooled_emb1 = op_linear(graph, mean, pooling, TENSOR_NONE, TENSOR_NONE, ACT_NONE);
    graph_name(graph, states.pooled_emb1, "text_encoder1.pooled");
    states.full_emb2 = seeded_states(&second, tokens2, mask2);
    return states;
}
