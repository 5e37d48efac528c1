/* What pages of runs are made of: series of bounded size, axes, texts of numbers, escaping, reading of files that grow,
 * are torn or hostile, previews that are many or large, comparisons; and that the numbers drawn are those of the files.
 * A browser looks at the whole in test_report_browser.sh. */
#include "../base/check.h"
#include "../base/temp_dir.h"

#include <math.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/random.h"
#include "data/png_write.h"
#include "train/axis.h"
#include "train/compare.h"
#include "train/number_text.h"
#include "train/page.h"
#include "train/report.h"
#include "train/report_writer.h"

/* ---- series ---- */

static void test_series_exact(void **state)
{
    (void)state;
    static Series series;
    series_begin(&series, "x");
    for (int64_t step = 1; step < SERIES_COLUMNS; step++) series_add(&series, step, sin((double)step));
    assert_int_equal(series.width, 1);
    assert_int_equal(series.used, SERIES_COLUMNS);
    for (int32_t c = 1; c < series.used; c++) {
        assert_true(series_step(&series, c) == c);
        assert_true(series_mean(&series, c) == sin(c));
    }
}

/* A million steps, with one spike and one dip: both are there, whatever falls together. */
static void test_series_long(void **state)
{
    (void)state;
    static Series series;
    const int64_t steps = 1000000, spike = 654321, dip = 123457;
    int32_t spikes = 0, dips = 0;
    int64_t count = 0;
    double sum = 0;
    series_begin(&series, "x");
    for (int64_t step = 1; step <= steps; step++)
        series_add(&series, step, step == spike ? 1e9 : step == dip ? -1e9 : 1.0);
    assert_int_equal(series.width, 1024);
    assert_int_equal(series.used, 977);
    for (int32_t c = 0; c < series.used; c++) {
        const SeriesColumn *column = &series.columns[c];
        spikes += column->max == 1e9;
        dips += column->min == -1e9;
        count += column->count;
        sum += column->sum;
        assert_true(series_step(&series, c) >= (double)(c * series.width) &&
                    series_step(&series, c) < (double)((c + 1) * series.width));
        if (column->max == 1e9) assert_int_equal(c, spike / series.width);
        if (column->min == -1e9) assert_int_equal(c, dip / series.width);
    }
    assert_int_equal(spikes, 1);
    assert_int_equal(dips, 1);
    assert_int_equal(count, steps);
    assert_true(sum == (double)(steps - 2));
    assert_true(series.min == -1e9 && series.max == 1e9 && series.last == 1.0 && series.last_step == steps);
}

static void test_series_holes_and_order(void **state)
{
    (void)state;
    static Series forward, backward;
    series_begin(&forward, "x");
    series_begin(&backward, "x");
    for (int64_t i = 0; i < 5000; i++) {
        const int64_t j = 4999 - i;
        series_add(&forward, i, i % 7 == 0 ? NAN : (double)(i * i % 101));
        series_add(&backward, j, j % 7 == 0 ? INFINITY : (double)(j * j % 101));
    }
    series_add(&forward, -1, 5);
    series_add(&forward, SERIES_STEP_MAX + 1, 5);
    assert_int_equal(forward.width, backward.width);
    assert_int_equal(forward.holes, 715);
    assert_int_equal(forward.count, 4285);
    assert_memory_equal(forward.columns, backward.columns, sizeof forward.columns);
    series_add(&forward, SERIES_STEP_MAX, 5); /* as far as a run may go */
    assert_int_equal(forward.count, 4286);
    assert_true(forward.used <= SERIES_COLUMNS);
}

static void test_smooth(void **state)
{
    (void)state;
    static Series series;
    static double out[SERIES_COLUMNS];
    series_begin(&series, "x");
    for (int64_t step = 0; step < 500; step++) series_add(&series, step, step == 250 ? NAN : 3.0 + (double)(step % 2));
    series_smooth(&series, 0.1, out);
    for (int32_t c = 1; c < 500; c++)
        if (c != 250) assert_true(fabs(out[c] - 3.5) < 0.05);
    assert_true(isnan(out[250]));
    series_smooth(&series, 0, out);
    for (int32_t c = 0; c < 500; c++)
        if (c != 250) assert_true(out[c] == series_mean(&series, c));
}

