#include "data/shard_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/archive.h"
#include "base/arena.h"
#include "base/file.h"
#include "base/log.h"
#include "data/http_shard.h"
#include "data/shard_pipe.h"
#include "data/shard_unpack.h"
#include "data/spool.h"

struct ShardAccess {
    const ReadConfig *config;
    Patience patience;
    pthread_mutex_t lock; /* http is started when the first shard wants it */
    bool locks, http_ready;
    HttpAccess http;
    atomic_int_least64_t spooled_bytes;
};

struct ShardFile {
    ShardAccess *access;
    char *path;
    char shown[SHARD_NAME_MAX];
    ShardKind kind;
    atomic_int_least64_t bytes; /* of the plain tar */
    int64_t raw_bytes;          /* of the file as it lies there */
    int fd;                     /* the file, or what was unpacked or piped; -1: read through http */
    HttpShard *http;            /* NULL: not over http */
    const Checksums *given;     /* NULL: those that data.read.index_folder has */
    Checksums sums;             /* count 0: none */
    atomic_int_least64_t spooled_bytes;
    bool unpacked;
    pthread_mutex_t doubt_lock; /* unpacked: held while it is unpacked anew */
    int64_t doubts;             /* how often it was */
};

/* ---- access ---- */

Status shard_access_create(const ReadConfig *config, ShardAccess **out)
{
    Status status = STATUS_OK;
    *out = NULL;
    ShardAccess *access = mem_alloc_array(1, sizeof *access);
    if (!access) FAIL(ERR_MEMORY, "out of memory to read shards");
    access->config = config;
    TRY(patience_init(&access->patience, config));
    if (pthread_mutex_init(&access->lock, NULL) != 0) {
        patience_destroy(&access->patience);
        FAIL(ERR_MEMORY, "cannot create a lock");
    }
    access->locks = true;
    access->http.config = config;
    access->http.patience = &access->patience;
    *out = access;
    return STATUS_OK;
fail:
    shard_access_free(access);
    return status;
}

void shard_access_free(ShardAccess *access)
{
    if (!access) return;
    http_free(access->http.http);
    chunk_cache_free(access->http.cache);
    if (access->locks) {
        patience_destroy(&access->patience);
        pthread_mutex_destroy(&access->lock);
    }
    free(access);
}

void shard_access_stop(ShardAccess *access)
{
    patience_stop(&access->patience);
}

void shard_access_stats(ShardAccess *access, ShardAccessStats *out)
{
    HttpAccess *http = &access->http;
    *out = (ShardAccessStats){.retries = atomic_load(&http->retries),
                              .restarts = atomic_load(&http->restarts),
                              .fetched_bytes = atomic_load(&http->fetched_bytes),
                              .refetched_bytes = atomic_load(&http->refetched_bytes)};
}

int64_t shard_access_spooled_bytes(ShardAccess *access)
{
    return atomic_load(&access->spooled_bytes);
}

static Status start_http(ShardAccess *access)
{
    Status status = STATUS_OK;
    pthread_mutex_lock(&access->lock);
    if (!access->http_ready) {
        if (!access->http.http) TRY(http_create(&access->patience, &access->http.http));
        TRY(chunk_cache_create(access->config, &access->http.cache));
        access->http_ready = true;
    }
fail:
    pthread_mutex_unlock(&access->lock);
    return status;
}

/* ---- files here ---- */

static int open_local(const ShardFile *file, int64_t *bytes)
{
    struct stat info;
    int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return -1;
    int error = fstat(fd, &info) != 0 ? errno : S_ISREG(info.st_mode) ? 0 : EISDIR;
    if (error) {
        close(fd);
        errno = error;
        return -1;
    }
    *bytes = info.st_size;
    return fd;
}

/* After try `attempt` (0: the first) failed with `error`: pauses, or says what failed. */
static Status local_again(ShardFile *file, int64_t attempt, int error, const char *action)
{
    ShardAccess *access = file->access;
    if (!patience_may_pass(error) || attempt >= access->config->retries) {
        if (error == EISDIR)
            return status_fail(ERR_IO, __FILE__, __LINE__, "%s: not a regular file; give the paths of tar files",
                               file->path);
        Status status = file_system_error(error, action, file->path);
        if (attempt > 0) status_prefix("given up after %" PRId64 " tries: ", attempt + 1);
        return status;
    }
    log_debug("%s: %s; try %" PRId64, file->path, strerror(error), attempt + 2);
    atomic_fetch_add(&access->http.retries, 1);
    return patience_pause(&access->patience, attempt + 1, 0);
}

