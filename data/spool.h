/* A file without a name in the cache folder: nothing is left behind, whatever happens. */
#ifndef DATA_SPOOL_H
#define DATA_SPOOL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/status.h"
#include "data/read_config.h"

#define SPOOL_MAX_BYTES ((int64_t)64 << 30) /* of one shard: for those who write */

/* An open file of no bytes. ERR_SPACE (for good) and ERR_IO name the folder. */
Status spool_create(const ReadConfig *config, int *fd);
/* All of it. ERR_SPACE when the disk is full, which no other shard would mend, else ERR_IO; both name the folder. */
Status spool_write(const ReadConfig *config, int fd, const void *data, int64_t size, int64_t offset);
/* All of it; ERR_FORMAT when the file ends before. Messages name `name`. */
Status spool_read(int fd, const char *name, void *out, int64_t size, int64_t offset);
/* XXH3-128 of bytes of it; false when they cannot be read. */
bool spool_hash(int fd, int64_t size, int64_t offset, Hash128 *out);

#endif
