/* The bytes of shards here, compressed, in pipes and behind a web server that misbehaves: they are those of the file,
 * or it is said why not. */
#include "shards.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/random.h"
#include "data/shard_file.h"
#include "fault_server.h"

#define BYTES 700001
#define CHUNK 65536

static char folder[512];
static StrBuf content; /* of a.tar */
static FaultServer *server;
static ReadConfig config;
static ShardAccess *access_;

static const FaultOptions HEALTHY = {.seed = 1, .stall_seconds = 30, .busy_seconds = 1};

static void restart_access(void)
{
    shard_access_free(access_);
    assert_ok(shard_access_create(&config, &access_));
}

static int set_up(void **state)
{
    uint32_t word = 1;
    make_folder(folder);
    content.size = 0;
    for (int i = 0; i < BYTES; i++) {
        if (i % 4 == 0) word = random_u32(7, RANDOM_TEST, 0, (uint64_t)i);
        char byte = (char)(word >> (i % 4 * 8));
        assert_ok(strbuf_append(&content, &byte, 1));
    }
    write_file(in_folder(folder, "a.tar"), content.data, content.size);
    config = (ReadConfig){.retries = 8,
                          .retry_seconds = 0.001,
                          .connect_seconds = 20,
                          .stall_seconds = 0.5,
                          .chunk_bytes = CHUNK,
                          .cache_bytes = 64 * CHUNK,
                          .cache_folder = folder,
                          .index_folder = "",
                          .checksums = true};
    server = fault_server_start(folder, 0, &HEALTHY);
    assert_non_null(server);
    access_ = NULL;
    restart_access();
    return 0;
}

static int tear_down(void **state)
{
    shard_access_free(access_);
    fault_server_stop(server);
    remove_folder(folder);
    strbuf_free(&content);
    return 0;
}

static const char *url(const char *name)
{
    static char urls[4][600];
    static int next;
    next = (next + 1) % 4;
    snprintf(urls[next], sizeof urls[next], "http://127.0.0.1:%d/%s", fault_server_port(server), name);
    return urls[next];
}

static void set_fault(Fault fault, double share)
{
    FaultOptions options = HEALTHY;
    options.share[fault] = share;
    fault_server_set(server, &options);
}

static ShardFile *open_ok(const char *path)
{
    ShardFile *file;
    assert_ok(shard_file_open(access_, path, -1, &file));
    return file;
}

static void open_fails(const char *path, int64_t bytes, Status status, const char *part)
{
    ShardFile *file;
    Status got = shard_file_open(access_, path, bytes, &file);
    if (got != status) print_error("%s: %s\n", path, status_message());
    assert_int_equal(got, status);
    assert_null(file);
    check_message(part);
}

static void expect_range(ShardFile *file, int64_t size, int64_t offset)
{
    char *out = malloc((size_t)size + 1);
    assert_ok(shard_file_read(file, out, size, offset));
    assert_memory_equal(out, content.data + offset, size);
    free(out);
}

static ShardAccessStats stats(void)
{
    ShardAccessStats out;
    shard_access_stats(access_, &out);
    return out;
}

static int open_files(void)
{
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (readdir(dir)) n++;
    closedir(dir);
    return n;
}

static void note_sums(const char *shard)
{
    char path[PATH_MAX];
    Checksums sums;
    config.index_folder = folder;
    ShardFile *file = open_ok(shard);
    assert_ok(shard_file_sum(file, &sums));
    shard_file_close(file);
    assert_ok(checksums_path(shard, folder, path));
    assert_ok(checksums_write(&sums, path));
    checksums_free(&sums);
}

/* ---- names ---- */

static void expect_shown(const char *path, const char *shown)
{
    char out[100];
    shard_show(path, out, sizeof out);
    assert_string_equal(out, shown);
}

static void test_names(void **state)
{
    assert_int_equal(shard_kind("a/http://x"), SHARD_LOCAL);
    assert_int_equal(shard_kind("https://x/a.tar"), SHARD_HTTP);
    assert_int_equal(shard_kind("pipe:cat x"), SHARD_PIPE);
    expect_shown("http://u:p@w@host:1/a/b.tar?key=secret", "http://host:1/a/b.tar?...");
    expect_shown("https://host/a@b.tar", "https://host/a@b.tar");
    expect_shown("https://u@host", "https://host");
    expect_shown("https://host?u@x", "https://host?...");
    expect_shown("/a/b@c?.tar", "/a/b@c?.tar");
}

