/* Opening and closing a run. */
#include "train/trainer_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "engine/param_image.h"
#include "train/checkpoint_aside.h"
#include "train/frozen_data.h"
#include "train/held_params.h"
#include "train/init_kept.h"
#include "train/run_agreement.h"
#include "train/stages_ahead.h"

/* ---- whether all ranks are of one run ---- */

static Status check_one_run(const Trainer *t, const TrainerOptions *options)
{
    Status status = STATUS_OK;
    StrBuf command = {0};
    TRY(strbuf_printf(&command, "train"));
    if (options->resume) TRY(strbuf_printf(&command, " --resume %s", options->resume));
    if (options->stop_after) TRY(strbuf_printf(&command, " --stop-after %lld", (long long)options->stop_after));
    if (options->only_stage) TRY(strbuf_printf(&command, " --only-stage %s", options->only_stage));
    TRY(run_agreement_check(t->run, command.data, t->comm));
fail:
    strbuf_free(&command);
    return status;
}

/* From here on no rank waits for another without end; opening a run is watched too, the first look at its files
 * included. */
static Status open_watchdog(const Trainer *t, Watchdog **out)
{
    Status status = STATUS_OK;
    const ParallelConfig *parallel = &t->run->parallel;
    comm_note_step(t->comm, -1, "opening");
    if (!out || *out) return STATUS_OK;
    TRY(watchdog_open(&(WatchdogOptions){.comm = t->comm,
                                         .heartbeat_seconds = parallel->heartbeat_seconds,
                                         .silent_seconds = parallel->silent_seconds,
                                         .stall_seconds = parallel->stall_seconds,
                                         .folder = t->dir.flight_record},
                      out));
fail:
    return status;
}

/* ---- the parts ---- */

/* train.micro_batch: auto. What every rank has room for; `preferred`: what the checkpoint was computed with, or 0. */
static Status choose_micro_batch(Trainer *t, Backend *backend, const NetworkSurroundings *around, int64_t preferred)
{
    Status status = STATUS_OK;
    if (t->run->train.micro_batch != MICRO_BATCH_AUTO) return STATUS_OK;
    TRY(network_choose_micro_batch(t->run, backend, NETWORK_PIXELS, around, preferred));
    double chosen = (double)t->run->train.micro_batch;
    TRY(comm_all_reduce_f64(t->comm, &chosen, 1, COMM_MIN));
    t->run->train.micro_batch = (int64_t)chosen;
    log_info("train.micro_batch: auto is %lld here, of %lld samples a rank and step", (long long)chosen,
             (long long)(t->run->train.global_batch / comm_world(t->comm)));
    if (preferred > 0 && preferred != (int64_t)chosen)
        log_warn("computed so far with micro-batches of %lld, now of %lld: equal up to rounding, not to the bit",
                 (long long)preferred, (long long)chosen);
fail:
    return status;
}

/* Before anything is allocated; all ranks of a machine look at its memory at the same time. */
static Status plan_memory(Trainer *t, NetworkSurroundings *around)
{
    Status status = STATUS_OK;
    if (t->root) TRY(preview_plan_bytes(t->run, &t->network, &around->previews_kept, &around->previews_scratch));
    if (validation_is_wanted(t->run)) {
        TRY(validation_plan(&(ValidationOptions){.run = t->run,
                                                 .backend = t->network.backend,
                                                 .params = t->network.params,
                                                 .diffusion = t->network.diffusion,
                                                 .micro_batch = t->network.micro_batch,
                                                 .ranks = around->ranks},
                            &t->validation));
        around->validation = validation_bytes(t->validation);
    }
    network_plan_memory(&t->network, t->run, around);
    TRY(memory_plan_check(&t->network.memory, t->run, t->network.backend, around->sharing));
    TRY(comm_barrier(t->comm));
fail:
    return status;
}

