/* vasily bench step: how fast a whole training step is, and where the time goes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/random.h"
#include "engine/memory.h"
#include "engine/recorder.h"
#include "optim/optimizer.h"
#include "train/command.h"
#include "train/network.h"
#include "train/op_times.h"

typedef struct BenchArguments {
    const char *stage;
    int64_t steps, warmup;
    bool json, frozen, shapes;
} BenchArguments;

typedef struct Bench {
    RunConfig config;
    Config *file;
    Backend *backend;
    Network network;
    Optimizer *optimizer;
    Recorder *recorder;
    int64_t micro_batches;
    double *op_seconds; /* per op, over the profiled steps */
    uint8_t *scratch;   /* the largest input */
    double *step_seconds;
    double optimizer_seconds, pack_seconds;
    OpRoofs roofs;      /* rates of a large matrix product, and of copying on a GPU */
    int64_t peak_bytes; /* of this process in memory, after the steps */
    OpTimes times;
} Bench;

/* ---- one step on made-up inputs ---- */

static Status fill_input(Bench *bench, TensorId tensor, uint64_t element)
{
    Status status = STATUS_OK;
    if (tensor == TENSOR_NONE || !executor_memory(bench->network.executor, tensor)) return STATUS_OK;
    const Tensor *info = graph_tensor(bench->network.training.graph, tensor);
    int64_t count = shape_count(&info->shape);
    float *floats = (float *)(void *)bench->scratch;
    int32_t *integers = (int32_t *)(void *)bench->scratch;
    if (info->dtype == DTYPE_I32)
        for (int64_t i = 0; i < count; i++) integers[i] = 1 + (int32_t)(i % 2);
    else if (tensor == bench->network.training.keep)
        for (int64_t i = 0; i < count; i++) floats[i] = (float)(i % 2);
    else if (tensor == bench->network.training.timesteps)
        for (int64_t i = 0; i < count; i++)
            floats[i] = (float)diffusion_draw_timestep(bench->network.diffusion, 0, element + (uint64_t)i);
    else
        random_normal(0, RANDOM_TEST, element, 0, floats, (size_t)count);
    TRY(executor_write(bench->network.executor, tensor, bench->scratch, (size_t)count * dtype_size(info->dtype)));
fail:
    return status;
}

static Status fill_inputs(Bench *bench)
{
    Status status = STATUS_OK;
    const TrainingGraph *g = &bench->network.training;
    const TensorId inputs[] = {g->pixels, g->moments,   g->tokens1,      g->mask1, g->tokens2,
                               g->mask2,  g->timesteps, g->sample_index, g->keep};
    for (size_t i = 0; i < sizeof inputs / sizeof inputs[0]; i++) TRY(fill_input(bench, inputs[i], i));
    if (g->pixels == TENSOR_NONE) { /* then the text states are inputs, too */
        TRY(fill_input(bench, g->full_emb1, 100));
        TRY(fill_input(bench, g->pooled_emb1, 101));
        TRY(fill_input(bench, g->full_emb2, 102));
    }
fail:
    return status;
}

typedef struct MicroBatch {
    Bench *bench;
    bool first, last;
} MicroBatch;

static Status compute(void *context)
{
    Status status = STATUS_OK;
    const MicroBatch *m = context;
    TRY(executor_run(m->bench->network.executor, &(ExecutorRun){.add_gradients = !m->first}));
    if (m->last) TRY(optimizer_queue_update(m->bench->optimizer));
fail:
    return status;
}

static Status finish(Bench *bench)
{
    return bench->backend->device ? bench->backend->device->finish(bench->backend) : STATUS_OK;
}

/* A step as training does it. Drawing made-up inputs is no part of its time. */
static Status run_step(Bench *bench, int64_t step, double *seconds)
{
    Status status = STATUS_OK;
    OptimizerReport report;
    *seconds = 0;
    TRY(optimizer_begin_step(bench->optimizer, step, 1.0));
    for (int64_t k = 0; k < bench->micro_batches; k++) {
        MicroBatch m = {.bench = bench, .first = k == 0, .last = k == bench->micro_batches - 1};
        TRY(fill_inputs(bench));
        double start = clock_seconds();
        TRY(recorder_run(bench->recorder, (m.first ? 1 : 0) | (m.last ? 2 : 0), compute, &m));
        TRY(finish(bench));
        *seconds += clock_seconds() - start;
    }
    optimizer_end_step(bench->optimizer, &report);
    executor_weights_changed(bench->network.executor);
fail:
    return status;
}

