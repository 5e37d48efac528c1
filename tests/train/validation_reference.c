/* validation_reference RUN [noise|text]: the validation of a run's newest checkpoint, computed in another way: samples
 * one by one, tokens from the captions themselves, the network as sampling calls it, the noise process and both loss
 * terms in doubles from their formulas. For models of a patch autoencoder and the linear schedule. Prints mse, vb and
 * loss, then each timestep's loss.
 *
 * Poisoned, it does what would be wrong: `noise` gives each sample another one's, `text` drops the captions. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "data/loader.h"
#include "data/pixels.h"
#include "data/tokenizer.h"
#include "engine/executor.h"
#include "model/sampling_graph.h"
#include "train/network.h"
#include "train/saved_model.h"

enum { STEPS_MAX = 1000 };

#define OK(call) check((call), __LINE__)
static void check(Status status, int line)
{
    if (status == STATUS_OK) return;
    fprintf(stderr, "validation_reference: line %d: %s\n", line, status_message());
    exit(1);
}

/* ---- the noise process: Ho et al. 2020 ---- */

static double beta[STEPS_MAX], product[STEPS_MAX]; /* product of 1 - beta */

static void make_process(const DiffusionConfig *config)
{
    const double n = (double)config->steps, unit = 1000 / n;
    for (int t = 0; t < config->steps; t++) {
        beta[t] = unit * (config->beta_start + (config->beta_end - config->beta_start) * t / (n - 1));
        product[t] = (t ? product[t - 1] : 1) * (1 - beta[t]);
    }
}

static double posterior_variance(int t)
{
    return beta[t] * (1 - product[t - 1]) / (1 - product[t]);
}

/* Of q(x_{t-1} | x_t, x_0) */
static double posterior_mean(int t, double x0, double x_t)
{
    const double before = t ? product[t - 1] : 1;
    return (sqrt(before) * beta[t] * x0 + sqrt(1 - beta[t]) * (1 - before) * x_t) / (1 - product[t]);
}

static double distribution(double x)
{
    return 0.5 * (1 + tanh(sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x)));
}

/* Bits of an element of the bound; the network says eps and where its log variance lies. */
static double bound(int t, double x0, double x_t, double eps, double v)
{
    const double low = log(posterior_variance(t ? t : 1)), high = log(beta[t]);
    const double log_variance = low + (v + 1) / 2 * (high - low), deviation = exp(log_variance / 2);
    const double mean = posterior_mean(t, (x_t - sqrt(1 - product[t]) * eps) / sqrt(product[t]), x_t);
    if (t > 0) {
        const double distance = posterior_mean(t, x0, x_t) - mean;
        return 0.5 * (log_variance - low - 1 + exp(low - log_variance) + distance * distance * exp(-log_variance)) /
               log(2);
    }
    const double above = distribution((x0 - mean + 1 / 255.0) / deviation);
    const double below = distribution((x0 - mean - 1 / 255.0) / deviation);
    const double p = x0 < -0.999 ? above : x0 > 0.999 ? 1 - below : above - below;
    return -log(p > 1e-12 ? p : 1e-12) / log(2);
}

/* ---- the networks ---- */

typedef struct Runner {
    Plan *plan;
    Executor *executor;
} Runner;

static Runner runner(const Graph *graph, Backend *backend, const ParamStore *store)
{
    Runner r;
    OK(plan_create(graph, backend, &(PlanOptions){.reuse = true}, &r.plan));
    OK(executor_create(r.plan, store, &r.executor));
    return r;
}

static size_t elements(const Graph *graph, TensorId id)
{
    return (size_t)shape_count(&graph_tensor(graph, id)->shape);
}

static float *output(const Runner *r, const Graph *graph, TensorId id)
{
    const size_t count = elements(graph, id);
    float *values = calloc(count, sizeof *values);
    OK(executor_read(r->executor, id, values, count * sizeof *values));
    return values;
}

