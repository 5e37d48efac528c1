/* test_soak_http [SECONDS]: a loader reads from a server that stalls, cuts, damages and refuses at random, beside one
 * that reads the same shards here. What the first serves is what the second serves, sample by sample; what is broken
 * for good is listed and nothing else; memory and open files stay level; nothing hangs. tests/bench/soak_http.sh runs
 * it for an hour. */
#include "shards.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "data/loader.h"
#include "data/tar_index.h"
#include "fault_server.h"

#define SAMPLES 40 /* in a shard */
#define GOOD 60    /* shards that nothing is wrong with, read with checksums; the last PACKED are compressed */
#define PACKED 5
#define ROUGH 20 /* shards without checksums, of which three are broken for good */
#define GONE 3
#define TRUNCATED 7
#define CORRUPT 11
#define RESOLUTION 8
#define BATCH 32
#define REOPEN 25.0 /* seconds, after which the loader is opened anew where it was */
#define HANGS 240   /* seconds without a step */

static double seconds = 6;
#define PIECE 65536

static char folder[512];
static int port, to_server;
static pid_t server_process;

/* ---- the server, a process of its own so that memory and files are the loader's ---- */

static void be_server(int from_parent, int to_parent)
{
    FaultOptions options = {.seed = (uint64_t)getpid(),
                            .share = {[FAULT_STALL] = 0.004,
                                      [FAULT_CUT] = 0.03,
                                      [FAULT_FLIP] = 0.03,
                                      [FAULT_ERROR] = 0.02,
                                      [FAULT_BUSY] = 0.002,
                                      [FAULT_MISSING] = 0.02,
                                      [FAULT_REFUSE] = 0.02,
                                      [FAULT_LONGER] = 0.01,
                                      [FAULT_SHORTER] = 0.02,
                                      [FAULT_DRIP] = 0.002,
                                      [FAULT_WHOLE] = 0.003,
                                      [FAULT_REDIRECT] = 0.03,
                                      [FAULT_OTHER] = 0.01},
                            .stall_seconds = 20,
                            .busy_seconds = 1,
                            .gone = "r-003",
                            .truncated = "r-007",
                            .corrupt = "r-011"};
    char byte;
    FaultServer *server = fault_server_start(folder, 0, &options);
    int number = server ? fault_server_port(server) : 0;
    if (write(to_parent, &number, sizeof number) != sizeof number) _exit(1);
    while (read(from_parent, &byte, 1) > 0) {
    }
    fault_server_stop(server);
    _exit(0);
}

static void start_server(void)
{
    int down[2], up[2];
    assert_int_equal(pipe(down), 0);
    assert_int_equal(pipe(up), 0);
    server_process = fork();
    assert_true(server_process >= 0);
    if (server_process == 0) {
        close(down[1]);
        close(up[0]);
        be_server(down[0], up[1]);
    }
    close(down[0]);
    close(up[1]);
    to_server = down[1];
    assert_int_equal(read(up[0], &port, sizeof port), sizeof port);
    assert_true(port > 0);
    close(up[0]);
}

static void stop_server(void)
{
    int how;
    close(to_server);
    assert_int_equal(waitpid(server_process, &how, 0), server_process);
}

/* ---- shards ---- */

static void pack(const char *name)
{
    StrBuf tar = {0};
    struct archive *out = archive_write_new();
    struct archive_entry *entry = archive_entry_new();
    char packed[600];
    snprintf(packed, sizeof packed, "%s.gz", in_folder(folder, name));
    read_file(in_folder(folder, name), &tar);
    assert_int_equal(archive_write_add_filter_gzip(out), ARCHIVE_OK);
    assert_int_equal(archive_write_set_format_raw(out), ARCHIVE_OK);
    assert_int_equal(archive_write_open_filename(out, packed), ARCHIVE_OK);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_pathname(entry, "x");
    assert_int_equal(archive_write_header(out, entry), ARCHIVE_OK);
    assert_int_equal(archive_write_data(out, tar.data, tar.size), tar.size);
    assert_int_equal(archive_write_close(out), ARCHIVE_OK);
    archive_entry_free(entry);
    archive_write_free(out);
    assert_int_equal(unlink(in_folder(folder, name)), 0);
    strbuf_free(&tar);
}

