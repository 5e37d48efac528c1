/* The loop. One step:
 *
 *   next batch -> for each micro-batch: inputs, forward, backward -> gradients summed over the ranks, bucket by bucket
 *   while backward still runs -> losses and wishes agreed on -> norm, clip, AdamW, EMA -> metrics
 */
#include "train/trainer_internal.h"

#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "engine/memory.h"

/* Gradients may be infinite now and then; so many times in a row, weights or data are broken. */
enum { SKIPPED_IN_A_ROW_MAX = 100 };

/* ---- inputs ---- */

/* Inputs that the graph does without (a text encoder that reads no mask) have no memory and are left out. */
static Status write_input(Executor *executor, TensorId tensor, const void *data, int64_t count, size_t size)
{
    if (tensor == TENSOR_NONE || !executor_memory(executor, tensor)) return STATUS_OK;
    return executor_write(executor, tensor, data, (size_t)count * size);
}

/* The text: tokens for the encoders of the graph, or the states that they would give. */
static Status write_text(Trainer *t, const Batch *batch, int64_t first)
{
    Status status = STATUS_OK;
    Executor *executor = t->network.executor;
    const TrainingGraph *graph = &t->network.training;
    const int32_t *mask1 = batch->mask1 + first * batch->tokens1_max,
                  *mask2 = batch->mask2 + first * batch->tokens2_max;
    int64_t n = t->network.micro_batch, rows1 = batch->tokens1_max, rows2 = batch->tokens2_max;
    for (int64_t k = 0; k < n; k++) {
        memcpy(t->text_mask + k * (rows1 + rows2), mask1 + k * rows1, (size_t)rows1 * sizeof *mask1);
        memcpy(t->text_mask + k * (rows1 + rows2) + rows1, mask2 + k * rows2, (size_t)rows2 * sizeof *mask2);
    }
    TRY(write_input(executor, graph->text_mask, t->text_mask, n * (rows1 + rows2), 4));
    TRY(write_input(executor, graph->mask2, mask2, n * rows2, 4));
    if (batch->states1) {
        int64_t states1 = rows1 * batch->width1, states2 = rows2 * batch->width2, pooled = batch->pooled;
        TRY(write_input(executor, graph->full_emb1, batch->states1 + first * states1, n * states1, 4));
        TRY(write_input(executor, graph->pooled_emb1, batch->pooled1 + first * pooled, n * pooled, 4));
        TRY(write_input(executor, graph->full_emb2, batch->states2 + first * states2, n * states2, 4));
        return STATUS_OK;
    }
    TRY(write_input(executor, graph->tokens1, batch->tokens1 + first * rows1, n * rows1, 4));
    TRY(write_input(executor, graph->mask1, mask1, n * rows1, 4));
    TRY(write_input(executor, graph->tokens2, batch->tokens2 + first * rows2, n * rows2, 4));
fail:
    return status;
}

/* Rows [first, first + micro_batch) of the batch. */
static Status write_inputs(Trainer *t, const Batch *batch, int64_t first)
{
    Status status = STATUS_OK;
    Executor *executor = t->network.executor;
    const TrainingGraph *graph = &t->network.training;
    int64_t n = t->network.micro_batch, pixels = (int64_t)batch->resolution * batch->resolution * 3;
    int64_t moments = batch->moment_values;
    for (int64_t k = 0; k < n; k++) {
        uint64_t index = (uint64_t)batch->index[first + k];
        t->timesteps[k] = (float)diffusion_draw_timestep(t->network.diffusion, (uint64_t)t->run->seed, index);
        t->indices[2 * k] = (int32_t)(uint32_t)index;
        t->indices[2 * k + 1] = (int32_t)(uint32_t)(index >> 32);
    }
    if (batch->moments)
        TRY(write_input(executor, graph->moments, batch->moments + first * moments, n * moments, sizeof(float)));
    else
        TRY(write_input(executor, graph->pixels, batch->pixels + first * pixels, n * pixels, sizeof(float)));
    TRY(write_text(t, batch, first));
    TRY(write_input(executor, graph->timesteps, t->timesteps, n, sizeof(float)));
    TRY(write_input(executor, graph->sample_index, t->indices, 2 * n, sizeof(int32_t)));
fail:
    return status;
}

/* ---- gradients ---- */

/* A bucket of gradients is complete: its sum over the ranks begins while backward goes on. */
static void begin_bucket(void *context, int32_t index)
{
    Trainer *t = context;
    const Bucket *bucket = &t->network.plan->buckets[index];
    if (t->bucket_status) return;
    t->bucket_status = comm_all_reduce_begin(t->comm, t->network.store.grads + bucket->offset, bucket->count,
                                             &t->requests[t->requests_begun]);
    if (t->bucket_status == STATUS_OK)
        t->requests_begun++;
    else
        status_save(t->bucket_status, &t->bucket_failure);
}

static Status wait_for_buckets(Trainer *t)
{
    Status status = STATUS_OK;
    if (t->bucket_status) TRY(status_restore(&t->bucket_failure));
    for (int32_t i = 0; i < t->requests_begun; i++) TRY(comm_wait(t->comm, t->requests[i]));
fail:
    t->requests_begun = 0;
    return status;
}

/* Forward and backward of one micro-batch; adds its losses to sums[0] (mse) and sums[1] (vb). */
static Status run_micro_batch(Trainer *t, const Batch *batch, int64_t m, double sums[2])
{
    Status status = STATUS_OK;
    bool last = m == t->micro_batches - 1;
    TRY(write_inputs(t, batch, m * t->network.micro_batch));
    TRY(executor_run(t->network.executor,
                     &(ExecutorRun){.add_gradients = m > 0,
                                    .on_bucket = last && comm_world(t->comm) > 1 ? begin_bucket : NULL,
                                    .context = t}));
    TRY(executor_read(t->network.executor, t->network.training.loss_terms, t->terms,
                      (size_t)t->network.micro_batch * 2 * sizeof(float)));
    for (int64_t k = 0; k < t->network.micro_batch; k++) {
        sums[0] += t->terms[2 * k];
        sums[1] += t->terms[2 * k + 1];
    }
fail:
    return status;
}

