/* A shard, plain or compressed: its index by scan, the index's text, windows of it; and the same bytes read as an index
 * file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/file.h"
#include "data/tar_index.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition)
{
    if (!condition) abort();
}

static void check(const TarIndex *index, int64_t size)
{
    const SampleTable *table = &index->table;
    uint32_t next = 0;
    for (size_t s = 0; s < table->sample_count; s++) {
        const Sample *sample = &table->samples[s];
        require(sample->first_member == next && sample->member_count > 0 && sample->key < table->text.size);
        next += sample->member_count;
        require(strlen(sample_key(table, sample)) > 0);
    }
    require(next == table->member_count);
    for (size_t m = 0; m < table->member_count; m++) {
        const SampleMember *member = &table->members[m];
        require(member->offset >= 512 && member->size >= 0 && member->suffix < table->text.size);
        require(member->offset <= size && member->size <= size - member->offset);
    }
}

/* What is written can be read, and then writes the same. */
static void round_trip(const TarIndex *index)
{
    StrBuf text = {0}, again = {0};
    TarIndex copy;
    if (tar_index_format(index, &text) == STATUS_OK && tar_index_parse(text.data, text.size, -1, &copy) == STATUS_OK) {
        require(tar_index_format(&copy, &again) == STATUS_OK);
        require(again.size == text.size && memcmp(again.data, text.data, text.size) == 0);
        tar_index_free(&copy);
    }
    strbuf_free(&text);
    strbuf_free(&again);
}

/* Windows are slices of the whole, and fail where they do not fit. */
static void check_windows(const TarIndex *index)
{
    char path[] = "/tmp/vasily-fuzz-XXXXXX";
    const SampleTable *table = &index->table;
    StrBuf text = {0};
    TarIndex window;
    int64_t count = (int64_t)table->sample_count;
    int fd = mkstemp(path);
    if (fd < 0) abort();
    if (tar_index_format(index, &text) == STATUS_OK) {
        require(write(fd, text.data, text.size) == (ssize_t)text.size);
        for (int64_t first = 0; first < count; first += 1 + count / 3) {
            require(tar_index_window(path, first, 1, -1, &window) == STATUS_OK && window.table.sample_count == 1);
            require(strcmp(sample_key(&window.table, window.table.samples),
                           sample_key(table, &table->samples[first])) == 0);
            tar_index_free(&window);
        }
        require(tar_index_window(path, count, 1, -1, &window) == ERR_FORMAT);
    }
    close(fd);
    unlink(path);
    strbuf_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static ShardAccess *access;
    static const ReadConfig config = {.cache_folder = "/tmp", .index_folder = "", .chunk_bytes = 65536};
    char path[64];
    TarIndex index;
    ShardFile *file;
    if (!access && shard_access_create(&config, &access) != STATUS_OK) abort();
    int fd = memfd_create("shard", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (shard_file_open(access, path, -1, &file) == STATUS_OK) {
        if (tar_index_scan(file, &index) == STATUS_OK) {
            check(&index, shard_file_bytes(file));
            round_trip(&index);
            if (index.table.sample_count > 0 && index.table.sample_count < 100) check_windows(&index);
            tar_index_free(&index);
        }
        shard_file_close(file);
    }
    close(fd);
    if (tar_index_parse((const char *)data, size, 1 << 20, &index) == STATUS_OK) {
        check(&index, 1 << 20);
        round_trip(&index);
        tar_index_free(&index);
    }
    return 0;
}
