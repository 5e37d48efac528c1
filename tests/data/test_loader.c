/* The loader over real shards: the same samples for any number of ranks and threads and after any resume; what a batch
 * holds; broken samples and shards. */
#include "shards.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>

#include "base/file.h"
#include "base/log.h"
#include "data/loader.h"
#include "data/png_write.h"

#define MODELS TEST_SOURCE_DIR "/data/tokenizers/"

static char folder[512];

static int set_up(void **state)
{
    (void)state;
    log_configure(LOG_ERROR, 0, 1);
    make_folder(folder);
    make_shards(folder, "a", 5, 31);
    make_shards(folder, "b", 3, 20);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    remove_folder(folder);
    return 0;
}

/* Two sources, no filter on size, `more` keys besides. */
static Config *two_sources(DataConfig *data, const char *more)
{
    return parse_data_config(data,
                             "sources:\n"
                             "  - {name: a, shards: ['%s/a-{000..004}.tar'], weight: 3}\n"
                             "  - {name: b, shards: ['%s/b-*.tar'], weight: 1}\n"
                             "lanes: 12\nfilter: {min_side: 0}\n%s",
                             folder, folder, more);
}

static LoaderOptions options_for(int64_t global_batch, int rank, int world)
{
    return (LoaderOptions){.seed = 5, .resolution = 8, .global_batch = global_batch, .rank = rank, .world = world};
}

/* What all ranks of a world serve: one text per sample, in global order, and the merged cursor at the end. */
typedef struct Served {
    char **rows;
    size_t count;
    Cursor *cursor;
} Served;

static void served_free(Served *served)
{
    for (size_t i = 0; i < served->count; i++) free(served->rows[i]);
    free(served->rows);
    cursor_free(served->cursor);
}

static double sum_of(const uint8_t *values, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += values[i] * (double)(i % 97 + 1);
    return sum;
}

static Served serve(const DataConfig *data, int64_t global_batch, int world, int64_t first_step, int64_t steps,
                    const Cursor *start)
{
    Served served = {.count = (size_t)(global_batch * steps)};
    served.rows = calloc(served.count, sizeof served.rows[0]);
    int64_t base = start ? start->next_index : first_step * global_batch;
    for (int rank = 0; rank < world; rank++) {
        Loader *loader;
        LoaderOptions options = options_for(global_batch, rank, world);
        options.first_step = first_step;
        options.start = start;
        assert_ok(loader_open(data, &options, &loader));
        for (int64_t s = 0; s < steps; s++) {
            const Batch *b;
            assert_ok(loader_next(loader, &b));
            assert_int_equal(b->step, first_step + s);
            assert_int_equal(b->count, global_batch / world);
            for (int32_t k = 0; k < b->count; k++) {
                assert_int_equal(b->index[k] % world, rank);
                size_t at = (size_t)(b->index[k] - base);
                assert_true(at < served.count && at >= (size_t)(s * global_batch));
                assert_null(served.rows[at]);
                if (asprintf(&served.rows[at], "%lld %s %d|%s|%s|%d|%.6f", (long long)b->index[k], b->keys[k],
                             b->sources[k], b->captions[k], b->languages[k], b->dropped[k],
                             sum_of(b->pixels[k], 192)) < 0)
                    fail();
            }
            if (s == steps - 1) {
                if (!served.cursor) assert_ok(cursor_clone(b->cursor, &served.cursor));
                assert_ok(cursor_merge(served.cursor, b->cursor, rank, world));
            }
            loader_release(loader, b);
        }
        loader_close(loader);
    }
    for (size_t i = 0; i < served.count; i++) assert_non_null(served.rows[i]);
    return served;
}

static void expect_rows(const Served *got, char **wanted, size_t count)
{
    assert_int_equal(got->count, count);
    for (size_t i = 0; i < count; i++) assert_string_equal(got->rows[i], wanted[i]);
}

static void test_ranks_and_threads(void **state)
{
    (void)state;
    DataConfig data;
    Config *config = two_sources(&data, "decode_threads: 3\n");
    Served one = serve(&data, 24, 1, 0, 20, NULL);
    const int worlds[] = {1, 2, 3, 4, 12};
    const int64_t threads[] = {1, 4, 2, 1, 1};
    for (int i = 0; i < 5; i++) {
        data.decode_threads = threads[i];
        data.prefetch_batches = i + 1;
        Served many = serve(&data, 24, worlds[i], 0, 20, NULL);
        expect_rows(&many, one.rows, one.count);
        assert_int_equal(many.cursor->next_index, one.cursor->next_index);
        assert_memory_equal(many.cursor->positions, one.cursor->positions, 24 * sizeof(LanePosition));
        served_free(&many);
    }
    served_free(&one);
    config_free(config);
}

