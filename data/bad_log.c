#include "data/bad_log.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "data/shard_file.h"

struct BadLog {
    char *path;
    int rank, lines;
    bool refused; /* the file could not be written: it was said once */
    pthread_mutex_t lock;
};

Status bad_log_create(const char *path, int rank, BadLog **out)
{
    Status status = STATUS_OK;
    size_t size = strlen(path) + 1;
    *out = NULL;
    BadLog *log = mem_alloc_array(1, sizeof *log);
    char *copy = mem_alloc_array(size, 1);
    if (!log || !copy) FAIL(ERR_MEMORY, "out of memory for %s", path);
    memcpy(copy, path, size);
    log->path = copy;
    log->rank = rank;
    if (pthread_mutex_init(&log->lock, NULL) != 0) FAIL(ERR_MEMORY, "cannot create a lock");
    *out = log;
    return STATUS_OK;
fail:
    free(copy);
    free(log);
    return status;
}

void bad_log_free(BadLog *log)
{
    if (!log) return;
    pthread_mutex_destroy(&log->lock);
    free(log->path);
    free(log);
}

static void begin_line(const BadLog *log, JsonWriter *w, StrBuf *line, const char *what)
{
    char when[32];
    time_t now = time(NULL);
    struct tm utc;
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    json_begin(w, line);
    json_object(w, NULL);
    json_string(w, "time", when);
    json_int(w, "rank", log->rank);
    json_string(w, "what", what);
}

/* Ends the line and appends it to the file, while there is room. */
static void write_line(BadLog *log, JsonWriter *w, StrBuf *line)
{
    Status status = STATUS_OK;
    pthread_mutex_lock(&log->lock);
    if (log->lines == BAD_LOG_MAX_LINES - 1) {
        strbuf_free(line);
        begin_line(log, w, line, "end");
        json_string(w, "detail", "more was passed over than is listed here; the counts are in the log");
    }
    json_end_object(w);
    if (!line->data) status = status_trace(ERR_MEMORY, __FILE__, __LINE__);
    if (log->lines < BAD_LOG_MAX_LINES && !log->refused && status == STATUS_OK)
        status = file_append_line(log->path, line->data);
    log->lines++;
    if (status != STATUS_OK) {
        log->refused = true;
        log_warn("what is broken in the data is not listed: %s", status_message());
    }
    pthread_mutex_unlock(&log->lock);
    strbuf_free(line);
}

/* Passwords in URLs are nobody's business. */
static void add_shard(JsonWriter *w, const char *shard)
{
    char shown[SHARD_NAME_MAX];
    shard_show(shard, shown, sizeof shown);
    json_string(w, "shard", shown);
}

void bad_log_shard(BadLog *log, const char *source, const char *shard, int64_t first, int64_t samples,
                   SampleReason reason, const char *detail)
{
    JsonWriter w;
    StrBuf line = {0};
    if (!log) return;
    begin_line(log, &w, &line, "shard");
    json_string(&w, "source", source);
    add_shard(&w, shard);
    json_int(&w, "first", first);
    json_int(&w, "samples", samples);
    json_string(&w, "reason", sample_reason_name(reason));
    json_string(&w, "detail", detail);
    write_line(log, &w, &line);
}

void bad_log_sample(BadLog *log, const char *source, const char *shard, const char *key, SampleReason reason,
                    const char *detail)
{
    JsonWriter w;
    StrBuf line = {0};
    if (!log) return;
    begin_line(log, &w, &line, "sample");
    json_string(&w, "source", source);
    add_shard(&w, shard);
    json_string(&w, "key", key);
    json_string(&w, "reason", sample_reason_name(reason));
    json_string(&w, "detail", detail);
    write_line(log, &w, &line);
}
