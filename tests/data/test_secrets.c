/* URLs and commands hold passwords and tokens. No message of a run shows them, and when one is renewed, the data are
 * still the same. */
#include "shards.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "data/loader.h"
#include "data/shard_store.h"

static char folder[512];

static int set_up(void **state)
{
    (void)state;
    log_configure(LOG_ERROR, 0, 1);
    make_folder(folder);
    make_shards(folder, "s", 1, 6);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    remove_folder(folder);
    return 0;
}

static uint64_t identity(const char *pattern)
{
    DataConfig data;
    ShardStore *store;
    BadSamples bad = {0};
    Config *config = parse_data_config(
        &data, "read: {index_folder: '%s', cache_folder: '%s'}\nsources: [{name: a, shards: ['list:%s/list.txt']}]\n",
        folder, folder, folder);
    char line[600];
    snprintf(line, sizeof line, "%s\t6\n", pattern); /* with its samples: nobody is asked */
    write_file(in_folder(folder, "list.txt"), line, strlen(line));
    assert_ok(shard_store_open(&(ShardStoreOptions){.config = &data, .threads = 1, .windows = 1}, &bad, &store));
    const uint64_t found = shard_store_identity(store, 0);
    shard_store_close(store);
    config_free(config);
    return found;
}

static void test_renewed(void **state)
{
    (void)state;
    const uint64_t old = identity("https://h/p/a.tar?X-Signature=1/2");
    assert_true(identity("https://h/p/a.tar?X-Signature=3/4") == old);
    assert_true(identity("https://user:word@h/q/a.tar") == old);
    assert_true(identity("https://h/p/b.tar?X-Signature=1/2") != old);
    assert_true(identity("/p/a.tar") == old);
}

static void expect_secret_kept(Status status, Status wanted, const char *part)
{
    assert_int_equal(status, wanted);
    check_message(part);
    check_message("pipe:cat ... #");
    assert_null(strstr(status_message(), "SECRET"));
}

static void test_messages(void **state)
{
    (void)state;
    DataConfig data;
    Loader *loader = NULL;
    const Batch *batch;
    char frozen[600];
    Config *config = parse_data_config(&data,
                                       "read: {allow_pipe: true, cache_folder: '%s'}\nlanes: 1\n"
                                       "sources: [{name: a, shards: ['pipe:cat %s/s-000.tar; : SECRET']}]\n"
                                       "filter: {min_side: 0, watermark_max: 0.5, missing: error}\n",
                                       folder, folder);
    LoaderOptions options = {.seed = 8, .resolution = 8, .global_batch = 1, .world = 1};
    Status status = loader_open(&data, &options, &loader);
    if (status == STATUS_OK) status = loader_next(loader, &batch);
    expect_secret_kept(status, ERR_FORMAT, "data.filter.missing is error");
    loader_close(loader);

    /* Precomputed files that are not there. */
    snprintf(frozen, sizeof frozen, "%s/frozen", folder);
    const PrecomputedSpec spec = {.wanted = {[PRECOMPUTED_TEXT] = true}, .path = frozen, .resolution = 8};
    ShardStore *store;
    BadSamples bad = {0};
    const ShardStoreOptions store_options = {.config = &data, .precomputed = &spec, .threads = 1, .windows = 1};
    expect_secret_kept(shard_store_open(&store_options, &bad, &store), ERR_IO, "vasily precompute CONFIG");
    config_free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_renewed), cmocka_unit_test(test_messages)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
