/* Frozen picture autoencoders on the graph.
 *
 * `patch`: each f x f patch is taken apart by an orthonormal two-dimensional DCT-II per colour, in an orthonormal
 * opponent-colour basis
 *     Y = (R + G + B) / sqrt(3),  P = (R - B) / sqrt(2),  Q = (R - 2G + B) / sqrt(6),
 * and the `latent_channels` lowest coefficients are kept: along the zig-zag of (u,v), luma coefficient z has rank z,
 * chroma coefficients z have rank 4z (chroma at a quarter of luma's density, as 4:2:0 pictures do), luma first among
 * equals. 3 f^2 channels lose nothing. Latent k = coefficient k * scale * (1 + u^2 + v^2)^(whiten/2). With whiten 0
 * the noise of diffusion is white in pixels too. There are no learned weights. */
#ifndef MODEL_AUTOENCODER_H
#define MODEL_AUTOENCODER_H

#include "engine/graph.h"
#include "model/model_config.h"

/* pixels F32 (N,R,R,3) in [-1,1] -> F32 (N,R/f,R/f,C). */
TensorId autoencoder_encode(Graph *graph, const ModelConfig *model, TensorId pixels);
/* latent F32 (N,h,w,C) -> F32 (N,h f,w f,3), not clipped. No gradient. */
TensorId autoencoder_decode(Graph *graph, const ModelConfig *model, TensorId latent);
/* The largest magnitude that the latents of an even picture in [-1,1] have (brightness: sqrt(3) f scale): what dynamic
 * thresholding clips to. */
double autoencoder_latent_bound(const ModelConfig *model);

/* The patch transform as convolution weights (C,f,f,3): `encode` true includes the factors of each latent, false
 * their inverses (for the transposed convolution). Exposed for tests. */
Status autoencoder_patch_weights(const AutoencoderConfig *config, int64_t latent_channels, bool encode, float *weights);

#endif
