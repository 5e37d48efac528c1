/* The statistics: known counts of made shards, whatever the number of threads. */
#include "shards.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "data/data_stats.h"
#include "data/picture_size.h"

enum { SHARDS = 5, SAMPLES = 40 };

/* Sample n of all: fields that repeat with periods of 2, 4, 5, ... */
static void add_sample(StrBuf *tar, int n, const StrBuf *png, const StrBuf *jpeg)
{
    static const char *const languages[] = {"en", "ru", "zh-CN", "klingon", "de"};
    char name[64], json[500];
    const StrBuf *picture = n % 4 == 1 ? jpeg : png;
    StrBuf text = {0};
    snprintf(
        json, sizeof json,
        "\"status\": \"%s\", \"pwatermark\": %s, \"original_width\": %d, \"original_height\": 30, \"LANGUAGE\": \"%s\"",
        n % 10 == 9 ? "failed_to_download" : "success",
        n % 4 == 0   ? "0.9"
        : n % 4 == 2 ? "NaN"
                     : "\"0.1\"",
        n % 5 == 0 ? 10 : 60, languages[n % 5]);
    assert_ok(strbuf_printf(&text, "{%s%s}", json, n % 20 == 19 ? "" : ", \"caption\": \"abcdef\""));
    if (n % 40 == 7) text.size = 10; /* broken */
    snprintf(name, sizeof name, "%04d.json", n);
    tar_member(tar, name, text.data, text.size);
    if (n % 40 != 13) {
        snprintf(name, sizeof name, "%04d.jpg", n);
        tar_member(tar, name, picture->data, n % 40 == 21 ? 20 : picture->size);
    }
    strbuf_free(&text);
}

static void make_stats_shards(const char *folder)
{
    StrBuf png = {0}, jpeg = {0};
    make_png(&png, 20, 16, 1);
    make_jpeg(&jpeg, 24, 24, 1);
    for (int s = 0; s < SHARDS; s++) {
        StrBuf tar = {0};
        char name[64];
        for (int i = 0; i < SAMPLES; i++) add_sample(&tar, s * SAMPLES + i, &png, &jpeg);
        tar_end(&tar);
        snprintf(name, sizeof name, "s-%d.tar", s);
        write_file(in_folder(folder, name), tar.data, tar.size);
        strbuf_free(&tar);
    }
    strbuf_free(&png);
    strbuf_free(&jpeg);
}

static Config *stats_config(DataConfig *data, const char *folder, const char *more)
{
    return parse_data_config(
        data,
        "sources:\n  - {name: a, shards: [\"%s/s-{0..3}.tar\"], weight: 3}\n"
        "  - {name: b, shards: [\"%s/s-4.tar\", \"%s/gone.tar\"], where: [\"language in [en, ru]\"]}\n"
        "filter: {watermark_max: 0.5, similarity_min: -1, min_side: 16, where: [\"aspect <= 2.5\"]%s}\n"
        "write_index: false\ndecode_threads: 1\n",
        folder, folder, folder, more);
}

static DataStats *collect(const DataConfig *data, int threads, int64_t samples)
{
    DataStats *stats;
    assert_ok(
        data_stats_collect(data, &(StatsOptions){.resolution = 64, .threads = threads, .samples = samples}, &stats));
    return stats;
}

static void check_filter(const StatsSource *source, int i, const char *text, int64_t alone, int64_t after,
                         int64_t missing)
{
    const StatsFilter *filter = &source->filters[i];
    assert_true(i < source->filter_count);
    assert_string_equal(filter->text, text);
    if (filter->alone != alone || filter->after != after || filter->missing != missing)
        fail_msg("%s: alone %lld, after %lld, missing %lld", text, (long long)filter->alone, (long long)filter->after,
                 (long long)filter->missing);
}

/* What a plain loop over the same numbers counts. */
typedef struct Expected {
    int64_t reasons[SAMPLE_REASON_COUNT], alone[5], after[5], missing[5], fields, languages[5];
} Expected;

