/* Validation from the trainer's side: when it is due, with which weights, and what becomes of its figures. */
#include "train/trainer_internal.h"

#include <stdio.h>

#include "base/file.h"
#include "base/log.h"

static bool has_average(const Trainer *t)
{
    return validation_lines(t->run) == 2;
}

Status trainer_start_validation(Trainer *t, bool resumed)
{
    Status status = STATUS_OK;
    bool there = false;
    t->validated_step = -1;
    if (!t->validation) return STATUS_OK;
    if (t->root)
        TRY(validation_file_resume(t->dir.validation, resumed ? t->step : -1, validation_lines(t->run), &there));
    TRY(comm_broadcast(t->comm, &there, sizeof there, 0));
    if (there) t->validated_step = t->step;
    TRY(validation_start(t->validation, &t->network.store, &t->precomputed, t->comm));
fail:
    return status;
}

typedef struct Meanwhile {
    Trainer *trainer;
    double *wishes; /* (WISH_COUNT) */
} Meanwhile;

/* Signals are heard, and a checkpoint that is still being written gets on. */
static Status meanwhile(void *context, bool *stop)
{
    Status status = STATUS_OK;
    const Meanwhile *m = context;
    double told[WISH_COUNT + SAVE_WORDS] = {0};
    signals_take(told);
    trainer_save_tell(m->trainer, told + WISH_COUNT, told);
    TRY(comm_all_reduce_f64(m->trainer->comm, told, WISH_COUNT + SAVE_WORDS, COMM_SUM));
    for (int k = 0; k < WISH_COUNT; k++) m->wishes[k] += told[k];
    *stop = m->wishes[WISH_STOP] + m->wishes[WISH_REQUEUE] > 0;
    TRY(trainer_save_follow(m->trainer, told + WISH_COUNT));
fail:
    return status;
}

static Status measure_average(Trainer *t, ValidationPause pause, ValidationResult *out)
{
    Status status = STATUS_OK;
    const float *weights = optimizer_ema(t->optimizer);
    const bool gathered = optimizer_is_divided(t->optimizer);
    if (gathered) TRY(trainer_gather_average(t, true, &weights));
    TRY(validation_run(t->validation, weights, pause, out));
    if (gathered) TRY(trainer_return_gradients(t));
fail:
    return status;
}

/* Rank 0: the file, the log and the events. Both lines are written at once. */
static Status record(Trainer *t, const StrBuf *lines, const double losses[2], const ValidationResult *last,
                     double seconds)
{
    Status status = STATUS_OK;
    char average[64] = "";
    if (has_average(t)) snprintf(average, sizeof average, ", %.6g with the moving average", losses[1]);
    TRY(file_append_line(t->dir.validation, lines->data));
    log_info("validation of step %lld: loss %.6g%s (%lld samples at %lld timesteps, %.1f s)", (long long)t->step,
             losses[0], average, (long long)last->samples, (long long)last->timestep_count, seconds);
    run_events_add(t->dir.events, t->step, "validation", "loss %.6g%s", losses[0], average);
fail:
    return status;
}

/* The live weights, then their average; *stopped: a signal came first. */
static Status measure(Trainer *t, double wishes[WISH_COUNT], bool *stopped)
{
    Status status = STATUS_OK;
    ValidationResult result;
    StrBuf lines = {0};
    double losses[2] = {0};
    const double start = clock_seconds();
    const ValidationPause pause = {meanwhile, &(Meanwhile){t, wishes}};
    for (int ema = 0; ema <= (has_average(t) ? 1 : 0); ema++) {
        TRY(ema ? measure_average(t, pause, &result) : validation_run(t->validation, NULL, pause, &result));
        *stopped = result.stopped;
        if (*stopped) goto fail;
        losses[ema] = result.loss;
        TRY(validation_line(t->step, ema == 1, &result, &lines));
    }
    if (t->root) TRY(record(t, &lines, losses, &result, clock_seconds() - start));
fail:
    strbuf_free(&lines);
    return status;
}

Status trainer_validate(Trainer *t, bool ended, double wishes[WISH_COUNT])
{
    Status status = STATUS_OK;
    bool stopped = false;
    if (!t->validation || t->validated_step == t->step) return STATUS_OK;
    /* A last stage of days may end before train.steps. */
    const bool last = trainer_stage_is_over(t) && !stage_run_has_next(&t->stage, t->step, t->run->train.steps);
    if (!ended && !last && !validation_is_due(t->run, t->step)) return STATUS_OK;
    comm_note_step(t->comm, t->step, "validating");
    TRY(exchange_refresh_weights(t->exchange));
    TRY(measure(t, wishes, &stopped));
    if (stopped)
        log_info("a signal asks for the end: the validation of step %lld is left for the next start",
                 (long long)t->step);
    else
        t->validated_step = t->step;
    if (wishes[WISH_SAVE] > 0 && t->saved_step != t->step && t->save.step != t->step && t->cursor) TRY(trainer_save(t));
fail:
    return status;
}
