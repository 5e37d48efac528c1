/* The curves of a run's page. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train/chart.h"
#include "train/report.h"

/* ---- lines that are found by their names ---- */

static void add_line(ChartSpec *spec, const SeriesSet *set, const char *name, const char *label)
{
    const Series *series = series_set_find(set, name);
    if (!series || spec->count == CHART_LINES_MAX) return;
    spec->lines[spec->count] = (ChartLine){series, label, spec->count};
    spec->count++;
}

/* The part of "prefix.NAME.suffix" that is NAME, into `out`; false: another name. */
static bool part_of(const char *name, const char *prefix, const char *suffix, char out[SERIES_NAME_MAX])
{
    const size_t size = strlen(name), before = strlen(prefix), after = strlen(suffix);
    if (size <= before + after || strncmp(name, prefix, before) != 0 || strcmp(name + size - after, suffix) != 0)
        return false;
    memcpy(out, name + before, size - before - after);
    out[size - before - after] = '\0';
    return true;
}

typedef struct Family {
    char labels[CHART_LINES_MAX][SERIES_NAME_MAX];
} Family;

/* Those whose newest value is greatest, in the order of the file. */
static void add_family(ChartSpec *spec, const SeriesSet *set, const char *prefix, const char *suffix, int most,
                       Family *family)
{
    char label[SERIES_NAME_MAX], other[SERIES_NAME_MAX];
    for (int32_t i = 0; i < set->count && spec->count < CHART_LINES_MAX; i++) {
        const Series *series = set->items[i];
        int greater = 0;
        if (series->count == 0 || !part_of(series->name, prefix, suffix, label)) continue;
        for (int32_t k = 0; k < set->count; k++) {
            const Series *rival = set->items[k];
            if (rival->count == 0 || !part_of(rival->name, prefix, suffix, other)) continue;
            if (rival->last > series->last || (rival->last == series->last && k < i)) greater++;
        }
        if (greater >= most) continue;
        memcpy(family->labels[spec->count], label, sizeof label);
        spec->lines[spec->count] = (ChartLine){series, family->labels[spec->count], spec->count};
        spec->count++;
    }
}

/* ---- the charts ---- */

static ChartSpec begin(const RunHistory *history, const char *id, const char *title, const char *unit)
{
    double last = (double)history->last_step;
    for (int32_t i = 0; i < history->validation.count; i++)
        last = fmax(last, (double)history->validation.items[i]->last_step);
    return (ChartSpec){
        .id = id, .title = title, .unit = unit, .last_step = last, .marks = {history->events, history->event_count}};
}

static void write_loss(Page *page, const RunHistory *history)
{
    ChartSpec spec = begin(history, "loss", "Loss", NULL);
    spec.kind = AXIS_AUTO;
    add_line(&spec, &history->metrics, "loss", "training, thick: mean over 3% of the run");
    chart_write(page, &spec);
}

static void write_validation(Page *page, const RunHistory *history)
{
    ChartSpec spec = begin(history, "validation", "Validation loss", NULL);
    spec.kind = AXIS_AUTO;
    spec.style = CHART_POINTS;
    add_line(&spec, &history->validation, "ema.loss", "EMA");
    add_line(&spec, &history->validation, "live.loss", "live weights");
    chart_write(page, &spec);
}

static int by_timestep(const void *a, const void *b)
{
    const double x = strtod(((const ChartLine *)a)->label, NULL), y = strtod(((const ChartLine *)b)->label, NULL);
    return (x > y) - (x < y);
}

static void write_timesteps(Page *page, const RunHistory *history)
{
    Family family;
    const bool ema = series_set_find(&history->validation, "ema.loss") != NULL;
    ChartSpec spec = begin(history, "timesteps", "Validation loss by timestep", ema ? "EMA" : "live weights");
    spec.kind = AXIS_AUTO;
    spec.style = CHART_POINTS;
    spec.ramp = true;
    add_family(&spec, &history->validation, ema ? "ema.by_timestep." : "live.by_timestep.", "", CHART_LINES_MAX,
               &family);
    qsort(spec.lines, (size_t)spec.count, sizeof spec.lines[0], by_timestep);
    for (int i = 0; i < spec.count; i++)
        spec.lines[i].color = spec.count > 1 ? i * (CHART_COLORS - 1) / (spec.count - 1) : 0;
    chart_write(page, &spec);
}

static void write_one(Page *page, const RunHistory *history, const char *name, const char *title, const char *label,
                      const char *unit, ChartStyle style, AxisKind kind)
{
    ChartSpec spec = begin(history, name, title, unit);
    spec.style = style;
    spec.kind = kind;
    add_line(&spec, &history->metrics, name, label);
    chart_write(page, &spec);
}

static void write_scores(Page *page, const RunHistory *history)
{
    ChartSpec spec = begin(history, "scores", "Spikes", "spreads above what is usual (guard)");
    spec.style = CHART_SMOOTHED;
    add_line(&spec, &history->metrics, "loss_z", "mse");
    add_line(&spec, &history->metrics, "grad_norm_z", "gradient norm");
    chart_write(page, &spec);
}

