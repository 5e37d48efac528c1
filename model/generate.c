#include "model/generate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "engine/executor.h"
#include "engine/recorder.h"
#include "model/autoencoder.h"
#include "model/sampling_graph.h"

enum { SIDE_MAX = 32768 };

typedef struct Stage { /* a graph made runnable */
    Plan *plan;
    Executor *executor;
} Stage;

struct Generator {
    GeneratorOptions options;
    TextGraph text;
    UnetGraph unet;
    PictureGraph encode, decode; /* encode: of one picture, and only with options.encoder */
    Stage text_stage, unet_stage, encode_stage, decode_stage;
    Sampler *sampler;
    int64_t drawn_height, drawn_width, h, w, channels; /* pixels; latent */
    int64_t latent_count;                              /* elements of one latent */
    bool guided, given, masked;         /* given: a picture to start from; masked: and what of it to keep */
    float *x, *noise, *out, *timesteps; /* (batch,h,w,C), the same, (evaluations,h,w,2C), (evaluations) */
    float *input;                       /* (evaluations,h,w,in_channels): x, and for inpainting what is known */
    float *known, *mask, *mask_scratch; /* (batch,h,w,C), all the same picture's; (h,w), 1 = keep; (h,w) */
    float *drawn;                       /* (batch,drawn_height,drawn_width,3) */
    float *full1, *pooled1, *full2;     /* (evaluations,...) */
    int32_t *repeated;                  /* (4,batch,max_tokens) of the empty caption */
    int32_t *text_mask, *mask2;         /* text_rows valid: (evaluations,2 max_tokens), (evaluations,max_tokens) */
    double sampler_seconds, seconds;    /* of the last run */
    const float *weights;               /* that the network runs with; NULL: the store's */
    Recorder *recorder;                 /* of its evaluations */
};

/* ---- sizes ---- */

int64_t generator_size_unit(const ModelConfig *model)
{
    int64_t unit = model_latent_factor(model);
    for (size_t level = 1; level < model->channel_mult.count; level++) unit *= 2;
    return unit;
}

int64_t generator_drawn_size(const ModelConfig *model, int64_t pixels)
{
    int64_t unit = generator_size_unit(model);
    return (pixels + unit - 1) / unit * unit;
}

/* At least one. */
static int64_t nearest_multiple(int64_t value, int64_t of)
{
    int64_t times = (value + of / 2) / of;
    return (times > 0 ? times : 1) * of;
}

Status generator_check_size(const ModelConfig *model, int64_t height, int64_t width)
{
    Status status = STATUS_OK;
    int64_t factor = model_latent_factor(model);
    if (height < 1 || width < 1 || height > SIDE_MAX || width > SIDE_MAX)
        FAIL(ERR_USAGE, "size %lldx%lld: sides of 1 to %d pixels can be drawn", (long long)width, (long long)height,
             SIDE_MAX);
    if (height % factor != 0 || width % factor != 0)
        FAIL(ERR_USAGE,
             "size %lldx%lld: with this autoencoder both sides must be multiples of %lld; the nearest is %lldx%lld",
             (long long)width, (long long)height, (long long)factor, (long long)nearest_multiple(width, factor),
             (long long)nearest_multiple(height, factor));
fail:
    return status;
}

/* ---- creation ---- */

static Status stage_plan(const Graph *graph, Backend *backend, Stage *stage)
{
    return plan_create(graph, backend, &(PlanOptions){.reuse = true}, &stage->plan);
}

/* Bytes of all plans with packed weights made in this way from now on. */
static int64_t set_pack(Generator *g, PlanPack pack)
{
    Stage *const stages[] = {&g->text_stage, &g->unet_stage, &g->decode_stage, &g->encode_stage};
    int64_t bytes = 0;
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        if (stages[i]->plan == NULL) continue;
        plan_set_pack(stages[i]->plan, pack);
        bytes += (int64_t)plan_bytes(stages[i]->plan);
    }
    return bytes;
}