/* ---- here ---- */

static void *write_later(void *path)
{
    usleep(100000);
    write_file(path, content.data, content.size);
    return NULL;
}

static void test_local(void **state)
{
    const char *path = in_folder(folder, "a.tar");
    char byte;
    ShardFile *file = open_ok(path);
    assert_int_equal(shard_file_bytes(file), BYTES);
    assert_false(shard_file_unpacked(file));
    expect_range(file, BYTES, 0);
    expect_range(file, 100, BYTES - 100);
    expect_range(file, 0, BYTES);
    assert_int_equal(shard_file_read(file, &byte, 1, BYTES), ERR_FORMAT);
    assert_int_equal(shard_file_read(file, &byte, INT64_MAX, 1), ERR_FORMAT);
    assert_int_equal(shard_file_read(file, &byte, 1, -1), ERR_FORMAT);
    assert_false(shard_file_doubt(file, 100, 0));
    assert_int_equal(truncate(path, 1000), 0);
    assert_int_equal(shard_file_read(file, &byte, 1, 2000), ERR_FORMAT);
    check_message("shorter");
    shard_file_close(file);
    shard_file_close(NULL);

    open_fails(path, 999, ERR_MISMATCH, "a.tar: has 1000 bytes");
    open_fails(folder, -1, ERR_IO, "not a regular file");
    int64_t before = stats().retries;
    open_fails(in_folder(folder, "none.tar"), -1, ERR_IO, "given up after 9 tries");
    assert_int_equal(stats().retries - before, 8);
    /* A file that is not there for the moment. */
    pthread_t thread;
    config.retries = 100;
    assert_int_equal(pthread_create(&thread, NULL, write_later, (void *)in_folder(folder, "late.tar")), 0);
    config.retry_seconds = 0.05;
    shard_file_close(open_ok(in_folder(folder, "late.tar")));
    pthread_join(thread, NULL);
}

/* ---- compressed ---- */

static void compress_to(const char *name, int filter, size_t cut)
{
    struct archive *out = archive_write_new();
    struct archive_entry *entry = archive_entry_new();
    const char *path = in_folder(folder, name);
    assert_int_equal(archive_write_add_filter(out, filter), ARCHIVE_OK);
    assert_int_equal(archive_write_set_format_raw(out), ARCHIVE_OK);
    assert_int_equal(archive_write_open_filename(out, path), ARCHIVE_OK);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_pathname(entry, "x");
    assert_int_equal(archive_write_header(out, entry), ARCHIVE_OK);
    assert_int_equal(archive_write_data(out, content.data, content.size), content.size);
    assert_int_equal(archive_write_close(out), ARCHIVE_OK);
    archive_entry_free(entry);
    archive_write_free(out);
    int64_t size;
    assert_ok(file_size(path, &size));
    assert_int_equal(truncate(path, size - (int64_t)cut), 0);
}

static void expect_unpacked(const char *path)
{
    ShardFile *file = open_ok(path);
    assert_true(shard_file_unpacked(file));
    assert_int_equal(shard_file_bytes(file), BYTES);
    expect_range(file, BYTES, 0);
    assert_false(shard_file_doubt(file, 10, 0));
    shard_file_close(file);
}

