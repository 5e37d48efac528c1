#include "train/json_lines.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

Status json_lines_name(JsonLines *lines, const char *path)
{
    Status status = STATUS_OK;
    memset(lines, 0, sizeof *lines);
    if (strlen(path) >= sizeof lines->path) FAIL(ERR_LIMIT, "%s: the path is too long", path);
    memcpy(lines->path, path, strlen(path) + 1);
fail:
    return status;
}

bool json_lines_was_cut(const JsonLines *lines)
{
    struct stat about;
    return lines->offset > 0 && (stat(lines->path, &about) != 0 || about.st_size < lines->offset);
}

static void take_line(JsonLines *lines, const char *text, size_t size, JsonLineVisit *visit, void *context)
{
    JsonDoc *doc = NULL;
    const bool overlong = lines->overlong;
    lines->overlong = false;
    if (overlong) return; /* its end; it is counted already */
    if (json_parse(text, size, JSON_LINE_MAX, &doc) == STATUS_OK && json_is_object(json_root(doc)) &&
        visit(context, json_root(doc)))
        lines->good++;
    else
        lines->bad++;
    json_free(doc);
}

/* Takes the whole lines at the buffer's start; returns how many bytes they are. */
static size_t take_lines(JsonLines *lines, const char *buffer, size_t have, JsonLineVisit *visit, void *context)
{
    size_t at = 0;
    const char *end;
    while ((end = memchr(buffer + at, '\n', have - at))) {
        take_line(lines, buffer + at, (size_t)(end - buffer) - at, visit, context);
        at = (size_t)(end - buffer) + 1;
    }
    if (at == 0 && have == JSON_LINE_MAX) {
        if (!lines->overlong) lines->bad++;
        lines->overlong = true;
        at = have;
    }
    return at;
}

Status json_lines_read(JsonLines *lines, JsonLineVisit *visit, void *context)
{
    Status status = STATUS_OK;
    char *buffer = NULL;
    size_t have = 0;
    const int file = open(lines->path, O_RDONLY | O_CLOEXEC);
    if (file < 0 && errno == ENOENT) return STATUS_OK;
    if (file < 0) FAIL_WITH(file_system_error(errno, "open", lines->path));
    buffer = mem_alloc_array(JSON_LINE_MAX, 1);
    if (!buffer) FAIL(ERR_MEMORY, "no memory to read %s", lines->path);
    for (;;) {
        const ssize_t got = pread(file, buffer + have, JSON_LINE_MAX - have, lines->offset + (int64_t)have);
        if (got < 0) FAIL_WITH(file_system_error(errno, "read", lines->path));
        if (got == 0) break;
        have += (size_t)got;
        const size_t taken = take_lines(lines, buffer, have, visit, context);
        memmove(buffer, buffer + taken, have - taken);
        have -= taken;
        lines->offset += (int64_t)taken;
    }
fail:
    if (file >= 0) close(file);
    free(buffer);
    return status;
}
