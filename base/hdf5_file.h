/* HDF5 files of named numeric arrays: contiguous datasets, the latest file format (whose metadata has checksums),
 * scalars as attributes of the root. Groups in a dataset's name ("a/b") are made as needed. */
#ifndef BASE_HDF5_FILE_H
#define BASE_HDF5_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef enum H5Type { H5_F32, H5_F64, H5_I32, H5_I64, H5_U8, H5_BF16_BITS, H5_F16_BITS } H5Type;
#define H5_MAX_DIMS 8

typedef struct H5File H5File;

void h5_library_version(unsigned version[3]); /* as loaded */

Status h5_create(const char *path, H5File **out); /* ERR_IO if it exists */
Status h5_open(const char *path, H5File **out);   /* read-only */
Status h5_close(H5File *file);                    /* a failed write, or what flushing finds (full disk); NULL is fine */

Status h5_write(H5File *file, const char *name, H5Type type, int ndim, const int64_t *dims, const void *data);
/* Shape and type of a dataset; ERR_FORMAT when absent. */
Status h5_shape(H5File *file, const char *name, H5Type *type, int *ndim, int64_t dims[H5_MAX_DIMS]);
/* Reads a dataset whose element count and type must be as given. */
Status h5_read(H5File *file, const char *name, H5Type type, int64_t count, void *out);

/* A dataset in pieces: declared with its whole shape, then written by rows of its first dimension; all of them must be.
 */
Status h5_declare(H5File *file, const char *name, H5Type type, int ndim, const int64_t *dims);
Status h5_write_rows(H5File *file, const char *name, int64_t first, int64_t rows, const void *data);
/* Where the elements of a contiguous dataset lie in the file, little-endian, one after another, for reading without the
 * library. Type and shape must be as given: ERR_FORMAT names the difference. A dimension of -1 may have any size, which
 * is put there. */
Status h5_locate(H5File *file, const char *name, H5Type type, int ndim, int64_t *dims, int64_t *offset);

/* Where a dataset's bytes lie in the file, for mapping: contiguous, little-endian, in C order; -1 where they are not.
 */
Status h5_place(H5File *file, const char *name, int64_t *offset);
/* Names of all datasets, sorted; free with file_free_list. */
Status h5_list(H5File *file, char ***names, size_t *count);

Status h5_write_text(H5File *file, const char *attribute, const char *text, size_t size);
Status h5_read_text(H5File *file, const char *attribute, char **text, size_t *size); /* caller frees */

#endif
