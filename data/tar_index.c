/* Finding, making and keeping the index of a shard; its text is the matter of tar_index_text.c. */
#include "data/tar_index.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "data/index_name.h"
#include "data/tar_walk.h"

#define MAX_INDEX_BYTES ((size_t)1 << 30)
#define LEAST_LINE 8      /* bytes of a sample's line, or more */
#define LOCAL_WINDOW 4096 /* read where a header is looked for: a picture's neighbours lie in it, too */
#define REMOTE_WINDOW 65536
#define DOUBT (2 << 20) /* before a header that makes no sense, what led to it: more than a pax header may have */
#define SCAN_TRIES 3    /* of what came damaged over http */

/* ---- the scan ---- */

static Status read_shard(void *context, void *out, int64_t size, int64_t offset)
{
    return shard_file_read(context, out, size, offset);
}

/* What is wrong with the archive itself, not with reading it. */
static bool is_damage(Status status)
{
    return status == ERR_FORMAT || status == ERR_LIMIT;
}

static Status scan_once(ShardFile *file, TarIndex *index, int64_t *position)
{
    Status status = STATUS_OK;
    TarWalk *walk = NULL;
    bool local = shard_kind(shard_file_path(file)) == SHARD_LOCAL;
    TarWalkSource source = {read_shard, file, shard_file_shown(file), shard_file_bytes(file),
                            local ? LOCAL_WINDOW : REMOTE_WINDOW};
    *index = (TarIndex){0};
    TRY(tar_walk_create(&source, &walk));
    while (status == STATUS_OK) {
        const char *name;
        int64_t offset, size;
        status = tar_walk_next(walk, &name, &offset, &size);
        if (status == STATUS_OK) status = sample_table_add(&index->table, name, offset, size);
    }
    *position = tar_walk_position(walk);
    if (is_damage(status)) {
        index->broken = true;
        snprintf(index->trouble, sizeof index->trouble, "%s", status_message());
        sample_table_drop_last(&index->table);
    } else if (status != STATUS_END) {
        FAIL_WITH(status);
    }
    status = STATUS_OK;
fail:
    tar_walk_free(walk);
    if (status != STATUS_OK) tar_index_free(index);
    return status;
}

Status tar_index_scan(ShardFile *file, TarIndex *out)
{
    Status status = STATUS_OK;
    int64_t position;
    for (int attempt = 0; attempt < SCAN_TRIES; attempt++) {
        TRY(scan_once(file, out, &position));
        int64_t from = position > DOUBT ? position - DOUBT : 0;
        if (!out->broken || !shard_file_doubt(file, DOUBT + REMOTE_WINDOW, from)) break;
        if (attempt + 1 < SCAN_TRIES) tar_index_free(out);
    }
fail:
    return status;
}

void tar_index_free(TarIndex *index)
{
    sample_table_free(&index->table);
    *index = (TarIndex){0};
}

/* ---- where index files are ---- */

/* x.tar -> x.idx, as DALI's wds2idx names it. False: there is no such name. */
static bool path_of_dali(const char *shard, char path[PATH_MAX])
{
    size_t size = strlen(shard);
    if (size < 5 || size >= PATH_MAX || strcmp(shard + size - 4, ".tar") != 0) return false;
    memcpy(path, shard, size - 4);
    memcpy(path + size - 4, ".idx", 5);
    return true;
}

Status tar_index_path(const char *shard, const char *folder, char path[PATH_MAX])
{
    return index_name(shard, folder, ".idx", path);
}

static bool is_newer(const struct stat *a, const struct stat *b)
{
    if (a->st_mtim.tv_sec != b->st_mtim.tv_sec) return a->st_mtim.tv_sec > b->st_mtim.tv_sec;
    return a->st_mtim.tv_nsec >= b->st_mtim.tv_nsec;
}

/* "v1.2 <samples>" at the beginning of an index file of `bytes` bytes. */
static bool read_count(int fd, int64_t bytes, int64_t *samples)
{
    char text[64];
    ssize_t got = pread(fd, text, sizeof text - 1, 0);
    if (got <= 0) return false;
    text[got] = 0;
    return tar_index_first_line(text, (size_t)got, samples) && *samples <= bytes / LEAST_LINE;
}

/* An index file with a sensible first line; `shard` NULL: however old it is. */
static bool is_usable(const char *index_path, const struct stat *shard, int64_t *samples)
{
    struct stat info;
    int fd = open(index_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* it may be a pipe, which would be waited for */
    if (fd < 0) return false;
    bool usable = fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && (!shard || is_newer(&info, shard));
    if (usable && !read_count(fd, (int64_t)info.st_size, samples)) {
        log_warn("%s: this index is not used: it does not begin with \"v1.2\" and a number of samples", index_path);
        usable = false;
    }
    close(fd);
    return usable;
}

Status tar_index_find(const char *shard, const char *folder, int64_t *samples, char path[PATH_MAX])
{
    Status status = STATUS_OK;
    struct stat info;
    if (folder && folder[0]) {
        TRY(index_name(shard, folder, ".idx", path));
        if (is_usable(path, NULL, samples)) return STATUS_OK;
    }
    if (shard_kind(shard) != SHARD_LOCAL || stat(shard, &info) != 0) return STATUS_END;
    TRY(index_name(shard, "", ".idx", path));
    if (is_usable(path, &info, samples)) return STATUS_OK;
    if (path_of_dali(shard, path) && is_usable(path, &info, samples)) return STATUS_OK;
    return STATUS_END;
fail:
    return status;
}

/* ---- opening and writing ---- */

Status tar_index_write(const TarIndex *index, const char *path)
{
    Status status = STATUS_OK;
    StrBuf text = {0};
    char folder[PATH_MAX];
    TRY(tar_index_format(index, &text));
    const char *slash = strrchr(path, '/');
    if (slash && slash != path && slash - path < PATH_MAX) {
        memcpy(folder, path, (size_t)(slash - path));
        folder[slash - path] = 0;
        if (!file_is_dir(folder)) TRY(file_make_dirs(folder));
    }
    TRY(file_write_atomic(path, text.data, text.size));
fail:
    strbuf_free(&text);
    return status;
}

/* True when the shard's index file was found and read. */
static bool read_index(ShardFile *file, const char *folder, TarIndex *out)
{
    char path[PATH_MAX], *text = NULL;
    int64_t samples;
    size_t size;
    if (tar_index_find(shard_file_path(file), folder, &samples, path) != STATUS_OK) return false;
    Status status = file_read(path, MAX_INDEX_BYTES, &text, &size);
    if (status == STATUS_OK) status = tar_index_parse(text, size, shard_file_bytes(file), out);
    free(text);
    if (status != STATUS_OK)
        log_warn("%s: this index is not used, the shard is scanned instead: %s", path, status_message());
    return status == STATUS_OK;
}

Status tar_index_open(ShardFile *file, const char *folder, bool write, TarIndex *out)
{
    Status status = STATUS_OK;
    char path[PATH_MAX];
    *out = (TarIndex){0};
    if (read_index(file, folder, out)) return STATUS_OK;
    TRY(tar_index_scan(file, out));
    if (write && !out->broken && out->table.sample_count > 0) {
        Status saved = tar_index_path(shard_file_path(file), folder, path);
        if (saved == STATUS_OK) saved = tar_index_write(out, path);
        if (saved != STATUS_OK) log_debug("%s: no index was written: %s", shard_file_shown(file), status_message());
    }
fail:
    return status;
}
