/* Tar files through libarchive, which is given a window of the file by callbacks of ours so that reading may begin at
 * any member. Only the tar format and the filters gzip and zstd are switched on: the rest of libarchive is not
 * reachable from a hostile file. */
#include "base/archive.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/file.h"

#define BLOCK_SIZE ((size_t)256 << 10)
#define MAX_NAME 4096

struct Archive {
    struct archive *reader;
    char *path;
    int fd;
    int64_t offset;    /* where in the file reading began */
    int64_t file_size; /* -1: not a regular file */
    int64_t member_size;
    bool compressed, have_member, data_taken, ended;
    int io_error; /* errno of a read that failed */
    char name[MAX_NAME + 1];
    char block[BLOCK_SIZE];
};

/* UTF-8, for member names. One for the whole process: shards are opened by many threads. */
static locale_t utf8_locale;
static pthread_once_t utf8_once = PTHREAD_ONCE_INIT;

static void make_utf8_locale(void)
{
    utf8_locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
}

/* --- libarchive's callbacks --- */

static la_ssize_t on_read(struct archive *reader, void *context, const void **block)
{
    Archive *archive = context;
    *block = archive->block;
    for (;;) {
        ssize_t n = read(archive->fd, archive->block, BLOCK_SIZE);
        if (n >= 0) return n;
        if (errno == EINTR) continue;
        archive->io_error = errno;
        archive_set_error(reader, errno, "read failed");
        return -1;
    }
}

/* Seeking past what the caller does not want; never past the end, so that a member cut short is noticed. */
static la_int64_t on_skip(struct archive *reader, void *context, la_int64_t request)
{
    const Archive *archive = context;
    if (archive->file_size < 0 || request < (la_int64_t)BLOCK_SIZE) return 0;
    off_t here = lseek(archive->fd, 0, SEEK_CUR);
    if (here < 0 || here >= archive->file_size) return 0;
    if (request > archive->file_size - here) request = archive->file_size - here;
    return lseek(archive->fd, request, SEEK_CUR) < 0 ? 0 : request;
}

/* --- opening --- */

static Status detect_compression(Archive *archive)
{
    Status status = STATUS_OK;
    unsigned char magic[4] = {0};
    if (archive->file_size < 0) return STATUS_OK; /* a pipe: nothing can be read twice */
    ssize_t n = pread(archive->fd, magic, sizeof magic, 0);
    if (n < 0) FAIL_WITH(file_system_error(errno, "read", archive->path));
    bool gzip = n >= 2 && magic[0] == 0x1f && magic[1] == 0x8b;
    bool zstd = n >= 4 && memcmp(magic, "\x28\xb5\x2f\xfd", 4) == 0;
    archive->compressed = gzip || zstd;
    if (archive->compressed && archive->offset > 0)
        FAIL(ERR_FORMAT, "%s: is compressed, so reading cannot begin at byte %jd; decompress the shard, or start over",
             archive->path, (intmax_t)archive->offset);
fail:
    return status;
}

static Status refuse(const Archive *archive, const char *what)
{
    if (archive->io_error) return file_system_error(archive->io_error, "read", archive->path);
    int code = archive_errno(archive->reader);
    const char *reason = archive_error_string(archive->reader);
    if (code == ENOMEM) return status_fail(ERR_MEMORY, __FILE__, __LINE__, "%s: out of memory", archive->path);
    if (archive_format(archive->reader) == 0)
        return status_fail(ERR_FORMAT, __FILE__, __LINE__, "%s: not a tar file (plain, gzip or zstd): %s",
                           archive->path, reason ? reason : "unknown contents");
    return status_fail(ERR_FORMAT, __FILE__, __LINE__, "%s: the tar file is %s after byte %jd: %s", archive->path, what,
                       (intmax_t)archive_position(archive), reason ? reason : "no reason given");
}

