/* The order over many steps: the keys of every step are the same on 1, 2, 3, 4, 6 and 8 ranks, with 1 and 8 decode
 * threads, and after going on at 50 random points with another number of ranks. Samples that filters leave out and
 * samples that are broken are among them. 1,000 steps; 10,000 with VASILY_TEST_LONG=1. */
#include "shards.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "data/loader.h"

enum { BATCH = 24, LANES = 24, POINTS = 50, MOST_RANKS = 8, AFTER = 12 };

static char folder[512];
static int64_t steps;

/* Tiny pictures; every 7th has a watermark, every 41st is broken, every 53rd has no caption. */
static void make_source(const char *name, int shards, int samples)
{
    StrBuf picture = {0}, broken = {0};
    make_png(&picture, 8, 8, 1);
    (void)strbuf_append(&broken, "\x89PNG\r\n\x1a\nrubbish", 15);
    for (int s = 0, n = 0; s < shards; s++) {
        StrBuf tar = {0};
        char path[600], member[64], json[128];
        for (int i = 0; i < samples; i++, n++) {
            const StrBuf *bytes = n % 41 == 40 ? &broken : &picture;
            snprintf(member, sizeof member, "%s%d-%d.png", name, s, i);
            tar_member(&tar, member, bytes->data, bytes->size);
            snprintf(member, sizeof member, "%s%d-%d.json", name, s, i);
            snprintf(json, sizeof json, "{\"caption\":\"%s\",\"pwatermark\":%s}", n % 53 == 52 ? "" : "a thing",
                     n % 7 == 6 ? "0.9" : "0.1");
            tar_text(&tar, member, json);
        }
        tar_end(&tar);
        snprintf(path, sizeof path, "%s/%s-%d.tar", folder, name, s);
        write_file(path, tar.data, tar.size);
        strbuf_free(&tar);
    }
    strbuf_free(&picture);
    strbuf_free(&broken);
}

static int set_up(void **state)
{
    (void)state;
    log_configure(LOG_ERROR, 0, 1);
    steps = getenv("VASILY_TEST_LONG") ? 10000 : 1000;
    make_folder(folder);
    make_source("a", 6, 400);
    make_source("b", 3, 250);
    make_source("c", 2, 170);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    remove_folder(folder);
    return 0;
}

static Config *three_sources(DataConfig *data)
{
    return parse_data_config(data,
                             "sources:\n"
                             "  - {name: a, shards: ['%s/a-*.tar'], weight: 700}\n"
                             "  - {name: b, shards: ['%s/b-*.tar'], weight: 46}\n"
                             "  - {name: c, shards: ['%s/c-*.tar'], weight: 44}\n"
                             "lanes: %d\nshuffle_block: 20\nshuffle_mix: 3\nfilter: {min_side: 0}\nmax_bad_share: 1\n",
                             folder, folder, folder, LANES);
}

/* Serves steps [first, first + count) on `world` ranks: hashes of keys by global index, and the merged cursors after
 * the steps of `points` (ascending; NULL: none). */
static void serve(const DataConfig *data, int world, int64_t first, int64_t count, const Cursor *start, uint64_t *keys,
                  const int64_t *points, Cursor **cursors)
{
    for (int rank = 0; rank < world; rank++) {
        Loader *loader;
        const LoaderOptions options = {.seed = 11,
                                       .resolution = 8,
                                       .global_batch = BATCH,
                                       .rank = rank,
                                       .world = world,
                                       .first_step = first,
                                       .start = start,
                                       .keys_only = true};
        int point = 0;
        assert_ok(loader_open(data, &options, &loader));
        for (int64_t s = 0; s < count; s++) {
            const Batch *batch;
            assert_ok(loader_next(loader, &batch));
            for (int32_t k = 0; k < batch->count; k++) {
                assert_int_equal(batch->index[k] % world, rank);
                keys[batch->index[k] - first * BATCH] = hash_string64(batch->keys[k]);
            }
            for (; points && point < POINTS && points[point] == first + s + 1; point++) {
                if (!cursors[point]) assert_ok(cursor_clone(batch->cursor, &cursors[point]));
                assert_ok(cursor_merge(cursors[point], batch->cursor, rank, world));
            }
            loader_release(loader, batch);
        }
        loader_close(loader);
    }
}

