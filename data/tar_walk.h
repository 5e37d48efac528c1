/* Goes over the headers of a plain tar: ustar, old v7, GNU and pax, as tar, Python's tarfile and libarchive write them.
 *
 * Why not libarchive, as in base/archive.h: it does not tell where a member's bytes begin, and it keeps the whole map
 * of a sparse file, 900 MB for a hostile archive of 80 MB. Here nothing but one name is kept, whatever the archive
 * holds, and the work is bounded by its size: every header moves on. */
#ifndef DATA_TAR_WALK_H
#define DATA_TAR_WALK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

#define TAR_BLOCK 512
#define TAR_MAX_NAME 4096

typedef struct TarWalkSource {
    /* Exactly `size` bytes from `offset`, all of which lie within `bytes`. */
    Status (*read)(void *context, void *out, int64_t size, int64_t offset);
    void *context;
    const char *name; /* in messages */
    int64_t bytes;    /* of the archive */
    int64_t window;   /* bytes that are read at once where a header is looked for; 512 to 65536 */
} TarWalkSource;

typedef struct TarWalk TarWalk;

/* What `source` points to must outlive it; the struct itself is copied. */
Status tar_walk_create(const TarWalkSource *source, TarWalk **out);
void tar_walk_free(TarWalk *walk); /* NULL is fine */

/* The next regular file: its name, byte for byte as it was written and valid until the next call, and where its bytes
 * lie, all within the archive. Folders, links, devices and sparse files are passed over.
 * STATUS_END at the end: a block of zeros, as all readers take it, or where the bytes end between two members.
 * ERR_FORMAT where the archive is cut off or damaged, ERR_LIMIT for a name over 4096 bytes; what `read` fails with. */
Status tar_walk_next(TarWalk *walk, const char **name, int64_t *offset, int64_t *size);
/* Of the header to come, or that was no good. */
int64_t tar_walk_position(const TarWalk *walk);

#endif
