/* HDF5 files through the serial library.
 *
 * The library is not safe for threads as distributions build it, so every call here holds one lock. Its own error
 * printing is off. It is told not to clean up at exit: a file whose close failed (full disk) stays open inside the
 * library, and the clean-up would try to flush it again and may abort. See also detach_from_disk. */
#include "base/hdf5_file.h"

#include <errno.h>
#include <hdf5.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/hdf5_inside.h"

#define MAX_GROUP_DEPTH 16
#define MAX_NAME 1024
#define MAX_OBJECTS 1000000
#define DTYPE_ATTRIBUTE "dtype" /* what 16-bit patterns mean */

static pthread_mutex_t library_lock = PTHREAD_MUTEX_INITIALIZER;

void h5_enter(void)
{
    static bool prepared;
    pthread_mutex_lock(&library_lock);
    if (!prepared) {
        H5dont_atexit();
        H5open();
        H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
        prepared = true;
    }
    H5Eclear2(H5E_DEFAULT);
    errno = 0;
}

void h5_leave(void)
{
    pthread_mutex_unlock(&library_lock);
}

void h5_library_version(unsigned version[3])
{
    h5_enter();
    version[0] = version[1] = version[2] = 0;
    H5get_libversion(&version[0], &version[1], &version[2]);
    h5_leave();
}

/* --- errors --- */

typedef struct Reason {
    char words[256];
    int error; /* errno that a driver noted, or 0 */
} Reason;

/* Called outermost first; the innermost record is the cause. A driver's record has "errno = N". */
static herr_t note_reason(unsigned position, const H5E_error2_t *record, void *context)
{
    Reason *reason = context;
    if (!record->desc || !record->desc[0]) return 0;
    size_t length = strnlen(record->desc, sizeof reason->words - 1);
    memcpy(reason->words, record->desc, length);
    reason->words[length] = '\0';
    const char *number = strstr(record->desc, "errno = ");
    if (number) reason->error = (int)strtol(number + strlen("errno = "), NULL, 10);
    return 0;
}

Status h5_library_error(const char *path, Status code, const char *action, const char *what)
{
    Reason reason = {.words = "no reason given"};
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, note_reason, &reason);
    H5Eclear2(H5E_DEFAULT);
    char words[MAX_NAME + 64];
    snprintf(words, sizeof words, "%s%s%s", action, what ? " " : "", what ? what : "");
    if (reason.error) return file_system_error(reason.error, words, path);
    return status_fail(code, __FILE__, __LINE__, "%s: cannot %s: %s", path, words, reason.words);
}

void h5_note_failure(H5File *file, Status status)
{
    if (status != STATUS_OK && file->first_failure.status == STATUS_OK) status_save(status, &file->first_failure);
}

/* --- types --- */

static hid_t stored_type(H5Type type)
{
    switch (type) {
    case H5_F32:
        return H5T_IEEE_F32LE;
    case H5_F64:
        return H5T_IEEE_F64LE;
    case H5_I32:
        return H5T_STD_I32LE;
    case H5_I64:
        return H5T_STD_I64LE;
    case H5_U8:
        return H5T_STD_U8LE;
    case H5_BF16_BITS:
    case H5_F16_BITS:
        return H5T_STD_U16LE;
    }
    return -1;
}

hid_t h5_memory_type(H5Type type)
{
    switch (type) {
    case H5_F32:
        return H5T_NATIVE_FLOAT;
    case H5_F64:
        return H5T_NATIVE_DOUBLE;
    case H5_I32:
        return H5T_NATIVE_INT32;
    case H5_I64:
        return H5T_NATIVE_INT64;
    case H5_U8:
        return H5T_NATIVE_UINT8;
    case H5_BF16_BITS:
    case H5_F16_BITS:
        return H5T_NATIVE_UINT16;
    }
    return -1;
}