static void write_seconds(Page *page, const RunHistory *history)
{
    ChartSpec spec = begin(history, "seconds", "Time of a step", "seconds");
    spec.kind = AXIS_FROM_ZERO;
    add_line(&spec, &history->metrics, "step_seconds", "step");
    add_line(&spec, &history->metrics, "data_wait_seconds", "waiting for data");
    add_line(&spec, &history->metrics, "comm_wait_seconds", "waiting for ranks");
    chart_write(page, &spec);
}

static void write_threads(Page *page, const RunHistory *history)
{
    Family family;
    ChartSpec spec = begin(history, "threads", "Decode threads at work", "rank 0");
    spec.style = CHART_TREND;
    spec.kind = AXIS_FROM_ZERO;
    add_family(&spec, &history->metrics, "data.threads.", "", CHART_COLORS, &family);
    chart_write(page, &spec);
}

static void write_sources(Page *page, const RunHistory *history)
{
    Family family;
    ChartSpec spec = begin(history, "sources", "Samples by source", "accepted by rank 0 since it started");
    spec.style = CHART_PLAIN;
    spec.kind = AXIS_FROM_ZERO;
    add_family(&spec, &history->metrics, "data.sources.", ".accepted", CHART_COLORS, &family);
    chart_write(page, &spec);
}

static void write_passed_over(Page *page, const RunHistory *history)
{
    Family family;
    ChartSpec spec = begin(history, "passed-over", "Samples passed over", "by reason, by rank 0 since it started");
    spec.style = CHART_PLAIN;
    spec.kind = AXIS_FROM_ZERO;
    add_family(&spec, &history->metrics, "data.passed_over.", "", CHART_COLORS, &family);
    chart_write(page, &spec);
}

static void write_memory(Page *page, const RunHistory *history)
{
    ChartSpec spec = begin(history, "memory", "Memory", NULL);
    const Series *peak = series_set_find(&history->metrics, "peak_bytes");
    if (!peak) return;
    const bool giga = peak->max >= 1e9;
    spec.unit = giga ? "GB, the most so far, rank 0" : "MB, the most so far, rank 0";
    spec.factor = giga ? 1e-9 : 1e-6;
    spec.style = CHART_PLAIN;
    spec.kind = AXIS_FROM_ZERO;
    add_line(&spec, &history->metrics, "peak_bytes", "peak");
    chart_write(page, &spec);
}

/* What the marks in the charts stand for: of those that occur. */
static void write_marks(Page *page, const RunHistory *history)
{
    static const char *const kinds[][4] = {{"checkpoint", "saved", "M7 9V12", "checkpoint"},
                                           {"resume", "resume", "M7 0V12", "start from a checkpoint"},
                                           {"stage", "stage", "M7 0V12", "stage"},
                                           {"guard", "guard", "M7 0V4", "the guard acted"}};
    page_markup(page, "<div class=\"legend\">");
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        bool occurs = false;
        for (int32_t e = 0; e < history->event_count; e++)
            occurs = occurs || strcmp(history->events[e].kind, kinds[k][0]) == 0;
        if (occurs)
            page_printf(page, "<span><svg viewBox=\"0 0 14 12\"><path class=\"mark %s\" d=\"%s\"/></svg>%s</span>",
                        kinds[k][1], kinds[k][2], kinds[k][3]);
    }
    page_markup(page, "</div>\n");
}

void report_charts(Page *page, const RunHistory *history)
{
    if (history->steps == 0 && history->validation.count == 0) {
        page_markup(page, "<p>No step has been done yet.</p>\n");
        return;
    }
    page_markup(page, "<h2>Learning</h2>\n<div class=\"charts\">\n<div class=\"wide\">");
    write_loss(page, history);
    page_markup(page, "</div>\n");
    write_validation(page, history);
    write_timesteps(page, history);
    write_one(page, history, "grad_norm", "Gradient norm", "before clipping", NULL, CHART_SMOOTHED, AXIS_AUTO);
    write_one(page, history, "vb", "Variational bound", "its part of the loss", NULL, CHART_SMOOTHED, AXIS_AUTO);
    write_scores(page, history);
    write_one(page, history, "lr", "Learning rate", "lr", NULL, CHART_PLAIN, AXIS_FROM_ZERO);
    write_one(page, history, "beta1", "Momentum", "beta1", NULL, CHART_PLAIN, AXIS_LINEAR);
    page_markup(page, "</div>\n");
    write_marks(page, history);
    page_markup(page, "<h2>Speed and data</h2>\n<div class=\"charts\">\n");
    write_one(page, history, "images_per_second", "Throughput", "images per second", "all ranks", CHART_SMOOTHED,
              AXIS_FROM_ZERO);
    write_seconds(page, history);
    write_threads(page, history);
    write_memory(page, history);
    write_sources(page, history);
    write_passed_over(page, history);
    page_markup(page, "</div>\n");
}
