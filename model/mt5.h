/* The encoder of mT5: text encoder 2 of Kandinsky 2.0, forward only.
 *
 * T5 version 1.1 (Raffel et al. 2020, arXiv:1910.10683; Xue et al. 2021, arXiv:2010.11934): no biases and no absolute
 * positions; root-mean-square norms before each part (eps 1e-6) and one at the end; scores are not scaled by the head's
 * width, and all layers add the relative position bias that the first one holds; the feed-forward part is
 * wo (gelu(wi_0 x) * wi_1 x) with the tanh form of GELU.
 *
 * Parameters carry the published names (shared.weight, encoder.block.0.layer.0.SelfAttention.q.weight, ...,
 * encoder.final_layer_norm.weight) after the prefix "text_encoder2.".
 *
 * Without a weight file they are drawn from the seed in the way that model/xlmr_clip.h describes. */
#ifndef MODEL_MT5_H
#define MODEL_MT5_H

#include "engine/graph.h"
#include "model/model_config.h"

#define MT5_PREFIX "text_encoder2."

/* tokens, mask I32 (N,T); mask 1 = real token, 0 = padding, at least one real token a row -> F32 (N,T,text2_dim),
 * padding rows too. */
TensorId mt5_forward(Graph *graph, const ModelConfig *model, TensorId tokens, TensorId mask);

#endif