static void sum_file(const char *name, Checksums *out)
{
    StrBuf tar = {0};
    read_file(in_folder(folder, name), &tar);
    const int64_t bytes = (int64_t)tar.size;
    *out = (Checksums){.piece = PIECE, .bytes = bytes, .count = (bytes + PIECE - 1) / PIECE};
    out->sums = mem_alloc_array((size_t)out->count, sizeof out->sums[0]);
    assert_non_null(out->sums);
    for (int64_t i = 0, at = 0; i < out->count; i++, at += PIECE)
        out->sums[i] = hash_memory(tar.data + at, (size_t)(bytes - at < PIECE ? bytes - at : PIECE));
    strbuf_free(&tar);
}

/* What `vasily data index` does for a shard behind the server, from the whole file here. */
static void index_for_http(ShardAccess *access, const char *name, bool with_sums)
{
    char url[600], path[PATH_MAX];
    ShardFile *file;
    TarIndex index;
    Checksums sums;
    snprintf(url, sizeof url, "http://user:secret@127.0.0.1:%d/%s", port, name);
    assert_ok(shard_file_open(access, in_folder(folder, name), -1, &file));
    assert_ok(tar_index_scan(file, &index));
    assert_int_equal(index.table.sample_count, SAMPLES);
    assert_ok(tar_index_path(url, folder, path));
    assert_ok(tar_index_write(&index, path));
    tar_index_free(&index);
    if (with_sums) {
        sum_file(name, &sums);
        assert_ok(checksums_path(url, folder, path));
        assert_ok(checksums_write(&sums, path));
        checksums_free(&sums);
    }
    shard_file_close(file);
}

static const char *shard_name(char prefix, int i)
{
    static char name[32];
    snprintf(name, sizeof name, "%c-%03d.tar%s", prefix, i, prefix == 'g' && i >= GOOD - PACKED ? ".gz" : "");
    return name;
}

static void make_all(void)
{
    ReadConfig config = {.chunk_bytes = PIECE, .cache_bytes = 1 << 20, .cache_folder = folder};
    ShardAccess *access;
    char name[32];
    make_shards(folder, "g", GOOD, SAMPLES);
    make_shards(folder, "r", ROUGH, SAMPLES);
    for (int i = GOOD - PACKED; i < GOOD; i++) {
        snprintf(name, sizeof name, "g-%03d.tar", i);
        pack(name);
    }
    assert_ok(shard_access_create(&config, &access));
    for (int i = 0; i < GOOD; i++) index_for_http(access, shard_name('g', i), i < GOOD - PACKED);
    for (int i = 0; i < ROUGH; i++) index_for_http(access, shard_name('r', i), i == CORRUPT);
    shard_access_free(access);
}

static Config *config_at(const char *where, int threads, DataConfig *out)
{
    return parse_data_config(
        out,
        "sources:\n"
        "  - {name: good, weight: 3, shards: ['%s/g-{000..%03d}.tar', '%s/g-{%03d..%03d}.tar.gz']}\n"
        "  - {name: rough, weight: 1, shards: ['%s/r-{000..%03d}.tar']}\n"
        "lanes: 4\nshuffle_block: 40\nshuffle_mix: 2\ndecode_threads: %d\nmax_bad_share: 1\n"
        "filter: {min_side: 0}\n"
        "read: {retries: 10, retry_seconds: 0.002, stall_seconds: 0.5, connect_seconds: 5,\n"
        "       chunk_bytes: 65536, cache_bytes: 1048576, cache_folder: '%s', index_folder: '%s'}\n",
        where, GOOD - PACKED - 1, where, GOOD - PACKED, GOOD - 1, where, ROUGH - 1, threads, folder,
        strncmp(where, "http", 4) == 0 ? folder : "");
}

/* ---- watching ---- */

static int open_files(void)
{
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (readdir(dir)) n++;
    closedir(dir);
    return n - 3; /* itself, . and .. */
}

