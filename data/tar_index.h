/* Where the samples of a tar shard lie, so that any of them can be read without the others.
 *
 * The index is made by a scan over the headers, or read from NAME.tar.idx or NAME.idx beside the shard when that file
 * is newer than it. The file is DALI's format: "v1.2 <samples>", then one line a sample, for each of its members
 * "<suffix> <offset of the bytes> <size> <member's name>".
 * Of a compressed shard (gzip, zstd) the offset is a position in the decompressed tar, 512 past the start of the
 * member's first header; data/shard_store.h unpacks such a shard before reading from it. */
#ifndef DATA_TAR_INDEX_H
#define DATA_TAR_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/sample.h"

typedef struct TarIndex {
    SampleTable table;
    bool compressed;
    bool broken; /* the scan met a truncated or damaged archive; the sample at the break was left out */
    char trouble[512];
} TarIndex;

/* Reads an index file that is there, else scans (and with `write` leaves an index file: failing that is no error).
 * ERR_IO when the shard cannot be opened or read; a damaged one is not an error here. */
Status tar_index_open(const char *path, bool write, TarIndex *out);
Status tar_index_scan(const char *path, TarIndex *out);
void tar_index_free(TarIndex *index);

/* The text form. Names with blanks cannot be written: ERR_UNSUPPORTED. */
Status tar_index_format(const TarIndex *index, StrBuf *out);
/* shard_size: members that end behind it are ERR_FORMAT; negative: not checked. */
Status tar_index_parse(const char *text, size_t size, int64_t shard_size, TarIndex *out);

#endif
