#include "model/model_config.h"

#include <stdarg.h>
#include <stdio.h>

#include "model/autoencoder.h"

static const char *const TEXT_ROWS_WORDS[] = {"padded", "valid", NULL};
static const char *const PRECISION_WORDS[] = {"auto", "f32", "bf16", NULL};
static const char *const SCHEDULE_WORDS[] = {"linear", "cosine", NULL};

#define KL_LEVELS_MAX 7
#define DEFAULT_FACTOR 8      /* of model.autoencoder.factor: not asked for */
#define XLMR_FIRST_POSITION 2 /* one after the padding id, 1 (model/xlmr_clip.h) */
#define COUNT(array) (sizeof(array) / sizeof *(array))

#define INT_FIELD(field, default_value, low, high, text)                                                          \
    {                                                                                                             \
        .key = #field, .type = CONFIG_INT, .offset = offsetof(ModelConfig, field), .default_text = default_value, \
        .min = low, .max = high, .help = text                                                                     \
    }

static const ConfigField MODEL_FIELDS[] = {
    INT_FIELD(in_channels, "4", 1, 65536, "latent channels C, or 2C + 1 for inpainting"),
    INT_FIELD(out_channels, "8", 2, 65536, "twice the latent channels: noise, then variance"),
    INT_FIELD(channels, "384", 1, 65536, "base width; multiplied by channel_mult, divisible by 32 groups"),
    {.key = "channel_mult",
     .type = CONFIG_INT_LIST,
     .offset = offsetof(ModelConfig, channel_mult),
     .default_text = "[1, 2, 3, 4]",
     .min = 1,
     .max = 256,
     .help = "width of each level, in units of channels; each further level halves the picture"},
    INT_FIELD(res_blocks, "3", 1, 64, "residual blocks per level"),
    {.key = "attention_levels",
     .type = CONFIG_INT_LIST,
     .offset = offsetof(ModelConfig, attention_levels),
     .default_text = "[2, 4, 8]",
     .min = 1,
     .max = 32768,
     .help = "downsampling factors (1, 2, 4, ...) that have attention; the middle block always has it"},
    INT_FIELD(head_channels, "64", 1, 256, "channels of an attention head"),
    INT_FIELD(context_dim, "768", 1, 65536, "width of the text rows that the picture attends to"),
    INT_FIELD(text1_dim, "1024", 1, 65536, "width of text encoder 1"),
    INT_FIELD(pooled_dim, "640", 1, 65536, "width of encoder 1's pooled embedding"),
    INT_FIELD(text2_dim, "512", 1, 65536, "width of text encoder 2"),
    INT_FIELD(text2_heads, "8", 1, 1024, "heads of the attention pooling over encoder 2"),
    INT_FIELD(max_tokens, "77", 1, 4096, "rows of each text encoder"),
    {.key = "text_rows",
     .type = CONFIG_ENUM,
     .offset = offsetof(ModelConfig, text_rows),
     .default_text = "padded",
     .words = TEXT_ROWS_WORDS,
     .help = "what the UNet sees of a caption: all max_tokens rows, as the published network was trained, or only the "
             "valid ones, those of its tokens"},
    {.key = "precision",
     .type = CONFIG_ENUM,
     .offset = offsetof(ModelConfig, precision),
     .default_text = "auto",
     .words = PRECISION_WORDS,
     .help = "of activations and matrix arithmetic; auto: bf16 where the hardware has it"},
    {.key = "autoencoder",
     .type = CONFIG_SECTION,
     .offset = offsetof(ModelConfig, autoencoder),
     .schema = &AUTOENCODER_CONFIG_SCHEMA,
     .help = "between pixels and latents"},
    {.key = "text_encoder1",
     .type = CONFIG_SECTION,
     .offset = offsetof(ModelConfig, text_encoder1),
     .schema = &XLMR_CONFIG_SCHEMA,
     .help = "XLM-R-CLIP: token states and the pooled embedding"},
    {.key = "text_encoder2",
     .type = CONFIG_SECTION,
     .offset = offsetof(ModelConfig, text_encoder2),
     .schema = &MT5_CONFIG_SCHEMA,
     .help = "the encoder of mT5: token states"},
};
const ConfigSchema MODEL_CONFIG_SCHEMA = {
    .name = "model", .fields = MODEL_FIELDS, .field_count = COUNT(MODEL_FIELDS), .struct_size = sizeof(ModelConfig)};

