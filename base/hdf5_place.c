/* Where a dataset lies in its file. */
#include "base/hdf5_inside.h"

Status h5_place(H5File *file, const char *name, int64_t *offset)
{
    Status status = STATUS_OK;
    hid_t dataset = -1, layout = -1, type = -1;
    H5Type stored;
    int ndim;
    int64_t dims[H5_MAX_DIMS], count;
    *offset = -1;
    h5_enter();
    TRY(h5_open_dataset(file, name, &dataset, &stored, &ndim, dims, &count));
    layout = H5Dget_create_plist(dataset);
    type = H5Dget_type(dataset);
    if (layout < 0 || type < 0) FAIL_WITH(h5_library_error(file->path, ERR_FORMAT, "find the data of", name));
    if (H5Pget_layout(layout) == H5D_CONTIGUOUS && H5Tget_order(type) != H5T_ORDER_BE) {
        haddr_t place = H5Dget_offset(dataset);
        if (place != HADDR_UNDEF && place <= INT64_MAX) *offset = (int64_t)place;
    }
fail:
    if (type >= 0) H5Tclose(type);
    if (layout >= 0) H5Pclose(layout);
    if (dataset >= 0) H5Dclose(dataset);
    h5_leave();
    return status;
}
