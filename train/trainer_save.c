/* Saving from the trainer's side: the ranks' places in the data are put together, each rank's saver writes, and what
 * becomes of that is agreed on at the ends of steps, with all else that ranks tell each other there. */
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

/* ---- the save under way ---- */

/* Beside training where every rank has planned the memory for it (train/network.h). */
Status trainer_open_saver(Trainer *t)
{
    Status status = STATUS_OK;
    const CheckpointConfig *config = &t->run->checkpoint;
    double async = t->network.memory.bytes[MEMORY_SNAPSHOT] > 0;
    TRY(comm_all_reduce_f64(t->comm, &async, 1, COMM_MIN));
    if (t->root && async == 0 && config->async == CHECKPOINT_ASYNC_AUTO)
        log_info("checkpoints are written while training waits: there is no memory for a copy (checkpoint.async)");
    TRY(saver_create(&(SaverOptions){.folder = t->dir.checkpoints,
                                     .keep = {.keep = config->keep, .permanent_every = config->permanent_every},
                                     .store = &t->network.store,
                                     .optimizer = t->optimizer,
                                     .backend = t->network.backend,
                                     .exchange = t->exchange,
                                     .rank = comm_rank(t->comm),
                                     .world = comm_world(t->comm),
                                     .group = comm_group(t->comm),
                                     .async = async > 0},
                     &t->save.saver));
fail:
    return status;
}

void trainer_save_tell(Trainer *t, double words[SAVE_WORDS], double wishes[WISH_COUNT])
{
    SaverState state;
    const double minutes = t->run->checkpoint.every_minutes;
    if (t->root && minutes > 0 && clock_seconds() - t->save.begun > 60 * minutes) wishes[WISH_SAVE] += 1;
    if (t->save.phase == SAVE_NONE) return;
    words[SAVE_FAILED] = saver_look(t->save.saver, &state) != STATUS_OK;
    words[SAVE_WRITTEN] = state == SAVER_WRITTEN;
    words[SAVE_COMMITTED] = state == SAVER_COMMITTED;
}

static void end_save(Trainer *t)
{
    TrainerSave *save = &t->save;
    saver_end(save->saver);
    save->phase = SAVE_NONE;
    save->count++;
    save->all_stalled += save->stalled;
    t->saved_step = save->step;
    if (!t->root) return;
    log_info("checkpoint of step %lld saved (%.2f s; training stood still for %.3f s)", (long long)save->step,
             saver_seconds(save->saver), save->stalled);
    run_events_add(t->dir.events, save->step, "checkpoint", "saved in %.2f s; training stood still for %.3f s",
                   saver_seconds(save->saver), save->stalled);
}

/* The rank that has failed says why and ends; the others wait for its word, as with any failure of another rank. What
 * they have written is removed before. */
static Status end_failed_save(Trainer *t)
{
    Status status = STATUS_OK;
    SaverState state;
    StatusRecord record = {.status = STATUS_OK};
    status = saver_wait(t->save.saver, &state);
    if (status) status_save(status, &record);
    TRY(comm_barrier(t->comm)); /* nobody writes any longer */
    if (t->root && comm_world(t->comm) > 1) saver_remove(t->save.saver);
    TRY(comm_barrier(t->comm));
    if (record.status) return status_restore(&record);
    TRY(comm_barrier(t->comm));
    FAIL(ERR_COMM, "another rank could not save its share of the checkpoint of step %lld", (long long)t->save.step);
fail:
    return status;
}

/* All ranks have written their shares: rank 0 is told of them, and puts the checkpoint in its place. */
static Status commit_shares(Trainer *t)
{
    Status status = STATUS_OK;
    const FileFacts own = saver_share(t->save.saver);
    FileFacts *all = mem_alloc_array((size_t)comm_world(t->comm), sizeof *all);
    if (!all) FAIL(ERR_MEMORY, "no memory for the shares of a checkpoint");
    TRY(comm_all_gather(t->comm, &own, sizeof own, all));
    if (t->root) saver_commit(t->save.saver, all);
    t->save.phase = SAVE_COMMITTING;
fail:
    free(all);
    return status;
}

Status trainer_save_follow(Trainer *t, const double sums[SAVE_WORDS])
{
    if (t->save.phase == SAVE_NONE) return STATUS_OK;
    if (sums[SAVE_FAILED] > 0) return end_failed_save(t);
    if (sums[SAVE_COMMITTED] > 0)
        end_save(t);
    else if (t->save.phase == SAVE_WRITING && sums[SAVE_WRITTEN] == comm_world(t->comm))
        return commit_shares(t);
    return STATUS_OK;
}

