/* From tokens to pictures: owns the graphs, plans and executors of sampling and runs the loop. Used for previews during
 * training and by `vasily sample`. Everything is allocated at creation. */
#ifndef MODEL_GENERATE_H
#define MODEL_GENERATE_H

#include "engine/executor.h"
#include "model/model_config.h"
#include "model/sampler.h"

typedef struct GeneratorOptions {
    const ModelConfig *model;
    const Diffusion *diffusion; /* the training process; must outlive the generator */
    int64_t resolution;         /* pixels a side */
    int64_t batch;              /* pictures at once */
    int32_t steps;
    float scale; /* guidance; 1: no unconditional half is computed */
    SamplerOptions sampler;
    Dtype compute;
} GeneratorOptions;

typedef struct Generator Generator;

/* `params` must hold all of the model's parameters (model_declare_params) and be laid out; it, the store and the
 * backend must outlive the generator. */
Status generator_create(ParamTable *params, const ParamStore *store, Backend *backend, const GeneratorOptions *options,
                        Generator **out);
void generator_free(Generator *generator); /* NULL is fine */
/* Other weights of the same layout (EMA), or NULL for the store's own; call it too when the weights have changed. */
void generator_use_weights(Generator *generator, const float *weights);

typedef struct GeneratorTokens { /* (batch,max_tokens) each; mask 1 = real token */
    const int32_t *tokens1, *mask1, *tokens2, *mask2;
} GeneratorTokens;

/* Draws `batch` pictures. Picture n starts from Philox(seed, picture[n]). `empty` is the empty caption, repeated for
 * the whole batch, too. pixels: F32 (batch,R,R,3), clipped to [-1,1]. `progress` (may be NULL) is called after each
 * step with the steps done and in all. ERR_NUMERIC when the network gives NaN. */
Status generator_run(Generator *generator, const GeneratorTokens *prompts, const GeneratorTokens *empty, uint64_t seed,
                     const uint64_t *picture, float *pixels,
                     void (*progress)(void *context, int32_t done, int32_t total), void *context);

#endif
