/* A compressed shard, unpacked into a file without a name. */
#ifndef DATA_SHARD_UNPACK_H
#define DATA_SHARD_UNPACK_H

#include "base/archive.h"
#include "data/patience.h"

/* The plain tar of a gzip or zstd file: an open file (the caller closes it) and its size. Bytes before a break in a
 * damaged file are kept, and `broken` tells of it; ERR_LIMIT above SPOOL_MAX_BYTES; ERR_SPACE; else fails as
 * source->read does. */
Status shard_unpack(Patience *patience, const ArchiveSource *source, int *fd, int64_t *bytes, bool *broken);

#endif