static SampleReason expect_sample(int n, bool own, bool drop, Expected *e)
{
    bool wide = n % 5 != 0, unknown = n % 4 == 2;
    bool out[5] = {n % 10 == 9, n % 4 == 0 || (unknown && drop), !wide, false, own && n % 5 > 1};
    static const SampleReason reasons[] = {SAMPLE_NOT_DOWNLOADED, SAMPLE_WATERMARK, SAMPLE_SMALL, SAMPLE_WHERE,
                                           SAMPLE_WHERE};
    SampleReason reason = SAMPLE_ACCEPTED;
    if (n % 40 == 7) return SAMPLE_BAD_JSON;
    out[3] = !wide; /* 30 / 10 */
    e->fields++;
    e->languages[n % 5]++;
    e->missing[1] += unknown;
    for (int f = 0; f < 5; f++) {
        e->alone[f] += out[f];
        if (!out[f] || reason) continue;
        reason = f == 1 && unknown ? SAMPLE_MISSING_FIELD : reasons[f];
        e->after[f]++;
    }
    if (reason) return reason;
    if (n % 20 == 19) return SAMPLE_NO_CAPTION;
    if (n % 40 == 13) return SAMPLE_NO_PICTURE;
    return n % 40 == 21 ? SAMPLE_BAD_JPEG : SAMPLE_ACCEPTED; /* 21 % 4 == 1: a JPEG */
}

static void check_source(const StatsSource *source, int first, int end, bool own, bool drop)
{
    static const char *const texts[] = {"downloaded", "watermark < 0.5", "side >= 16", "aspect <= 2.5",
                                        "language in [en, ru]"};
    Expected e = {0};
    for (int n = first; n < end; n++) e.reasons[expect_sample(n, own, drop, &e)]++;
    for (int r = 0; r < SHARD_EMPTY; r++)
        if (source->counts.counts[r] != e.reasons[r])
            fail_msg("%s: %s is %lld, not %lld", source->name, sample_reason_name((SampleReason)r),
                     (long long)source->counts.counts[r], (long long)e.reasons[r]);
    assert_int_equal(source->filter_count, own ? 5 : 4);
    for (int f = 0; f < source->filter_count; f++)
        check_filter(source, f, texts[f], e.alone[f], e.after[f], e.missing[f]);
}

static void test_counts(void **state)
{
    const char *folder = *state;
    DataConfig data;
    Config *config = stats_config(&data, folder, "");
    DataStats *stats = collect(&data, 2, 0);
    assert_int_equal(stats->source_count, 2);
    check_source(&stats->sources[0], 0, 160, false, false);
    check_source(&stats->sources[1], 160, 200, true, false);
    assert_int_equal(stats->sources[0].shards, 4);
    assert_int_equal(stats->sources[0].available, 160);
    assert_true(stats->sources[0].share == 0.75);
    assert_int_equal(stats->counts.counts[SHARD_BROKEN], 1); /* gone.tar */
    assert_int_equal(bad_samples_seen(&stats->counts), 200);
    assert_int_equal(stats->with_fields, 195);
    const StatsHistogram *h = &stats->histograms[STATS_WATERMARK];
    assert_int_equal(h->missing[0], 50);
    assert_int_equal(h->bins[0][3], 95);  /* 0.1 to 0.15: all that are odd but the five broken ones */
    assert_int_equal(h->bins[0][19], 50); /* 0.9 to 0.95 */
    assert_int_equal(h->bins[1][19], 0);
    h = &stats->histograms[STATS_CAPTION_LENGTH];
    assert_int_equal(h->missing[0], 10);
    assert_int_equal(h->bins[0][3], 185); /* 5 to 10 */
    int64_t codes[5] = {0};
    char name[8];
    for (int i = 0; i < STATS_LANGUAGES; i++) {
        static const char *const names[] = {"en", "ru", "zh", "other", "de"};
        stats_language_name(i, name);
        for (int k = 0; k < 5; k++)
            if (strcmp(name, names[k]) == 0) codes[k] = stats->languages[0][i];
    }
    for (int k = 0; k < 5; k++) assert_int_equal(codes[k], k == 2 ? 35 : 40); /* 7 mod 40 is 2 mod 5 */
    assert_int_equal(stats->pictures[PICTURE_UNKNOWN], 0);
    assert_true(stats->pictures[PICTURE_PNG] > 0 && stats->pictures[PICTURE_JPEG] > 0);
    data_stats_free(stats);
    config_free(config);

    config = stats_config(&data, folder, ", missing: error"); /* nothing stops here */
    stats = collect(&data, 1, 0);
    check_source(&stats->sources[0], 0, 160, false, true);
    check_source(&stats->sources[1], 160, 200, true, true);
    data_stats_free(stats);
    config_free(config);
}

