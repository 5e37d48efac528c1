/* vasily bench autoencoder: pictures a second into latents or out of them, and where the time goes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/random.h"
#include "engine/executor.h"
#include "engine/param_image.h"
#include "model/sampling_graph.h"
#include "train/command.h"
#include "train/network.h"
#include "train/op_times.h"
#include "train/run_config.h"

typedef struct BenchArguments {
    int64_t width, height, batch, steps; /* width, height 0: the config's resolution */
    bool decode;
} BenchArguments;

typedef struct Bench {
    const BenchArguments *arguments;
    RunConfig config;
    Config *file;
    Backend *backend;
    ParamTable *params;
    ParamStore store;
    PictureGraph picture;
    Plan *plan;
    Executor *executor;
    float *input;
    double *op_seconds;
    OpTimes times;
    double best; /* seconds of a run */
} Bench;

static TensorId input_of(const Bench *bench)
{
    return bench->arguments->decode ? bench->picture.latent : bench->picture.pixels;
}

/* The time does not depend on the weights: they come from the seed, and no file is needed. */
static Status set_up(Bench *bench)
{
    Status status = STATUS_OK;
    const BenchArguments *a = bench->arguments;
    const ModelConfig *model = &bench->config.model;
    int64_t width = a->width ? a->width : bench->config.train.resolution;
    int64_t height = a->height ? a->height : bench->config.train.resolution;
    TRY(network_open_backend(&bench->config, NULL, &bench->backend));
    Dtype compute = model_compute_dtype(model, bench->backend);
    TRY(param_table_create(&bench->params));
    if (a->decode)
        TRY(decode_graph_create(bench->params, model, a->batch, height, width, compute, &bench->picture));
    else
        TRY(encode_graph_create(bench->params, model, a->batch, height, width, false, compute, &bench->picture));
    const Graph *graph = bench->picture.graph;
    TRY(param_table_layout(bench->params, NULL, 0));
    TRY(param_store_create(bench->params, false, &bench->store));
    param_store_init(&bench->store, (uint64_t)bench->config.seed);
    TRY(param_image_open(&bench->store, bench->backend, false));
    TRY(plan_create(graph, bench->backend, &(PlanOptions){.reuse = true}, &bench->plan));
    TRY(executor_create(bench->plan, &bench->store, &bench->executor));
    size_t count = (size_t)shape_count(&graph_tensor(graph, input_of(bench))->shape);
    bench->input = mem_alloc_array(count, sizeof *bench->input);
    bench->op_seconds = mem_alloc_array((size_t)graph_op_count(graph), sizeof *bench->op_seconds);
    if (!bench->input || !bench->op_seconds) FAIL(ERR_MEMORY, "out of memory");
    random_normal(0, RANDOM_TEST, 0, 0, bench->input, count);
fail:
    return status;
}

static void tear_down(Bench *bench)
{
    op_times_free(&bench->times);
    executor_free(bench->executor);
    plan_free(bench->plan);
    picture_graph_free(&bench->picture);
    param_store_free(&bench->store);
    param_table_free(bench->params);
    if (bench->backend) backend_close(bench->backend);
    config_free(bench->file);
    free(bench->input);
    free(bench->op_seconds);
}

/* One run to warm up, then `steps`; op_seconds are those of the fastest. */
static Status measure(Bench *bench)
{
    Status status = STATUS_OK;
    const Graph *graph = bench->picture.graph;
    int32_t ops = graph_op_count(graph);
    size_t bytes = (size_t)shape_count(&graph_tensor(graph, input_of(bench))->shape) * sizeof *bench->input;
    double *seconds = mem_alloc_array((size_t)ops, sizeof *seconds);
    if (!seconds) FAIL(ERR_MEMORY, "out of memory");
    for (int64_t i = 0; i <= bench->arguments->steps; i++) {
        TRY(executor_write(bench->executor, input_of(bench), bench->input, bytes));
        memset(seconds, 0, (size_t)ops * sizeof *seconds);
        double start = clock_seconds();
        TRY(executor_run(bench->executor, &(ExecutorRun){.op_seconds = seconds}));
        double took = clock_seconds() - start;
        if (i == 0 || (i > 1 && took >= bench->best)) continue;
        bench->best = took;
        memcpy(bench->op_seconds, seconds, (size_t)ops * sizeof *seconds);
    }
fail:
    free(seconds);
    return status;
}