static Status start_stages(Generator *g, const ParamStore *store, Backend *backend)
{
    Status status = STATUS_OK;
    Stage *const stages[] = {&g->text_stage, &g->unet_stage, &g->decode_stage, &g->encode_stage};
    const PlanPack pack = g->options.pack;
    /* As plan_choose_pack, for all of them together. */
    const int64_t available = backend_memory_available(backend);
    const bool fits = pack != PLAN_PACK_AUTO || 1.05 * (double)set_pack(g, PLAN_PACK_KEEP) <= (double)available;
    const int64_t bytes = set_pack(g, pack != PLAN_PACK_AUTO ? pack : fits ? PLAN_PACK_KEEP : PLAN_PACK_SCRATCH);
    if (bytes > available)
        FAIL(ERR_MEMORY,
             "pictures of %lldx%lld, %lld at once, want %.2f GB and %.2f GB are free; draw fewer at once, or "
             "smaller ones",
             (long long)g->drawn_width, (long long)g->drawn_height, (long long)g->options.batch, (double)bytes * 1e-9,
             (double)available * 1e-9);
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++)
        if (stages[i]->plan != NULL) TRY(executor_create(stages[i]->plan, store, &stages[i]->executor));
fail:
    return status;
}

static void stage_free(Stage *stage)
{
    executor_free(stage->executor);
    plan_free(stage->plan);
}

static Status allocate_floats(float **out, int64_t count, int64_t times)
{
    size_t total;
    if (!mem_mul_size((size_t)count, (size_t)times, &total))
        return status_fail(ERR_LIMIT, __FILE__, __LINE__, "a batch of %lld pictures is too large", (long long)times);
    *out = mem_alloc_array(total, sizeof **out);
    return *out != NULL
               ? STATUS_OK
               : status_fail(ERR_MEMORY, __FILE__, __LINE__, "out of memory; draw fewer or smaller pictures at once");
}

static Status allocate_buffers(Generator *g)
{
    Status status = STATUS_OK;
    const ModelConfig *m = g->options.model;
    int64_t n = g->options.batch, evaluations = g->guided ? 2 * n : n, rows = m->max_tokens, places = g->h * g->w;
    TRY(allocate_floats(&g->x, g->latent_count, n));
    TRY(allocate_floats(&g->noise, g->latent_count, n));
    TRY(allocate_floats(&g->out, 2 * g->latent_count, evaluations));
    TRY(allocate_floats(&g->input, places * m->in_channels, evaluations));
    TRY(allocate_floats(&g->timesteps, 1, evaluations));
    TRY(allocate_floats(&g->known, g->latent_count, n));
    TRY(allocate_floats(&g->mask, places, 1));
    TRY(allocate_floats(&g->mask_scratch, places, 1));
    TRY(allocate_floats(&g->drawn, g->drawn_height * g->drawn_width * 3, n));
    TRY(allocate_floats(&g->full1, rows * m->text1_dim, evaluations));
    TRY(allocate_floats(&g->pooled1, m->pooled_dim, evaluations));
    TRY(allocate_floats(&g->full2, rows * m->text2_dim, evaluations));
    g->repeated = mem_alloc_array((size_t)(4 * n * rows), sizeof *g->repeated);
    g->text_mask = mem_alloc_array((size_t)(2 * evaluations * rows), sizeof *g->text_mask);
    g->mask2 = mem_alloc_array((size_t)(evaluations * rows), sizeof *g->mask2);
    if (g->repeated == NULL || g->text_mask == NULL || g->mask2 == NULL)
        FAIL(ERR_MEMORY, "out of memory for %lld pictures; draw fewer at once", (long long)n);
fail:
    return status;
}

static Status plan_graphs(Generator *g, ParamTable *params, Backend *backend)
{
    Status status = STATUS_OK;
    const GeneratorOptions *o = &g->options;
    const ModelConfig *m = o->model;
    UnetGraphOptions unet = {.model = m,
                             .batch = g->guided ? 2 * o->batch : o->batch,
                             .height = g->h,
                             .width = g->w,
                             .tokens1 = m->max_tokens,
                             .tokens2 = m->max_tokens,
                             .masked = m->text_rows == TEXT_ROWS_VALID,
                             .compute = o->compute};
    TRY(text_graph_create(params, m, o->batch, o->compute, &g->text));
    TRY(unet_graph_create(params, &unet, &g->unet));
    TRY(decode_graph_create(params, m, o->batch, g->drawn_height, g->drawn_width, o->compute, &g->decode));
    TRY(stage_plan(g->text.graph, backend, &g->text_stage));
    TRY(stage_plan(g->unet.graph, backend, &g->unet_stage));
    TRY(stage_plan(g->decode.graph, backend, &g->decode_stage));
    if (!o->encoder) return STATUS_OK;
    TRY(encode_graph_create(params, m, 1, g->drawn_height, g->drawn_width, false, o->compute, &g->encode));
    TRY(stage_plan(g->encode.graph, backend, &g->encode_stage));
fail:
    return status;
}

