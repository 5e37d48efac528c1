#include "train/run_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "train/signals.h"

enum { LOCK_POLL_MICROSECONDS = 200000 };

Status run_dir_name(const char *path, RunDir *out)
{
    Status status = STATUS_OK;
    memset(out, 0, sizeof *out);
    out->lock = -1;
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') length--;
    if (!length) FAIL(ERR_CONFIG, "run.dir is empty; it names the folder that the run is written to");
    if (length >= sizeof out->path) FAIL(ERR_LIMIT, "run.dir is longer than %zu bytes", sizeof out->path - 1);
    memcpy(out->path, path, length);
    TRY(path_join(out->config, sizeof out->config, out->path, "config.yaml"));
    TRY(path_join(out->metrics, sizeof out->metrics, out->path, "metrics.jsonl"));
    TRY(path_join(out->events, sizeof out->events, out->path, "events.jsonl"));
    TRY(path_join(out->validation, sizeof out->validation, out->path, "validation.jsonl"));
    TRY(path_join(out->bad_shards, sizeof out->bad_shards, out->path, "bad-shards.jsonl"));
    TRY(path_join(out->checkpoints, sizeof out->checkpoints, out->path, "checkpoints"));
    TRY(path_join(out->previews, sizeof out->previews, out->path, "previews"));
    TRY(path_join(out->flight_record, sizeof out->flight_record, out->path, "flight-record"));
fail:
    return status;
}

/* The process that holds the lock, by what it has written there; 0: not known. */
static long holder(const RunDir *dir)
{
    char text[32] = "";
    const ssize_t got = pread(dir->lock, text, sizeof text - 1, 0);
    text[got > 0 ? got : 0] = 0;
    return strtol(text, NULL, 10);
}

/* A file server may hold the lock of a machine that is lost for a minute or two. */
static Status wait_for_lock(const RunDir *dir, int64_t seconds)
{
    Status status = STATUS_OK;
    const double begun = clock_seconds();
    if (seconds > 0)
        log_warn("%s: another vasily train (process %ld) is writing to this run: waiting up to %lld s for its end",
                 dir->path, holder(dir), (long long)seconds);
    while (clock_seconds() - begun < (double)seconds) {
        usleep(LOCK_POLL_MICROSECONDS);
        if (flock(dir->lock, LOCK_EX | LOCK_NB) == 0) return STATUS_OK;
        if (errno != EWOULDBLOCK && errno != EINTR) break;
        if (signals_ask_for_end())
            FAIL(ERR_INTERRUPTED, "%s: a signal asks for the end, while another process still writes to this run",
                 dir->path);
    }
    FAIL(ERR_IO,
         "%s: another vasily train (process %ld) is writing to this run; wait for it (run.lock_seconds), stop it, or "
         "choose another run.dir",
         dir->path, holder(dir));
fail:
    return status;
}

static Status take_lock(RunDir *dir, int64_t wait)
{
    Status status = STATUS_OK;
    char path[PATH_MAX], text[32];
    TRY(path_join(path, sizeof path, dir->path, "lock"));
    dir->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (dir->lock < 0) FAIL(ERR_IO, "%s: %s", path, strerror(errno));
    if (flock(dir->lock, LOCK_EX | LOCK_NB)) {
        if (errno != EWOULDBLOCK)
            FAIL(ERR_IO, "%s cannot be locked: %s; choose a run.dir on a file system that has locks", path,
                 strerror(errno));
        TRY(wait_for_lock(dir, wait));
    }
    int length = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(dir->lock, 0) || pwrite(dir->lock, text, (size_t)length, 0) != length)
        FAIL(ERR_IO, "%s: %s", path, strerror(errno));
    return STATUS_OK;
fail:
    run_dir_close(dir);
    return status;
}

/* Steps were trained here, or checkpoints saved; folders left by a start that failed do not count. */
static Status holds_a_run(const RunDir *dir, bool *out)
{
    Status status = STATUS_OK;
    char **names = NULL;
    size_t count = 0;
    *out = file_exists(dir->metrics);
    if (!*out && file_is_dir(dir->checkpoints)) {
        TRY(file_list(dir->checkpoints, &names, &count));
        *out = count > 0;
    }
fail:
    file_free_list(names, count);
    return status;
}

/* So that what lies there is of one incident. */
static Status set_flight_record_aside(const RunDir *dir)
{
    Status status = STATUS_OK;
    char aside[PATH_MAX];
    if (!file_is_dir(dir->flight_record)) return STATUS_OK;
    TRY(path_join(aside, sizeof aside, dir->path, "flight-record.set-aside"));
    TRY(file_remove_tree(aside));
    TRY(file_rename(dir->flight_record, aside));
fail:
    return status;
}

Status run_dir_open(RunDir *dir, bool resume, int64_t wait)
{
    Status status = STATUS_OK;
    TRY(file_make_dirs(dir->path));
    if (dir->lock < 0) TRY(take_lock(dir, wait));
    bool used;
    TRY(holds_a_run(dir, &used));
    if (used && !resume)
        FAIL(ERR_USAGE, "%s already holds a run; continue it with --resume auto, or choose another run.dir", dir->path);
    TRY(set_flight_record_aside(dir));
    TRY(file_make_dirs(dir->checkpoints));
    TRY(file_make_dirs(dir->previews));
    return STATUS_OK;
fail:
    run_dir_close(dir);
    return status;
}

Status run_dir_write_config(const RunDir *dir, const char *yaml, size_t size)
{
    return file_write_atomic(dir->config, yaml, size);
}

void run_dir_close(RunDir *dir)
{
    if (dir->lock >= 0) close(dir->lock);
    dir->lock = -1;
}
