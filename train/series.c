#include "train/series.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

void series_begin(Series *series, const char *name)
{
    memset(series, 0, sizeof *series);
    strncpy(series->name, name, sizeof series->name - 1);
    series->width = 1;
}

static void merge(SeriesColumn *into, const SeriesColumn *from)
{
    if (from->count > 0) {
        into->min = into->count > 0 ? fmin(into->min, from->min) : from->min;
        into->max = into->count > 0 ? fmax(into->max, from->max) : from->max;
    }
    into->sum += from->sum;
    into->steps += from->steps;
    into->count += from->count;
    into->holes += from->holes;
}

static void widen(Series *series)
{
    for (int32_t c = 0; c < SERIES_COLUMNS; c++) {
        SeriesColumn pair = c % 2 ? series->columns[c / 2] : (SeriesColumn){0};
        merge(&pair, &series->columns[c]);
        series->columns[c / 2] = pair;
    }
    const int32_t half = SERIES_COLUMNS / 2;
    memset(series->columns + half, 0, (size_t)(SERIES_COLUMNS - half) * sizeof series->columns[0]);
    series->used = (series->used + 1) / 2;
    series->width *= 2;
}

void series_add(Series *series, int64_t step, double value)
{
    if (step < 0 || step > SERIES_STEP_MAX) return;
    while (step / series->width >= SERIES_COLUMNS) widen(series);
    const int32_t c = (int32_t)(step / series->width);
    const SeriesColumn one =
        isfinite(value) ? (SeriesColumn){value, value, value, (double)step, 1, 0} : (SeriesColumn){.holes = 1};
    merge(&series->columns[c], &one);
    if (c >= series->used) series->used = c + 1;
    series->holes += one.holes;
    if (!one.count) return;
    series->min = series->count > 0 ? fmin(series->min, value) : value;
    series->max = series->count > 0 ? fmax(series->max, value) : value;
    series->count++;
    series->sum += value;
    series->last = value;
    series->last_step = step;
}

double series_step(const Series *series, int32_t column)
{
    return series->columns[column].steps / (double)series->columns[column].count;
}

double series_mean(const Series *series, int32_t column)
{
    const SeriesColumn *c = &series->columns[column];
    return c->min == c->max ? c->min : c->sum / (double)c->count;
}

void series_smooth(const Series *series, double share, double *out)
{
    const int32_t reach = (int32_t)(share * series->used / 2);
    for (int32_t c = 0; c < series->used; c++) {
        double sum = 0, weight = 0;
        if (series->columns[c].count > 0) {
            const int32_t first = c > reach ? c - reach : 0;
            const int32_t last = c + reach < series->used ? c + reach : series->used - 1;
            for (int32_t k = first; k <= last; k++) {
                const double w = (double)(reach + 1 - abs(k - c));
                sum += w * series->columns[k].sum;
                weight += w * (double)series->columns[k].count;
            }
        }
        out[c] = weight > 0 ? sum / weight : NAN;
    }
}

static Series *find(SeriesSet *set, const char *name)
{
    for (int32_t i = 0; i < set->count; i++) {
        const int32_t k = (set->hint + i) % set->count;
        if (strcmp(set->items[k]->name, name) != 0) continue;
        set->hint = (k + 1) % set->count;
        return set->items[k];
    }
    return NULL;
}

Status series_set_add(SeriesSet *set, const char *name, int64_t step, double value)
{
    Status status = STATUS_OK;
    Series *series = find(set, name);
    if (!series && (set->count == SERIES_MAX || strlen(name) >= SERIES_NAME_MAX)) {
        set->refused++;
        return STATUS_OK;
    }
    if (!series) {
        series = mem_alloc_array(1, sizeof *series);
        if (!series) FAIL(ERR_MEMORY, "no memory for the values of %s", name);
        series_begin(series, name);
        set->items[set->count++] = series;
    }
    series_add(series, step, value);
fail:
    return status;
}

const Series *series_set_find(const SeriesSet *set, const char *name)
{
    for (int32_t i = 0; i < set->count; i++)
        if (strcmp(set->items[i]->name, name) == 0) return set->items[i]->count > 0 ? set->items[i] : NULL;
    return NULL;
}

void series_set_free(SeriesSet *set)
{
    for (int32_t i = 0; i < set->count; i++) free(set->items[i]);
    memset(set, 0, sizeof *set);
}
