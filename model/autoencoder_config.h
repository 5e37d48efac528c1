/* The config section `model.autoencoder:`: what stands between pixels and latents. */
#ifndef MODEL_AUTOENCODER_CONFIG_H
#define MODEL_AUTOENCODER_CONFIG_H

#include "base/config.h"

typedef enum AutoencoderKind {
    AUTOENCODER_PATCH, /* orthonormal DCT of f x f patches, analytic (model/autoencoder.h) */
    AUTOENCODER_NONE,  /* the network sees scaled pixels: 3 latent channels, factor 1 */
    AUTOENCODER_KL     /* Kandinsky 2.0's convolutional autoencoder with a Gaussian posterior (AutoencoderKL) */
} AutoencoderKind;

typedef struct AutoencoderConfig {
    int32_t kind;            /* AutoencoderKind */
    int64_t factor;          /* patch: pixels per latent position along a side (all kinds: model_latent_factor) */
    int64_t latent_channels; /* 0: half of model.out_channels */
    double scale;            /* latents are multiplied by it */
    double whiten;           /* patch: coefficient (u,v) is multiplied by (1 + u^2 + v^2)^(whiten/2) */
    const char *weights;     /* kl: the published weight file; empty: drawn from the seed */
    int64_t channels;        /* kl: base width */
    ConfigInts channel_mult; /* kl: one per level; factor = 2^(levels - 1) */
    int64_t res_blocks;      /* kl: per level of the encoder; the decoder has one more */
} AutoencoderConfig;

extern const ConfigSchema AUTOENCODER_CONFIG_SCHEMA;

#endif