static double resident(void) /* MiB */
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file) {
        if (fscanf(file, "%*d %ld", &pages) != 1) pages = 0;
        fclose(file);
    }
    return (double)pages * (double)sysconf(_SC_PAGESIZE) / 1048576;
}

typedef struct Soak {
    DataConfig here_config, there_config;
    Loader *here, *there;
    Cursor *cursor;
    int64_t steps, compared, rough;
    int32_t served[ROUGH][SAMPLES];
    ShardAccessStats before; /* of loaders closed since */
    double begun, opened, told, waited_here;
    double base_memory;
    int base_files;
} Soak;

static void open_there(Soak *soak)
{
    LoaderOptions options = {.seed = 3,
                             .resolution = RESOLUTION,
                             .global_batch = BATCH,
                             .world = 1,
                             .first_step = soak->steps,
                             .start = soak->cursor,
                             .bad_log = in_folder(folder, "bad-shards.jsonl")};
    assert_ok(loader_open(&soak->there_config, &options, &soak->there));
    soak->opened = clock_seconds();
}

static ShardAccessStats access_stats(const Soak *soak)
{
    LoaderStats now;
    ShardAccessStats sum = soak->before;
    loader_stats(soak->there, &now);
    sum.retries += now.access.retries;
    sum.restarts += now.access.restarts;
    sum.fetched_bytes += now.access.fetched_bytes;
    sum.refetched_bytes += now.access.refetched_bytes;
    return sum;
}

/* For as long as was asked for; on a busy machine until something had to be tried again, at most a minute. */
static bool is_over(const Soak *soak)
{
    const double passed = clock_seconds() - soak->begun;
    const ShardAccessStats stats = access_stats(soak);
    return passed >= seconds && ((stats.retries > 0 && stats.restarts > 0) || passed > 60);
}

static void close_there(Soak *soak)
{
    soak->before = access_stats(soak);
    double begun = clock_seconds();
    loader_close(soak->there);
    assert_true(clock_seconds() - begun < 60);
}

static void tell(Soak *soak)
{
    ShardAccessStats access = access_stats(soak);
    double now = clock_seconds() - soak->begun;
    const int64_t samples = soak->steps * BATCH;
    soak->told = clock_seconds();
    printf(
        "%6.0f s: %8lld samples, %6.0f/s; %6.1f MiB resident, %3d files; %7lld tries again, %6lld where they stopped; "
        "%8.1f MB fetched, %7.1f again\n",
        now, (long long)samples, (double)samples / now, resident(), open_files(), (long long)access.retries,
        (long long)access.restarts, (double)access.fetched_bytes / 1e6, (double)access.refetched_bytes / 1e6);
    fflush(stdout);
}

/* ---- the soak ---- */

static void compare(Soak *soak, const Batch *here, const Batch *there)
{
    const size_t pixels = (size_t)RESOLUTION * RESOLUTION * 3;
    assert_int_equal(here->count, there->count);
    for (int32_t k = 0; k < here->count; k++) {
        assert_int_equal(here->index[k], there->index[k]);
        assert_int_equal(here->sources[k], there->sources[k]);
        if (here->sources[k] == 0) {
            assert_string_equal(here->keys[k], there->keys[k]);
            assert_string_equal(here->captions[k], there->captions[k]);
            assert_memory_equal(here->pixels[k], there->pixels[k], pixels);
            soak->compared++;
        } else {
            int shard, sample;
            assert_int_equal(sscanf(there->keys[k], "s%d-%d", &shard, &sample), 2);
            assert_in_range(shard, 0, ROUGH - 1);
            assert_in_range(sample, 0, SAMPLES - 1);
            soak->served[shard][sample]++;
            soak->rough++;
        }
    }
}

static void step(Soak *soak)
{
    const Batch *here, *there;
    alarm(HANGS);
    assert_ok(loader_next(soak->here, &here));
    assert_ok(loader_next(soak->there, &there));
    compare(soak, here, there);
    cursor_free(soak->cursor);
    assert_ok(cursor_clone(there->cursor, &soak->cursor));
    loader_release(soak->here, here);
    loader_release(soak->there, there);
    soak->steps++;
}