/* N steps, the cursor through its text, then more steps with other numbers of ranks and another global batch. */
static void test_resume(void **state)
{
    (void)state;
    DataConfig data;
    Config *config = two_sources(&data, "decode_threads: 2\n");
    Served all = serve(&data, 12, 1, 0, 40, NULL);
    const int worlds[][2] = {{1, 1}, {2, 4}, {3, 1}, {4, 6}, {1, 12}};
    const int64_t stops[] = {1, 7, 13, 26, 33};
    for (int i = 0; i < 5; i++) {
        StrBuf text = {0};
        Cursor *cursor;
        Served before = serve(&data, 12, worlds[i][0], 0, stops[i], NULL);
        expect_rows(&before, all.rows, (size_t)stops[i] * 12);
        assert_ok(cursor_save(before.cursor, &text));
        assert_ok(cursor_load(text.data, text.size, &cursor));
        Served after = serve(&data, 12, worlds[i][1], stops[i], 40 - stops[i], cursor);
        expect_rows(&after, all.rows + stops[i] * 12, (size_t)(40 - stops[i]) * 12);
        assert_memory_equal(after.cursor->positions, all.cursor->positions, 24 * sizeof(LanePosition));
        Served wider = serve(&data, 24, 2, stops[i], 3, cursor); /* index goes on where it was */
        expect_rows(&wider, all.rows + stops[i] * 12, 72);
        served_free(&wider);
        served_free(&before);
        served_free(&after);
        cursor_free(cursor);
        strbuf_free(&text);
    }
    served_free(&all);
    config_free(config);
}

static void test_resume_refused(void **state)
{
    (void)state;
    DataConfig data;
    Config *config = two_sources(&data, "");
    Loader *loader;
    Served some = serve(&data, 12, 1, 0, 2, NULL);
    LoaderOptions options = options_for(12, 0, 1);
    options.start = some.cursor;
    options.seed = 6;
    assert_int_equal(loader_open(&data, &options, &loader), ERR_MISMATCH);
    check_message("seed");
    options.seed = 5;
    data.lanes = 6;
    assert_int_equal(loader_open(&data, &options, &loader), ERR_MISMATCH);
    check_message("lanes");
    data.lanes = 12;
    some.cursor->sources[1].samples++;
    assert_int_equal(loader_open(&data, &options, &loader), ERR_MISMATCH);
    check_message("source b has changed");
    strcpy(some.cursor->sources[1].name, "c"); /* b is new now and starts at its beginning */
    assert_ok(loader_open(&data, &options, &loader));
    loader_close(loader);
    served_free(&some);
    config_free(config);
}

/* Every sample of a single source once an epoch: 155 samples in 5 lanes, 155 = 5 x 31. */
static void test_epochs(void **state)
{
    (void)state;
    DataConfig data;
    Config *config = parse_data_config(
        &data,
        "sources: [{name: a, shards: ['%s/a-*.tar']}]\nlanes: 1\nfilter: {min_side: 0}\ncaption_language: first\n",
        folder);
    Loader *loader;
    LoaderOptions options = options_for(31, 0, 1);
    int seen[5][31] = {{0}};
    assert_ok(loader_open(&data, &options, &loader));
    assert_int_equal(loader_source_samples(loader, 0), 155);
    for (int epoch = 1; epoch <= 2; epoch++) {
        for (int s = 0; s < 5; s++) {
            const Batch *b;
            assert_ok(loader_next(loader, &b));
            for (int k = 0; k < 31; k++) {
                char *rest; /* sSSS-NNNN */
                long shard = strtol(b->keys[k] + 1, &rest, 10), sample = strtol(rest + 1, NULL, 10);
                assert_true(shard >= 0 && shard < 5 && sample >= 0 && sample < 31);
                assert_int_equal(++seen[shard][sample], epoch);
                assert_string_equal(b->languages[k], "en");
            }
            loader_release(loader, b);
        }
    }
    LoaderStats stats;
    loader_stats(loader, &stats);
    assert_true(stats.bad.counts[SAMPLE_ACCEPTED] >= 310 && stats.bytes_read > 310 * 100);
    assert_int_equal(stats.batches, 10);
    assert_int_equal(bad_samples_broken(&stats.bad), 0);
    loader_close(loader);
    config_free(config);
}