/* Options checked, graphs planned; no memory for running yet. */
static Status generator_plan(ParamTable *params, Backend *backend, const GeneratorOptions *options, Generator **out)
{
    Status status = STATUS_OK;
    const ModelConfig *m = options->model;
    Generator *g = mem_alloc_array(1, sizeof *g);
    if (g == NULL) return ERR_MEMORY;
    g->options = *options;
    g->guided = options->scale != 1.0f;
    TRY(model_config_check(m, NULL));
    TRY(generator_check_size(m, options->height, options->width));
    g->channels = model_latent_channels(m);
    if (m->in_channels != g->channels && m->in_channels != 2 * g->channels + 1)
        FAIL(ERR_UNSUPPORTED,
             "model.in_channels %lld: sampling knows models that take the latent, %lld, or for "
             "inpainting two latents and a mask, %lld",
             (long long)m->in_channels, (long long)g->channels, (long long)(2 * g->channels + 1));
    if (options->batch < 1 || options->batch > 4096)
        FAIL(ERR_USAGE, "%lld pictures at once; take 1 to 4096", (long long)options->batch);
    g->drawn_height = generator_drawn_size(m, options->height);
    g->drawn_width = generator_drawn_size(m, options->width);
    g->h = g->drawn_height / model_latent_factor(m);
    g->w = g->drawn_width / model_latent_factor(m);
    g->latent_count = g->h * g->w * g->channels;
    TRY(plan_graphs(g, params, backend));
    *out = g;
    return STATUS_OK;
fail:
    generator_free(g);
    return status;
}

Status generator_create(ParamTable *params, const ParamStore *store, Backend *backend, const GeneratorOptions *options,
                        Generator **out)
{
    Status status = STATUS_OK;
    Generator *g = NULL;
    TRY(generator_plan(params, backend, options, &g));
    TRY(sampler_create(options->diffusion, options->steps, &options->sampler, options->batch, g->h * g->w, g->channels,
                       &g->sampler));
    TRY(start_stages(g, store, backend));
    TRY(recorder_create(backend, true, &g->recorder));
    TRY(allocate_buffers(g));
    *out = g;
    return STATUS_OK;
fail:
    generator_free(g);
    return status;
}

Status generator_plan_bytes(ParamTable *params, Backend *backend, const GeneratorOptions *options, int64_t *kept,
                            int64_t *scratch)
{
    Status status = STATUS_OK;
    Generator *g = NULL;
    TRY(generator_plan(params, backend, options, &g));
    *kept = set_pack(g, PLAN_PACK_KEEP);
    *scratch = set_pack(g, PLAN_PACK_SCRATCH);
fail:
    generator_free(g);
    return status;
}

void generator_free(Generator *g)
{
    if (g == NULL) return;
    recorder_free(g->recorder);
    stage_free(&g->text_stage);
    stage_free(&g->unet_stage);
    stage_free(&g->encode_stage);
    stage_free(&g->decode_stage);
    text_graph_free(&g->text);
    unet_graph_free(&g->unet);
    picture_graph_free(&g->encode);
    picture_graph_free(&g->decode);
    sampler_free(g->sampler);
    float *buffers[] = {g->x,    g->noise,        g->out,   g->timesteps, g->input,   g->known,
                        g->mask, g->mask_scratch, g->drawn, g->full1,     g->pooled1, g->full2};
    for (size_t k = 0; k < sizeof buffers / sizeof *buffers; k++) free(buffers[k]);
    free(g->repeated);
    free(g->text_mask);
    free(g->mask2);
    free(g);
}

void generator_use_weights(Generator *g, const float *weights)
{
    if (weights != g->weights) recorder_forget(g->recorder);
    g->weights = weights;
    executor_bind_weights(g->unet_stage.executor, weights);
}

/* ---- what is known ---- */

