/* The trainer's side of stages (train/stages.h): which one it opens for, its begin and its end. */
#include "train/trainer_internal.h"

#include <string.h>

#include "base/file.h"
#include "base/log.h"

/* A kill or a signal came between the last checkpoint of a stage and the validation that was due with it: the process
 * begins in the stage that is over, measures, and goes on to the next. Not where that stage could not be opened on the
 * ranks of now (its figures are the next stage's then), nor where the run was not validated so far: there is a file
 * from its first step on. Collective. */
static Status owes_validation(const Trainer *t, int64_t step, bool *owes)
{
    Status status = STATUS_OK;
    const Stage *over = stage_run_now(&t->stage);
    RunConfig run = over->run;
    bool there = true;
    *owes = false;
    if (!validation_is_due(&run, step)) return STATUS_OK;
    if (t->root && file_exists(t->dir.validation))
        TRY(validation_file_has(t->dir.validation, step, validation_lines(&run), &there));
    TRY(comm_broadcast(t->comm, &there, sizeof there, 0));
    if (there) return STATUS_OK;
    *owes = run_config_check_ranks(&run, over->config, comm_world(t->comm), comm_local_world(t->comm)) == STATUS_OK;
    if (!t->root) return STATUS_OK;
    if (*owes)
        log_info("stage %s is over, but for the validation of its last step, %lld", stage_run_name(&t->stage),
                 (long long)step);
    else
        log_warn("the validation of step %lld, the last of stage %s, is measured as the stage that follows: %s",
                 (long long)step, stage_run_name(&t->stage), status_message());
fail:
    return status;
}

/* t->run and t->config become the stage's. */
static void take_config(Trainer *t, const Stage *now, int64_t step)
{
    t->of_stage = now->run;
    t->run = &t->of_stage;
    t->config = now->config;
    t->total_steps = stage_run_total_steps(&t->stage, step, t->run->train.steps);
    if (run_config_has_days(t->whole)) return; /* train.steps is where the run ends at the latest */
    /* The sum of the stages, as they were; so is a schedule's length that was not written. */
    if (t->run->optim.total_steps == t->run->train.steps) t->run->optim.total_steps = t->total_steps;
    t->run->train.steps = t->total_steps;
}

/* `state`: of the checkpoint; NULL: a new run. From here on t->run and t->config are the stage's. */
Status trainer_enter_stage(Trainer *t, const TrainerOptions *options, const CheckpointState *state)
{
    Status status = STATUS_OK;
    const int64_t step = state ? state->step : 0;
    TRY(stages_enter(options->stages, state ? &state->stage : NULL, step, t->root, &t->stage));
    StageRun next = t->stage;
    stage_run_go_on(&next, step);
    if (next.index != t->stage.index && !t->switched) TRY(owes_validation(t, step, &t->owes));
    if (!t->owes) t->stage = next;
    const Stage *now = stage_run_now(&t->stage);
    t->total_steps = t->run->train.steps;
    if (!now) return STATUS_OK;
    const char *wanted = options->only_stage;
    const bool stays = t->owes && wanted && strcmp(wanted, stage_run_name(&t->stage)) == 0;
    const char *name = stage_run_name(stays ? &t->stage : &next);
    t->one_stage = wanted && (stays || !t->owes);
    if (wanted && strcmp(wanted, name) != 0)
        FAIL(ERR_USAGE,
             "--only-stage %s: the run stands %s stage %s, after %lld steps; train that one first, or drop "
             "--only-stage",
             wanted, step == next.begin ? "before" : "in", name, (long long)step);
    take_config(t, now, step);
fail:
    return status;
}

/* What needs no file, of this stage and all that come: a mistake in the last one is not to wait until it begins. What
 * was right for the ranks of stages that are over need not be for those of now. */
Status trainer_check_settings(const Trainer *t)
{
    Status status = STATUS_OK;
    const Stages *stages = t->stage.stages;
    for (size_t i = t->stage.index; i < (stages ? stages->count : 1); i++) {
        RunConfig run = stages ? stages->items[i].run : *t->run;
        const Config *config = stages ? stages->items[i].config : t->config;
        TRY(run_config_check_ranks(&run, config, comm_world(t->comm), comm_local_world(t->comm)));
        TRY(run_config_check_settings(&run, config));
    }
fail:
    return status;
}

