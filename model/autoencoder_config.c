#include "model/autoencoder_config.h"

#define AT(field) offsetof(AutoencoderConfig, field)

static const char *const KIND_WORDS[] = {"patch", "none", "kl", NULL};

static const ConfigField FIELDS[] = {
    {"kind", CONFIG_ENUM, AT(kind), "patch", 0, 0, KIND_WORDS, NULL,
     "patch: orthonormal DCT of patches, analytic; none: the network sees pixels; kl: Kandinsky 2.0's autoencoder"},
    {"factor", CONFIG_INT, AT(factor), "8", 1, 64, NULL, NULL,
     "patch: pixels per latent position along a side; kl has 2 to the power of its levels less one"},
    {"latent_channels", CONFIG_INT, AT(latent_channels), "0", 0, 12288, NULL, NULL,
     "channels of the latent; 0: half of model.out_channels"},
    {"scale", CONFIG_FLOAT, AT(scale), "1.0", 1e-6, 1e6, NULL, NULL, "latents are multiplied by it"},
    {"whiten", CONFIG_FLOAT, AT(whiten), "0.0", 0, 4, NULL, NULL,
     "patch: coefficient (u,v) is multiplied by (1 + u^2 + v^2)^(whiten/2)"},
    {"weights", CONFIG_STRING, AT(weights), "\"\"", 0, 0, NULL, NULL,
     "kl: weight file; empty: drawn from the run's seed, for tests of the machinery (pictures then decode to noise)"},
    {"channels", CONFIG_INT, AT(channels), "128", 1, 65536, NULL, NULL,
     "kl: base width; multiplied by channel_mult, divisible by 32 groups"},
    {"channel_mult", CONFIG_INT_LIST, AT(channel_mult), "[1, 2, 4, 4]", 1, 256, NULL, NULL,
     "kl: width of each level, in units of channels; each further level halves the picture"},
    {"res_blocks", CONFIG_INT, AT(res_blocks), "2", 1, 64, NULL, NULL,
     "kl: residual blocks per level of the encoder; the decoder has one more"},
};
const ConfigSchema AUTOENCODER_CONFIG_SCHEMA = {"autoencoder", FIELDS, sizeof FIELDS / sizeof *FIELDS,
                                                sizeof(AutoencoderConfig)};