Status generator_use_picture(Generator *g, const float *pixels, const float *mask)
{
    Status status = STATUS_OK;
    Executor *e = g->encode_stage.executor;
    size_t latent = (size_t)g->latent_count, places = (size_t)(g->h * g->w);
    g->given = g->masked = false;
    sampler_restore(g->sampler, NULL, NULL);
    if (pixels == NULL) return STATUS_OK;
    if (e == NULL) FAIL(ERR_INTERNAL, "the generator was made without an encoder");
    TRY(executor_write(e, g->encode.pixels, pixels, (size_t)(g->drawn_height * g->drawn_width * 3) * sizeof *pixels));
    TRY(executor_run(e, NULL));
    TRY(executor_read(e, g->encode.latent, g->known, latent * sizeof *g->known));
    for (size_t k = 0; k < latent; k++)
        if (!isfinite(g->known[k]))
            FAIL(ERR_NUMERIC, "the autoencoder gives what is not finite; are its weights sound?");
    for (size_t n = 1; n < (size_t)g->options.batch; n++)
        memcpy(g->known + n * latent, g->known, latent * sizeof *g->known);
    g->given = true;
    if (mask == NULL) return STATUS_OK;
    g->masked = true;
    sampler_latent_mask(mask, g->drawn_height, g->drawn_width, g->h, g->w, g->mask_scratch, g->mask);
    for (size_t p = 0; p < places; p++) g->mask[p] = fminf(fmaxf(g->mask[p], 0), 1);
    sampler_restore(g->sampler, g->known, g->mask);
fail:
    return status;
}

/* x_T of every picture: noise, or with strength the given picture with noise. */
static void start(Generator *g, uint64_t seed, const uint64_t *picture)
{
    int64_t latent = g->latent_count;
    for (int64_t n = 0; n < g->options.batch; n++) sampler_start_noise(seed, picture[n], g->x + n * latent, latent);
    if (g->given && g->options.sampler.strength > 0)
        sampler_noise_known(g->sampler, g->known, g->x, g->options.batch * latent);
}

/* The network's input of one picture: x, and for a model that takes them known * mask and mask (both 0 where nothing is
 * known, as the public code has them). */
static void fill_input(const Generator *g, const float *x, const float *known, float *input)
{
    int64_t c = g->channels, in = g->options.model->in_channels;
    if (in == c) {
        memcpy(input, x, (size_t)g->latent_count * sizeof *x);
        return;
    }
    for (int64_t p = 0; p < g->h * g->w; p++) {
        float keep = g->masked ? g->mask[p] : 0;
        memcpy(input + p * in, x + p * c, (size_t)c * sizeof *x);
        for (int64_t k = 0; k < c; k++) input[p * in + c + k] = keep > 0 ? known[p * c + k] * keep : 0;
        input[p * in + 2 * c] = keep;
    }
}

/* ---- running ---- */