/* ---- the step ---- */

/* What the ranks tell each other at the end of a step: sums over all of them, and the longest waits of any. */
typedef struct StepSums {
    double losses[2]; /* mse, vb over the samples of the global batch */
    double wishes[WISH_COUNT];
} StepSums;
typedef struct StepWaits {
    double data, comm; /* seconds */
} StepWaits;

static StepMetrics describe_step(const Trainer *t, const StepSums *sums, const StepWaits *waits,
                                 const OptimizerReport *report, double seconds)
{
    double batch = (double)t->run->train.global_batch;
    return (StepMetrics){
        .step = t->step,
        .total_steps = t->run->train.steps,
        .samples = t->samples,
        .loss = (sums->losses[0] + sums->losses[1]) / batch,
        .mse = sums->losses[0] / batch,
        .vb = sums->losses[1] / batch,
        .lr = report->lr,
        .beta1 = report->beta1,
        .grad_norm = report->grad_norm,
        .ema_decay = report->ema_decay,
        .step_seconds = seconds,
        .images_per_second = batch / seconds,
        .data_wait_seconds = waits->data,
        .comm_wait_seconds = waits->comm,
        .skipped = report->skipped,
        .skipped_steps = optimizer_state(t->optimizer).skipped,
    };
}

static Status train_step(Trainer *t, StepMetrics *metrics, double wishes[WISH_COUNT])
{
    Status status = STATUS_OK;
    double start = clock_seconds();
    int64_t allocated = mem_thread_allocation_count();
    StepSums sums = {0};
    StepWaits waits = {-loader_seconds_waited(t->loader), -comm_exposed_seconds(t->comm)};
    OptimizerReport report;
    const Batch *batch;

    TRY(loader_next(t->loader, &batch));
    waits.data += loader_seconds_waited(t->loader);
    for (int64_t m = 0; m < t->micro_batches; m++) TRY(run_micro_batch(t, batch, m, sums.losses));
    TRY(trainer_keep_cursor(t, batch->cursor));
    loader_release(t->loader, batch);

    TRY(wait_for_buckets(t));
    waits.comm += comm_exposed_seconds(t->comm);
    signals_take(sums.wishes);
    TRY(comm_all_reduce_f64(t->comm, (double *)&sums, sizeof sums / sizeof(double), COMM_SUM));
    TRY(comm_all_reduce_f64(t->comm, (double *)&waits, sizeof waits / sizeof(double), COMM_MAX));

    /* The loss is scaled by 1 / global batch, so the sum of the ranks' gradients is the mean over samples already. */
    TRY(optimizer_step(t->optimizer, t->step, 1.0, &report));
    executor_weights_changed(t->network.executor);
    t->step++;
    t->samples += t->run->train.global_batch;

    *metrics = describe_step(t, &sums, &waits, &report, clock_seconds() - start);
    metrics->allocations = mem_thread_allocation_count() - allocated;
    memcpy(wishes, sums.wishes, sizeof sums.wishes);
fail:
    return status;
}

static Status record_step(Trainer *t, StepMetrics *step)
{
    Status status = STATUS_OK;
    t->skipped_in_a_row = step->skipped ? t->skipped_in_a_row + 1 : 0;
    if (step->skipped && t->root)
        log_warn("step %lld: gradients are not finite (norm %g, loss %g); the update is left out, %lld in all",
                 (long long)step->step, step->grad_norm, step->loss, (long long)step->skipped_steps);
    if (t->skipped_in_a_row >= SKIPPED_IN_A_ROW_MAX)
        FAIL(ERR_NUMERIC,
             "gradients were not finite in the last %d steps; lower optim.max_lr, or use "
             "model.precision: f32",
             SKIPPED_IN_A_ROW_MAX);
    if (!t->root) return STATUS_OK;
    LoaderStats stats;
    loader_stats(t->loader, &stats);
    step->rejected = bad_samples_seen(&stats.bad) - stats.bad.counts[SAMPLE_ACCEPTED];
    step->peak_bytes = memory_peak();
    TRY(metrics_write(&t->metrics, step));
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
    if (t->root && peak > 0)
        log_info("memory of this rank: %.3f GB at its peak, %.3f GB planned (%+.1f%%)", peak * 1e-9, planned * 1e-9,
                 100 * (peak / planned - 1));
}

Status trainer_run(Trainer *t, TrainerEnd *end)
{
    Status status = STATUS_OK;
    *end = TRAINER_DONE;
    while (t->step < t->last_step && *end == TRAINER_DONE) {
        StepMetrics step;
        double wishes[WISH_COUNT];
        TRY(train_step(t, &step, wishes));
        TRY(record_step(t, &step));
        if (wishes[WISH_STOP] > 0) *end = TRAINER_STOPPED;
        if (wishes[WISH_REQUEUE] > 0) *end = TRAINER_REQUEUE;
        if (is_due(t->run->checkpoint.every, t->step) || wishes[WISH_SAVE] > 0) TRY(trainer_save(t));
        if (t->preview && *end == TRAINER_DONE && is_due(t->run->preview.every, t->step))
            TRY(preview_draw(t->preview, t->step, optimizer_ema(t->optimizer)));
    }
    progress_end(&t->progress);
    if (t->saved_step != t->step) TRY(trainer_save(t));
    log_memory(t);
    return STATUS_OK;
fail:
    progress_end(&t->progress);
    return status;
}
