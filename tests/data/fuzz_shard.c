/* A tar file's index by scan, its text form, and the same bytes read as an index file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/arena.h"
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
        if (!index->compressed) require(member->offset + member->size <= size);
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    TarIndex index;
    int fd = memfd_create("shard", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (tar_index_scan(path, &index) == STATUS_OK) {
        check(&index, (int64_t)size);
        round_trip(&index);
        tar_index_free(&index);
    }
    close(fd);
    if (tar_index_parse((const char *)data, size, 1 << 20, &index) == STATUS_OK) {
        check(&index, 1 << 20);
        round_trip(&index);
        tar_index_free(&index);
    }
    return 0;
}
