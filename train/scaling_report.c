#include "train/scaling_report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

/* What the report is made from. */
typedef struct Sources {
    const ScalingRequest *request;
    const RunConfig *run;
    Backend *backend;
    Calibration calibration;
    ScalingMachine machine;
    bool has_machine;
} Sources;

/* ---- where the figures come from ---- */

static Status find_machine(Sources *s, const ScalingRequest *request)
{
    Status status = STATUS_OK;
    ScalingMachines machines;
    Config *config = NULL;
    if (!request->machine) return STATUS_OK;
    TRY(scaling_machines_load(request->machines, &machines, &config));
    TRY(scaling_machines_find(&machines, request->machine, &s->machine));
    s->machine.name = NULL; /* the config's memory */
    s->has_machine = true;
    if (request->compute_share > 0) s->machine.flops_share = request->compute_share;
fail:
    config_free(config);
    return status;
}

static Status check_sources(const Sources *s)
{
    Status status = STATUS_OK;
    const Calibration *c = &s->calibration;
    bool local = s->has_machine || s->request->link > 0, remote = s->has_machine || s->request->network > 0;
    for (size_t i = 0; i < c->comm_count; i++) *(c->comms[i].local_ranks > 1 ? &local : &remote) = true;
    if (!s->has_machine && c->step_count == 0)
        FAIL(ERR_USAGE,
             "nothing says how fast a rank computes; name a machine (--cluster h200) or give what `vasily bench "
             "step --json` wrote (--calibration FILE)");
    if (s->request->ranks > 1 && !local && !remote)
        FAIL(ERR_USAGE, "nothing says how fast ranks communicate; give what `vasily bench comm --json` wrote "
                        "(--calibration FILE), or --nvlink and --network");
fail:
    return status;
}

static void set_rate(ScalingLink *link, double bytes_per_second)
{
    for (int what = 0; what < SCALING_COLLECTIVES; what++) link->rate[what].bytes_per_second = bytes_per_second;
}

/* The command line, the machine, measurements, or the only link that there is. */
static Status find_per_node(const Sources *s, int64_t *out)
{
    Status status = STATUS_OK;
    const ScalingRequest *request = s->request;
    const int64_t measured = calibration_per_node(&s->calibration);
    const bool remote = measured == 1 || request->network > 0;
    *out = request->per_node;
    if (*out == 0 && s->has_machine) *out = s->machine.per_node;
    if (*out == 0 && measured > 1) *out = measured;
    if (*out > 0) return STATUS_OK;
    if (remote && request->link > 0)
        FAIL(ERR_USAGE,
             "there is --nvlink and a network, and nothing says how many ranks a machine has; give --per-node, or what "
             "`vasily bench comm --json` wrote on all ranks of one (--calibration FILE)");
    *out = remote ? 1 : request->ranks;
fail:
    return status;
}

/* Machine, then measurements, then the command line. */
static Status make_network(const Sources *s, ScalingNetwork *out)
{
    Status status = STATUS_OK;
    const ScalingRequest *request = s->request;
    const Calibration *c = &s->calibration;
    *out = (ScalingNetwork){0};
    if (s->has_machine) scaling_machine_network(&s->machine, out);
    TRY(find_per_node(s, &out->per_node));
    TRY(calibration_network(c, s->run->parallel.wire == COMM_WIRE_BF16, out));
    if (request->link > 0) set_rate(&out->local, 1e9 * request->link);
    if (request->network > 0) set_rate(&out->remote, 1e9 * request->network);
    const bool uses_local = request->ranks > 1 && out->per_node > 1, uses_remote = request->ranks > out->per_node;
    if (uses_local && !(out->local.rate[0].bytes_per_second > 0))
        FAIL(ERR_USAGE,
             "%lld ranks of a machine, and nothing says how fast they communicate; measure it (`vasily bench "
             "comm --json`) or give --nvlink",
             (long long)out->per_node);
    if (uses_remote && !(out->remote.rate[0].bytes_per_second > 0))
        FAIL(ERR_USAGE,
             "%lld ranks on machines of %lld, and nothing says how fast these communicate; measure it (`vasily "
             "bench comm --json`, one rank on each) or give --network; or --per-node, where a machine has more ranks",
             (long long)request->ranks, (long long)out->per_node);
fail:
    return status;
}

Status scaling_report_per_node(const ScalingRequest *request, Arena *arena, int64_t *out)
{
    Status status = STATUS_OK;
    Sources s = {.request = request};
    TRY(find_machine(&s, request));
    TRY(calibration_read(request->calibration.items, request->calibration.count, arena, &s.calibration));
    TRY(find_per_node(&s, out));
fail:
    return status;
}

/* ---- the micro-batch ---- */

/* Of the memory, what workspaces, libraries and buffers of collectives do not want. */
#define MEMORY_USED 0.85