static void test_batch_contents(void **state)
{
    (void)state;
    DataConfig data;
    Config *config = two_sources(&data, "text_dropout: 0.3\n"
                                        "tokenizer1: {model: '" MODELS "fairseq.model'}\n"
                                        "tokenizer2: {model: '" MODELS "mt5.model', max_tokens: 20}\n");
    Loader *loader;
    LoaderOptions options = options_for(24, 1, 2);
    int dropped = 0, languages[3] = {0};
    assert_ok(loader_open(&data, &options, &loader));
    assert_int_equal(loader_vocabulary(loader, 1), 402);
    assert_int_equal(loader_vocabulary(loader, 2), 400);
    for (int s = 0; s < 30; s++) {
        const Batch *b;
        assert_ok(loader_next(loader, &b));
        assert_int_equal(b->tokens1_max, 77);
        assert_int_equal(b->tokens2_max, 20);
        assert_int_equal(b->resolution, 8);
        for (int k = 0; k < 12; k++) {
            const int32_t *t1 = b->tokens1 + 77 * k, *m1 = b->mask1 + 77 * k;
            const int32_t *t2 = b->tokens2 + 20 * k, *m2 = b->mask2 + 20 * k;
            assert_int_equal(b->index[k], s * 24 + 1 + 2 * k);
            languages[b->languages[k][0] == 'e' ? b->languages[k][1] == 'n' ? 0 : 1 : 2]++;
            dropped += b->dropped[k];
            assert_int_equal(t1[0], 0);
            assert_int_equal(m1[2], !b->dropped[k]);
            if (b->dropped[k]) { /* the empty caption, for both */
                assert_true(t1[1] == 2 && t1[2] == 1 && m1[1] == 1);
                assert_true(t2[0] == 1 && t2[1] == 0 && m2[0] == 1 && m2[1] == 0);
            } else {
                assert_true(t1[1] > 2 && t2[0] > 1 && m2[1] == 1);
            }
            int low = 255, high = 0;
            for (int v = 0; v < 192; v++) {
                int x = b->pixels[k][v];
                low = x < low ? x : low;
                high = x > high ? x : high;
            }
            assert_true(high > low);
            assert_true(strlen(b->captions[k]) > 5);
        }
        loader_release(loader, b);
    }
    assert_in_range(dropped, 70, 150); /* 108 of 360 expected */
    for (int l = 0; l < 3; l++) assert_in_range(languages[l], 80, 160);
    assert_true(loader_seconds_waited(loader) >= 0);
    loader_close(loader);
    config_free(config);
}

/* A picture of one colour arrives as RGB / 127.5 - 1. */
static void test_pixel_values(void **state)
{
    (void)state;
    char path[512];
    StrBuf tar = {0}, png = {0};
    uint8_t rgb[10 * 10 * 3];
    DataConfig data;
    make_folder(path);
    for (size_t i = 0; i < sizeof rgb; i += 3) rgb[i] = 0, rgb[i + 1] = 255, rgb[i + 2] = 51;
    assert_ok(png_encode_rgb(10, 10, rgb, NULL, NULL, 0, &png));
    tar_member(&tar, "k.PNG", png.data, png.size);
    tar_text(&tar, "k.txt", "  a caption\n");
    tar_end(&tar);
    write_file(in_folder(path, "x.tar"), tar.data, tar.size);
    Config *config =
        parse_data_config(&data, "sources: [{name: x, shards: ['%s/x.tar']}]\nlanes: 1\nfilter: {min_side: 0}\n", path);
    LoaderOptions options = options_for(2, 0, 1);
    Loader *loader;
    const Batch *b;
    assert_ok(loader_open(&data, &options, &loader));
    assert_ok(loader_next(loader, &b));
    for (int p = 0; p < 2 * 64; p++) {
        const uint8_t *pixel = b->pixels[p / 64] + 3 * (p % 64);
        assert_true(pixel[0] == 0 && pixel[1] == 255 && pixel[2] == 51);
    }
    assert_string_equal(b->captions[1], "a caption");
    assert_string_equal(b->languages[1], "");
    assert_null(b->tokens1);
    loader_close(loader); /* while a batch is held */
    config_free(config);
    strbuf_free(&tar);
    strbuf_free(&png);
    remove_folder(path);
}

