/* A comparison as a page: tables, and the runs' curves over each other. */
#include <math.h>
#include <string.h>

#include "train/chart.h"
#include "train/compare.h"

static void write_head(Page *page, const Comparison *c, const char *name, const char *css)
{
    page_markup(page, "<div class=\"scroll\"><table>\n<thead><tr><th>");
    page_text(page, name);
    page_markup(page, "</th>");
    for (int k = 0; k < c->count; k++) {
        page_printf(page, "<th class=\"%s\"><span class=\"key\"><i class=\"c%d\"></i></span>", css, k % CHART_COLORS);
        page_text(page, c->labels[k]);
        page_markup(page, "</th>");
    }
    page_markup(page, "</tr></thead>\n");
}

static void write_rows(Page *page, const Comparison *c)
{
    write_head(page, c, "", "number");
    for (int r = 0; r < c->row_count; r++) {
        page_markup(page, "<tr><th>");
        page_text(page, c->rows[r].name);
        page_markup(page, "</th>");
        for (int k = 0; k < c->count; k++)
            page_printf(page, "<td class=\"number%s\">%s</td>", c->rows[r].best == k ? " best" : "",
                        c->rows[r].values[k]);
        page_markup(page, "</tr>\n");
    }
    page_markup(page, "</table></div>\n");
}

static void write_keys(Page *page, const Comparison *c)
{
    if (c->count < 2) return;
    page_markup(page, "<h2>Configs</h2>\n");
    if (c->key_count == 0) {
        page_markup(page, "<p>They are equal.</p>\n");
        return;
    }
    write_head(page, c, "keys that differ", "value");
    for (size_t i = 0; i < c->key_count; i++) {
        page_markup(page, "<tr><th>");
        page_text(page, c->keys[i].key);
        page_markup(page, "</th>");
        for (int k = 0; k < c->count; k++) {
            page_markup(page, "<td class=\"value\">");
            page_text(page, c->keys[i].values[k] ? c->keys[i].values[k] : "-");
            page_markup(page, "</td>");
        }
        page_markup(page, "</tr>\n");
    }
    page_markup(page, "</table></div>\n");
}

/* One number of all runs over each other. */
static void write_chart(Page *page, const Comparison *c, bool validation, const char *name, ChartSpec spec)
{
    for (int k = 0; k < c->count; k++) {
        const RunHistory *run = c->runs[k];
        spec.lines[k] =
            (ChartLine){series_set_find(validation ? &run->validation : &run->metrics, name), c->labels[k], k};
        spec.last_step = fmax(spec.last_step, (double)run->last_step);
        for (int32_t i = 0; i < run->validation.count; i++)
            spec.last_step = fmax(spec.last_step, (double)run->validation.items[i]->last_step);
    }
    spec.count = c->count;
    chart_write(page, &spec);
}

static void write_charts(Page *page, const Comparison *c)
{
    page_markup(page, "<h2>Learning</h2>\n<div class=\"charts\">\n<div class=\"wide\">");
    write_chart(page, c, false, "loss", (ChartSpec){.id = "loss", .title = "Loss", .kind = AXIS_AUTO});
    page_markup(page, "</div>\n");
    write_chart(page, c, true, "ema.loss",
                (ChartSpec){.id = "validation-ema",
                            .title = "Validation loss",
                            .unit = "EMA",
                            .style = CHART_POINTS,
                            .kind = AXIS_AUTO});
    write_chart(page, c, true, "live.loss",
                (ChartSpec){.id = "validation-live",
                            .title = "Validation loss",
                            .unit = "live weights",
                            .style = CHART_POINTS,
                            .kind = AXIS_AUTO});
    write_chart(page, c, false, "grad_norm",
                (ChartSpec){.id = "grad_norm", .title = "Gradient norm", .unit = "before clipping", .kind = AXIS_AUTO});
    write_chart(page, c, false, "lr",
                (ChartSpec){.id = "lr", .title = "Learning rate", .style = CHART_PLAIN, .kind = AXIS_FROM_ZERO});
    page_markup(page, "</div>\n<h2>Speed</h2>\n<div class=\"charts\">\n");
    write_chart(
        page, c, false, "images_per_second",
        (ChartSpec){
            .id = "images_per_second", .title = "Throughput", .unit = "images per second", .kind = AXIS_FROM_ZERO});
    write_chart(
        page, c, false, "data_wait_seconds",
        (ChartSpec){
            .id = "data_wait_seconds", .title = "Waiting for data", .unit = "seconds a step", .kind = AXIS_FROM_ZERO});
    page_markup(page, "</div>\n");
}

Status comparison_page(const Comparison *c, StrBuf *out)
{
    Status status = STATUS_OK;
    Page page = {0};
    page_begin(&page, "Runs compared");
    page_markup(&page, "<h1>Runs compared</h1>\n<p>");
    for (int k = 0; k < c->count; k++) {
        if (k > 0) page_markup(&page, ", ");
        page_text(&page, c->labels[k]);
    }
    page_markup(&page, "</p>\n<h2>In numbers</h2>\n");
    write_rows(&page, c);
    write_charts(&page, c);
    write_keys(&page, c);
    page_end(&page);
    TRY(page.status);
    TRY(strbuf_append(out, page.out.data, page.out.size));
fail:
    strbuf_free(&page.out);
    return status;
}
