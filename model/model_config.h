/* What the networks are: the config sections `model:` and `diffusion:`.
 *
 * The shape of the UNet follows Kandinsky 2.0 (defaults below give its 1,223.4 M parameters); every width, depth and
 * input can be changed. */
#ifndef MODEL_MODEL_CONFIG_H
#define MODEL_MODEL_CONFIG_H

#include "base/config.h"
#include "engine/backend.h"
#include "model/autoencoder_config.h"
#include "model/text_encoder_config.h"

/* Padding rows of the text encoders: seen by the UNet, as the published network was trained, or hidden from it. */
typedef enum TextRows { TEXT_ROWS_PADDED, TEXT_ROWS_VALID } TextRows;

typedef enum PrecisionChoice { PRECISION_AUTO, PRECISION_F32, PRECISION_BF16 } PrecisionChoice;

typedef struct ModelConfig {
    int64_t in_channels;         /* latent channels C, or 2C + 1 for inpainting */
    int64_t out_channels;        /* 2C: eps, then the variance fraction */
    int64_t channels;            /* model_channels */
    ConfigInts channel_mult;     /* one per level */
    int64_t res_blocks;          /* per level */
    ConfigInts attention_levels; /* downsampling factors that have attention */
    int64_t head_channels;
    int64_t context_dim; /* width of the text rows that image positions attend to */
    int64_t text1_dim, pooled_dim, text2_dim;
    int64_t text2_heads; /* of the attention pooling `proj2` */
    int64_t max_tokens;  /* rows of each text encoder */
    int32_t text_rows;   /* TextRows */
    int32_t precision;   /* PrecisionChoice */
    AutoencoderConfig autoencoder;
    XlmrConfig text_encoder1; /* XLM-R-CLIP */
    Mt5Config text_encoder2;  /* mT5's encoder */
} ModelConfig;

typedef enum NoiseSchedule { SCHEDULE_LINEAR, SCHEDULE_COSINE } NoiseSchedule;

typedef struct DiffusionConfig {
    int64_t steps;
    double beta_start, beta_end; /* at 1000 steps; scaled by 1000 / steps as guided diffusion does */
    int32_t schedule;            /* NoiseSchedule */
} DiffusionConfig;

extern const ConfigSchema MODEL_CONFIG_SCHEMA;
extern const ConfigSchema DIFFUSION_CONFIG_SCHEMA;

#define MODEL_NORM_GROUPS 32

/* The UNet by itself: channel counts, groups, heads, levels. `config` may be NULL (then no file and line are named). */
Status model_config_check_unet(const ModelConfig *model, const Config *config);
/* The above, and that autoencoder, text encoders and UNet fit each other. */
Status model_config_check(const ModelConfig *model, const Config *config);
/* That pictures of `resolution` pixels a side fit; `key` is the config key that holds it, for the message. */
Status model_config_check_resolution(const ModelConfig *model, const Config *config, const char *key,
                                     int64_t resolution);
Status diffusion_config_check(const DiffusionConfig *diffusion, const Config *config);

int64_t model_latent_channels(const ModelConfig *model); /* out_channels / 2 */
bool model_paints(const ModelConfig *model);             /* an inpainting model: 2C + 1 channels in */
/* What autoencoder_moments gives per position: the posterior's mean and log variance for kl (2C), else the latent. */
int64_t model_moment_channels(const ModelConfig *model);
/* Pixels per latent position along a side: 1 without an autoencoder. */
int64_t model_latent_factor(const ModelConfig *model);
/* Latent positions along a side of `pixels` pixels, height or width. */
int64_t model_latent_size(const ModelConfig *model, int64_t pixels);
/* Rows of the token table of text encoder `which`, 1 or 2. */
int64_t model_text_vocab(const ModelConfig *model, int which);
bool model_has_attention(const ModelConfig *model, int64_t downsampling);
/* auto: bf16 where the backend computes it natively, else f32. */
Dtype model_compute_dtype(const ModelConfig *model, const Backend *backend);

#endif
