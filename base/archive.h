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

/* Bytes that lie wherever the caller has them. */
typedef struct ArchiveSource {
    /* Exactly `size` bytes from `offset`, all of which lie within `bytes`. What it fails with, reading the archive
     * fails with. */
    Status (*read)(void *context, void *out, int64_t size, int64_t offset);
    void *context;    /* must outlive the archive */
    const char *name; /* in messages; copied */
    int64_t bytes;    /* of the whole file */
} ArchiveSource;
/* As archive_open. What nobody asks for is passed over by reading further on, not read. */
Status archive_open_reader(const ArchiveSource *source, int64_t offset, Archive **out);
/* The first bytes of a file are those of gzip or zstd. */
bool archive_is_compressed_magic(const uint8_t *bytes, size_t size);

/* A gzip or zstd stream, whatever it holds: only archive_next_block may be called of it. */
Status archive_open_stream(const ArchiveSource *source, Archive **out);
/* The next plain bytes of it, valid until the next call; STATUS_END at the end, ERR_FORMAT where it is damaged. */
Status archive_next_block(Archive *archive, const void **data, size_t *size);

void archive_close(Archive *archive);               /* NULL is fine */
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
