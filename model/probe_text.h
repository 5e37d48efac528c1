/* Runs of the text encoders on tokens from a file. */
#ifndef MODEL_PROBE_TEXT_H
#define MODEL_PROBE_TEXT_H

#include "engine/backend.h"
#include "model/model_config.h"

/* Weights are those of model->text_encoder1.weights or text_encoder2.weights, or drawn from `seed` where that is empty.
 *
 * Both read `tokens` (N,T, any integer type; also called `input_ids`) and `mask` (N,T; also `attention_mask`; where it
 * is missing every token counts) from safetensors file `in`, T up to what the positions allow, and write `states`
 * (N,T,width); xlmr-clip also `pooled` (N,pooled_dim). */
Status probe_xlmr_clip(const ModelConfig *model, Backend *backend, Dtype compute, const char *in, const char *out,
                       uint64_t seed);
Status probe_mt5(const ModelConfig *model, Backend *backend, Dtype compute, const char *in, const char *out,
                 uint64_t seed);

#endif
