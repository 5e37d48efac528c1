#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "base/arena.h"

#define MAX_TREE_DEPTH 64

Status file_system_error(int error, const char *action, const char *path)
{
    const char *remedy = "";
    switch (error) {
    case ENOSPC:
    case EDQUOT:
        return status_fail(ERR_IO, __FILE__, __LINE__,
                           "%s: cannot %s: %s; free some space there or choose another place", path, action,
                           error == ENOSPC ? "no space left on the disk" : "the disk quota is used up");
    case EFBIG:
        return status_fail(ERR_IO, __FILE__, __LINE__,
                           "%s: cannot %s: the file is larger than the limit of the file system or of this process "
                           "(ulimit -f) allows",
                           path, action);
    case ENOMEM:
        return status_fail(ERR_MEMORY, __FILE__, __LINE__, "%s: cannot %s: out of memory", path, action);
    case ENOENT:
        remedy = "; is the path right?";
        break;
    case EACCES:
    case EPERM:
        remedy = "; may this user do that there?";
        break;
    case EMFILE:
    case ENFILE:
        remedy = "; raise the limit of open files (ulimit -n)";
        break;
    case EROFS:
        remedy = "; choose a place that can be written";
        break;
    default:
        break;
    }
    char words[128];
    /* The GNU strerror_r returns the text, in `words` or elsewhere. */
    const char *text = strerror_r(error, words, sizeof words);
    return status_fail(ERR_IO, __FILE__, __LINE__, "%s: cannot %s: %s%s", path, action, text, remedy);
}

/* --- reading --- */

Status file_read(const char *path, size_t limit, char **data, size_t *size)
{
    Status status = STATUS_OK;
    char *buffer = NULL;
    size_t capacity = 0, used = 0;
    *data = NULL;
    *size = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) FAIL_WITH(file_system_error(errno, "open", path));
    struct stat info;
    if (fstat(fd, &info) < 0) FAIL_WITH(file_system_error(errno, "read", path));
    if (S_ISDIR(info.st_mode)) FAIL(ERR_IO, "%s: is a folder where a file is wanted", path);
    if (S_ISREG(info.st_mode) && (uintmax_t)info.st_size > limit)
        FAIL(ERR_LIMIT, "%s: %jd bytes, at most %zu are read here", path, (intmax_t)info.st_size, limit);
    /* One byte more than the file claims, so that its end is seen without growing. Pipes and /proc claim 0. */
    size_t guess = S_ISREG(info.st_mode) ? (size_t)info.st_size + 2 : 4096;
    for (;;) {
        if (used + 1 >= capacity) TRY(mem_grow(&buffer, &capacity, used == 0 ? guess : used + 4096, 1));
        ssize_t n = read(fd, buffer + used, capacity - used - 1);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) FAIL_WITH(file_system_error(errno, "read", path));
        if (n == 0) break;
        used += (size_t)n;
        if (used > limit) FAIL(ERR_LIMIT, "%s: more than the %zu bytes that are read here", path, limit);
    }
    buffer[used] = '\0';
    close(fd);
    *data = buffer;
    *size = used;
    return STATUS_OK;
fail:
    free(buffer);
    if (fd >= 0) close(fd);
    return status;
}

Status file_map(const char *path, FileMap *out)
{
    Status status = STATUS_OK;
    struct stat info;
    *out = (FileMap){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe is refused, not waited for */
    if (fd < 0) FAIL_WITH(file_system_error(errno, "open", path));
    if (fstat(fd, &info) < 0) FAIL_WITH(file_system_error(errno, "read", path));
    if (!S_ISREG(info.st_mode)) FAIL(ERR_IO, "%s: is not a regular file", path);
    if (info.st_size > 0) {
        void *memory = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (memory == MAP_FAILED) FAIL_WITH(file_system_error(errno, "map", path));
        *out = (FileMap){memory, (size_t)info.st_size};
    }
fail:
    if (fd >= 0) close(fd);
    return status;
}

void file_unmap(FileMap *map)
{
    void *memory; /* munmap wants it without const */
    memcpy(&memory, &map->data, sizeof memory);
    if (memory) munmap(memory, map->size);
    *map = (FileMap){0};
}

void file_release(const void *data, size_t size)
{
    const long page = sysconf(_SC_PAGESIZE);
    if (page <= 0) return;
    uintptr_t begin = (uintptr_t)data, end = begin + size;
    begin = (begin + (uintptr_t)page - 1) / (uintptr_t)page * (uintptr_t)page;
    end = end / (uintptr_t)page * (uintptr_t)page;
    if (begin >= end) return;
    uint8_t *memory; /* madvise wants it without const */
    memcpy(&memory, &data, sizeof memory);
    (void)madvise(memory + (begin - (uintptr_t)data), end - begin, MADV_DONTNEED);
}

/* --- writing --- */

static Status write_all(int fd, const char *path, const char *data, size_t size)
{
    Status status = STATUS_OK;
    while (size > 0) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) FAIL_WITH(file_system_error(n < 0 ? errno : ENOSPC, "write", path));
        data += n;
        size -= (size_t)n;
    }
