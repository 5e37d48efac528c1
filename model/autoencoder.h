/* Frozen picture autoencoders on the graph. Encoding has two halves: `moments`, which a picture determines and which
 * can be computed once and stored, and the latent, which for `kl` is drawn from the moments anew for every sample.
 *
 * `patch`: each f x f patch is taken apart by an orthonormal two-dimensional DCT-II per colour, in an orthonormal
 * opponent-colour basis
 *     Y = (R + G + B) / sqrt(3),  P = (R - B) / sqrt(2),  Q = (R - 2G + B) / sqrt(6),
 * and the `latent_channels` lowest coefficients are kept: along the zig-zag of (u,v), luma coefficient z has rank z,
 * chroma coefficients z have rank 4z (chroma at a quarter of luma's density, as 4:2:0 pictures do), luma first among
 * equals. 3 f^2 channels lose nothing. Latent k = coefficient k * scale * (1 + u^2 + v^2)^(whiten/2). With whiten 0
 * the noise of diffusion is white in pixels too. There are no learned weights. Its moments are its latents.
 *
 * `none`: the latent is the picture times scale, and so are the moments.
 *
 * `kl`: Kandinsky 2.0's AutoencoderKL (model/autoencoder_kl.h). Moments are the posterior's mean and log variance;
 * the latent is scale * (mean + exp(clamp(log variance, -30, 20) / 2) * noise). */
#ifndef MODEL_AUTOENCODER_H
#define MODEL_AUTOENCODER_H

#include "engine/graph.h"
#include "model/model_config.h"

/* pixels F32 (N,H,W,3) in [-1,1] -> F32 (N,H/f,W/f,M), M = model_moment_channels; H and W are multiples of f. */
TensorId autoencoder_moments(Graph *graph, const ModelConfig *model, TensorId pixels);
/* moments F32 (N,h,w,M) -> F32 (N,h,w,C), times scale. `noise`: standard normals F32 (N,h,w,C), or TENSOR_NONE for the
 * posterior's mean; only kl looks at it. */
TensorId autoencoder_latent(Graph *graph, const ModelConfig *model, TensorId moments, TensorId noise);
/* latent F32 (N,h,w,C) -> F32 (N,h f,w f,3), not clipped. No gradient. */
TensorId autoencoder_decode(Graph *graph, const ModelConfig *model, TensorId latent);
/* Adds the parameters of either direction to the graph's table (none but for kl). */
void autoencoder_declare_params(Graph *graph, const ModelConfig *model, bool encoder, bool decoder);
/* The largest magnitude that the latents of an even picture in [-1,1] have (patch: brightness, sqrt(3) f scale): what
 * dynamic thresholding clips to. For kl 1, as the published samplers do. */
double autoencoder_latent_bound(const ModelConfig *model);

/* The patch transform as convolution weights (C,f,f,3): `encode` true includes the factors of each latent, false
 * their inverses (for the transposed convolution). Exposed for tests. */
Status autoencoder_patch_weights(const AutoencoderConfig *config, int64_t latent_channels, bool encode, float *weights);

#endif