static int compare_points(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void test_same_keys(void **state)
{
    (void)state;
    DataConfig data;
    Config *config = three_sources(&data);
    const int worlds[] = {1, 2, 3, 4, 6, 8};
    size_t rows = (size_t)(steps * BATCH);
    uint64_t *one = calloc(rows, sizeof *one), *many = calloc(rows, sizeof *many);
    int64_t points[POINTS];
    Cursor *cursors[POINTS] = {NULL};
    assert_true(one && many);
    srand(2026);
    for (int i = 0; i < POINTS; i++) points[i] = 1 + rand() % (steps - AFTER - 1);
    qsort(points, POINTS, sizeof points[0], compare_points);

    data.decode_threads = 8;
    serve(&data, 1, 0, steps, NULL, one, NULL, NULL);
    for (int w = 0; w < 6; w++) {
        data.decode_threads = worlds[w] == 1 ? 1 : 2;
        memset(many, 0, rows * sizeof *many);
        serve(&data, worlds[w], 0, steps, NULL, many, worlds[w] == 4 ? points : NULL, cursors);
        assert_memory_equal(many, one, rows * sizeof *one);
    }
    for (int i = 0; i < POINTS; i++) {
        StrBuf text = {0};
        Cursor *cursor;
        assert_ok(cursor_save(cursors[i], &text));
        assert_true(text.size < 8192);
        assert_ok(cursor_load(text.data, text.size, &cursor));
        data.decode_threads = i % 2 ? 8 : 1;
        serve(&data, worlds[i % 6], points[i], AFTER, cursor, many, NULL, NULL);
        assert_memory_equal(many, one + points[i] * BATCH, AFTER * BATCH * sizeof *one);
        cursor_free(cursor);
        cursor_free(cursors[i]);
        strbuf_free(&text);
    }
    print_message("%lld steps of %d samples\n", (long long)steps, BATCH);
    free(one);
    free(many);
    config_free(config);
}

/* Ends: sources that do not repeat give each of their samples once, and the order of the others stays. */
static void test_ends(void **state)
{
    (void)state;
    DataConfig data;
    Config *config = parse_data_config(&data,
                                       "sources:\n"
                                       "  - {name: b, shards: ['%s/b-*.tar'], weight: 1, repeat: false}\n"
                                       "  - {name: c, shards: ['%s/c-*.tar'], weight: 3, repeat: false}\n"
                                       "lanes: %d\nshuffle_block: 20\nfilter: {min_side: 0, watermark_max: 10}\n"
                                       "max_bad_share: 1\n",
                                       folder, folder, LANES);
    for (int world = 1; world <= 4; world++) {
        int64_t counts[2] = {0}, fewest = INT64_MAX, most = 0;
        uint64_t *seen = calloc(2000, sizeof *seen);
        size_t seen_count = 0;
        for (int rank = 0; rank < world; rank++) {
            Loader *loader;
            const Batch *batch;
            Status status;
            int64_t served = 0;
            const LoaderOptions options = {
                .seed = 3, .resolution = 8, .global_batch = 12, .rank = rank, .world = world, .keys_only = true};
            assert_ok(loader_open(&data, &options, &loader));
            assert_true(loader_is_finite(loader));
            for (; (status = loader_next(loader, &batch)) == STATUS_OK; served++) {
                for (int32_t k = 0; k < batch->count; k++) {
                    uint64_t key = hash_string64(batch->keys[k]);
                    for (size_t i = 0; i < seen_count; i++) assert_true(seen[i] != key);
                    seen[seen_count++] = key;
                    counts[batch->sources[k]]++;
                }
                loader_release(loader, batch);
            }
            assert_int_equal(status, STATUS_END);
            assert_int_equal(loader_next(loader, &batch), STATUS_END);
            fewest = served < fewest ? served : fewest;
            most = served > most ? served : most;
            loader_close(loader);
        }
        /* 750 and 340 samples, less those that are broken or have no caption; a lane that ends early ends the run. */
        assert_in_range(counts[0], 500, 720);
        assert_in_range(counts[1], 280, 330);
        assert_true(most - fewest <= 12);
        free(seen);
    }
    config_free(config);
}

/* A source ends beside one of which most samples are left out: the samples issued ahead in place of those may not use
 * up what the rows of the ended source need. The same keys with one thread and many. */
static void test_end_beside_filter(void **state)
{
    (void)state;
    DataConfig data;
    enum { ROWS = 16, COUNT = 120 };
    static uint64_t keys[2][COUNT * ROWS];
    Config *config = parse_data_config(&data,
                                       "sources:\n"
                                       "  - {name: c, shards: ['%s/c-*.tar'], repeat: false}\n"
                                       "  - {name: a, shards: ['%s/a-*.tar'], where: ['watermark > 0.5']}\n"
                                       "lanes: 48\nfilter: {min_side: 0, watermark_max: 10}\nmax_bad_share: 1\n",
                                       folder, folder);
    for (int n = 0; n < 2; n++) {
        Loader *loader;
        const LoaderOptions options = {.seed = 8, .resolution = 8, .global_batch = ROWS, .world = 1, .keys_only = true};
        data.decode_threads = n ? 8 : 1;
        assert_ok(loader_open(&data, &options, &loader));
        for (int s = 0; s < COUNT; s++) {
            const Batch *batch;
            assert_ok(loader_next(loader, &batch));
            for (int32_t k = 0; k < ROWS; k++) keys[n][s * ROWS + k] = hash_string64(batch->keys[k]);
            if (s == COUNT - 1)
                for (int32_t k = 0; k < ROWS; k++) assert_int_equal(batch->sources[k], 1);
            loader_release(loader, batch);
        }
        loader_close(loader);
    }
    assert_memory_equal(keys[0], keys[1], sizeof keys[0]);
    config_free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same_keys), cmocka_unit_test(test_ends),
                                       cmocka_unit_test(test_end_beside_filter)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
