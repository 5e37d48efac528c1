/* What is known of a shard's bytes: XXH3-128 of every piece of equal size (the last may be shorter), in a text file
 * that `vasily data index` leaves in data.read.index_folder (data/index_name.h, ".sums"):
 *
 *     vasily-sums 1 <bytes of a piece> <bytes of the shard>
 *     <32 hex digits>
 *     ...
 *
 * Of a compressed shard they are of the file as it is. */
#ifndef DATA_CHECKSUMS_H
#define DATA_CHECKSUMS_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/status.h"

#define CHECKSUMS_MIN_PIECE 4096
#define CHECKSUMS_MAX_PIECE ((int64_t)256 << 20)
#define CHECKSUMS_MAX_BYTES ((int64_t)1 << 40) /* of a shard: more is a mistake, or a lie */

typedef struct Checksums {
    int64_t piece, bytes, count; /* count = ceil(bytes / piece) */
    Hash128 *sums;               /* (count) */
} Checksums;

Status checksums_path(const char *shard, const char *folder, char path[PATH_MAX]);
/* STATUS_END when there is no such file. ERR_FORMAT names the file and what is wrong with it. No more is read than a
 * shard of the size on its first line has sums. */
Status checksums_read(const char *path, Checksums *out);
Status checksums_write(const Checksums *sums, const char *path);
Status checksums_parse(const char *text, size_t size, Checksums *out); /* messages do not name the file */
void checksums_free(Checksums *sums);
/* Bytes [piece x i, ...) are those that were noted; `size` must be the piece's whole size. */
bool checksums_match(const Checksums *sums, int64_t i, const void *data, int64_t size);

#endif
