/* Checks of a run's config that involve several of its sections. */
#include <stdio.h>

#include "base/file.h"
#include "data/filter_set.h"
#include "data/tokenizer.h"
#include "train/held_params.h"
#include "train/run_config.h"

/* Previews that complete a picture. */
static Status check_preview_pictures(const RunConfig *run, const Config *config)
{
    Status status = STATUS_OK;
    const PreviewConfig *p = &run->preview;
    if (!p->init[0] != !p->mask[0])
        FAIL_WITH(config_error(config, p->init[0] ? "preview.init" : "preview.mask",
                               "preview.init and preview.mask go together: a picture, and what to keep of it"));
    if (p->init[0] && !model_paints(&run->model))
        FAIL_WITH(config_error(
            config, "preview.init", "this model is not one for inpainting: its model.in_channels is %lld, not %lld",
            (long long)run->model.in_channels, 2 * (long long)model_latent_channels(&run->model) + 1));
fail:
    return status;
}

Status run_config_check(const RunConfig *run, const Config *config)
{
    Status status = STATUS_OK;
    if (!run->run.dir[0])
        FAIL_WITH(config_error(config, "run.dir", "is empty; it names the folder the run is written to"));
    TRY(model_config_check(&run->model, config));
    TRY(diffusion_config_check(&run->diffusion, config));
    TRY(model_config_check_resolution(&run->model, config, "train.resolution", run->train.resolution));
    TRY(optim_config_check(&run->optim, config, "optim"));
    TRY(validation_config_check(&run->validation, &run->data, run->diffusion.steps, config));
    TRY(mask_config_check(&run->inpainting, config, "inpainting"));
    TRY(check_preview_pictures(run, config));
    TRY(held_params_check(run, config));
    if (run->preview.steps > run->diffusion.steps)
        FAIL_WITH(config_error(config, "preview.steps",
                               "%lld is more than diffusion.steps, %lld; a sampler takes at most so many",
                               (long long)run->preview.steps, (long long)run->diffusion.steps));
fail:
    return status;
}

/* The multiples of `unit` around `value`, as "48 or 60". */
static void nearest_multiples(int64_t value, int64_t unit, char *out, size_t capacity)
{
    int64_t below = value / unit * unit, above = below + unit;
    if (below > 0)
        snprintf(out, capacity, "%lld or %lld", (long long)below, (long long)above);
    else
        snprintf(out, capacity, "%lld", (long long)above);
}

/* The divisors of `value` next to `near`, as "6 or 8". */
static void nearest_divisors(int64_t value, int64_t near, char *out, size_t capacity)
{
    int64_t below = near < value ? near : value, above = near;
    while (below > 1 && value % below) below--;
    while (above <= value && value % above) above++;
    if (above <= value && above != below)
        snprintf(out, capacity, "%lld or %lld", (long long)below, (long long)above);
    else
        snprintf(out, capacity, "%lld", (long long)below);
}

/* What does not divide the share of one rank alone divides that of none among more. */
static Status check_micro_batch(const TrainConfig *train, const Config *config, int world)
{
    Status status = STATUS_OK;
    char right[64];
    const int64_t local = train->global_batch / world;
    if (train->micro_batch == 0 || train->micro_batch == MICRO_BATCH_AUTO || local % train->micro_batch == 0)
        return STATUS_OK;
    nearest_divisors(local, train->micro_batch, right, sizeof right);
    FAIL_WITH(config_error(
        config, "train.micro_batch", "%lld does not divide a rank's share of the batch, %lld / %d = %lld; %s would",
        (long long)train->micro_batch, (long long)train->global_batch, world, (long long)local, right));
fail:
    return status;
}

Status run_config_check_ranks(RunConfig *run, const Config *config, int world, int local_world)
{
    Status status = STATUS_OK;
    TrainConfig *train = &run->train;
    char right[64];
    if (train->global_batch % world) {
        nearest_multiples(train->global_batch, world, right, sizeof right);
        FAIL_WITH(config_error(config, "train.global_batch", "%lld is not divisible by the %d ranks; %s would be",
                               (long long)train->global_batch, world, right));
    }
    if (train->micro_batch == 0) train->micro_batch = train->global_batch / world;
    TRY(check_micro_batch(train, config, world));
    if (run->data.lanes % world) {
        nearest_multiples(run->data.lanes, world, right, sizeof right);
        FAIL_WITH(
            config_error(config, "data.lanes",
                         "%lld is not divisible by the %d ranks; %s would be (lanes fix the order of samples: choose a "
                         "number once that every future number of ranks divides)",
                         (long long)run->data.lanes, world, right));
    }
    int group;
    TRY(parallel_config_group(&run->parallel, config, world, local_world, &group));
    run->parallel.group = group;
fail:
    return status;
}

/* What needs no file. */
static Status check_tokenizer_settings(const RunConfig *run, const Config *config, int which)
{
    Status status = STATUS_OK;
    const TokenizerConfig *tokenizer = which == 1 ? &run->data.tokenizer1 : &run->data.tokenizer2;
    char key[64];
    snprintf(key, sizeof key, "data.tokenizer%d.model", which);
    if (!tokenizer->model[0])
        FAIL_WITH(config_error(config, key, "is empty; text encoder %d needs a SentencePiece model", which));
    snprintf(key, sizeof key, "data.tokenizer%d.max_tokens", which);
    if (tokenizer->max_tokens != run->model.max_tokens)
        FAIL_WITH(config_error(config, key, "%lld differs from model.max_tokens, %lld; they are the same rows",
                               (long long)tokenizer->max_tokens, (long long)run->model.max_tokens));
fail:
    return status;
}

