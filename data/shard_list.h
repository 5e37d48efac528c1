/* Shard patterns to paths: {000..123} (zero-padded as written), {a,b}, nested, then globs. Bounded. */
#ifndef DATA_SHARD_LIST_H
#define DATA_SHARD_LIST_H

#include <stddef.h>

#include "base/status.h"

#define SHARD_LIST_MAX_PATHS 1000000
#define SHARD_LIST_MAX_BYTES ((size_t)256 << 20) /* of all paths together */
#define SHARD_LIST_MAX_LENGTH 4000

typedef struct ShardList {
    char **paths;
    size_t count, capacity, bytes;
} ShardList;

/* Braces only, nothing looked up: appends every path that `pattern` stands for, in the order written. */
Status shard_list_expand(const char *pattern, ShardList *list);
/* Braces, then globs (sorted by bytes; *.idx and *.h5 left out). A file of exactly that name is taken as it is. A glob
 * without a match is ERR_IO; a path without wildcards is not looked up here. */
Status shard_list_add(const char *pattern, ShardList *list);
/* One glob without braces; none may match. Indexes and precomputed files are left out, unless it ends in .h5. */
Status shard_list_glob(const char *pattern, ShardList *list);
/* One path as it is. */
Status shard_list_append(const char *path, ShardList *list);
void shard_list_free(ShardList *list); /* leaves an empty list */

#endif
