/* Random squares and mirrored pictures: drawn for each visit, the same for any number of ranks and threads and after a
 * resume; every offset and both directions come, in the shares asked for. */
#include "shards.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "data/loader.h"
#include "data/picture.h"

enum { SIDE = 16, WIDTH = 20, OFFSETS = WIDTH - SIDE + 1, SAMPLES = 40, BYTES = SIDE * SIDE * 3, BATCH = 12 };

static char folder[512];

static int set_up(void **state)
{
    (void)state;
    log_configure(LOG_ERROR, 0, 1);
    make_folder(folder);
    make_shards(folder, "a", 2, SAMPLES); /* PNGs of 20x16: squares of 16 are copied, not interpolated */
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    remove_folder(folder);
    return 0;
}

static Config *configure(DataConfig *data, const char *augment, int threads)
{
    return parse_data_config(data,
                             "sources: [{name: a, shards: ['%s/a-*.tar']}]\nlanes: 12\ndecode_threads: %d\n"
                             "filter: {min_side: 0}\naugment: %s\n",
                             folder, threads, augment);
}

/* Pixels of samples [0, BATCH x steps) in global order, and their keys. */
typedef struct Drawn {
    uint8_t *pixels;
    char (*keys)[32];
    Cursor *cursor; /* after the last */
} Drawn;

static void serve(const char *augment, int threads, int world, int64_t first_step, int64_t steps, const Cursor *start,
                  Drawn *out)
{
    DataConfig data;
    Config *config = configure(&data, augment, threads);
    out->pixels = mem_alloc_array((size_t)(BATCH * steps), BYTES);
    out->keys = mem_alloc_array((size_t)(BATCH * steps), sizeof out->keys[0]);
    out->cursor = NULL;
    for (int rank = 0; rank < world; rank++) {
        Loader *loader;
        const Batch *b;
        assert_ok(loader_open(&data,
                              &(LoaderOptions){.seed = 11,
                                               .resolution = SIDE,
                                               .global_batch = BATCH,
                                               .rank = rank,
                                               .world = world,
                                               .first_step = first_step,
                                               .start = start},
                              &loader));
        for (int64_t s = 0; s < steps; s++) {
            assert_ok(loader_next(loader, &b));
            for (int32_t k = 0; k < b->count; k++) {
                int64_t at = b->index[k] - first_step * BATCH;
                memcpy(out->pixels + at * BYTES, b->pixels[k], BYTES);
                snprintf(out->keys[at], sizeof out->keys[at], "%s", b->keys[k]);
            }
            if (s == steps - 1) {
                if (!out->cursor) assert_ok(cursor_clone(b->cursor, &out->cursor));
                assert_ok(cursor_merge(out->cursor, b->cursor, rank, world));
            }
            loader_release(loader, b);
        }
        loader_close(loader);
    }
    config_free(config);
}

static void drawn_free(Drawn *drawn)
{
    free(drawn->pixels);
    free(drawn->keys);
    cursor_free(drawn->cursor);
}

#define BOTH "{crop: random, flip: 0.5}"

static void test_same_everywhere(void **state)
{
    (void)state;
    enum { STEPS = 14 }; /* two epochs and more */
    static const int threads[] = {8, 2, 3}, worlds[] = {1, 3, 4};
    Drawn first, other;
    serve(BOTH, 1, 1, 0, STEPS, NULL, &first);
    for (int i = 0; i < 3; i++) {
        serve(BOTH, threads[i], worlds[i], 0, STEPS, NULL, &other);
        assert_memory_equal(first.pixels, other.pixels, BATCH * STEPS * BYTES);
        drawn_free(&other);
    }
    Drawn before, after;
    serve(BOTH, 4, 2, 0, 5, NULL, &before);
    serve(BOTH, 2, 6, 5, STEPS - 5, before.cursor, &after);
    assert_memory_equal(first.pixels + 5 * BATCH * BYTES, after.pixels, BATCH * (STEPS - 5) * BYTES);
    drawn_free(&before);
    drawn_free(&after);
    drawn_free(&first);
}

/* The square of the picture of that key at this offset, mirrored or not. */
static void expect_square(const char *key, int offset, bool mirror, uint8_t *out)
{
    static const PictureLimits usual = {.max_pixels = 1 << 20};
    int shard, sample;
    StrBuf png = {0};
    Picture picture = {0};
    assert_int_equal(sscanf(key, "s%d-%d", &shard, &sample), 2);
    make_png(&png, WIDTH, SIDE, (unsigned)(shard * SAMPLES + sample));
    assert_ok(picture_decode((uint8_t *)png.data, png.size, &usual, &picture));
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++)
            memcpy(out + (y * SIDE + (mirror ? SIDE - 1 - x : x)) * 3, picture.rgb + (y * WIDTH + offset + x) * 3, 3);
    picture_free(&picture);
    strbuf_free(&png);
}

/* Counts which (offset, mirrored) each sample is. */
static void count(const char *augment, int64_t steps, int counts[OFFSETS][2])
{
    Drawn drawn;
    uint8_t wanted[BYTES];
    memset(counts, 0, sizeof(int) * OFFSETS * 2);
    serve(augment, 2, 1, 0, steps, NULL, &drawn);
    for (int64_t i = 0; i < BATCH * steps; i++) {
        int found = 0;
        for (int offset = 0; offset < OFFSETS; offset++)
            for (int mirror = 0; mirror < 2; mirror++) {
                expect_square(drawn.keys[i], offset, mirror, wanted);
                if (memcmp(wanted, drawn.pixels + i * BYTES, BYTES) != 0) continue;
                counts[offset][mirror]++;
                found++;
            }
        if (found != 1) fail_msg("%s is %d of the squares of its picture", drawn.keys[i], found);
    }
    drawn_free(&drawn);
}

static void test_shares(void **state)
{
    (void)state;
    int counts[OFFSETS][2];
    const int steps = 60, samples = steps * BATCH;
    count("{crop: middle, flip: 0}", 4, counts);
    assert_int_equal(counts[2][0], 4 * BATCH);
    count("{crop: middle, flip: 1}", 4, counts);
    assert_int_equal(counts[2][1], 4 * BATCH);
    count("{crop: random, flip: 0.25}", steps, counts);
    int mirrored = 0;
    for (int offset = 0; offset < OFFSETS; offset++) {
        int here = counts[offset][0] + counts[offset][1];
        assert_true(here > samples / OFFSETS * 3 / 4 && here < samples / OFFSETS * 5 / 4); /* 3.3 sigma */
        assert_true(counts[offset][0] > counts[offset][1]);
        mirrored += counts[offset][1];
    }
    assert_true(mirrored > samples / 5 && mirrored < samples * 3 / 10);
}

/* The same sample is cut anew in every epoch. */
static void test_every_visit(void **state)
{
    (void)state;
    enum { STEPS = 20 };
    Drawn drawn;
    int same = 0, pairs = 0;
    serve(BOTH, 2, 1, 0, STEPS, NULL, &drawn);
    for (int i = 0; i < STEPS * BATCH; i++)
        for (int j = i + 1; j < STEPS * BATCH; j++) {
            if (strcmp(drawn.keys[i], drawn.keys[j]) != 0) continue;
            same += memcmp(drawn.pixels + i * BYTES, drawn.pixels + j * BYTES, BYTES) == 0;
            pairs++;
        }
    assert_true(pairs > 100);
    assert_true(same < pairs / 4); /* one of ten */
    drawn_free(&drawn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_everywhere),
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_every_visit),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
