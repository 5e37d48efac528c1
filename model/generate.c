#include "model/generate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/autoencoder.h"
#include "model/sampling_graph.h"

typedef struct Stage { /* a graph made runnable */
    Plan *plan;
    Executor *executor;
} Stage;

struct Generator {
    GeneratorOptions options;
    TextGraph text;
    UnetGraph unet;
    PictureGraph decode;
    Stage text_stage, unet_stage, decode_stage;
    Sampler *sampler;
    int64_t latent_count; /* elements of one latent */
    bool guided;
    float *x, *noise, *out, *timesteps; /* (batch,h,w,C), the same, (evaluations,h,w,2C), (evaluations) */
    float *full1, *pooled1, *full2;     /* (batch,...) of one half */
    int32_t *repeated;                  /* (batch,max_tokens) of the empty caption */
};

static Status stage_create(const Graph *graph, const ParamStore *store, Backend *backend, Stage *stage)
{
    Status status = STATUS_OK;
    TRY(plan_create(graph, backend, &(PlanOptions){.reuse = true}, &stage->plan));
    TRY(executor_create(stage->plan, store, &stage->executor));
fail:
    return status;
}

static void stage_free(Stage *stage)
{
    executor_free(stage->executor);
    plan_free(stage->plan);
}

static Status allocate_buffers(Generator *g)
{
    Status status = STATUS_OK;
    const ModelConfig *m = g->options.model;
    size_t n = (size_t)g->options.batch, evaluations = g->guided ? 2 * n : n, latent = (size_t)g->latent_count;
    size_t rows = (size_t)m->max_tokens;
    g->x = mem_alloc_array(evaluations * latent, sizeof *g->x);
    g->noise = mem_alloc_array(n * latent, sizeof *g->noise);
    g->out = mem_alloc_array(evaluations * 2 * latent, sizeof *g->out);
    g->timesteps = mem_alloc_array(evaluations, sizeof *g->timesteps);
    g->full1 = mem_alloc_array(evaluations * rows * (size_t)m->text1_dim, sizeof *g->full1);
    g->pooled1 = mem_alloc_array(evaluations * (size_t)m->pooled_dim, sizeof *g->pooled1);
    g->full2 = mem_alloc_array(evaluations * rows * (size_t)m->text2_dim, sizeof *g->full2);
    g->repeated = mem_alloc_array(4 * n * rows, sizeof *g->repeated);
    if (g->x == NULL || g->noise == NULL || g->out == NULL || g->timesteps == NULL || g->full1 == NULL ||
        g->pooled1 == NULL || g->full2 == NULL || g->repeated == NULL)
        FAIL(ERR_MEMORY, "out of memory for %zu pictures; draw fewer at once", n);
fail:
    return status;
}

Status generator_create(ParamTable *params, const ParamStore *store, Backend *backend, const GeneratorOptions *options,
                        Generator **out)
{
    Status status = STATUS_OK;
    const ModelConfig *m = options->model;
    Generator *g = mem_alloc_array(1, sizeof *g);
    if (g == NULL) return ERR_MEMORY;
    g->options = *options;
    g->guided = options->scale != 1.0f;
    TRY(model_config_check(m, NULL));
    TRY(model_config_check_resolution(m, NULL, "resolution", options->resolution));
    if (m->in_channels != model_latent_channels(m))
        FAIL(ERR_UNSUPPORTED, "model.in_channels %lld: text-to-image sampling takes as many as the latent has, %lld",
             (long long)m->in_channels, (long long)model_latent_channels(m));
    if (options->batch < 1 || options->batch > 4096)
        FAIL(ERR_USAGE, "%lld pictures at once; take 1 to 4096", (long long)options->batch);
    int64_t side = model_latent_size(m, options->resolution), channels = model_latent_channels(m);
    g->latent_count = side * side * channels;
    TRY(sampler_create(options->diffusion, options->steps, &options->sampler, options->batch, side * side, channels,
                       &g->sampler));
    TRY(text_graph_create(params, m, options->batch, options->compute, &g->text));
    UnetGraphOptions unet = {.model = m,
                             .batch = g->guided ? 2 * options->batch : options->batch,
                             .height = side,
                             .width = side,
                             .tokens1 = m->max_tokens,
                             .tokens2 = m->max_tokens,
                             .compute = options->compute};
    TRY(unet_graph_create(params, &unet, &g->unet));
    TRY(decode_graph_create(params, m, options->batch, options->resolution, options->resolution, options->compute,
                            &g->decode));
    TRY(stage_create(g->text.graph, store, backend, &g->text_stage));
    TRY(stage_create(g->unet.graph, store, backend, &g->unet_stage));
    TRY(stage_create(g->decode.graph, store, backend, &g->decode_stage));
    TRY(allocate_buffers(g));
    *out = g;
    return STATUS_OK;
fail:
    generator_free(g);
    return status;
}

void generator_free(Generator *g)
{
    if (g == NULL) return;
    stage_free(&g->text_stage);
    stage_free(&g->unet_stage);
    stage_free(&g->decode_stage);
    text_graph_free(&g->text);
    unet_graph_free(&g->unet);
    picture_graph_free(&g->decode);
    sampler_free(g->sampler);
    free(g->x);
    free(g->noise);
    free(g->out);
    free(g->timesteps);
    free(g->full1);
    free(g->pooled1);
    free(g->full2);
    free(g->repeated);
    free(g);
}

void generator_use_weights(Generator *g, const float *weights)
{
    executor_bind_weights(g->unet_stage.executor, weights);
}