static void input(const Runner *r, const Graph *graph, TensorId id, const void *values)
{
    OK(executor_write(r->executor, id, values, elements(graph, id) * sizeof(float)));
}

typedef struct Networks {
    SavedModel model;
    Backend *backend;
    PictureGraph encoder;
    TextGraph text;
    UnetGraph unet;
    Runner encode, read, predict;
    Tokenizer *tokenizers[2];
    int32_t tokens[4][512]; /* tokens1, mask1, tokens2, mask2 */
    float *latent, *states[3];
} Networks;

static void open_networks(const char *path, Networks *n)
{
    OK(saved_model_open(path, false, NULL, 0, &n->model));
    const RunConfig *run = &n->model.run;
    ParamTable *params = n->model.params;
    const int64_t side = run->train.resolution, latent = model_latent_size(&run->model, side);
    OK(network_open_backend(run, NULL, &n->backend));
    OK(encode_graph_create(params, &run->model, 1, side, side, false, DTYPE_F32, &n->encoder));
    OK(text_graph_create(params, &run->model, 1, DTYPE_F32, &n->text));
    OK(unet_graph_create(params,
                         &(UnetGraphOptions){.model = &run->model,
                                             .batch = 1,
                                             .height = latent,
                                             .width = latent,
                                             .tokens1 = run->model.max_tokens,
                                             .tokens2 = run->model.max_tokens,
                                             .compute = DTYPE_F32},
                         &n->unet));
    n->encode = runner(n->encoder.graph, n->backend, &n->model.store);
    n->read = runner(n->text.graph, n->backend, &n->model.store);
    n->predict = runner(n->unet.graph, n->backend, &n->model.store);
    const TokenizerConfig *configs[2] = {&run->data.tokenizer1, &run->data.tokenizer2};
    for (int k = 0; k < 2; k++)
        OK(tokenizer_open(configs[k]->model, (TokenizerStyle)configs[k]->style, (int)configs[k]->max_tokens,
                          &n->tokenizers[k]));
}

/* The frozen networks' outputs for a sample. */
static void encode(Networks *n, const uint8_t *pixels, const char *caption)
{
    const int64_t side = n->model.run.train.resolution;
    float *floats = calloc((size_t)(side * side * 3), sizeof *floats);
    pixels_to_floats(pixels, (size_t)(side * side * 3), floats);
    input(&n->encode, n->encoder.graph, n->encoder.pixels, floats);
    OK(executor_run(n->encode.executor, NULL));
    n->latent = output(&n->encode, n->encoder.graph, n->encoder.latent);
    free(floats);
    for (int k = 0; k < 2; k++)
        OK(tokenizer_encode(n->tokenizers[k], caption, strlen(caption), n->tokens[2 * k], n->tokens[2 * k + 1]));
    const TensorId inputs[4] = {n->text.tokens1, n->text.mask1, n->text.tokens2, n->text.mask2};
    const TensorId outputs[3] = {n->text.full_emb1, n->text.pooled_emb1, n->text.full_emb2};
    for (int k = 0; k < 4; k++) input(&n->read, n->text.graph, inputs[k], n->tokens[k]);
    OK(executor_run(n->read.executor, NULL));
    for (int k = 0; k < 3; k++) n->states[k] = output(&n->read, n->text.graph, outputs[k]);
}

static void forget(Networks *n)
{
    free(n->latent);
    for (int k = 0; k < 3; k++) free(n->states[k]);
}