/* Samples of the rough source that are not broken have been served equally often, but for the epoch under way. */
static void check_rough(const Soak *soak)
{
    int32_t least = INT32_MAX, most = 0;
    for (int shard = 0; shard < ROUGH; shard++) {
        if (shard == GONE || shard == CORRUPT) {
            for (int i = 0; i < SAMPLES; i++) assert_int_equal(soak->served[shard][i], 0);
            continue;
        }
        if (shard == TRUNCATED) continue;
        for (int i = 0; i < SAMPLES; i++) {
            if (soak->served[shard][i] < least) least = soak->served[shard][i];
            if (soak->served[shard][i] > most) most = soak->served[shard][i];
        }
    }
    printf("rough samples were served %d to %d times\n", least, most);
    /* Lanes may be an epoch apart, and those with more broken samples slowly get ahead of the others. */
    assert_true(most - least <= 2 + most / 50);
}

static void check_bad_log(const Soak *soak)
{
    StrBuf text = {0};
    int seen[3] = {0};
    static const char *const NAMES[] = {"r-003.tar", "r-007.tar", "r-011.tar"};
    if (!file_exists(in_folder(folder, "bad-shards.jsonl")) && soak->rough < ROUGH * SAMPLES) return;
    read_file(in_folder(folder, "bad-shards.jsonl"), &text);
    for (char *line = strtok(text.data, "\n"); line; line = strtok(NULL, "\n")) {
        int which = -1;
        for (int i = 0; i < 3; i++)
            if (strstr(line, NAMES[i])) which = i;
        if (which < 0) print_error("%s\n", line);
        assert_null(strstr(line, "secret"));
        assert_true(which >= 0);
        seen[which]++;
    }
    printf("bad-shards.jsonl: %d, %d, %d lines of the three that are broken\n", seen[0], seen[1], seen[2]);
    if (soak->rough >= 2 * ROUGH * SAMPLES)
        for (int i = 0; i < 3; i++) assert_true(seen[i] > 0);
    strbuf_free(&text);
}

static void test_soak(void **state)
{
    static Soak soak;
    char url[64];
    LoaderOptions options = {.seed = 3, .resolution = RESOLUTION, .global_batch = BATCH, .world = 1};
    make_folder(folder);
    start_server();
    printf("the server's seed is %d\n", (int)server_process);
    make_all();
    snprintf(url, sizeof url, "http://user:secret@127.0.0.1:%d", port);
    Config *here = config_at(folder, 1, &soak.here_config), *there = config_at(url, 4, &soak.there_config);
    soak.begun = soak.told = clock_seconds();
    assert_ok(loader_open(&soak.here_config, &options, &soak.here));
    open_there(&soak);
    double interval = seconds / 60 > 2 ? seconds / 60 : 2;
    while (!is_over(&soak)) {
        step(&soak);
        double now = clock_seconds();
        if (now - soak.told > interval) tell(&soak);
        if (soak.base_memory == 0 && now - soak.begun > seconds / 5) {
            soak.base_memory = resident();
            soak.base_files = open_files();
        }
        if (now - soak.opened > (seconds < 60 ? seconds / 3 : REOPEN)) {
            close_there(&soak);
            open_there(&soak);
        }
    }
    alarm(0);
    tell(&soak);
    double memory = resident();
    int files = open_files();
    close_there(&soak);
    loader_close(soak.here);
    printf("%lld samples were compared one by one\n", (long long)soak.compared);
    check_rough(&soak);
    check_bad_log(&soak);
    printf("%.1f MiB and %d files after a fifth of the time, %.1f MiB and %d files at the end\n", soak.base_memory,
           soak.base_files, memory, files);
    assert_true(memory <= soak.base_memory * 1.25 + 24);
    assert_true(files <= soak.base_files + 40);
    assert_true(soak.before.retries > 0 && soak.before.restarts > 0);
    cursor_free(soak.cursor);
    config_free(here);
    config_free(there);
    stop_server();
    remove_folder(folder);
}

int main(int argc, char **argv)
{
    setenv("no_proxy", "*", 1);
    if (argc > 1) seconds = atof(argv[1]);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_soak)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
