/* Shards that are lost while a run reads them: gone, cut off, overwritten, with a hole. They are tried again, listed in
 * bad-shards.jsonl, and passed over; the order of all other samples stays. */
#include "shards.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "data/loader.h"
#include "data/tar_index.h"
#include "fault_server.h"

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

/* A server that cannot give one piece of a shard: the samples beside the hole are served in every epoch. */
static void test_hole(void **state)
{
    (void)state;
    enum { FEW = 640, CHUNK = 32768, EPOCHS = 3 }; /* blocks of 40 */
    DataConfig data;
    TarIndex index;
    int served[FEW] = {0}, lost = 0, have = 0;
    int64_t bytes;
    char kept[600], url[600], path[PATH_MAX];
    make_shards(folder, "h", 1, FEW);
    const FaultOptions options = {.seed = 1, .stall_seconds = 1, .hole = "h-000"};
    FaultServer *server = fault_server_start(folder, 0, &options);
    assert_non_null(server);
    snprintf(kept, sizeof kept, "%s/kept", folder);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/h-000.tar", fault_server_port(server));
    assert_ok(file_make_dirs(kept));
    assert_ok(file_size(in_folder(folder, "h-000.tar"), &bytes));
    index_shard(in_folder(folder, "h-000.tar"), &index);
    assert_ok(tar_index_path(url, kept, path));
    assert_ok(tar_index_write(&index, path));

    Config *config = parse_data_config(&data,
                                       "sources: [{name: h, shards: ['%s']}]\nlanes: 1\nshuffle_block: 1000\n"
                                       "shuffle_mix: 2\nfilter: {min_side: 0}\nmax_bad_share: 1\n"
                                       "read: {retries: 1, retry_seconds: 0.001, chunk_bytes: %d, cache_folder: '%s', "
                                       "index_folder: '%s'}\n",
                                       url, CHUNK, folder, kept);
    const int64_t from = bytes / 2 / CHUNK * CHUNK, to = from + CHUNK;
    bool in_hole[FEW];
    for (int i = 0; i < FEW; i++) {
        const Sample *sample = &index.table.samples[i];
        in_hole[i] = false;
        for (uint32_t m = 0; m < sample->member_count; m++) {
            const SampleMember *member = &index.table.members[sample->first_member + m];
            if (member->offset - SHARD_HEADER < to && member->offset + member->size > from) in_hole[i] = true;
        }
        lost += in_hole[i];
        have += !in_hole[i];
    }
    assert_true(lost >= 4 && have >= 8);
    Loader *loader;
    assert_ok(loader_open(
        &data, &(LoaderOptions){.seed = 8, .resolution = 8, .global_batch = 1, .world = 1, .keys_only = true},
        &loader));
    for (int s = 0; s < EPOCHS * have; s++) {
        const Batch *batch;
        int i;
        assert_ok(loader_next(loader, &batch));
        assert_int_equal(sscanf(batch->keys[0], "s000-%d", &i), 1);
        served[i]++;
        loader_release(loader, batch);
    }
    for (int i = 0; i < FEW; i++) assert_int_equal(served[i], in_hole[i] ? 0 : EPOCHS);
    loader_close(loader);
    tar_index_free(&index);
    config_free(config);
    fault_server_stop(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_lost), cmocka_unit_test(test_hole)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