static void print(Bench *bench, double peak)
{
    const Graph *graph = bench->picture.graph;
    const Shape *pixels = &graph_tensor(graph, bench->picture.pixels)->shape;
    double rate = bench->plan->forward_flops / bench->best;
    printf("%s %lld of %lld x %lld pixels: %s, %s, %d threads\n", bench->arguments->decode ? "decode" : "encode",
           (long long)pixels->dim[0], (long long)pixels->dim[2], (long long)pixels->dim[1], bench->backend->name,
           dtype_name(graph_compute(graph)), bench->backend->threads);
    printf("best of %lld: %.3f s  %.3f images/s  %.1f GFLOP/s", (long long)bench->arguments->steps, bench->best,
           (double)pixels->dim[0] / bench->best, rate / 1e9);
    if (peak > 0) printf("  %.1f%% of the matmul peak, %.1f GFLOP/s", 100 * rate / peak, peak / 1e9);
    printf("\nactivations %.1f MB, workspace %.1f MB, packed weights %.1f MB, weights %.1f MB\n\n",
           (double)bench->plan->slab_bytes / 1e6, (double)bench->plan->workspace_bytes / 1e6,
           (double)bench->plan->packed_bytes / 1e6, (double)param_table_frozen_elements(bench->params) * 4 / 1e6);
    op_times_print(&bench->times, 1, bench->best);
}

static Status run(CommandCall *call)
{
    Status status = STATUS_OK;
    const char *const *overrides;
    size_t override_count;
    double before = 0, after = 0;
    Bench *bench = arena_alloc(call->arena, sizeof *bench);
    if (!bench) return ERR_MEMORY;
    bench->arguments = call->options;
    TRY(command_arguments(call, 1, &overrides, &override_count));
    TRY(run_config_load_unet(call->positional.items[0], overrides, override_count, &bench->config, &bench->file));
    TRY(model_config_check(&bench->config.model, bench->file));
    TRY(set_up(bench));
    bool peaks = bench->backend->matmul_peak != NULL;
    Dtype compute = graph_compute(bench->picture.graph);
    if (peaks) TRY(bench->backend->matmul_peak(bench->backend, compute, &before));
    TRY(measure(bench));
    if (peaks) TRY(bench->backend->matmul_peak(bench->backend, compute, &after));
    const double peak = before > after ? before : after;
    TRY(op_times_make(bench->picture.graph, bench->op_seconds, 1, &(OpRoofs){.flops = peak}, false, &bench->times));
    print(bench, peak);
fail:
    tear_down(bench);
    return status;
}

static const ArgSpec options[] = {
    {"decode", ARG_FLAG, offsetof(BenchArguments, decode), NULL, "latents to pictures (default: pictures to latents)",
     0, 0, NULL},
    {"width", ARG_INT, offsetof(BenchArguments, width), "N", "pixels (default: train.resolution)", 1, 32768, NULL},
    {"height", ARG_INT, offsetof(BenchArguments, height), "N", "pixels (default: train.resolution)", 1, 32768, NULL},
    {"batch", ARG_INT, offsetof(BenchArguments, batch), "N", "pictures at once (default 1)", 1, 4096, NULL},
    {"steps", ARG_INT, offsetof(BenchArguments, steps), "N", "runs, after one to warm up (default 3)", 1, 10000, NULL},
};
static const BenchArguments defaults = {.batch = 1, .steps = 3};

const Command command_bench_autoencoder = {
    .name = "bench autoencoder",
    .summary = "time of the autoencoder, and where it goes",
    .usage = "CONFIG [key.path=value ...] [--decode] [--width N] [--height N] [--batch N] [--steps N]",
    .details =
        "Of CONFIG the sections `model` and `device` and train.resolution count. Weights are drawn from `seed`.\n"
        "The fastest run counts; the matmul peak is measured before and after.\n",
    .table = COMMAND_TABLE(options),
    .options_size = sizeof(BenchArguments),
    .defaults = &defaults,
    .computes = true,
    .run = run,
};