static void test_compressed(void **state)
{
    char command[700];
    config.allow_pipe = true;
    compress_to("a.tar.gz", ARCHIVE_FILTER_GZIP, 0);
    compress_to("a.tar.zst", ARCHIVE_FILTER_ZSTD, 0);
    for (int i = 0; i < 2; i++) {
        const char *name = i ? "a.tar.zst" : "a.tar.gz";
        expect_unpacked(in_folder(folder, name));
        expect_unpacked(url(name));
        snprintf(command, sizeof command, "pipe:cat %s", in_folder(folder, name));
        expect_unpacked(command);
    }
    /* A break: what precedes it is there, the rest is not. */
    compress_to("cut.tar.gz", ARCHIVE_FILTER_GZIP, 100000);
    for (int i = 0; i < 2; i++) {
        char byte;
        ShardFile *file = open_ok(i ? url("cut.tar.gz") : in_folder(folder, "cut.tar.gz"));
        assert_in_range(shard_file_bytes(file), BYTES / 2, BYTES - 50000);
        expect_range(file, shard_file_bytes(file), 0);
        assert_int_equal(shard_file_read(file, &byte, 1, BYTES - 1), ERR_FORMAT);
        shard_file_close(file);
    }
    /* Damage on the way: with checksums none comes through. Without, doubt has all of it fetched anew. */
    note_sums(url("a.tar.zst"));
    restart_access();
    set_fault(FAULT_FLIP, 0.4);
    expect_unpacked(url("a.tar.zst"));
    char *bytes = malloc(BYTES);
    for (uint64_t seed = 1; seed <= 6; seed++) {
        FaultOptions options = HEALTHY;
        options.seed = seed;
        options.share[FAULT_FLIP] = 0.1;
        fault_server_set(server, &options);
        restart_access();
        ShardFile *file = open_ok(url("a.tar.gz"));
        while (shard_file_read(file, bytes, BYTES, 0) != STATUS_OK || memcmp(bytes, content.data, BYTES) != 0)
            assert_true(shard_file_doubt(file, BYTES, 0));
        shard_file_close(file);
    }
    /* Another size than the file itself says, though nothing in it is broken: it is fetched once more. */
    StrBuf packed = {0};
    compress_to("size.tar.gz", ARCHIVE_FILTER_GZIP, 0);
    read_file(in_folder(folder, "size.tar.gz"), &packed);
    for (int wrong = 0; wrong < 2; wrong++) {
        packed.data[packed.size - 4] ^= (char)wrong;
        write_file(in_folder(folder, "size.tar.gz"), packed.data, packed.size);
        fault_server_set(server, &HEALTHY);
        restart_access();
        expect_unpacked(url("size.tar.gz"));
        assert_int_equal(stats().retries, wrong);
    }
    strbuf_free(&packed);
    for (int heals = 0; heals < 2; heals++) {
        FaultOptions options = HEALTHY;
        options.corrupt = "a.tar.gz";
        fault_server_set(server, &options);
        restart_access();
        ShardFile *file = open_ok(url("a.tar.gz"));
        assert_int_equal(shard_file_bytes(file), BYTES);
        assert_ok(shard_file_read(file, bytes, BYTES, 0));
        assert_memory_not_equal(bytes, content.data, BYTES);
        if (heals) fault_server_set(server, &HEALTHY);
        assert_int_equal(shard_file_doubt(file, BYTES, 0), heals); /* false: the same again */
        if (heals) expect_range(file, BYTES, 0);
        shard_file_close(file);
    }
    free(bytes);
}

/* ---- pipes ---- */

static void test_pipe(void **state)
{
    char command[700];
    snprintf(command, sizeof command, "pipe:cat %s", in_folder(folder, "a.tar"));
    open_fails(command, -1, ERR_CONFIG, "data.read.allow_pipe: true");
    config.allow_pipe = true;
    int before = open_files();
    ShardFile *file = open_ok(command);
    assert_int_equal(shard_file_bytes(file), BYTES);
    expect_range(file, BYTES, 0);
    shard_file_close(file);
    open_fails(command, 5, ERR_MISMATCH, "700001");
    int64_t tries = stats().retries;
    open_fails("pipe:echo x; exit 3", -1, ERR_IO, "ended with 3");
    assert_int_equal(stats().retries - tries, config.retries);
    config.retries = 0;
    open_fails("pipe:/no/such/command 2>/dev/null", -1, ERR_IO, "no such command");
    open_fails("pipe:kill -9 $$", -1, ERR_IO, "signal 9");
    config.stall_seconds = 0.03;
    open_fails("pipe:echo x; sleep 100", -1, ERR_IO, "printed nothing");
    open_fails("pipe:exec >&-; sleep 100", -1, ERR_IO, "does not end");
    assert_int_equal(open_files(), before);
    /* Nothing of ours is open in it: 0, 1, 2, and the folder that ls reads. */
    char out[64] = {0};
    config.stall_seconds = 5;
    file = open_ok("pipe:ls /proc/self/fd | wc -l");
    assert_in_range(shard_file_bytes(file), 2, 60);
    assert_ok(shard_file_read(file, out, shard_file_bytes(file), 0));
    int inherited = 0; /* by us, from whoever started us */
    for (int fd = 3; fd < 1024; fd++) {
        int flags = fcntl(fd, F_GETFD);
        inherited += flags >= 0 && !(flags & FD_CLOEXEC);
    }
    assert_int_equal(atoi(out), 4 + inherited);
    shard_file_close(file);
}