/* The same with a time for each op; on a GPU the marks between ops make it slower. */
static Status profile_step(Bench *bench, int64_t step, double *seconds)
{
    Status status = STATUS_OK;
    OptimizerReport report;
    double inputs = 0, start = clock_seconds();
    for (int64_t m = 0; m < bench->micro_batches; m++) {
        double before = clock_seconds();
        TRY(fill_inputs(bench));
        inputs += clock_seconds() - before;
        TRY(executor_run(bench->network.executor, &(ExecutorRun){.add_gradients = m > 0,
                                                                 .op_seconds = bench->op_seconds,
                                                                 .pack_seconds = &bench->pack_seconds}));
    }
    double before = clock_seconds();
    TRY(optimizer_step(bench->optimizer, step, 1.0, &report));
    executor_weights_changed(bench->network.executor);
    bench->optimizer_seconds += clock_seconds() - before;
    *seconds = clock_seconds() - start - inputs;
fail:
    return status;
}

/* On the host each op can be timed in the very steps that count; on a GPU in as many more. */
static Status run_steps(Bench *bench, const BenchArguments *arguments)
{
    Status status = STATUS_OK;
    const int64_t first = arguments->warmup, last = first + arguments->steps;
    double ignored;
    for (int64_t i = 0; i < first; i++) TRY(run_step(bench, i, &ignored));
    for (int64_t i = first; i < last; i++) {
        if (bench->backend->device)
            TRY(run_step(bench, i, &bench->step_seconds[i - first]));
        else
            TRY(profile_step(bench, i, &bench->step_seconds[i - first]));
    }
    bench->peak_bytes = memory_peak();
    for (int64_t i = 0; bench->backend->device && i < arguments->steps; i++)
        TRY(profile_step(bench, last + i, &ignored));
fail:
    return status;
}

/* ---- setting up ---- */

/* The better of two measurements, one before and one after the steps: other work on the machine only makes it slower.
 */
static Status measure_peak(Bench *bench)
{
    Status status = STATUS_OK;
    double peak = 0;
    if (bench->backend->matmul_peak) {
        TRY(bench->backend->matmul_peak(bench->backend, bench->network.compute, &peak));
        if (peak > bench->roofs.flops) bench->roofs.flops = peak;
    }
    if (bench->backend->device) {
        TRY(bench->backend->device->copy_peak(bench->backend, &peak));
        if (peak > bench->roofs.bytes) bench->roofs.bytes = peak;
    }
fail:
    return status;
}

static int64_t largest_input(const Network *network)
{
    int64_t largest = 64;
    for (TensorId t = 0; t < graph_tensor_count(network->training.graph); t++) {
        const Tensor *tensor = graph_tensor(network->training.graph, t);
        int64_t bytes = shape_count(&tensor->shape) * (int64_t)dtype_size(tensor->dtype);
        if (tensor->kind == TENSOR_INPUT && bytes > largest) largest = bytes;
    }
    return largest;
}

static Status set_up(Bench *bench, const BenchArguments *arguments)
{
    Status status = STATUS_OK;
    const NetworkSurroundings around = {.ranks = 1, .sharing = 1};
    const NetworkInputs inputs = arguments->frozen ? NETWORK_PIXELS : NETWORK_GIVEN;
    TRY(run_config_check_ranks(&bench->config, bench->file, 1, 1));
    TRY(network_open_backend(&bench->config, NULL, &bench->backend));
    TRY(network_choose_micro_batch(&bench->config, bench->backend, inputs, &around, 0));
    TRY(network_plan(&bench->config, bench->backend, inputs, &bench->network));
    network_plan_memory(&bench->network, &bench->config, &around);
    TRY(memory_plan_check(&bench->network.memory, &bench->config, bench->backend, 1));
    bench->micro_batches = bench->config.train.global_batch / bench->config.train.micro_batch;
    TRY(measure_peak(bench)); /* before the step takes its memory: what measuring takes is no part of its peak */
    TRY(network_start(&bench->network, &bench->config));
    TRY(recorder_create(bench->backend, bench->config.device.graphs, &bench->recorder));
    TRY(optimizer_create(&bench->config.optim, bench->config.optim.total_steps, &bench->network.store, bench->backend,
                         bench->backend->threads, NULL, &bench->optimizer));
    bench->op_seconds = mem_alloc_array((size_t)graph_op_count(bench->network.training.graph) + 1, sizeof(double));
    bench->step_seconds = mem_alloc_array((size_t)arguments->steps, sizeof(double));
    bench->scratch = mem_alloc_aligned((size_t)largest_input(&bench->network));
    if (!bench->op_seconds || !bench->step_seconds || !bench->scratch) FAIL(ERR_MEMORY, "out of memory");
fail:
    return status;
}

static void tear_down(Bench *bench)
{
    free(bench->op_seconds);
    free(bench->step_seconds);
    mem_free_aligned(bench->scratch);
    op_times_free(&bench->times);
    recorder_free(bench->recorder);
    optimizer_free(bench->optimizer);
    network_free(&bench->network);
    if (bench->backend) backend_close(bench->backend);
    config_free(bench->file);
}

