/* The loop. One step:
 *
 *   next batch -> for each micro-batch: inputs, forward, backward -> gradients summed over the ranks, bucket by bucket
 *   while backward still runs -> losses and wishes agreed on -> norm, clip, AdamW, EMA -> metrics
 *
 * On a GPU all of it is queued, as recordings that are replayed, and the next micro-batch's inputs travel while this
 * one computes; the host waits once a step, for the losses and what became of the update.
 */
#include "train/trainer_internal.h"

#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "engine/memory.h"
#include "train/stages_ahead.h"

/* Gradients may be infinite now and then; so many times in a row, weights or data are broken. */
enum { SKIPPED_IN_A_ROW_MAX = 100 };

#define POLL_SECONDS 0.5      /* between looks at signals and the other ranks while data is waited for */
#define COMPLAIN_SECONDS 20.0 /* of waiting, after which a rank says so; doubled each time */

/* ---- a micro-batch ---- */

typedef struct MicroBatch {
    Trainer *trainer;
    bool first, last;
} MicroBatch;

/* What is the same every time, and so may be recorded. */
static Status compute(void *context)
{
    Status status = STATUS_OK;
    const MicroBatch *m = context;
    Trainer *t = m->trainer;
    if (m->first) TRY(exchange_gather_weights(t->exchange));
    TRY(executor_run(t->network.executor, &(ExecutorRun){.add_gradients = !m->first,
                                                         .on_weights = m->first ? exchange_weights_needed : NULL,
                                                         .on_bucket = m->last ? exchange_bucket_ready : NULL,
                                                         .context = t->exchange}));
    if (m->last && feed_runs_ahead(t->feed)) {
        TRY(exchange_wait_gradients(t->exchange));
        if (!t->updates_last) TRY(optimizer_queue_update(t->optimizer));
    }
fail:
    return status;
}

/* Forward and backward of micro-batch m of the batch, and its loss terms; on a GPU they are queued, and with the last
 * one the update. */
static Status run_micro_batch(Trainer *t, int64_t m)
{
    Status status = STATUS_OK;
    const int64_t n = t->network.micro_batch;
    const TensorId loss_terms = t->network.training.loss_terms;
    const size_t bytes = (size_t)n * 2 * sizeof(float);
    MicroBatch what = {.trainer = t, .first = m == 0, .last = m == t->micro_batches - 1};
    if (!t->filled) TRY(feed_fill(t->feed, t->batch, m * n));
    t->filled = false;
    TRY(feed_take(t->feed));
    TRY(recorder_run(t->recorder, (what.first ? 1 : 0) | (what.last ? 2 : 0), compute, &what));
    if (!feed_runs_ahead(t->feed)) {
        TRY(executor_read(t->network.executor, loss_terms, t->terms + 2 * n * m, bytes));
        return STATUS_OK;
    }
    Backend *backend = t->network.backend;
    TRY(backend->device->fetch(backend, t->terms + 2 * n * m, executor_memory(t->network.executor, loss_terms), bytes));
    if (!what.last) {
        TRY(feed_fill(t->feed, t->batch, (m + 1) * n));
        t->filled = true;
    }
fail:
    return status;
}

/* Takes the next step's batch if it comes within so many seconds; *ended: there is none, and will be none. */
static Status try_batch(Trainer *t, double seconds, bool *ended)
{
    Status status = STATUS_OK;
    *ended = false;
    if (t->batch) return STATUS_OK;
    status = loader_next_within(t->loader, seconds, &t->batch);
    *ended = status == STATUS_END;
    return *ended ? STATUS_OK : status;
}

/* The step's batch has been computed with, or copied to where it will be. */
static Status give_batch_back(Trainer *t)
{
    Status status = STATUS_OK;
    TRY(trainer_keep_cursor(t, t->batch->cursor));
    loader_release(t->loader, t->batch);
    t->batch = NULL;
fail:
    return status;
}

/* While the GPU still computes this step: the first micro-batch of the next, if its data is there. */
static Status look_ahead(Trainer *t)
{
    Status status = STATUS_OK;
    bool ended;
    if (!feed_runs_ahead(t->feed) || t->step + 1 >= t->last_step) return STATUS_OK;
    TRY(try_batch(t, 0, &ended));
    if (!t->batch) return STATUS_OK;
    TRY(feed_fill(t->feed, t->batch, 0));
    t->filled = true;
fail:
    return status;
}