Status archive_open(const char *path, int64_t offset, Archive **out)
{
    Status status = STATUS_OK;
    struct stat info;
    *out = NULL;
    Archive *archive = mem_alloc_array(1, sizeof *archive);
    if (!archive) FAIL_WITH(ERR_MEMORY);
    archive->fd = -1;
    archive->offset = offset;
    archive->path = strdup(path);
    archive->reader = archive_read_new();
    if (!archive->path || !archive->reader) FAIL(ERR_MEMORY, "%s: out of memory", path);
    pthread_once(&utf8_once, make_utf8_locale);

    archive->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (archive->fd < 0) FAIL_WITH(file_system_error(errno, "open", path));
    if (fstat(archive->fd, &info) < 0) FAIL_WITH(file_system_error(errno, "read", path));
    if (S_ISDIR(info.st_mode)) FAIL(ERR_IO, "%s: is a folder where a tar file is wanted", path);
    archive->file_size = S_ISREG(info.st_mode) ? info.st_size : -1;
    if (offset < 0 || (offset > 0 && offset > archive->file_size))
        FAIL(ERR_FORMAT, "%s: has no byte %jd to begin at; has the shard changed since its position was noted?", path,
             (intmax_t)offset);
    TRY(detect_compression(archive));
    if (offset > 0 && lseek(archive->fd, offset, SEEK_SET) < 0) FAIL_WITH(file_system_error(errno, "seek in", path));

    struct archive *reader = archive->reader;
    if (archive_read_support_format_tar(reader) != ARCHIVE_OK ||
        archive_read_support_format_empty(reader) != ARCHIVE_OK)
        FAIL(ERR_UNSUPPORTED, "%s: libarchive was built without tar", path);
    /* Built without one of these libraries it would start a program; then only plain tar is read. */
    if (archive_zlib_version()) (void)archive_read_support_filter_gzip(reader);
    if (archive_libzstd_version()) (void)archive_read_support_filter_zstd(reader);
    archive_read_set_read_callback(reader, on_read);
    archive_read_set_skip_callback(reader, on_skip);
    archive_read_set_callback_data(reader, archive);
    if (archive_read_open1(reader) != ARCHIVE_OK) FAIL_WITH(refuse(archive, "broken"));
    if (archive_filter_code(reader, 0) != ARCHIVE_FILTER_NONE) archive->compressed = true;
    *out = archive;
    return STATUS_OK;
fail:
    archive_close(archive);
    return status;
}

void archive_close(Archive *archive)
{
    if (!archive) return;
    if (archive->reader) archive_read_free(archive->reader);
    if (archive->fd >= 0) close(archive->fd);
    free(archive->path);
    free(archive);
}

bool archive_is_compressed(const Archive *archive)
{
    return archive->compressed;
}

int64_t archive_position(const Archive *archive)
{
    return archive->offset + archive_read_header_position(archive->reader);
}

/* --- members --- */

/* pax names are UTF-8, and libarchive converts them to the charset of the locale, which in "C" would lose them. */
static int next_header(Archive *archive, struct archive_entry **entry, const char **name)
{
    locale_t before = utf8_locale ? uselocale(utf8_locale) : (locale_t)0;
    int code = archive_read_next_header(archive->reader, entry);
    *name = NULL;
    if (code == ARCHIVE_OK || code == ARCHIVE_WARN) {
        *name = archive_entry_pathname(*entry);
        if (!*name) *name = archive_entry_pathname_utf8(*entry);
    }
    if (before) uselocale(before);
    return code;
}

Status archive_next(Archive *archive, const char **name, int64_t *size)
{
    Status status = STATUS_OK;
    archive->have_member = false;
    while (!archive->ended) {
        struct archive_entry *entry = NULL;
        const char *found;
        int code = next_header(archive, &entry, &found);
        if (code == ARCHIVE_EOF) break;
        if (code != ARCHIVE_OK && code != ARCHIVE_WARN) FAIL_WITH(refuse(archive, "truncated or broken"));
        if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry) || archive_entry_symlink(entry))
            continue;
        if (archive_entry_sparse_count(entry) > 0 || !archive_entry_size_is_set(entry)) continue;
        if (!found)
            FAIL(ERR_FORMAT, "%s: the member at byte %jd has no name", archive->path,
                 (intmax_t)archive_position(archive));
        size_t length = strlen(found);
        if (length > MAX_NAME)
            FAIL(ERR_LIMIT, "%s: the member at byte %jd has a name of %zu bytes, at most %d are read", archive->path,
                 (intmax_t)archive_position(archive), length, MAX_NAME);
        memcpy(archive->name, found, length + 1);
        archive->member_size = archive_entry_size(entry);
        if (archive->member_size < 0)
            FAIL(ERR_FORMAT, "%s: the member %s has a negative size", archive->path, archive->name);
        archive->have_member = true;
        archive->data_taken = false;
        *name = archive->name;
        *size = archive->member_size;
        return STATUS_OK;
    }
    archive->ended = true;
    return STATUS_END;
fail:
    return status;
}

Status archive_read(Archive *archive, void *out)
{
    Status status = STATUS_OK;
    if (!archive->have_member || archive->data_taken)
        FAIL(ERR_INTERNAL, "%s: a member's bytes can be read once, after archive_next", archive->path);
    archive->data_taken = true;
    char *to = out;
    int64_t rest = archive->member_size;
    while (rest > 0) {
        /* libarchive takes a size_t and answers with what it had; int64 never exceeds it on 64-bit systems. */
        la_ssize_t n = archive_read_data(archive->reader, to, (size_t)rest);
        if (n < 0) FAIL_WITH(refuse(archive, "truncated or broken"));
        if (n == 0)
            FAIL(ERR_FORMAT, "%s: the member %s ends %jd bytes early; is the file complete?", archive->path,
                 archive->name, (intmax_t)rest);
        to += n;
        rest -= n;
    }
fail:
    return status;
}