/* ---- http ---- */

static void test_http(void **state)
{
    char head[4096];
    ShardFile *file = open_ok(url("a.tar"));
    assert_int_equal(shard_file_bytes(file), BYTES);
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < 50; i++) {
            int64_t offset = (int64_t)random_below(3, RANDOM_TEST, (uint64_t)i, 0, BYTES);
            expect_range(file, (int64_t)random_below(3, RANDOM_TEST, (uint64_t)i, 1, (uint64_t)(BYTES - offset)),
                         offset);
        }
        expect_range(file, BYTES, 0);
    }
    assert_in_range(stats().fetched_bytes, BYTES, BYTES + 1024); /* once, and what told its size */
    assert_int_equal(stats().refetched_bytes, 0);
    assert_int_equal(stats().retries, 0);
    shard_file_close(file);
    /* Opened again, the chunks are still there. */
    file = open_ok(url("a.tar"));
    expect_range(file, BYTES, 0);
    shard_file_close(file);
    assert_in_range(stats().fetched_bytes, BYTES, BYTES + 2048);
    fault_server_last(server, head);
    assert_non_null(strstr(head, "Range: bytes=0-511\r\n"));
    assert_non_null(strstr(head, "Accept-Encoding: identity\r\n"));
    assert_null(strstr(head, "gzip"));
    open_fails(url("a.tar"), 5, ERR_MISMATCH, "has 700001 bytes");

    write_file(in_folder(folder, "empty.tar"), "", 0);
    write_file(in_folder(folder, "small.tar"), content.data, 300);
    file = open_ok(url("empty.tar"));
    assert_int_equal(shard_file_bytes(file), 0);
    shard_file_close(file);
    file = open_ok(url("small.tar"));
    assert_int_equal(shard_file_bytes(file), 300);
    expect_range(file, 300, 0);
    shard_file_close(file);
}

/* With any single fault at a third of the requests all bytes come. */
static void test_faults(void **state)
{
    config.retries = 40;
    config.retry_seconds = 0.001;
    config.stall_seconds = 0.2;
    for (int fault = 0; fault < FAULT_COUNT; fault++) {
        if (fault == FAULT_FLIP) continue; /* not to be noticed without checksums: test_checksums, test_doubt */
        /* Waits of a second each: fewer. */
        bool slow = fault == FAULT_STALL || fault == FAULT_DRIP || fault == FAULT_BUSY;
        set_fault((Fault)fault, slow ? 0.15 : 0.33);
        for (int pass = 0; pass < (slow ? 1 : 2); pass++) {
            restart_access();
            ShardFile *file = open_ok(url("a.tar"));
            for (int64_t at = 0; at < BYTES; at += 50000)
                expect_range(file, BYTES - at < 50000 ? BYTES - at : 50000, at);
            shard_file_close(file);
            ShardAccessStats now = stats();
            bool cuts = fault == FAULT_CUT || fault == FAULT_SHORTER;
            if (cuts) assert_true(now.restarts > 0 || now.refetched_bytes > 0);
        }
        assert_true(fault_server_faults(server, (Fault)fault) > 0);
    }
    /* A transfer goes on where it stopped: cut transfers cost no byte twice. */
    FaultOptions options = HEALTHY;
    restart_access();
    fault_server_set(server, &options);
    ShardFile *file = open_ok(url("a.tar"));
    set_fault(FAULT_CUT, 0.5);
    expect_range(file, BYTES, 0);
    shard_file_close(file);
    assert_true(stats().restarts > 0);
    assert_in_range(stats().fetched_bytes, BYTES, BYTES + 512);
}

