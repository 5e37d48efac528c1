/* Where the samples of a tar shard lie, so that any of them can be read without the others.
 *
 * The index is made by a scan over the headers, or read from NAME.tar.idx or NAME.idx beside the shard when that file
 * is newer than it; or from data.read.index_folder, which is trusted. The file is DALI's format: "v1.2 <samples>", then
 * one line a sample, for each of its members "<suffix> <offset of the bytes> <size> <member's name>".
 * Of a compressed shard (gzip, zstd) offsets are positions in the plain tar, as data/shard_file.h reads it.
 *
 * A run looks at blocks of some hundred samples: tar_index_window reads the lines of these only. */
#ifndef DATA_TAR_INDEX_H
#define DATA_TAR_INDEX_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/sample.h"
#include "data/shard_file.h"

typedef struct TarIndex {
    SampleTable table;
    bool broken; /* the scan met a truncated or damaged archive; the sample at the break was left out */
    char trouble[512];
} TarIndex;

/* The usable index file of a shard: the number of samples on its first line, and its path. STATUS_END when there is
 * none. `folder`: data.read.index_folder. Nothing else of it is read or checked. */
Status tar_index_find(const char *shard, const char *folder, int64_t *samples, char path[PATH_MAX]);
/* Where tar_index_write puts the index of a shard. ERR_CONFIG for one that is not a file here when `folder` is empty.
 */
Status tar_index_path(const char *shard, const char *folder, char path[PATH_MAX]);
/* Samples [first, first + count) of an index file; they are samples 0.. of *out. ERR_FORMAT when it has not as many.
 * shard_bytes: members that end behind it are ERR_FORMAT; negative: not checked. */
Status tar_index_window(const char *index_path, int64_t first, int64_t count, int64_t shard_bytes, TarIndex *out);
/* Reads the shard's headers. ERR_IO when it cannot be read; a damaged one is not an error here. */
Status tar_index_scan(ShardFile *file, TarIndex *out);
/* ERR_UNSUPPORTED for names that the format cannot hold, ERR_IO. */
Status tar_index_write(const TarIndex *index, const char *path);
/* Finds, else scans (and with `write` leaves an index file: failing that is no error). */
Status tar_index_open(ShardFile *file, const char *folder, bool write, TarIndex *out);
void tar_index_free(TarIndex *index);

/* The text form. Names with blanks cannot be written: ERR_UNSUPPORTED. */
Status tar_index_format(const TarIndex *index, StrBuf *out);
/* shard_size: members that end behind it are ERR_FORMAT; negative: not checked. */
Status tar_index_parse(const char *text, size_t size, int64_t shard_size, TarIndex *out);
/* The number of samples that an index tells on its first line; false when it is no such line. */
bool tar_index_first_line(const char *text, size_t size, int64_t *samples);

#endif