static const char *type_name(H5Type type)
{
    static const char *const NAMES[] = {"float32", "float64", "int32", "int64", "uint8", "bfloat16", "float16"};
    return (size_t)type < sizeof NAMES / sizeof NAMES[0] ? NAMES[type] : "unknown";
}

size_t h5_type_size(H5Type type)
{
    static const uint8_t SIZES[] = {4, 8, 4, 8, 1, 2, 2};
    return (size_t)type < sizeof SIZES ? SIZES[type] : 0;
}

/* Of a dataset; false for types that are none of ours. */
static bool type_of(hid_t dataset, H5Type *out)
{
    hid_t type = H5Dget_type(dataset);
    if (type < 0) return false;
    H5T_class_t kind = H5Tget_class(type);
    size_t size = H5Tget_size(type);
    bool sign = kind == H5T_INTEGER && H5Tget_sign(type) == H5T_SGN_2;
    bool known = true;
    if (kind == H5T_FLOAT && H5Tequal(type, H5T_IEEE_F32LE) > 0)
        *out = H5_F32;
    else if (kind == H5T_FLOAT && H5Tequal(type, H5T_IEEE_F64LE) > 0)
        *out = H5_F64;
    else if (kind == H5T_INTEGER && size == 4 && sign)
        *out = H5_I32;
    else if (kind == H5T_INTEGER && size == 8 && sign)
        *out = H5_I64;
    else if (kind == H5T_INTEGER && size == 1 && !sign)
        *out = H5_U8;
    else if (kind == H5T_INTEGER && size == 2 && !sign) {
        char name[16] = {0};
        hid_t attribute = H5Aexists(dataset, DTYPE_ATTRIBUTE) > 0 ? H5Aopen(dataset, DTYPE_ATTRIBUTE, H5P_DEFAULT) : -1;
        hid_t text = attribute >= 0 ? H5Aget_type(attribute) : -1;
        hid_t space = attribute >= 0 ? H5Aget_space(attribute) : -1;
        if (text >= 0 && H5Tget_class(text) == H5T_STRING && H5Tis_variable_str(text) == 0 &&
            H5Tget_size(text) < sizeof name && H5Sget_simple_extent_npoints(space) == 1)
            (void)H5Aread(attribute, text, name);
        if (space >= 0) H5Sclose(space);
        if (text >= 0) H5Tclose(text);
        if (attribute >= 0) H5Aclose(attribute);
        known = strcmp(name, "bfloat16") == 0 || strcmp(name, "float16") == 0;
        *out = strcmp(name, "float16") == 0 ? H5_F16_BITS : H5_BF16_BITS;
    } else
        known = false;
    H5Tclose(type);
    return known;
}

/* --- files --- */

/* File format 1.10: its metadata has checksums, and every library since 1.10.2 reads it. */
static hid_t access_list(void)
{
    hid_t list = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_libver_bounds(list, H5F_LIBVER_V110, H5F_LIBVER_V110);
    /* Locks fail on many network file systems, and nobody else writes our files. */
    H5Pset_file_locking(list, 0, 1);
    return list;
}

static Status open_file(const char *path, bool create, H5File **out)
{
    Status status = STATUS_OK;
    *out = NULL;
    h5_enter();
    H5File *file = mem_alloc_array(1, sizeof *file);
    if (!file) FAIL_WITH(ERR_MEMORY);
    file->id = -1;
    file->writing = create;
    file->path = strdup(path);
    if (!file->path) FAIL(ERR_MEMORY, "%s: out of memory", path);
    if (create && file_exists(path)) FAIL(ERR_IO, "%s: exists already; choose another name or remove it", path);
    if (!create) {
        FileMap map; /* missing, empty and unreadable files have clearer words than the library's */
        TRY(file_map(path, &map));
        bool magic = map.size >= 8 && memcmp(map.data, "\x89HDF\r\n\x1a\n", 8) == 0;
        size_t size = map.size;
        file_unmap(&map);
        if (!magic) FAIL(ERR_FORMAT, "%s: not an HDF5 file (%zu bytes); is it complete?", path, size);
    }
    hid_t access = access_list(), creation = H5Pcreate(H5P_FILE_CREATE);
    H5Pset_obj_track_times(creation, 0); /* the same arrays make the same file */
    if (create)
        file->id = H5Fcreate(path, H5F_ACC_EXCL, creation, access);
    else
        file->id = H5Fopen(path, H5F_ACC_RDONLY, access);
    /* At once: the next call that succeeds clears the library's record. */
    if (file->id < 0)
        status = h5_library_error(path, create ? ERR_IO : ERR_FORMAT, create ? "create" : "open", "as an HDF5 file");
    H5Pclose(creation);
    H5Pclose(access);
    if (status != STATUS_OK) TRY(status);
    h5_leave();
    *out = file;
    return STATUS_OK;
fail:
    if (file) free(file->path);
    free(file);
    h5_leave();
    return status;
}

