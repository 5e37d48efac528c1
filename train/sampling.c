#include "train/sampling.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/log.h"
#include "data/tokenizer.h"
#include "model/autoencoder.h"

struct Sampling {
    int64_t batch, height, width, tokens;
    uint64_t seed;
    Tokenizer *tokenizer[2];
    int32_t *prompt[4], *empty[4]; /* tokens1, mask1, tokens2, mask2: (batch, tokens) each */
    uint64_t *noise;               /* (batch) */
    float *pixels;                 /* (batch, height, width, 3) */
    Generator *generator;
    int32_t steps;
    /* progress of the draw in course */
    SamplingProgress progress;
    void *context;
    int64_t batches_done, batches;
    double sampler_seconds, seconds; /* of all draws */
};

SamplingOptions sampling_options(const RunConfig *run)
{
    const PreviewConfig *preview = &run->preview;
    return (SamplingOptions){
        .height = run->train.resolution,
        .width = run->train.resolution,
        .batch = preview->batch,
        .steps = (int32_t)preview->steps,
        .scale = preview->scale,
        .sampler = {.kind = (SamplerKind)preview->sampler,
                    .eta = preview->sampler == SAMPLER_DDIM ? preview->eta : 0,
                    .threshold = preview->threshold},
        .seed = (uint64_t)preview->seed,
        .pack = run_config_pack(run),
        .tokenizer1 = run->data.tokenizer1.model,
        .tokenizer2 = run->data.tokenizer2.model,
    };
}

const char *prompt_caption(const char *prompt)
{
    const char *tab = strchr(prompt, '\t');
    return tab ? tab + 1 : prompt;
}

void prompt_label(const char *prompt, char *label, size_t capacity)
{
    const char *tab = strchr(prompt, '\t');
    size_t size = tab ? (size_t)(tab - prompt) : strlen(prompt);
    if (size >= capacity) { /* cut before a character of UTF-8, not within one */
        size = capacity - 1;
        while (size > 0 && ((unsigned char)prompt[size] & 0xc0) == 0x80) size--;
    }
    memcpy(label, prompt, size);
    label[size] = '\0';
}

/* Row `row` of the four token arrays. */
static Status encode(Sampling *sampling, const char *caption, int32_t *const arrays[4], int64_t row)
{
    Status status = STATUS_OK;
    int64_t at = row * sampling->tokens;
    for (int k = 0; k < 2; k++)
        TRY(tokenizer_encode(sampling->tokenizer[k], caption, strlen(caption), arrays[2 * k] + at,
                             arrays[2 * k + 1] + at));
fail:
    return status;
}

static Status open_tokenizers(Sampling *sampling, const RunConfig *run, const SamplingOptions *options)
{
    Status status = STATUS_OK;
    const char *paths[2] = {options->tokenizer1, options->tokenizer2};
    const TokenizerConfig *configs[2] = {&run->data.tokenizer1, &run->data.tokenizer2};
    for (int k = 0; k < 2; k++) {
        TRY(tokenizer_open(paths[k], (TokenizerStyle)configs[k]->style, (int)run->model.max_tokens,
                           &sampling->tokenizer[k]));
        int vocabulary = tokenizer_vocabulary(sampling->tokenizer[k]);
        int64_t rows = model_text_vocab(&run->model, k + 1);
        if (vocabulary > rows)
            FAIL(ERR_CONFIG, "%s has ids up to %d, model.text_encoder%d.vocab is %lld; it must be at least %d",
                 paths[k], vocabulary - 1, k + 1, (long long)rows, vocabulary);
    }
fail:
    return status;
}

static GeneratorOptions generator_options(const RunConfig *run, const Backend *backend, const Diffusion *diffusion,
                                          const SamplingOptions *options)
{
    GeneratorOptions generator = {
        .model = &run->model,
        .diffusion = diffusion,
        .height = options->height,
        .width = options->width,
        .batch = options->batch,
        .steps = options->steps,
        .scale = (float)options->scale,
        .sampler = options->sampler,
        .encoder = options->init,
        .compute = model_compute_dtype(&run->model, backend),
        .pack = options->pack,
    };
    generator.sampler.threshold_bound = autoencoder_latent_bound(&run->model);
    return generator;
}

