/* Inside the HDF5 files only. */
#ifndef BASE_HDF5_INSIDE_H
#define BASE_HDF5_INSIDE_H

#include <hdf5.h>
#include <stdbool.h>

#include "base/hdf5_file.h"

struct H5File {
    hid_t id;
    char *path;
    bool writing;
    StatusRecord first_failure; /* of a write; closing repeats it */
};

/* Around every use of the library. */
void h5_enter(void);
void h5_leave(void);

/* Records what the library said about "cannot ACTION WHAT"; directly after the call that failed, for the next one that
 * succeeds clears its record. `code` stands where the operating system was not the cause. */
Status h5_library_error(const char *path, Status code, const char *action, const char *what);

hid_t h5_memory_type(H5Type type);
size_t h5_type_size(H5Type type);
/* A new contiguous dataset, not yet written; *count: its elements. *dataset is open on success only. */
Status h5_make_dataset(H5File *file, const char *name, H5Type type, int ndim, const int64_t *dims, int64_t *count,
                       hid_t *dataset);
/* Opens a dataset and tells its type and shape; *dataset is open on success only. */
Status h5_open_dataset(const H5File *file, const char *name, hid_t *dataset, H5Type *type, int *ndim,
                       int64_t dims[H5_MAX_DIMS], int64_t *count);

/* Keeps the first failure of a file that is written. */
void h5_note_failure(H5File *file, Status status);

#endif
