#include "train/run_events.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"

enum { EVENT_TEXT_MAX = 1024 };

static void append(const char *path, const StrBuf *line)
{
    const int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (file < 0 || write(file, line->data, line->size) != (ssize_t)line->size)
        log_warn("%s: an event is not written: %s", path, strerror(errno));
    if (file >= 0) close(file);
}

void run_events_add(const char *path, int64_t step, const char *kind, const char *format, ...)
{
    char text[EVENT_TEXT_MAX];
    struct timespec now = {0};
    StrBuf line = {0};
    JsonWriter w;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    clock_gettime(CLOCK_REALTIME, &now);
    const int64_t milliseconds = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    json_begin(&w, &line);
    json_object(&w, NULL);
    json_float(&w, "time", (double)milliseconds / 1000);
    json_int(&w, "step", step);
    json_string(&w, "kind", kind);
    json_string(&w, "text", text);
    json_end_object(&w);
    if (strbuf_append(&line, "\n", 1) == STATUS_OK) append(path, &line);
    strbuf_free(&line);
}