/* Encodes one half's captions into place `half` (0 conditional, 1 unconditional) of the text buffers. */
static Status encode_half(Generator *g, const GeneratorTokens *tokens, size_t half)
{
    Status status = STATUS_OK;
    const ModelConfig *m = g->options.model;
    Executor *e = g->text_stage.executor;
    size_t n = (size_t)g->options.batch, rows = (size_t)m->max_tokens, bytes = n * rows * sizeof(int32_t);
    size_t full1 = n * rows * (size_t)m->text1_dim, pooled1 = n * (size_t)m->pooled_dim;
    size_t full2 = n * rows * (size_t)m->text2_dim;
    TRY(executor_write(e, g->text.tokens1, tokens->tokens1, bytes));
    TRY(executor_write(e, g->text.mask1, tokens->mask1, bytes));
    TRY(executor_write(e, g->text.tokens2, tokens->tokens2, bytes));
    TRY(executor_write(e, g->text.mask2, tokens->mask2, bytes));
    TRY(executor_run(e, NULL));
    TRY(executor_read(e, g->text.full_emb1, g->full1 + half * full1, full1 * sizeof(float)));
    TRY(executor_read(e, g->text.pooled_emb1, g->pooled1 + half * pooled1, pooled1 * sizeof(float)));
    TRY(executor_read(e, g->text.full_emb2, g->full2 + half * full2, full2 * sizeof(float)));
fail:
    return status;
}

/* The text of both halves into the buffers. */
static Status encode_text(Generator *g, const GeneratorTokens *prompts, const GeneratorTokens *empty)
{
    Status status = STATUS_OK;
    size_t n = (size_t)g->options.batch, rows = (size_t)g->options.model->max_tokens;
    const int32_t *source[4] = {empty->tokens1, empty->mask1, empty->tokens2, empty->mask2};
    int32_t *repeated[4];
    TRY(encode_half(g, prompts, 0));
    if (!g->guided) return STATUS_OK;
    for (size_t k = 0; k < 4; k++) {
        repeated[k] = g->repeated + k * n * rows;
        for (size_t i = 0; i < n; i++) memcpy(repeated[k] + i * rows, source[k], rows * sizeof(int32_t));
    }
    GeneratorTokens all = {repeated[0], repeated[1], repeated[2], repeated[3]};
    TRY(encode_half(g, &all, 1));
fail:
    return status;
}

/* One evaluation of the network at step i into g->out; inputs are written each time, for the plan may reuse their
 * places within a run. */
static Status evaluate(Generator *g, int32_t i)
{
    Status status = STATUS_OK;
    const ModelConfig *m = g->options.model;
    Executor *e = g->unet_stage.executor;
    size_t n = (size_t)g->options.batch, evaluations = g->guided ? 2 * n : n, latent = (size_t)g->latent_count;
    size_t rows = (size_t)m->max_tokens;
    if (g->guided) memcpy(g->x + n * latent, g->x, n * latent * sizeof *g->x);
    for (size_t k = 0; k < evaluations; k++) g->timesteps[k] = sampler_model_timestep(g->sampler, i);
    TRY(executor_write(e, g->unet.x, g->x, evaluations * latent * sizeof(float)));
    TRY(executor_write(e, g->unet.timesteps, g->timesteps, evaluations * sizeof(float)));
    TRY(executor_write(e, g->unet.full_emb1, g->full1, evaluations * rows * (size_t)m->text1_dim * sizeof(float)));
    TRY(executor_write(e, g->unet.pooled_emb1, g->pooled1, evaluations * (size_t)m->pooled_dim * sizeof(float)));
    TRY(executor_write(e, g->unet.full_emb2, g->full2, evaluations * rows * (size_t)m->text2_dim * sizeof(float)));
    TRY(executor_run(e, NULL));
    TRY(executor_read(e, g->unet.out, g->out, evaluations * 2 * latent * sizeof(float)));
    if (g->guided)
        sampler_guide(g->out, g->out + n * 2 * latent, (int64_t)(n * latent) / g->sampler->channels,
                      g->sampler->channels, g->options.scale);
fail:
    return status;
}

static Status decode(Generator *g, float *pixels)
{
    Status status = STATUS_OK;
    Executor *e = g->decode_stage.executor;
    size_t n = (size_t)g->options.batch, latent = (size_t)g->latent_count;
    size_t picture = (size_t)(g->options.resolution * g->options.resolution * 3);
    TRY(executor_write(e, g->decode.latent, g->x, n * latent * sizeof(float)));
    TRY(executor_run(e, NULL));
    TRY(executor_read(e, g->decode.pixels, pixels, n * picture * sizeof(float)));
    for (size_t k = 0; k < n * picture; k++) pixels[k] = fminf(fmaxf(pixels[k], -1), 1);
fail:
    return status;
}

Status generator_run(Generator *g, const GeneratorTokens *prompts, const GeneratorTokens *empty, uint64_t seed,
                     const uint64_t *picture, float *pixels,
                     void (*progress)(void *context, int32_t done, int32_t total), void *context)
{
    Status status = STATUS_OK;
    int64_t latent = g->latent_count;
    int32_t steps = sampler_steps(g->sampler);
    TRY(encode_text(g, prompts, empty));
    for (int64_t n = 0; n < g->options.batch; n++) sampler_start_noise(seed, picture[n], g->x + n * latent, latent);
    for (int32_t i = steps; i-- > 0;) {
        TRY(evaluate(g, i));
        for (int64_t n = 0; n < g->options.batch; n++)
            sampler_step_noise(seed, picture[n], i, g->noise + n * latent, latent);
        TRY(sampler_step(g->sampler, i, g->x, g->out, g->noise));
        if (progress != NULL) progress(context, steps - i, steps);
    }
    TRY(decode(g, pixels));
fail:
    return status;
}
