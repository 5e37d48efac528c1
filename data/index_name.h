/* Where what is known of a shard is kept: its index (".idx"), its checksums (".sums"). */
#ifndef DATA_INDEX_NAME_H
#define DATA_INDEX_NAME_H

#include <limits.h>

#include "base/status.h"

/* With a folder: FOLDER/BASE.HASH<suffix>. BASE is the shard's base name (of a URL without its query), with strange
 * characters as '_' and cut at 100 bytes; HASH, 16 hex digits, is the XXH3-64 of the whole path as the config has it,
 * so that equal base names in several places do not meet. Without one (NULL or empty): beside the shard, PATH<suffix>;
 * ERR_CONFIG for a shard that is not a file here. ERR_LIMIT when it becomes too long. */
Status index_name(const char *shard, const char *folder, const char *suffix, char path[PATH_MAX]);

#endif
