/* vasily plan: what a run needs and does, known before it runs. */
#include <stdio.h>

#include "base/json.h"
#include "base/log.h"
#include "train/command.h"
#include "train/network.h"
#include "train/preview.h"

enum { RANKS_PER_MACHINE = 8 };

typedef struct PlanArguments {
    int64_t ranks;
    const char *gpu;
    bool json, ops;
} PlanArguments;

/* Per rank unless said otherwise. */
typedef struct PlanFigures {
    int64_t parameters, frozen_parameters;
    int64_t ranks, global_batch, micro_batch, micro_batches;
    double forward_flops_per_image, flops_per_image; /* training: forward, backward, recomputation */
    double flops_per_step;
    int64_t communication; /* bytes that a rank sends in a step: a ring moves 2 (W - 1) / W of the gradients */
    int64_t peak_live;
    int32_t buckets;
} PlanFigures;

static PlanFigures figures_of(const RunConfig *run, const Network *network, int64_t ranks)
{
    const Plan *plan = network->plan;
    const ParamTable *params = network->params;
    int64_t elements = param_table_trainable_elements(params), local = run->train.global_batch / ranks;
    PlanFigures f = {
        .parameters = param_table_trainable_parameters(params),
        .ranks = ranks,
        .global_batch = run->train.global_batch,
        .micro_batch = network->micro_batch,
        .micro_batches = local / network->micro_batch,
        .forward_flops_per_image = plan->forward_flops / (double)network->micro_batch,
        .flops_per_image = (plan->forward_flops + plan->backward_flops) / (double)network->micro_batch,
        .communication = 2 * (ranks - 1) * (elements * 4 / ranks),
        .peak_live = (int64_t)plan->peak_live_bytes,
        .buckets = plan->bucket_count,
    };
    for (int32_t i = 0; i < param_table_size(params); i++)
        if (!param_table_get(params, i)->trainable) f.frozen_parameters += param_table_get(params, i)->count;
    f.flops_per_step = f.flops_per_image * (double)local;
    return f;
}

static Status print_json(const PlanFigures *f, const Network *network)
{
    Status status = STATUS_OK;
    StrBuf text = {0};
    JsonWriter w;
    json_begin(&w, &text);
    json_object(&w, NULL);
    json_int(&w, "parameters", f->parameters);
    json_int(&w, "frozen_parameters", f->frozen_parameters);
    json_string(&w, "device", network->backend->name);
    json_string(&w, "compute", dtype_name(network->compute));
    json_int(&w, "ranks", f->ranks);
    json_int(&w, "global_batch", f->global_batch);
    json_int(&w, "micro_batch", f->micro_batch);
    json_int(&w, "micro_batches", f->micro_batches);
    json_float(&w, "forward_flops_per_image", f->forward_flops_per_image);
    json_float(&w, "flops_per_image", f->flops_per_image);
    json_float(&w, "flops_per_step", f->flops_per_step);
    json_object(&w, "bytes");
    for (int use = 0; use < MEMORY_USES; use++) json_int(&w, memory_use_key(use), network->memory.bytes[use]);
    json_int(&w, "total", network->memory.total);
    json_int(&w, "communication_per_step", f->communication);
    json_int(&w, "activations_lower_bound", f->peak_live);
    json_end_object(&w);
    if (network->backend->device) {
        json_object(&w, "device_bytes");
        for (int use = 0; use < MEMORY_USES; use++) json_int(&w, memory_use_key(use), network->memory.device[use]);
        json_int(&w, "total", network->memory.device_total);
        json_end_object(&w);
    }
    json_int(&w, "gradient_buckets", f->buckets);
    json_int(&w, "ops", graph_op_count(network->plan->graph));
    json_end_object(&w);
    TRY(strbuf_append(&text, "\n", 1));
    fputs(text.data, stdout);
fail:
    strbuf_free(&text);
    return status;
}

static void print_bytes(const char *what, int64_t bytes)
{
    printf("  %-22s %16lld  %10.1f MB\n", what, (long long)bytes, (double)bytes / 1e6);
}

static void print_uses(const int64_t bytes[MEMORY_USES], int64_t total)
{
    for (int use = 0; use < MEMORY_USES; use++)
        if (bytes[use] > 0) print_bytes(memory_use_label(use), bytes[use]);
    print_bytes("total", total);
}

