/* The bytes of shards here, compressed and in pipes: they are those of the file, or it is said why not; and a stop ends
 * whatever waits. */
#include <archive.h>
#include <archive_entry.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "shard_fixture.h"

/* ---- names ---- */

static void expect_shown(const char *path, const char *shown)
{
    char out[100];
    shard_show(path, out, sizeof out);
    char *hash = strchr(out, '#');
    if (hash && strlen(hash) == 17) hash[1] = 0; /* of the whole command */
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
    expect_shown("pipe:curl -H 'token: secret' https://u:p@h/x", "pipe:curl ... #");
    expect_shown("pipe:TOKEN=secret curl x", "pipe: ... #");
    expect_shown("pipe:decrypt", "pipe:decrypt");
    expect_shown("{http://u:p@h/a,http://u:p@h/b}.tar", "{http://...");
    char plain[100];
    shard_plain("http://u:p@host:1/a/b.tar?key=secret#x", plain, sizeof plain);
    assert_string_equal(plain, "http://host:1/a/b.tar");
    shard_plain("/a/b@c?.tar#x", plain, sizeof plain);
    assert_string_equal(plain, "/a/b@c?.tar#x");
}

/* ---- here ---- */

static void *write_later(void *path)
{
    usleep(100000);
    write_file(path, shard_content.data, shard_content.size);
    return NULL;
}

static void test_local(void **state)
{
    const char *path = in_folder(shard_folder, "a.tar");
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
    open_fails(shard_folder, -1, ERR_IO, "not a regular file");
    int64_t before = stats().retries;
    open_fails(in_folder(shard_folder, "none.tar"), -1, ERR_IO, "given up after 9 tries");
    assert_int_equal(stats().retries - before, 8);
    /* A file that is not there for the moment. */
    pthread_t thread;
    read_config.retries = 100;
    assert_int_equal(pthread_create(&thread, NULL, write_later, (void *)in_folder(shard_folder, "late.tar")), 0);
    read_config.retry_seconds = 0.05;
    shard_file_close(open_ok(in_folder(shard_folder, "late.tar")));
    pthread_join(thread, NULL);
}

/* ---- compressed ---- */

