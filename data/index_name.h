/* Where what is known of a shard is kept: its index (".idx"), its checksums (".sums"). */
#ifndef DATA_INDEX_NAME_H
#define DATA_INDEX_NAME_H

#include <limits.h>
#include <stddef.h>

#include "base/status.h"

/* With a folder: FOLDER/BASE.HASH<suffix>. BASE is the shard's base name, with strange characters as '_' and cut at 100
 * bytes; HASH, 16 hex digits, is the XXH3-64 of the whole URL or command, of a file here its absolute path, so that
 * equal base names in several places do not meet. Of a URL user, password, query and fragment are no part of the name:
 * a token may be renewed. Without one (NULL or empty): beside the shard, PATH<suffix>; ERR_CONFIG for a shard that is
 * not a file here. ERR_LIMIT when it becomes too long.
 */
Status index_name(const char *shard, const char *folder, const char *suffix, char path[PATH_MAX]);
/* ERR_CONFIG when two different URLs have the same name by that. */
Status index_names_differ(char *const *shards, size_t count);
/* The same file's path from the root on, without // and /./; links are not followed. ERR_IO, ERR_LIMIT. */
Status index_absolute(const char *path, char out[PATH_MAX]);

#endif
