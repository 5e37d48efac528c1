/* Texts of an HDF5 file: attributes of its root, of fixed length, so that any byte may be inside. */
#include <stdbool.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/hdf5_inside.h"

#define MAX_TEXT ((size_t)64 << 20)

Status h5_write_text(H5File *file, const char *attribute, const char *text, size_t size)
{
    Status status = STATUS_OK;
    hid_t type = -1, space = -1, id = -1;
    h5_enter();
    if (size > MAX_TEXT)
        FAIL(ERR_LIMIT, "%s: the text %s has %zu bytes, at most %zu", file->path, attribute, size, MAX_TEXT);
    if (H5Aexists(file->id, attribute) > 0)
        FAIL(ERR_INTERNAL, "%s: the text %s is written twice", file->path, attribute);
    type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, size ? size : 1); /* there is no string type of 0 bytes: an empty text is an empty dataspace */
    H5Tset_strpad(type, H5T_STR_NULLPAD);
    H5Tset_cset(type, H5T_CSET_UTF8);
    space = H5Screate(size ? H5S_SCALAR : H5S_NULL);
    id = H5Acreate2(file->id, attribute, type, space, H5P_DEFAULT, H5P_DEFAULT);
    if (id < 0 || (size && H5Awrite(id, type, text) < 0))
        FAIL_WITH(h5_library_error(file->path, ERR_IO, "write the text", attribute));
    herr_t closed = H5Aclose(id);
    id = -1;
    if (closed < 0) FAIL_WITH(h5_library_error(file->path, ERR_IO, "write the text", attribute));
fail:
    h5_note_failure(file, status);
    if (id >= 0) H5Aclose(id);
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    h5_leave();
    return status;
}

Status h5_read_text(H5File *file, const char *attribute, char **text, size_t *size)
{
    Status status = STATUS_OK;
    hid_t type = -1, space = -1, id = -1;
    char *data = NULL;
    *text = NULL;
    *size = 0;
    h5_enter();
    if (H5Aexists(file->id, attribute) <= 0) FAIL(ERR_FORMAT, "%s: has no text %s", file->path, attribute);
    id = H5Aopen(file->id, attribute, H5P_DEFAULT);
    if (id < 0) FAIL_WITH(h5_library_error(file->path, ERR_FORMAT, "open the text", attribute));
    type = H5Aget_type(id);
    space = H5Aget_space(id);
    if (type < 0 || space < 0) FAIL_WITH(h5_library_error(file->path, ERR_FORMAT, "read the text", attribute));
    bool empty = H5Sget_simple_extent_type(space) == H5S_NULL;
    size_t bytes = empty ? 0 : H5Tget_size(type);
    if (H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) != 0 ||
        (!empty && H5Sget_simple_extent_npoints(space) != 1))
        FAIL(ERR_FORMAT, "%s: the attribute %s is not a text of fixed length", file->path, attribute);
    if (bytes > MAX_TEXT)
        FAIL(ERR_LIMIT, "%s: the text %s has %zu bytes, at most %zu", file->path, attribute, bytes, MAX_TEXT);
    data = mem_alloc_array(bytes + 1, 1);
    if (!data) FAIL_WITH(ERR_MEMORY);
    if (!empty && H5Aread(id, type, data) < 0)
        FAIL_WITH(h5_library_error(file->path, ERR_FORMAT, "read the text", attribute));
    *text = data;
    *size = bytes;
    data = NULL;
fail:
    free(data);
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    if (id >= 0) H5Aclose(id);
    h5_leave();
    return status;
}
