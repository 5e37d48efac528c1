#include "base/status.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define TRAIL_MAX 1024

static _Thread_local char thread_message[STATUS_MESSAGE_MAX];
static _Thread_local char thread_trail[TRAIL_MAX];

static const struct {
    const char *name;
    int exit_code;
} STATUS_TABLE[STATUS_COUNT] = {
    [STATUS_OK] = {"ok", 0},          [ERR_USAGE] = {"usage", 2},
    [ERR_CONFIG] = {"config", 2},     [ERR_IO] = {"io", 3},
    [ERR_SPACE] = {"space", 3},       [ERR_FORMAT] = {"format", 3},
    [ERR_LIMIT] = {"limit", 3},       [ERR_MEMORY] = {"memory", 4},
    [ERR_NUMERIC] = {"numeric", 5},   [ERR_UNSUPPORTED] = {"unsupported", 2},
    [ERR_COMM] = {"comm", 6},         [ERR_INTERRUPTED] = {"interrupted", 75},
    [ERR_MISMATCH] = {"mismatch", 6}, [ERR_INTERNAL] = {"internal", 70},
    [STATUS_END] = {"end", 0},
};

const char *status_name(Status status)
{
    return (unsigned)status < STATUS_COUNT ? STATUS_TABLE[status].name : "unknown";
}

int status_exit_code(Status status)
{
    return (unsigned)status < STATUS_COUNT ? STATUS_TABLE[status].exit_code : 70;
}

const char *status_message(void)
{
    return thread_message;
}

const char *status_trail(void)
{
    return thread_trail;
}

/* The last two parts of a source path: "base/file.c", whatever folder it was built in. */
static const char *short_path(const char *file)
{
    const char *last = strrchr(file, '/');
    if (!last) return file;
    const char *start = last;
    while (start > file && start[-1] != '/') start--;
    return start;
}

/* Cuts a text that snprintf shortened back to whole UTF-8 characters and marks the cut. */
static void mark_cut(char *text, size_t capacity)
{
    size_t end = capacity - 4;
    while (end > 0 && ((unsigned char)text[end] & 0xc0) == 0x80) end--;
    memcpy(text + end, "...", 4);
}

void text_blunt_controls(char *text)
{
    for (unsigned char *c = (unsigned char *)text; *c; c++) {
        bool c1 = c[0] == 0xc2 && c[1] >= 0x80 && c[1] <= 0x9f; /* U+0080 to U+009F in UTF-8 */
        if (c1) *c++ = '?';
        if (c1 || (*c < 0x20 && *c != '\n' && *c != '\t') || *c == 0x7f) *c = '?';
    }
}

Status status_fail(Status status, const char *file, int line, const char *format, ...)
{
    /* The arguments may point into the recorded message, so the new one is made beside it. */
    char message[STATUS_MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(message, sizeof message, format, args);
    va_end(args);
    if (length < 0) snprintf(message, sizeof message, "(the message could not be formatted: %s)", format);
    if (length >= (int)sizeof message) mark_cut(message, sizeof message);
    text_blunt_controls(message);
    memcpy(thread_message, message, strlen(message) + 1);
    thread_trail[0] = '\0';
    return status_trace(status, file, line);
}

Status status_trace(Status status, const char *file, int line)
{
    if (status == STATUS_OK || status == STATUS_END) return status;
    size_t used = strlen(thread_trail);
    int wanted = snprintf(NULL, 0, "%s:%d\n", short_path(file), line);
    /* A trail that is full keeps its inner end: where it happened matters most. */
    if (wanted > 0 && used + (size_t)wanted < sizeof thread_trail)
        snprintf(thread_trail + used, sizeof thread_trail - used, "%s:%d\n", short_path(file), line);
    return status;
}

void status_prefix(const char *format, ...)
{
    char message[STATUS_MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(message, sizeof message, format, args);
    va_end(args);
    if (length < 0) return;
    size_t used = strlen(message);
    size_t rest = strlen(thread_message);
    bool cut = used + rest >= sizeof message;
    if (cut) rest = sizeof message - 1 - used;
    memcpy(message + used, thread_message, rest);
    message[used + rest] = '\0';
    if (cut) mark_cut(message, sizeof message);
    memcpy(thread_message, message, strlen(message) + 1);
}

void status_save(Status status, StatusRecord *out)
{
    out->status = status;
    memcpy(out->message, thread_message, sizeof out->message);
    memcpy(out->trail, thread_trail, sizeof out->trail);
}

Status status_restore(const StatusRecord *record)
{
    memcpy(thread_message, record->message, sizeof thread_message);
    memcpy(thread_trail, record->trail, sizeof thread_trail);
    return record->status;
}
