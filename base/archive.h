/* Reading tar files, plain or gzip/zstd-compressed, through libarchive. Only regular files are handed out; links,
 * devices, sparse files and folders are passed over. Names are never used as paths. */
#ifndef BASE_ARCHIVE_H
#define BASE_ARCHIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct Archive Archive;

/* Opens `path`. `offset`: for an uncompressed tar, where to start reading: the position of a member's header (or of
 * the pax headers that precede it), as archive_position told; 0 for the beginning. */
Status archive_open(const char *path, int64_t offset, Archive **out);
void archive_close(Archive *archive);
bool archive_is_compressed(const Archive *archive); /* then archive_position is of the decompressed stream */

/* The next regular member: its name (valid until the next call; one from pax headers is in composed form, NFC) and
 * size. STATUS_END at the end of the archive; ERR_FORMAT when it is truncated or broken, ERR_LIMIT when a name is
 * longer than 4096 bytes. */
Status archive_next(Archive *archive, const char **name, int64_t *size);
/* The bytes of the current member into `out`, which has room for the size that archive_next told. */
Status archive_read(Archive *archive, void *out);
/* Where the current member's headers begin, for a later archive_open. */
int64_t archive_position(const Archive *archive);

#endif
