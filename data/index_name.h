/* Where what is known of a shard is kept: its index (".idx"), its checksums (".sums"). */
#ifndef DATA_INDEX_NAME_H
#define DATA_INDEX_NAME_H

#include <limits.h>

#include "base/status.h"

/* What tells shards apart, and stays when passwords and tokens are renewed: of a URL neither user nor password, nor the
 * query where the path names a tar file. Cut at PATH_MAX. */
void index_identity(const char *shard, char out[PATH_MAX]);

/* With a folder: FOLDER/BASE.HASH<suffix>. BASE is the shard's base name (of a URL without its query), with strange
 * characters as '_' and cut at 100 bytes; HASH, 16 hex digits, is the XXH3-64 of the whole URL or command, of a
 * file here its absolute path, so that equal base names in several places do not meet. Without one (NULL or empty):
 * beside the shard, PATH<suffix>; ERR_CONFIG for a shard that is not a file here. ERR_LIMIT when it becomes too long.
 */
Status index_name(const char *shard, const char *folder, const char *suffix, char path[PATH_MAX]);
/* The same file's path from the root on, without // and /./; links are not followed. ERR_IO, ERR_LIMIT. */
Status index_absolute(const char *path, char out[PATH_MAX]);

#endif
