#include "data/tar_index.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/archive.h"
#include "base/file.h"
#include "base/log.h"

#define BLOCK 512
#define MAX_INDEX_BYTES ((size_t)1 << 30)
#define MAX_EXTENSION_HEADERS 64

static bool is_extension(char type)
{
    return type == 'x' || type == 'g' || type == 'X' || type == 'L' || type == 'K';
}

/* The octal size of a tar header; -1 when it is written in another way. */
static int64_t header_size(const unsigned char *header)
{
    int64_t value = 0;
    for (int i = 124; i < 136; i++) {
        if (header[i] == ' ' && value == 0) continue;
        if (header[i] == 0 || header[i] == ' ') break;
        if (header[i] < '0' || header[i] > '7') return -1;
        value = value * 8 + (header[i] - '0');
    }
    return value;
}

/* Where a member's bytes begin, from where its headers begin: pax and GNU long-name headers may come first. */
static Status find_data(int fd, const char *path, int64_t position, int64_t *offset)
{
    Status status = STATUS_OK;
    unsigned char header[BLOCK];
    for (int i = 0; i < MAX_EXTENSION_HEADERS; i++) {
        ssize_t got = pread(fd, header, BLOCK, (off_t)position);
        if (got < 0) FAIL(ERR_IO, "%s: %s", path, strerror(errno));
        if (got != BLOCK) FAIL(ERR_FORMAT, "%s: ends inside a header", path);
        position += BLOCK;
        if (!is_extension((char)header[156])) {
            *offset = position;
            return STATUS_OK;
        }
        int64_t size = header_size(header);
        if (size < 0 || size > ((int64_t)1 << 30)) FAIL(ERR_FORMAT, "%s: an extension header of strange size", path);
        position += (size + BLOCK - 1) / BLOCK * BLOCK;
    }
    FAIL(ERR_FORMAT, "%s: more than %d extension headers before a member", path, MAX_EXTENSION_HEADERS);
fail:
    return status;
}

Status tar_index_scan(const char *path, TarIndex *out)
{
    Status status = STATUS_OK;
    Archive *archive = NULL;
    TarIndex index = {0};
    int fd = -1;
    struct stat info;
    *out = (TarIndex){0};

    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) FAIL(ERR_IO, "%s: %s", path, strerror(errno));
    if (fstat(fd, &info) != 0) FAIL(ERR_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode)) FAIL(ERR_IO, "%s: not a regular file; give the paths of tar files", path);

    Status scan = info.st_size == 0 ? STATUS_END : archive_open(path, 0, &archive);
    if (scan == STATUS_OK) index.compressed = archive_is_compressed(archive);
    while (scan == STATUS_OK) {
        const char *name;
        int64_t size, offset = 0;
        scan = archive_next(archive, &name, &size);
        if (scan != STATUS_OK) break;
        int64_t position = archive_position(archive);
        if (position < 0 || size < 0 || position > INT64_MAX / 2 || size > INT64_MAX / 4)
            scan = status_fail(ERR_FORMAT, __FILE__, __LINE__, "%s: a member of impossible size", path);
        else if (index.compressed)
            offset = position + BLOCK;
        else
            scan = find_data(fd, path, position, &offset);
        if (scan != STATUS_OK) break;
        if (!index.compressed && offset + size > (int64_t)info.st_size) {
            scan = status_fail(ERR_FORMAT, __FILE__, __LINE__, "%s: truncated inside %s", path, name);
            break;
        }
        TRY(sample_table_add(&index.table, name, offset, size));
    }
    if (scan == ERR_IO || scan == ERR_MEMORY || scan == ERR_INTERNAL) {
        status = status_trace(scan, __FILE__, __LINE__);
        goto fail;
    }
    if (scan != STATUS_END) {
        index.broken = true;
        snprintf(index.trouble, sizeof index.trouble, "%s", status_message());
        sample_table_drop_last(&index.table);
    }
    archive_close(archive);
    close(fd);
    *out = index;
    return STATUS_OK;
