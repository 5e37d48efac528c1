/* XLM-R-CLIP: text encoder 1 of Kandinsky 2.0, forward only.
 *
 * XLM-RoBERTa (Conneau et al. 2020, arXiv:1911.02116; RoBERTa's layout of BERT): token + position + type embeddings and
 * a layer norm, then layers of self-attention and feed-forward (GELU with erf), each added to its input and normalised
 * after (eps 1e-5). Positions count the real tokens from one after the padding id. The pooled output is a linear map of
 * the mean of the real tokens' states (M-CLIP; Carlsson et al. 2022).
 *
 * Parameters carry the published names (transformer.embeddings.word_embeddings.weight, ...,
 * LinearTransformation.bias) after the prefix "text_encoder1.".
 *
 * Without a weight file they are drawn from the seed so that the states are features that a UNet can learn from: each
 * row tells both its own token and what the caption holds. Token embeddings have unit variance, positions a tenth of
 * that deviation; queries and keys are so small that attention is close to a mean over the real tokens; values and the
 * attention's output are identities, so that the same direction means the same token in every row; the feed-forward
 * layers add little. With random values in place of identities the demo's UNet learns the names several times more
 * slowly (README.md). */
#ifndef MODEL_XLMR_CLIP_H
#define MODEL_XLMR_CLIP_H

#include "engine/graph.h"
#include "model/model_config.h"

#define XLMR_PREFIX "text_encoder1."
#define XLMR_PADDING_ID 1

typedef struct XlmrStates {
    TensorId states; /* F32 (N,T,text1_dim), padding rows too */
    TensorId pooled; /* F32 (N,pooled_dim) */
} XlmrStates;

/* tokens, mask I32 (N,T), T at most positions - 2; mask 1 = real token, 0 = padding, at least one real token a row. */
XlmrStates xlmr_clip_forward(Graph *graph, const ModelConfig *model, TensorId tokens, TensorId mask);

#endif
