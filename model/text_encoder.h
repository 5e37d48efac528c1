/* Frozen text encoders on the graph.
 *
 * `seeded`: no pre-trained weights, a fixed random network drawn from the run's seed, whose states are features that
 * a UNet can learn from:
 *     h = layer_norm(token[id] + position[t])
 *     m = mixing attention over the caption's real tokens, near uniform: about their mean, for every row
 *     state = layer_norm(h + m)
 * so each row, padding rows included, says both its own token and what the caption holds. Encoder 1 also pools:
 * a random linear map of the mean state over real tokens, text1_dim -> pooled_dim. */
#ifndef MODEL_TEXT_ENCODER_H
#define MODEL_TEXT_ENCODER_H

#include "engine/graph.h"
#include "model/model_config.h"

typedef struct TextStates {
    TensorId full_emb1;   /* (N,T,text1_dim), compute dtype */
    TensorId pooled_emb1; /* (N,pooled_dim), compute dtype */
    TensorId full_emb2;   /* (N,T,text2_dim), compute dtype */
} TextStates;

/* tokens and masks I32 (N,T); mask 1 = real token (special tokens included), 0 = padding. */
TextStates text_encoders_forward(Graph *graph, const ModelConfig *model, TensorId tokens1, TensorId mask1,
                                 TensorId tokens2, TensorId mask2);

#endif
