/* vasily plan: what a run needs and does, known before it runs. */
#include <stdio.h>

#include "base/json.h"
#include "base/log.h"
#include "train/command.h"
#include "train/held_params.h"
#include "train/network.h"
#include "train/preview.h"
#include "train/scaling_report.h"
#include "train/validation.h"

enum { RANKS_PER_MACHINE = 8 }; /* where nothing says how many */

typedef struct PlanArguments {
    int64_t ranks;
    const char *gpu, *cluster, *machines, *stage;
    ArgTexts calibration;
    int64_t per_rank, per_node;
    double nvlink, network, compute_share;
    bool json, ops;
} PlanArguments;

/* Per rank unless said otherwise. */
typedef struct PlanFigures {
    int64_t parameters, frozen_parameters;
    int64_t held_parameters; /* of the trained ones: optim.groups */
    int64_t ranks, global_batch, micro_batch, micro_batches;
    double forward_flops_per_image, flops_per_image; /* training: forward, backward, recomputation */
    double flops_per_step;
    int64_t communication; /* bytes that a rank sends in a step */
    int64_t peak_live;
    int32_t buckets;
} PlanFigures;

static PlanFigures figures_of(const RunConfig *run, const Network *network, int64_t ranks)
{
    const Plan *plan = network->plan;
    const ParamTable *params = network->params;
    const int64_t elements = param_table_trainable_elements(params), local = run->train.global_batch / ranks;
    const ScalingMode mode = scaling_mode_of(&run->parallel, ranks, run->parallel.group);
    PlanFigures f = {
        .parameters = param_table_trainable_parameters(params),
        .held_parameters = held_params_count(params),
        .ranks = ranks,
        .global_batch = run->train.global_batch,
        .micro_batch = network->micro_batch,
        .micro_batches = local / network->micro_batch,
        .forward_flops_per_image = plan->forward_flops / (double)network->micro_batch,
        .flops_per_image = (plan->forward_flops + plan->backward_flops) / (double)network->micro_batch,
        .communication = (int64_t)scaling_traffic(&mode, (double)elements),
        .peak_live = (int64_t)plan->peak_live_bytes,
        .buckets = plan->bucket_count,
    };
    for (int32_t i = 0; i < param_table_size(params); i++)
        if (!param_table_get(params, i)->trainable) f.frozen_parameters += param_table_get(params, i)->count;
    f.flops_per_step = f.flops_per_image * (double)local;
    return f;
}

static void json_bytes(const PlanFigures *f, const Network *network, JsonWriter *w)
{
    const bool known = network->memory.total > 0;
    json_object(w, "bytes");
    for (int use = 0; known && use < MEMORY_USES; use++) json_int(w, memory_use_key(use), network->memory.bytes[use]);
    if (known) json_int(w, "total", network->memory.total);
    json_int(w, "communication_per_step", f->communication);
    json_int(w, "activations_lower_bound", f->peak_live);
    json_end_object(w);
    if (!network->backend->device) return;
    json_object(w, "device_bytes");
    for (int use = 0; use < MEMORY_USES; use++) json_int(w, memory_use_key(use), network->memory.device[use]);
    json_int(w, "total", network->memory.device_total);
    json_end_object(w);
}

