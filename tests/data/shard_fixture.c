#include "shard_fixture.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/random.h"

char shard_folder[512];
StrBuf shard_content;
FaultServer *shard_server;
ReadConfig read_config;
ShardAccess *shard_access;

const FaultOptions HEALTHY = {.seed = 1, .stall_seconds = 30, .busy_seconds = 1};

void restart_access(void)
{
    shard_access_free(shard_access);
    assert_ok(shard_access_create(&read_config, &shard_access));
}

int shards_set_up(void **state)
{
    uint32_t word = 1;
    make_folder(shard_folder);
    shard_content.size = 0;
    for (int i = 0; i < BYTES; i++) {
        if (i % 4 == 0) word = random_u32(7, RANDOM_TEST, 0, (uint64_t)i);
        char byte = (char)(word >> (i % 4 * 8));
        assert_ok(strbuf_append(&shard_content, &byte, 1));
    }
    write_file(in_folder(shard_folder, "a.tar"), shard_content.data, shard_content.size);
    read_config = (ReadConfig){.retries = 8,
                               .retry_seconds = 0.001,
                               .connect_seconds = 20,
                               .stall_seconds = 0.5,
                               .chunk_bytes = CHUNK,
                               .cache_bytes = 64 * CHUNK,
                               .cache_folder = shard_folder,
                               .index_folder = "",
                               .checksums = true};
    shard_server = fault_server_start(shard_folder, 0, &HEALTHY);
    assert_non_null(shard_server);
    shard_access = NULL;
    restart_access();
    return 0;
}

int shards_tear_down(void **state)
{
    shard_access_free(shard_access);
    fault_server_stop(shard_server);
    remove_folder(shard_folder);
    strbuf_free(&shard_content);
    return 0;
}

const char *url(const char *name)
{
    static char urls[4][600];
    static int next;
    next = (next + 1) % 4;
    snprintf(urls[next], sizeof urls[next], "http://127.0.0.1:%d/%s", fault_server_port(shard_server), name);
    return urls[next];
}

void set_fault(Fault fault, double share)
{
    FaultOptions options = HEALTHY;
    options.share[fault] = share;
    fault_server_set(shard_server, &options);
}

ShardFile *open_ok(const char *path)
{
    ShardFile *file;
    assert_ok(shard_file_open(shard_access, path, -1, &file));
    return file;
}

void open_fails(const char *path, int64_t bytes, Status status, const char *part)
{
    ShardFile *file;
    Status got = shard_file_open(shard_access, path, bytes, &file);
    if (got != status) print_error("%s: %s\n", path, status_message());
    assert_int_equal(got, status);
    assert_null(file);
    check_message(part);
}

void expect_range(ShardFile *file, int64_t size, int64_t offset)
{
    char *out = malloc((size_t)size + 1);
    assert_ok(shard_file_read(file, out, size, offset));
    assert_memory_equal(out, shard_content.data + offset, size);
    free(out);
}

ShardAccessStats stats(void)
{
    ShardAccessStats out;
    shard_access_stats(shard_access, &out);
    return out;
}

int open_files(void)
{
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (readdir(dir)) n++;
    closedir(dir);
    return n;
}

void note_sums(const char *shard)
{
    char path[PATH_MAX];
    Checksums sums;
    read_config.index_folder = shard_folder;
    assert_ok(shard_http_sum(shard_access, shard, false, &sums));
    assert_ok(checksums_path(shard, shard_folder, path));
    assert_ok(checksums_write(&sums, path));
    checksums_free(&sums);
}
