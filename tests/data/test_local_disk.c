/* What is unpacked, piped or fetched whole lies on the local disk: it is bounded, and a disk that is full ends the run
 * with a clear message; it is not taken for the shards' fault. */
#include "shards.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "base/file.h"
#include "base/log.h"
#include "data/loader.h"
#include "data/shard_store_inside.h"

enum { SHARDS = 8, WINDOWS = 8, SAMPLES = 4 };
#define FILLING ((size_t)300000)
#define MOST ((int64_t)1 << 20) /* data.read.cache_bytes */

static char folder[512];

/* Shards of some 300 KB, and list.txt, which names them as pipes and tells their samples. */
static int set_up(void **state)
{
    static char filling[FILLING];
    StrBuf tar = {0}, list = {0};
    char name[64];
    (void)state;
    log_configure(LOG_ERROR, 0, 1);
    make_folder(folder);
    for (int s = 0; s < SHARDS; s++) {
        tar.size = 0;
        for (int i = 0; i < SAMPLES; i++) {
            snprintf(name, sizeof name, "%d-%d.txt", s, i);
            tar_text(&tar, name, "a caption");
            snprintf(name, sizeof name, "%d-%d.bin", s, i);
            tar_member(&tar, name, filling, i == 0 ? FILLING : 1);
        }
        tar_end(&tar);
        snprintf(name, sizeof name, "%d.tar", s);
        write_file(in_folder(folder, name), tar.data, tar.size);
        assert_ok(strbuf_printf(&list, "pipe:cat %s\t%d\n", in_folder(folder, name), SAMPLES));
    }
    write_file(in_folder(folder, "list.txt"), list.data, list.size);
    strbuf_free(&tar);
    strbuf_free(&list);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    remove_folder(folder);
    return 0;
}

static Config *parse(DataConfig *out)
{
    return parse_data_config(out,
                             "read: {allow_pipe: true, retries: 0, cache_bytes: %" PRId64 ", cache_folder: '%s'}\n"
                             "sources: [{name: a, shards: ['list:%s/list.txt'], caption: txt}]\n"
                             "filter: {min_side: 0}\nlanes: 2\n",
                             MOST, folder, folder);
}

static void test_bounded(void **state)
{
    (void)state;
    DataConfig data;
    ShardStore *store;
    BadSamples bad = {0};
    Config *config = parse(&data);
    const ShardStoreOptions options = {.config = &data, .threads = 1, .windows = WINDOWS};
    assert_ok(shard_store_open(&options, &bad, &store));
    const ShardWindow *windows[SHARDS];
    for (int round = 0; round < 2; round++)
        for (int s = 0; s < SHARDS; s++) {
            assert_ok(shard_store_acquire(store, 0, s, 0, SAMPLES, &windows[0]));
            assert_in_range(shard_access_spooled_bytes(store->access), FILLING, MOST);
            shard_store_release(store, windows[0]);
        }
    assert_true(shard_access_spooled_bytes(store->access) > MOST / 2); /* but it is used */
    /* What is in use stays. */
    for (int s = 0; s < SHARDS; s++) assert_ok(shard_store_acquire(store, 0, s, 0, SAMPLES, &windows[s]));
    assert_true(shard_access_spooled_bytes(store->access) >= (int64_t)(SHARDS * FILLING));
    uint8_t out[SHARD_HEADER + 16];
    for (int s = 0; s < SHARDS; s++) {
        const TarIndex *index = windows[s]->index;
        const SampleMember *txt = sample_member(&index->table, &index->table.samples[0], "txt");
        assert_ok(shard_window_read(store, windows[s], txt, out));
        shard_store_release(store, windows[s]);
    }
    shard_store_close(store);
    config_free(config);
}

static void test_full(void **state)
{
    (void)state;
    DataConfig data;
    Loader *loader = NULL;
    const Batch *batch;
    struct rlimit before, small;
    char bad_log[600];
    snprintf(bad_log, sizeof bad_log, "%s/bad.jsonl", folder);
    const LoaderOptions options = {.seed = 8, .resolution = 8, .global_batch = 2, .world = 1, .bad_log = bad_log};
    Config *config = parse(&data);
    /* A disk on which files cannot become longer. */
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = (struct rlimit){.rlim_cur = 100000, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    Status status = loader_open(&data, &options, &loader);
    if (status == STATUS_OK) status = loader_next(loader, &batch);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    if (status != ERR_SPACE) print_error("%s\n", status_message());
    assert_int_equal(status, ERR_SPACE);
    check_message(folder);
    check_message("set data.read.cache_folder");
    loader_close(loader);
    assert_false(file_exists(bad_log)); /* no shard is blamed */
    config_free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bounded), cmocka_unit_test(test_full)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