/* ---- results ---- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct BenchFigures {
    double seconds, images_per_second, flops_per_second, share; /* of the median step */
    double nominal;                                             /* share of what the GPU's maker states; 0: not known */
} BenchFigures;

/* What the step is for: work that is done again to save memory does not count. */
static double useful_flops(const Bench *bench)
{
    const Graph *graph = bench->network.training.graph;
    double flops = 0;
    for (int32_t i = 0; i < graph_op_count(graph); i++) {
        const Op *op = graph_op(graph, i);
        if (!op->is_recomputed) flops += op_info(op->kind)->cost(graph, op).flops;
    }
    return flops * (double)bench->micro_batches;
}

static BenchFigures figures_of(Bench *bench, int64_t steps)
{
    double flops = useful_flops(bench);
    double nominal = bench->backend->device ? bench->backend->device->matmul_nominal : 0;
    qsort(bench->step_seconds, (size_t)steps, sizeof(double), by_value);
    double median = steps % 2 ? bench->step_seconds[steps / 2]
                              : (bench->step_seconds[steps / 2 - 1] + bench->step_seconds[steps / 2]) / 2;
    return (BenchFigures){.seconds = median,
                          .images_per_second = (double)bench->config.train.global_batch / median,
                          .flops_per_second = flops / median,
                          .share = bench->roofs.flops > 0 ? flops / median / bench->roofs.flops : 0,
                          .nominal = nominal > 0 ? flops / median / nominal : 0};
}

static const char *pack_word(PlanPack pack)
{
    return pack == PLAN_PACK_KEEP ? "keep" : pack == PLAN_PACK_IMAGE ? "image" : "scratch";
}

/* What is no op of the graph. */
static void json_extra_row(JsonWriter *w, const char *name, double seconds)
{
    json_object(w, NULL);
    json_string(w, "op", name);
    json_int(w, "count", 1);
    json_float(w, "seconds", seconds);
    json_float(w, "gflop", 0);
    json_end_object(w);
}

static Status print_json(Bench *bench, const BenchFigures *f, int64_t steps)
{
    Status status = STATUS_OK;
    StrBuf text = {0};
    JsonWriter w;
    json_begin(&w, &text);
    json_object(&w, NULL);
    json_string(&w, "device", bench->backend->name);
    json_string(&w, "compute", dtype_name(bench->network.compute));
    json_int(&w, "threads", bench->backend->threads);
    json_int(&w, "batch", bench->config.train.global_batch);
    json_int(&w, "steps", steps);
    json_int(&w, "parameters", param_table_trainable_parameters(bench->network.params));
    json_float(&w, "step_seconds", f->seconds);
    json_float(&w, "best_step_seconds", bench->step_seconds[0]);
    json_float(&w, "images_per_second", f->images_per_second);
    json_float(&w, "gflops", f->flops_per_second / 1e9);
    json_float(&w, "matmul_peak_gflops", bench->roofs.flops / 1e9);
    json_float(&w, "share_of_peak", f->share);
    if (f->nominal > 0) json_float(&w, "share_of_nominal", f->nominal);
    if (bench->roofs.bytes > 0) json_float(&w, "copy_peak_gbytes", bench->roofs.bytes / 1e9);
    json_string(&w, "packed_weights", pack_word(bench->network.plan->pack));
    json_int(&w, "planned_bytes", bench->network.memory.total);
    json_int(&w, "peak_bytes", bench->peak_bytes);
    if (bench->backend->device) json_int(&w, "device_planned_bytes", bench->network.memory.device_total);
    json_int(&w, "micro_batch", bench->network.micro_batch);
    json_array(&w, "ops");
    op_times_json(&bench->times, (double)bench->micro_batches, &w);
    json_extra_row(&w, "pack", bench->pack_seconds / (double)steps);
    json_extra_row(&w, "optimizer", bench->optimizer_seconds / (double)steps);
    json_end_array(&w);
    json_end_object(&w);
    TRY(strbuf_append(&text, "\n", 1));
    fputs(text.data, stdout);
fail:
    strbuf_free(&text);
    return status;
}