Status h5_create(const char *path, H5File **out)
{
    return open_file(path, true, out);
}

Status h5_open(const char *path, H5File **out)
{
    return open_file(path, false, out);
}

/* After a failed write the library still holds metadata that it would have to write, and it cannot close a file that it
 * cannot flush: the descriptor, and with it the disk space, would stay taken until the process ends. So the rest goes
 * to a file in memory that takes the descriptor's place. */
static void detach_from_disk(const H5File *file)
{
    int *handle = NULL;
    int memory = memfd_create("vasily-unwritten", MFD_CLOEXEC);
    if (memory < 0) return;
    if (H5Fget_vfd_handle(file->id, H5P_DEFAULT, (void **)&handle) >= 0 && handle) (void)dup2(memory, *handle);
    close(memory);
}

Status h5_close(H5File *file)
{
    Status status = STATUS_OK;
    if (!file) return STATUS_OK;
    h5_enter();
    if (file->first_failure.status != STATUS_OK)
        status = status_restore(&file->first_failure);
    else if (file->writing && H5Fflush(file->id, H5F_SCOPE_GLOBAL) < 0)
        status = h5_library_error(file->path, ERR_IO, "write", NULL);
    if (status != STATUS_OK) detach_from_disk(file);
    if (H5Fclose(file->id) < 0 && status == STATUS_OK) status = h5_library_error(file->path, ERR_IO, "write", NULL);
    H5Eclear2(H5E_DEFAULT);
    h5_leave();
    free(file->path);
    free(file);
    return status;
}

/* --- datasets --- */

static Status count_elements(const H5File *file, const char *name, H5Type type, int ndim, const int64_t *dims,
                             int64_t *count)
{
    Status status = STATUS_OK;
    int64_t total = 1, bytes;
    if (ndim < 0 || ndim > H5_MAX_DIMS)
        FAIL(ERR_LIMIT, "%s: %s has %d dimensions, at most %d are supported", file->path, name, ndim, H5_MAX_DIMS);
    for (int d = 0; d < ndim; d++) {
        if (dims[d] < 0 || __builtin_mul_overflow(total, dims[d], &total))
            FAIL(ERR_LIMIT, "%s: the shape of %s is impossible (dimension %d is %jd)", file->path, name, d,
                 (intmax_t)dims[d]);
    }
    if (__builtin_mul_overflow(total, (int64_t)h5_type_size(type), &bytes))
        FAIL(ERR_LIMIT, "%s: %s is larger than any file", file->path, name);
    *count = total;
fail:
    return status;
}

/* Names are "a/b/c": no empty parts, no leading slash, no "." or "..". */
static Status check_name(const H5File *file, const char *name)
{
    Status status = STATUS_OK;
    size_t length = strlen(name);
    if (length == 0 || length > MAX_NAME || name[0] == '/' || name[length - 1] == '/' || strstr(name, "//"))
        FAIL(ERR_FORMAT, "%s: \"%.200s\" cannot be the name of a dataset", file->path, name);
fail:
    return status;
}