static Status open_with_patience(ShardFile *file)
{
    Status status = STATUS_OK;
    for (int64_t attempt = 0; (file->fd = open_local(file, &file->raw_bytes)) < 0; attempt++)
        TRY(local_again(file, attempt, errno, "open"));
fail:
    return status;
}

/* The same file opened again in place of the one that fails: dup3 does it while other threads read. */
static void reopen(ShardFile *file)
{
    int64_t bytes;
    int fd = open_local(file, &bytes);
    if (fd < 0) return;
    if (bytes == file->raw_bytes) (void)dup3(fd, file->fd, O_CLOEXEC);
    close(fd);
}

static Status read_local(ShardFile *file, void *out, int64_t size, int64_t offset)
{
    Status status = STATUS_OK;
    char *to = out;
    int64_t attempt = 0;
    while (size > 0) {
        ssize_t got = pread(file->fd, to, (size_t)size, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            TRY(local_again(file, attempt++, errno, "read"));
            reopen(file);
            continue;
        }
        if (got == 0)
            FAIL(ERR_FORMAT, "%s: ends %" PRId64 " bytes before byte %" PRId64 ": it has become shorter", file->path,
                 size, offset + size);
        to += got;
        offset += got;
        size -= got;
    }
fail:
    return status;
}

/* ---- opening ---- */

/* The file as it lies there. */
static Status read_raw(void *context, void *out, int64_t size, int64_t offset)
{
    ShardFile *file = context;
    if (file->http) return http_shard_read(file->http, out, size, offset);
    if (file->kind == SHARD_LOCAL) return read_local(file, out, size, offset);
    return spool_read(file->fd, file->shown, out, size, offset);
}

static Status open_http(ShardFile *file)
{
    Status status = STATUS_OK;
    const ReadConfig *config = file->access->config;
    char path[PATH_MAX];
    TRY(start_http(file->access));
    if (!file->given && config->checksums && config->index_folder && config->index_folder[0]) {
        TRY(checksums_path(file->path, config->index_folder, path));
        status = checksums_read(path, &file->sums);
        if (status != STATUS_OK && status != STATUS_END)
            log_warn("%s; this shard is read without its checksums", status_message());
    }
    const Checksums *sums = file->given ? file->given : &file->sums;
    TRY(http_shard_open(&file->access->http, file->path, file->shown, sums->count > 0 ? sums : NULL, &file->http));
    file->raw_bytes = http_shard_bytes(file->http);
fail:
    return status;
}

static Status open_pipe(ShardFile *file)
{
    Status status = STATUS_OK;
    ShardAccess *access = file->access;
    const char *command = file->path + 5;
    if (!access->config->allow_pipe)
        FAIL(ERR_CONFIG, "%s: would start a shell; set data.read.allow_pipe: true if you trust whoever wrote the list",
             file->shown);
    for (int64_t attempt = 0;; attempt++) {
        Status run = shard_pipe_spool(&access->patience, command, file->shown, &file->fd, &file->raw_bytes);
        if (run == STATUS_OK) break;
        if (run != ERR_IO || attempt >= access->config->retries) FAIL_WITH(run);
        log_debug("%s; try %" PRId64, status_message(), attempt + 2);
        atomic_fetch_add(&access->http.retries, 1);
        TRY(patience_pause(&access->patience, attempt + 1, 0));
    }
fail:
    return status;
}

/* By its first bytes. Of a shard over http those came when it was opened; damage to them costs a second look where the
 * name says something else. */
static Status look_compressed(ShardFile *file, bool *compressed)
{
    Status status = STATUS_OK;
    uint8_t magic[4] = {0};
    int64_t size = file->raw_bytes < 4 ? file->raw_bytes : 4;
    if (file->http) {
        *compressed = archive_is_compressed_magic(http_shard_start(file->http), (size_t)size);
        if (*compressed || (!strstr(file->shown, "gz") && !strstr(file->shown, ".zst"))) return STATUS_OK;
    }
    if (size > 0) TRY(read_raw(file, magic, size, 0));
    *compressed = archive_is_compressed_magic(magic, (size_t)size);
fail:
    return status;
}