/* ---- axes and texts ---- */

static void test_axes(void **state)
{
    (void)state;
    Axis axis;
    axis_around(&axis, 0.3, 97, AXIS_FROM_ZERO);
    assert_true(axis.low == 0 && axis.high == 100 && axis.count == 6 && axis.ticks[1] == 20);
    assert_true(axis_place(&axis, 25) == 0.25);
    axis_around(&axis, 0.02, 0.9, AXIS_AUTO);
    assert_true(axis.log && axis.count >= 4);
    assert_true(axis.low <= 0.02 && axis.high >= 0.9);
    assert_true(fabs(axis_place(&axis, sqrt(axis.low * axis.high)) - 0.5) < 1e-12);
    axis_around(&axis, 2, 9, AXIS_AUTO);
    assert_false(axis.log);
    axis_around(&axis, 1e-9, 1e9, AXIS_AUTO);
    assert_true(axis.log && axis.count >= 5 && axis.count <= AXIS_TICKS_MAX);
    axis_around(&axis, 5, 5, AXIS_LINEAR);
    assert_true(axis.low < 5 && axis.high > 5 && axis.count >= 2);
    axis_around(&axis, 0, 0, AXIS_FROM_ZERO);
    assert_true(axis.low == 0 && axis.high >= 1);
    axis_around(&axis, -3, 4, AXIS_FROM_ZERO);
    assert_true(axis.low <= -3 && axis.high >= 4);
    axis_exact(&axis, 0, 3496);
    assert_true(axis.low == 0 && axis.high == 3496 && axis.count == 4 && axis.ticks[3] == 3000);
    /* Ticks lie inside, ascend, and are few, whatever the bounds. */
    for (int e = -30; e <= 30; e++)
        for (double factor = 1.0001; factor < 1e4; factor *= 1.7)
            for (int kind = AXIS_LINEAR; kind <= AXIS_AUTO; kind++) {
                const double low = 1.37 * pow(10, e), high = low * factor;
                axis_around(&axis, low, high, (AxisKind)kind);
                assert_true(axis.low <= low * (1 + 1e-9) && axis.high >= high * (1 - 1e-9));
                assert_true(axis.count >= 2 && axis.count <= AXIS_TICKS_MAX);
                for (int t = 0; t < axis.count; t++) {
                    const double place = axis_place(&axis, axis.ticks[t]);
                    assert_true(place > -1e-6 && place < 1 + 1e-6);
                    if (t > 0) assert_true(axis.ticks[t] > axis.ticks[t - 1]);
                }
            }
}