static Status write_dtype_attribute(const H5File *file, hid_t dataset, const char *name, H5Type type)
{
    Status status = STATUS_OK;
    const char *word = type_name(type);
    hid_t text = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
    H5Tset_size(text, strlen(word));
    H5Tset_strpad(text, H5T_STR_NULLPAD);
    hid_t attribute = H5Acreate2(dataset, DTYPE_ATTRIBUTE, text, space, H5P_DEFAULT, H5P_DEFAULT);
    if (attribute < 0 || H5Awrite(attribute, text, word) < 0)
        status = h5_library_error(file->path, ERR_IO, "write the type of", name);
    if (attribute >= 0) H5Aclose(attribute);
    H5Sclose(space);
    H5Tclose(text);
    return status;
}

/* Makes the groups of a name that are not there yet. The library would, but with the time in them. */
static Status make_groups(const H5File *file, const char *name)
{
    Status status = STATUS_OK;
    char part[MAX_NAME + 1];
    hid_t creation = H5Pcreate(H5P_GROUP_CREATE);
    H5Pset_obj_track_times(creation, 0);
    for (size_t i = 1; name[i]; i++) {
        if (name[i] != '/') continue;
        memcpy(part, name, i);
        part[i] = '\0';
        if (H5Lexists(file->id, part, H5P_DEFAULT) > 0) continue;
        hid_t group = H5Gcreate2(file->id, part, H5P_DEFAULT, creation, H5P_DEFAULT);
        if (group < 0) FAIL_WITH(h5_library_error(file->path, ERR_IO, "write the group", part));
        H5Gclose(group);
    }
fail:
    H5Pclose(creation);
    return status;
}

Status h5_make_dataset(H5File *file, const char *name, H5Type type, int ndim, const int64_t *dims, int64_t *count,
                       hid_t *out)
{
    Status status = STATUS_OK;
    hid_t space = -1, layout = -1, dataset = -1;
    hsize_t extent[H5_MAX_DIMS];
    *out = -1;
    TRY(check_name(file, name));
    TRY(count_elements(file, name, type, ndim, dims, count));
    for (int d = 0; d < ndim; d++) extent[d] = (hsize_t)dims[d];
    space = ndim == 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(ndim, extent, NULL);
    layout = H5Pcreate(H5P_DATASET_CREATE);
    if (space < 0 || layout < 0) FAIL_WITH(h5_library_error(file->path, ERR_INTERNAL, "prepare", name));
    TRY(make_groups(file, name));
    H5Pset_layout(layout, H5D_CONTIGUOUS);
    H5Pset_obj_track_times(layout, 0);
    H5Pset_fill_time(layout, H5D_FILL_TIME_NEVER); /* all of it is written next */
    dataset = H5Dcreate2(file->id, name, stored_type(type), space, H5P_DEFAULT, layout, H5P_DEFAULT);
    if (dataset < 0) FAIL_WITH(h5_library_error(file->path, ERR_IO, "write", name));
    if (type == H5_BF16_BITS || type == H5_F16_BITS) TRY(write_dtype_attribute(file, dataset, name, type));
    *out = dataset;
    dataset = -1;
fail:
    if (dataset >= 0) H5Dclose(dataset);
    if (layout >= 0) H5Pclose(layout);
    if (space >= 0) H5Sclose(space);
    return status;
}