static void test_threads(void **state)
{
    const char *folder = *state;
    DataConfig data;
    StrBuf one = {0}, four = {0}, shown = {0}, shown_four = {0};
    Config *config = stats_config(&data, folder, "");
    for (int64_t samples = 0; samples <= 60; samples += 30) {
        DataStats *a = collect(&data, 1, samples), *b = collect(&data, 4, samples);
        one.size = four.size = shown.size = shown_four.size = 0;
        assert_ok(data_stats_write_json(a, &one));
        assert_ok(data_stats_write_json(b, &four));
        assert_ok(data_stats_print(a, &shown));
        assert_ok(data_stats_print(b, &shown_four));
        assert_string_equal(one.data, four.data);
        assert_string_equal(shown.data, shown_four.data);
        int64_t first = samples ? samples : 160, second = samples && samples < 40 ? samples : 40;
        assert_int_equal(bad_samples_seen(&a->sources[0].counts), first);
        assert_int_equal(bad_samples_seen(&a->sources[1].counts), second);
        JsonDoc *doc;
        int64_t value;
        assert_ok(json_parse(one.data, one.size, 1 << 20, &doc));
        assert_true(json_integer(json_get(json_root(doc), "looked_at"), &value) && value == first + second);
        json_free(doc);
        data_stats_free(a);
        data_stats_free(b);
    }
    assert_non_null(strstr(shown.data, "broken_shard"));
    assert_non_null(strstr(shown.data, "watermark < 0.5"));
    strbuf_free(&one);
    strbuf_free(&four);
    strbuf_free(&shown);
    strbuf_free(&shown_four);
    config_free(config);
}

/* ---- headers of pictures ---- */

static void check_size(const StrBuf *picture, int64_t width, int64_t height, size_t needed)
{
    int64_t w, h;
    for (size_t size = 12; size <= picture->size && size < 4096; size++) {
        uint8_t *exact = malloc(size); /* so that a sanitizer sees a read behind the end */
        assert_non_null(exact);
        memcpy(exact, picture->data, size);
        Status status = picture_read_size(exact, size, &w, &h);
        free(exact);
        if (status == STATUS_OK) {
            assert_int_equal(w, width);
            assert_int_equal(h, height);
            if (needed) assert_int_equal(size, needed);
            return;
        }
        assert_int_equal(status, STATUS_END);
    }
    fail_msg("no size");
}

static void test_sizes(void **state)
{
    (void)state;
    StrBuf png = {0}, jpeg = {0}, webp = {0};
    int64_t w, h;
    make_png(&png, 20, 16, 1);
    make_jpeg(&jpeg, 300, 7, 1);
    make_webp(&webp, 5, 900, 1);
    check_size(&png, 20, 16, 24);
    check_size(&jpeg, 300, 7, 0);
    check_size(&webp, 5, 900, 0);
    assert_int_equal(picture_read_size((const uint8_t *)"GIF89a", 6, &w, &h), ERR_FORMAT);
    assert_int_equal(picture_read_size((const uint8_t *)"\xff\xd8\xff\xd9\0\0\0\0", 8, &w, &h), ERR_FORMAT);
    assert_int_equal(picture_read_size((const uint8_t *)"\xff\xd8\xff\xe0\0\2\1\1", 8, &w, &h), STATUS_END);
    assert_int_equal(picture_read_size((const uint8_t *)"\xff\xd8\xff\xe0\0\1\1\1", 8, &w, &h), STATUS_END);
    assert_int_equal(picture_read_size((const uint8_t *)"\xff\xd8\xff\xe0\xff\xff\1\1", 8, &w, &h), STATUS_END);
    assert_int_equal(
        picture_read_size((const uint8_t *)"\xff\xd8\xff\xe0\0\1xx\xff\xff\xd0\xff\xc2\0\x0b\x8\0\3\1\2", 21, &w, &h),
        STATUS_OK); /* as libjpeg takes it: a segment of 1 byte, bytes between segments, fill, RST0 */
    assert_true(w == 258 && h == 3);
    memset(png.data + 16, 0, 4);
    assert_int_equal(picture_read_size((const uint8_t *)png.data, png.size, &w, &h), ERR_FORMAT);
    strbuf_free(&png);
    strbuf_free(&jpeg);
    strbuf_free(&webp);
}

static char shards_folder[512];

static int set_up(void **state)
{
    make_folder(shards_folder);
    make_stats_shards(shards_folder);
    *state = shards_folder;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    remove_folder(shards_folder);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_counts), cmocka_unit_test(test_threads),
                                       cmocka_unit_test(test_sizes)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