/* ---- broken things ---- */

static void good_sample(StrBuf *tar, const char *key, unsigned seed)
{
    StrBuf png = {0};
    char name[120];
    make_png(&png, 20, 16, seed);
    snprintf(name, sizeof name, "%.100s.png", key);
    tar_member(tar, name, png.data, png.size);
    snprintf(name, sizeof name, "%.100s.txt", key);
    tar_text(tar, name, "fine");
    strbuf_free(&png);
}

static void picture_sample(StrBuf *tar, const char *key, const char *suffix, const StrBuf *picture, const char *text)
{
    char name[100];
    snprintf(name, sizeof name, "%s.%s", key, suffix);
    tar_member(tar, name, picture->data, picture->size);
    snprintf(name, sizeof name, "%s.txt", key);
    if (text) tar_text(tar, name, text);
}

/* One sample of each kind of trouble among 60 good ones. */
static void write_troubled(const char *path)
{
    StrBuf tar = {0}, png = {0}, jpeg = {0}, webp = {0};
    char name[100];
    make_png(&png, 20, 16, 1);
    make_jpeg(&jpeg, 20, 16, 1);
    make_webp(&webp, 20, 16, 1);
    for (int i = 0; i < 60; i++) {
        snprintf(name, sizeof name, "good%02d", i);
        good_sample(&tar, name, (unsigned)i);
    }
    StrBuf bad = {.data = png.data, .size = png.size - 40};
    picture_sample(&tar, "x_png", "jpg", &bad, "cut, and under a wrong name");
    bad = (StrBuf){.data = jpeg.data, .size = jpeg.size / 2};
    picture_sample(&tar, "x_jpeg", "jpg", &bad, "cut");
    bad = (StrBuf){.data = webp.data, .size = webp.size - 20};
    picture_sample(&tar, "x_webp", "webp", &bad, "cut");
    bad = (StrBuf){.data = (char[]){"<html>not found</html>"}, .size = 22};
    picture_sample(&tar, "x_html", "jpg", &bad, "a web page");
    bad = (StrBuf){.data = "", .size = 0};
    picture_sample(&tar, "x_nothing", "png", &bad, "empty file");
    picture_sample(&tar, "x_no_caption", "png", &png, NULL);
    picture_sample(&tar, "x_blank_caption", "png", &png, " \n\t");
    picture_sample(&tar, "x_utf8", "png", &png, "\xc3\x28 broken");
    tar_text(&tar, "x_no_picture.txt", "words only");
    picture_sample(&tar, "x_duplicate", "png", &png, "a");
    picture_sample(&tar, "x_duplicate", "PNG", &png, "a");
    picture_sample(&tar, "x_json", "png", &png, "a");
    tar_text(&tar, "x_json.json", "{\"caption\": ");
    picture_sample(&tar, "x_array", "png", &png, "a");
    tar_text(&tar, "x_array.json", "[1, 2]");
    picture_sample(&tar, "good_nan", "png", &png, "NaN is a missing value");
    tar_text(&tar, "good_nan.json", "{\"pwatermark\": NaN, \"similarity\": Infinity, \"caption\": null}");
    picture_sample(&tar, "f_watermark", "png", &png, "a");
    tar_text(&tar, "f_watermark.json", "{\"pwatermark\": 0.9}");
    StrBuf big = {0};
    make_jpeg(&big, 20, 16, 1);
    uint8_t *sof = memmem(big.data, big.size, "\xff\xc0", 2);
    sof[5] = sof[7] = 10000 >> 8; /* 100 Mpixel in the header */
    sof[6] = sof[8] = 10000 & 255;
    picture_sample(&tar, "x_100mpixel", "jpg", &big, "huge");
    tar_end(&tar);
    write_file(path, tar.data, tar.size);
    strbuf_free(&tar);
    strbuf_free(&png);
    strbuf_free(&jpeg);
    strbuf_free(&webp);
    strbuf_free(&big);
}

