/* One run of the UNet on tensors from a file: how parity with another implementation is checked. */
#ifndef MODEL_PROBE_H
#define MODEL_PROBE_H

#include "engine/backend.h"
#include "model/model_config.h"

/* Reads `x` (N,C,H,W), `timesteps` (N; any number type), `full_emb1` (N,T1,text1_dim), `pooled_emb1` (N,pooled_dim),
 * `full_emb2` (N,T2,text2_dim) and, with `backward`, `grad_out` (N,out_channels,H,W) from safetensors file `in`.
 * Weights come from safetensors file `weights`, or, when NULL, from the initialisation with `seed`. Writes `out`
 * (N,out_channels,H,W) and, with backward, the gradient of sum(out * grad_out) with respect to every weight, under the
 * weight's name and in its file layout, and to `x`, `full_emb1`, `pooled_emb1`, `full_emb2` under those names. */
Status probe_unet(const ModelConfig *model, Backend *backend, Dtype compute, const char *in, const char *out,
                  const char *weights, uint64_t seed, bool backward);

#endif
