/* The zip files that torch.save writes, for mapping: every entry stored as it is, so that a tensor's bytes can be used
 * where they lie. Strict, by the central directory alone (zip64 too): compressed or encrypted entries, entries that
 * overlap or occur twice, and local headers that say something else are refused.
 *
 * libarchive, which reads our tars, hands out copies of what it streams past and does not tell where in the file an
 * entry's bytes lie; a 5 GB file would need 5 GB of heap. */
#ifndef MODEL_PYTORCH_ZIP_H
#define MODEL_PYTORCH_ZIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct ZipEntry {
    const char *name; /* name_size bytes in the file, no NUL behind */
    size_t name_size;
    const uint8_t *data;
    size_t size;
    uint32_t crc;
    size_t begin, end; /* in the file: local header and data */
} ZipEntry;

typedef struct PytorchZip PytorchZip;

bool pytorch_zip_is(const uint8_t *data, size_t size); /* begins like a zip file */
/* Reads the directory of the bytes, which must stay; `path` is for messages. */
Status pytorch_zip_open(const char *path, const uint8_t *data, size_t size, PytorchZip **out);
void pytorch_zip_close(PytorchZip *zip); /* NULL is fine */
/* Of a mapped file: reads every entry and compares its CRC-32; a CRC of 0 was not computed by who wrote the file (torch
 * can be told so).
 */
Status pytorch_zip_verify(const char *path, const PytorchZip *zip);
size_t pytorch_zip_count(const PytorchZip *zip);
const ZipEntry *pytorch_zip_get(const PytorchZip *zip, size_t index); /* by name */
/* The entry PREFIX/NAME; NULL when absent. */
const ZipEntry *pytorch_zip_find(const PytorchZip *zip, const char *prefix, size_t prefix_size, const char *name,
                                 size_t name_size);

#endif