static void test_troubles(void **state)
{
    (void)state;
    char path[512];
    DataConfig data;
    Loader *loader;
    LoaderStats stats;
    make_folder(path);
    write_troubled(in_folder(path, "x.tar"));
    write_file(in_folder(path, "y.tar"), "", 0);
    StrBuf tar = {0};
    for (int i = 0; i < 4; i++) {
        char key[20];
        snprintf(key, sizeof key, "good_cut%d", i);
        good_sample(&tar, key, (unsigned)i);
    }
    write_file(in_folder(path, "z.tar"), tar.data, tar.size - 700); /* the fourth is cut */
    strbuf_free(&tar);
    Config *config = parse_data_config(&data,
                                       "sources: [{name: x, shards: ['%s/{x,y,z}.tar']}]\nlanes: 2\n"
                                       "filter: {min_side: 0}\nmax_bad_share: 0.3\ndecode_threads: 3\n",
                                       path);
    LoaderOptions options = options_for(64, 0, 1);
    assert_ok(loader_open(&data, &options, &loader));
    /* 79 samples an epoch, of which 64 are good: after 3 batches everything was seen. */
    for (int s = 0; s < 3; s++) {
        const Batch *b;
        assert_ok(loader_next(loader, &b));
        for (int k = 0; k < b->count; k++) assert_memory_equal(b->keys[k], "good", 4);
        loader_release(loader, b);
    }
    loader_stats(loader, &stats);
    const SampleReason reasons[] = {SAMPLE_BAD_PNG,          SAMPLE_BAD_JPEG,   SAMPLE_BAD_WEBP,
                                    SAMPLE_UNKNOWN_PICTURE,  SAMPLE_NO_CAPTION, SAMPLE_BAD_UTF8,
                                    SAMPLE_DUPLICATE_MEMBER, SAMPLE_NO_PICTURE, SAMPLE_BAD_JSON,
                                    SAMPLE_TOO_LARGE,        SAMPLE_WATERMARK};
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
        if (stats.bad.counts[reasons[i]] < 1) fail_msg("none counted as %s", sample_reason_name(reasons[i]));
    assert_int_equal(stats.bad.counts[SHARD_EMPTY], 1);
    assert_int_equal(stats.bad.counts[SHARD_BROKEN], 1);
    assert_int_equal(stats.bad.counts[SAMPLE_READ_ERROR], 0);
    loader_close(loader);

    data.max_bad_share = 0.1; /* 14 of 79 are broken */
    assert_ok(loader_open(&data, &options, &loader));
    Status status = STATUS_OK;
    for (int s = 0; s < 20 && status == STATUS_OK; s++) {
        const Batch *b;
        status = loader_next(loader, &b);
        if (status == STATUS_OK) loader_release(loader, b);
    }
    assert_int_equal(status, ERR_FORMAT);
    check_message("data.max_bad_share");
    const Batch *again;
    assert_int_equal(loader_next(loader, &again), ERR_FORMAT); /* and stays failed */
    loader_close(loader);
    config_free(config);
    remove_folder(path);
}

static void test_refusals(void **state)
{
    (void)state;
    DataConfig data;
    Loader *loader;
    LoaderOptions options = options_for(12, 0, 1);
    Config *config =
        parse_data_config(&data, "sources: [{name: web, shards: ['%s/a-000.tar', '%s/gone.tar']}]\n", folder, folder);
    assert_int_equal(loader_open(&data, &options, &loader), ERR_IO);
    check_message("source web");
    check_message("gone.tar");
    check_message("data.sources");
    assert_null(loader);
    config_free(config);

    config = parse_data_config(&data, "sources: [{name: web, shards: ['%s/none-*.tar']}]\n", folder);
    assert_int_equal(loader_open(&data, &options, &loader), ERR_IO);
    check_message("data.sources: source web: ");
    check_message("no file matches");
    config_free(config);

    config = parse_data_config(&data, "sources: [{name: web, shards: ['%s/b-000.tar']}]\n", folder); /* 20 samples */
    assert_int_equal(loader_open(&data, &options, &loader), ERR_CONFIG);
    check_message("fewer than data.lanes (48)");
    data.lanes = 20;
    options.world = 3;
    assert_int_equal(loader_open(&data, &options, &loader), ERR_CONFIG);
    check_message("3 ranks do not divide data.lanes");
    options.world = 5;
    assert_int_equal(loader_open(&data, &options, &loader), ERR_CONFIG);
    check_message("train.global_batch");
    options.world = 1;

    const Batch *b; /* every sample is smaller than the resolution */
    options.resolution = 64;
    data.decode_threads = 2;
    assert_ok(loader_open(&data, &options, &loader));
    assert_int_equal(loader_next(loader, &b), ERR_FORMAT);
    check_message("whole epoch");
    check_message("small");
    check_message("lower data.filter.min_side");
    loader_close(loader);
    options.resolution = 8;
    char has[] = "has json.nothing", compares[] = "json.nothing < 1", *expressions[] = {has, compares};
    const char *remedies[] = {"loosen data.filter.where", "data.filter.missing: pass"};
    for (int i = 0; i < 2; i++) {
        data.filter.where = (ConfigStrings){&expressions[i], 1};
        data.filter.missing = i == 0 ? MISSING_PASS : MISSING_DROP;
        assert_ok(loader_open(&data, &options, &loader));
        assert_int_equal(loader_next(loader, &b), ERR_FORMAT);
        check_message(remedies[i]);
        loader_close(loader);
    }
    data.filter.where = (ConfigStrings){0};

    data.filter.missing = MISSING_ERROR;
    options.resolution = 8;
    assert_ok(loader_open(&data, &options, &loader));
    assert_int_equal(loader_next(loader, &b), ERR_FORMAT);
    check_message("watermark");
    check_message("data.filter.missing");
    loader_close(loader);
    config_free(config);
}

