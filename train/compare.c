#include "train/compare.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train/config_difference.h"

/* ---- numbers ---- */

typedef enum Judgement { NOT_JUDGED, LESS_IS_BETTER, MORE_IS_BETTER } Judgement;
typedef const char *Format(double value, NumberText out);

static const char *four_digits(double value, NumberText out)
{
    return number_text(value, 4, out);
}

static const char *whole(double value, NumberText out)
{
    return isnan(value) ? number_text(value, 4, out) : number_text_count((int64_t)value, out);
}

static double newest(const SeriesSet *set, const char *name)
{
    const Series *series = series_set_find(set, name);
    return series ? series->last : NAN;
}

static double least(const SeriesSet *set, const char *name)
{
    const Series *series = series_set_find(set, name);
    return series ? series->min : NAN;
}

static double greatest(const SeriesSet *set, const char *name)
{
    const Series *series = series_set_find(set, name);
    return series ? series->max : NAN;
}

static double steps_done(const RunHistory *run)
{
    return (double)run->last_step;
}
static double loss_now(const RunHistory *run)
{
    return recent_mean(&run->loss);
}
static double loss_best(const RunHistory *run)
{
    return run->loss.count > 0 ? run->loss.best : NAN;
}
static double ema_now(const RunHistory *run)
{
    return newest(&run->validation, "ema.loss");
}
static double ema_best(const RunHistory *run)
{
    return least(&run->validation, "ema.loss");
}
static double live_now(const RunHistory *run)
{
    return newest(&run->validation, "live.loss");
}
static double live_best(const RunHistory *run)
{
    return least(&run->validation, "live.loss");
}
static double busy_seconds(const RunHistory *run)
{
    return run->busy_seconds > 0 ? run->busy_seconds : NAN;
}
static double data_share(const RunHistory *run)
{
    const Series *wait = series_set_find(&run->metrics, "data_wait_seconds");
    return wait && run->busy_seconds > 0 ? wait->sum / run->busy_seconds : NAN;
}
static double peak_bytes(const RunHistory *run)
{
    return greatest(&run->metrics, "peak_bytes");
}
static double skipped_steps(const RunHistory *run)
{
    return newest(&run->metrics, "skipped_steps");
}
static double passed_over(const RunHistory *run)
{
    return newest(&run->metrics, "rejected");
}

static const struct {
    const char *name;
    double (*value)(const RunHistory *run);
    Format *format;
    Judgement judgement;
} rows[] = {
    {"steps", steps_done, whole, NOT_JUDGED},
    {"loss, mean of the last 100 steps", loss_now, four_digits, LESS_IS_BETTER},
    {"loss, best mean of 100 steps", loss_best, four_digits, LESS_IS_BETTER},
    {"validation loss, EMA, last", ema_now, four_digits, LESS_IS_BETTER},
    {"validation loss, EMA, best", ema_best, four_digits, LESS_IS_BETTER},
    {"validation loss, live, last", live_now, four_digits, LESS_IS_BETTER},
    {"validation loss, live, best", live_best, four_digits, LESS_IS_BETTER},
    {"images per second", run_history_throughput, four_digits, MORE_IS_BETTER},
    {"time in steps", busy_seconds, number_text_lasted, NOT_JUDGED},
    {"waiting for data", data_share, number_text_percent, LESS_IS_BETTER},
    {"memory, peak", peak_bytes, number_text_bytes, LESS_IS_BETTER},
    {"steps skipped", skipped_steps, whole, NOT_JUDGED},
    {"samples passed over", passed_over, whole, NOT_JUDGED},
};
_Static_assert(sizeof rows / sizeof rows[0] <= COMPARE_ROWS_MAX, "room for every row");

