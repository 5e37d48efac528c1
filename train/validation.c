#include "train/validation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "engine/executor.h"
#include "train/feed.h"
#include "train/validation_samples.h"

enum { MSE, VB, TERMS, TIMESTEP_BITS = 20 };                  /* a noise process has at most 10^6 steps */
static const double live_interval = 0.2, plain_interval = 10; /* seconds */

struct Validation {
    ValidationOptions options;
    TrainingGraph graph; /* of `rows` rows, forward only */
    Plan *plan;
    int64_t rows, samples, timestep_count;
    int64_t *timesteps; /* (timestep_count) */
    /* started */
    Comm *comm;
    ValidationSamples *own;
    Batch *batch;          /* the rows of a pass */
    float *batch_timestep; /* (rows) */
    float *terms;          /* (rows, 2): mse, vb */
    Executor *executor;
    Feed *feed;
    double *losses;      /* (samples, timestep_count, 2): of this rank's samples, else 0; then of all */
    double *by_timestep; /* (timestep_count) */
};

bool validation_is_wanted(const RunConfig *run)
{
    return run->validation.every > 0 && run->validation.sources.count > 0;
}

bool validation_is_due(const RunConfig *run, int64_t step)
{
    return validation_is_wanted(run) && step % run->validation.every == 0;
}

/* ---- planning ---- */

static int64_t divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* Rows that the rank with the most of them has. */
static int64_t most_rows(const Validation *v)
{
    return divide_up(v->samples, v->options.ranks) * v->timestep_count;
}

static Status make_plan(Validation *v)
{
    Status status = STATUS_OK;
    const ValidationOptions *o = &v->options;
    TrainingGraphOptions graph =
        network_graph_options(o->run, NETWORK_PIXELS, o->diffusion, model_compute_dtype(&o->run->model, o->backend));
    graph.batch = v->rows;
    graph.seed = (uint64_t)o->run->validation.seed;
    graph.backward = graph.recompute = false;
    TRY(training_graph_create(o->params, &graph, &v->graph));
    TRY(plan_create(
        v->graph.graph, o->backend,
        &(PlanOptions){.reuse = o->run->train.plan_reuse, .pack = PLAN_PACK_SCRATCH, .estimate = o->estimate},
        &v->plan));
fail:
    return status;
}

Status validation_plan(const ValidationOptions *options, Validation **out)
{
    Status status = STATUS_OK;
    const ValidationConfig *config = &options->run->validation;
    Validation *v = mem_alloc_array(1, sizeof *v);
    if (!v) FAIL(ERR_MEMORY, "out of memory");
    v->options = *options;
    v->samples = config->samples;
    v->timestep_count = validation_config_timesteps(config, options->diffusion->steps, NULL);
    v->timesteps = mem_alloc_array((size_t)v->timestep_count, sizeof *v->timesteps);
    if (!v->timesteps) FAIL(ERR_MEMORY, "out of memory");
    validation_config_timesteps(config, options->diffusion->steps, v->timesteps);
    v->rows = config->batch ? config->batch : options->micro_batch;
    if (v->rows > most_rows(v)) v->rows = most_rows(v);
    TRY(make_plan(v));
    *out = v;
    return STATUS_OK;
fail:
    validation_free(v);
    return status;
}

ValidationBytes validation_bytes(const Validation *v)
{
    const RunConfig *run = v->options.run;
    const int64_t numbers = (v->samples * TERMS + 2) * v->timestep_count * (int64_t)sizeof(double);
    const int64_t staging = v->options.backend->device ? feed_bytes(v->graph.graph) : 0;
    return (ValidationBytes){.computing = (int64_t)plan_bytes(v->plan) + staging,
                             .host = validation_samples_bytes(run, v->options.ranks) + numbers + staging};
}

Status validation_plan_bytes(const RunConfig *run, const Network *network, int64_t ranks, bool estimate,
                             ValidationBytes *out)
{
    Status status = STATUS_OK;
    Validation *v = NULL;
    *out = (ValidationBytes){0};
    if (!validation_is_wanted(run)) return STATUS_OK;
    TRY(validation_plan(&(ValidationOptions){.run = run,
                                             .backend = network->backend,
                                             .params = network->params,
                                             .diffusion = network->diffusion,
                                             .micro_batch = network->micro_batch,
                                             .ranks = ranks,
                                             .estimate = estimate},
                        &v));
    *out = validation_bytes(v);
fail:
    validation_free(v);
    return status;
}

/* ---- starting ---- */

Status validation_start(Validation *v, const ParamStore *store, const PrecomputedSpec *precomputed, Comm *comm)
{
    Status status = STATUS_OK;
    const ValidationOptions *o = &v->options;
    const size_t rows = (size_t)v->rows, losses = (size_t)(v->samples * v->timestep_count);
    v->comm = comm;
    v->batch_timestep = mem_alloc_array(rows, sizeof *v->batch_timestep);
    v->terms = mem_alloc_array(rows, TERMS * sizeof *v->terms);
    v->losses = mem_alloc_array(losses, TERMS * sizeof *v->losses);
    v->by_timestep = mem_alloc_array((size_t)v->timestep_count, sizeof *v->by_timestep);
    if (!v->batch_timestep || !v->terms || !v->losses || !v->by_timestep)
        FAIL(ERR_MEMORY, "no memory for the losses of %lld held-out samples", (long long)v->samples);
    TRY(validation_samples_read(o->run, precomputed, comm, &v->own));
    TRY(validation_batch_create(v->own, (int32_t)v->rows, &v->batch));
    TRY(executor_create(v->plan, store, &v->executor));
    TRY(feed_create(&(FeedOptions){.backend = o->backend,
                                   .executor = v->executor,
                                   .graph = &v->graph,
                                   .diffusion = o->diffusion,
                                   .masks = &o->run->inpainting,
                                   .factor = model_latent_factor(&o->run->model),
                                   .seed = (uint64_t)o->run->validation.seed,
                                   .micro_batch = v->rows,
                                   .max_tokens = o->run->model.max_tokens,
                                   .timesteps = v->batch_timestep},
                    &v->feed));
fail:
    return status;
}