/* A shard replaced behind the loader's back is noticed sample by sample, not trained on as noise. */
static void test_changed_shard(void **state)
{
    (void)state;
    char path[512];
    DataConfig data;
    Loader *loader;
    LoaderStats stats;
    const Batch *b;
    make_folder(path);
    make_shards(path, "c", 1, 40);
    Config *config = parse_data_config(
        &data, "sources: [{name: c, shards: ['%s/c-000.tar']}]\nlanes: 1\nfilter: {min_side: 0}\n", path);
    LoaderOptions options = options_for(8, 0, 1);
    data.max_bad_share = 1;
    assert_ok(loader_open(&data, &options, &loader)); /* leaves an index */
    loader_close(loader);
    assert_true(file_exists(in_folder(path, "c-000.tar.idx")));
    StrBuf tar = {0}; /* other sizes at the same places, older than the index */
    for (int i = 0; i < 300; i++) tar_text(&tar, "zzz.txt", "another text of another length than before");
    tar_end(&tar);
    write_file(in_folder(path, "c-000.tar"), tar.data, tar.size);
    struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    assert_int_equal(utimensat(AT_FDCWD, in_folder(path, "c-000.tar"), old, 0), 0);
    assert_ok(loader_open(&data, &options, &loader));
    assert_int_equal(loader_next(loader, &b), ERR_FORMAT);
    loader_stats(loader, &stats);
    assert_true(stats.bad.counts[SAMPLE_READ_ERROR] >= 40);
    assert_int_equal(stats.bad.counts[SAMPLE_ACCEPTED], 0);
    loader_close(loader);
    config_free(config);
    strbuf_free(&tar);
    remove_folder(path);
}

static void compress_file(const char *from, const char *to, bool zstd)
{
    StrBuf tar = {0};
    read_file(from, &tar);
    struct archive *out = archive_write_new();
    struct archive_entry *entry = archive_entry_new();
    assert_int_equal(zstd ? archive_write_add_filter_zstd(out) : archive_write_add_filter_gzip(out), ARCHIVE_OK);
    archive_write_set_format_raw(out);
    assert_int_equal(archive_write_open_filename(out, to), ARCHIVE_OK);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_write_header(out, entry);
    assert_int_equal(archive_write_data(out, tar.data, tar.size), (la_ssize_t)tar.size);
    archive_write_close(out);
    archive_write_free(out);
    archive_entry_free(entry);
    strbuf_free(&tar);
}