static void test_texts(void **state)
{
    (void)state;
    NumberText text;
    static const struct {
        double value;
        int digits;
        const char *text;
    } cases[] = {
        {0, 4, "0"},         {0.00789, 3, "0.00789"},   {1234, 4, "1.234k"},      {1e6, 4, "1M"},     {999999, 3, "1M"},
        {-2500, 4, "-2.5k"}, {0.00001, 3, "1e-5"},      {500000, 4, "500k"},      {1e15, 4, "1000T"}, {NAN, 4, "-"},
        {12.5, 4, "12.5"},   {1223352584, 4, "1.223G"}, {2.5e-300, 3, "2.5e-300"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_string_equal(number_text(cases[i].value, cases[i].digits, text), cases[i].text);
    (void)number_text(-1.7976931348623157e308, 17, text); /* fits */
    assert_string_equal(number_text_count(1223352584, text), "1,223,352,584");
    assert_string_equal(number_text_count(-1000, text), "-1,000");
    assert_string_equal(number_text_count(999, text), "999");
    assert_string_equal(number_text_count(INT64_MIN, text), "-9,223,372,036,854,775,808");
    assert_string_equal(number_text_bytes(329150464, text), "329 MB");
    assert_string_equal(number_text_bytes(999600, text), "1 MB");
    assert_string_equal(number_text_time(1795889040, text), "2026-11-28 18:04 UTC");
    assert_string_equal(number_text_time(-5, text), "-");
    assert_string_equal(number_text_time(1e300, text), "-");
    assert_string_equal(number_text_lasted(93784, text), "1 d 2 h");
    assert_string_equal(number_text_lasted(3725, text), "1 h 2 min");
    assert_string_equal(number_text_lasted(NAN, text), "-");
    assert_string_equal(number_text_percent(0.0131, text), "1.3 %");
    assert_string_equal(number_text_percent(0.42, text), "42 %");
}

static void test_escaping(void **state)
{
    (void)state;
    Page page = {0};
    page_text(&page, "</script><b a='1' c=\"2\">&amp;\xff\x01\xe2\x82\xac\n\xc2\x85");
    assert_ok(page.status);
    assert_string_equal(page.out.data, "&lt;/script&gt;&lt;b a=&#39;1&#39; c=&quot;2&quot;&gt;&amp;amp;\xef\xbf\xbd"
                                       "\xef\xbf\xbd\xe2\x82\xac\n\xef\xbf\xbd");
    strbuf_free(&page.out);
}

/* ---- files that grow ---- */

static char run_path[512];

static const char *in_run(const char *name)
{
    static char paths[4][PATH_MAX];
    static unsigned next;
    char *path = paths[next++ % 4];
    assert_ok(path_join(path, PATH_MAX, run_path, name));
    return path;
}

static void new_run(const char *name)
{
    snprintf(run_path, sizeof run_path, "%s", temp_path(name));
    assert_ok(file_make_dirs(in_run("previews")));
}

static void append(const char *name, const char *text)
{
    FILE *file = fopen(in_run(name), "ab");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
}

static double loss_of(int64_t step)
{
    return 1.0 / (1.0 + 0.01 * (double)step) + 0.05 * sin((double)step * 12.9898);
}

static void add_steps(int64_t from, int64_t to)
{
    StrBuf text = {0};
    for (int64_t step = from; step <= to; step++)
        assert_ok(
            strbuf_printf(&text,
                          "{\"step\": %lld, \"loss\": %.17g, \"grad_norm\": %.17g, \"lr\": 0.001, "
                          "\"images_per_second\": 64.0, \"step_seconds\": 0.5, \"data_wait_seconds\": 0.1, "
                          "\"rejected\": %lld, \"data\": {\"passed_over\": {\"bad_png\": %lld}, \"sources\": "
                          "{\"laion.art\": {\"accepted\": %lld}}}, \"skipped\": false, \"peak_bytes\": 300000000}\n",
                          (long long)step, loss_of(step), 1.0 + 0.5 * sin((double)step), (long long)step / 10,
                          (long long)step / 10, (long long)step * 64));
    append("metrics.jsonl", text.data);
    strbuf_free(&text);
}

static void test_hostile_lines(void **state)
{
    (void)state;
    RunHistory *history;
    new_run("hostile");
    add_steps(1, 3);
    append("metrics.jsonl", "\n{}\n[1, 2]\nnull\n{\"step\": -4, \"loss\": 1}\n{\"step\": 1e300}\n{\"step\": \"5\"}\n"
                            "{\"step\": 2.5}\n{\"step\": 9999999999999}\n{\"step\": 4, \"loss\": }\n\xff\xfe\n");
    char *huge = malloc(3 << 20);
    assert_non_null(huge);
    memset(huge, 'x', 3 << 20);
    huge[(3 << 20) - 2] = '\n';
    huge[(3 << 20) - 1] = '\0';
    append("metrics.jsonl", huge);
    free(huge);
    add_steps(4, 5);
    append("metrics.jsonl", "{\"step\": 6, \"loss\": null, \"stage\": \"</script>\", \"deep\": {\"a\": {\"b\": {\"c\": "
                            "{\"d\": {\"e\": {\"f\": 1}}}}}}}\n{\"step\": 7, \"lo");
    append("validation.jsonl",
           "{\"step\": 2, \"weights\": \"both\", \"loss\": 1.0}\n{\"step\": 2}\n"
           "{\"step\": 2, \"weights\": \"ema\", \"loss\": 0.5, \"by_timestep\": [[1], [], 3, [2, 0.25], "
           "{\"a\": 1}, [\"x\", \"y\"]]}\n");
    append("events.jsonl", "{\"time\": 1.0, \"step\": 1, \"kind\": 5}\n{\"time\": null, \"step\": 1, \"kind\": \"x\"}\n"
                           "{\"time\": 1.0, \"step\": 1, \"kind\": \"start\"}\n");
    assert_ok(run_history_open(run_path, &history));
    assert_ok(run_history_read(history));
    assert_int_equal(history->steps, 6);
    assert_int_equal(history->last_step, 6);
    assert_int_equal(history->metrics_lines.bad, 12);
    assert_int_equal(history->validation_lines.bad, 2);
    assert_int_equal(history->event_lines.bad, 2);
    assert_int_equal(run_history_bad_lines(history), 16);
    const Series *loss = series_set_find(&history->metrics, "loss");
    assert_int_equal(loss->count, 5);
    assert_int_equal(loss->holes, 1);
    assert_null(series_set_find(&history->metrics, "deep.a.b.c.d.e.f"));
    assert_true(series_set_find(&history->validation, "ema.loss")->last == 0.5);
    assert_true(series_set_find(&history->validation, "ema.by_timestep.2")->last == 0.25);

    /* The torn line was not taken; when it is whole it is. */
    append("metrics.jsonl", "ss\": 0.75}\n");
    assert_ok(run_history_read(history));
    assert_int_equal(history->last_step, 7);
    assert_true(series_set_find(&history->metrics, "loss")->last == 0.75);
    assert_int_equal(history->metrics_lines.bad, 12);
    run_history_free(history);
}

/* So many names, and so long ones, that there is no room for. */
static void test_hostile_names(void **state)
{
    (void)state;
    RunHistory *history;
    StrBuf text = {0};
    new_run("names");
    for (int i = 0; i < 1000; i++)
        assert_ok(strbuf_printf(&text, "%s\"name%d%0*d\": 1", i ? ", " : "{\"step\": 1, ", i, i % 2 ? 200 : 1, 0));
    assert_ok(strbuf_printf(&text, "}\n"));
    append("metrics.jsonl", text.data);
    strbuf_free(&text);
    assert_ok(run_history_open(run_path, &history));
    assert_ok(run_history_read(history));
    assert_int_equal(history->metrics.count, SERIES_MAX);
    assert_int_equal(history->metrics.refused, 500 - SERIES_MAX);
    run_history_free(history);
}

static char *page_of(RunHistory *history)
{
    ReportPictures pictures = {0};
    StrBuf page = {0};
    assert_ok(run_history_read(history));
    assert_ok(report_pictures_update(&pictures, history->dir.previews));
    assert_ok(report_format(history, &pictures, &page));
    report_pictures_free(&pictures);
    return page.data;
}

/* Read as it grows or at once, it is the same page. */
static void test_growing_is_the_same(void **state)
{
    (void)state;
    RunHistory *growing, *whole;
    new_run("growing");
    append("config.yaml", "seed: 7\n");
    assert_ok(run_history_open(run_path, &growing));
    for (int64_t step = 0; step < 5000; step += 500) {
        add_steps(step + 1, step + 500);
        append("events.jsonl",
               "{\"time\": 1795889040.5, \"step\": 10, \"kind\": \"checkpoint\", \"text\": \"saved\"}\n");
        append("validation.jsonl", "{\"step\": 400, \"weights\": \"live\", \"loss\": 0.25}\n");
        assert_ok(run_history_read(growing));
    }
    assert_ok(run_history_open(run_path, &whole));
    char *a = page_of(growing), *b = page_of(whole), *again = page_of(whole);
    assert_string_equal(a, b);
    assert_string_equal(b, again);
    assert_true(run_history_throughput(whole) == 64.0);
    free(a);
    free(b);
    free(again);
    run_history_free(whole);

    /* Cut back, as a resume from an earlier checkpoint does, it is read anew. */
    assert_ok(file_write_atomic(in_run("metrics.jsonl"), "{\"step\": 1, \"loss\": 2.0}\n", 25));
    assert_ok(run_history_read(growing));
    assert_int_equal(growing->steps, 1);
    assert_int_equal(growing->event_count, 10);
    run_history_free(growing);

    RunHistory *none;
    assert_ok(run_history_open(temp_path("nothing"), &none));
    assert_fails(run_history_read(none), ERR_IO, "no such folder");
    run_history_free(none);
    new_run("empty");
    assert_ok(run_history_open(run_path, &none));
    assert_fails(run_history_read(none), ERR_IO, "not the folder of a run");
    run_history_free(none);
}

static void test_events_bounded(void **state)
{
    (void)state;
    RunHistory *history;
    StrBuf text = {0};
    new_run("events");
    append("config.yaml", "seed: 7\n");
    for (int i = 0; i < 3 * RUN_EVENTS_MAX; i++)
        assert_ok(strbuf_printf(&text, "{\"time\": %d.0, \"step\": %d, \"kind\": \"guard\", \"text\": \"%0*d\"}\n", i,
                                i, i % 300 + 1, i));
    append("events.jsonl", text.data);
    strbuf_free(&text);
    assert_ok(run_history_open(run_path, &history));
    assert_ok(run_history_read(history));
    assert_int_equal(history->event_total, 3 * RUN_EVENTS_MAX);
    assert_true(history->event_count >= RUN_EVENTS_MAX / 2 && history->event_count <= RUN_EVENTS_MAX);
    for (int32_t i = 1; i < history->event_count; i++)
        assert_int_equal(history->events[i].step, history->events[i - 1].step + 1);
    assert_int_equal(history->events[history->event_count - 1].step, 3 * RUN_EVENTS_MAX - 1);
    run_history_free(history);
}

/* ---- the page ---- */

/* The values of a line, told from its path as page.js does: out[k] is (step, value). Returns how many. */
static int read_path(const char *page, const char *id, const char *kind, double (*out)[2], int most)
{
    char start[64];
    double x0, x1, y0, y1;
    int log_scale, count = 0, used;
    snprintf(start, sizeof start, "id=\"%s\" ", id);
    const char *figure = strstr(page, start);
    assert_non_null(figure);
    assert_int_equal(sscanf(figure + strlen(start),
                            "data-x0=\"%lf\" data-x1=\"%lf\" data-y0=\"%lf\" data-y1=\"%lf\" data-log=\"%d\"", &x0, &x1,
                            &y0, &y1, &log_scale),
                     5);
    snprintf(start, sizeof start, "<path class=\"%s ", kind);
    const char *path = strstr(figure, start);
    assert_non_null(path);
    path = strstr(path, " d=\"");
    assert_non_null(path);
    path += 4;
    double x, y;
    while (count < most && sscanf(path, "%*1[ML]%lf %lf%n", &x, &y, &used) == 2) {
        const double place = 1 - y / 1000;
        out[count][0] = x0 + (x1 - x0) * x / 1000;
        out[count][1] = log_scale ? y0 * pow(y1 / y0, place) : y0 + (y1 - y0) * place;
        count++;
        path += used;
    }
    assert_int_equal(*path, '"');
    return count;
}

static void test_numbers_drawn(void **state)
{
    (void)state;
    RunHistory *history;
    static double points[2000][2];
    new_run("drawn");
    add_steps(1, 800);
    append("validation.jsonl",
           "{\"step\": 0, \"weights\": \"ema\", \"loss\": 1.5}\n{\"step\": 400, \"weights\": \"ema\", "
           "\"loss\": 0.75}\n{\"step\": 800, \"weights\": \"ema\", \"loss\": 0.625}\n");
    assert_ok(run_history_open(run_path, &history));
    char *page = page_of(history);
    assert_int_equal(read_path(page, "loss", "raw", points, 2000), 800);
    for (int i = 0; i < 800; i++) {
        assert_true(fabs(points[i][0] - (i + 1)) < 0.01);
        assert_true(fabs(points[i][1] - loss_of(i + 1)) < 1e-4 * loss_of(i + 1));
    }
    assert_int_equal(read_path(page, "grad_norm", "raw", points, 2000), 800);
    for (int i = 0; i < 800; i++) assert_true(fabs(points[i][1] - (1.0 + 0.5 * sin(i + 1.0))) < 2e-5);
    assert_int_equal(read_path(page, "validation", "line", points, 2000), 3);
    const double losses[] = {1.5, 0.75, 0.625};
    for (int i = 0; i < 3; i++)
        assert_true(fabs(points[i][0] - 400 * i) < 0.01 && fabs(points[i][1] - losses[i]) < 2e-5);
    free(page);

    /* More steps than columns: both ends of each column, and no value outside of what there was. */
    add_steps(801, 4000);
    page = page_of(history);
    const int count = read_path(page, "loss", "raw", points, 2000);
    assert_int_equal(count, 2 * 500 + 1); /* 500 columns of 8 steps (the first has 7), and one of a single step */
    const int64_t width = series_set_find(&history->metrics, "loss")->width;
    assert_int_equal(width, 8);
    for (int64_t c = 0; c <= 4000 / width; c++) {
        double least = INFINITY, most = -INFINITY;
        for (int64_t step = c * width; step < (c + 1) * width; step++) {
            if (step < 1 || step > 4000) continue;
            least = fmin(least, loss_of(step));
            most = fmax(most, loss_of(step));
        }
        if (c == 4000 / width) break; /* a single step: one point */
        assert_true(fabs(points[2 * c][1] - least) < 1e-4 * fabs(least) + 2e-5);
        assert_true(fabs(points[2 * c + 1][1] - most) < 1e-4 * most + 2e-5);
    }
    free(page);
    run_history_free(history);
}

static void test_hostile_page(void **state)
{
    (void)state;
    RunHistory *history;
    static const char evil[] = "</script><script>window.hacked=1</script>";
    new_run("x\" onload=\"hacked=1\" '><script>hacked=1<!--");
    add_steps(1, 10);
    append("config.yaml", "run:\n  dir: \"</pre></script><script>window.hacked=1</script>\"\npreview:\n  prompts: "
                          "[\"en\\t</script><script>window.hacked=1</script>\", \"plain & <u>\"]\n");
    append("events.jsonl", "{\"time\": 1.0, \"step\": 5, \"kind\": \"stage\", \"text\": "
                           "\"</script><script>window.hacked=1</script>\"}\n");
    append("plan.json", "{\"parameters\": \"<u>\", \"device\": \"</script><script>window.hacked=1</script>\", "
                        "\"memory\": [{\"use\": \"<s>\", \"bytes\": 5}, 3], \"memory_total\": 5}");
    append("metrics.jsonl", "{\"step\": 11, \"data\": {\"sources\": {\"</script><script>window.hacked=1</script>\": "
                            "{\"accepted\": 3}}, \"passed_over\": {\"<img src=x onerror=hacked=1>\": 5}}}\n");
    append("previews/step-0000005.png", "\x89PNG\r\n\x1a\n<script>hacked=1</script>");
    append("previews/step-0000006-<u>.png", "\x89PNG\r\n\x1a\n");
    assert_ok(run_history_open(run_path, &history));
    char *page = page_of(history);
    assert_null(strstr(page, evil));
    assert_null(strstr(page, "<u>"));
    assert_null(strstr(page, "<s>"));
    assert_null(strstr(page, "<img src=x"));
    assert_null(strstr(page, "\" onload"));
    /* One script of ours, and nothing after it but the end. */
    const char *script = strstr(page, "<script");
    assert_non_null(script);
    assert_null(strstr(script + 1, "<script"));
    assert_string_equal(strstr(page, "</script"), "</script>\n</html>\n");
    assert_non_null(strstr(page, "&lt;script&gt;window.hacked=1"));
    assert_non_null(strstr(page, "plain &amp; &lt;u&gt;"));
    free(page);
    run_history_free(history);
}

/* ---- previews ---- */

static void test_preview_names(void **state)
{
    (void)state;
    PreviewName name;
    assert_true(preview_name_parse("step-0000500.png", &name));
    assert_true(name.step == 500 && strcmp(name.mark, "") == 0);
    assert_true(preview_name_parse("step-12345678-clean-2.png", &name));
    assert_true(name.step == 12345678 && strcmp(name.mark, "clean-2") == 0);
    static const char *const others[] = {"step-.png",
                                         "step-5.jpg",
                                         "step-5png",
                                         "step-5x.png",
                                         "step--5.png",
                                         "step-5.png.tmp",
                                         "step-5.5.png",
                                         "latest.png",
                                         "step-9999999999999999999.png",
                                         "",
                                         "step-5.png-"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) assert_false(preview_name_parse(others[i], &name));
}

/* Noise, which no encoder makes small. */
static void write_noise(const char *name, int side)
{
    uint8_t *rgb = malloc((size_t)side * (size_t)side * 3);
    assert_non_null(rgb);
    uint32_t state = 12345;
    for (size_t i = 0; i < (size_t)side * (size_t)side * 3; i++) {
        state = state * 1664525 + 1013904223;
        rgb[i] = (uint8_t)(state >> 24);
    }
    assert_ok(png_write_rgb(in_run(name), side, side, rgb, NULL, NULL, 0));
    free(rgb);
}

static void test_pictures(void **state)
{
    (void)state;
    ReportPictures pictures = {0};
    char name[64];
    new_run("pictures");
    write_noise("previews/step-0000010.png", 600);
    write_noise("previews/step-0000020.png", 16);
    append("previews/step-0000030.png", "no picture");
    append("previews/notes.txt", "x");
    assert_ok(report_pictures_update(&pictures, in_run("previews")));
    assert_int_equal(pictures.found, 3);
    assert_int_equal(pictures.count, 2);
    assert_int_equal(pictures.broken, 1);
    assert_string_equal(pictures.items[0].type, "image/webp");
    assert_true(pictures.items[0].bytes.size <= REPORT_PICTURE_BYTES && pictures.items[0].bytes.size > 1000);
    assert_memory_equal(pictures.items[0].bytes.data, "RIFF", 4);
    assert_string_equal(pictures.items[1].type, "image/png");

    /* Of many, the first, the last, and those between at equal distances. */
    for (int i = 4; i <= 100; i++) {
        snprintf(name, sizeof name, "previews/step-%07d.png", 10 * i);
        write_noise(name, 4);
    }
    const char *kept = pictures.items[0].bytes.data;
    assert_ok(report_pictures_update(&pictures, in_run("previews")));
    assert_int_equal(pictures.found, 100);
    assert_int_equal(pictures.count, REPORT_PICTURES_MAX);
    assert_int_equal(pictures.items[0].name.step, 10);
    assert_ptr_equal(pictures.items[0].bytes.data, kept); /* not made again */
    assert_int_equal(pictures.items[REPORT_PICTURES_MAX - 1].name.step, 1000);
    for (int i = 1; i < pictures.count; i++) {
        const int64_t gap = pictures.items[i].name.step - pictures.items[i - 1].name.step;
        assert_true(gap == 40 || gap == 50);
    }
    report_pictures_free(&pictures);
    assert_ok(report_pictures_update(&pictures, in_run("none")));
    assert_int_equal(pictures.found, 0);
    report_pictures_free(&pictures);
}

/* ---- comparisons ---- */

static void test_compare(void **state)
{
    (void)state;
    RunHistory *runs[2];
    Comparison comparison;
    StrBuf text = {0}, page = {0};
    new_run("one");
    add_steps(1, 300);
    append("config.yaml", "seed: 7\nrun:\n  dir: a\ntrain:\n  steps: 300\noptim:\n  max_lr: 0.001\n");
    assert_ok(run_history_open(run_path, &runs[0]));
    new_run("two");
    add_steps(1, 200);
    append("validation.jsonl", "{\"step\": 200, \"weights\": \"ema\", \"loss\": 0.5}\n");
    append("config.yaml", "seed: 7\nrun:\n  dir: b\ntrain:\n  steps: 200\noptim:\n  max_lr: 0.001\nnew:\n  key: <u>\n");
    assert_ok(run_history_open(run_path, &runs[1]));
    for (int k = 0; k < 2; k++) assert_ok(run_history_read(runs[k]));
    assert_ok(comparison_make((const RunHistory *const *)runs, 2, &comparison));
    assert_int_equal(comparison.key_count, 2);
    assert_string_equal(comparison.keys[0].key, "train.steps");
    assert_string_equal(comparison.keys[0].values[1], "200");
    assert_string_equal(comparison.keys[1].key, "new.key");
    assert_null(comparison.keys[1].values[0]);
    double last = 0, best = INFINITY;
    for (int64_t end = RECENT_STEPS; end <= 300; end++) {
        double sum = 0;
        for (int64_t step = end - RECENT_STEPS + 1; step <= end; step++) sum += loss_of(step);
        last = sum / RECENT_STEPS;
        best = fmin(best, last);
    }
    NumberText want;
    for (int r = 0; r < comparison.row_count; r++) {
        const CompareRow *row = &comparison.rows[r];
        if (strcmp(row->name, "steps") == 0) assert_string_equal(row->values[0], "300");
        if (strstr(row->name, "last 100")) assert_string_equal(row->values[0], number_text(last, 4, want));
        if (strstr(row->name, "best mean")) {
            assert_string_equal(row->values[0], number_text(best, 4, want));
            assert_int_equal(row->best, 0);
        }
        if (strstr(row->name, "EMA, best")) {
            assert_string_equal(row->values[0], "-");
            assert_string_equal(row->values[1], "0.5");
            assert_int_equal(row->best, -1); /* alone */
        }
        if (strstr(row->name, "images")) assert_int_equal(row->best, -1); /* alike */
        assert_null(strstr(row->name, "live"));
    }
    assert_ok(comparison_print(&comparison, &text));
    assert_non_null(strstr(text.data, "train.steps"));
    assert_non_null(strstr(text.data, "one"));
    assert_ok(comparison_page(&comparison, &page));
    assert_null(strstr(page.data, "<u>"));
    static double points[2000][2];
    assert_int_equal(read_path(page.data, "loss", "raw", points, 2000), 300);
    assert_true(fabs(points[299][1] - loss_of(300)) < 1e-4 * loss_of(300) + 2e-5);
    comparison_free(&comparison);
    strbuf_free(&text);
    strbuf_free(&page);
    for (int k = 0; k < 2; k++) run_history_free(runs[k]);
}

/* Beside the run, and once more at its end. */
static void test_writer(void **state)
{
    (void)state;
    ReportWriter *writer;
    new_run("writer");
    append("config.yaml", "seed: 7\n");
    assert_ok(report_writer_open(run_path, &writer));
    for (int64_t step = 0; step < 200; step += 20) {
        add_steps(step + 1, step + 20);
        report_writer_begin(writer);
    }
    report_writer_finish(writer);
    report_writer_free(writer);
    char *page, *want;
    size_t size;
    RunHistory *history;
    assert_ok(file_read(in_run("report.html"), 64 << 20, &page, &size));
    assert_ok(run_history_open(run_path, &history));
    want = page_of(history);
    assert_string_equal(page, want);
    free(page);
    free(want);
    run_history_free(history);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_series_exact),
        cmocka_unit_test(test_series_long),
        cmocka_unit_test(test_series_holes_and_order),
        cmocka_unit_test(test_smooth),
        cmocka_unit_test(test_axes),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_escaping),
        cmocka_unit_test(test_hostile_lines),
        cmocka_unit_test(test_hostile_names),
        cmocka_unit_test(test_growing_is_the_same),
        cmocka_unit_test(test_events_bounded),
        cmocka_unit_test(test_numbers_drawn),
        cmocka_unit_test(test_hostile_page),
        cmocka_unit_test(test_preview_names),
        cmocka_unit_test(test_pictures),
        cmocka_unit_test(test_compare),
        cmocka_unit_test(test_writer),
    };
    return cmocka_run_group_tests(tests, temp_dir_setup, temp_dir_teardown);
}
