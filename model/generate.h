/* From tokens to pictures: owns the graphs, plans and executors of sampling and runs the loop. Used for previews during
 * training and by `vasily sample`. Everything is allocated at creation.
 *
 * Pictures of any size that is a multiple of autoencoder.factor are drawn at the next multiples of
 * generator_size_unit and cropped, as the public code does. */
#ifndef MODEL_GENERATE_H
#define MODEL_GENERATE_H

#include "engine/executor.h"
#include "model/model_config.h"
#include "model/sampler.h"

typedef struct GeneratorOptions {
    const ModelConfig *model;
    const Diffusion *diffusion; /* the training process; must outlive the generator */
    int64_t height, width;      /* pixels */
    int64_t batch;              /* pictures at once */
    int32_t steps;
    float scale; /* guidance; 1: no unconditional half is computed */
    SamplerOptions sampler;
    Dtype compute;
    bool encoder;  /* a picture will be given: img2img, inpainting */
    PlanPack pack; /* AUTO: packed weights of all graphs together are kept where they fit */
} GeneratorOptions;

typedef struct Generator Generator;

/* What sides are rounded up to: autoencoder.factor for each pixel of the UNet's deepest level. 64 for Kandinsky 2.0. */
int64_t generator_size_unit(const ModelConfig *model);
/* The side at which a side of `pixels` is drawn. */
int64_t generator_drawn_size(const ModelConfig *model, int64_t pixels);
/* ERR_USAGE: not a multiple of autoencoder.factor, or not in 1 to 32768. */
Status generator_check_size(const ModelConfig *model, int64_t height, int64_t width);

/* `params` must hold all of the model's parameters (model_declare_params) and be laid out; it, the store and the
 * backend must outlive the generator. */
Status generator_create(ParamTable *params, const ParamStore *store, Backend *backend, const GeneratorOptions *options,
                        Generator **out);
void generator_free(Generator *generator); /* NULL is fine */
/* What its plans would allocate with packed weights kept, and made in scratch; nothing is allocated. */
Status generator_plan_bytes(ParamTable *params, Backend *backend, const GeneratorOptions *options, int64_t *kept,
                            int64_t *scratch);
/* Other weights of the same layout (EMA), or NULL for the store's own; call it too when the weights have changed. */
void generator_use_weights(Generator *generator, const float *weights);

/* A picture to start from, at the drawn size (generator_drawn_size), of all that are drawn: pixels F32 (H,W,3) in
 * [-1,1], mask F32 (H,W), 1 = keep, or NULL. With a mask, what it keeps is restored at every step, and a model of
 * 2C + 1 input channels is shown it. Where options.sampler.strength is not 0 pictures start from it with noise. NULL
 * pixels: nothing is given any more. */
Status generator_use_picture(Generator *generator, const float *pixels, const float *mask);

typedef struct GeneratorTokens { /* (batch,max_tokens) each; mask 1 = real token */
    const int32_t *tokens1, *mask1, *tokens2, *mask2;
} GeneratorTokens;

/* Draws `batch` pictures. Picture n starts from Philox(seed, picture[n]). `empty` is the empty caption, repeated for
 * the whole batch, too. pixels: F32 (batch,height,width,3), clipped to [-1,1]. `progress` (may be NULL) is called after
 * each evaluation of the network with those done and in all. ERR_NUMERIC when the network gives NaN. */
Status generator_run(Generator *generator, const GeneratorTokens *prompts, const GeneratorTokens *empty, uint64_t seed,
                     const uint64_t *picture, float *pixels,
                     void (*progress)(void *context, int32_t done, int32_t total), void *context);

/* The latents of the last run, F32 (batch,h,w,C), and those of the picture given, (h,w,C), with its mask (h,w), 1 =
 * keep; NULL where there are none. */
const float *generator_latents(const Generator *generator, int64_t *h, int64_t *w);
const float *generator_known(const Generator *generator);
const float *generator_known_mask(const Generator *generator);
/* Seconds of the last run: in the sampler itself (guidance, noise, steps), and in all. */
void generator_times(const Generator *generator, double *sampler, double *all);

#endif
