#include "train/guard.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>

#include "base/arena.h"
#include "train/guard_history.h"

/* Of the logarithms: where losses hardly vary, 1% is no sign of anything. */
#define SPREAD_LEAST 0.01

const char *const GUARD_ACTION_WORDS[] = {"log", "skip", "stop", NULL};

#define AT(name) offsetof(GuardConfig, name)
static const ConfigField FIELDS[] = {
    {"action", CONFIG_ENUM, AT(action), "log", 0, 0, GUARD_ACTION_WORDS, NULL,
     "a step that stands out is noted in log, metrics and events; with skip its update is left out, too; with stop the "
     "run ends there, without it"},
    {"window", CONFIG_INT, AT(window), "200", 8, GUARD_WINDOW_MOST, NULL, NULL,
     "steps that a step is compared with, once half of them are there"},
    {"loss_z", CONFIG_FLOAT, AT(loss_z), "8", 0, 1e6, NULL, NULL,
     "a mean squared error so many spreads above the median stands out (of the logarithms; docs/reliability.md); 0: "
     "none "
     "does"},
    {"grad_norm_z", CONFIG_FLOAT, AT(grad_norm_z), "8", 0, 1e6, NULL, NULL,
     "the same of the gradient norm before clipping"},
    {"warmup", CONFIG_INT, AT(warmup), "100", 0, 1e12, NULL, NULL,
     "steps from the start of the run in which none stands out"},
    {"skips_in_a_row", CONFIG_INT, AT(skips_in_a_row), "10", 1, 1e6, NULL, NULL,
     "with action skip, so many in a row end the run"},
};
const ConfigSchema GUARD_CONFIG_SCHEMA = {"guard", FIELDS, sizeof FIELDS / sizeof FIELDS[0], sizeof(GuardConfig)};

struct Guard {
    GuardConfig config;
    GuardHistory loss, norm;
    int64_t in_a_row;
    int64_t resolution, global_batch;
};

Status guard_create(const GuardConfig *config, int64_t resolution, int64_t global_batch, Guard **out)
{
    Status status = STATUS_OK;
    Guard *guard = mem_alloc_array(1, sizeof *guard);
    *out = NULL;
    if (!guard) FAIL(ERR_MEMORY, "out of memory");
    *guard = (Guard){.config = *config, .resolution = resolution, .global_batch = global_batch};
    TRY(guard_history_create(config->window, &guard->loss));
    TRY(guard_history_create(config->window, &guard->norm));
    *out = guard;
    return STATUS_OK;
fail:
    guard_free(guard);
    return status;
}

void guard_free(Guard *guard)
{
    if (!guard) return;
    guard_history_free(&guard->loss);
    guard_history_free(&guard->norm);
    free(guard);
}

GuardState guard_state(const Guard *guard)
{
    return (GuardState){.loss = guard->loss.values,
                        .norm = guard->norm.values,
                        .loss_count = guard->loss.count,
                        .norm_count = guard->norm.count,
                        .in_a_row = guard->in_a_row,
                        .resolution = guard->resolution,
                        .global_batch = guard->global_batch};
}

bool guard_restore(Guard *guard, const GuardState *state)
{
    if (state->resolution != guard->resolution || state->global_batch != guard->global_batch) return false;
    /* With a smaller window the oldest fall out. */
    for (int64_t i = 0; i < state->loss_count; i++) guard_history_add(&guard->loss, state->loss[i]);
    for (int64_t i = 0; i < state->norm_count; i++) guard_history_add(&guard->norm, state->norm[i]);
    guard->in_a_row = state->in_a_row;
    return true;
}

bool guard_holds(const Guard *guard)
{
    return guard->config.action != GUARD_LOG;
}

bool guard_waits_for_loss(const Guard *guard)
{
    return guard_holds(guard) && guard->config.loss_z > 0;
}

/* Median and spread of a history that is long enough. */
static bool measure(const Guard *guard, const GuardHistory *history, double *middle, double *spread)
{
    if (history->count < guard->config.window / 2) return false;
    guard_history_measure(history, middle, spread);
    if (*spread < SPREAD_LEAST) *spread = SPREAD_LEAST;
    return true;
}

static double limit(const Guard *guard, const GuardHistory *history, double z)
{
    double middle, spread;
    if (z == 0 || !measure(guard, history, &middle, &spread)) return INFINITY;
    return exp(middle + z * spread);
}

GuardLimits guard_limits(const Guard *guard, int64_t steps_done)
{
    if (steps_done < guard->config.warmup) return (GuardLimits){INFINITY, INFINITY};
    return (GuardLimits){limit(guard, &guard->loss, guard->config.loss_z),
                         limit(guard, &guard->norm, guard->config.grad_norm_z)};
}

bool guard_is_over(double value, double limit)
{
    return limit < INFINITY && !(value <= limit);
}

/* The value's z, and what it is compared with; then it is part of the history. */
static double judge(const Guard *guard, GuardHistory *history, double value, double *usual)
{
    double middle = 0, spread = 1, z = NAN;
    const bool counts = isfinite(value) && value > 0;
    const bool known = measure(guard, history, &middle, &spread);
    if (known && counts) z = (log(value) - middle) / spread;
    *usual = known ? exp(middle) : NAN;
    if (counts) guard_history_add(history, log(value));
    return z;
}

GuardVerdict guard_judge(Guard *guard, const GuardLimits *limits, double loss, double norm)
{
    GuardVerdict verdict = {.loss_over = guard_is_over(loss, limits->loss),
                            .norm_over = guard_is_over(norm, limits->norm)};
    verdict.loss_z = judge(guard, &guard->loss, loss, &verdict.loss_middle);
    verdict.norm_z = judge(guard, &guard->norm, norm, &verdict.norm_middle);
    guard->in_a_row = verdict.loss_over || verdict.norm_over ? guard->in_a_row + 1 : 0;
    return verdict;
}

int64_t guard_in_a_row(const Guard *guard)
{
    return guard->in_a_row;
}
