/* Runs of the picture autoencoder on tensors from a file. */
#ifndef MODEL_PROBE_AUTOENCODER_H
#define MODEL_PROBE_AUTOENCODER_H

#include "engine/backend.h"
#include "model/model_config.h"

/* Weights are those of model->autoencoder.weights, or drawn from `seed` where that is empty.
 *
 * Encoding reads `pixels` (N,3,H,W) in [-1,1] and, where the file has it, `noise` (N,C,h,w) for the posterior (kl);
 * writes `moments` (N,M,h,w) and `latent` (N,C,h,w), scaled: with the noise, or the posterior's mean. */
Status probe_vae_encode(const ModelConfig *model, Backend *backend, Dtype compute, const char *in, const char *out,
                        uint64_t seed);
/* Decoding reads `latent` (N,C,h,w), scaled, and writes `pixels` (N,3,H,W), not clipped. */
Status probe_vae_decode(const ModelConfig *model, Backend *backend, Dtype compute, const char *in, const char *out,
                        uint64_t seed);

#endif
