/* The tables of a run's page: its plan, what happened to it, its config. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "train/number_text.h"
#include "train/page.h"
#include "train/report.h"

/* ---- the plan ---- */

static void write_count(Page *page, const JsonValue *plan, const char *key, const char *name)
{
    int64_t value;
    NumberText text;
    if (json_integer(json_get(plan, key), &value)) page_row(page, name, number_text_count(value, text));
}

static void write_word(Page *page, const JsonValue *plan, const char *key, const char *name)
{
    const char *value = json_text(json_get(plan, key), NULL);
    if (value) page_row(page, name, value);
}

static void write_plan(Page *page, const JsonValue *plan)
{
    page_markup(page, "<div><h2>Plan</h2>\n<table>\n");
    write_count(page, plan, "parameters", "Parameters");
    write_count(page, plan, "ranks", "Ranks");
    write_word(page, plan, "device", "Device");
    write_word(page, plan, "precision", "Precision");
    write_count(page, plan, "resolution", "Pixels a side");
    write_count(page, plan, "global_batch", "Batch, all ranks");
    write_count(page, plan, "micro_batch", "Micro-batch, one rank");
    write_count(page, plan, "schedule_steps", "Steps of the schedule");
    page_markup(page, "</table></div>\n");
}

static double bytes_of(const JsonValue *object, const char *key)
{
    double value;
    return json_is_number(json_get(object, key)) && json_number(json_get(object, key), &value) && value > 0 ? value : 0;
}

/* With a GPU each use has two numbers; the bar is of the memory that is scarcer, the device's. */
static void write_memory(Page *page, const JsonValue *plan)
{
    const JsonValue *uses = json_get(plan, "memory");
    const bool device = bytes_of(plan, "device_memory_total") > 0;
    const char *key = device ? "device_bytes" : "bytes";
    const double total = bytes_of(plan, device ? "device_memory_total" : "memory_total");
    NumberText text;
    if (!json_is_array(uses) || total <= 0) return;
    page_printf(page, "<div><h2>Memory of rank 0, planned%s</h2>\n<table>\n", device ? " on the device" : "");
    for (size_t i = 0; i < json_count(uses); i++) {
        const JsonValue *use = json_item(uses, i);
        const char *name = json_text(json_get(use, "use"), NULL);
        const double bytes = bytes_of(use, key);
        if (!name || bytes <= 0) continue;
        page_markup(page, "<tr><th>");
        page_text(page, name);
        page_printf(page,
                    "</th><td class=\"bar\"><i style=\"width:%.4g%%\"></i></td><td class=\"number\">%s</td></tr>\n",
                    fmin(100, 100 * bytes / total), number_text_bytes(bytes, text));
    }
    page_printf(page, "<tr><th>together</th><td class=\"bar\"></td><td class=\"number\">%s</td></tr>\n</table></div>\n",
                number_text_bytes(total, text));
}

/* ---- events ---- */

/* Events that come by the hundred are told once, with how many and from where to where. */
static bool is_routine(const RunEvent *event)
{
    return strcmp(event->kind, "checkpoint") == 0 || strcmp(event->kind, "validation") == 0 ||
           strcmp(event->kind, "guard") == 0;
}

static void write_event(Page *page, const RunEvent *first, const RunEvent *last, int32_t count)
{
    NumberText time, from, to;
    page_printf(page, "<tr><td class=\"number\">%s", number_text_count(first->step, from));
    if (count > 1) page_printf(page, " to %s", number_text_count(last->step, to));
    page_printf(page, "</td><th>%s</th><td>", number_text_time(last->time, time));
    page_text(page, first->kind);
    if (count > 1) page_printf(page, " &times; %d", count);
    page_markup(page, "</td><td>");
    page_text(page, last->text);
    page_markup(page, "</td></tr>\n");
}

static void write_events(Page *page, const RunHistory *history)
{
    NumberText text;
    if (history->event_count == 0) return;
    page_markup(page, "<h2>Events</h2>\n");
    if (history->event_total > history->event_count)
        page_printf(page, "<p>The newest %d of %s</p>\n", history->event_count,
                    number_text_count(history->event_total, text));
    page_markup(page,
                "<div class=\"scroll\"><table>\n<thead><tr><th class=\"number\">Step</th><th>Time</th><th>Kind</th>"
                "<th>What</th></tr></thead>\n");
    for (int32_t i = 0; i < history->event_count;) {
        const RunEvent *first = &history->events[i];
        int32_t count = 1;
        while (is_routine(first) && i + count < history->event_count && strcmp(first[count].kind, first->kind) == 0)
            count++;
        write_event(page, first, first + count - 1, count);
        i += count;
    }
    page_markup(page, "</table></div>\n");
}

/* ---- */

void report_tables(Page *page, const RunHistory *history)
{
    NumberText text;
    if (history->plan) {
        page_markup(page, "<div class=\"tables\">\n");
        write_plan(page, json_root(history->plan));
        write_memory(page, json_root(history->plan));
        page_markup(page, "</div>\n");
    }
    write_events(page, history);
    if (history->config) {
        page_markup(page, "<h2>Config</h2>\n<details><summary>Every key, as the run was started</summary>\n<pre>");
        page_text(page, history->config);
        page_markup(page, "</pre></details>\n");
    }
    if (run_history_bad_lines(history) > 0)
        page_printf(page, "<p>%s lines of the run's files could not be read, and are not shown.</p>\n",
                    number_text_count(run_history_bad_lines(history), text));
    if (history->metrics.refused + history->validation.refused > 0)
        page_printf(page, "<p>More than %d different numbers a step: the others are not shown.</p>\n", SERIES_MAX);
}