/* libarchive takes what follows damaged bytes of a gzip file for the end, and does not look at the size that stands
 * there (RFC 1952, 2.3.1). One of several members in a row has another: then doubt finds the same bytes again. */
static Status check_gzip_size(ShardFile *file, int64_t bytes, bool *damaged)
{
    Status status = STATUS_OK;
    uint8_t end[4];
    if (http_shard_start(file->http)[0] != 0x1f || file->raw_bytes < 4) return STATUS_OK;
    TRY(read_raw(file, end, 4, file->raw_bytes - 4));
    uint32_t told = end[0] | (uint32_t)end[1] << 8 | (uint32_t)end[2] << 16 | (uint32_t)end[3] << 24;
    *damaged = told != (uint32_t)bytes;
fail:
    return status;
}

/* The plain tar. What came damaged over http is fetched anew. */
static Status unpack(ShardFile *file, int *out, int64_t *bytes)
{
    Status status = STATUS_OK;
    ArchiveSource source = {read_raw, file, file->shown, file->raw_bytes};
    const int64_t retries = file->access->config->retries;
    int fd = -1;
    bool damaged = false;
    for (int64_t attempt = 0;; attempt++) {
        TRY(shard_unpack(&file->access->patience, &source, &fd, bytes, &damaged));
        if (!damaged && file->http) TRY(check_gzip_size(file, *bytes, &damaged));
        if (!damaged || !file->http || attempt >= retries || !http_shard_doubt(file->http, file->raw_bytes, 0)) break;
        close(fd);
        fd = -1;
        atomic_fetch_add(&file->access->http.retries, 1);
    }
    *out = fd;
    fd = -1;
fail:
    if (fd >= 0) close(fd);
    return status;
}

/* Notes what it keeps on the local disk now. */
static void count_spooled(ShardFile *file, bool closing)
{
    int64_t now = 0;
    if (!closing && file->http) now += http_shard_spooled_bytes(file->http);
    if (!closing && (file->unpacked || file->kind == SHARD_PIPE)) now += file->bytes;
    atomic_fetch_add(&file->access->spooled_bytes, now - atomic_exchange(&file->spooled_bytes, now));
}

/* Takes the plain tar in place of a compressed one. */
static Status open_unpacked(ShardFile *file)
{
    Status status = STATUS_OK;
    int fd;
    int64_t bytes;
    TRY(look_compressed(file, &file->unpacked));
    file->bytes = file->raw_bytes;
    if (!file->unpacked) return STATUS_OK;
    if (pthread_mutex_init(&file->doubt_lock, NULL) != 0) {
        file->unpacked = false;
        FAIL(ERR_MEMORY, "cannot create a lock");
    }
    TRY(unpack(file, &fd, &bytes));
    file->bytes = bytes;
    if (file->fd >= 0) close(file->fd);
    file->fd = fd;
fail:
    return status;
}

static Status open_file(ShardAccess *access, const char *path, int64_t bytes, const Checksums *given, ShardFile **out)
{
    Status status = STATUS_OK;
    *out = NULL;
    ShardFile *file = mem_alloc_array(1, sizeof *file);
    if (!file) FAIL(ERR_MEMORY, "out of memory for a shard");
    *file = (ShardFile){.access = access, .kind = shard_kind(path), .given = given, .fd = -1};
    file->path = strdup(path);
    if (!file->path) FAIL(ERR_MEMORY, "out of memory for a shard");
    shard_show(path, file->shown, sizeof file->shown);
    switch (file->kind) {
    case SHARD_LOCAL:
        TRY(open_with_patience(file));
        break;
    case SHARD_HTTP:
        TRY(open_http(file));
        break;
    case SHARD_PIPE:
        TRY(open_pipe(file));
        break;
    }
    if (bytes >= 0 && bytes != file->raw_bytes)
        FAIL(ERR_MISMATCH, "%s: has %" PRId64 " bytes, but its list or index says %" PRId64 "; has it been changed?",
             file->shown, file->raw_bytes, bytes);
    TRY(open_unpacked(file));
    count_spooled(file, false);
    *out = file;
    return STATUS_OK;
fail:
    shard_file_close(file);
    return status;
}

Status shard_file_open(ShardAccess *access, const char *path, int64_t bytes, ShardFile **out)
{
    return open_file(access, path, bytes, NULL, out);
}