Status h5_write(H5File *file, const char *name, H5Type type, int ndim, const int64_t *dims, const void *data)
{
    Status status = STATUS_OK;
    hid_t dataset = -1;
    int64_t count;
    h5_enter();
    TRY(h5_make_dataset(file, name, type, ndim, dims, &count, &dataset));
    if (count > 0 && H5Dwrite(dataset, h5_memory_type(type), H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0)
        FAIL_WITH(h5_library_error(file->path, ERR_IO, "write", name));
    herr_t closed = H5Dclose(dataset);
    dataset = -1;
    if (closed < 0) FAIL_WITH(h5_library_error(file->path, ERR_IO, "write", name));
fail:
    h5_note_failure(file, status);
    if (dataset >= 0) H5Dclose(dataset);
    h5_leave();
    return status;
}

/* Walks the groups of a name and refuses links to other places: a file must not make us read another. */
static Status check_links(const H5File *file, const char *name)
{
    Status status = STATUS_OK;
    char part[MAX_NAME + 1];
    size_t length = strlen(name);
    for (size_t i = 1; i <= length; i++) {
        if (name[i] != '/' && name[i] != '\0') continue;
        memcpy(part, name, i);
        part[i] = '\0';
        H5L_info_t info;
        if (H5Lexists(file->id, part, H5P_DEFAULT) <= 0) FAIL(ERR_FORMAT, "%s: has no dataset %s", file->path, name);
        if (H5Lget_info(file->id, part, &info, H5P_DEFAULT) < 0 || info.type != H5L_TYPE_HARD)
            FAIL(ERR_FORMAT, "%s: %s is a link elsewhere, which is not followed", file->path, part);
    }
fail:
    return status;
}

Status h5_open_dataset(const H5File *file, const char *name, hid_t *dataset, H5Type *type, int *ndim,
                       int64_t dims[H5_MAX_DIMS], int64_t *count)
{
    Status status = STATUS_OK;
    hid_t id = -1, space = -1, layout = -1;
    hsize_t extent[H5_MAX_DIMS];
    TRY(check_name(file, name));
    TRY(check_links(file, name));
    id = H5Dopen2(file->id, name, H5P_DEFAULT);
    if (id < 0) FAIL_WITH(h5_library_error(file->path, ERR_FORMAT, "open the dataset", name));
    layout = H5Dget_create_plist(id);
    space = H5Dget_space(id);
    if (layout < 0 || space < 0) FAIL_WITH(h5_library_error(file->path, ERR_FORMAT, "read the shape of", name));
    H5D_layout_t kind = H5Pget_layout(layout);
    if ((kind != H5D_CONTIGUOUS && kind != H5D_COMPACT && kind != H5D_CHUNKED) || H5Pget_external_count(layout) > 0)
        FAIL(ERR_FORMAT, "%s: the data of %s lies in other files, which are not read", file->path, name);
    if (!type_of(id, type))
        FAIL(ERR_FORMAT, "%s: %s has a type that is none of float32, float64, int32, int64, uint8, bfloat16, float16",
             file->path, name);
    int found = H5Sget_simple_extent_ndims(space);
    if (found < 0 || found > H5_MAX_DIMS || H5Sget_simple_extent_type(space) == H5S_NULL)
        FAIL(ERR_FORMAT, "%s: %s has no shape of at most %d dimensions", file->path, name, H5_MAX_DIMS);
    if (found > 0) H5Sget_simple_extent_dims(space, extent, NULL);
    for (int d = 0; d < found; d++) {
        if (extent[d] > INT64_MAX) FAIL(ERR_LIMIT, "%s: the shape of %s is impossible", file->path, name);
        dims[d] = (int64_t)extent[d];
    }
    *ndim = found;
    TRY(count_elements(file, name, *type, found, dims, count));
    *dataset = id;
    id = -1;
fail:
    if (space >= 0) H5Sclose(space);
    if (layout >= 0) H5Pclose(layout);
    if (id >= 0) H5Dclose(id);
    return status;
}

Status h5_shape(H5File *file, const char *name, H5Type *type, int *ndim, int64_t dims[H5_MAX_DIMS])
{
    hid_t dataset;
    int64_t count;
    h5_enter();
    Status status = h5_open_dataset(file, name, &dataset, type, ndim, dims, &count);
    if (status == STATUS_OK) H5Dclose(dataset);
    h5_leave();
    return status;
}

Status h5_read(H5File *file, const char *name, H5Type type, int64_t count, void *out)
{
    Status status = STATUS_OK;
    hid_t dataset = -1;
    H5Type stored = type;
    int ndim;
    int64_t dims[H5_MAX_DIMS], stored_count = 0;
    h5_enter();
    TRY(h5_open_dataset(file, name, &dataset, &stored, &ndim, dims, &stored_count));
    if (stored != type)
        FAIL(ERR_FORMAT, "%s: %s is %s, wanted %s", file->path, name, type_name(stored), type_name(type));
    if (stored_count != count)
        FAIL(ERR_FORMAT, "%s: %s has %jd elements, wanted %jd", file->path, name, (intmax_t)stored_count,
             (intmax_t)count);
    if (count > 0 && H5Dread(dataset, h5_memory_type(type), H5S_ALL, H5S_ALL, H5P_DEFAULT, out) < 0)
        FAIL_WITH(h5_library_error(file->path, ERR_FORMAT, "read", name));
fail:
    if (dataset >= 0) H5Dclose(dataset);
    h5_leave();
    return status;
}

/* --- listing --- */

typedef struct Listing {
    const H5File *file;
    char **names;
    size_t capacity, count, visited;
    char path[MAX_NAME + 1];
    size_t length; /* of path: the group now visited, with its slash */
    int depth;
    Status status;
} Listing;

static herr_t visit_link(hid_t group, const char *name, const H5L_info_t *info, void *context)
{
    Listing *listing = context;
    Status status = STATUS_OK;
    hid_t object = -1;
    size_t before = listing->length, length = strlen(name);
    if (info->type != H5L_TYPE_HARD) return 0;
    if (++listing->visited > MAX_OBJECTS || listing->depth > MAX_GROUP_DEPTH || before + length + 1 > MAX_NAME)
        FAIL(ERR_LIMIT, "%s: too many objects, too deep, or with too long names", listing->file->path);
    memcpy(listing->path + before, name, length + 1);
    object = H5Oopen(group, name, H5P_DEFAULT);
    if (object < 0) FAIL_WITH(h5_library_error(listing->file->path, ERR_FORMAT, "open", listing->path));
    H5I_type_t kind = H5Iget_type(object);
    if (kind == H5I_DATASET) {
        TRY(mem_grow(&listing->names, &listing->capacity, listing->count + 1, sizeof *listing->names));
        char *copy = strdup(listing->path);
        if (!copy) FAIL(ERR_MEMORY, "%s: out of memory", listing->file->path);
        listing->names[listing->count++] = copy;
    } else if (kind == H5I_GROUP) {
        listing->length = before + length + 1;
        listing->path[before + length] = '/';
        listing->depth++;
        if (H5Literate(object, H5_INDEX_NAME, H5_ITER_NATIVE, NULL, visit_link, listing) < 0 &&
            listing->status == STATUS_OK)
            FAIL_WITH(h5_library_error(listing->file->path, ERR_FORMAT, "list", listing->path));
        listing->depth--;
        status = listing->status;
    }
fail:
    listing->length = before;
    listing->status = status;
    if (object >= 0) H5Oclose(object);
    return status == STATUS_OK ? 0 : -1;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

Status h5_list(H5File *file, char ***names, size_t *count)
{
    Status status = STATUS_OK;
    Listing listing = {.file = file};
    *names = NULL;
    *count = 0;
    h5_enter();
    TRY(mem_grow(&listing.names, &listing.capacity, 1, sizeof *listing.names));
    if (H5Literate(file->id, H5_INDEX_NAME, H5_ITER_NATIVE, NULL, visit_link, &listing) < 0) {
        TRY(listing.status);
        FAIL_WITH(h5_library_error(file->path, ERR_FORMAT, "list", "its datasets"));
    }
    if (listing.count > 1) qsort(listing.names, listing.count, sizeof *listing.names, compare_names);
    h5_leave();
    *names = listing.names;
    *count = listing.count;
    return STATUS_OK;
fail:
    h5_leave();
    file_free_list(listing.names, listing.count);
    return status;
}
