/* Shard patterns to paths, bounded:
 *
 *     path, {000..123} (zero-padded as written), {a,b}, nested, then globs
 *     http://... https://...   braces are expanded, globs are not
 *     pipe:COMMAND             braces are expanded; see data.read.allow_pipe
 *     list:FILE                a file of these
 *
 * Each line of a list is one of the above (not list: again), optionally followed by a tab and the number of its
 * samples, and by another tab and the bytes of the file: then nothing need be looked up when a run starts. Blank lines
 * and lines that begin with # are passed over. FILE may also be webdataset's JSON (wids: "shardlist" of "url",
 * "nsamples", "filesize"), in whose urls braces and wildcards stand for themselves. Relative paths start from the
 * folder of FILE. */
#ifndef DATA_SHARD_LIST_H
#define DATA_SHARD_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"

#define SHARD_LIST_MAX_PATHS 1000000
#define SHARD_LIST_MAX_BYTES ((size_t)256 << 20) /* of all paths together */
#define SHARD_LIST_MAX_LENGTH 4000

/* What a list tells about a shard. */
typedef struct ShardNote {
    int64_t samples, bytes; /* -1: not told */
} ShardNote;

typedef struct ShardList {
    char **paths;
    ShardNote *notes; /* (count), or NULL when nothing was told about any */
    size_t count, capacity, bytes, note_capacity;
} ShardList;

#define SHARD_LIST_MAX_GROUPS 64 /* braces in one pattern, nested ones included */

/* ERR_CONFIG for what is surely a mistake: a { that is not closed, {000..12x}, a scheme that is not known, a wildcard
 * over http. A file that has this name after all, at `file`, is fine; nothing else is looked up, no list is read. */
Status shard_list_check(const char *pattern, const char *file);
/* "012..345" between `text` and `end`. */
bool shard_list_is_range(const char *text, const char *end);

/* Braces only, nothing looked up: appends every path that `pattern` stands for, in the order written. */
Status shard_list_expand(const char *pattern, ShardList *list);
/* All of the above. Globs are sorted by bytes; what lies beside shards is left out: *.idx, *.sums, *.h5, *.json and
 * *.parquet. A file of exactly that name is taken as it is. A glob without a match is ERR_IO; a path without wildcards
 * is not looked up here. ERR_FORMAT names a list's line. */
Status shard_list_add(const char *pattern, ShardList *list);
/* One glob without braces; none may match. What lies beside shards is left out, unless it ends in .h5. */
Status shard_list_glob(const char *pattern, ShardList *list);
/* One path as it is. */
Status shard_list_append(const char *path, ShardList *list);
Status shard_list_append_noted(const char *path, ShardNote note, ShardList *list);
Status shard_list_set_note(ShardList *list, size_t i, ShardNote note); /* i below count */
ShardNote shard_list_note(const ShardList *list, size_t i);
void shard_list_free(ShardList *list); /* leaves an empty list */

/* One warning when some of the paths occur more than once. Sorts `paths`. */
void shard_paths_warn(const char **paths, size_t count);

/* list:FILE. */
Status shard_list_add_file(const char *path, ShardList *list);
/* The text of a list file: JSON when it begins with '{'. `folder`: where relative paths start; "" is here. Messages
 * name the line, not the file. */
Status shard_list_parse(const char *text, size_t size, const char *folder, ShardList *list);
/* A line of a list file, which reads back as `path` alone; ERR_UNSUPPORTED for a path of which that cannot be. */
Status shard_list_format(const char *path, ShardNote note, StrBuf *out);

#endif