Status sampling_plan_bytes(const RunConfig *run, Backend *backend, ParamTable *params, const Diffusion *diffusion,
                           const SamplingOptions *options, int64_t *kept, int64_t *scratch)
{
    Status status = STATUS_OK;
    const GeneratorOptions generator = generator_options(run, backend, diffusion, options);
    const int64_t pixels = options->batch * options->height * options->width * 3 * (int64_t)sizeof(float);
    TRY(generator_plan_bytes(params, backend, &generator, kept, scratch));
    *kept += 2 * pixels; /* the generator's and ours */
    *scratch += 2 * pixels;
fail:
    return status;
}

Status sampling_create(const RunConfig *run, Backend *backend, ParamTable *params, const ParamStore *store,
                       const Diffusion *diffusion, const SamplingOptions *options, Sampling **out)
{
    Status status = STATUS_OK;
    const GeneratorOptions generator = generator_options(run, backend, diffusion, options);
    Sampling *sampling = mem_alloc_array(1, sizeof *sampling);
    if (!sampling) FAIL(ERR_MEMORY, "out of memory");
    sampling->batch = options->batch;
    sampling->height = options->height;
    sampling->width = options->width;
    sampling->tokens = run->model.max_tokens;
    sampling->seed = options->seed;
    sampling->steps = options->steps;

    size_t rows = (size_t)sampling->batch, elements = 0;
    TRY(generator_check_size(&run->model, options->height, options->width));
    for (int k = 0; k < 4; k++) {
        sampling->prompt[k] = mem_alloc_array(rows * (size_t)sampling->tokens, sizeof(int32_t));
        sampling->empty[k] = mem_alloc_array(rows * (size_t)sampling->tokens, sizeof(int32_t));
        if (!sampling->prompt[k] || !sampling->empty[k])
            FAIL(ERR_MEMORY, "no memory for the captions of %zu pictures", rows);
    }
    if (!mem_mul_size(rows, (size_t)(options->height * options->width * 3), &elements))
        FAIL(ERR_LIMIT, "a batch of %zu pictures is too large", rows);
    sampling->noise = mem_alloc_array(rows, sizeof *sampling->noise);
    sampling->pixels = mem_alloc_array(elements, sizeof *sampling->pixels);
    if (!sampling->noise || !sampling->pixels) FAIL(ERR_MEMORY, "no memory for %zu pictures", rows);

    TRY(open_tokenizers(sampling, run, options));
    for (int64_t n = 0; n < sampling->batch; n++) TRY(encode(sampling, "", sampling->empty, n));
    TRY(generator_create(params, store, backend, &generator, &sampling->generator));
    *out = sampling;
    return STATUS_OK;
fail:
    sampling_free(sampling);
    return status;
}

void sampling_free(Sampling *sampling)
{
    if (!sampling) return;
    generator_free(sampling->generator);
    for (int k = 0; k < 2; k++) tokenizer_free(sampling->tokenizer[k]);
    for (int k = 0; k < 4; k++) {
        free(sampling->prompt[k]);
        free(sampling->empty[k]);
    }
    free(sampling->noise);
    free(sampling->pixels);
    free(sampling);
}

/* Says so where the latents' mask keeps what the picture's mask does not. */
static void warn_of_missed_holes(const Sampling *sampling, const InitPicture *picture)
{
    int64_t h, w, painted, missed;
    const float *keep = generator_known_mask(sampling->generator);
    if (!keep) return;
    generator_latents(sampling->generator, &h, &w);
    init_picture_missed(picture, keep, h, w, &painted, &missed);
    if (painted == 0)
        log_warn("nothing is drawn anew: at the size that is drawn mask and place keep every pixel of the picture");
    else if (missed > 0)
        log_warn("%lld of the %lld pixels that are to be drawn anew are kept%s: a latent is drawn where the upper left "
                 "pixel of its %lldx%lld, or of a neighbour's, is black in the mask; make the hole larger",
                 (long long)missed, (long long)painted, missed == painted ? ", and so nothing is drawn anew" : "",
                 (long long)(picture->drawn_width / w), (long long)(picture->drawn_height / h));
}