static void print_table(const PlanFigures *f, const Network *network)
{
    char device[512];
    backend_describe(network->backend, device, sizeof device);
    printf("device                   %s\ncompute                  %s\n", device, dtype_name(network->compute));
    printf("parameters               %lld trained, %lld frozen\n", (long long)f->parameters,
           (long long)f->frozen_parameters);
    printf("batch                    %lld = %lld ranks x %lld micro-batches x %lld\n", (long long)f->global_batch,
           (long long)f->ranks, (long long)f->micro_batches, (long long)f->micro_batch);
    printf("work                     %.4g GFLOP an image forward, %.4g in training, %.5g a step and rank\n",
           f->forward_flops_per_image / 1e9, f->flops_per_image / 1e9, f->flops_per_step / 1e9);
    printf("ops                      %d, %d gradient buckets\n\nbytes of one rank\n",
           graph_op_count(network->plan->graph), f->buckets);
    print_uses(network->memory.bytes, network->memory.total);
    if (network->backend->device) {
        printf("\nbytes on its GPU\n");
        print_uses(network->memory.device, network->memory.device_total);
    }
    printf("\nactivations cannot be placed in less than %lld bytes; a rank sends %.1f MB of gradients a step\n",
           (long long)f->peak_live, (double)f->communication / 1e6);
}

static Status run(CommandCall *call)
{
    Status status = STATUS_OK;
    const PlanArguments *arguments = call->options;
    const char *const *overrides;
    size_t override_count;
    RunConfig config;
    Config *file = NULL;
    Backend *backend = NULL;
    Network network = {0};
    StrBuf table = {0};
    NetworkSurroundings around = {.ranks = arguments->ranks, .sharing = 1, .training = true};
    TRY(command_arguments(call, 1, &overrides, &override_count));
    TRY(run_config_load(call->positional.items[0], NULL, overrides, override_count, &config, &file));
    TRY(run_config_check_ranks(&config, file, (int)arguments->ranks,
                               arguments->ranks < RANKS_PER_MACHINE ? (int)arguments->ranks : RANKS_PER_MACHINE));
    if (arguments->gpu)
        TRY(network_open_planned_gpu(&config, arguments->gpu, &backend));
    else
        TRY(network_open_backend(&config, NULL, &backend));
    if (network_choose_micro_batch(&config, backend, NETWORK_PIXELS, &around, 0) != STATUS_OK) {
        log_warn("train.micro_batch: auto: planned with 1, and even that is too much here: %s", status_message());
        config.train.micro_batch = 1;
    }
    TRY(network_plan(&config, backend, NETWORK_PIXELS, &network));
    TRY(preview_plan_bytes(&config, &network, &around.previews_kept, &around.previews_scratch));
    network_plan_memory(&network, &config, &around);
    PlanFigures figures = figures_of(&config, &network, arguments->ranks);
    if (arguments->json)
        TRY(print_json(&figures, &network));
    else
        print_table(&figures, &network);
    if (arguments->ops) {
        TRY(plan_describe_ops(network.plan, &table));
        printf("\n%s", table.data);
    }
fail:
    strbuf_free(&table);
    network_free(&network);
    if (backend) backend_close(backend);
    config_free(file);
    return status;
}

static const ArgSpec options[] = {
    {"ranks", ARG_INT, offsetof(PlanArguments, ranks), "N", "ranks that train (default 1)", 1, 65536, NULL},
    {"gpu", ARG_TEXT, offsetof(PlanArguments, gpu), "NAME",
     "plan for the GPU that configs/machines/NAME.json, or a file, describes; none need be there", 0, 0, NULL},
    {"json", ARG_FLAG, offsetof(PlanArguments, json), NULL, "one JSON object instead of the table", 0, 0, NULL},
    {"ops", ARG_FLAG, offsetof(PlanArguments, ops), NULL, "every op with its place, kernel and work, too", 0, 0, NULL},
};
static const PlanArguments defaults = {.ranks = 1};

const Command command_plan = {
    .name = "plan",
    .summary = "memory, work and traffic of a run, without running it",
    .usage = "CONFIG [key.path=value ...] [--ranks N] [--gpu NAME] [--json] [--ops]",
    .details =
        "The total is the most memory that a rank has in use at once (its peak resident size); the trainer logs\n"
        "both at its end. Mapped weight files are counted, though ranks of one machine share their pages. Work\n"
        "counts two for a multiply-add and leaves out norms and activations. With a GPU, or --gpu, it tells the\n"
        "GPU's memory apart.\n",
    .table = COMMAND_TABLE(options),
    .options_size = sizeof(PlanArguments),
    .defaults = &defaults,
    .computes = true,
    .run = run,
};