fail:
    return status;
}

/* The folder that holds `path`: "." for a bare name, "/" for the root's entries. */
static Status parent_of(const char *path, char out[PATH_MAX])
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') length--;
    while (length > 0 && path[length - 1] != '/') length--;
    while (length > 1 && path[length - 1] == '/') length--;
    if (length >= PATH_MAX) return status_fail(ERR_LIMIT, __FILE__, __LINE__, "%s: the path is too long", path);
    if (length == 0)
        memcpy(out, ".", 2);
    else {
        memcpy(out, path, length);
        out[length] = '\0';
    }
    return STATUS_OK;
}

static Status sync_parent(const char *path)
{
    Status status = STATUS_OK;
    char parent[PATH_MAX];
    TRY(parent_of(path, parent));
    TRY(file_sync(parent));
fail:
    return status;
}

Status file_write_atomic(const char *path, const void *data, size_t size)
{
    Status status = STATUS_OK;
    static atomic_uint written; /* two threads may write the same file */
    char temporary[PATH_MAX];
    int fd = -1;
    bool made = false;
    int length =
        snprintf(temporary, sizeof temporary, "%s.tmp-%ld-%u", path, (long)getpid(), atomic_fetch_add(&written, 1));
    if (length < 0 || (size_t)length >= sizeof temporary) FAIL(ERR_LIMIT, "%s: the path is too long", path);
    fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) FAIL_WITH(file_system_error(errno, "create", temporary));
    made = true;
    TRY(write_all(fd, path, data, size));
    if (fsync(fd) < 0) FAIL_WITH(file_system_error(errno, "write", path));
    int closed = close(fd);
    fd = -1;
    if (closed < 0) FAIL_WITH(file_system_error(errno, "write", path));
    if (rename(temporary, path) < 0) FAIL_WITH(file_system_error(errno, "rename the finished file to", path));
    made = false;
    TRY(sync_parent(path));
    return STATUS_OK;
fail:
    if (fd >= 0) close(fd);
    if (made) unlink(temporary);
    return status;
}

Status file_append_line(const char *path, const char *line)
{
    Status status = STATUS_OK;
    StrBuf text = {0};
    int fd = -1;
    size_t length = strlen(line);
    TRY(strbuf_append(&text, line, length));
    if (length == 0 || line[length - 1] != '\n') TRY(strbuf_append(&text, "\n", 1));
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0) FAIL_WITH(file_system_error(errno, "open", path));
    TRY(write_all(fd, path, text.data, text.size));
    int closed = close(fd);
    fd = -1;
    if (closed < 0) FAIL_WITH(file_system_error(errno, "write", path));
fail:
    if (fd >= 0) close(fd);
    strbuf_free(&text);
    return status;
}

Status file_sync(const char *path)
{
    Status status = STATUS_OK;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) FAIL_WITH(file_system_error(errno, "open", path));
    /* Some file systems cannot sync a folder and say EINVAL; there is nothing to be done about it. */
    if (fsync(fd) < 0 && errno != EINVAL) FAIL_WITH(file_system_error(errno, "sync", path));
fail:
    if (fd >= 0) close(fd);
    return status;
}

Status file_rename(const char *from, const char *to)
{
    Status status = STATUS_OK;
    if (rename(from, to) < 0) {
        status = file_system_error(errno, "rename", from);
        status_prefix("%s: ", to);
        return status;
    }
    TRY(sync_parent(to));
fail:
    return status;
}

/* --- looking --- */

bool file_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

Status file_check_readable(const char *path)
{
    return access(path, R_OK) == 0 ? STATUS_OK : file_system_error(errno, "open", path);
}

