#include "train/event_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/file.h"

static const char name_start[] = "events.out.tfevents.";
enum { WAITING_BYTES = 1 << 18 };

uint32_t event_file_checksum(const void *data, size_t size)
{
    const uint32_t crc = crc32c(data, size);
    return (crc >> 15 | crc << 17) + 0xa282ead8;
}

/* The first second after those in the names of the folder's files. */
static Status choose_time(const char *folder, long long *out)
{
    Status status = STATUS_OK;
    char **names = NULL;
    size_t count = 0;
    *out = (long long)time(NULL);
    TRY(file_list(folder, &names, &count));
    for (size_t i = 0; i < count; i++) {
        if (strncmp(names[i], name_start, sizeof name_start - 1) != 0) continue;
        const long long taken = strtoll(names[i] + sizeof name_start - 1, NULL, 10);
        if (taken >= *out && taken < 9999999999) *out = taken + 1;
    }
fail:
    file_free_list(names, count);
    return status;
}

Status event_file_create(const char *folder, EventFile *out)
{
    Status status = STATUS_OK;
    char name[256], host[65] = "";
    long long when;
    *out = (EventFile){.file = -1, .flushed = clock_seconds()};
    TRY(file_make_dirs(folder));
    TRY(choose_time(folder, &when));
    if (gethostname(host, sizeof host - 1) != 0) strcpy(host, "host");
    for (char *c = host; *c; c++)
        if (*c == '/') *c = '-';
    snprintf(name, sizeof name, "%s%010lld.%s.%ld", name_start, when, host, (long)getpid());
    TRY(path_join(out->path, sizeof out->path, folder, name));
    out->file = open(out->path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
    if (out->file < 0) FAIL_WITH(file_system_error(errno, "create", out->path));
fail:
    return status;
}

static void put_little_endian(uint8_t *out, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++) out[i] = (uint8_t)(value >> 8 * i);
}

Status event_file_add(EventFile *file, const void *data, size_t size)
{
    Status status = STATUS_OK;
    uint8_t head[12], foot[4];
    put_little_endian(head, size, 8);
    put_little_endian(head + 8, event_file_checksum(head, 8), 4);
    put_little_endian(foot, event_file_checksum(data, size), 4);
    TRY(strbuf_append(&file->waiting, head, sizeof head));
    TRY(strbuf_append(&file->waiting, data, size));
    TRY(strbuf_append(&file->waiting, foot, sizeof foot));
    TRY(file->waiting.size >= WAITING_BYTES ? event_file_flush(file) : event_file_flush_overdue(file));
fail:
    return status;
}

Status event_file_flush_overdue(EventFile *file)
{
    const bool overdue = file->waiting.size > 0 && clock_seconds() - file->flushed >= EVENT_FILE_SECONDS;
    return overdue ? event_file_flush(file) : STATUS_OK;
}

Status event_file_flush(EventFile *file)
{
    Status status = STATUS_OK;
    size_t done = 0;
    while (done < file->waiting.size) {
        const ssize_t wrote = write(file->file, file->waiting.data + done, file->waiting.size - done);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote <= 0) FAIL_WITH(file_system_error(errno, "write", file->path));
        done += (size_t)wrote;
    }
    file->waiting.size = 0;
    file->flushed = clock_seconds();
fail:
    return status;
}

void event_file_close(EventFile *file)
{
    if (file->file >= 0) close(file->file);
    file->file = -1;
    strbuf_free(&file->waiting);
}
