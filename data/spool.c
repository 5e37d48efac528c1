#include "data/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

#define HASH_BLOCK ((int64_t)256 << 10)

static const char *folder_of(const ReadConfig *config)
{
    const char *folder = config->cache_folder;
    if (!folder || !folder[0]) folder = getenv("TMPDIR");
    return folder && folder[0] ? folder : "/tmp";
}

/* What stays so until somebody mends the folder; the rest are bad moments, such as too many open files. */
static Status status_of(int error)
{
    switch (error) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case EROFS:
    case EACCES:
    case EPERM:
    case ENOENT:
    case ENOTDIR:
        return ERR_SPACE;
    default:
        return ERR_IO;
    }
}

Status spool_create(const ReadConfig *config, int *out)
{
    Status status = STATUS_OK;
    char name[PATH_MAX];
    const char *folder = folder_of(config);
    *out = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (*out >= 0) return STATUS_OK;
    /* Not every file system makes files without names. */
    int length = snprintf(name, sizeof name, "%s/vasily-XXXXXX", folder);
    if (length < 0 || length >= (int)sizeof name) FAIL(ERR_LIMIT, "data.read.cache_folder is too long");
    *out = mkostemp(name, O_CLOEXEC);
    if (*out < 0)
        FAIL(status_of(errno),
             "%s: cannot make a file for what is fetched and unpacked: %s; set data.read.cache_folder", folder,
             strerror(errno));
    unlink(name);
fail:
    return status;
}

Status spool_write(const ReadConfig *config, int fd, const void *data, int64_t size, int64_t offset)
{
    const char *from = data;
    while (size > 0) {
        ssize_t done = pwrite(fd, from, (size_t)size, (off_t)offset);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) {
            const int error = done < 0 ? errno : ENOSPC;
            return status_fail(status_of(error), __FILE__, __LINE__,
                               "%s: cannot keep what is fetched and unpacked: %s; set data.read.cache_folder "
                               "($TMPDIR, /tmp) to a folder with more room, or lower data.read.cache_bytes",
                               folder_of(config), strerror(error));
        }
        from += done;
        size -= done;
        offset += done;
    }
    return STATUS_OK;
}

Status spool_read(int fd, const char *name, void *out, int64_t size, int64_t offset)
{
    char *to = out;
    while (size > 0) {
        ssize_t got = pread(fd, to, (size_t)size, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return file_system_error(errno, "read", name);
        if (got == 0)
            return status_fail(ERR_FORMAT, __FILE__, __LINE__, "%s: ends %" PRId64 " bytes before byte %" PRId64, name,
                               size, offset + size);
        to += got;
        size -= got;
        offset += got;
    }
    return STATUS_OK;
}

bool spool_hash(int fd, int64_t size, int64_t offset, Hash128 *out)
{
    HashStream *hash = NULL;
    uint8_t *block = malloc(HASH_BLOCK);
    bool done = block && hash_stream_create(&hash) == STATUS_OK;
    for (int64_t at = 0; done && at < size; at += HASH_BLOCK) {
        int64_t part = size - at < HASH_BLOCK ? size - at : HASH_BLOCK;
        done = spool_read(fd, "what was spooled", block, part, offset + at) == STATUS_OK;
        if (done) hash_stream_add(hash, block, (size_t)part);
    }
    if (done) *out = hash_stream_value(hash);
    hash_stream_free(hash);
    free(block);
    return done;
}