/* Adds up the terms of all micro-batches: sums[0] mse, sums[1] vb. */
static void sum_losses(const Trainer *t, double sums[2])
{
    for (int64_t k = 0; k < t->micro_batches * t->network.micro_batch; k++) {
        sums[0] += t->terms[2 * k];
        sums[1] += t->terms[2 * k + 1];
    }
}

/* ---- the step ---- */

/* All ranks take the same decisions from the same numbers: told to each other in one collective, and put together in
 * rank order. */
static Status agree(Trainer *t, StepTold *step)
{
    Status status = STATUS_OK;
    TRY(exchange_agree(t->exchange, (const double *)step, STEP_TOLD, t->told));
    const StepTold *told = (const StepTold *)t->told;
    *step = told[0];
    for (int r = 1; r < comm_world(t->comm); r++) {
        for (int k = 0; k < 2; k++) step->losses[k] += told[r].losses[k];
        for (int k = 0; k < WISH_COUNT; k++) step->wishes[k] += told[r].wishes[k];
        for (int k = 0; k < SAVE_WORDS; k++) step->save[k] += told[r].save[k];
        if (told[r].data > step->data) step->data = told[r].data;
        if (told[r].comm > step->comm) step->comm = told[r].comm;
        step->ready += told[r].ready;
        step->ended += told[r].ended;
    }
fail:
    return status;
}

static StepMetrics describe_step(const Trainer *t, const StepTold *all, const OptimizerReport *report, double seconds)
{
    double batch = (double)t->run->train.global_batch;
    return (StepMetrics){
        .step = t->step,
        .total_steps = t->total_steps,
        .last = t->step >= t->last_step,
        .stage = stage_run_name(&t->stage),
        .samples = t->samples,
        .loss = (all->losses[0] + all->losses[1]) / batch,
        .mse = all->losses[0] / batch,
        .vb = all->losses[1] / batch,
        .lr = report->lr,
        .beta1 = report->beta1,
        .grad_norm = report->grad_norm,
        .ema_decay = report->ema_decay,
        .step_seconds = seconds,
        .images_per_second = batch / seconds,
        .data_wait_seconds = all->data,
        .comm_wait_seconds = all->comm,
        .skipped = report->skipped != UPDATE_DONE,
        .not_finite = report->skipped == UPDATE_NOT_FINITE,
        .skipped_steps = optimizer_state(t->optimizer).skipped,
    };
}

/* What the ranks decided for after this step. */
typedef struct StepEnd {
    double wishes[WISH_COUNT];
    bool data_ended;
    bool ready; /* every rank has the next step's batch */
    double save[SAVE_WORDS];
} StepEnd;

/* Before a step for which some rank has no data yet: they wait together, so that a signal to one of them, or the end of
 * its data, stops all of them between two steps, and no rank is left inside one. */
static Status wait_for_data(Trainer *t, StepEnd *decided)
{
    enum { READY, ENDED, WISHES, SAVE = WISHES + WISH_COUNT, VALUES = SAVE + SAVE_WORDS };
    Status status = STATUS_OK;
    double start = clock_seconds(), complain = COMPLAIN_SECONDS;
    comm_note_step(t->comm, t->step + 1, "waiting for data");
    while (!decided->ready && !decided->data_ended && decided->wishes[WISH_STOP] + decided->wishes[WISH_REQUEUE] == 0) {
        double told[VALUES] = {0};
        bool ended;
        TRY(try_batch(t, POLL_SECONDS, &ended));
        told[READY] = t->batch != NULL;
        told[ENDED] = ended;
        signals_take(told + WISHES);
        trainer_save_tell(t, told + SAVE, told + WISHES);
        TRY(comm_all_reduce_f64(t->comm, told, VALUES, COMM_SUM));
        TRY(trainer_save_follow(t, told + SAVE));
        decided->ready = told[READY] == comm_world(t->comm);
        decided->data_ended = told[ENDED] > 0;
        memcpy(decided->wishes, told + WISHES, sizeof decided->wishes);
        if (decided->wishes[WISH_SAVE] > 0 && t->cursor && t->save.step != t->step) TRY(trainer_save(t));
        if (!t->batch && !ended && clock_seconds() - start > complain) {
            log_warn("no data for %.0f s; going on waiting", clock_seconds() - start);
            complain *= 2;
        }
    }
    t->data_seconds = clock_seconds() - start;
fail:
    return status;
}