static void test_busy(void **state)
{
    FaultOptions options = HEALTHY;
    options.first_requests = 1;
    options.first_code = 503;
    fault_server_set(server, &options);
    double begun = clock_seconds();
    config.retry_seconds = 0;
    ShardFile *file = open_ok(url("a.tar"));
    assert_true(clock_seconds() - begun >= 0.99); /* as the server asked */
    shard_file_close(file);
}

static void test_refused(void **state)
{
    FaultOptions options = HEALTHY;
    char path[200];
    options.gone = "gone";
    options.loop = "loop";
    options.escape = "escape";
    fault_server_set(server, &options);
    snprintf(path, sizeof path, "http://user:secret@127.0.0.1:%d/gone.tar?token=secret", fault_server_port(server));
    open_fails(path, -1, ERR_IO, "/gone.tar?...: the server answers with code 404");
    check_message("given up after 9 tries: http://127.0.0.1:");
    assert_null(strstr(status_message(), "secret"));
    assert_null(strstr(status_message(), "user"));
    int64_t before = fault_server_requests(server);
    open_fails(url("loop.tar"), -1, ERR_IO, "redirects");
    assert_in_range(fault_server_requests(server) - before, 2, 7);
    open_fails(url("escape.tar"), -1, ERR_IO, "escape.tar: ");
    options.first_requests = 1;
    options.first_code = 401;
    fault_server_set(server, &options);
    open_fails(url("a.tar"), -1, ERR_IO, "code 401"); /* for good: not tried again */
    options.first_requests = 1;
    options.first_code = 404;
    fault_server_set(server, &options);
    shard_file_close(open_ok(url("a.tar")));
    /* Nobody there. */
    config.retries = 1;
    open_fails("http://127.0.0.1:1/a.tar", -1, ERR_IO, "given up after 2 tries");
    open_fails("http://no host/a.tar", -1, ERR_IO, "no host");
}

static void test_truncated(void **state)
{
    FaultOptions options = HEALTHY;
    char byte;
    options.truncated = "a.tar";
    fault_server_set(server, &options);
    ShardFile *file = open_ok(url("a.tar"));
    expect_range(file, 4 * CHUNK, 0);
    assert_int_equal(shard_file_read(file, &byte, 1, BYTES - 1), ERR_IO);
    check_message("given up after 9 tries");
    assert_false(shard_file_doubt(file, 1, BYTES - 1)); /* it was asked for often enough */
    expect_range(file, 4 * CHUNK, 0);
    /* What failed is asked for again by the next who wants it. */
    fault_server_set(server, &HEALTHY);
    expect_range(file, BYTES, 0);
    shard_file_close(file);
}

static void test_changed(void **state)
{
    char byte;
    for (int i = 0; i < 2; i++) {
        write_file(in_folder(folder, "b.tar"), content.data, BYTES);
        ShardFile *file = open_ok(url("b.tar"));
        expect_range(file, 10, 0);
        write_file(in_folder(folder, "b.tar"), content.data + i, (size_t)(BYTES - i));
        assert_int_equal(shard_file_read(file, &byte, 1, BYTES / 2), ERR_MISMATCH);
        check_message("changed");
        shard_file_close(file);
    }
}

static void test_no_range(void **state)
{
    FaultOptions options = HEALTHY;
    options.no_range = true;
    for (int i = 0; i < 3; i++) {
        if (i == 1) options.no_validator = true;
        if (i == 2) options.share[FAULT_CUT] = options.share[FAULT_LONGER] = 0.3;
        fault_server_set(server, &options);
        ShardFile *file = open_ok(url("a.tar"));
        assert_int_equal(shard_file_bytes(file), BYTES);
        expect_range(file, BYTES, 0);
        shard_file_close(file);
    }
    /* Doubt fetches all of it anew. */
    memset(options.share, 0, sizeof options.share);
    options.corrupt = "a.tar";
    fault_server_set(server, &options);
    ShardFile *file = open_ok(url("a.tar"));
    char bytes[100];
    assert_ok(shard_file_read(file, bytes, 100, 25000));
    assert_memory_not_equal(bytes, content.data + 25000, 100);
    assert_false(shard_file_doubt(file, 100, 25000)); /* the same again */
    options.corrupt = NULL;
    fault_server_set(server, &options);
    assert_true(shard_file_doubt(file, 100, 25000));
    expect_range(file, BYTES, 0);
    shard_file_close(file);
}

