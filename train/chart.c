#include "train/chart.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "train/number_text.h"

/* Fewer columns than these are drawn as they are: a mean of two values is none. */
enum { SMOOTHED_FROM = 60 };
#define SMOOTHED_SHARE 0.03

typedef struct Chart {
    Page *page;
    const ChartSpec *spec;
    Axis x, y;
    double factor;
} Chart;

static bool is_drawn(const ChartLine *line)
{
    return line->series && line->series->count > 0;
}

static bool is_smoothed(const Chart *chart, const Series *series)
{
    const ChartStyle style = chart->spec->style;
    return (style == CHART_SMOOTHED || style == CHART_TREND) && series->used >= SMOOTHED_FROM;
}

/* Hundredths of a thousandth of the chart: finer than any screen. */
static void point(const Chart *chart, char command, double step, double value)
{
    char x[24], y[24];
    char *const texts[] = {x, y};
    const double places[] = {1000 * axis_place(&chart->x, step), 1000 * (1 - axis_place(&chart->y, value))};
    for (int k = 0; k < 2; k++) {
        snprintf(texts[k], sizeof x, "%.2f", places[k]);
        /* "12.50" is "12.5", "12.00" is "12" */
        char *end = texts[k] + strlen(texts[k]);
        while (end[-1] == '0') *--end = '\0';
        if (end[-1] == '.') *--end = '\0';
    }
    page_printf(chart->page, "%c%s %s", command, x, y);
}

/* ---- lines ---- */

static void begin_path(const Chart *chart, const char *kind, int line, int color)
{
    page_printf(chart->page, "<path class=\"%s c%d\" data-line=\"%d\" data-name=\"", kind, color, line);
    page_text(chart->page, chart->spec->lines[line].series->name);
    page_markup(chart->page, "\" d=\"");
}

/* Every value; where a column is of many, its least and greatest one. */
static void draw_values(const Chart *chart, int line, int color)
{
    const Series *series = chart->spec->lines[line].series;
    bool pen_down = false;
    begin_path(chart, "raw", line, color);
    for (int32_t c = 0; c < series->used; c++) {
        const SeriesColumn *column = &series->columns[c];
        if (column->holes > 0 && column->count == 0) pen_down = false;
        if (column->count == 0) continue;
        const double step = series_step(series, c);
        point(chart, pen_down ? 'L' : 'M', step, column->min * chart->factor);
        if (column->max > column->min) point(chart, 'L', step, column->max * chart->factor);
        pen_down = true;
    }
    page_markup(chart->page, "\"/>");
}

static void draw_line(const Chart *chart, int line, int color, bool smoothed)
{
    const Series *series = chart->spec->lines[line].series;
    double values[SERIES_COLUMNS];
    bool pen_down = false;
    if (smoothed) series_smooth(series, SMOOTHED_SHARE, values);
    begin_path(chart, "line", line, color);
    for (int32_t c = 0; c < series->used; c++) {
        const SeriesColumn *column = &series->columns[c];
        if (column->holes > 0 && column->count == 0) pen_down = false;
        if (column->count == 0) continue;
        point(chart, pen_down ? 'L' : 'M', series_step(series, c),
              chart->factor * (smoothed ? values[c] : series_mean(series, c)));
        pen_down = true;
    }
    page_markup(chart->page, "\"/>");
}

/* Strokes without a length, which round caps make dots of any chart's shape. */
static void draw_dots(const Chart *chart, int line, int color)
{
    const Series *series = chart->spec->lines[line].series;
    page_printf(chart->page, "<path class=\"dots c%d\" d=\"", color);
    for (int32_t c = 0; c < series->used; c++) {
        if (series->columns[c].count == 0) continue;
        point(chart, 'M', series_step(series, c), chart->factor * series_mean(series, c));
        page_markup(chart->page, "h0");
    }
    page_markup(chart->page, "\"/>");
}

static int color_of(const Chart *chart, int line)
{
    return chart->spec->lines[line].color % CHART_COLORS;
}

static void draw_lines(const Chart *chart)
{
    const ChartSpec *spec = chart->spec;
    for (int i = 0; i < spec->count; i++)
        if (is_drawn(&spec->lines[i]) && spec->style == CHART_SMOOTHED && is_smoothed(chart, spec->lines[i].series))
            draw_values(chart, i, color_of(chart, i));
    for (int i = 0; i < spec->count; i++) {
        if (!is_drawn(&spec->lines[i])) continue;
        const Series *series = spec->lines[i].series;
        draw_line(chart, i, color_of(chart, i), is_smoothed(chart, series));
        if (spec->style == CHART_POINTS && series->used > 0 && series->count <= 100)
            draw_dots(chart, i, color_of(chart, i));
        if (series->count == 1 && spec->style != CHART_POINTS) draw_dots(chart, i, color_of(chart, i));
    }
}

/* ---- what is around them ---- */

static void draw_grid(const Chart *chart)
{
    page_markup(chart->page, "<path class=\"grid\" d=\"");
    for (int t = 0; t < chart->y.count; t++)
        page_printf(chart->page, "M0 %.5gH1000", 1000 * (1 - axis_place(&chart->y, chart->y.ticks[t])));
    page_markup(chart->page, "\"/>");
}

typedef struct MarkKind {
    const char *kind;
    const char *css;
    double top, bottom;
} MarkKind;

/* Stages and resumes cross the chart; what happens often is a notch at its edge. */
static const MarkKind mark_kinds[] = {
    {"checkpoint", "saved", 980, 1000},
    {"guard", "guard", 0, 40},
    {"resume", "resume", 0, 1000},
    {"stage", "stage", 0, 1000},
};