void validation_free(Validation *v)
{
    if (!v) return;
    feed_free(v->feed);
    executor_free(v->executor);
    validation_batch_free(v->batch);
    validation_samples_free(v->own);
    plan_free(v->plan);
    training_graph_free(&v->graph);
    free(v->timesteps);
    free(v->batch_timestep);
    free(v->terms);
    free(v->losses);
    free(v->by_timestep);
    free(v);
}

/* ---- a run ---- */

/* Row q of this rank is its sample q / timestep_count at timestep q mod timestep_count. */
static void put_row(Validation *v, int64_t q, int64_t row)
{
    const int64_t k = q / v->timestep_count, timestep = v->timesteps[q % v->timestep_count];
    validation_batch_put(v->own, k, v->batch, (int32_t)row);
    v->batch->index[row] = (validation_samples_number(v->own, k) << TIMESTEP_BITS) + timestep;
    v->batch_timestep[row] = (float)timestep;
}

/* Rows [first, first + rows) of this rank; a last, smaller part is filled up with its last row. */
static Status run_rows(Validation *v, int64_t first)
{
    Status status = STATUS_OK;
    const int64_t here = validation_samples_own(v->own) * v->timestep_count - first;
    const int64_t count = here < v->rows ? here : v->rows;
    for (int64_t row = 0; row < v->rows; row++) put_row(v, first + (row < count ? row : count - 1), row);
    TRY(feed_fill(v->feed, v->batch, 0));
    TRY(feed_take(v->feed));
    TRY(executor_run(v->executor, NULL));
    TRY(executor_read(v->executor, v->graph.loss_terms, v->terms, (size_t)v->rows * TERMS * sizeof *v->terms));
    for (int64_t row = 0; row < count; row++) {
        const int64_t sample = validation_samples_number(v->own, (first + row) / v->timestep_count);
        double *loss = v->losses + (sample * v->timestep_count + (first + row) % v->timestep_count) * TERMS;
        for (int k = 0; k < TERMS; k++) loss[k] = v->terms[row * TERMS + k];
    }
fail:
    return status;
}

typedef struct Shown {
    double start, last_live, last_line;
} Shown;

static void show(const Validation *v, int64_t done, int64_t all, Shown *shown)
{
    const double now = clock_seconds(), last = log_is_terminal() ? shown->last_live : shown->last_line;
    char line[96];
    if (comm_rank(v->comm) != 0 || now - last < (log_is_terminal() ? live_interval : plain_interval)) return;
    shown->last_live = shown->last_line = now;
    snprintf(line, sizeof line, "validation: %.0f%% of %lld samples at %lld timesteps",
             100 * (double)done / (double)all, (long long)v->samples, (long long)v->timestep_count);
    if (log_is_terminal())
        log_live_line(line);
    else
        log_info("%s", line);
}

/* Sample after sample, whoever computed it. */
static void sum_up(Validation *v, ValidationResult *out)
{
    double sums[TERMS] = {0};
    for (int64_t k = 0; k < v->timestep_count; k++) {
        double here[TERMS] = {0};
        for (int64_t i = 0; i < v->samples; i++)
            for (int term = 0; term < TERMS; term++)
                here[term] += v->losses[(i * v->timestep_count + k) * TERMS + term];
        for (int term = 0; term < TERMS; term++) sums[term] += here[term];
        v->by_timestep[k] = (here[MSE] + here[VB]) / (double)v->samples;
    }
    const double count = (double)(v->samples * v->timestep_count);
    out->mse = sums[MSE] / count;
    out->vb = sums[VB] / count;
    out->loss = (sums[MSE] + sums[VB]) / count;
    out->samples = v->samples;
    out->timestep_count = v->timestep_count;
    out->timesteps = v->timesteps;
    out->by_timestep = v->by_timestep;
}

Status validation_run(Validation *v, const float *weights, ValidationPause pause, ValidationResult *out)
{
    Status status = STATUS_OK;
    const int64_t own = validation_samples_own(v->own) * v->timestep_count, most = most_rows(v);
    const int64_t values = v->samples * v->timestep_count * TERMS;
    Shown shown = {.start = clock_seconds()};
    shown.last_live = shown.last_line = shown.start;
    *out = (ValidationResult){0};
    memset(v->losses, 0, (size_t)values * sizeof *v->losses);
    executor_bind_weights(v->executor, weights);
    for (int64_t first = 0; first < most && !out->stopped; first += v->rows) {
        if (first < own) TRY(run_rows(v, first));
        show(v, first + v->rows < most ? first + v->rows : most, most, &shown);
        if (pause.call) TRY(pause.call(pause.context, &out->stopped));
    }
    if (out->stopped) goto fail;
    TRY(comm_all_reduce_f64(v->comm, v->losses, (int)values, COMM_SUM));
    sum_up(v, out);
    out->seconds = clock_seconds() - shown.start;
fail:
    log_live_line(NULL);
    executor_bind_weights(v->executor, NULL);
    return status;
}