/* Which rows of text the network may see, of one half. */
static void keep_masks(Generator *g, const GeneratorTokens *tokens, size_t half)
{
    size_t n = (size_t)g->options.batch, rows = (size_t)g->options.model->max_tokens;
    for (size_t i = 0; i < n; i++) {
        int32_t *mask = g->text_mask + 2 * (half * n + i) * rows;
        memcpy(mask, tokens->mask1 + i * rows, rows * sizeof *mask);
        memcpy(mask + rows, tokens->mask2 + i * rows, rows * sizeof *mask);
        memcpy(g->mask2 + (half * n + i) * rows, tokens->mask2 + i * rows, rows * sizeof *mask);
    }
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
    keep_masks(g, tokens, half);
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

static Status run_network(void *context)
{
    return executor_run(context, NULL);
}

/* One evaluation of the network into g->out; inputs are written each time, for the plan may reuse their places within
 * a run. */
static Status evaluate(Generator *g, int32_t evaluation)
{
    Status status = STATUS_OK;
    const ModelConfig *m = g->options.model;
    Executor *e = g->unet_stage.executor;
    size_t n = (size_t)g->options.batch, evaluations = g->guided ? 2 * n : n, latent = (size_t)g->latent_count;
    size_t rows = (size_t)m->max_tokens, input = (size_t)(g->h * g->w * m->in_channels);
    for (size_t k = 0; k < n; k++) fill_input(g, g->x + k * latent, g->known + k * latent, g->input + k * input);
    if (g->guided) memcpy(g->input + n * input, g->input, n * input * sizeof *g->input);
    for (size_t k = 0; k < evaluations; k++) g->timesteps[k] = sampler_model_timestep(g->sampler, evaluation);
    TRY(executor_write(e, g->unet.x, g->input, evaluations * input * sizeof(float)));
    TRY(executor_write(e, g->unet.timesteps, g->timesteps, evaluations * sizeof(float)));
    TRY(executor_write(e, g->unet.full_emb1, g->full1, evaluations * rows * (size_t)m->text1_dim * sizeof(float)));
    TRY(executor_write(e, g->unet.pooled_emb1, g->pooled1, evaluations * (size_t)m->pooled_dim * sizeof(float)));
    TRY(executor_write(e, g->unet.full_emb2, g->full2, evaluations * rows * (size_t)m->text2_dim * sizeof(float)));
    if (g->unet.text_mask != TENSOR_NONE) {
        TRY(executor_write(e, g->unet.text_mask, g->text_mask, 2 * evaluations * rows * sizeof(int32_t)));
        TRY(executor_write(e, g->unet.mask2, g->mask2, evaluations * rows * sizeof(int32_t)));
    }
    TRY(executor_pack(e));
    TRY(recorder_run(g->recorder, 0, run_network, e));
    TRY(executor_read(e, g->unet.out, g->out, evaluations * 2 * latent * sizeof(float)));
fail:
    return status;
}

/* Guidance, noise and the sampler's step. */
static Status step(Generator *g, int32_t evaluation, uint64_t seed, const uint64_t *picture)
{
    int64_t n = g->options.batch, latent = g->latent_count;
    bool noisy = sampler_wants_noise(g->sampler);
    if (g->guided) sampler_guide(g->out, g->out + n * 2 * latent, n * g->h * g->w, g->channels, g->options.scale);
    for (int64_t k = 0; noisy && k < n; k++)
        sampler_step_noise(seed, picture[k], sampler_step_of(g->sampler, evaluation), g->noise + k * latent, latent);
    return sampler_step(g->sampler, evaluation, g->x, g->out, noisy ? g->noise : NULL);
}

/* Latents to pixels, without what sizes were rounded up by. */
static Status decode(Generator *g, float *pixels)
{
    Status status = STATUS_OK;
    Executor *e = g->decode_stage.executor;
    size_t n = (size_t)g->options.batch, latent = (size_t)g->latent_count;
    size_t row = (size_t)g->options.width * 3, drawn_row = (size_t)g->drawn_width * 3;
    size_t height = (size_t)g->options.height, drawn_height = (size_t)g->drawn_height;
    TRY(executor_write(e, g->decode.latent, g->x, n * latent * sizeof(float)));
    TRY(executor_run(e, NULL));
    TRY(executor_read(e, g->decode.pixels, g->drawn, n * drawn_height * drawn_row * sizeof(float)));
    for (size_t k = 0; k < n; k++)
        for (size_t y = 0; y < height; y++)
            memcpy(pixels + (k * height + y) * row, g->drawn + (k * drawn_height + y) * drawn_row,
                   row * sizeof *pixels);
    for (size_t k = 0; k < n * height * row; k++) pixels[k] = fminf(fmaxf(pixels[k], -1), 1);
fail:
    return status;
}

Status generator_run(Generator *g, const GeneratorTokens *prompts, const GeneratorTokens *empty, uint64_t seed,
                     const uint64_t *picture, float *pixels,
                     void (*progress)(void *context, int32_t done, int32_t total), void *context)
{
    Status status = STATUS_OK;
    int32_t evaluations = sampler_evaluations(g->sampler);
    double begin = clock_seconds();
    g->sampler_seconds = 0;
    if (g->options.sampler.strength > 0 && !g->given)
        FAIL(ERR_INTERNAL, "strength needs a picture: generator_use_picture comes first");
    TRY(encode_text(g, prompts, empty));
    start(g, seed, picture);
    for (int32_t e = 0; e < evaluations; e++) {
        TRY(evaluate(g, e));
        double before = clock_seconds();
        TRY(step(g, e, seed, picture));
        g->sampler_seconds += clock_seconds() - before;
        if (progress != NULL) progress(context, e + 1, evaluations);
    }
    TRY(decode(g, pixels));
    g->seconds = clock_seconds() - begin;
fail:
    return status;
}

const float *generator_latents(const Generator *g, int64_t *h, int64_t *w)
{
    if (h != NULL) *h = g->h;
    if (w != NULL) *w = g->w;
    return g->x;
}

const float *generator_known(const Generator *g)
{
    return g->given ? g->known : NULL;
}

const float *generator_known_mask(const Generator *g)
{
    return g->masked ? g->mask : NULL;
}

void generator_times(const Generator *g, double *sampler, double *all)
{
    *sampler = g->sampler_seconds;
    *all = g->seconds;
}