static Status open_network(Trainer *t, int64_t preferred_micro_batch)
{
    Status status = STATUS_OK;
    Backend *backend = NULL;
    NetworkSurroundings around = {.ranks = comm_world(t->comm), .sharing = comm_local_world(t->comm), .training = true};
    TRY(network_open_backend(t->run, t->comm, &backend));
    backend_describe(backend, t->backend_text, sizeof t->backend_text);
    TRY(run_agreement_check_device(backend, model_compute_dtype(&t->run->model, backend), t->comm));
    if (t->root && !t->switched)
        TRY(stages_look_ahead_memory(&t->stage, backend, comm_world(t->comm), comm_local_world(t->comm)));
    TRY(choose_micro_batch(t, backend, &around, preferred_micro_batch));
    t->micro_batches = t->run->train.global_batch / comm_world(t->comm) / t->run->train.micro_batch;
    TRY(network_plan(t->run, backend, NETWORK_PIXELS, &t->network));
    TRY(plan_memory(t, &around));
    TRY(network_start(&t->network, t->run));
    const Plan *plan = t->network.plan;
    log_info("%.1f M parameters, %s, micro-batch %lld x %lld on %d ranks; activations %zu bytes, workspace %zu, packed "
             "weights %zu",
             (double)param_table_trainable_parameters(t->network.params) / 1e6, dtype_name(t->network.compute),
             (long long)t->network.micro_batch, (long long)t->micro_batches, comm_world(t->comm), plan->slab_bytes,
             plan->workspace_bytes, plan->packed_bytes);
    held_params_log(t->run, t->network.params);
    return STATUS_OK;
fail:
    if (!t->network.backend) backend_close(backend);
    return status;
}

/* Groups that are those of a machine are equally large. Collective. */
static Status check_machines(Trainer *t)
{
    Status status = STATUS_OK;
    double least = comm_local_world(t->comm), most = least;
    if (t->run->parallel.shard != PARALLEL_SHARD_NODE || t->run->parallel.group > 0) return STATUS_OK;
    TRY(comm_all_reduce_f64(t->comm, &least, 1, COMM_MIN));
    TRY(comm_all_reduce_f64(t->comm, &most, 1, COMM_MAX));
    if (least != most)
        FAIL_WITH(
            config_error(t->config, "parallel.group",
                         "0 stands for the ranks of one machine, and machines have %.0f to %.0f of them; start as "
                         "many on each, or choose a number that divides the %d ranks",
                         least, most, comm_world(t->comm)));
fail:
    return status;
}

static Status open_exchange(Trainer *t)
{
    Status status = STATUS_OK;
    const ParallelConfig *parallel = &t->run->parallel;
    const int group = (int)parallel->group;
    TRY(comm_set_group(t->comm, group));
    if (parallel->shard == PARALLEL_SHARD_NODE && group == comm_local_world(t->comm) &&
        comm_share(t->comm) != comm_local_rank(t->comm))
        log_warn(
            "parallel.shard: node, but neighbouring ranks are not on one machine; start them with `mpirun --map-by "
            "slot` or `srun --distribution=block`, or weights travel between machines");
    TRY(exchange_create(&(ExchangeOptions){.comm = t->comm,
                                           .backend = t->network.backend,
                                           .plan = t->network.plan,
                                           .store = &t->network.store,
                                           .sharded = parallel->shard != PARALLEL_SHARD_NONE,
                                           .wire = (CommWire)parallel->wire,
                                           .overlap = parallel->overlap,
                                           .alone_too = parallel->exchange_alone},
                        &t->exchange));
fail:
    return status;
}

/* And the first comparison: that all begin with the same. */
static Status open_consistency(Trainer *t)
{
    Status status = STATUS_OK;
    TRY(consistency_create(&(ConsistencyOptions){.comm = t->comm,
                                                 .exchange = t->exchange,
                                                 .backend = t->network.backend,
                                                 .store = &t->network.store,
                                                 .optimizer = t->optimizer},
                           &t->consistency));
    TRY(trainer_compare(t));
fail:
    return status;
}

