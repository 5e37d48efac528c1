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
    ArchiveSource source; /* read: NULL when fd is not a regular file, and read from its beginning to its end */
    int fd;               /* -1: not ours */
    int64_t offset;       /* where in the file reading began */
    int64_t at;           /* what is read next */
    int64_t member_size;
    bool compressed, have_member, data_taken, ended;
    Status failed; /* of a read */
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

static Status read_file(void *context, void *out, int64_t size, int64_t offset)
{
    const Archive *archive = context;
    char *to = out;
    while (size > 0) {
        ssize_t n = pread(archive->fd, to, (size_t)size, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return file_system_error(errno, "read", archive->path);
        if (n == 0)
            return status_fail(ERR_FORMAT, __FILE__, __LINE__, "%s: has become shorter while it was read",
                               archive->path);
        to += n;
        offset += n;
        size -= n;
    }
    return STATUS_OK;
}

static la_ssize_t read_pipe(Archive *archive)
{
    for (;;) {
        ssize_t n = read(archive->fd, archive->block, BLOCK_SIZE);
        if (n >= 0) return n;
        if (errno == EINTR) continue;
        archive->failed = file_system_error(errno, "read", archive->path);
        return -1;
    }
}

static la_ssize_t on_read(struct archive *reader, void *context, const void **block)
{
    Archive *archive = context;
    la_ssize_t n = 0;
    *block = archive->block;
    if (!archive->source.read)
        n = read_pipe(archive);
    else if (archive->at < archive->source.bytes) {
        int64_t rest = archive->source.bytes - archive->at;
        n = rest < (int64_t)BLOCK_SIZE ? rest : (int64_t)BLOCK_SIZE;
        archive->failed = archive->source.read(archive->source.context, archive->block, n, archive->at);
        if (archive->failed == STATUS_OK)
            archive->at += n;
        else
            n = -1;
    }
    if (n < 0) archive_set_error(reader, EIO, "read failed");
    return n;
}

/* Going past what the caller does not want; never past the end, so that a member cut short is noticed. */
static la_int64_t on_skip(struct archive *reader, void *context, la_int64_t request)
{
    Archive *archive = context;
    if (!archive->source.read || request < (la_int64_t)BLOCK_SIZE || archive->at >= archive->source.bytes) return 0;
    if (request > archive->source.bytes - archive->at) request = archive->source.bytes - archive->at;
    archive->at += request;
    return request;
}

/* --- opening --- */

bool archive_is_compressed_magic(const uint8_t *bytes, size_t size)
{
    bool gzip = size >= 2 && bytes[0] == 0x1f && bytes[1] == 0x8b;
    bool zstd = size >= 4 && memcmp(bytes, "\x28\xb5\x2f\xfd", 4) == 0;
    return gzip || zstd;
}

static Status detect_compression(Archive *archive)
{
    Status status = STATUS_OK;
    uint8_t magic[4] = {0};
    if (!archive->source.read) return STATUS_OK; /* a pipe: nothing can be read twice */
    int64_t n = archive->source.bytes < 4 ? archive->source.bytes : 4;
    if (n > 0) TRY(archive->source.read(archive->source.context, magic, n, 0));
    archive->compressed = archive_is_compressed_magic(magic, (size_t)n);
    if (archive->compressed && archive->offset > 0)
        FAIL(ERR_FORMAT, "%s: is compressed, so reading cannot begin at byte %jd; decompress the shard, or start over",
             archive->path, (intmax_t)archive->offset);
fail:
    return status;
}

static Status refuse(const Archive *archive, const char *what)
{
    if (archive->failed != STATUS_OK) return status_trace(archive->failed, __FILE__, __LINE__);
    int code = archive_errno(archive->reader);
    const char *reason = archive_error_string(archive->reader);
    if (code == ENOMEM) return status_fail(ERR_MEMORY, __FILE__, __LINE__, "%s: out of memory", archive->path);
    if (archive_format(archive->reader) == 0)
        return status_fail(ERR_FORMAT, __FILE__, __LINE__, "%s: not a tar file (plain, gzip or zstd): %s",
                           archive->path, reason ? reason : "unknown contents");
    return status_fail(ERR_FORMAT, __FILE__, __LINE__, "%s: the tar file is %s after byte %jd: %s", archive->path, what,
                       (intmax_t)archive_position(archive), reason ? reason : "no reason given");
}

static Status archive_create(const char *name, int64_t offset, Archive **out)
{
    Status status = STATUS_OK;
    Archive *archive = mem_alloc_array(1, sizeof *archive);
    if (!archive) FAIL_WITH(ERR_MEMORY);
    archive->fd = -1;
    archive->offset = archive->at = offset;
    archive->path = strdup(name);
    archive->reader = archive_read_new();
    if (!archive->path || !archive->reader) FAIL(ERR_MEMORY, "%s: out of memory", name);
    pthread_once(&utf8_once, make_utf8_locale);
    *out = archive;
    return STATUS_OK;
fail:
    archive_close(archive);
    *out = NULL;
    return status;
}

/* Filters, and the start of reading. */
static Status archive_begin(Archive *archive)
{
    Status status = STATUS_OK;
    struct archive *reader = archive->reader;
    /* Built without one of these libraries it would start a program; then only plain tar is read. */
    if (archive_zlib_version()) (void)archive_read_support_filter_gzip(reader);
    if (archive_libzstd_version()) (void)archive_read_support_filter_zstd(reader);
    archive_read_set_read_callback(reader, on_read);
    archive_read_set_skip_callback(reader, on_skip);
    archive_read_set_callback_data(reader, archive);
    if (archive_read_open1(reader) != ARCHIVE_OK) FAIL_WITH(refuse(archive, "broken"));
    if (archive_filter_code(reader, 0) != ARCHIVE_FILTER_NONE) archive->compressed = true;
fail:
    return status;
}

static Status archive_begin_tar(Archive *archive)
{
    Status status = STATUS_OK;
    int64_t bytes = archive->source.read ? archive->source.bytes : 0;
    if (archive->offset < 0 || (archive->offset > 0 && archive->offset > bytes))
        FAIL(ERR_FORMAT, "%s: has no byte %jd to begin at; has the shard changed since its position was noted?",
             archive->path, (intmax_t)archive->offset);
    TRY(detect_compression(archive));
    if (archive_read_support_format_tar(archive->reader) != ARCHIVE_OK ||
        archive_read_support_format_empty(archive->reader) != ARCHIVE_OK)
        FAIL(ERR_UNSUPPORTED, "%s: libarchive was built without tar", archive->path);
    TRY(archive_begin(archive));
fail:
    return status;
}

Status archive_open(const char *path, int64_t offset, Archive **out)
{
    Status status = STATUS_OK;
    Archive *archive = NULL;
    struct stat info;
    *out = NULL;
    TRY(archive_create(path, offset, &archive));
    archive->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (archive->fd < 0) FAIL_WITH(file_system_error(errno, "open", path));
    if (fstat(archive->fd, &info) < 0) FAIL_WITH(file_system_error(errno, "read", path));
    if (S_ISDIR(info.st_mode)) FAIL(ERR_IO, "%s: is a folder where a tar file is wanted", path);
    if (S_ISREG(info.st_mode))
        archive->source = (ArchiveSource){.read = read_file, .context = archive, .bytes = info.st_size};
    TRY(archive_begin_tar(archive));
    *out = archive;
    return STATUS_OK;
fail:
    archive_close(archive);
    return status;
}

Status archive_open_reader(const ArchiveSource *source, int64_t offset, Archive **out)
{
    Status status = STATUS_OK;
    Archive *archive = NULL;
    *out = NULL;
    TRY(archive_create(source->name, offset, &archive));
    archive->source = *source;
    TRY(archive_begin_tar(archive));
    *out = archive;
    return STATUS_OK;
fail:
    archive_close(archive);
    return status;
}

Status archive_open_stream(const ArchiveSource *source, Archive **out)
{
    Status status = STATUS_OK;
    Archive *archive = NULL;
    struct archive_entry *entry;
    *out = NULL;
    TRY(archive_create(source->name, 0, &archive));
    archive->source = *source;
    if (archive_read_support_format_raw(archive->reader) != ARCHIVE_OK ||
        archive_read_support_format_empty(archive->reader) != ARCHIVE_OK)
        FAIL(ERR_UNSUPPORTED, "%s: libarchive was built without raw streams", source->name);
    TRY(archive_begin(archive));
    int code = archive_read_next_header(archive->reader, &entry);
    if (code == ARCHIVE_EOF)
        archive->ended = true; /* nothing in it */
    else if (code != ARCHIVE_OK && code != ARCHIVE_WARN)
        FAIL_WITH(refuse(archive, "truncated or broken"));
    *out = archive;
    return STATUS_OK;
fail:
    archive_close(archive);
    return status;
}

Status archive_next_block(Archive *archive, const void **data, size_t *size)
{
    la_int64_t offset;
    *data = NULL;
    *size = 0;
    while (!archive->ended) {
        int code = archive_read_data_block(archive->reader, data, size, &offset);
        if (code == ARCHIVE_OK && *size > 0) return STATUS_OK;
        if (code == ARCHIVE_EOF) archive->ended = true;
        if (code != ARCHIVE_OK && code != ARCHIVE_EOF)
            return status_trace(refuse(archive, "truncated or broken"), __FILE__, __LINE__);
    }
    return STATUS_END;
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
