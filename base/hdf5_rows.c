/* Datasets in pieces: written by rows, and located in the file for readers that do without the library. */
#include <string.h>

#include "base/hdf5_inside.h"

Status h5_declare(H5File *file, const char *name, H5Type type, int ndim, const int64_t *dims)
{
    Status status = STATUS_OK;
    hid_t dataset = -1;
    int64_t count;
    h5_enter();
    if (ndim < 1) FAIL(ERR_INTERNAL, "%s: %s has no rows", file->path, name);
    TRY(h5_make_dataset(file, name, type, ndim, dims, &count, &dataset));
    if (H5Dclose(dataset) < 0) FAIL_WITH(h5_library_error(file->path, ERR_IO, "write", name));
fail:
    h5_note_failure(file, status);
    h5_leave();
    return status;
}

Status h5_write_rows(H5File *file, const char *name, int64_t first, int64_t rows, const void *data)
{
    Status status = STATUS_OK;
    hid_t dataset = -1, space = -1, piece = -1;
    H5Type type;
    int ndim;
    int64_t dims[H5_MAX_DIMS], count;
    hsize_t start[H5_MAX_DIMS] = {0}, size[H5_MAX_DIMS];
    h5_enter();
    TRY(h5_open_dataset(file, name, &dataset, &type, &ndim, dims, &count));
    if (ndim < 1 || first < 0 || rows < 0 || rows > dims[0] - first)
        FAIL(ERR_INTERNAL, "%s: rows %jd to %jd of %s, which has %jd", file->path, (intmax_t)first,
             (intmax_t)(first + rows), name, (intmax_t)(ndim < 1 ? 0 : dims[0]));
    for (int d = 0; d < ndim; d++) size[d] = (hsize_t)dims[d];
    start[0] = (hsize_t)first;
    size[0] = (hsize_t)rows;
    if (rows > 0 && count > 0) {
        space = H5Dget_space(dataset);
        piece = H5Screate_simple(ndim, size, NULL);
        if (space < 0 || piece < 0 || H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, size, NULL) < 0)
            FAIL_WITH(h5_library_error(file->path, ERR_INTERNAL, "select rows of", name));
        if (H5Dwrite(dataset, h5_memory_type(type), piece, space, H5P_DEFAULT, data) < 0)
            FAIL_WITH(h5_library_error(file->path, ERR_IO, "write", name));
    }
    herr_t closed = H5Dclose(dataset);
    dataset = -1;
    if (closed < 0) FAIL_WITH(h5_library_error(file->path, ERR_IO, "write", name));
fail:
    h5_note_failure(file, status);
    if (piece >= 0) H5Sclose(piece);
    if (space >= 0) H5Sclose(space);
    if (dataset >= 0) H5Dclose(dataset);
    h5_leave();
    return status;
}

static Status check_shape(const H5File *file, const char *name, int ndim, const int64_t *found, int64_t *dims)
{
    Status status = STATUS_OK;
    for (int d = 0; d < ndim; d++) {
        if (dims[d] >= 0 && dims[d] != found[d])
            FAIL(ERR_FORMAT, "%s: dimension %d of %s is %jd, wanted %jd", file->path, d, name, (intmax_t)found[d],
                 (intmax_t)dims[d]);
        dims[d] = found[d];
    }
fail:
    return status;
}

/* Where the `count` elements of an open dataset lie; *obstacle says why they cannot be read without the library, NULL
 * when they can. */
static Status find_place(H5File *file, const char *name, hid_t dataset, H5Type type, int64_t count, int64_t *offset,
                         const char **obstacle)
{
    Status status = STATUS_OK;
    hsize_t file_size;
    hid_t layout = H5Dget_create_plist(dataset), stored = H5Dget_type(dataset);
    *offset = 0;
    *obstacle = NULL;
    if (layout < 0 || stored < 0) FAIL_WITH(h5_library_error(file->path, ERR_FORMAT, "read the layout of", name));
    if (H5Pget_layout(layout) != H5D_CONTIGUOUS) {
        *obstacle = "is not contiguous; was the file packed anew by another program?";
    } else if (h5_type_size(type) > 1 && H5Tget_order(stored) != H5T_ORDER_LE) {
        *obstacle = "is not little-endian";
    } else if (count > 0) {
        int64_t bytes = count * (int64_t)h5_type_size(type); /* was checked not to overflow */
        haddr_t where = H5Dget_offset(dataset);
        if (H5Fget_filesize(file->id, &file_size) < 0)
            FAIL_WITH(h5_library_error(file->path, ERR_FORMAT, "read the size of", NULL));
        if (where == HADDR_UNDEF || where > file_size || (hsize_t)bytes > file_size - where)
            *obstacle = "was not written, or the file is cut";
        else
            *offset = (int64_t)where;
    }
fail:
    if (stored >= 0) H5Tclose(stored);
    if (layout >= 0) H5Pclose(layout);
    return status;
}

Status h5_locate(H5File *file, const char *name, H5Type type, int ndim, int64_t *dims, int64_t *offset)
{
    Status status = STATUS_OK;
    hid_t dataset = -1;
    H5Type found;
    int found_ndim;
    int64_t found_dims[H5_MAX_DIMS], count;
    const char *obstacle;
    *offset = 0;
    h5_enter();
    TRY(h5_open_dataset(file, name, &dataset, &found, &found_ndim, found_dims, &count));
    if (found != type || found_ndim != ndim)
        FAIL(ERR_FORMAT, "%s: %s has another type or number of dimensions than it should", file->path, name);
    TRY(check_shape(file, name, ndim, found_dims, dims));
    TRY(find_place(file, name, dataset, type, count, offset, &obstacle));
    if (obstacle != NULL) FAIL(ERR_FORMAT, "%s: %s %s", file->path, name, obstacle);
fail:
    if (dataset >= 0) H5Dclose(dataset);
    h5_leave();
    return status;
}

Status h5_place(H5File *file, const char *name, int64_t *offset)
{
    Status status = STATUS_OK;
    hid_t dataset = -1;
    H5Type type;
    int ndim;
    int64_t dims[H5_MAX_DIMS], count;
    const char *obstacle;
    *offset = -1;
    h5_enter();
    TRY(h5_open_dataset(file, name, &dataset, &type, &ndim, dims, &count));
    TRY(find_place(file, name, dataset, type, count, offset, &obstacle));
    if (obstacle != NULL) *offset = -1;
fail:
    if (dataset >= 0) H5Dclose(dataset);
    h5_leave();
    return status;
}