static void write_json(const PlanFigures *f, const Network *network, const ScalingReport *report, JsonWriter *w)
{
    json_int(w, "parameters", f->parameters);
    json_int(w, "frozen_parameters", f->frozen_parameters);
    if (f->held_parameters > 0) json_int(w, "held_parameters", f->held_parameters);
    json_string(w, "device", network->backend->name);
    json_string(w, "compute", dtype_name(network->compute));
    json_int(w, "ranks", f->ranks);
    json_int(w, "global_batch", f->global_batch);
    json_int(w, "micro_batch", f->micro_batch);
    json_int(w, "micro_batches", f->micro_batches);
    json_float(w, "forward_flops_per_image", f->forward_flops_per_image);
    json_float(w, "flops_per_image", f->flops_per_image);
    json_float(w, "flops_per_step", f->flops_per_step);
    json_bytes(f, network, w);
    json_int(w, "gradient_buckets", f->buckets);
    json_int(w, "ops", graph_op_count(network->plan->graph));
    if (report) scaling_report_json(report, w);
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
    if (f->held_parameters > 0) printf("held (optim.groups)      %lld of the trained\n", (long long)f->held_parameters);
    printf("batch                    %lld = %lld ranks x %lld micro-batches x %lld\n", (long long)f->global_batch,
           (long long)f->ranks, (long long)f->micro_batches, (long long)f->micro_batch);
    printf("work                     %.4g GFLOP an image forward, %.4g in training, %.5g a step and rank\n",
           f->forward_flops_per_image / 1e9, f->flops_per_image / 1e9, f->flops_per_step / 1e9);
    printf("ops                      %d, %d gradient buckets\n", graph_op_count(network->plan->graph), f->buckets);
    if (network->memory.total > 0) {
        printf("\nbytes of one rank\n");
        print_uses(network->memory.bytes, network->memory.total);
    }
    if (network->backend->device) {
        printf("\nbytes on its GPU\n");
        print_uses(network->memory.device, network->memory.device_total);
    }
    printf("\nactivations cannot be placed in less than %lld bytes; a rank sends %.1f MB a step\n",
           (long long)f->peak_live, (double)f->communication / 1e6);
}

/* ---- the run ---- */

typedef struct PlanRun {
    RunConfig config; /* of one stage, or of a run without stages */
    Config *file;
    const StageConfig *stage; /* NULL: the run has none */
    Backend *backend;
    Network network;
    ScalingRequest request;
    ScalingReport report;
    StrBuf ops;          /* what --ops says, until it is printed */
    bool predicts;       /* the time of a step, too */
    bool predicted_only; /* for a machine that nothing is planned for: no kernels, no memory */
    char machine[64];
} PlanRun;

static ScalingRequest request_of(const PlanArguments *a, const char *machine)
{
    return (ScalingRequest){.machine = machine,
                            .machines = a->machines,
                            .calibration = a->calibration,
                            .ranks = a->ranks,
                            .per_node = a->per_node,
                            .link = a->nvlink,
                            .network = a->network,
                            .compute_share = a->compute_share};
}

/* --gpu NAME names the row of the table too, where there is one. */
static Status choose_machine(PlanRun *p, const PlanArguments *a)
{
    Status status = STATUS_OK;
    const char *name = a->cluster;
    if (!name && a->gpu && scaling_machines_have(a->machines, a->gpu)) name = a->gpu;
    if (name) snprintf(p->machine, sizeof p->machine, "%s", name);
    p->predicts = name || a->calibration.count > 0;
    p->predicted_only = a->cluster && !a->gpu;
    p->request = request_of(a, name ? p->machine : NULL);
    if (!name && (a->machines || a->compute_share > 0))
        FAIL(ERR_USAGE, "--machines and --compute-share are for a machine of a table; give --cluster NAME, too");
    if (!p->predicts && (a->per_rank || a->per_node || a->nvlink > 0 || a->network > 0))
        FAIL(ERR_USAGE, "--per-rank, --per-node, --nvlink and --network are for predictions; give --cluster NAME or "
                        "--calibration FILE, too");
fail:
    return status;
}

/* With --per-rank batch and lanes are made to fit the ranks: any number of them can be asked for. */
static Status check_ranks(PlanRun *p, const PlanArguments *a, Arena *arena)
{
    Status status = STATUS_OK;
    int64_t per_node = RANKS_PER_MACHINE;
    if (p->predicts) TRY(scaling_report_per_node(&p->request, arena, &per_node));
    if (p->predicts && a->per_rank == 0 && p->config.train.global_batch % a->ranks)
        FAIL(
            ERR_CONFIG,
            "train.global_batch: %lld is not divisible by the %lld ranks; --per-rank N predicts with N images on each, "
            "whatever the config says",
            (long long)p->config.train.global_batch, (long long)a->ranks);
    if (a->per_rank > 0) {
        p->config.train.global_batch = a->per_rank * a->ranks;
        p->config.data.lanes = a->ranks;
    }
    TRY(run_config_check_ranks(&p->config, p->file, (int)a->ranks, (int)(a->ranks < per_node ? a->ranks : per_node)));
fail:
    return status;
}