static const ConfigField DIFFUSION_FIELDS[] = {
    {.key = "steps",
     .type = CONFIG_INT,
     .offset = offsetof(DiffusionConfig, steps),
     .default_text = "1000",
     .min = 2,
     .max = 100000,
     .help = "timesteps of the noise process"},
    {.key = "beta_start",
     .type = CONFIG_FLOAT,
     .offset = offsetof(DiffusionConfig, beta_start),
     .default_text = "0.0001",
     .min = 1e-12,
     .max = 1,
     .help = "first beta of a 1000-step process (linear)"},
    {.key = "beta_end",
     .type = CONFIG_FLOAT,
     .offset = offsetof(DiffusionConfig, beta_end),
     .default_text = "0.02",
     .min = 1e-12,
     .max = 1,
     .help = "last beta of a 1000-step process (linear)"},
    {.key = "schedule",
     .type = CONFIG_ENUM,
     .offset = offsetof(DiffusionConfig, schedule),
     .default_text = "linear",
     .words = SCHEDULE_WORDS,
     .help = "how beta grows"},
};
const ConfigSchema DIFFUSION_CONFIG_SCHEMA = {.name = "diffusion",
                                              .fields = DIFFUSION_FIELDS,
                                              .field_count = COUNT(DIFFUSION_FIELDS),
                                              .struct_size = sizeof(DiffusionConfig)};