static void compress_to(const char *name, int filter, size_t cut)
{
    struct archive *out = archive_write_new();
    struct archive_entry *entry = archive_entry_new();
    const char *path = in_folder(shard_folder, name);
    assert_int_equal(archive_write_add_filter(out, filter), ARCHIVE_OK);
    assert_int_equal(archive_write_set_format_raw(out), ARCHIVE_OK);
    assert_int_equal(archive_write_open_filename(out, path), ARCHIVE_OK);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_pathname(entry, "x");
    assert_int_equal(archive_write_header(out, entry), ARCHIVE_OK);
    assert_int_equal(archive_write_data(out, shard_content.data, shard_content.size), shard_content.size);
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
    read_config.allow_pipe = true;
    compress_to("a.tar.gz", ARCHIVE_FILTER_GZIP, 0);
    compress_to("a.tar.zst", ARCHIVE_FILTER_ZSTD, 0);
    for (int i = 0; i < 2; i++) {
        const char *name = i ? "a.tar.zst" : "a.tar.gz";
        expect_unpacked(in_folder(shard_folder, name));
        expect_unpacked(url(name));
        snprintf(command, sizeof command, "pipe:cat %s", in_folder(shard_folder, name));
        expect_unpacked(command);
    }
    /* A break: what precedes it is there, the rest is not. */
    compress_to("cut.tar.gz", ARCHIVE_FILTER_GZIP, 100000);
    for (int i = 0; i < 2; i++) {
        char byte;
        ShardFile *file = open_ok(i ? url("cut.tar.gz") : in_folder(shard_folder, "cut.tar.gz"));
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
        fault_server_set(shard_server, &options);
        restart_access();
        ShardFile *file = open_ok(url("a.tar.gz"));
        while (shard_file_read(file, bytes, BYTES, 0) != STATUS_OK || memcmp(bytes, shard_content.data, BYTES) != 0)
            assert_true(shard_file_doubt(file, BYTES, 0));
        shard_file_close(file);
    }
    /* Another size than the file itself says, though nothing in it is broken: it is fetched once more. */
    StrBuf packed = {0};
    compress_to("size.tar.gz", ARCHIVE_FILTER_GZIP, 0);
    read_file(in_folder(shard_folder, "size.tar.gz"), &packed);
    for (int wrong = 0; wrong < 2; wrong++) {
        packed.data[packed.size - 4] ^= (char)wrong;
        write_file(in_folder(shard_folder, "size.tar.gz"), packed.data, packed.size);
        fault_server_set(shard_server, &HEALTHY);
        restart_access();
        expect_unpacked(url("size.tar.gz"));
        assert_int_equal(stats().retries, wrong);
    }
    strbuf_free(&packed);
    for (int heals = 0; heals < 2; heals++) {
        FaultOptions options = HEALTHY;
        options.corrupt = "a.tar.gz";
        fault_server_set(shard_server, &options);
        restart_access();
        ShardFile *file = open_ok(url("a.tar.gz"));
        assert_int_equal(shard_file_bytes(file), BYTES);
        assert_ok(shard_file_read(file, bytes, BYTES, 0));
        assert_memory_not_equal(bytes, shard_content.data, BYTES);
        if (heals) fault_server_set(shard_server, &HEALTHY);
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
    snprintf(command, sizeof command, "pipe:cat %s", in_folder(shard_folder, "a.tar"));
    open_fails(command, -1, ERR_CONFIG, "data.read.allow_pipe: true");
    read_config.allow_pipe = true;
    int before = open_files();
    ShardFile *file = open_ok(command);
    assert_int_equal(shard_file_bytes(file), BYTES);
    expect_range(file, BYTES, 0);
    shard_file_close(file);
    open_fails(command, 5, ERR_MISMATCH, "700001");
    int64_t tries = stats().retries;
    open_fails("pipe:echo x; exit 3", -1, ERR_IO, "ended with 3");
    assert_int_equal(stats().retries - tries, read_config.retries);
    read_config.retries = 0;
    open_fails("pipe:/no/such/command 2>/dev/null", -1, ERR_IO, "no such command");
    open_fails("pipe:kill -9 $$", -1, ERR_IO, "signal 9");
    read_config.stall_seconds = 0.03;
    open_fails("pipe:echo x; sleep 100", -1, ERR_IO, "printed nothing");
    read_config.stall_seconds = 0.2; /* for the shell to get so far on a busy machine */
    open_fails("pipe:exec >&-; sleep 100", -1, ERR_IO, "does not end");
    assert_int_equal(open_files(), before);
    /* Nothing of ours is open in it, also of what is opened without O_CLOEXEC: 0, 1, 2, and the folder that ls reads.
     */
    const int leaky = dup(1);
    char out[64] = {0};
    read_config.stall_seconds = 5;
    file = open_ok("pipe:ls /proc/self/fd | wc -l");
    assert_in_range(shard_file_bytes(file), 2, 60);
    assert_ok(shard_file_read(file, out, shard_file_bytes(file), 0));
    assert_int_equal(atoi(out), 4);
    close(leaky);
    shard_file_close(file);
}

/* ---- stopping ---- */

static void *stop_soon(void *argument)
{
    usleep(300000);
    shard_access_stop(shard_access);
    return NULL;
}

static void expect_stop(const char *path, const char *what)
{
    ShardFile *file;
    pthread_t thread;
    char byte;
    double begun = clock_seconds();
    assert_int_equal(pthread_create(&thread, NULL, stop_soon, NULL), 0);
    Status status = shard_file_open(shard_access, path, -1, &file);
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
    read_config.stall_seconds = 60;
    read_config.retry_seconds = 60;
    read_config.allow_pipe = true;
    set_fault(FAULT_STALL, 1);
    expect_stop(url("a.tar"), "a server that stalls");
    set_fault(FAULT_REFUSE, 1);
    expect_stop(url("a.tar"), "the pause after a failure");
    expect_stop(in_folder(shard_folder, "none.tar"), "a file that is not there");
    expect_stop("pipe:sleep 100", "a command");
    expect_stop("pipe:exit 1", "the pause after a command");
    /* Afterwards everything that waits is refused at once. */
    ShardFile *file;
    shard_access_stop(shard_access);
    assert_int_equal(shard_file_open(shard_access, url("a.tar"), -1, &file), ERR_INTERRUPTED);
}

int main(void)
{
    setenv("no_proxy", "*", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_names, shards_set_up, shards_tear_down),
        cmocka_unit_test_setup_teardown(test_local, shards_set_up, shards_tear_down),
        cmocka_unit_test_setup_teardown(test_compressed, shards_set_up, shards_tear_down),
        cmocka_unit_test_setup_teardown(test_pipe, shards_set_up, shards_tear_down),
        cmocka_unit_test_setup_teardown(test_stop, shards_set_up, shards_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