static Status open_backend(PlanRun *p, const PlanArguments *a)
{
    if (a->gpu) return network_open_planned_gpu(&p->config, a->gpu, &p->backend);
    if (!p->predicted_only) return network_open_backend(&p->config, NULL, &p->backend);
    if (p->config.model.precision == PRECISION_AUTO) p->config.model.precision = PRECISION_BF16; /* GPUs have it */
    return backend_open_cpu(&(BackendOptions){.threads = 1}, &p->backend);
}

static Status plan_memory(PlanRun *p, const PlanArguments *a)
{
    Status status = STATUS_OK;
    NetworkSurroundings around = {.ranks = a->ranks, .sharing = 1, .training = true};
    if (network_choose_micro_batch(&p->config, p->backend, NETWORK_PIXELS, &around, 0) != STATUS_OK) {
        log_warn("train.micro_batch: auto: planned with 1, and even that is too much here: %s", status_message());
        p->config.train.micro_batch = 1;
    }
    TRY(network_plan(&p->config, p->backend, NETWORK_PIXELS, &p->network));
    TRY(preview_plan_bytes(&p->config, &p->network, &around.previews_kept, &around.previews_scratch));
    TRY(validation_plan_bytes(&p->config, &p->network, a->ranks, false, &around.validation));
    network_plan_memory(&p->network, &p->config, &around);
fail:
    return status;
}

static Status make_plan(PlanRun *p, const PlanArguments *a, Arena *arena)
{
    Status status = STATUS_OK;
    const int64_t images = p->config.train.global_batch / a->ranks;
    if (p->predicted_only) {
        TRY(scaling_report_choose(&p->request, &p->config, p->backend, images));
        TRY(network_estimate(&p->config, p->backend, NETWORK_PIXELS, &p->network));
    } else {
        TRY(plan_memory(p, a));
    }
    if (p->predicts) TRY(scaling_report_make(&p->request, &p->config, p->backend, images, arena, &p->report));
fail:
    return status;
}

static void close_run(PlanRun *p)
{
    network_free(&p->network);
    if (p->backend) backend_close(p->backend);
    config_free(p->file);
    p->backend = NULL;
    p->file = NULL;
}

/* A stage's line of the table of stages. */
typedef struct StageFigures {
    const StageConfig *stage;
    int64_t steps, pixels, batch, micro_batch;
    int64_t bytes;                     /* of a rank: its GPU's, where it has one; 0: not known */
    double seconds, images_per_second; /* of a step, of all ranks; 0: not predicted */
} StageFigures;

static StageFigures stage_figures(const PlanRun *p, const PlanFigures *f)
{
    const ScalingStep *step = p->predicts ? &p->report.rows[p->report.row_count - 1].step : NULL;
    const MemoryPlan *memory = &p->network.memory;
    return (StageFigures){.stage = p->stage,
                          .steps = p->predicts ? p->report.steps : p->stage->steps,
                          .pixels = p->config.train.resolution,
                          .batch = f->global_batch,
                          .micro_batch = f->micro_batch,
                          .bytes = p->network.backend->device ? memory->device_total : memory->total,
                          .seconds = step ? step->seconds : 0,
                          .images_per_second = step ? step->images_per_second : 0};
}

static void print_number(int width, int decimals, double value)
{
    if (value > 0)
        printf(" %*.*f", width, decimals, value);
    else
        printf(" %*s", width, "-");
}

static double print_stage(const StageFigures *s, int64_t ranks)
{
    const double days = (double)s->steps * s->seconds / 86400;
    printf("  %-16s", s->stage->name);
    print_number(10, 0, (double)s->steps);
    printf(" %7lld %8lld %6lld", (long long)s->pixels, (long long)s->batch, (long long)s->micro_batch);
    print_number(9, 1, 1e-9 * (double)s->bytes);
    print_number(9, 3, s->seconds);
    print_number(10, 1, s->images_per_second);
    print_number(8, 2, s->images_per_second / (double)ranks);
    print_number(9, 2, days);
    print_number(11, 0, days * 24 * (double)ranks);
    printf("\n");
    return days;
}

