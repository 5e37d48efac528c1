#include "train/run_history.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "train/config_difference.h"
#include "train/json_numbers.h"

enum { CONFIG_BYTES_MAX = 16 << 20, PLAN_BYTES_MAX = 1 << 20 };

/* ---- what is kept ---- */

static void add_recent(RecentMean *recent, int64_t step, double value)
{
    if (!isfinite(value)) return;
    recent->values[recent->count % RECENT_STEPS] = value;
    recent->count++;
    recent->sum = 0;
    const int64_t have = recent->count < RECENT_STEPS ? recent->count : RECENT_STEPS;
    for (int64_t i = 0; i < have; i++) recent->sum += recent->values[i];
    if (recent->count == 1 || (have == RECENT_STEPS && recent->sum / (double)have < recent->best) ||
        have < RECENT_STEPS) {
        recent->best = recent->sum / (double)have;
        recent->best_step = step;
    }
}

double recent_mean(const RecentMean *recent)
{
    const int64_t have = recent->count < RECENT_STEPS ? recent->count : RECENT_STEPS;
    return have > 0 ? recent->sum / (double)have : NAN;
}

static void forget(RunHistory *history)
{
    series_set_free(&history->metrics);
    series_set_free(&history->validation);
    history->first_step = history->last_step = history->steps = 0;
    history->busy_seconds = history->images = 0;
    history->loss = (RecentMean){0};
    history->event_count = 0;
    history->event_total = 0;
    JsonLines *const files[] = {&history->metrics_lines, &history->validation_lines, &history->event_lines};
    for (int f = 0; f < 3; f++) {
        files[f]->offset = files[f]->good = files[f]->bad = 0;
        files[f]->overlong = false;
    }
}

/* ---- lines ---- */

static bool step_of(const JsonValue *object, int64_t *step)
{
    const JsonValue *value = json_get(object, "step");
    return json_is_number(value) && json_integer(value, step) && *step >= 0 && *step <= SERIES_STEP_MAX;
}

static double number_of(const JsonValue *object, const char *key)
{
    double value;
    return json_is_number(json_get(object, key)) && json_number(json_get(object, key), &value) ? value : NAN;
}

typedef struct Into {
    RunHistory *history;
    SeriesSet *set;
    const char *prefix; /* of the names, or "" */
    int64_t step;
} Into;

static void add_number(void *context, const char *name, double value)
{
    const Into *into = context;
    char full[SERIES_NAME_MAX];
    const size_t before = strlen(into->prefix), length = strlen(name);
    if (strcmp(name, "step") == 0 || before + length >= sizeof full) return;
    memcpy(full, into->prefix, before);
    memcpy(full + before, name, length + 1);
    const Status status = series_set_add(into->set, full, into->step, value);
    if (status) into->history->failed = status;
}

static bool take_step(void *context, const JsonValue *object)
{
    RunHistory *history = context;
    Into into = {.history = history, .set = &history->metrics, .prefix = ""};
    if (!step_of(object, &into.step)) return false;
    json_numbers_visit(object, add_number, &into);
    add_recent(&history->loss, into.step, number_of(object, "loss"));
    const double seconds = number_of(object, "step_seconds"), rate = number_of(object, "images_per_second");
    if (isfinite(seconds) && isfinite(rate) && seconds > 0) {
        history->busy_seconds += seconds;
        history->images += seconds * rate;
    }
    if (history->steps == 0 || into.step < history->first_step) history->first_step = into.step;
    if (into.step > history->last_step) history->last_step = into.step;
    history->steps++;
    return true;
}

static void add_timesteps(RunHistory *history, const char *weights, int64_t step, const JsonValue *pairs)
{
    for (size_t i = 0; i < json_count(pairs) && json_is_array(pairs); i++) {
        const JsonValue *pair = json_item(pairs, i);
        double t, loss;
        char name[SERIES_NAME_MAX];
        if (!json_number(json_item(pair, 0), &t) || !json_number(json_item(pair, 1), &loss)) continue;
        snprintf(name, sizeof name, "%s.by_timestep.%.6g", weights, t);
        const Status status = series_set_add(&history->validation, name, step, loss);
        if (status) history->failed = status;
    }
}

static bool take_validation(void *context, const JsonValue *object)
{
    RunHistory *history = context;
    Into into = {.history = history, .set = &history->validation};
    const char *weights = json_text(json_get(object, "weights"), NULL);
    if (!step_of(object, &into.step) || !weights) return false;
    if (strcmp(weights, "live") != 0 && strcmp(weights, "ema") != 0) return false;
    into.prefix = strcmp(weights, "ema") == 0 ? "ema." : "live.";
    json_numbers_visit(object, add_number, &into);
    add_timesteps(history, weights, into.step, json_get(object, "by_timestep"));
    return true;
}