/* Of the frozen networks that this run computes itself. */
static Status take_fingerprints(Trainer *t)
{
    Status status = STATUS_OK;
    FrozenWeights *frozen = t->network.frozen;
    for (int n = 0; n < FROZEN_NETWORK_COUNT; n++)
        if (frozen_weights_used(frozen, (FrozenNetwork)n))
            TRY(frozen_weights_fingerprint(frozen, (FrozenNetwork)n, (uint64_t)t->run->seed, t->frozen[n]));
fail:
    return status;
}

/* `start`: where the data stands; NULL: at the beginning. */
static Status open_loader(Trainer *t, const Cursor *start)
{
    Status status = STATUS_OK;
    const FrozenConfig *frozen = &t->run->frozen;
    bool precomputed = frozen->latents == FROZEN_PRECOMPUTED || frozen->text == FROZEN_PRECOMPUTED;
    TRY(frozen_spec_create(t->run, t->comm, false, &t->precomputed));
    TRY(loader_open(&t->run->data,
                    &(LoaderOptions){.seed = (uint64_t)t->run->seed,
                                     .resolution = (int)t->run->train.resolution,
                                     .global_batch = t->run->train.global_batch,
                                     .rank = comm_rank(t->comm),
                                     .world = comm_world(t->comm),
                                     .first_step = t->step,
                                     .start = start,
                                     .precomputed = precomputed ? &t->precomputed : NULL,
                                     .bad_log = t->dir.bad_shards},
                    &t->loader));
    if (t->root) TRY(data_metrics_create(&t->run->data, t->loader, &t->data_metrics));
fail:
    return status;
}

/* All that the loop needs but what depends on the first batch, so that later steps allocate nothing. */
static Status allocate_step_buffers(Trainer *t)
{
    Status status = STATUS_OK;
    Backend *backend = t->network.backend;
    const size_t terms = 2 * (size_t)(t->micro_batches * t->network.micro_batch) * sizeof *t->terms;
    t->terms = backend->device ? backend->device->host_alloc(backend, terms) : mem_alloc_array(terms, 1);
    t->told = mem_alloc_array((size_t)comm_world(t->comm) * STEP_TOLD, sizeof *t->told);
    if (!t->terms || !t->told) FAIL(ERR_MEMORY, "no memory for a step's losses");
    TRY(feed_create(&(FeedOptions){.backend = backend,
                                   .executor = t->network.executor,
                                   .graph = &t->network.training,
                                   .diffusion = t->network.diffusion,
                                   .masks = &t->run->inpainting,
                                   .factor = model_latent_factor(&t->run->model),
                                   .seed = (uint64_t)t->run->seed,
                                   .micro_batch = t->network.micro_batch,
                                   .max_tokens = t->run->model.max_tokens},
                    &t->feed));
    TRY(recorder_create(backend, t->run->device.graphs, &t->recorder));
fail:
    return status;
}

/* The frozen tokenizers belong to a run as its config does: with copies inside, a run's folder can be moved. */
static Status copy_tokenizer(const RunDir *dir, const TokenizerConfig *tokenizer, const char *name)
{
    Status status = STATUS_OK;
    char path[PATH_MAX], *data = NULL;
    size_t size;
    if (!file_exists(tokenizer->model)) return STATUS_OK; /* not needed with precomputed text */
    TRY(path_join(path, sizeof path, dir->path, name));
    TRY(file_read(tokenizer->model, (size_t)256 << 20, &data, &size));
    TRY(file_write_atomic(path, data, size));
fail:
    free(data);
    return status;
}

/* With precomputed data training does without the frozen networks; pictures need them. */
static Status open_previews(Trainer *t)
{
    Status status = STATUS_OK;
    const char *missing;
    if (t->run->preview.every > 0 && t->run->preview.prompts.count > 0 && !frozen_can_draw(t->run, &missing)) {
        log_warn("no previews: %s is not there; preview.every: 0 asks for none", missing);
        return STATUS_OK;
    }
    TRY(preview_create(t->run, &t->network, t->dir.previews, &t->preview));
fail:
    return status;
}