/* fp32 weights and gradients, their bf16 copies, and of the owner's share two moments and the average. */
static double step_bytes(const RunConfig *run, const Network *network)
{
    const double elements = (double)param_table_trainable_elements(network->params);
    const double frozen = (double)param_table_frozen_elements(network->params);
    const bool divided = run->parallel.shard != PARALLEL_SHARD_NONE && run->parallel.group > 1;
    const double shares = divided ? (double)run->parallel.group : 1;
    return elements * (4 + 4 + 2 + (run->optim.ema_decay > 0 ? 12 : 8) / shares) + frozen * 6 +
           (double)network->plan->slab_bytes;
}

/* As plan_create does it for a device. */
static int64_t bucket_bytes(int64_t elements)
{
    const int64_t most = (int64_t)128 << 20, sixteenth = elements / 16 * (int64_t)sizeof(float);
    return sixteenth < most ? sixteenth : most;
}

Status scaling_report_choose(const ScalingRequest *request, RunConfig *run, Backend *backend, int64_t images)
{
    Status status = STATUS_OK;
    Sources s = {.request = request};
    const bool automatic = run->train.micro_batch == MICRO_BATCH_AUTO;
    TRY(find_machine(&s, request));
    for (int64_t n = automatic ? images : run->train.micro_batch; n >= 1; n--) {
        Network network;
        if (images % n) continue;
        run->train.micro_batch = n;
        TRY(network_estimate(run, backend, NETWORK_PIXELS, &network));
        const bool fits = step_bytes(run, &network) <= MEMORY_USED * s.machine.memory_bytes;
        if (run->train.bucket_bytes == 0)
            run->train.bucket_bytes = bucket_bytes(param_table_trainable_elements(network.params));
        network_free(&network);
        if (fits) return STATUS_OK;
        if (automatic && n > 1) continue;
        log_warn("micro-batches of %lld take more than the %.0f GB of a GPU", (long long)n,
                 1e-9 * s.machine.memory_bytes);
        return STATUS_OK;
    }
fail:
    return status;
}

/* ---- rows ---- */

ScalingMode scaling_mode_of(const ParallelConfig *parallel, int64_t ranks, int64_t group)
{
    return (ScalingMode){.ranks = ranks,
                         .group = group,
                         .sharded = parallel->shard != PARALLEL_SHARD_NONE,
                         .overlap = parallel->overlap,
                         .wire_bytes = parallel->wire == COMM_WIRE_BF16 ? 2 : 4};
}

static double useful_flops(const Graph *graph)
{
    double flops = 0;
    for (int32_t i = 0; i < graph_op_count(graph); i++) {
        const Op *op = graph_op(graph, i);
        if (!op->is_recomputed) flops += op_info(op->kind)->cost(graph, op).flops;
    }
    return flops;
}

/* The group of `ranks` ranks. A row's number need not be divisible by parallel.group; then all of them are one. */
static int64_t group_of(const Sources *s, int64_t ranks)
{
    const int64_t wanted = s->run->parallel.group;
    if (s->run->parallel.shard != PARALLEL_SHARD_NODE) return ranks;
    return wanted > 0 && wanted < ranks && ranks % wanted == 0 ? wanted : ranks;
}

static Status make_work(const Sources *s, const Network *network, int64_t images, double *op_seconds, ScalingWork *out)
{
    Status status = STATUS_OK;
    const Plan *plan = network->plan;
    const int64_t elements = param_table_trainable_elements(network->params);
    *out = (ScalingWork){.op_seconds = op_seconds,
                         .op_count = graph_op_count(plan->graph),
                         .buckets = plan->buckets,
                         .bucket_count = plan->bucket_count,
                         .micro_batches = images / network->micro_batch,
                         .images = (double)images};
    out->flops = useful_flops(plan->graph) * (double)out->micro_batches;
    if (s->calibration.step_count > 0) {
        TRY(calibration_ops(&s->calibration, plan->graph, network->micro_batch, op_seconds, &out->update_seconds,
                            &out->fixed_seconds));
        return STATUS_OK;
    }
    scaling_machine_ops(&s->machine, plan->graph, op_seconds);
    out->update_seconds = scaling_machine_update(&s->machine, elements, s->run->optim.ema_decay > 0);
fail:
    return status;
}

/* The plan depends on the ranks: buckets are cut so that each can be shared. */
static Status make_row(const Sources *s, int64_t ranks, ScalingReport *out)
{
    Status status = STATUS_OK;
    RunConfig run = *s->run;
    Network network = {0};
    ScalingWork work;
    double *op_seconds = NULL;
    ScalingRow *row = &out->rows[out->row_count++];
    const ScalingMode mode = scaling_mode_of(&run.parallel, ranks, group_of(s, ranks));
    run.parallel.group = mode.group;
    TRY(network_estimate(&run, s->backend, NETWORK_PIXELS, &network));
    op_seconds = mem_alloc_array((size_t)graph_op_count(network.plan->graph) + 1, sizeof *op_seconds);
    if (!op_seconds) FAIL(ERR_MEMORY, "no memory for the times of ops");
    TRY(make_work(s, &network, out->images, op_seconds, &work));
    row->ranks = ranks;
    out->flops = work.flops;
    TRY(scaling_step(&work, &out->network, &mode, &row->step));
fail:
    free(op_seconds);
    network_free(&network);
    return status;
}