bool file_is_dir(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

Status file_size(const char *path, int64_t *out)
{
    Status status = STATUS_OK;
    struct stat info;
    if (stat(path, &info) < 0) FAIL_WITH(file_system_error(errno, "read", path));
    *out = info.st_size;
fail:
    return status;
}

Status file_free_space(const char *path, int64_t *bytes)
{
    Status status = STATUS_OK;
    struct statvfs info;
    if (statvfs(path, &info) < 0) FAIL_WITH(file_system_error(errno, "look at the disk of", path));
    uint64_t block = info.f_frsize ? info.f_frsize : info.f_bsize, free_bytes;
    if (__builtin_mul_overflow((uint64_t)info.f_bavail, block, &free_bytes) || free_bytes > INT64_MAX)
        free_bytes = INT64_MAX;
    *bytes = (int64_t)free_bytes;
fail:
    return status;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void file_free_list(char **names, size_t count)
{
    if (!names) return;
    for (size_t i = 0; i < count; i++) free(names[i]);
    free(names);
}

Status file_list(const char *dir, char ***names, size_t *count)
{
    Status status = STATUS_OK;
    char **list = NULL;
    size_t capacity = 0, used = 0;
    *names = NULL;
    *count = 0;
    DIR *stream = opendir(dir);
    if (!stream) FAIL_WITH(file_system_error(errno, "open the folder", dir));
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(stream);
        if (!entry) {
            if (errno) FAIL_WITH(file_system_error(errno, "read the folder", dir));
            break;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        TRY(mem_grow(&list, &capacity, used + 1, sizeof *list));
        list[used] = strdup(entry->d_name);
        if (!list[used]) FAIL(ERR_MEMORY, "out of memory while listing %s", dir);
        used++;
    }
    if (!list) TRY(mem_grow(&list, &capacity, 1, sizeof *list));
    if (used > 1) qsort(list, used, sizeof *list, compare_names);
    closedir(stream);
    *names = list;
    *count = used;
    return STATUS_OK;
fail:
    if (stream) closedir(stream);
    file_free_list(list, used);
    return status;
}

/* --- folders --- */

Status file_make_dirs(const char *path)
{
    Status status = STATUS_OK;
    char partial[PATH_MAX];
    size_t length = strlen(path);
    if (length == 0) FAIL(ERR_USAGE, "a folder without a name cannot be made");
    if (length >= sizeof partial) FAIL(ERR_LIMIT, "%s: the path is too long", path);
    memcpy(partial, path, length + 1);
    for (size_t i = 1; i <= length; i++) {
        if (partial[i] != '/' && partial[i] != '\0') continue;
        char saved = partial[i];
        partial[i] = '\0';
        if (mkdir(partial, 0777) < 0) {
            int error = errno;
            /* EEXIST of a file, and EROFS or EACCES of a folder that is there already, need a look. */
            if (!file_is_dir(partial)) FAIL_WITH(file_system_error(error, "make the folder", partial));
        }
        partial[i] = saved;
    }
fail:
    return status;
}

Status file_make_temporary_dir(const char *path, char *out, size_t capacity)
{
    Status status = STATUS_OK;
    static atomic_uint made;
    char parent[PATH_MAX];
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') length--;
    TRY(parent_of(path, parent));
    TRY(file_make_dirs(parent));
    for (;;) {
        const int size =
            snprintf(out, capacity, "%.*s.tmp-%ld-%u", (int)length, path, (long)getpid(), atomic_fetch_add(&made, 1));
        if (size < 0 || (size_t)size >= capacity) FAIL(ERR_LIMIT, "%s: the path is too long", path);
        if (mkdir(out, 0777) == 0) return STATUS_OK;
        if (errno != EEXIST) FAIL_WITH(file_system_error(errno, "make the folder", out));
    }
fail:
    return status;
}

/* Works with folder handles, so a folder that is exchanged for a link meanwhile is not followed. What another process
 * removes meanwhile is gone, as was asked for. */
static Status remove_at(int dir, const char *name, const char *path, int depth)
{
    Status status = STATUS_OK;
    DIR *stream = NULL;
    if (unlinkat(dir, name, 0) == 0 || errno == ENOENT) return STATUS_OK;
    if (errno != EISDIR && errno != EPERM) FAIL_WITH(file_system_error(errno, "remove", path));
    if (depth > MAX_TREE_DEPTH) FAIL(ERR_LIMIT, "%s: folders more than %d deep are not removed", path, MAX_TREE_DEPTH);
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) return STATUS_OK;
    if (fd < 0) FAIL_WITH(file_system_error(errno, "remove", path));
    stream = fdopendir(fd);
    if (!stream) {
        int error = errno;
        close(fd);
        FAIL_WITH(file_system_error(error, "remove", path));
    }
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(stream);
        if (!entry) {
            if (errno && errno != ENOENT) FAIL_WITH(file_system_error(errno, "read the folder", path));
            break;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        TRY(remove_at(dirfd(stream), entry->d_name, path, depth + 1));
    }
    if (unlinkat(dir, name, AT_REMOVEDIR) < 0 && errno != ENOENT) FAIL_WITH(file_system_error(errno, "remove", path));
fail:
    if (stream) closedir(stream);
    return status;
}

Status file_remove_tree(const char *path)
{
    return remove_at(AT_FDCWD, path, path, 0);
}

Status path_join(char *out, size_t capacity, const char *dir, const char *name)
{
    size_t length = strlen(dir);
    const char *slash = length > 0 && dir[length - 1] != '/' ? "/" : "";
    int written = snprintf(out, capacity, "%s%s%s", dir, slash, name);
    if (written < 0 || (size_t)written >= capacity)
        return status_fail(ERR_LIMIT, __FILE__, __LINE__, "%s/%s: the path is too long", dir, name);
    return STATUS_OK;
}

double clock_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}