/* Rank 0's side: what it writes besides checkpoints. `from`: the one that the run goes on from; "": none. */
static Status open_outputs(Trainer *t, const char *from)
{
    Status status = STATUS_OK;
    TRY(copy_tokenizer(&t->dir, &t->run->data.tokenizer1, RUN_DIR_TOKENIZER1));
    TRY(copy_tokenizer(&t->dir, &t->run->data.tokenizer2, RUN_DIR_TOKENIZER2));
    TRY(trainer_write_config(t));
    TRY(checkpoint_set_aside_after(t->dir.checkpoints, t->step, from, &t->own_checkpoint));
    TRY(open_previews(t));
    TRY(metrics_open(t->dir.metrics, t->step, &t->metrics));
    if (!t->switched)
        run_events_add(t->dir.events, t->step, t->saved_step < 0 ? "start" : "resume", "%d ranks on %s",
                       comm_world(t->comm), t->backend_text);
    TRY(watch_open(&(WatchOptions){.run = t->run,
                                   .dir = &t->dir,
                                   .config = t->config_text.data,
                                   .step = t->step,
                                   .network = &t->network,
                                   .ranks = comm_world(t->comm),
                                   .device = t->backend_text},
                   &t->watch));
    progress_begin(&t->progress, t->step, t->run->train.log_every);
fail:
    return status;
}

/* As it was asked for: what micro_batch 0 and group 0 become depends on the ranks. */
static Status dump_config(Trainer *t, int64_t micro_batch_asked, int64_t group_asked)
{
    RunConfig asked = *t->run;
    asked.train.micro_batch = micro_batch_asked;
    asked.parallel.group = group_asked;
    return config_dump(&RUN_CONFIG_SCHEMA, &asked, &t->config_text);
}

/* What a run would need that has nothing to do. */
static const char *remedy_of_end(const Trainer *t)
{
    if (t->stop_after > 0 && t->step >= t->stop_after) return "raise --stop-after";
    if (trainer_stage_is_over(t)) return "let the last stage be longer, or add one,";
    return run_config_has_days(t->whole) && t->stage.stages && strcmp(stages_key_of_end(&t->stage), "train.steps") != 0
               ? "raise optim.total_steps"
               : "raise train.steps";
}

