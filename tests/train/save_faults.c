/* A library for LD_PRELOAD that makes one operation go wrong while a checkpoint is saved: the N-th call that changes
 * something below a folder called checkpoints, counted from the first mkdir of a step-*.tmp there.
 *
 *   VASILY_FAULT_KIND    eio: that call fails with EIO. enospc: from that call on, all that want space fail with
 * ENOSPC. kill: the process is killed there. malloc: the N-th allocation of a thread that saves fails. VASILY_FAULT_AT
 * N, from 1; 0 or absent: none, to count VASILY_FAULT_COUNT   a file that the number of calls is written to at the end
 *   VASILY_FAULT_RANK    only that rank of several (OMPI_COMM_WORLD_RANK) */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FILES = 4096 };
typedef enum Kind { NONE, EIO_ONCE, ENOSPC_FROM, KILL, MALLOC } Kind;

static Kind kind;
static long at;
static atomic_long calls, allocations;
static atomic_bool armed, saved;
static atomic_bool tracked[FILES]; /* descriptors of files below checkpoints/ */
static _Thread_local bool saves;   /* this thread has changed something there */

/* What the library would have called. */
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void)
{
    static const char *const KINDS[] = {"", "eio", "enospc", "kill", "malloc"};
    const char *word = getenv("VASILY_FAULT_KIND"), *number = getenv("VASILY_FAULT_AT");
    const char *wanted = getenv("VASILY_FAULT_RANK"), *rank = getenv("OMPI_COMM_WORLD_RANK");
    if (wanted && rank && strcmp(wanted, rank) != 0) return;
    for (size_t k = 1; word && k < sizeof KINDS / sizeof KINDS[0]; k++)
        if (strcmp(word, KINDS[k]) == 0) kind = (Kind)k;
    at = number ? strtol(number, NULL, 10) : 0;
}

__attribute__((destructor)) static void end(void)
{
    const char *path = getenv("VASILY_FAULT_COUNT");
    const char *wanted = getenv("VASILY_FAULT_RANK"), *rank = getenv("OMPI_COMM_WORLD_RANK");
    if (!path || (wanted && rank && strcmp(wanted, rank) != 0)) return;
    FILE *file = fopen(path, "w");
    if (!file) return;
    fprintf(file, "%ld %ld\n", atomic_load(&calls), atomic_load(&allocations));
    fclose(file);
}

static bool is_inside(const char *path)
{
    return path && strstr(path, "checkpoints") != NULL;
}

static bool is_tracked(int fd)
{
    return fd >= 0 && fd < FILES && atomic_load(&tracked[fd]);
}

/* Whether this call fails; errno is set then. `space`: it wants some. */
static bool fails(bool inside, bool space)
{
    if (!inside || !atomic_load(&armed)) return false;
    saves = true;
    const long call = atomic_fetch_add(&calls, 1) + 1;
    if (at <= 0 || call < at) return false;
    if (kind == KILL && call == at) kill(getpid(), SIGKILL);
    if (kind == EIO_ONCE && call == at) {
        errno = EIO;
        return true;
    }
    if (kind == ENOSPC_FROM && space) {
        errno = ENOSPC;
        return true;
    }
    return false;
}

static int note(int fd, bool inside)
{
    if (fd >= 0 && fd < FILES) atomic_store(&tracked[fd], inside);
    return fd;
}

int mkdir(const char *path, mode_t mode)
{
    const size_t length = strlen(path);
    if (is_inside(path) && length > 4 && strcmp(path + length - 4, ".tmp") == 0) atomic_store(&armed, true);
    return fails(is_inside(path), true) ? -1 : REAL(mkdir)(path, mode);
}

#define OPEN_BODY(call)                                                                              \
    mode_t mode = 0;                                                                                 \
    if (flags & O_CREAT) {                                                                           \
        va_list arguments;                                                                           \
        va_start(arguments, flags);                                                                  \
        mode = va_arg(arguments, mode_t);                                                            \
        va_end(arguments);                                                                           \
    }                                                                                                \
    if (fails(inside && (flags & (O_CREAT | O_WRONLY | O_RDWR)), (flags & O_CREAT) != 0)) return -1; \
    return note(call, inside)

int open(const char *path, int flags, ...)
{
    const bool inside = is_inside(path);
    OPEN_BODY(REAL(open)(path, flags, mode));
}

int open64(const char *path, int flags, ...)
{
    const bool inside = is_inside(path);
    OPEN_BODY(REAL(open64)(path, flags, mode));
}

int openat(int folder, const char *path, int flags, ...)
{
    const bool inside = is_inside(path) || (path[0] != '/' && is_tracked(folder));
    OPEN_BODY(REAL(openat)(folder, path, flags, mode));
}

int close(int fd)
{
    (void)note(fd, false);
    return REAL(close)(fd);
}

int dup2(int from, int to)
{
    const bool inside = is_tracked(from);
    return note(REAL(dup2)(from, to), inside);
}

ssize_t write(int fd, const void *data, size_t size)
{
    return fails(is_tracked(fd), true) ? -1 : REAL(write)(fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t place)
{
    return fails(is_tracked(fd), true) ? -1 : REAL(pwrite)(fd, data, size, place);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t place)
{
    return fails(is_tracked(fd), true) ? -1 : REAL(pwrite64)(fd, data, size, place);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    return fails(is_tracked(fd), true) ? -1 : REAL(writev)(fd, parts, count);
}

int ftruncate(int fd, off_t size)
{
    return fails(is_tracked(fd), true) ? -1 : REAL(ftruncate)(fd, size);
}

int ftruncate64(int fd, off64_t size)
{
    return fails(is_tracked(fd), true) ? -1 : REAL(ftruncate64)(fd, size);
}

int fsync(int fd)
{
    return fails(is_tracked(fd), false) ? -1 : REAL(fsync)(fd);
}

int rename(const char *from, const char *to)
{
    if (fails(is_inside(to), false)) return -1;
    if (is_inside(from) && strstr(from, ".tmp") && !strstr(to, ".tmp")) atomic_store(&saved, true);
    return REAL(rename)(from, to);
}

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags)
{
    return fails(is_inside(to), false) ? -1 : REAL(renameat2)(from_folder, from, to_folder, to, flags);
}

int symlink(const char *target, const char *path)
{
    return fails(is_inside(path), true) ? -1 : REAL(symlink)(target, path);
}

int unlink(const char *path)
{
    return fails(is_inside(path), false) ? -1 : REAL(unlink)(path);
}

int unlinkat(int folder, const char *path, int flags)
{
    return fails(is_inside(path) || is_tracked(folder), false) ? -1 : REAL(unlinkat)(folder, path, flags);
}

/* ---- memory ---- */

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);

static bool memory_fails(void)
{
    if (kind != MALLOC && kind != NONE) return false;
    if (!saves || atomic_load(&saved)) return false;
    if (atomic_fetch_add(&allocations, 1) + 1 != at) return false;
    errno = ENOMEM;
    return kind == MALLOC;
}

void *malloc(size_t size)
{
    return memory_fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return memory_fails() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
    return memory_fails() ? NULL : __libc_realloc(memory, size);
}