/* A row that no run has a value for is left out; the best value is marked where they do not all read the same. */
static void add_row(Comparison *c, size_t r)
{
    double values[COMPARE_RUNS_MAX] = {0};
    int best = -1;
    bool any = false, differ = false;
    NumberText text;
    for (int k = 0; k < c->count; k++) {
        values[k] = rows[r].value(c->runs[k]);
        if (isnan(values[k])) continue;
        any = true;
        if (best < 0 || (rows[r].judgement == MORE_IS_BETTER ? values[k] > values[best] : values[k] < values[best]))
            best = k;
    }
    if (!any) return;
    CompareRow *row = &c->rows[c->row_count++];
    row->name = rows[r].name;
    for (int k = 0; k < c->count; k++) {
        rows[r].format(values[k], row->values[k]);
        differ = differ || (!isnan(values[k]) && strcmp(row->values[k], rows[r].format(values[best], text)) != 0);
    }
    row->best = differ && rows[r].judgement != NOT_JUDGED ? best : -1;
}

/* ---- configs ---- */

static Status add_key(Comparison *c, const char *key)
{
    Status status = STATUS_OK;
    ConfigLine lines[COMPARE_RUNS_MAX];
    bool has[COMPARE_RUNS_MAX] = {false}, differ = false;
    for (int k = 0; k < c->count; k++) {
        has[k] = c->runs[k]->config && config_find(c->runs[k]->config, key, &lines[k]);
        differ = differ || has[k] != has[0] ||
                 (has[k] && (lines[k].value_size != lines[0].value_size ||
                             memcmp(lines[k].value, lines[0].value, lines[0].value_size) != 0));
    }
    if (!differ) return STATUS_OK;
    TRY(mem_grow(&c->keys, &c->key_capacity, c->key_count + 1, sizeof c->keys[0]));
    CompareKey *item = &c->keys[c->key_count];
    memset(item, 0, sizeof *item);
    c->key_count++;
    item->key = strdup(key);
    if (!item->key) FAIL(ERR_MEMORY, "no memory for the keys of the configs");
    for (int k = 0; k < c->count; k++) {
        if (!has[k]) continue;
        item->values[k] = strndup(lines[k].value, lines[k].value_size);
        if (!item->values[k]) FAIL(ERR_MEMORY, "no memory for the keys of the configs");
    }
fail:
    return status;
}

/* Every key once, in the order of the first config that has it; run.dir differs always, and stands above. */
static Status add_keys(Comparison *c)
{
    Status status = STATUS_OK;
    for (int k = 0; k < c->count; k++) {
        ConfigWalk walk;
        ConfigLine line, other;
        if (!c->runs[k]->config) continue;
        config_walk_begin(&walk, c->runs[k]->config);
        while (config_walk_next(&walk, &line)) {
            bool seen = strcmp(line.key, "run.dir") == 0;
            for (int before = 0; before < k && !seen; before++)
                seen = c->runs[before]->config && config_find(c->runs[before]->config, line.key, &other);
            if (!seen) TRY(add_key(c, line.key));
        }
    }
fail:
    return status;
}

/* ---- */

static void name_runs(Comparison *c)
{
    bool alike = false;
    for (int k = 0; k < c->count; k++)
        for (int other = 0; other < k; other++) alike = alike || strcmp(c->runs[k]->name, c->runs[other]->name) == 0;
    for (int k = 0; k < c->count; k++)
        snprintf(c->labels[k], sizeof c->labels[k], "%s", alike ? c->runs[k]->dir.path : c->runs[k]->name);
}

Status comparison_make(const RunHistory *const *runs, int count, Comparison *out)
{
    Status status = STATUS_OK;
    *out = (Comparison){.runs = runs, .count = count};
    if (count < 1 || count > COMPARE_RUNS_MAX)
        FAIL(ERR_USAGE, "%d runs; 1 to %d can be compared", count, COMPARE_RUNS_MAX);
    name_runs(out);
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) add_row(out, r);
    TRY(add_keys(out));
    return STATUS_OK;
fail:
    comparison_free(out);
    return status;
}

void comparison_free(Comparison *comparison)
{
    for (size_t i = 0; i < comparison->key_count; i++) {
        free(comparison->keys[i].key);
        for (int k = 0; k < COMPARE_RUNS_MAX; k++) free(comparison->keys[i].values[k]);
    }
    free(comparison->keys);
    *comparison = (Comparison){0};
}