/* config_error, also where there is no file to name. */
static Status __attribute__((format(printf, 3, 4)))
refuse(const Config *config, const char *key, const char *format, ...)
{
    char message[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    if (config != NULL) return config_error(config, key, "%s", message);
    return status_fail(ERR_CONFIG, __FILE__, __LINE__, "%s: %s", key, message);
}

int64_t model_latent_channels(const ModelConfig *model)
{
    return model->out_channels / 2;
}

bool model_paints(const ModelConfig *model)
{
    return model->in_channels == 2 * model_latent_channels(model) + 1;
}

int64_t model_moment_channels(const ModelConfig *model)
{
    return model_latent_channels(model) * (model->autoencoder.kind == AUTOENCODER_KL ? 2 : 1);
}

int64_t model_latent_factor(const ModelConfig *model)
{
    const AutoencoderConfig *autoencoder = &model->autoencoder;
    if (autoencoder->kind == AUTOENCODER_PATCH) return autoencoder->factor;
    if (autoencoder->kind == AUTOENCODER_NONE) return 1;
    size_t levels = autoencoder->channel_mult.count;
    return levels < 1 || levels > KL_LEVELS_MAX ? 1 : (int64_t)1 << (levels - 1);
}

int64_t model_latent_size(const ModelConfig *model, int64_t pixels)
{
    return pixels / model_latent_factor(model);
}

int64_t model_text_vocab(const ModelConfig *model, int which)
{
    return which == 1 ? model->text_encoder1.vocab : model->text_encoder2.vocab;
}

bool model_has_attention(const ModelConfig *model, int64_t downsampling)
{
    for (size_t i = 0; i < model->attention_levels.count; i++)
        if (model->attention_levels.items[i] == downsampling) return true;
    return false;
}

Dtype model_compute_dtype(const ModelConfig *model, const Backend *backend)
{
    switch (model->precision) {
    case PRECISION_F32:
        return DTYPE_F32;
    case PRECISION_BF16:
        return DTYPE_BF16;
    default:
        return backend->has_bf16(backend) ? DTYPE_BF16 : DTYPE_F32;
    }
}

/* Each level's width: whole groups, and whole heads where it has attention. */
static Status check_levels(const ModelConfig *model, const Config *config)
{
    size_t levels = model->channel_mult.count;
    for (size_t level = 0; level < levels; level++) {
        int64_t width = model->channels * model->channel_mult.items[level];
        if (width % MODEL_NORM_GROUPS != 0)
            return refuse(config, "model.channels",
                          "level %zu has %lld x %lld = %lld channels, not divisible by the %d groups of group norm; "
                          "make channels x channel_mult[%zu] a multiple of %d",
                          level, (long long)model->channels, (long long)model->channel_mult.items[level],
                          (long long)width, MODEL_NORM_GROUPS, level, MODEL_NORM_GROUPS);
        bool middle = level + 1 == levels;
        if (!middle && !model_has_attention(model, (int64_t)1 << level)) continue;
        if (width % model->head_channels != 0)
            return refuse(config, "model.head_channels",
                          "%lld does not divide the %lld channels of level %zu, which has attention%s; take a divisor",
                          (long long)model->head_channels, (long long)width, level,
                          middle ? " (the middle block always has)" : "");
    }
    for (size_t i = 0; i < model->attention_levels.count; i++) {
        int64_t factor = model->attention_levels.items[i];
        bool power = factor > 0 && (factor & (factor - 1)) == 0;
        if (!power || factor > (int64_t)1 << (levels - 1))
            return refuse(config, "model.attention_levels",
                          "%lld is not the downsampling factor of any level; with %zu levels they are 1 to %lld, "
                          "powers of two",
                          (long long)factor, levels, 1LL << (levels - 1));
    }
    return STATUS_OK;
}

Status model_config_check_unet(const ModelConfig *model, const Config *config)
{
    Status status = STATUS_OK;
    if (model->channel_mult.count < 1 || model->channel_mult.count > 16)
        return refuse(config, "model.channel_mult", "has %zu levels; 1 to 16 are possible", model->channel_mult.count);
    if (model->channels % 2 != 0)
        return refuse(config, "model.channels", "%lld is odd; the timestep embedding needs an even width",
                      (long long)model->channels);
    if (model->out_channels % 2 != 0)
        return refuse(config, "model.out_channels", "%lld is odd; it is twice the latent channels (noise and variance)",
                      (long long)model->out_channels);
    if (model->text2_dim % model->text2_heads != 0)
        return refuse(config, "model.text2_heads", "%lld does not divide model.text2_dim %lld",
                      (long long)model->text2_heads, (long long)model->text2_dim);
    TRY(check_levels(model, config));
fail:
    return status;
}

/* Kandinsky 2.0's autoencoder: levels, groups. */
static Status check_kl(const ModelConfig *model, const Config *config)
{
    const AutoencoderConfig *kl = &model->autoencoder;
    if (kl->channel_mult.count < 1 || kl->channel_mult.count > KL_LEVELS_MAX)
        return refuse(config, "model.autoencoder.channel_mult", "has %zu levels; 1 to %d are possible",
                      kl->channel_mult.count, KL_LEVELS_MAX);
    for (size_t level = 0; level < kl->channel_mult.count; level++) {
        int64_t width = kl->channels * kl->channel_mult.items[level];
        if (width % MODEL_NORM_GROUPS == 0 && kl->channels % MODEL_NORM_GROUPS == 0) continue;
        return refuse(config, "model.autoencoder.channels",
                      "%lld: level %zu has %lld channels; channels must be a multiple of the %d groups of group norm",
                      (long long)kl->channels, level, (long long)width, MODEL_NORM_GROUPS);
    }
    int64_t factor = model_latent_factor(model);
    if (kl->factor != factor && kl->factor != DEFAULT_FACTOR)
        return refuse(config, "model.autoencoder.factor",
                      "%lld, but the %zu levels of channel_mult make it %lld; leave it out", (long long)kl->factor,
                      kl->channel_mult.count, (long long)factor);
    return STATUS_OK;
}

static Status check_text_encoders(const ModelConfig *model, const Config *config)
{
    const XlmrConfig *xlmr = &model->text_encoder1;
    const Mt5Config *mt5 = &model->text_encoder2;
    if (model->text1_dim % xlmr->heads != 0)
        return refuse(config, "model.text_encoder1.heads", "%lld does not divide model.text1_dim %lld",
                      (long long)xlmr->heads, (long long)model->text1_dim);
    if (xlmr->positions < model->max_tokens + XLMR_FIRST_POSITION)
        return refuse(config, "model.text_encoder1.positions",
                      "%lld rows are too few for model.max_tokens %lld, the first of which is at row %d; at least %lld "
                      "are needed",
                      (long long)xlmr->positions, (long long)model->max_tokens, XLMR_FIRST_POSITION,
                      (long long)model->max_tokens + XLMR_FIRST_POSITION);
    if (mt5->buckets % 4 != 0)
        return refuse(config, "model.text_encoder2.buckets",
                      "%lld is not a multiple of 4: half of them for each direction, and half of those for near ones",
                      (long long)mt5->buckets);
    if (mt5->max_distance <= mt5->buckets / 4)
        return refuse(config, "model.text_encoder2.max_distance",
                      "%lld must be more than a quarter of the %lld buckets, which hold one distance each",
                      (long long)mt5->max_distance, (long long)mt5->buckets);
    return STATUS_OK;
}

/* The autoencoder by itself, and that its latents are what out_channels says. */
static Status check_autoencoder(const ModelConfig *model, const Config *config)
{
    Status status = STATUS_OK;
    const AutoencoderConfig *autoencoder = &model->autoencoder;
    int64_t latent = autoencoder->latent_channels != 0 ? autoencoder->latent_channels : model->out_channels / 2;
    if (autoencoder->kind == AUTOENCODER_NONE && latent != 3)
        return refuse(config, "model.out_channels",
                      "%lld, but without an autoencoder the network sees 3 colours and gives twice as many: 6",
                      (long long)model->out_channels);
    if (model->out_channels != 2 * latent)
        return refuse(config, "model.out_channels",
                      "%lld, but it must be twice model.autoencoder.latent_channels (noise and variance): %lld",
                      (long long)model->out_channels, 2 * (long long)latent);
    if (autoencoder->kind == AUTOENCODER_PATCH && latent > 3 * autoencoder->factor * autoencoder->factor)
        return refuse(config, "model.autoencoder.latent_channels",
                      "%lld, but a patch of %lld x %lld pixels has only %lld coefficients", (long long)latent,
                      (long long)autoencoder->factor, (long long)autoencoder->factor,
                      3 * (long long)autoencoder->factor * autoencoder->factor);
    if (autoencoder->kind == AUTOENCODER_KL) TRY(check_kl(model, config));
    if (autoencoder->kind != AUTOENCODER_KL && autoencoder->weights != NULL && autoencoder->weights[0] != 0)
        return refuse(config, "model.autoencoder.weights", "only an autoencoder of the kind kl has weights: is %s one?",
                      autoencoder->weights);
fail:
    return status;
}

Status model_config_check(const ModelConfig *model, const Config *config)
{
    Status status = STATUS_OK;
    int64_t latent = model_latent_channels(model);
    TRY(model_config_check_unet(model, config));
    TRY(check_autoencoder(model, config));
    if (model->in_channels != latent && model->in_channels != 2 * latent + 1)
        return refuse(config, "model.in_channels",
                      "%lld, but with %lld latent channels it must be %lld, or %lld for inpainting",
                      (long long)model->in_channels, (long long)latent, (long long)latent, 2 * (long long)latent + 1);
    TRY(check_text_encoders(model, config));
fail:
    return status;
}

Status model_config_check_resolution(const ModelConfig *model, const Config *config, const char *key,
                                     int64_t resolution)
{
    int64_t factor = model_latent_factor(model);
    int64_t levels = (int64_t)model->channel_mult.count;
    int64_t unit = factor << (levels - 1);
    if (resolution >= unit && resolution % unit == 0) return STATUS_OK;
    int64_t below = resolution / unit * unit;
    return refuse(config, key,
                  "%lld pixels are not a multiple of %lld: the autoencoder's factor %lld times 2^%lld for the %lld "
                  "levels of the UNet; %lld would do",
                  (long long)resolution, (long long)unit, (long long)factor, (long long)(levels - 1), (long long)levels,
                  (long long)(below > 0 ? below : unit));
}

Status diffusion_config_check(const DiffusionConfig *diffusion, const Config *config)
{
    if (diffusion->schedule != SCHEDULE_LINEAR) return STATUS_OK;
    if (diffusion->beta_start > diffusion->beta_end)
        return refuse(config, "diffusion.beta_start", "%g is larger than diffusion.beta_end %g", diffusion->beta_start,
                      diffusion->beta_end);
    double last = diffusion->beta_end * 1000 / (double)diffusion->steps;
    if (last >= 1)
        return refuse(config, "diffusion.steps",
                      "%lld steps make the last beta %g (beta_end x 1000 / steps); it must be below 1: take more than "
                      "%lld steps",
                      (long long)diffusion->steps, last, (long long)(diffusion->beta_end * 1000));
    return STATUS_OK;
}