/* ---- the cache ---- */

static void test_eviction(void **state)
{
    config.cache_bytes = 4 * CHUNK;
    restart_access();
    ShardFile *file = open_ok(url("a.tar"));
    for (int pass = 0; pass < 2; pass++) expect_range(file, BYTES, 0);
    assert_in_range(stats().fetched_bytes, 2 * BYTES, 2 * BYTES + 512);
    assert_in_range(stats().refetched_bytes, BYTES, BYTES);
    shard_file_close(file);
    /* A disk that is full costs only speed. */
    config.cache_folder = "/nonexistent";
    restart_access();
    open_fails(url("a.tar"), -1, ERR_IO, "set data.read.cache_folder");
}

typedef struct Reader {
    ShardFile *file;
    pthread_t thread;
    int number, reads;
    int64_t most;
    Status status;
    bool wrong;
} Reader;

static void *read_randomly(void *argument)
{
    Reader *reader = argument;
    char *out = malloc((size_t)reader->most);
    for (int i = 0; i < reader->reads && reader->status == STATUS_OK && !reader->wrong; i++) {
        uint64_t key = (uint64_t)reader->number * 1000 + (uint64_t)i;
        int64_t size = 1 + (int64_t)random_below(5, RANDOM_TEST, key, 0, (uint64_t)reader->most);
        int64_t offset = (int64_t)random_below(5, RANDOM_TEST, key, 1, (uint64_t)(BYTES - size));
        reader->status = shard_file_read(reader->file, out, size, offset);
        if (reader->status == STATUS_OK) reader->wrong = memcmp(out, content.data + offset, (size_t)size) != 0;
        if (reader->status != STATUS_OK) print_error("%s\n", status_message());
    }
    free(out);
    return NULL;
}

static void read_by_threads(ShardFile *file, int threads, int reads)
{
    Reader readers[16] = {{0}};
    for (int i = 0; i < threads; i++) {
        readers[i] = (Reader){.file = file, .number = i, .reads = reads, .most = 100000};
        assert_int_equal(pthread_create(&readers[i].thread, NULL, read_randomly, &readers[i]), 0);
    }
    for (int i = 0; i < threads; i++) pthread_join(readers[i].thread, NULL);
    for (int i = 0; i < threads; i++) {
        assert_int_equal(readers[i].status, STATUS_OK);
        assert_false(readers[i].wrong);
    }
}

static void test_threads(void **state)
{
    FaultOptions options = HEALTHY;
    /* Each chunk once, whoever wants it. */
    ShardFile *file = open_ok(url("a.tar"));
    read_by_threads(file, 8, 30);
    assert_true(stats().fetched_bytes <= BYTES + 512);
    shard_file_close(file);
    /* All that can go wrong, a cache that is too small, and checksums. */
    note_sums(url("a.tar"));
    config.cache_bytes = 5 * CHUNK;
    config.stall_seconds = 0.2;
    config.retry_seconds = 0.002;
    config.retries = 20;
    restart_access();
    for (int f = 0; f < FAULT_COUNT; f++) options.share[f] = 0.04;
    options.share[FAULT_BUSY] = options.share[FAULT_DRIP] = options.share[FAULT_STALL] = 0.01;
    options.share[FAULT_WHOLE] = 0;
    fault_server_set(server, &options);
    file = open_ok(url("a.tar"));
    read_by_threads(file, 8, 12);
    shard_file_close(file);
    assert_true(fault_server_faults(server, FAULT_FLIP) > 0);
}

/* A failure is everybody's who waits for the chunk: nobody begins anew after the others have given up. */
static void test_shared_failure(void **state)
{
    FaultOptions options = HEALTHY;
    Reader readers[8] = {{0}};
    config.retries = 3;
    config.retry_seconds = 0.2;
    ShardFile *file = open_ok(url("a.tar"));
    options.gone = "a.tar";
    fault_server_set(server, &options);
    int64_t before = fault_server_requests(server);
    for (int i = 0; i < 8; i++) {
        readers[i] = (Reader){.file = file, .number = 1, .reads = 1, .most = 10};
        assert_int_equal(pthread_create(&readers[i].thread, NULL, read_randomly, &readers[i]), 0);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(readers[i].thread, NULL);
        assert_int_equal(readers[i].status, ERR_IO);
    }
    assert_in_range(fault_server_requests(server) - before, 4, 12); /* 4, unless a thread came very late */
    shard_file_close(file);
}