static Status check_tokenizer(const RunConfig *run, const Config *config, int which)
{
    Status status = STATUS_OK;
    const TokenizerConfig *tokenizer = which == 1 ? &run->data.tokenizer1 : &run->data.tokenizer2;
    char key[64];
    Tokenizer *opened = NULL;
    TRY(check_tokenizer_settings(run, config, which));
    if (!file_exists(tokenizer->model)) {
        snprintf(key, sizeof key, "data.tokenizer%d.model", which);
        FAIL_WITH(
            config_error(config, key, "%s does not exist; it is the path of a SentencePiece model", tokenizer->model));
    }
    TRY(tokenizer_open(tokenizer->model, (TokenizerStyle)tokenizer->style, (int)tokenizer->max_tokens, &opened));
    int64_t rows = model_text_vocab(&run->model, which);
    int vocabulary = tokenizer_vocabulary(opened);
    if (vocabulary > rows) {
        snprintf(key, sizeof key, "model.text_encoder%d.vocab", which);
        FAIL_WITH(config_error(config, key,
                               "%lld rows are too few for %s, whose ids go up to %d; it must be at least %d",
                               (long long)rows, tokenizer->model, vocabulary - 1, vocabulary));
    }
fail:
    tokenizer_free(opened);
    return status;
}

/* A precomputed latent is of one picture; what is drawn anew for each visit needs the pixels. */
static Status check_augment(const RunConfig *run, const Config *config)
{
    Status status = STATUS_OK;
    const AugmentConfig *a = &run->data.augment;
    static const char remedy[] = "frozen.latents is precomputed, from one square of each picture; set frozen.latents "
                                 "to inline, or %s";
    if (run->frozen.latents != FROZEN_PRECOMPUTED) return STATUS_OK;
    if (a->crop != CROP_MIDDLE) FAIL_WITH(config_error(config, "data.augment.crop", remedy, "crop to middle"));
    if (a->flip > 0) FAIL_WITH(config_error(config, "data.augment.flip", remedy, "flip to 0"));
fail:
    return status;
}

/* `text`: whether captions become tokens. */
static Status check_settings(const RunConfig *run, const Config *config, bool text)
{
    Status status = STATUS_OK;
    TRY(data_config_check(config, "data", &run->data));
    TRY(check_augment(run, config));
    if (!text) return STATUS_OK;
    TRY(check_tokenizer_settings(run, config, 1));
    TRY(check_tokenizer_settings(run, config, 2));
fail:
    return status;
}

Status run_config_check_precompute_settings(const RunConfig *run, const Config *config)
{
    return check_settings(run, config, run->frozen.text != FROZEN_INLINE);
}

Status run_config_check_precompute(const RunConfig *run, const Config *config)
{
    Status status = STATUS_OK;
    TRY(run_config_check_precompute_settings(run, config));
    if (run->frozen.text == FROZEN_INLINE) return STATUS_OK;
    TRY(check_tokenizer(run, config, 1));
    TRY(check_tokenizer(run, config, 2));
fail:
    return status;
}

Status run_config_check_settings(const RunConfig *run, const Config *config)
{
    return check_settings(run, config, run->frozen.text != FROZEN_PRECOMPUTED);
}

/* Of a run without data, as `vasily bench step` and `vasily plan` take one. */
static Status check_without_sources(const RunConfig *run, const Config *config)
{
    Status status = STATUS_OK;
    FilterSet *filters = NULL;
    TRY(filter_set_create(config, "data", &run->data, &filters));
    TRY(check_augment(run, config));
fail:
    filter_set_free(filters);
    return status;
}

static Status check_trainable(const RunConfig *run, const Config *config, bool batch)
{
    Status status = STATUS_OK;
    if (batch) TRY(check_micro_batch(&run->train, config, 1));
    TRY(run->data.sources.count == 0 ? check_without_sources(run, config) : run_config_check_settings(run, config));
fail:
    return status;
}

Status run_config_check_trainable(const RunConfig *run, const Config *config, bool batch)
{
    Status status = STATUS_OK;
    RunConfig one;
    Config *file = NULL;
    if (run->stages.count == 0) return check_trainable(run, config, batch);
    for (size_t i = 0; i < run->stages.count; i++) {
        TRY(run_config_load_stage(run, config, i, &one, &file));
        TRY(check_trainable(&one, file, batch));
        config_free(file);
        file = NULL;
    }
fail:
    config_free(file);
    return status;
}

Status run_config_check_data(const RunConfig *run, const Config *config)
{
    Status status = STATUS_OK;
    TRY(run_config_check_settings(run, config));
    /* with precomputed text, tokenizers serve previews alone */
    bool precomputed = run->frozen.text == FROZEN_PRECOMPUTED;
    if (!precomputed || file_exists(run->data.tokenizer1.model)) TRY(check_tokenizer(run, config, 1));
    if (!precomputed || file_exists(run->data.tokenizer2.model)) TRY(check_tokenizer(run, config, 2));
fail:
    return status;
}