Status sampling_use_picture(Sampling *sampling, const InitPicture *picture)
{
    Status status = STATUS_OK;
    TRY(generator_use_picture(sampling->generator, picture->pixels, picture->mask));
    warn_of_missed_holes(sampling, picture);
fail:
    return status;
}

void sampling_times(const Sampling *sampling, double *sampler, double *all)
{
    *sampler = sampling->sampler_seconds;
    *all = sampling->seconds;
}

static void on_step(void *context, int32_t done, int32_t total)
{
    Sampling *sampling = context;
    if (sampling->progress)
        sampling->progress(sampling->context, sampling->batches_done * total + done, sampling->batches * total);
}

static void pixels_to_bytes(const float *pixels, size_t count, uint8_t *bytes)
{
    for (size_t i = 0; i < count; i++) {
        float value = (pixels[i] + 1.0f) * 127.5f;
        bytes[i] = (uint8_t)(value <= 0 ? 0 : value >= 255 ? 255 : lrintf(value));
    }
}

/* What all pictures of a draw share; noise of picture i: first + i x step. */
typedef struct Noises {
    uint64_t seed, first, step;
} Noises;

static Status draw(Sampling *sampling, const float *weights, const char *const *captions, int64_t count, Noises noises,
                   uint8_t *rgb, SamplingProgress progress, void *context)
{
    Status status = STATUS_OK;
    size_t picture = (size_t)(sampling->height * sampling->width * 3);
    double sampler, all;
    GeneratorTokens prompt = {sampling->prompt[0], sampling->prompt[1], sampling->prompt[2], sampling->prompt[3]};
    GeneratorTokens empty = {sampling->empty[0], sampling->empty[1], sampling->empty[2], sampling->empty[3]};
    sampling->progress = progress;
    sampling->context = context;
    sampling->batches = (count + sampling->batch - 1) / sampling->batch;
    generator_use_weights(sampling->generator, weights);
    for (int64_t first = 0, b = 0; first < count; first += sampling->batch, b++) {
        int64_t here = count - first < sampling->batch ? count - first : sampling->batch;
        for (int64_t n = 0; n < sampling->batch; n++) { /* a last, smaller batch is filled with its last caption */
            int64_t i = first + (n < here ? n : here - 1);
            TRY(encode(sampling, captions[i], sampling->prompt, n));
            sampling->noise[n] = noises.first + noises.step * (uint64_t)i;
        }
        sampling->batches_done = b;
        TRY(generator_run(sampling->generator, &prompt, &empty, noises.seed, sampling->noise, sampling->pixels, on_step,
                          sampling));
        generator_times(sampling->generator, &sampler, &all);
        sampling->sampler_seconds += sampler;
        sampling->seconds += all;
        pixels_to_bytes(sampling->pixels, (size_t)here * picture, rgb + (size_t)first * picture);
    }
fail:
    return status;
}

Status sampling_draw(Sampling *sampling, const float *weights, const char *const *captions, int64_t count,
                     uint64_t first_noise, uint8_t *rgb, SamplingProgress progress, void *context)
{
    return draw(sampling, weights, captions, count, (Noises){sampling->seed, first_noise, 1}, rgb, progress, context);
}

Status sampling_draw_alike(Sampling *sampling, const char *const *captions, int64_t count, uint64_t seed,
                           uint64_t noise, uint8_t *rgb, SamplingProgress progress, void *context)
{
    return draw(sampling, NULL, captions, count, (Noises){seed, noise, 0}, rgb, progress, context);
}