static void draw_marks(const Chart *chart, const MarkKind *kind)
{
    const ChartMarks *marks = &chart->spec->marks;
    int last = -10; /* marks closer than these cannot be told apart */
    for (int32_t e = 0; e < marks->count; e++) {
        const RunEvent *event = &marks->events[e];
        const double place = 1000 * axis_place(&chart->x, (double)event->step);
        if (strcmp(event->kind, kind->kind) != 0 || place < 0 || place > 1000) continue;
        const int at = (int)lround(place);
        if (at > last - 2 && at < last + 2) continue;
        last = at;
        page_printf(chart->page, "<path class=\"mark %s\" d=\"M%.5g %gV%g\"><title>step %lld: ", kind->css, place,
                    kind->top, kind->bottom, (long long)event->step);
        page_text(chart->page, event->text);
        page_markup(chart->page, "</title></path>");
    }
}

static void write_labels(const Chart *chart)
{
    NumberText text;
    page_markup(chart->page, "<div class=\"ys\">");
    for (int t = 0; t < chart->y.count; t++)
        page_printf(chart->page, "<span style=\"top:%.5g%%\">%s</span>",
                    100 * (1 - axis_place(&chart->y, chart->y.ticks[t])), number_text(chart->y.ticks[t], 4, text));
    page_markup(chart->page, "</div><div class=\"xs\">");
    for (int t = 0; t < chart->x.count; t++)
        page_printf(chart->page, "<span style=\"left:%.5g%%\">%s</span>",
                    100 * axis_place(&chart->x, chart->x.ticks[t]), number_text(chart->x.ticks[t], 4, text));
    page_markup(chart->page, "</div>");
}

/* With the newest value of each line, which the script replaces by the one under the pointer. */
static void write_caption(const Chart *chart)
{
    const ChartSpec *spec = chart->spec;
    NumberText text;
    page_markup(chart->page, "<figcaption><b>");
    page_text(chart->page, spec->title);
    page_markup(chart->page, "</b>");
    if (spec->unit) {
        page_markup(chart->page, " <small>");
        page_text(chart->page, spec->unit);
        page_markup(chart->page, "</small>");
    }
    page_markup(chart->page, "<span class=\"keys\">");
    for (int i = 0; i < spec->count; i++) {
        double values[SERIES_COLUMNS];
        const Series *series = spec->lines[i].series;
        if (!is_drawn(&spec->lines[i])) continue;
        if (is_smoothed(chart, series)) series_smooth(series, SMOOTHED_SHARE, values);
        int32_t last = series->used - 1;
        while (series->columns[last].count == 0) last--;
        const double value = is_smoothed(chart, series) ? values[last] : series_mean(series, last);
        page_printf(chart->page, "<span class=\"key\"><i class=\"c%d\"></i>", color_of(chart, i));
        page_text(chart->page, spec->lines[i].label);
        page_printf(chart->page, " <output data-line=\"%d\">%s</output></span>", i,
                    number_text(value * chart->factor, 4, text));
    }
    page_markup(chart->page, "</span></figcaption>");
}

/* ---- the whole ---- */

/* The least and the greatest that is drawn of a line. */
static void widen_bounds(const Chart *chart, const Series *series, double *low, double *high)
{
    const bool smoothed = is_smoothed(chart, series), values = smoothed && chart->spec->style == CHART_SMOOTHED;
    double means[SERIES_COLUMNS];
    if (smoothed && !values) series_smooth(series, SMOOTHED_SHARE, means);
    for (int32_t c = 0; c < series->used; c++) {
        const SeriesColumn *column = &series->columns[c];
        if (column->count == 0) continue;
        const double mean = smoothed && !values ? means[c] : series_mean(series, c);
        *low = fmin(*low, chart->factor * (values ? column->min : mean));
        *high = fmax(*high, chart->factor * (values ? column->max : mean));
    }
}

static bool find_bounds(const Chart *chart, double *low, double *high)
{
    *low = INFINITY;
    *high = -INFINITY;
    for (int i = 0; i < chart->spec->count; i++)
        if (is_drawn(&chart->spec->lines[i])) widen_bounds(chart, chart->spec->lines[i].series, low, high);
    return isfinite(*low) && isfinite(*high);
}

void chart_write(Page *page, const ChartSpec *spec)
{
    Chart chart = {.page = page, .spec = spec, .factor = spec->factor != 0 ? spec->factor : 1};
    double low, high;
    if (!find_bounds(&chart, &low, &high)) return;
    axis_exact(&chart.x, spec->first_step, spec->last_step);
    axis_around(&chart.y, low, high, spec->kind);
    page_printf(page, "<figure class=\"chart%s\" id=\"%s\" data-x0=\"%.17g\" data-x1=\"%.17g\" data-y0=\"%.17g\"",
                spec->ramp ? " ramp" : "", spec->id, chart.x.low, chart.x.high, chart.y.low);
    page_printf(page, " data-y1=\"%.17g\" data-log=\"%d\" data-factor=\"%.17g\">\n", chart.y.high, chart.y.log,
                chart.factor);
    write_caption(&chart);
    page_markup(page, "\n<div class=\"plot\"><svg viewBox=\"0 0 1000 1000\" preserveAspectRatio=\"none\" role=\"img\" "
                      "aria-label=\"");
    page_text(page, spec->title);
    page_markup(page, "\">\n");
    draw_grid(&chart);
    for (size_t k = 0; k < sizeof mark_kinds / sizeof mark_kinds[0]; k++) draw_marks(&chart, &mark_kinds[k]);
    page_markup(page, "\n");
    draw_lines(&chart);
    page_markup(page, "\n</svg>");
    write_labels(&chart);
    page_markup(page, "<div class=\"cross\"></div></div></figure>\n");
}