static void print_stages(const StageFigures *stages, size_t count, int64_t ranks)
{
    double days = 0;
    int64_t steps = 0;
    printf("\n  %-16s %10s %7s %8s %6s %9s %9s %10s %8s %9s %11s\n", "stage", "steps", "pixels", "batch", "micro",
           "GB a rank", "step s", "images/s", "a rank", "days", "rank-hours");
    for (size_t i = 0; i < count; i++) {
        days += print_stage(&stages[i], ranks);
        steps += stages[i].steps;
    }
    if (days > 0)
        printf("  %lld steps on %lld ranks: %.4g days, %.4g rank-hours\n", (long long)steps, (long long)ranks, days,
               days * 24 * (double)ranks);
}

/* Of one stage, or, with `out` NULL, of a run without stages. p->config and p->file are set; what else is there goes.
 */
static Status plan_one(PlanRun *p, const PlanArguments *arguments, Arena *arena, JsonWriter *w, StageFigures *out)
{
    Status status = STATUS_OK;
    TRY(check_ranks(p, arguments, arena));
    TRY(open_backend(p, arguments));
    TRY(make_plan(p, arguments, arena));
    if (p->predicts && p->stage && p->stage->days > 0)
        p->report.steps = (int64_t)(p->stage->days * 86400 / p->report.rows[p->report.row_count - 1].step.seconds);
    const PlanFigures figures = figures_of(&p->config, &p->network, arguments->ranks);
    if (arguments->json) {
        write_json(&figures, &p->network, p->predicts ? &p->report : NULL, w);
    } else {
        print_table(&figures, &p->network);
        if (p->predicts) scaling_report_print(&p->report);
    }
    if (arguments->ops) {
        TRY(strbuf_append(&p->ops, "\n", 1));
        TRY(plan_describe_ops(p->network.plan, &p->ops));
        if (!arguments->json) {
            fputs(p->ops.data, stdout);
            strbuf_free(&p->ops);
        }
    }
    if (out) *out = stage_figures(p, &figures);
fail:
    return status;
}

static Status plan_stages(PlanRun *p, const PlanArguments *arguments, const RunConfig *whole, const Config *file,
                          Arena *arena, JsonWriter *w)
{
    Status status = STATUS_OK;
    size_t first = 0, count = whole->stages.count;
    StageFigures figures[STAGES_MOST] = {0};
    if (arguments->stage) {
        TRY(run_config_find_stage(whole, arguments->stage, &first));
        count = 1;
    }
    if (arguments->json) json_array(w, "stages");
    for (size_t i = 0; i < count; i++) {
        p->stage = run_config_stage(whole, first + i);
        TRY(run_config_load_stage(whole, file, first + i, &p->config, &p->file));
        p->config.train.steps = p->stage->steps; /* for the report; days become steps when a step's time is known */
        if (arguments->json) {
            json_object(w, NULL);
            json_string(w, "stage", p->stage->name);
        } else {
            printf("%sstage %s\n", i ? "\n" : "", p->stage->name);
        }
        TRY(plan_one(p, arguments, arena, w, &figures[i]));
        if (arguments->json) json_end_object(w);
        close_run(p);
    }
    if (arguments->json)
        json_end_array(w);
    else
        print_stages(figures, count, arguments->ranks);
fail:
    return status;
}

static Status run(CommandCall *call)
{
    Status status = STATUS_OK;
    const PlanArguments *arguments = call->options;
    const char *const *overrides;
    size_t override_count;
    StrBuf text = {0};
    JsonWriter w;
    RunConfig whole;
    Config *file = NULL;
    PlanRun *p = arena_alloc(call->arena, sizeof *p);
    if (!p) return ERR_MEMORY;
    TRY(command_arguments(call, 1, &overrides, &override_count));
    TRY(choose_machine(p, arguments));
    TRY(run_config_load(call->positional.items[0], NULL, overrides, override_count, &whole, &file));
    /* Not the batch, which may be --per-rank's: check_ranks looks at it. */
    TRY(run_config_check_trainable(&whole, file, false));
    json_begin(&w, &text);
    json_object(&w, NULL);
    if (whole.stages.count > 0 || arguments->stage) {
        TRY(plan_stages(p, arguments, &whole, file, call->arena, &w));
    } else {
        p->config = whole;
        p->file = file;
        file = NULL;
        TRY(plan_one(p, arguments, call->arena, &w, NULL));
    }
    json_end_object(&w);
    if (arguments->json) printf("%s\n%s", text.data, arguments->ops ? p->ops.data : "");
fail:
    strbuf_free(&text);
    strbuf_free(&p->ops);
    close_run(p);
    config_free(file);
    return status;
}