/* ---- checksums and doubt ---- */

static void test_checksums(void **state)
{
    FaultOptions options = HEALTHY;
    char byte;
    note_sums(url("a.tar"));
    restart_access();
    set_fault(FAULT_FLIP, 0.4);
    ShardFile *file = open_ok(url("a.tar"));
    expect_range(file, BYTES, 0);
    assert_true(stats().refetched_bytes > 0);
    assert_false(shard_file_doubt(file, BYTES, 0)); /* they are right: it is of no use */
    shard_file_close(file);
    /* Wrong for good. */
    options.corrupt = "a.tar";
    fault_server_set(server, &options);
    config.retries = 2;
    restart_access();
    file = open_ok(url("a.tar"));
    assert_int_equal(shard_file_read(file, &byte, 1, 0), ERR_FORMAT);
    check_message("are not those that were indexed, 3 times");
    int64_t requests = fault_server_requests(server);
    assert_int_equal(shard_file_read(file, &byte, 1, 100), ERR_FORMAT); /* remembered */
    assert_int_equal(fault_server_requests(server), requests);
    assert_false(shard_file_doubt(file, 1, 0));
    shard_file_close(file);
    /* Not compared when that is not wanted. */
    config.checksums = false;
    restart_access();
    file = open_ok(url("a.tar"));
    assert_ok(shard_file_read(file, &byte, 1, 0));
    shard_file_close(file);
    /* Another chunk size that is a multiple of the pieces. */
    config.checksums = true;
    config.chunk_bytes = 2 * CHUNK;
    fault_server_set(server, &HEALTHY);
    restart_access();
    file = open_ok(url("a.tar"));
    expect_range(file, BYTES, 0);
    assert_false(shard_file_doubt(file, BYTES, 0));
    shard_file_close(file);
    /* A shard of another size. */
    write_file(in_folder(folder, "a.tar"), content.data, 1000);
    open_fails(url("a.tar"), -1, ERR_MISMATCH, "700001 were indexed");
}

static void test_sums_file(void **state)
{
    Checksums sums = {0};
    static const char GOOD[] = "vasily-sums 1 4096 5000\n00112233445566778899aabbccddeeff\n"
                               "ffeeddccbbaa99887766554433221100\n";
    static const char *const BAD[] = {
        "",
        "vasily-sums 1 4096 5000",
        "vasily-sums 2 4096 5000\n",
        "vasily-sums 1 4096 x\n",
        "vasily-sums 1 1 5000\n",
        "vasily-sums 1 4096 999999999999999999\n",
        "vasily-sums 1 4096 9999999999999999999999\n",
        "vasily-sums 1 4096 5000\n00112233445566778899aabbccddeeff\n",
        "vasily-sums 1 4096 4000\n00112233445566778899aabbccddeefg\n",
        "vasily-sums 1 4096 4000\n00112233445566778899aabbccddeeff0",
    };
    assert_ok(checksums_parse(GOOD, sizeof GOOD - 1, &sums));
    assert_int_equal(sums.count, 2);
    assert_true(sums.sums[0].high == 0x0011223344556677 && sums.sums[0].low == 0x8899aabbccddeeff);
    const char *path = in_folder(folder, "x.sums");
    assert_ok(checksums_write(&sums, path));
    checksums_free(&sums);
    StrBuf text = {0};
    read_file(path, &text);
    assert_string_equal(text.data, GOOD);
    strbuf_free(&text);
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        assert_int_equal(checksums_parse(BAD[i], strlen(BAD[i]), &sums), ERR_FORMAT);
        assert_int_equal(sums.count, 0);
    }
    write_file(path, BAD[0], 0);
    assert_int_equal(checksums_read(path, &sums), ERR_FORMAT);
    check_message("x.sums: ");
    assert_int_equal(checksums_read(in_folder(folder, "none"), &sums), STATUS_END);
    /* Names: equal base names of several places do not meet. */
    char a[PATH_MAX], b[PATH_MAX];
    assert_ok(checksums_path("http://h/x/00001.tar?q=1", "/i", a));
    assert_ok(checksums_path("http://h/y/00001.tar?q=1", "/i", b));
    assert_string_not_equal(a, b);
    assert_memory_equal(a, "/i/00001.tar.", 13);
    assert_ok(checksums_path("/x/00001.tar", "", a));
    assert_string_equal(a, "/x/00001.tar.sums");
    assert_int_equal(checksums_path("http://h/x.tar", "", a), ERR_CONFIG);
}