static void print_table(Bench *bench, const BenchFigures *f, int64_t steps)
{
    const double micro_batches = (double)bench->micro_batches;
    double total = 0, rest;
    for (int64_t i = 0; i < steps; i++) total += bench->step_seconds[i];
    total /= (double)steps;
    printf("%s, %s, %d threads, %.1f M parameters, batch %lld = %lld x %lld, %lld steps\n", bench->backend->name,
           dtype_name(bench->network.compute), bench->backend->threads,
           (double)param_table_trainable_parameters(bench->network.params) / 1e6,
           (long long)bench->config.train.global_batch, (long long)bench->micro_batches,
           (long long)bench->network.micro_batch, (long long)steps);
    printf("median step %.3f s (best %.3f)  %.2f images/s  %.1f GFLOP/s", f->seconds, bench->step_seconds[0],
           f->images_per_second, f->flops_per_second / 1e9);
    if (bench->roofs.flops > 0)
        printf("  %.1f%% of the matmul peak, %.1f GFLOP/s", 100 * f->share, bench->roofs.flops / 1e9);
    if (f->nominal > 0)
        printf(", %.1f%% of the stated %.0f TFLOP/s", 100 * f->nominal, bench->backend->device->matmul_nominal / 1e12);
    if (bench->roofs.bytes > 0) printf("\ncopying on the GPU moves %.1f GB/s", bench->roofs.bytes / 1e9);
    printf("\npeak memory %.3f GB, planned %.3f GB; packed weights: %s\n", (double)bench->peak_bytes / 1e9,
           (double)bench->network.memory.total / 1e9, pack_word(bench->network.plan->pack));
    if (bench->backend->device)
        printf("planned on the GPU %.3f GB; times of ops are from %lld more steps, not replayed, with marks between\n",
               (double)bench->network.memory.device_total / 1e9, (long long)steps);
    op_times_print(&bench->times, micro_batches, total);
    rest = total - (bench->optimizer_seconds + bench->pack_seconds) / (double)steps;
    for (int32_t i = 0; i < bench->times.count; i++) rest -= bench->times.items[i].seconds * micro_batches;
    op_times_print_other("optimizer", bench->optimizer_seconds / (double)steps, total);
    op_times_print_other("packing weights", bench->pack_seconds / (double)steps, total);
    op_times_print_other("the rest", rest > 0 ? rest : 0, total);
}

static Status run(CommandCall *call)
{
    Status status = STATUS_OK;
    const BenchArguments *arguments = call->options;
    const char *const *overrides;
    size_t override_count;
    Bench *bench = arena_alloc(call->arena, sizeof *bench);
    if (!bench) return ERR_MEMORY;
    TRY(command_arguments(call, 1, &overrides, &override_count));
    TRY(run_config_load_one(call->positional.items[0], overrides, override_count, arguments->stage, &bench->config,
                            &bench->file));
    TRY(set_up(bench, arguments));
    TRY(run_steps(bench, arguments));
    if (measure_peak(bench) != STATUS_OK)
        log_warn("the peak was measured before the steps alone: %s", status_message());
    TRY(op_times_make(bench->network.training.graph, bench->op_seconds,
                      (double)(arguments->steps * bench->micro_batches), &bench->roofs, arguments->shapes,
                      &bench->times));
    BenchFigures figures = figures_of(bench, arguments->steps);
    if (arguments->json)
        TRY(print_json(bench, &figures, arguments->steps));
    else
        print_table(bench, &figures, arguments->steps);
fail:
    tear_down(bench);
    return status;
}

static const ArgSpec options[] = {
    {"stage", ARG_TEXT, offsetof(BenchArguments, stage), "NAME",
     "as this stage of the config has it (default: what stands outside its stages)", 0, 0, NULL},
    {"steps", ARG_INT, offsetof(BenchArguments, steps), "N", "timed steps (default 5)", 1, 1e6, NULL},
    {"warmup", ARG_INT, offsetof(BenchArguments, warmup), "N", "steps before them (default 2)", 0, 1e6, NULL},
    {"frozen", ARG_FLAG, offsetof(BenchArguments, frozen), NULL,
     "with autoencoder and text encoders (default: UNet, loss and optimizer alone)", 0, 0, NULL},
    {"shapes", ARG_FLAG, offsetof(BenchArguments, shapes), NULL, "a row for each shape of an op, not for each op", 0, 0,
     NULL},
    {"json", ARG_FLAG, offsetof(BenchArguments, json), NULL, "one JSON object instead of the table", 0, 0, NULL},
};
static const BenchArguments defaults = {.steps = 5, .warmup = 2};

const Command command_bench_step = {
    .name = "bench step",
    .summary = "time a training step, op by op",
    .usage = "CONFIG [key.path=value ...] [--steps N] [--shapes] [--json]",
    .details =
        "Runs whole training steps (forward, backward, clipping, AdamW, EMA) on made-up inputs: no shards are read.\n"
        "Prints images/s, GFLOP/s and their share of the rate of a large matrix product, measured in the same run,\n"
        "and where the time goes: each op's rates, and the share of its roof, the time that its FLOPs at the matrix\n"
        "product's rate or its bytes at the rate of copying (GPU) would take. model.precision=f32 or bf16 chooses the\n"
        "arithmetic.\n",
    .table = COMMAND_TABLE(options),
    .options_size = sizeof(BenchArguments),
    .defaults = &defaults,
    .computes = true,
    .run = run,
};
