/* All shards of a config indexed at once, here and behind a web server with faults; and the lists made of it. */
#include "shards.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "data/checksums.h"
#include "data/shard_index.h"
#include "data/tar_index.h"
#include "fault_server.h"

#define SHARDS 5
#define SAMPLES 12

static char folder[512];

static int set_up(void **state)
{
    (void)state;
    make_folder(folder);
    make_shards(folder, "s", SHARDS, SAMPLES);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    remove_folder(folder);
    return 0;
}

static ShardIndexReport *index_all(const DataConfig *data, int threads, bool force)
{
    ShardIndexReport *report;
    assert_ok(shard_index_all(&(ShardIndexOptions){.config = data, .threads = threads, .force = force}, &report));
    return report;
}

static int count_state(const ShardIndexReport *report, ShardIndexState state)
{
    int count = 0;
    for (size_t s = 0; s < report->source_count; s++)
        for (size_t i = 0; i < report->sources[s].list.count; i++)
            count += report->sources[s].results[i].state == state;
    return count;
}

static void check_shard(const ShardIndexReport *report, size_t source, size_t i, ShardIndexState state, int64_t samples,
                        const char *trouble)
{
    const ShardIndexResult *result = &report->sources[source].results[i];
    assert_int_equal(result->state, state);
    assert_int_equal(result->samples, samples);
    assert_int_equal(result->trouble != NULL, trouble != NULL);
    if (trouble) assert_non_null(strstr(result->trouble, trouble));
}

static void test_here(void **state)
{
    (void)state;
    DataConfig data;
    StrBuf tar = {0}, text = {0};
    ShardList list = {0};
    read_file(in_folder(folder, "s-001.tar"), &tar);
    write_file(in_folder(folder, "cut.tar"), tar.data, tar.size / 2);
    write_file(in_folder(folder, "empty.tar"), "", 0);
    tar.size = 0;
    tar_text(&tar, "a blank.txt", "x");
    tar_end(&tar);
    write_file(in_folder(folder, "blank.tar"), tar.data, tar.size);
    Config *config = parse_data_config(
        &data,
        "read: {retries: 0}\nsources:\n- {name: a, shards: ['%s/s-*.tar']}\n- {name: b, shards: ['%s/cut.tar', "
        "'%s/empty.tar', '%s/blank.tar', '%s/absent.tar', '%s/s-000.tar']}\n",
        folder, folder, folder, folder, folder, folder);
    for (int round = 0; round < 3; round++) { /* anew, found, forced */
        ShardIndexReport *report = index_all(&data, round == 0 ? 3 : 1, round == 2);
        assert_int_equal(report->source_count, 2);
        for (size_t i = 0; i < SHARDS; i++)
            check_shard(report, 0, i, round == 1 ? SHARD_HAD_INDEX : SHARD_INDEXED, SAMPLES, NULL);
        assert_int_equal(report->sources[1].results[0].state, SHARD_DAMAGED);
        assert_non_null(strstr(report->sources[1].results[0].trouble, "cut.tar: truncated"));
        check_shard(report, 1, 1, SHARD_NO_INDEX, 0, "empty.tar: has no samples");
        check_shard(report, 1, 2, SHARD_NO_INDEX, 1, "blank in its name");
        check_shard(report, 1, 3, SHARD_UNREADABLE, 0, "absent.tar");
        assert_int_equal(report->sources[1].results[4].samples, SAMPLES);

        /* The list: what was passed over is a comment, the rest reads back. */
        text.size = 0;
        assert_ok(shard_index_list(&report->sources[1], in_folder(folder, "b.txt"), &text));
        assert_non_null(strstr(text.data, "# damaged: "));
        assert_non_null(strstr(text.data, "# unreadable: "));
        assert_ok(shard_list_parse(text.data, text.size, "", &list));
        assert_int_equal(list.count, 3);
        assert_string_equal(list.paths[2], "s-000.tar"); /* from the list's folder on */
        assert_int_equal(shard_list_note(&list, 1).samples, 1);
        assert_int_equal(shard_list_note(&list, 2).samples, SAMPLES);
        int64_t bytes;
        assert_ok(file_size(in_folder(folder, "s-000.tar"), &bytes));
        assert_int_equal(shard_list_note(&list, 2).bytes, bytes);
        shard_list_free(&list);
        text.size = 0; /* a list elsewhere has whole paths */
        assert_ok(shard_index_list(&report->sources[0], "/elsewhere/list.txt", &text));
        assert_ok(shard_list_parse(text.data, text.size, "", &list));
        assert_string_equal(list.paths[3], in_folder(folder, "s-003.tar"));
        shard_list_free(&list);
        shard_index_free(report);
    }
    assert_false(file_exists(in_folder(folder, "cut.tar.idx")));
    assert_false(file_exists(in_folder(folder, "blank.tar.idx")));
    config_free(config);
    strbuf_free(&tar);
    strbuf_free(&text);
}