static void test_doubt(void **state)
{
    FaultOptions options = HEALTHY;
    char bytes[CHUNK];
    /* Damaged once: dropped, and right when it comes again. */
    ShardFile *file = open_ok(url("a.tar"));
    set_fault(FAULT_FLIP, 1);
    assert_ok(shard_file_read(file, bytes, CHUNK, CHUNK));
    assert_memory_not_equal(bytes, content.data + CHUNK, CHUNK);
    fault_server_set(server, &HEALTHY);
    assert_true(shard_file_doubt(file, 10, CHUNK + 5));
    expect_range(file, BYTES, 0);
    assert_true(stats().refetched_bytes >= CHUNK);
    /* Right, but of no use to whoever doubts: fetched once more, then believed, by all who doubt after. */
    assert_true(shard_file_doubt(file, 10, 4 * CHUNK));
    expect_range(file, BYTES, 0);
    assert_false(shard_file_doubt(file, 10, 4 * CHUNK));
    assert_false(shard_file_doubt(file, 10, 4 * CHUNK + 100));
    /* Over the border of two chunks. */
    assert_true(shard_file_doubt(file, 10, 7 * CHUNK - 5));
    expect_range(file, BYTES, 0);
    assert_false(shard_file_doubt(file, 10, 7 * CHUNK - 5));
    shard_file_close(file);
    /* A server that never says the same twice is not asked for ever. */
    options.share[FAULT_FLIP] = 1;
    fault_server_set(server, &options);
    restart_access();
    file = open_ok(url("a.tar"));
    int times = 0;
    do assert_ok(shard_file_read(file, bytes, 10, 0));
    while (shard_file_doubt(file, 10, 0) && ++times < 100);
    assert_in_range(times, 1, 20);
    shard_file_close(file);
}

/* ---- stopping ---- */

static void *stop_soon(void *argument)
{
    usleep(300000);
    shard_access_stop(access_);
    return NULL;
}

static void expect_stop(const char *path, const char *what)
{
    ShardFile *file;
    pthread_t thread;
    char byte;
    double begun = clock_seconds();
    assert_int_equal(pthread_create(&thread, NULL, stop_soon, NULL), 0);
    Status status = shard_file_open(access_, path, -1, &file);
    if (status == STATUS_OK) status = shard_file_read(file, &byte, 1, CHUNK);
    pthread_join(thread, NULL);
    if (status != ERR_INTERRUPTED) print_error("%s: %s\n", what, status_message());
    assert_int_equal(status, ERR_INTERRUPTED);
    assert_true(clock_seconds() - begun < 20); /* far below what it waits for */
    shard_file_close(file);
    restart_access();
}

static void test_stop(void **state)
{
    config.stall_seconds = 60;
    config.retry_seconds = 60;
    config.allow_pipe = true;
    set_fault(FAULT_STALL, 1);
    expect_stop(url("a.tar"), "a server that stalls");
    set_fault(FAULT_REFUSE, 1);
    expect_stop(url("a.tar"), "the pause after a failure");
    expect_stop(in_folder(folder, "none.tar"), "a file that is not there");
    expect_stop("pipe:sleep 100", "a command");
    expect_stop("pipe:exit 1", "the pause after a command");
    /* Afterwards everything that waits is refused at once. */
    ShardFile *file;
    shard_access_stop(access_);
    assert_int_equal(shard_file_open(access_, url("a.tar"), -1, &file), ERR_INTERRUPTED);
}

int main(void)
{
    setenv("no_proxy", "*", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_local, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_compressed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_pipe, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_http, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_faults, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_busy, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_truncated, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_changed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_range, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_eviction, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_threads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_shared_failure, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_checksums, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sums_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_doubt, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stop, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