Status trainer_open(RunConfig *run, const Config *config, Comm *comm, const TrainerOptions *options, Trainer **out)
{
    Status status = STATUS_OK;
    CheckpointState state = {0};
    char from[PATH_MAX] = "";
    bool resumed = false;
    Trainer *t = mem_alloc_array(1, sizeof *t);
    *out = t;
    if (!t) FAIL(ERR_MEMORY, "out of memory");
    t->run = run;
    t->whole = run;
    t->config = config;
    t->stop_after = options->stop_after;
    t->switched = options->switches;
    t->comm = comm;
    t->root = comm_rank(comm) == 0;
    t->saved_step = t->save.step = -1;
    t->dir.lock = t->metrics.file = -1;
    TRY(check_one_run(t, options));
    TRY(run_dir_name(run->run.dir, &t->dir));
    if (options->lock) t->dir.lock = *options->lock;
    TRY(open_watchdog(t, options->watchdog));
    TRY(check_machines(t));
    if (options->resume) TRY(trainer_find_checkpoint(t, options->resume, from, &state, &resumed));
    TRY(trainer_enter_stage(t, options, resumed ? &state : NULL));
    TRY(trainer_check_settings(t));
    run = t->run;
    config = t->config;
    if (t->root && !t->switched) TRY(stages_look_ahead(&t->stage));
    if (t->root && !t->switched) stages_look_ahead_end(&t->stage, state.step, run->train.steps);
    TRY(run_agreement_check_files(run, false, comm));
    const int64_t micro_batch_asked = run->train.micro_batch;
    const int64_t group_asked = run->parallel.group;
    TRY(run_config_check_ranks(run, config, comm_world(comm), comm_local_world(comm)));
    TRY(run_config_check_data(run, config));

    if (t->root && t->dir.lock < 0)
        TRY(run_dir_open(&t->dir, options->resume != NULL, options->resume ? run->run.lock_seconds : 0));
    if (resumed) {
        TRY(trainer_check_resumable(t, &state));
        run->optim.total_steps = state.total_steps;
    }
    const bool kept = !resumed && init_keeps_optimizer(&run->init);
    if (kept) TRY(init_kept_check(&run->init, config));
    TRY(dump_config(t, micro_batch_asked, group_asked));
    /* Another stage's network has other sizes. */
    const bool begins = t->stage.stages && state.step == t->stage.begin;

    TRY(open_network(t, resumed && !begins ? state.micro_batch : 0));
    if (t->root) TRY(take_fingerprints(t));
    if (!resumed && !kept && run->init.from[0]) {
        TRY(init_weights_load(&run->init, &t->network.store));
        TRY(network_weights_loaded(&t->network));
    }
    TRY(open_exchange(t));
    TRY(optimizer_create(&run->optim, run->optim.total_steps, &t->network.store, t->network.backend,
                         t->network.backend->threads, t->exchange, &t->optimizer));
    if (kept) TRY(init_kept_load(&run->init, comm, &t->network.store, t->optimizer));
    if (resumed) {
        TRY(checkpoint_load(from, &state, comm, &t->network.store, t->optimizer));
        t->step = t->saved_step = state.step;
        t->samples = state.samples;
        if (t->root) {
            log_info("resumed from %s: %lld steps done", from, (long long)t->step);
            trainer_log_differences(t, &state);
        }
    }
    TRY(held_params_check_widened(run, config, &t->network.store)); /* resumed ones, too: the groups may be others */
    TRY(open_consistency(t));
    t->last_step = trainer_last_step(t);
    if (t->step >= t->last_step && !t->owes)
        log_info("nothing to do: %lld steps are done, this run ends at %lld; %s to go on", (long long)t->step,
                 (long long)t->last_step, remedy_of_end(t));
    t->start = state.cursor;
    state.cursor = NULL;
    TRY(open_loader(t, t->start));
    TRY(trainer_start_validation(t, resumed));
    TRY(allocate_step_buffers(t));
    TRY(trainer_guard_open(t, &state.guard));
    TRY(trainer_open_saver(t));
    if (t->root) TRY(open_outputs(t, from));
    t->draws = t->preview != NULL;
    TRY(comm_broadcast(comm, &t->draws, sizeof t->draws, 0));
fail:
    checkpoint_state_free(&state);
    return status;
}

void trainer_free(Trainer *t)
{
    if (!t) return;
    Backend *backend = t->network.backend;
    watch_close(t->watch);
    preview_free(t->preview);
    validation_free(t->validation);
    metrics_close(&t->metrics);
    if (t->batch) loader_release(t->loader, t->batch);
    data_metrics_free(t->data_metrics);
    loader_close(t->loader);
    recorder_free(t->recorder);
    feed_free(t->feed);
    if (t->terms && backend->device)
        backend->device->host_free(backend, t->terms);
    else
        free(t->terms);
    cursor_free(t->start);
    cursor_free(t->cursor);
    cursor_free(t->saving);
    saver_free(t->save.saver);
    consistency_free(t->consistency);
    guard_free(t->guard);
    optimizer_free(t->optimizer);
    exchange_free(t->exchange);
    network_free(&t->network);
    if (backend) backend_close(backend);
    run_dir_close(&t->dir);
    strbuf_free(&t->config_text);
    precomputed_spec_free(&t->precomputed);
    free(t->told);
    free(t->positions);
    free(t->position_values);
    free(t);
}