Status trainer_save_finish(Trainer *t)
{
    Status status = STATUS_OK;
    SaverState state;
    while (t->save.phase != SAVE_NONE) {
        const double start = clock_seconds();
        double words[SAVE_WORDS] = {0};
        comm_note_step(t->comm, t->step, "saving a checkpoint");
        words[SAVE_FAILED] = saver_wait(t->save.saver, &state) != STATUS_OK;
        words[SAVE_WRITTEN] = state == SAVER_WRITTEN;
        words[SAVE_COMMITTED] = state == SAVER_COMMITTED;
        TRY(comm_all_reduce_f64(t->comm, words, SAVE_WORDS, COMM_SUM));
        t->save.stalled += clock_seconds() - start;
        TRY(trainer_save_follow(t, words));
    }
fail:
    return status;
}

/* ---- saving ---- */

static CheckpointState describe_run(const Trainer *t, Cursor *cursor)
{
    CheckpointState state = {
        .step = t->step,
        .samples = t->samples,
        .total_steps = optimizer_total_steps(t->optimizer),
        .seed = t->run->seed,
        .optimizer = optimizer_state(t->optimizer),
        .world = comm_world(t->comm),
        .threads = t->network.backend->threads,
        .micro_batch = t->network.micro_batch,
        .backend = (char *)t->backend_text,
        .config = t->config_text.data,
        .stage = stage_run_place(&t->stage, t->step),
        .guard = guard_state(t->guard),
        .cursor = cursor,
    };
    memcpy(state.frozen, t->frozen, sizeof state.frozen);
    return state;
}

/* A save that is still being written is waited for: there is memory for one. */
static Status finish_before(Trainer *t)
{
    Status status = STATUS_OK;
    const double start = clock_seconds();
    if (t->save.phase == SAVE_NONE) return STATUS_OK;
    TRY(trainer_save_finish(t));
    if (t->root && clock_seconds() - start > 0.1)
        log_warn("the checkpoint of step %lld was still being written: training waited %.1f s for it; a larger "
                 "checkpoint.every, or a faster disk, would spare that",
                 (long long)t->save.step, clock_seconds() - start);
fail:
    return status;
}

Status trainer_save(Trainer *t)
{
    Status status = STATUS_OK;
    Cursor *places = NULL;
    TRY(finish_before(t));
    const double start = clock_seconds();
    comm_note_step(t->comm, t->step, "saving a checkpoint");
    TRY(trainer_compare(t)); /* what is saved is what all ranks have */
    TRY(exchange_refresh_weights(t->exchange));
    TRY(log_passed_over(t));
    if (t->root) TRY(saver_prepare(t->save.saver, t->step));
    TRY(gather_cursor(t)); /* behind it all ranks know that rank 0 has made the folder */
    if (t->root && t->start) TRY(cursor_join(t->saving, t->start, &places));
    const CheckpointState state = describe_run(t, places ? places : t->saving);
    t->save.step = t->step;
    TRY(saver_begin(t->save.saver, t->step, t->root ? &state : NULL));
    t->save.phase = SAVE_WRITING;
    t->save.begun = start;
    t->save.stalled = clock_seconds() - start;
    if (!saver_is_async(t->save.saver)) TRY(trainer_save_finish(t));
fail:
    cursor_free(places);
    return status;
}

void trainer_log_saves(const Trainer *t)
{
    const double run = clock_seconds() - t->save.run;
    if (!t->root || t->save.count == 0 || run <= 0) return;
    log_info("%lld checkpoints: training stood still for %.2f of %.1f s for them, %.2f%%", (long long)t->save.count,
             t->save.all_stalled, run, 100 * t->save.all_stalled / run);
}

Status trainer_gather_average(Trainer *t, bool everywhere, const float **weights)
{
    Status status = STATUS_OK;
    Backend *backend = t->network.backend;
    float *grads = backend->device ? t->network.store.image->grads : t->network.store.grads;
    float *slice = mem_alloc_array((size_t)optimizer_largest_slice(t->optimizer) + 1, sizeof *slice);
    if (!slice) FAIL(ERR_MEMORY, "no memory for a slice of the moving average");
    for (int32_t i = 0; i < optimizer_slice_count(t->optimizer); i++) {
        const OptimizerSlice at = optimizer_slice(t->optimizer, i);
        TRY(optimizer_read_slice(t->optimizer, OPTIMIZER_EMA, i, slice));
        if (t->root || everywhere)
            TRY(backend->upload(backend, grads + at.first, slice, (size_t)at.count * sizeof *slice));
    }
    *weights = grads;
fail:
    free(slice);
    return status;
}

/* Gradients that no op writes are zero, and are summed over the ranks as they are. */
Status trainer_return_gradients(Trainer *t)
{
    Status status = STATUS_OK;
    Backend *backend = t->network.backend;
    float *grads = backend->device ? t->network.store.image->grads : t->network.store.grads;
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
    if (gathered) TRY(trainer_gather_average(t, false, &weights));
    if (t->root) TRY(preview_draw(t->preview, t->step, mark, weights));
    watch_preview(t->watch, t->step);
    if (t->root && gathered) TRY(trainer_return_gradients(t));
fail:
    return status;
}