fail:
    archive_close(archive);
    if (fd >= 0) close(fd);
    tar_index_free(&index);
    return status;
}

void tar_index_free(TarIndex *index)
{
    sample_table_free(&index->table);
    *index = (TarIndex){0};
}

static bool has_blank(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text <= ' ' || *text == 127) return true;
    return false;
}

Status tar_index_format(const TarIndex *index, StrBuf *out)
{
    Status status = STATUS_OK;
    const SampleTable *table = &index->table;
    TRY(strbuf_printf(out, "v1.2 %zu\n", table->sample_count));
    for (size_t s = 0; s < table->sample_count; s++) {
        const Sample *sample = &table->samples[s];
        const char *key = sample_key(table, sample);
        for (uint32_t m = 0; m < sample->member_count; m++) {
            const SampleMember *member = &table->members[sample->first_member + m];
            const char *suffix = sample_suffix(table, member);
            if (has_blank(key) || has_blank(suffix))
                FAIL(ERR_UNSUPPORTED, "member %s.%s has a blank in its name", key, suffix);
            TRY(strbuf_printf(out, "%s%s %" PRId64 " %" PRId64 " %s.%s", m ? " " : "", suffix, member->offset,
                              member->size, key, suffix));
        }
        TRY(strbuf_append(out, "\n", 1));
    }
    return STATUS_OK;
fail:
    return status;
}

/* The next word of the line at *text, NUL-terminated in `word`; false at the end of the line. */
static bool next_word(const char **text, const char *end, char *word, size_t capacity, bool *too_long)
{
    const char *p = *text;
    size_t n = 0;
    while (p < end && *p == ' ') p++;
    while (p < end && *p != ' ' && *p != '\n' && *p != '\r' && *p != 0) {
        if (n + 1 >= capacity) {
            *too_long = true;
            return false;
        }
        word[n++] = *p++;
    }
    word[n] = 0;
    *text = p;
    return n > 0;
}

static bool parse_number(const char *word, int64_t *out)
{
    int64_t value = 0;
    if (!*word || strlen(word) > 18) return false;
    for (; *word; word++) {
        if (*word < '0' || *word > '9') return false;
        value = value * 10 + (*word - '0');
    }
    *out = value;
    return true;
}

Status tar_index_parse(const char *text, size_t size, int64_t shard_size, TarIndex *out)
{
    Status status = STATUS_OK;
    TarIndex index = {0};
    const char *p = text, *end = text + size;
    char word[64], suffix[4200], name[4200];
    int64_t count, line = 1;
    bool too_long = false;
    *out = (TarIndex){0};

    if (!next_word(&p, end, word, sizeof word, &too_long) || strcmp(word, "v1.2") != 0)
        FAIL(ERR_FORMAT, "not an index of version 1.2");
    if (!next_word(&p, end, word, sizeof word, &too_long) || !parse_number(word, &count))
        FAIL(ERR_FORMAT, "line 1: no number of samples");
    while (p < end) {
        int64_t offset, bytes;
        if (*p == '\r' && p + 1 < end && p[1] == '\n') p++;
        if (*p == '\n') {
            p++;
            line++;
            continue;
        }
        if (!next_word(&p, end, suffix, sizeof suffix, &too_long)) {
            while (p < end && *p == ' ') p++;
            if (too_long || (p < end && *p != '\n' && *p != '\r'))
                FAIL(ERR_FORMAT, "line %" PRId64 ": a strange character or a word that is too long", line);
            if (p < end && *p == '\r' && !(p + 1 < end && p[1] == '\n'))
                FAIL(ERR_FORMAT, "line %" PRId64 ": stray CR", line);
            continue;
        }
        if (!next_word(&p, end, word, sizeof word, &too_long) || !parse_number(word, &offset) ||
            !next_word(&p, end, word, sizeof word, &too_long) || !parse_number(word, &bytes) ||
            !next_word(&p, end, name, sizeof name, &too_long))
            FAIL(ERR_FORMAT, "line %" PRId64 ": not '<suffix> <offset> <size> <name>' repeated", line);
        if (offset < BLOCK || (shard_size >= 0 && (offset > shard_size || bytes > shard_size - offset)))
            FAIL(ERR_FORMAT, "line %" PRId64 ": %s lies outside of the shard", line, name);
        TRY(sample_table_add(&index.table, name, offset, bytes));
    }
    if ((int64_t)index.table.sample_count != count)
        FAIL(ERR_FORMAT, "says %" PRId64 " samples but has %zu", count, index.table.sample_count);
    *out = index;
    return STATUS_OK;
fail:
    tar_index_free(&index);
    return status;
}