static bool take_event(void *context, const JsonValue *object)
{
    RunHistory *history = context;
    RunEvent event = {.time = number_of(object, "time")};
    const char *kind = json_text(json_get(object, "kind"), NULL), *text = json_text(json_get(object, "text"), NULL);
    if (!step_of(object, &event.step) || !kind || !isfinite(event.time)) return false;
    snprintf(event.kind, sizeof event.kind, "%s", kind);
    snprintf(event.text, sizeof event.text, "%s", text ? text : "");
    if (history->event_count == RUN_EVENTS_MAX) {
        /* The older half goes at once, so that a long file is not moved at every line. */
        history->event_count /= 2;
        memmove(history->events, history->events + RUN_EVENTS_MAX - history->event_count,
                (size_t)history->event_count * sizeof history->events[0]);
    }
    history->events[history->event_count++] = event;
    history->event_total++;
    return true;
}

/* ---- the folder ---- */

Status run_history_open(const char *path, RunHistory **out)
{
    Status status = STATUS_OK;
    char validation[PATH_MAX];
    RunHistory *history = mem_alloc_array(1, sizeof *history);
    *out = NULL;
    if (!history) FAIL(ERR_MEMORY, "no memory to read %s", path);
    history->events = mem_alloc_array(RUN_EVENTS_MAX, sizeof history->events[0]);
    if (!history->events) FAIL(ERR_MEMORY, "no memory to read %s", path);
    TRY(run_dir_name(path, &history->dir));
    const char *slash = strrchr(history->dir.path, '/');
    snprintf(history->name, sizeof history->name, "%s", slash && slash[1] ? slash + 1 : history->dir.path);
    TRY(path_join(history->plan_path, sizeof history->plan_path, history->dir.path, "plan.json"));
    TRY(path_join(validation, sizeof validation, history->dir.path, "validation.jsonl"));
    TRY(json_lines_name(&history->metrics_lines, history->dir.metrics));
    TRY(json_lines_name(&history->validation_lines, validation));
    TRY(json_lines_name(&history->event_lines, history->dir.events));
    *out = history;
    return STATUS_OK;
fail:
    run_history_free(history);
    return status;
}

void run_history_free(RunHistory *history)
{
    if (!history) return;
    series_set_free(&history->metrics);
    series_set_free(&history->validation);
    free(history->events);
    free(history->config);
    json_free(history->plan);
    free(history);
}

/* What is not readable as what it should be is as if it were not there: a page without it is better than none. */
static void read_plan(RunHistory *history)
{
    char *text = NULL;
    size_t size;
    json_free(history->plan);
    history->plan = NULL;
    if (file_exists(history->plan_path) && file_read(history->plan_path, PLAN_BYTES_MAX, &text, &size) == STATUS_OK)
        (void)json_parse(text, size, PLAN_BYTES_MAX, &history->plan);
    free(text);
}

Status run_history_read(RunHistory *history)
{
    Status status = STATUS_OK;
    size_t size;
    const char *folder = history->dir.path;
    if (!file_is_dir(folder)) FAIL(ERR_IO, "%s: there is no such folder; name the folder of a run (run.dir)", folder);
    if (!file_exists(history->dir.metrics) && !file_exists(history->dir.config))
        FAIL(ERR_IO, "%s is not the folder of a run: it has neither metrics.jsonl nor config.yaml", folder);
    if (json_lines_was_cut(&history->metrics_lines) || json_lines_was_cut(&history->validation_lines) ||
        json_lines_was_cut(&history->event_lines))
        forget(history);
    history->failed = STATUS_OK;
    TRY(json_lines_read(&history->metrics_lines, take_step, history));
    TRY(json_lines_read(&history->validation_lines, take_validation, history));
    TRY(json_lines_read(&history->event_lines, take_event, history));
    TRY(history->failed);
    free(history->config);
    history->config = NULL;
    if (file_exists(history->dir.config))
        TRY(file_read(history->dir.config, CONFIG_BYTES_MAX, &history->config, &size));
    read_plan(history);
fail:
    return status;
}

int64_t run_history_bad_lines(const RunHistory *history)
{
    return history->metrics_lines.bad + history->validation_lines.bad + history->event_lines.bad;
}

double run_history_throughput(const RunHistory *history)
{
    return history->busy_seconds > 0 ? history->images / history->busy_seconds : NAN;
}

const char *run_history_config(const RunHistory *history, const char *key, char *out, size_t capacity,
                               const char *otherwise)
{
    ConfigLine line;
    if (!history->config || !config_find(history->config, key, &line)) return otherwise;
    const size_t size = line.value_size < capacity ? line.value_size : capacity - 1;
    memcpy(out, line.value, size);
    out[size] = '\0';
    return out;
}