/* The index of a URL is found again when its password or token was renewed; a query that tells shards apart counts. */
static void test_names_of_urls(void **state)
{
    (void)state;
    char one[PATH_MAX], other[PATH_MAX];
    const char *same[][2] = {{"http://h/d/x.tar?token=1", "http://h/d/x.tar?token=2&e=3"},
                             {"http://me:secret@h/x.tar", "http://h/x.tar"},
                             {"https://h/x.tar.gz?a", "https://u@h/x.tar.gz"}};
    const char *apart[][2] = {{"http://h/get?id=1", "http://h/get?id=2"},
                              {"http://h/a/x.tar", "http://h/b/x.tar"},
                              {"http://h/x.tar", "https://h/x.tar"}};
    for (int i = 0; i < 3; i++) {
        assert_ok(tar_index_path(same[i][0], "kept", one));
        assert_ok(tar_index_path(same[i][1], "kept", other));
        assert_string_equal(one, other);
        assert_null(strstr(one, "secret"));
        assert_ok(tar_index_path(apart[i][0], "kept", one));
        assert_ok(tar_index_path(apart[i][1], "kept", other));
        assert_string_not_equal(one, other);
    }
}

static void test_behind_http(void **state)
{
    (void)state;
    DataConfig data;
    FaultOptions faults = {.seed = 3,
                           .share = {[FAULT_CUT] = 0.2, [FAULT_ERROR] = 0.2, [FAULT_REFUSE] = 0.1},
                           .stall_seconds = 1,
                           .gone = "s-001",
                           .truncated = "s-003"};
    FaultServer *server = fault_server_start(folder, 0, &faults);
    assert_non_null(server);
    char kept[600], url[600];
    snprintf(kept, sizeof kept, "%s/kept", folder);
    Config *config = parse_data_config(&data,
                                       "read: {index_folder: '%s', retries: 12, retry_seconds: 0.001, chunk_bytes: "
                                       "4096, cache_bytes: 1048576, cache_folder: '%s'}\n"
                                       "sources: [{name: a, shards: ['http://127.0.0.1:%d/s-{000..004}.tar']}]\n",
                                       kept, folder, fault_server_port(server));
    ShardIndexReport *report = index_all(&data, 4, false);
    assert_int_equal(count_state(report, SHARD_INDEXED), SHARDS - 2);
    assert_int_equal(report->sources[0].results[1].state, SHARD_UNREADABLE);
    assert_true(report->sources[0].results[3].state >= SHARD_DAMAGED);
    shard_index_free(report);

    /* The index is the one of the file, and the checksums are its. */
    snprintf(url, sizeof url, "http://127.0.0.1:%d/s-004.tar", fault_server_port(server));
    char path[PATH_MAX], local[PATH_MAX];
    int64_t samples;
    StrBuf a = {0}, b = {0};
    Checksums sums;
    assert_ok(tar_index_find(url, kept, &samples, path));
    assert_int_equal(samples, SAMPLES);
    read_file(path, &a);
    Config *plain = parse_data_config(&data, "sources: [{name: a, shards: ['%s/s-004.tar']}]\n", folder);
    shard_index_free(index_all(&data, 1, false));
    assert_ok(tar_index_find(in_folder(folder, "s-004.tar"), "", &samples, local));
    read_file(local, &b);
    assert_string_equal(a.data, b.data);
    assert_ok(checksums_path(url, kept, path));
    assert_ok(checksums_read(path, &sums));
    b.size = 0;
    read_file(in_folder(folder, "s-004.tar"), &b);
    assert_int_equal(sums.bytes, b.size);
    for (int64_t i = 0; i < sums.count; i++) {
        int64_t rest = sums.bytes - i * sums.piece;
        assert_true(checksums_match(&sums, i, b.data + i * sums.piece, rest < sums.piece ? rest : sums.piece));
    }
    checksums_free(&sums);
    config_free(plain);
    config_free(config);

    /* Of what has both only the size is asked for; where the index is to go is asked before anything is read. */
    config = parse_data_config(&data,
                               "read: {index_folder: '%s', cache_folder: '%s'}\nsources: [{name: a, shards: ['%s']}]\n",
                               kept, folder, url);
    int64_t requests = fault_server_requests(server), fetched = 0;
    report = index_all(&data, 1, false);
    assert_int_equal(count_state(report, SHARD_HAD_INDEX), 1);
    shard_index_free(report);
    fetched = fault_server_requests(server) - requests;
    assert_in_range(fetched, 1, 20); /* whether its size is still the same */
    requests += fetched;
    config_free(config);
    config = parse_data_config(&data, "sources: [{name: a, shards: ['%s']}]\n", url);
    assert_int_equal(shard_index_all(&(ShardIndexOptions){.config = &data, .threads = 1}, &report), ERR_CONFIG);
    check_message("index_folder");
    assert_int_equal(fault_server_requests(server), requests);
    config_free(config);
    fault_server_stop(server);
    strbuf_free(&a);
    strbuf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_here, set_up, tear_down),
                                       cmocka_unit_test(test_names_of_urls),
                                       cmocka_unit_test_setup_teardown(test_behind_http, set_up, tear_down)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