/* Adds a sample's terms at a timestep. */
static void measure(const Networks *n, int t, uint64_t noise_index, double terms[2])
{
    const Graph *graph = n->unet.graph;
    const size_t count = elements(graph, n->unet.x);
    const int64_t channels = n->model.run.model.in_channels;
    const float told = (float)(t * 1000.0 / (double)n->model.run.diffusion.steps);
    float *noise = calloc(count, sizeof *noise), *x_t = calloc(count, sizeof *x_t);
    double mse = 0, vb = 0;
    random_normal((uint64_t)n->model.run.validation.seed, RANDOM_NOISE, noise_index, 0, noise, count);
    for (size_t i = 0; i < count; i++)
        x_t[i] = (float)(sqrt(product[t]) * n->latent[i] + sqrt(1 - product[t]) * noise[i]);
    input(&n->predict, graph, n->unet.x, x_t);
    input(&n->predict, graph, n->unet.timesteps, &told);
    input(&n->predict, graph, n->unet.full_emb1, n->states[0]);
    input(&n->predict, graph, n->unet.pooled_emb1, n->states[1]);
    input(&n->predict, graph, n->unet.full_emb2, n->states[2]);
    OK(executor_run(n->predict.executor, NULL));
    float *out = output(&n->predict, graph, n->unet.out);
    for (size_t i = 0; i < count; i++) {
        const size_t at = i / (size_t)channels * 2 * (size_t)channels + i % (size_t)channels;
        const double eps = out[at], d = eps - noise[i];
        mse += d * d / (double)count;
        vb += bound(t, n->latent[i], x_t[i], eps, out[at + (size_t)channels]) / (double)count;
    }
    terms[0] += mse;
    terms[1] += vb * (double)n->model.run.diffusion.steps / 1000;
    free(out);
    free(noise);
    free(x_t);
}

/* Samples one by one, once, no caption dropped. */
static Loader *open_samples(const RunConfig *run, DataConfig *data, SourceConfig *source)
{
    Loader *loader;
    *data = run->data;
    *source = *(const SourceConfig *)run->validation.sources.items;
    source->repeat = false;
    data->sources = (ConfigList){source, 1};
    data->lanes = 1;
    data->text_dropout = 0;
    OK(loader_open(data,
                   &(LoaderOptions){.seed = (uint64_t)run->validation.seed,
                                    .resolution = (int)run->train.resolution,
                                    .global_batch = 1,
                                    .world = 1},
                   &loader));
    return loader;
}

int main(int argc, char **argv)
{
    static Networks n;
    if (argc < 2) return 2;
    const bool wrong_noise = argc > 2 && strcmp(argv[2], "noise") == 0;
    const bool no_text = argc > 2 && strcmp(argv[2], "text") == 0;
    open_networks(argv[1], &n);
    const RunConfig *run = &n.model.run;
    const ValidationConfig *v = &run->validation;
    make_process(&run->diffusion);
    const int64_t times = v->timesteps.count ? (int64_t)v->timesteps.count : v->timestep_count;
    DataConfig data;
    SourceConfig source;
    Loader *loader = open_samples(run, &data, &source);
    double *terms = calloc((size_t)times, 2 * sizeof *terms), mse = 0, vb = 0;
    for (int64_t i = 0; i < v->samples; i++) {
        const Batch *batch;
        OK(loader_next(loader, &batch));
        encode(&n, batch->pixels[0], no_text ? "" : batch->captions[0]);
        loader_release(loader, batch);
        for (int64_t k = 0; k < times; k++) {
            const int t = v->timesteps.count
                              ? (int)v->timesteps.items[k]
                              : (int)floor(((double)k + 0.5) * (double)run->diffusion.steps / (double)times);
            measure(&n, t, ((uint64_t)(wrong_noise ? v->samples - 1 - i : i) << 20) + (uint64_t)t, terms + 2 * k);
        }
        forget(&n);
    }
    const double samples = (double)v->samples;
    for (int64_t k = 0; k < times; k++) mse += terms[2 * k], vb += terms[2 * k + 1];
    mse /= samples * (double)times;
    vb /= samples * (double)times;
    printf("mse %.9g\nvb %.9g\nloss %.9g\n", mse, vb, mse + vb);
    for (int64_t k = 0; k < times; k++) printf("timestep %.9g\n", (terms[2 * k] + terms[2 * k + 1]) / samples);
    loader_close(loader);
    free(terms);
    return 0;
}
