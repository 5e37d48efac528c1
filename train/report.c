#include "train/report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/base64.h"
#include "train/config_difference.h"
#include "train/number_text.h"
#include "train/page.h"

enum { PROMPTS_BYTES_MAX = 1 << 16 };

/* ---- what one sees first ---- */

/* The event that tells how the newest start ended; NULL: it goes on, as far as is known. */
static const RunEvent *find_end(const RunHistory *history)
{
    for (int32_t e = history->event_count - 1; e >= 0; e--) {
        const RunEvent *event = &history->events[e];
        if (strcmp(event->kind, "end") == 0 || strcmp(event->kind, "stop") == 0) return event;
        if (strcmp(event->kind, "start") == 0 || strcmp(event->kind, "resume") == 0) return NULL;
    }
    return NULL;
}

static void write_times(Page *page, const RunHistory *history)
{
    NumberText from, to, busy;
    if (history->event_count == 0) return;
    const RunEvent *first = &history->events[0], *last = &history->events[history->event_count - 1];
    page_printf(page, ", %s to %s", number_text_time(first->time, from), number_text_time(last->time, to));
    if (history->busy_seconds > 0) page_printf(page, ", %s in steps", number_text_lasted(history->busy_seconds, busy));
    const RunEvent *end = find_end(history);
    if (end) {
        page_markup(page, strcmp(end->kind, "end") == 0 ? "; ended: " : "; stopped: ");
        page_text(page, end->text);
    }
}

static void write_header(Page *page, const RunHistory *history)
{
    NumberText done;
    char steps[64];
    page_markup(page, "<h1>");
    page_text(page, history->name);
    page_markup(page, "</h1>\n<p>");
    page_printf(page, "%s steps", number_text_count(history->last_step, done));
    if (run_history_config(history, "train.steps", steps, sizeof steps, NULL)) {
        page_markup(page, " of ");
        page_text(page, steps);
    }
    write_times(page, history);
    page_markup(page, "</p>\n");
}

static void write_fact(Page *page, const char *name, const char *value)
{
    page_markup(page, "<div><span>");
    page_text(page, name);
    page_markup(page, "</span><b>");
    page_text(page, value);
    page_markup(page, "</b></div>\n");
}

static void write_best_validation(Page *page, const RunHistory *history)
{
    NumberText text;
    const Series *ema = series_set_find(&history->validation, "ema.loss");
    const Series *live = series_set_find(&history->validation, "live.loss");
    if (ema)
        write_fact(page, "Best validation, EMA", number_text(ema->min, 4, text));
    else if (live)
        write_fact(page, "Best validation", number_text(live->min, 4, text));
}

static void write_facts(Page *page, const RunHistory *history)
{
    NumberText text;
    char fact[96];
    const Series *wait = series_set_find(&history->metrics, "data_wait_seconds");
    const Series *peak = series_set_find(&history->metrics, "peak_bytes");
    const Series *rejected = series_set_find(&history->metrics, "rejected");
    const Series *skipped = series_set_find(&history->metrics, "skipped_steps");
    page_markup(page, "<div class=\"facts\">\n");
    snprintf(fact, sizeof fact, "Loss, last %d steps", RECENT_STEPS);
    write_fact(page, fact, number_text(recent_mean(&history->loss), 4, text));
    write_best_validation(page, history);
    write_fact(page, "Images per second", number_text(run_history_throughput(history), 4, text));
    if (wait && history->busy_seconds > 0)
        write_fact(page, "Waiting for data", number_text_percent(wait->sum / history->busy_seconds, text));
    if (peak) write_fact(page, "Memory, peak", number_text_bytes(peak->max, text));
    if (rejected) write_fact(page, "Samples passed over", number_text_count((int64_t)rejected->last, text));
    if (skipped) write_fact(page, "Steps skipped", number_text_count((int64_t)skipped->last, text));
    page_markup(page, "</div>\n");
}

/* ---- previews ---- */

/* The captions, in the pictures' order: a list of strings that JSON reads as well; what is before a tab is a label. */
static void write_prompts(Page *page, const RunHistory *history)
{
    ConfigLine line;
    JsonDoc *doc = NULL;
    if (!history->config || !config_find(history->config, "preview.prompts", &line)) return;
    if (json_parse(line.value, line.value_size, PROMPTS_BYTES_MAX, &doc) == STATUS_OK) {
        const size_t count = json_count(json_root(doc));
        page_markup(page, "<p>");
        for (size_t i = 0; i < count && json_is_array(json_root(doc)); i++) {
            const char *prompt = json_text(json_item(json_root(doc), i), NULL);
            if (!prompt) continue;
            const char *tab = strchr(prompt, '\t');
            if (i > 0) page_markup(page, " &middot; ");
            page_text(page, tab ? tab + 1 : prompt);
        }
        page_markup(page, "</p>\n");
    }
    json_free(doc);
}

static void write_pictures(Page *page, const RunHistory *history, const ReportPictures *pictures)
{
    NumberText text;
    if (pictures->count == 0) return;
    page_markup(page, "<h2>Previews</h2>\n");
    if (pictures->found > pictures->count)
        page_printf(page, "<p>%d of %lld, spread evenly over the run; all of them are in the folder previews/</p>\n",
                    pictures->count, (long long)pictures->found);
    if (pictures->broken > 0)
        page_printf(page, "<p>%lld could not be read as pictures</p>\n", (long long)pictures->broken);
    write_prompts(page, history);
    page_markup(page, "<div class=\"previews\">\n");
    for (int32_t i = 0; i < pictures->count; i++) {
        const ReportPicture *picture = &pictures->items[i];
        page_printf(page, "<figure><img alt=\"preview of step %lld\" src=\"data:%s;base64,",
                    (long long)picture->name.step, picture->type);
        if (!page->status) page->status = base64_append(&page->out, picture->bytes.data, picture->bytes.size);
        page_printf(page, "\"><figcaption>step %s ", number_text_count(picture->name.step, text));
        page_text(page, picture->name.mark);
        page_markup(page, "</figcaption></figure>\n");
    }
    page_markup(page, "</div>\n");
}

Status report_format(const RunHistory *history, const ReportPictures *pictures, StrBuf *out)
{
    Status status = STATUS_OK;
    Page page = {0};
    page_begin(&page, history->name);
    write_header(&page, history);
    write_facts(&page, history);
    report_charts(&page, history);
    write_pictures(&page, history, pictures);
    report_tables(&page, history);
    page_end(&page);
    TRY(page.status);
    TRY(strbuf_append(out, page.out.data, page.out.size));
fail:
    strbuf_free(&page.out);
    return status;
}