Status shard_file_open_summed(ShardAccess *access, const char *path, const Checksums *sums, ShardFile **out)
{
    return open_file(access, path, -1, sums, out);
}

void shard_file_close(ShardFile *file)
{
    if (!file) return;
    count_spooled(file, true);
    http_shard_close(file->http);
    checksums_free(&file->sums);
    if (file->fd >= 0) close(file->fd);
    if (file->unpacked) pthread_mutex_destroy(&file->doubt_lock);
    free(file->path);
    free(file);
}

const char *shard_file_path(const ShardFile *file)
{
    return file->path;
}

const char *shard_file_shown(const ShardFile *file)
{
    return file->shown;
}

int64_t shard_file_bytes(const ShardFile *file)
{
    return file->bytes;
}

int64_t shard_file_raw_bytes(const ShardFile *file)
{
    return file->raw_bytes;
}

int64_t shard_file_spooled_bytes(const ShardFile *file)
{
    return atomic_load(&file->spooled_bytes);
}

bool shard_file_unpacked(const ShardFile *file)
{
    return file->unpacked;
}

/* ---- reading ---- */

Status shard_file_read(ShardFile *file, void *out, int64_t size, int64_t offset)
{
    const int64_t bytes = file->bytes;
    if (size < 0 || offset < 0 || size > bytes || offset > bytes - size)
        return status_fail(ERR_FORMAT, __FILE__, __LINE__,
                           "%s: has %" PRId64 " bytes, which do not hold %" PRId64 " from byte %" PRId64, file->shown,
                           bytes, size, offset);
    if (size == 0) return STATUS_OK;
    return file->unpacked ? spool_read(file->fd, file->shown, out, size, offset) : read_raw(file, out, size, offset);
}

/* Packers' own checksums are not compared by libarchive. A packed shard that came over http without ours is fetched and
 * unpacked anew as a whole, at most `retries` times while it is open: true when these bytes differ. */
static bool doubt_unpacked(ShardFile *file, int64_t size, int64_t offset)
{
    Hash128 before = {0}, after = {0};
    int64_t bytes;
    int fd = -1;
    bool differs = false;
    pthread_mutex_lock(&file->doubt_lock);
    if (file->doubts < file->access->config->retries && spool_hash(file->fd, size, offset, &before) &&
        http_shard_doubt(file->http, file->raw_bytes, 0)) {
        file->doubts++;
        if (unpack(file, &fd, &bytes) == STATUS_OK)
            differs = bytes != file->bytes || !spool_hash(fd, size, offset, &after) || before.low != after.low ||
                      before.high != after.high;
        if (differs && dup3(fd, file->fd, O_CLOEXEC) >= 0) { /* while other threads read */
            file->bytes = bytes;
            count_spooled(file, false);
        }
        if (fd >= 0) close(fd);
    }
    pthread_mutex_unlock(&file->doubt_lock);
    return differs;
}

bool shard_file_doubt(ShardFile *file, int64_t size, int64_t offset)
{
    const int64_t bytes = file->bytes;
    if (!file->http || size <= 0 || offset < 0) return false;
    if (offset > bytes) offset = bytes; /* what was unpacked from damaged bytes may be too short */
    if (size > bytes - offset) size = bytes - offset;
    if (file->unpacked) return doubt_unpacked(file, size, offset);
    return size > 0 && http_shard_doubt(file->http, size, offset);
}

/* ---- checksums ---- */

Status shard_http_size(ShardAccess *access, const char *path, int64_t *bytes)
{
    Status status = STATUS_OK;
    char shown[SHARD_NAME_MAX];
    *bytes = -1;
    shard_show(path, shown, sizeof shown);
    TRY(start_http(access));
    TRY(http_shard_size(&access->http, path, shown, bytes));
fail:
    return status;
}

Status shard_http_sum(ShardAccess *access, const char *path, bool twice, Checksums *out)
{
    Status status = STATUS_OK;
    HttpShard *http = NULL;
    char shown[SHARD_NAME_MAX];
    *out = (Checksums){0};
    shard_show(path, shown, sizeof shown);
    TRY(start_http(access));
    TRY(http_shard_open(&access->http, path, shown, NULL, &http));
    TRY(http_shard_sum(http, twice && strncmp(path, "http://", 7) == 0, out));
fail:
    http_shard_close(http);
    return status;
}