static Status train_step(Trainer *t, StepMetrics *metrics, StepEnd *end)
{
    Status status = STATUS_OK;
    double start = clock_seconds();
    int64_t allocated = mem_thread_allocation_count();
    Backend *backend = t->network.backend;
    StepTold step = {.data = t->data_seconds - loader_seconds_waited(t->loader)};
    OptimizerReport report;
    bool ended = false;

    start -= t->data_seconds;
    t->data_seconds = 0;
    comm_note_step(t->comm, t->step + 1, "computing");
    /* The loss is scaled by 1 / global batch, so the sum of the ranks' gradients is the mean over samples already. */
    trainer_guard_begin(t);
    TRY(optimizer_begin_step(t->optimizer, t->step, 1.0));
    exchange_step_begins(t->exchange);
    for (int64_t m = 0; m < t->micro_batches; m++) TRY(run_micro_batch(t, m));
    TRY(give_batch_back(t));
    TRY(look_ahead(t));
    if (t->step + 1 < t->last_step) TRY(try_batch(t, 0, &ended));
    step.ready = t->batch != NULL;
    step.ended = ended;
    step.data += loader_seconds_waited(t->loader);
    if (backend->device)
        TRY(backend->device->finish(backend));
    else
        TRY(exchange_wait_gradients(t->exchange));
    TRY(exchange_exposed_seconds(t->exchange, &step.comm));
    sum_losses(t, step.losses);
    signals_take(step.wishes);
    trainer_save_tell(t, step.save, step.wishes);
    step.stage_seconds = clock_seconds() - t->stage_clock;
    comm_note_step(t->comm, t->step + 1, "updating");
    TRY(agree(t, &step));

    TRY(trainer_guard_losses(t, step.losses[0] / (double)t->run->train.global_batch));
    if (t->updates_last) TRY(optimizer_queue_update(t->optimizer));
    if (t->updates_last && backend->device) TRY(backend->device->finish(backend));
    /* On a device the next step's recording begins with it. */
    if (!backend->device) TRY(exchange_gather_weights(t->exchange));
    optimizer_end_step(t->optimizer, &report);
    executor_weights_changed(t->network.executor);
    t->step++;
    t->samples += t->run->train.global_batch;
    t->stage.seconds = step.stage_seconds;
    if (stage_run_is_over(&t->stage, t->step)) trainer_end_stage(t);

    *metrics = describe_step(t, &step, &report, clock_seconds() - start);
    metrics->allocations = mem_thread_allocation_count() - allocated;
    memcpy(end->wishes, step.wishes, sizeof step.wishes);
    end->data_ended = step.ended > 0;
    end->ready = step.ready == comm_world(t->comm);
    memcpy(end->save, step.save, sizeof step.save);
fail:
    return status;
}

static Status record_step(Trainer *t, StepMetrics *step)
{
    Status status = STATUS_OK;
    trainer_guard_judge(t, step);
    t->skipped_in_a_row = step->not_finite ? t->skipped_in_a_row + 1 : 0;
    if (step->not_finite && t->root)
        log_warn("step %lld: gradients are not finite (norm %g, loss %g); the update is left out, %lld in all",
                 (long long)step->step, step->grad_norm, step->loss, (long long)step->skipped_steps);
    if (t->skipped_in_a_row >= SKIPPED_IN_A_ROW_MAX)
        FAIL(ERR_NUMERIC,
             "gradients were not finite in the last %d steps; lower optim.max_lr, or use "
             "model.precision: f32",
             SKIPPED_IN_A_ROW_MAX);
    if (!t->root) return STATUS_OK;
    data_metrics_look(t->data_metrics, t->loader);
    step->data = t->data_metrics;
    step->rejected = data_metrics_passed_over(t->data_metrics);
    step->peak_bytes = memory_peak();
    TRY(metrics_write(&t->metrics, step));
    watch_step(t->watch, step->step, t->metrics.line.data, t->metrics.line.size);
    progress_step(&t->progress, step);
fail:
    return status;
}

static bool is_due(int64_t every, int64_t step)
{
    return every > 0 && step % every == 0;
}

