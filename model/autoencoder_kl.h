/* AutoencoderKL as Kandinsky 2.0 publishes it (ai-forever/Kandinsky-2, kandinsky2/vqgan): residual blocks of group norm
 * (32 groups, eps 1e-6), SiLU and 3x3 convolutions, one single-head attention in the middle, 2^(levels-1) pixels per
 * latent position. With its defaults 83.65 M parameters in 248 tensors, named `autoencoder.` and then as published.
 *
 * Frozen. Without a weight file the parameters are drawn from the seed: the encoder is then a random but fixed function
 * of the picture, good enough to exercise training; the decoder does not invert it and draws noise. */
#ifndef MODEL_AUTOENCODER_KL_H
#define MODEL_AUTOENCODER_KL_H

#include "engine/graph.h"
#include "model/model_config.h"

/* pixels F32 (N,H,W,3) -> moments F32 (N,H/f,W/f,2C): mean, then log variance, unscaled. */
TensorId kl_encode(Graph *graph, const ModelConfig *model, TensorId pixels);
/* latent F32 (N,h,w,C), unscaled -> pixels F32 (N,h f,w f,3). */
TensorId kl_decode(Graph *graph, const ModelConfig *model, TensorId latent);

#endif