/* Of the whole run, where the process stops; of the stage, where the trainer does. */
int64_t trainer_last_step(const Trainer *t)
{
    const int64_t last = stage_run_last_step(&t->stage, t->run->train.steps);
    if (stage_run_is_over(&t->stage, t->step)) return t->step; /* nothing comes after the last stage */
    return t->stop_after > 0 && t->stop_after < last ? t->stop_after : last;
}

/* The stages with the lengths that those which are over had, whatever the config says of them now: facts, with which
 * train.steps is the sum again. Those of days keep them. `items`: room for all. */
static void write_lengths(const Trainer *t, RunConfig *whole, StageConfig *items)
{
    const StagePlace *place = &t->stage.place;
    memcpy(items, whole->stages.items, whole->stages.count * sizeof *items);
    for (int32_t i = 0; i < place->ended_count; i++) {
        const int64_t begin = i > 0 ? place->ended[i - 1].step : 0;
        if (items[i].steps > 0) items[i].steps = place->ended[i].step - begin;
    }
    StageConfig *now = &items[t->stage.index];
    if (now->steps > 0 && trainer_stage_is_over(t)) now->steps = t->step - t->stage.begin;
    whole->stages.items = items;
    whole->train.steps = t->run->train.steps;
}

/* All stages; a checkpoint has the config of its own. */
Status trainer_write_config(const Trainer *t)
{
    Status status = STATUS_OK;
    StrBuf text = {0};
    RunConfig whole = *t->whole;
    StageConfig items[STAGES_MOST];
    if (!t->stage.stages) return run_dir_write_config(&t->dir, t->config_text.data, t->config_text.size);
    whole.optim.total_steps = t->run->optim.total_steps;
    write_lengths(t, &whole, items);
    TRY(config_dump(&RUN_CONFIG_SCHEMA, &whole, &text));
    TRY(run_dir_write_config(&t->dir, text.data, text.size));
fail:
    strbuf_free(&text);
    return status;
}

/* Pictures from before the first step of a stage, beside those that the stage before it has drawn at its end. */
Status trainer_begin_stage(Trainer *t)
{
    Status status = STATUS_OK;
    char text[512];
    t->stage_clock = clock_seconds() - t->stage.seconds;
    if (!t->stage.stages || t->step > t->stage.begin || t->step >= t->last_step) return STATUS_OK;
    stage_run_describe(&t->stage, text, sizeof text);
    log_info("%s", text);
    if (t->root) run_events_add(t->dir.events, t->step, "stage", "%s", text);
    if (t->step > 0) TRY(trainer_preview(t, stage_run_name(&t->stage)));
fail:
    return status;
}

bool trainer_goes_on_here(const Trainer *t)
{
    return t->own_checkpoint;
}

bool trainer_made_up(const Trainer *t)
{
    return t->owes;
}

int trainer_give_lock(Trainer *t)
{
    const int lock = t ? t->dir.lock : -1;
    if (t) t->dir.lock = -1;
    return lock;
}

void trainer_end_stage(Trainer *t)
{
    t->last_step = t->step;
    t->total_steps = stage_run_total_steps(&t->stage, t->step, t->run->train.steps);
}

bool trainer_stage_is_over(const Trainer *t)
{
    return stage_run_is_over(&t->stage, t->step);
}

bool trainer_stage_follows(const Trainer *t)
{
    const bool stops = t->one_stage || (t->stop_after > 0 && t->step >= t->stop_after);
    return trainer_stage_is_over(t) && !stops && stage_run_has_next(&t->stage, t->step, t->run->train.steps);
}

bool trainer_is_at_end(const Trainer *t)
{
    const int64_t steps = t->run->train.steps;
    if (stage_run_has_next(&t->stage, t->step, steps)) return false;
    return trainer_stage_is_over(t) || t->step >= stage_run_last_step(&t->stage, steps);
}
