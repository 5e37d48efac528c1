/* The guard (train/guard.h) in the trainer: limits before a step, a look at its losses before the update, and after it
 * what is written down, and whether the run goes on.
 *
 * Of the loss it is the mean squared error that is looked at: the variational bound of the few samples with the
 * smallest timesteps makes the sum of both jump by several times its value in steps that are as they should be.
 *
 * The limit of the norm is one of the update's values, so the update leaves itself out, on a device too. The loss is
 * known to the host alone: where it may refuse an update, that is queued once the ranks have told each other their
 * losses, on a device as on the host, instead of with the last micro-batch. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "train/trainer_internal.h"

enum { WHAT_MAX = 400 };

Status trainer_guard_open(Trainer *t, const GuardState *state)
{
    Status status = STATUS_OK;
    TRY(guard_create(&t->run->guard, t->run->train.resolution, t->run->train.global_batch, &t->guard));
    t->updates_last = !feed_runs_ahead(t->feed) || guard_waits_for_loss(t->guard);
    if (t->stage.stages && t->step == t->stage.begin) return STATUS_OK; /* other data, another loss */
    if (state->loss_count > 0 && !guard_restore(t->guard, state))
        log_info("guard: losses were of resolution %lld and batches of %lld so far; what is usual is learnt anew",
                 (long long)state->resolution, (long long)state->global_batch);
fail:
    return status;
}

void trainer_guard_begin(Trainer *t)
{
    t->guard_limits = guard_limits(t->guard, t->step);
    optimizer_limit_norm(t->optimizer, guard_holds(t->guard) ? t->guard_limits.norm : INFINITY);
}

Status trainer_guard_losses(Trainer *t, double mse)
{
    if (!guard_holds(t->guard) || !guard_is_over(mse, t->guard_limits.loss)) return STATUS_OK;
    return optimizer_refuse_update(t->optimizer);
}

/* "loss 3.2 is 12.1 spreads above the usual 0.31"; appended to `out`. */
static void describe(const char *what, double value, double z, double usual, char out[WHAT_MAX])
{
    const size_t used = strlen(out);
    snprintf(out + used, WHAT_MAX - used, "%s%s %.4g is %.1f spreads above the usual %.4g", used ? ", " : "", what,
             value, z, usual);
}

/* Of a series of steps that stand out, the first ten and then every tenth are told. */
static bool is_told(int64_t in_a_row)
{
    return in_a_row <= 10 || in_a_row % 10 == 0;
}

void trainer_guard_judge(Trainer *t, StepMetrics *step)
{
    static const char *const TOLD[] = {[GUARD_LOG] = "noted",
                                       [GUARD_SKIP] = "the update is left out",
                                       [GUARD_STOP] = "the run ends without the update"};
    const int32_t action = t->run->guard.action;
    char what[WHAT_MAX] = "";
    step->loss_z = step->grad_norm_z = NAN;
    step->guard = NULL;
    if (step->not_finite) {
        if (t->root)
            run_events_add(t->dir.events, t->step, "guard", "gradients are not finite, loss %g: the update is left out",
                           step->loss);
        return;
    }
    const GuardVerdict verdict = guard_judge(t->guard, &t->guard_limits, step->mse, step->grad_norm);
    step->loss_z = verdict.loss_z;
    step->grad_norm_z = verdict.norm_z;
    if (!verdict.loss_over && !verdict.norm_over) return;
    step->guard = GUARD_ACTION_WORDS[action];
    if (!t->root || !is_told(guard_in_a_row(t->guard))) return;
    if (verdict.loss_over) describe("mse", step->mse, verdict.loss_z, verdict.loss_middle, what);
    if (verdict.norm_over) describe("gradient norm", step->grad_norm, verdict.norm_z, verdict.norm_middle, what);
    log_warn("step %lld: %s: %s", (long long)step->step, what, TOLD[action]);
    run_events_add(t->dir.events, t->step, "guard", "%s: %s", what, TOLD[action]);
}

/* All ranks come here alike, and none fails before the others have written down what they have. */
Status trainer_guard_end(Trainer *t, const StepMetrics *step)
{
    Status status = STATUS_OK;
    const GuardConfig *config = &t->run->guard;
    const int64_t in_a_row = guard_in_a_row(t->guard);
    if (!step->guard || config->action == GUARD_LOG) return STATUS_OK;
    if (config->action == GUARD_SKIP && in_a_row < config->skips_in_a_row) return STATUS_OK;
    status = trainer_save_finish(t); /* the newest checkpoint is the one that is still being written */
    if (status != STATUS_OK) {
        status_prefix("step %lld stands out, and guard.action ends the run; then: ", (long long)step->step);
        goto fail;
    }
    TRY(comm_barrier(t->comm));
    if (config->action == GUARD_STOP)
        FAIL(ERR_NUMERIC,
             "step %lld stands out (mse %.4g, gradient norm %.4g; what is usual says the line above), and "
             "guard.action: "
             "stop ends the run before its update; checkpoints are as they were, the newest of step %lld. Look at that "
             "step's samples (`vasily data order`). To go on: --resume auto with guard.action=skip, which leaves this "
             "step out, or with a lower optim.max_lr or optim.clip_norm",
             (long long)step->step, step->mse, step->grad_norm, (long long)t->saved_step);
    FAIL(
        ERR_NUMERIC,
        "the updates of %lld steps in a row were left out (guard.skips_in_a_row), so this is more than bad samples. If "
        "the loss in metrics.jsonl rose before, the weights have diverged: go on from a checkpoint before that "
        "(--resume "
        "PATH; the newest is of step %lld) with a lower optim.max_lr. If only the data has changed, guard.action=log "
        "lets the guard learn what is usual now",
        (long long)in_a_row, (long long)t->saved_step);
fail:
    return status;
}