/* gzip and zstd shards give the same samples as plain ones, also when their index is read back from its file. */
static void test_compressed(void **state)
{
    (void)state;
    char path[512];
    DataConfig data;
    make_folder(path);
    Served served[3];
    const char *names[] = {"a-000.tar", "g.tar.gz", "z.tar.zst"};
    compress_file(in_folder(folder, names[0]), in_folder(path, names[1]), false);
    compress_file(in_folder(folder, names[0]), in_folder(path, names[2]), true);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 3; i++) {
            Config *config =
                parse_data_config(&data, "sources: [{name: s, shards: ['%s']}]\nlanes: 3\nfilter: {min_side: 0}\n",
                                  in_folder(i ? path : folder, names[i]));
            served[i] = serve(&data, 12, 1, 0, 6, NULL);
            config_free(config);
        }
        for (int i = 1; i < 3; i++) expect_rows(&served[i], served[0].rows, served[0].count);
        for (int i = 0; i < 3; i++) served_free(&served[i]);
    }
    remove_folder(path);
}

static void test_order_print(void **state)
{
    (void)state;
    DataConfig data;
    Config *config = two_sources(&data, "");
    StrBuf one = {0};
    assert_ok(order_print(&data, NULL, 5, 8, 24, 1, 6, &one));
    int lines = 0, words = 1;
    for (size_t i = 0; i < one.size; i++) lines += one.data[i] == '\n', words += one.data[i] == ' ';
    assert_int_equal(lines, 6);
    assert_int_equal(words + 5, 144);
    Served served = serve(&data, 24, 1, 0, 6, NULL); /* the same as what training gets */
    char *save, *word = strtok_r(one.data, " \n", &save);
    for (size_t i = 0; i < served.count; i++, word = strtok_r(NULL, " \n", &save)) {
        assert_non_null(word);
        char row[300]; /* SOURCE/KEY, as keys may be the same in two sources */
        assert_true((word[0] == 'a' || word[0] == 'b') && word[1] == '/');
        snprintf(row, sizeof row, " %s %d|", word + 2, word[0] == 'b');
        assert_non_null(strstr(served.rows[i], row));
    }
    served_free(&served);
    strbuf_free(&one);
    assert_ok(order_print(&data, NULL, 5, 8, 24, 1, 6, &one));
    for (int world = 2; world <= 4; world++) {
        StrBuf many = {0};
        assert_ok(order_print(&data, NULL, 5, 8, 24, world, 6, &many));
        assert_string_equal(many.data, one.data);
        strbuf_free(&many);
    }
    assert_int_equal(order_print(&data, NULL, 5, 8, 24, 5, 6, &one), ERR_CONFIG);
    strbuf_free(&one);
    config_free(config);
}

static void test_caption_choice(void **state)
{
    (void)state;
    DataConfig data;
    const struct {
        const char *source_more, *more, *language, *caption;
    } cases[] = {{"", "caption_language: ru\n", "ru", "картинка"},
                 {"", "caption_language: first\n", "en", "picture"},
                 {", caption: txt", "", "", "plain caption"}};
    for (int i = 0; i < 3; i++) {
        Config *config = parse_data_config(
            &data, "sources: [{name: a, shards: ['%s/a-000.tar']%s}]\nlanes: 1\nfilter: {min_side: 0}\n%s", folder,
            cases[i].source_more, cases[i].more);
        Loader *loader;
        const Batch *b;
        LoaderOptions options = options_for(31, 0, 1);
        assert_ok(loader_open(&data, &options, &loader));
        assert_ok(loader_next(loader, &b));
        for (int k = 0; k < 31; k++) {
            assert_string_equal(b->languages[k], cases[i].language);
            assert_memory_equal(b->captions[k], cases[i].caption, strlen(cases[i].caption));
        }
        loader_release(loader, b);
        loader_close(loader);
        config_free(config);
    }
    Config *config = parse_data_config(&data,
                                       "sources: [{name: a, shards: ['%s/a-000.tar']}]\nlanes: 1\nfilter: {min_side: "
                                       "0}\ncaption_language: zu\n",
                                       folder);
    Loader *loader;
    const Batch *b;
    LoaderOptions options = options_for(31, 0, 1);
    assert_ok(loader_open(&data, &options, &loader));
    assert_int_equal(loader_next(loader, &b), ERR_FORMAT);
    check_message("language");
    loader_close(loader);
    config_free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranks_and_threads), cmocka_unit_test(test_resume),
        cmocka_unit_test(test_resume_refused),    cmocka_unit_test(test_epochs),
        cmocka_unit_test(test_batch_contents),    cmocka_unit_test(test_pixel_values),
        cmocka_unit_test(test_troubles),          cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_changed_shard),     cmocka_unit_test(test_compressed),
        cmocka_unit_test(test_order_print),       cmocka_unit_test(test_caption_choice),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
