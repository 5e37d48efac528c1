/* All shards of a config indexed at once, here and behind a web server with faults; and the lists made of it. */
#include "shards.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
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
    if (trouble && result->trouble) assert_non_null(strstr(result->trouble, trouble));
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

/* The index of a URL is found again when its password or token was renewed. */
static void test_names_of_urls(void **state)
{
    (void)state;
    char one[PATH_MAX], other[PATH_MAX];
    const char *same[][2] = {{"http://h/d/x.tar?token=1", "http://h/d/x.tar?token=2&e=3"},
                             {"http://me:secret@h/x.tar", "http://h/x.tar"},
                             {"https://h/x.tar.gz?a", "https://u@h/x.tar.gz"}};
    const char *apart[][2] = {{"http://h/b/y.tar", "http://h/b/x.tar"},
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
                           /* Which request meets which fault is the threads' luck: thirteen in a row are not. */
                           .share = {[FAULT_CUT] = 0.1, [FAULT_ERROR] = 0.1, [FAULT_REFUSE] = 0.1},
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
                               "read: {index_folder: '%s', retries: 12, retry_seconds: 0.001, cache_folder: '%s'}\n"
                               "sources: [{name: a, shards: ['%s']}]\n",
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

static Config *parse_http(DataConfig *data, int port, const char *shards)
{
    return parse_data_config(data,
                             "read: {index_folder: '%s/kept', retries: 8, retry_seconds: 0.001, chunk_bytes: 4096, "
                             "cache_bytes: 1048576, cache_folder: '%s'}\n"
                             "sources: [{name: a, shards: ['http://127.0.0.1:%d/%s']}]\n",
                             folder, folder, port, shards);
}

/* One range that cannot be had, a size that is a lie: of that shard only is said so. */
static void test_bad_server(void **state)
{
    (void)state;
    DataConfig data;
    StrBuf tar = {0};
    static char filling[400000]; /* whose middle no scan touches */
    tar_text(&tar, "a.txt", "x");
    tar_member(&tar, "a.bin", filling, sizeof filling);
    tar_end(&tar);
    write_file(in_folder(folder, "s-001.tar"), tar.data, tar.size);
    FaultOptions faults = {.seed = 3, .hole = "s-001", .huge = "s-003"};
    FaultServer *server = fault_server_start(folder, 0, &faults);
    Config *config = parse_http(&data, fault_server_port(server), "s-{000..004}.tar");
    ShardIndexReport *report = index_all(&data, 1, false);
    assert_int_equal(count_state(report, SHARD_INDEXED), SHARDS - 2);
    check_shard(report, 0, 1, SHARD_UNREADABLE, 0, "code 500");
    check_shard(report, 0, 3, SHARD_UNREADABLE, 0, "1 TiB");
    shard_index_free(report);
    config_free(config);
    fault_server_stop(server);
    strbuf_free(&tar);
}

/* Bytes that are damaged on their way are noted neither in checksums nor in an index. */
static void test_damaged_on_the_way(void **state)
{
    (void)state;
    DataConfig data;
    StrBuf tar = {0};
    for (uint64_t seed = 1; seed <= 3; seed++) {
        FaultOptions faults = {.seed = seed, .share = {[FAULT_FLIP] = 0.1}, .no_range = seed == 3};
        FaultServer *server = fault_server_start(folder, 0, &faults);
        Config *config = parse_http(&data, fault_server_port(server), "s-{000..004}.tar");
        ShardIndexReport *report = index_all(&data, 2, true);
        assert_int_equal(count_state(report, SHARD_INDEXED), SHARDS);
        for (size_t i = 0; i < SHARDS; i++) {
            char name[32], path[PATH_MAX];
            Checksums sums;
            check_shard(report, 0, i, SHARD_INDEXED, SAMPLES, NULL);
            snprintf(name, sizeof name, "s-%03zu.tar", i);
            tar.size = 0;
            read_file(in_folder(folder, name), &tar);
            assert_ok(checksums_path(report->sources[0].list.paths[i], in_folder(folder, "kept"), path));
            assert_ok(checksums_read(path, &sums));
            assert_int_equal(sums.bytes, tar.size);
            for (int64_t k = 0; k < sums.count; k++) {
                int64_t rest = sums.bytes - k * sums.piece;
                assert_true(
                    checksums_match(&sums, k, tar.data + k * sums.piece, rest < sums.piece ? rest : sums.piece));
            }
            checksums_free(&sums);
        }
        assert_true(fault_server_faults(server, FAULT_FLIP) > 0);
        shard_index_free(report);
        config_free(config);
        fault_server_stop(server);
    }
    strbuf_free(&tar);
}

/* Without --force, too, what has become another shard gets another index. */
static void test_renewed(void **state)
{
    (void)state;
    DataConfig data;
    StrBuf tar = {0};
    const struct timespec later[2] = {{.tv_sec = time(NULL) + 100}, {.tv_sec = time(NULL) + 100}};
    FaultOptions faults = {.seed = 1};
    for (int whole = 0; whole < 2; whole++) { /* a server that sends no parts */
        faults.no_range = whole == 1;
        FaultServer *server = fault_server_start(folder, 0, &faults);
        Config *here = parse_data_config(
            &data, "read: {index_folder: '%s/kept', cache_folder: '%s'}\nsources: [{name: a, shards: ['%s/x.tar']}]\n",
            folder, folder, folder);
        DataConfig far_data;
        Config *far = parse_http(&far_data, fault_server_port(server), "x.tar");
        for (int samples = 1; samples <= 2; samples++) {
            char name[16];
            snprintf(name, sizeof name, "%d.txt", samples);
            tar.size = 0;
            for (int i = 0; i < samples; i++) {
                snprintf(name, sizeof name, "%d.txt", i);
                tar_text(&tar, name, "x");
            }
            tar_end(&tar);
            write_file(in_folder(folder, "x.tar"), tar.data, tar.size);
            if (samples == 2) assert_int_equal(utimensat(AT_FDCWD, in_folder(folder, "x.tar"), later, 0), 0);
            for (int again = 0; again < (samples == 2 ? 1 : 2); again++)
                for (int k = 0; k < 2; k++) {
                    ShardIndexReport *report =
                        index_all(k ? &far_data : &data, 1, whole == 1 && samples == 1 && !again);
                    check_shard(report, 0, 0, again ? SHARD_HAD_INDEX : SHARD_INDEXED, samples, NULL);
                    shard_index_free(report);
                }
        }
        config_free(here);
        config_free(far);
        fault_server_stop(server);
    }
    strbuf_free(&tar);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_here, set_up, tear_down),
                                       cmocka_unit_test(test_names_of_urls),
                                       cmocka_unit_test_setup_teardown(test_behind_http, set_up, tear_down),
                                       cmocka_unit_test_setup_teardown(test_bad_server, set_up, tear_down),
                                       cmocka_unit_test_setup_teardown(test_damaged_on_the_way, set_up, tear_down),
                                       cmocka_unit_test_setup_teardown(test_renewed, set_up, tear_down)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