/* The plan against what the kernel counted. */
static void log_memory(const Trainer *t)
{
    const double planned = (double)t->network.memory.total, peak = (double)memory_peak();
    if (t->root && peak > 0 && !t->switched) /* the peak is of the whole process */
        log_info("memory of this rank: %.3f GB at its peak, %.3f GB planned (%+.1f%%)", peak * 1e-9, planned * 1e-9,
                 100 * (peak / planned - 1));
}

static void log_comparisons(const Trainer *t)
{
    const long long checks = (long long)consistency_checks(t->consistency);
    if (checks)
        log_info("the weights of %d ranks were compared %lld times: the same to the bit", comm_world(t->comm), checks);
}

static const char *const TOLD_OF_END[] = {
    [TRAINER_DONE] = "all steps that were asked for are done",
    [TRAINER_STAGE] = "the stage is over",
    [TRAINER_STOPPED] = "a signal asked for the end",
    [TRAINER_REQUEUE] = "a signal asked for the end, and to be started again",
    [TRAINER_DATA_ENDED] = "the data has ended",
};

static TrainerEnd end_of(const StepEnd *decided)
{
    if (decided->wishes[WISH_REQUEUE] > 0) return TRAINER_REQUEUE;
    if (decided->wishes[WISH_STOP] > 0) return TRAINER_STOPPED;
    return decided->data_ended ? TRAINER_DATA_ENDED : TRAINER_DONE;
}

Status trainer_run(Trainer *t, TrainerEnd *end)
{
    Status status = STATUS_OK;
    StepEnd decided = {.ready = false};
    t->save.run = t->save.begun = clock_seconds();
    *end = TRAINER_DONE;
    TRY(trainer_begin_stage(t));
    TRY(trainer_validate(t, false, decided.wishes)); /* before the first step, or where the last start has left it */
    while (t->step < t->last_step && *end == TRAINER_DONE) {
        StepMetrics step;
        if (!decided.ready) TRY(wait_for_data(t, &decided));
        *end = end_of(&decided);
        if (*end != TRAINER_DONE) break;
        TRY(train_step(t, &step, &decided));
        TRY(record_step(t, &step));
        TRY(trainer_guard_end(t, &step));
        TRY(trainer_save_follow(t, decided.save));
        *end = end_of(&decided);
        if (is_due(t->run->parallel.compare_every, t->step)) TRY(trainer_compare(t));
        if (is_due(t->run->checkpoint.every, t->step) || decided.wishes[WISH_SAVE] > 0) TRY(trainer_save(t));
        if (*end == TRAINER_DONE && (is_due(t->run->preview.every, t->step) || trainer_stage_is_over(t)))
            TRY(trainer_preview(t, ""));
        if (*end == TRAINER_DONE && t->step < t->last_step) TRY(trainer_validate(t, false, decided.wishes));
    }
    if (*end == TRAINER_DONE && trainer_stage_follows(t)) *end = TRAINER_STAGE;
    progress_end(&t->progress);
    comm_note_step(t->comm, t->step, "ending");
    if (*end == TRAINER_DATA_ENDED && t->step == 0)
        FAIL(ERR_CONFIG, "the sources of data do not reach for one step, and none of them repeats; add data, lower "
                         "data.lanes or train.global_batch, or let data.sources[].repeat be true");
    if (t->saved_step != t->step && t->save.step != t->step && t->cursor) TRY(trainer_save(t));
    if (*end == TRAINER_DONE || *end == TRAINER_STAGE || *end == TRAINER_DATA_ENDED) {
        TRY(trainer_validate(t, *end == TRAINER_DATA_ENDED || trainer_is_at_end(t), decided.wishes));
        if (decided.wishes[WISH_STOP] + decided.wishes[WISH_REQUEUE] > 0) *end = end_of(&decided);
    }
    TRY(trainer_save_finish(t));
    TRY(exchange_refresh_weights(t->exchange)); /* nothing is left on its way */
    log_comparisons(t);
    trainer_log_saves(t);
    log_memory(t);
    if (t->root && *end == TRAINER_DONE) stages_tell_left_out(&t->stage, t->step, t->run->train.steps);
    if (t->root && *end != TRAINER_STAGE)
        run_events_add(t->dir.events, t->step, *end == TRAINER_DONE ? "end" : "stop", "%s", TOLD_OF_END[*end]);
    return STATUS_OK;
fail:
    progress_end(&t->progress);
    if (t->root) run_events_add(t->dir.events, t->step, "stop", "an error: %s", status_message());
    return status;
}