static bool is_newer(const struct stat *a, const struct stat *b)
{
    if (a->st_mtim.tv_sec != b->st_mtim.tv_sec) return a->st_mtim.tv_sec > b->st_mtim.tv_sec;
    return a->st_mtim.tv_nsec >= b->st_mtim.tv_nsec;
}

static bool is_compressed_file(const char *path)
{
    unsigned char magic[4] = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t got = read(fd, magic, sizeof magic);
    close(fd);
    if (got < 4) return false;
    return (magic[0] == 0x1f && magic[1] == 0x8b) ||
           (magic[0] == 0x28 && magic[1] == 0xb5 && magic[2] == 0x2f && magic[3] == 0xfd);
}

/* True when `index_path` holds a usable index of the shard. */
static bool try_index_file(const char *index_path, const char *path, const struct stat *shard, TarIndex *out)
{
    struct stat info;
    char *text = NULL;
    size_t size;
    if (stat(index_path, &info) != 0 || !S_ISREG(info.st_mode) || !is_newer(&info, shard)) return false;
    Status status = file_read(index_path, MAX_INDEX_BYTES, &text, &size);
    bool compressed = is_compressed_file(path);
    if (status == STATUS_OK) status = tar_index_parse(text, size, compressed ? -1 : (int64_t)shard->st_size, out);
    free(text);
    if (status != STATUS_OK) {
        log_warn("%s: this index is not used, the shard is scanned instead: %s", index_path, status_message());
        return false;
    }
    out->compressed = compressed;
    return true;
}

Status tar_index_open(const char *path, bool write, TarIndex *out)
{
    Status status = STATUS_OK;
    struct stat shard;
    char beside[4200];
    StrBuf text = {0};
    *out = (TarIndex){0};
    if (strlen(path) > 4096) FAIL(ERR_LIMIT, "a shard's path is longer than 4096 bytes: %.60s...", path);
    if (stat(path, &shard) != 0) FAIL(ERR_IO, "%s: %s", path, strerror(errno));

    snprintf(beside, sizeof beside, "%s", path);
    char *dot = strrchr(beside, '.');
    if (dot && !strchr(dot, '/')) { /* x.tar -> x.idx, as DALI's tool names it */
        snprintf(dot, sizeof beside - (size_t)(dot - beside), ".idx");
        if (strcmp(beside, path) != 0 && try_index_file(beside, path, &shard, out)) return STATUS_OK;
    }
    snprintf(beside, sizeof beside, "%s.idx", path);
    if (try_index_file(beside, path, &shard, out)) return STATUS_OK;

    TRY(tar_index_scan(path, out));
    if (write && !out->broken && out->table.sample_count > 0) {
        Status saved = tar_index_format(out, &text);
        if (saved == STATUS_OK) saved = file_write_atomic(beside, text.data, text.size);
        if (saved != STATUS_OK) log_debug("%s: no index was written: %s", beside, status_message());
    }
    strbuf_free(&text);
    return STATUS_OK;
fail:
    strbuf_free(&text);
    return status;
}
