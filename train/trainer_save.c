/* Saving from the trainer's side: the ranks' places in the data are put together, rank 0 writes. */
#include "train/trainer_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"

/* After every step; the first one makes the copies that later ones fill. */
Status trainer_keep_cursor(Trainer *t, const Cursor *cursor)
{
    Status status = STATUS_OK;
    if (t->cursor) {
        cursor_copy_positions(t->cursor, cursor);
        return STATUS_OK;
    }
    size_t count = (size_t)cursor_value_count(cursor);
    TRY(cursor_clone(cursor, &t->cursor));
    TRY(cursor_clone(cursor, &t->saving));
    t->positions = mem_alloc_array(count + 1, sizeof *t->positions);
    t->position_values = mem_alloc_array(count + 1, sizeof *t->position_values);
    if (!t->positions || !t->position_values) FAIL(ERR_MEMORY, "no memory for the places in the data");
fail:
    return status;
}

/* Each rank has advanced its own lanes; the sum over the ranks is the whole cursor. Positions are far below 2^53, so
 * the sum of doubles is exact. */
static Status gather_cursor(Trainer *t)
{
    Status status = STATUS_OK;
    int64_t count = cursor_value_count(t->cursor);
    cursor_export(t->cursor, comm_rank(t->comm), comm_world(t->comm), t->position_values);
    for (int64_t i = 0; i < count; i++) t->positions[i] = (double)t->position_values[i];
    TRY(comm_all_reduce_f64(t->comm, t->positions, (int)count, COMM_SUM));
    for (int64_t i = 0; i < count; i++) t->position_values[i] = (int64_t)t->positions[i];
    cursor_copy_positions(t->saving, t->cursor);
    cursor_import(t->saving, t->position_values);
fail:
    return status;
}

/* What all ranks' loaders have passed over since they started, by reason. Samples belong to one rank each; shards are
 * indexed by every rank, so those counts are not added up. */
static Status log_passed_over(Trainer *t)
{
    Status status = STATUS_OK;
    StrBuf reasons = {0};
    LoaderStats stats;
    double counts[SAMPLE_REASON_COUNT];
    loader_stats(t->loader, &stats);
    for (int i = 0; i < SAMPLE_REASON_COUNT; i++) counts[i] = (double)stats.bad.counts[i];
    TRY(comm_all_reduce_f64(t->comm, counts, SAMPLE_REASON_COUNT, COMM_SUM));
    if (!t->root) return STATUS_OK;
    for (int i = 0; i < SHARD_EMPTY; i++) stats.bad.counts[i] = (int64_t)counts[i];
    TRY(bad_samples_format(&stats.bad, &reasons));
    log_info("data: %lld samples looked at since the start; passed over: %s", (long long)bad_samples_seen(&stats.bad),
             reasons.data);
fail:
    strbuf_free(&reasons);
    return status;
}

Status trainer_compare(Trainer *t)
{
    if (t->run->parallel.compare_every == 0) return STATUS_OK;
    return consistency_check(t->consistency, t->step, t->saved_step);
}

Status trainer_save(Trainer *t)
{
    Status status = STATUS_OK;
    double start = clock_seconds();
    Cursor *places = NULL;
    comm_note_step(t->comm, t->step, "saving a checkpoint");
    TRY(trainer_compare(t)); /* what is saved is what all ranks have */
    TRY(exchange_refresh_weights(t->exchange));
    TRY(log_passed_over(t));
    TRY(gather_cursor(t));
    if (t->root) {
        if (t->start) TRY(cursor_join(t->saving, t->start, &places));
        CheckpointState state = {
            .step = t->step,
            .samples = t->samples,
            .total_steps = optimizer_total_steps(t->optimizer),
            .seed = t->run->seed,
            .optimizer = optimizer_state(t->optimizer),
            .world = comm_world(t->comm),
            .threads = t->network.backend->threads,
            .micro_batch = t->network.micro_batch,
            .backend = t->backend_text,
            .config = t->config_text.data,
            .stage = stage_run_place(&t->stage, t->step),
            .guard = guard_state(t->guard),
            .cursor = places ? places : t->saving,
        };
        memcpy(state.frozen, t->frozen, sizeof state.frozen);
        TRY(checkpoint_save(t->dir.checkpoints, &state, &t->network.store, t->optimizer, t->run->checkpoint.keep));
        log_info("checkpoint of step %lld saved (%.2f s)", (long long)t->step, clock_seconds() - start);
    } else {
        TRY(checkpoint_contribute(t->optimizer));
    }
    /* A rank that went on alone after rank 0 failed to save would train steps that nobody can resume. */
    TRY(comm_barrier(t->comm));
    t->saved_step = t->step;
fail:
    cursor_free(places);
    return status;
}

/* The whole moving average, on rank 0, in the memory of the gradients: between steps nobody reads those. */
static Status gather_average(Trainer *t, const float **weights)
{
    Status status = STATUS_OK;
    Backend *backend = t->network.backend;
    float *grads = backend->device ? t->network.store.image->grads : t->network.store.grads;
    float *slice = mem_alloc_array((size_t)optimizer_largest_slice(t->optimizer) + 1, sizeof *slice);
    if (!slice) FAIL(ERR_MEMORY, "no memory for a slice of the moving average");
    for (int32_t i = 0; i < optimizer_slice_count(t->optimizer); i++) {
        const OptimizerSlice at = optimizer_slice(t->optimizer, i);
        TRY(optimizer_read_slice(t->optimizer, OPTIMIZER_EMA, i, slice));
        if (t->root) TRY(backend->upload(backend, grads + at.first, slice, (size_t)at.count * sizeof *slice));
    }
    *weights = grads;
fail:
    free(slice);
    return status;
}

/* Gradients that no op writes are zero, and are summed over the ranks as they are. */
static Status clear_unwritten_gradients(Trainer *t, float *grads)
{
    Status status = STATUS_OK;
    Backend *backend = t->network.backend;
    const ParamTable *params = t->network.params;
    for (int32_t i = 0; i < param_table_size(params); i++) {
        const Param *param = param_table_get(params, i);
        if (!param->trainable || plan_writes_gradient(t->network.plan, i)) continue;
        float *zeros = mem_alloc_array((size_t)param->count, sizeof *zeros);
        if (!zeros) FAIL(ERR_MEMORY, "no memory for the gradients of %s", param->name);
        status = backend->upload(backend, grads + param->offset, zeros, (size_t)param->count * sizeof *zeros);
        free(zeros);
        TRY(status);
    }
fail:
    return status;
}

Status trainer_preview(Trainer *t, const char *mark)
{
    Status status = STATUS_OK;
    const float *weights = optimizer_ema(t->optimizer);
    if (!t->draws) return STATUS_OK;
    comm_note_step(t->comm, t->step, "drawing previews");
    TRY(exchange_refresh_weights(t->exchange));
    const bool gathered = weights && optimizer_is_divided(t->optimizer);
    if (gathered) TRY(gather_average(t, &weights));
    if (t->root) TRY(preview_draw(t->preview, t->step, mark, weights));
    watch_preview(t->watch, t->step);
    if (t->root && gathered) TRY(clear_unwritten_gradients(t, (float *)weights));
fail:
    return status;
}
