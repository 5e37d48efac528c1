/* Shards that are lost while a run reads them: gone, cut off, overwritten. They are tried again, listed in
 * bad-shards.jsonl, and passed over; the order of all other samples stays. */
#include "shards.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "data/loader.h"

enum { SHARDS = 40, EACH = 24, LANES = 4, BATCH = 8, STEPS = 220, LOST = 2, SLOTS = STEPS * BATCH };

static char folder[512];

static int set_up(void **state)
{
    (void)state;
    log_configure(LOG_ERROR, 0, 1);
    make_folder(folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    remove_folder(folder);
    return 0;
}

typedef enum Harm { UNHARMED, GONE, CUT, OVERWRITTEN, HARMS } Harm;

static void do_harm(Harm harm)
{
    const char *path = in_folder(folder, "s-002.tar");
    StrBuf tar = {0};
    if (harm == UNHARMED) return;
    read_file(path, &tar);
    remove(path); /* open files keep what they had */
    if (harm == CUT) write_file(path, tar.data, tar.size / 3);
    if (harm == OVERWRITTEN) {
        memset(tar.data + tar.size / 4, 'x', tar.size / 2);
        write_file(path, tar.data, tar.size);
    }
    strbuf_free(&tar);
}

/* The keys of STEPS steps; the harm is done after the first. With few windows, shards are opened again and again. */
static void serve(const DataConfig *data, Harm harm, const char *bad_log, char keys[SLOTS][32], LoaderStats *stats)
{
    Loader *loader;
    const LoaderOptions options = {
        .seed = 8, .resolution = 8, .global_batch = BATCH, .world = 1, .bad_log = bad_log, .keys_only = true};
    assert_ok(loader_open(data, &options, &loader));
    for (int s = 0; s < STEPS; s++) {
        const Batch *batch;
        assert_ok(loader_next(loader, &batch));
        for (int32_t k = 0; k < BATCH; k++) snprintf(keys[s * BATCH + k], 32, "%s", batch->keys[k]);
        loader_release(loader, batch);
        if (s == 0) do_harm(harm);
    }
    loader_stats(loader, stats);
    loader_close(loader);
}

static bool is_of_lost_shard(const char *key)
{
    char prefix[16];
    snprintf(prefix, sizeof prefix, "s%03d-", LOST);
    return strncmp(key, prefix, strlen(prefix)) == 0;
}

/* The keys of a lane, without those of the lost shard. */
static int others_of_lane(char keys[SLOTS][32], int lane, const char **out)
{
    int count = 0;
    for (int i = lane; i < SLOTS; i += LANES)
        if (!is_of_lost_shard(keys[i])) out[count++] = keys[i];
    return count;
}

/* Each line is JSON, and tells of the lost shard only. */
static int check_lines(const char *path)
{
    StrBuf text = {0};
    int lines = 0;
    read_file(path, &text);
    for (char *line = text.data, *end; line && (end = strchr(line, '\n')); line = end + 1, lines++) {
        JsonDoc *doc;
        size_t size;
        assert_ok(json_parse(line, (size_t)(end - line), 65536, &doc));
        const char *shard = json_text(json_get(json_root(doc), "shard"), &size);
        assert_non_null(shard);
        assert_non_null(strstr(shard, "s-002.tar"));
        const char *what = json_text(json_get(json_root(doc), "what"), &size);
        if (strcmp(what, "shard") == 0) {
            int64_t samples;
            assert_true(json_integer(json_get(json_root(doc), "samples"), &samples) && samples > 0);
        } else {
            assert_string_equal(what, "sample");
            assert_true(is_of_lost_shard(json_text(json_get(json_root(doc), "key"), &size)));
        }
        assert_non_null(json_text(json_get(json_root(doc), "reason"), &size));
        json_free(doc);
    }
    strbuf_free(&text);
    return lines;
}

static void test_lost(void **state)
{
    (void)state;
    static char whole[SLOTS][32], harmed[SLOTS][32];
    for (Harm harm = GONE; harm < HARMS; harm++) {
        DataConfig data;
        LoaderStats stats;
        char bad_log[600];
        snprintf(bad_log, sizeof bad_log, "%s/bad-shards.jsonl", folder);
        make_shards(folder, "s", SHARDS, EACH);
        remove(bad_log);
        Config *config = parse_data_config(&data,
                                           "sources: [{name: s, shards: ['%s/s-*.tar']}]\nlanes: %d\n"
                                           "shuffle_block: 10\nshuffle_mix: 1\nfilter: {min_side: 0}\n"
                                           "max_bad_share: 1\nread: {retries: 1, retry_seconds: 0.01}\n",
                                           folder, LANES);
        serve(&data, UNHARMED, bad_log, whole, &stats);
        assert_int_not_equal(access(bad_log, F_OK), 0); /* nothing to tell */
        serve(&data, harm, bad_log, harmed, &stats);

        /* 1,760 samples are nearly two epochs: the second one meets the harmed shard. */
        int fewer = 0;
        for (int lane = 0; lane < LANES; lane++) {
            const char *a[SLOTS], *b[SLOTS];
            int a_count = others_of_lane(whole, lane, a), b_count = others_of_lane(harmed, lane, b);
            assert_true(b_count >= a_count);
            fewer += b_count - a_count;
            for (int i = 0; i < a_count; i++) assert_string_equal(a[i], b[i]);
        }
        assert_true(fewer > 10);
        int64_t broken = bad_samples_broken(&stats.bad);
        assert_true(broken >= fewer);
        int lines = check_lines(bad_log);
        assert_true(lines >= 3);
        print_message("harm %d: %d samples passed over, %lld broken, %d lines\n", (int)harm, fewer, (long long)broken,
                      lines);
        config_free(config);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_lost)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
