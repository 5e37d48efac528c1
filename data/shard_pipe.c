#include "data/shard_pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "data/spool.h"

#define BLOCK ((size_t)256 << 10)
#define LOOK_MS 100 /* whether we are stopped */

extern char **environ;

/* The command with its output in `to`. Nothing else that is open here is open in it: libraries do not open all of
 * theirs with O_CLOEXEC. (glibc 2.34) */
static Status start(const char *command, int to, pid_t *out)
{
    Status status = STATUS_OK;
    char *const arguments[] = {"sh", "-c", (char *)command, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    bool made = false, set = false;
    sigemptyset(&none);
    sigfillset(&all);
    if (posix_spawn_file_actions_init(&actions) != 0) FAIL(ERR_MEMORY, "out of memory to start a command");
    made = true;
    if (posix_spawnattr_init(&attributes) != 0) FAIL(ERR_MEMORY, "out of memory to start a command");
    set = true;
    int error = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    if (!error) error = posix_spawn_file_actions_adddup2(&actions, to, 1);
    if (!error) error = posix_spawn_file_actions_addclosefrom_np(&actions, 3);
    if (!error) error = posix_spawnattr_setpgroup(&attributes, 0);
    if (!error) error = posix_spawnattr_setsigmask(&attributes, &none);
    if (!error) error = posix_spawnattr_setsigdefault(&attributes, &all);
    if (!error)
        error = posix_spawnattr_setflags(&attributes,
                                         POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    if (!error) error = posix_spawn(out, "/bin/sh", &actions, &attributes, arguments, environ);
    if (error) FAIL(ERR_IO, "cannot start /bin/sh: %s", strerror(error));
fail:
    if (made) posix_spawn_file_actions_destroy(&actions);
    if (set) posix_spawnattr_destroy(&attributes);
    return status;
}

/* All that comes, until the other end is closed. */
static Status drain(Patience *patience, int from, int to, int64_t *bytes)
{
    Status status = STATUS_OK;
    const double allowed = PIPE_STALL * patience->config->stall_seconds;
    double last = clock_seconds();
    char *block = malloc(BLOCK);
    if (!block) FAIL(ERR_MEMORY, "out of memory to read a command's output");
    for (;;) {
        struct pollfd wait = {.fd = from, .events = POLLIN};
        if (patience_stopped(patience)) FAIL(ERR_INTERRUPTED, "stopped");
        int ready = poll(&wait, 1, LOOK_MS);
        if (ready < 0 && errno != EINTR) FAIL(ERR_IO, "waiting for its output: %s", strerror(errno));
        if (ready <= 0) {
            if (clock_seconds() - last > allowed) FAIL(ERR_IO, "has printed nothing for %g s", allowed);
            continue;
        }
        ssize_t got = read(from, block, BLOCK);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) FAIL(ERR_IO, "reading its output: %s", strerror(errno));
        if (got == 0) break;
        if (got > SPOOL_MAX_BYTES - *bytes) FAIL(ERR_LIMIT, "prints more than 64 GiB; make smaller shards");
        TRY(spool_write(patience->config, to, block, got, *bytes));
        *bytes += got;
        last = clock_seconds();
    }
fail:
    free(block);
    return status;
}

/* The command closed its output and is to end now. */
static Status await_end(Patience *patience, pid_t pid, int *how)
{
    Status status = STATUS_OK;
    const double until = clock_seconds() + PIPE_STALL * patience->config->stall_seconds;
    for (double pause = 0.001;;) {
        pid_t ended = waitpid(pid, how, WNOHANG);
        if (ended == pid) return STATUS_OK;
        if (ended < 0 && errno != EINTR) FAIL(ERR_IO, "waiting for its end: %s", strerror(errno));
        if (clock_seconds() > until) FAIL(ERR_IO, "has closed its output but does not end");
        TRY(patience_sleep(patience, pause));
        if (pause < 0.1) pause *= 2;
    }
fail:
    return status;
}

static Status check_end(int how)
{
    Status status = STATUS_OK;
    if (WIFSIGNALED(how)) FAIL(ERR_IO, "was ended by signal %d", WTERMSIG(how));
    if (WEXITSTATUS(how) != 0)
        FAIL(ERR_IO, "ended with %d%s; its own messages say why", WEXITSTATUS(how),
             WEXITSTATUS(how) == 127 ? " (no such command)" : "");
fail:
    return status;
}

Status shard_pipe_spool(Patience *patience, const char *command, const char *shown, int *out, int64_t *bytes)
{
    Status status = STATUS_OK;
    int ends[2] = {-1, -1}, fd = -1, how = 0;
    pid_t pid = -1;
    *bytes = 0;
    TRY(spool_create(patience->config, &fd));
    if (pipe2(ends, O_CLOEXEC) != 0) FAIL(ERR_IO, "cannot make a pipe: %s", strerror(errno));
    TRY(start(command, ends[1], &pid));
    close(ends[1]);
    ends[1] = -1;
    TRY(drain(patience, ends[0], fd, bytes));
    TRY(await_end(patience, pid, &how));
    pid = -1;
    TRY(check_end(how));
    *out = fd;
    fd = -1;
fail:
    if (pid > 0) {
        kill(-pid, SIGKILL);
        while (waitpid(pid, &how, 0) < 0 && errno == EINTR) {
        }
    }
    if (ends[0] >= 0) close(ends[0]);
    if (ends[1] >= 0) close(ends[1]);
    if (fd >= 0) close(fd);
    if (status != STATUS_OK) status_prefix("%.200s: ", shown);
    return status;
}
