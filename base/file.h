/* Files: whole reads, mappings, writes that are either complete or absent. Errors name the path. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Records what the operating system said (an errno value) about `action` on `path`, with a remedy where one is known:
 * "PATH: cannot ACTION: no space left on the disk; ...". Returns ERR_IO, or ERR_MEMORY for ENOMEM. */
Status file_system_error(int error, const char *action, const char *path);

/* Reads a whole file of at most `limit` bytes; *data is NUL-terminated past *size; the caller frees it. */
Status file_read(const char *path, size_t limit, char **data, size_t *size);

/* A read-only mapping. */
typedef struct FileMap {
    const uint8_t *data;
    size_t size;
} FileMap;
Status file_map(const char *path, FileMap *out);
void file_unmap(FileMap *map);
/* Tells the system that whole pages of a mapped file are not needed for now; they are read again when they are. Never
 * for memory of the heap, which would lose its contents. */
void file_release(const void *data, size_t size);

/* Writes path.tmp-PID-N, syncs, renames over `path`, syncs the folder: readers see the old or the new file, never half.
 */
Status file_write_atomic(const char *path, const void *data, size_t size);
Status file_append_line(const char *path, const char *line); /* one write(2) with O_APPEND */

bool file_exists(const char *path);
Status file_check_readable(const char *path); /* by permissions: nothing is opened */
bool file_is_dir(const char *path);
Status file_size(const char *path, int64_t *out);
Status file_make_dirs(const char *path); /* mkdir -p */
/* A new folder beside `path`, path.tmp-PID-N, and its parents; nobody's folder is used or emptied for it. */
Status file_make_temporary_dir(const char *path, char *out, size_t capacity);
Status file_remove_tree(const char *path);            /* rm -r; does not follow links; absent is fine */
Status file_rename(const char *from, const char *to); /* and syncs the parent of `to` */
Status file_sync(const char *path);                   /* a file or a folder */
Status file_free_space(const char *path, int64_t *bytes);
/* Sorted names in a folder without . and ..; free with file_free_list. */
Status file_list(const char *dir, char ***names, size_t *count);
void file_free_list(char **names, size_t count);
/* dir/name into out; ERR_LIMIT when too long. */
Status path_join(char *out, size_t capacity, const char *dir, const char *name);

double clock_seconds(void); /* monotonic */

#endif