Status scaling_report_make(const ScalingRequest *request, const RunConfig *run, Backend *backend, int64_t images,
                           Arena *arena, ScalingReport *out)
{
    Status status = STATUS_OK;
    Sources s = {.request = request, .run = run, .backend = backend};
    *out = (ScalingReport){.images = images, .micro_batch = run->train.micro_batch, .steps = run->train.steps};
    TRY(find_machine(&s, request));
    TRY(calibration_read(request->calibration.items, request->calibration.count, arena, &s.calibration));
    TRY(check_sources(&s));
    TRY(make_network(&s, &out->network));
    snprintf(out->name, sizeof out->name, "%s", request->machine ? request->machine : "as measured");
    out->peak = s.has_machine ? s.machine.flops : 0;
    for (int64_t ranks = 1; ranks < request->ranks && out->row_count < SCALING_ROWS_MOST - 1; ranks *= 2)
        TRY(make_row(&s, ranks, out));
    TRY(make_row(&s, request->ranks, out));
fail:
    return status;
}

/* ---- showing ---- */

static double efficiency(const ScalingReport *r, const ScalingRow *row)
{
    return row->step.images_per_second / (double)row->ranks / r->rows[0].step.images_per_second;
}

static double utilisation(const ScalingReport *r, const ScalingRow *row)
{
    return r->peak > 0 ? r->flops / row->step.seconds / r->peak : 0;
}

static void print_row(const ScalingReport *r, const ScalingRow *row)
{
    const ScalingStep *t = &row->step;
    printf("  %7lld %10.2f %10.2f %9.2f %9.2f %9.2f %9.2f %10.2f %12.1f %10.2f %9.1f%%", (long long)row->ranks,
           1e3 * t->seconds, 1e3 * t->compute, 1e3 * t->communication, 1e3 * t->exposed_gradients,
           1e3 * t->exposed_weights, 1e3 * (t->update + t->agreement),
           1e2 * (t->exposed_gradients + t->exposed_weights) / t->seconds, t->images_per_second,
           t->images_per_second / (double)row->ranks, 100 * efficiency(r, row));
    if (r->peak > 0) printf(" %6.1f%%", 100 * utilisation(r, row));
    printf("\n");
}

void scaling_report_print(const ScalingReport *r)
{
    const ScalingRow *last = &r->rows[r->row_count - 1];
    const double seconds = last->step.seconds * (double)r->steps;
    printf("\npredicted, %s, %lld images a rank and step in micro-batches of %lld, %lld ranks a machine\n", r->name,
           (long long)r->images, (long long)r->micro_batch, (long long)r->network.per_node);
    printf("  %7s %10s %10s %9s %9s %9s %9s %10s %12s %10s %10s%s\n", "ranks", "step ms", "compute", "comm.",
           "exposed:g", "exposed:w", "update", "exposed %", "images/s", "a rank", "efficiency",
           r->peak > 0 ? "     MFU" : "");
    for (int i = 0; i < r->row_count; i++) print_row(r, &r->rows[i]);
    printf("  %lld steps on %lld ranks: %.3g days, %.4g rank-hours\n", (long long)r->steps, (long long)last->ranks,
           seconds / 86400, seconds / 3600 * (double)last->ranks);
}

void scaling_report_json(const ScalingReport *r, JsonWriter *w)
{
    json_object(w, "scaling");
    json_string(w, "machine", r->name);
    json_int(w, "images_per_rank", r->images);
    json_int(w, "micro_batch", r->micro_batch);
    json_int(w, "per_node", r->network.per_node);
    json_array(w, "rows");
    for (int i = 0; i < r->row_count; i++) {
        const ScalingRow *row = &r->rows[i];
        const ScalingStep *t = &row->step;
        json_object(w, NULL);
        json_int(w, "ranks", row->ranks);
        json_float(w, "step_seconds", t->seconds);
        json_float(w, "compute_seconds", t->compute);
        json_float(w, "communication_seconds", t->communication);
        json_float(w, "exposed_seconds", t->exposed_gradients + t->exposed_weights);
        json_float(w, "exposed_gradients_seconds", t->exposed_gradients);
        json_float(w, "exposed_weights_seconds", t->exposed_weights);
        json_float(w, "agreement_seconds", t->agreement);
        json_float(w, "update_seconds", t->update);
        json_float(w, "images_per_second", t->images_per_second);
        json_float(w, "efficiency", efficiency(r, row));
        if (r->peak > 0) json_float(w, "share_of_nominal", utilisation(r, row));
        json_end_object(w);
    }
    json_end_array(w);
    const ScalingRow *last = &r->rows[r->row_count - 1];
    json_int(w, "steps", r->steps);
    json_float(w, "run_rank_hours", last->step.seconds * (double)r->steps / 3600 * (double)last->ranks);
    json_end_object(w);
}