static const ArgSpec options[] = {
    {"ranks", ARG_INT, offsetof(PlanArguments, ranks), "N", "ranks that train (default 1)", 1, 65536, NULL},
    {"gpu", ARG_TEXT, offsetof(PlanArguments, gpu), "NAME",
     "plan for the GPU that configs/machines/NAME.json, or a file, describes; none need be there", 0, 0, NULL},
    {"cluster", ARG_TEXT, offsetof(PlanArguments, cluster), "NAME",
     "predict steps on these machines of configs/machines/clusters.yaml (default: as --gpu)", 0, 0, NULL},
    {"machines", ARG_TEXT, offsetof(PlanArguments, machines), "FILE", "another table of machines", 0, 0, NULL},
    {"calibration", ARG_TEXTS, offsetof(PlanArguments, calibration), "FILE",
     "predict from measurements: of bench step --json, of bench comm --json; may be repeated", 0, 0, NULL},
    {"per-rank", ARG_INT, offsetof(PlanArguments, per_rank), "N",
     "images a rank and step (default: train.global_batch / ranks)", 1, 1e6, NULL},
    {"per-node", ARG_INT, offsetof(PlanArguments, per_node), "N",
     "ranks of a machine (default: the table's GPUs of it, or as many as bench comm measured on one)", 1, 65536, NULL},
    {"nvlink", ARG_FLOAT, offsetof(PlanArguments, nvlink), "GB/s", "that collectives reach inside a machine", 1e-6, 1e6,
     NULL},
    {"network", ARG_FLOAT, offsetof(PlanArguments, network), "GB/s", "that a rank's collectives reach between machines",
     1e-6, 1e6, NULL},
    {"compute-share", ARG_FLOAT, offsetof(PlanArguments, compute_share), "S",
     "of the stated FLOP/s that ops reach (default: the machine's)", 0.001, 1, NULL},
    {"json", ARG_FLAG, offsetof(PlanArguments, json), NULL, "one JSON object instead of the table", 0, 0, NULL},
    {"stage", ARG_TEXT, offsetof(PlanArguments, stage), "NAME", "this stage alone (default: all that the config has)",
     0, 0, NULL},
    {"ops", ARG_FLAG, offsetof(PlanArguments, ops), NULL, "every op with its place, kernel and work, too", 0, 0, NULL},
};
static const PlanArguments defaults = {.ranks = 1};

const Command command_plan = {
    .name = "plan",
    .summary = "memory, work and traffic of a run, without running it",
    .usage = "CONFIG [key.path=value ...] [--ranks N] [--gpu NAME] [--cluster NAME] [--calibration FILE]",
    .details =
        "The total is the most memory that a rank has in use at once (its peak resident size); the trainer logs\n"
        "both at its end. Mapped weight files are counted, though ranks of one machine share their pages. Work\n"
        "counts two for a multiply-add and leaves out norms and activations. With a GPU, or --gpu, it tells the\n"
        "GPU's memory apart.\n"
        "\n"
        "With --cluster (or --gpu) or --calibration it predicts a step's time, what of the communication is exposed,\n"
        "images/s and rank-hours, on 1, 2, 4, ... N ranks of which each has as many images as one of the N\n"
        "(docs/scaling.md). --cluster alone plans no kernels and tells no memory; it needs no CUDA.\n"
        "\n"
        "A config with stages is planned stage by stage, with a table of all of them at the end.\n",
    .table = COMMAND_TABLE(options),
    .options_size = sizeof(PlanArguments),
    .defaults = &defaults,
    .computes = true,
    .run = run,
};
