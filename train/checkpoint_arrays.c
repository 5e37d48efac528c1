#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hdf5_file.h"
#include "base/log.h"
#include "engine/param_image.h"
#include "train/checkpoint.h"
#include "train/checkpoint_arrays.h"

enum { BROADCAST_PIECE = 64 << 20 };

static const struct {
    const char *what, *file;
    OptimizerArray array;
} MOMENTS[] = {
    {"ema", "ema.h5", OPTIMIZER_EMA}, {"adam_m", "adam_m.h5", OPTIMIZER_M}, {"adam_v", "adam_v.h5", OPTIMIZER_V}};
enum { MOMENTS_COUNT = sizeof MOMENTS / sizeof MOMENTS[0] };

Status checkpoint_array_path(char out[PATH_MAX], const char *folder, const char *what)
{
    char name[64];
    snprintf(name, sizeof name, "%s.h5", what);
    return path_join(out, PATH_MAX, folder, name);
}

static bool is_there(Optimizer *optimizer, OptimizerArray array)
{
    return array != OPTIMIZER_EMA || optimizer_ema(optimizer);
}

/* ---- trainable parameters in the order of the flat buffers ---- */

typedef struct Walk {
    const ParamTable *table;
    const Param **params; /* (count) by offset */
    int32_t count;
    int32_t at;     /* the first that is not done */
    float *values;  /* room for the largest, engine layout */
    float *scratch; /* and in file layout */
} Walk;

static int by_offset(const void *a, const void *b)
{
    const Param *const *p = a, *const *q = b;
    return ((*p)->offset > (*q)->offset) - ((*p)->offset < (*q)->offset);
}

static void walk_close(Walk *walk)
{
    free(walk->params);
    free(walk->values);
    free(walk->scratch);
    *walk = (Walk){0};
}

static Status walk_open(const ParamTable *table, Walk *walk)
{
    Status status = STATUS_OK;
    size_t largest = 1;
    *walk = (Walk){.table = table};
    walk->params = mem_alloc_array((size_t)param_table_size(table) + 1, sizeof(Param *));
    if (!walk->params) FAIL(ERR_MEMORY, "out of memory");
    for (int32_t i = 0; i < param_table_size(table); i++) {
        const Param *param = param_table_get(table, i);
        if (!param->trainable) continue;
        walk->params[walk->count++] = param;
        if ((size_t)param->count > largest) largest = (size_t)param->count;
    }
    qsort(walk->params, (size_t)walk->count, sizeof(Param *), by_offset);
    walk->values = mem_alloc_array(largest, sizeof(float));
    walk->scratch = mem_alloc_array(largest, sizeof(float));
    if (!walk->values || !walk->scratch) FAIL(ERR_MEMORY, "no memory for one parameter of a checkpoint");
    return STATUS_OK;
fail:
    walk_close(walk);
    return status;
}

/* What the current parameter and a slice have in common: elements [*from, *to) of the flat buffers. */
static bool overlap(const Walk *walk, OptimizerSlice slice, int64_t *from, int64_t *to)
{
    const Param *param = walk->params[walk->at];
    const int64_t end = param->offset + param->count, slice_end = slice.first + slice.count;
    *from = param->offset > slice.first ? param->offset : slice.first;
    *to = end < slice_end ? end : slice_end;
    return *from < *to;
}

static bool ends_within(const Walk *walk, OptimizerSlice slice)
{
    const Param *param = walk->params[walk->at];
    return param->offset + param->count <= slice.first + slice.count;
}

/* ---- writing ---- */

static Status write_param(H5File *file, Walk *walk, const Param *param, const float *values)
{
    const Shape shape = param_file_shape(param);
    param_to_file(param, values, walk->scratch);
    return h5_write(file, param->name, H5_F32, shape.ndim, shape.dim, walk->scratch);
}

/* The parameters that end in this slice are whole now. */
static Status write_slice(H5File *file, Walk *walk, OptimizerSlice slice, const float *values)
{
    Status status = STATUS_OK;
    int64_t from, to;
    while (walk->at < walk->count) {
        const Param *param = walk->params[walk->at];
        if (overlap(walk, slice, &from, &to))
            memcpy(walk->values + (from - param->offset), values + (from - slice.first),
                   (size_t)(to - from) * sizeof(float));
        if (!ends_within(walk, slice)) break;
        TRY(write_param(file, walk, param, walk->values));
        walk->at++;
    }
fail:
    return status;
}

static Status write_weights(H5File *file, Walk *walk, const ParamStore *store)
{
    Status status = STATUS_OK;
    for (int32_t i = 0; i < walk->count; i++)
        TRY(write_param(file, walk, walk->params[i], store->weights + walk->params[i]->offset));
fail:
    return status;
}

static Status write_moments(H5File *file, Walk *walk, Optimizer *optimizer, OptimizerArray which, float *slice)
{
    Status status = STATUS_OK;
    walk->at = 0;
    for (int32_t i = 0; i < optimizer_slice_count(optimizer); i++) {
        TRY(optimizer_read_slice(optimizer, which, i, slice));
        TRY(write_slice(file, walk, optimizer_slice(optimizer, i), slice));
    }
fail:
    return status;
}

/* Closing a file that could not be written fails again; the first message is the one to keep. */
static Status close_file(H5File *file, Status status)
{
    if (status == STATUS_OK) return h5_close(file);
    StatusRecord record;
    status_save(status, &record);
    (void)h5_close(file);
    return status_restore(&record);
}

/* One file; `slice` NULL: of the weights. */
static Status write_file(const char *path, Walk *walk, const ParamStore *store, Optimizer *optimizer,
                         OptimizerArray which, float *slice)
{
    Status status = STATUS_OK;
    H5File *file = NULL;
    TRY(h5_create(path, &file));
    status = slice ? write_moments(file, walk, optimizer, which, slice) : write_weights(file, walk, store);
    TRY(close_file(file, status));
    TRY(file_sync(path));
fail:
    return status;
}

static float *alloc_slice(const Optimizer *optimizer)
{
    return mem_alloc_array((size_t)optimizer_largest_slice(optimizer) + 1, sizeof(float));
}

Status checkpoint_write_arrays(const char *folder, const ParamStore *store, Optimizer *optimizer,
                               const char *names[CHECKPOINT_ARRAYS], size_t *count)
{
    Status status = STATUS_OK;
    char path[PATH_MAX];
    Walk walk = {0};
    float *slice = alloc_slice(optimizer);
    *count = 0;
    if (!slice) FAIL(ERR_MEMORY, "no memory for a slice of the optimizer");
    TRY(walk_open(store->table, &walk));
    TRY(param_image_download_weights(store));
    TRY(checkpoint_array_path(path, folder, "weights"));
    TRY(write_file(path, &walk, store, optimizer, OPTIMIZER_M, NULL));
    names[(*count)++] = "weights.h5";
    for (int k = 0; k < MOMENTS_COUNT; k++) {
        if (!is_there(optimizer, MOMENTS[k].array)) continue;
        TRY(checkpoint_array_path(path, folder, MOMENTS[k].what));
        TRY(write_file(path, &walk, store, optimizer, MOMENTS[k].array, slice));
        names[(*count)++] = MOMENTS[k].file;
    }
fail:
    walk_close(&walk);
    free(slice);
    return status;
}

Status checkpoint_contribute(Optimizer *optimizer)
{
    Status status = STATUS_OK;
    float *slice;
    if (!optimizer_is_divided(optimizer)) return STATUS_OK;
    slice = alloc_slice(optimizer);
    if (!slice) FAIL(ERR_MEMORY, "no memory for a slice of the optimizer");
    for (int k = 0; k < MOMENTS_COUNT; k++)
        for (int32_t i = 0; is_there(optimizer, MOMENTS[k].array) && i < optimizer_slice_count(optimizer); i++)
            TRY(optimizer_read_slice(optimizer, MOMENTS[k].array, i, slice));
fail:
    free(slice);
    return status;
}

/* ---- reading ---- */

/* Every dataset must be of this model, and every parameter there in its shape. */
static Status check_file(const char *name, H5File *file, const Walk *walk)
{
    Status status = STATUS_OK;
    char **names = NULL;
    size_t name_count = 0;
    TRY(h5_list(file, &names, &name_count));
    for (size_t i = 0; i < name_count; i++) {
        int32_t index = param_table_find(walk->table, names[i]);
        if (index < 0 || !param_table_get(walk->table, index)->trainable)
            FAIL(ERR_MISMATCH, "%s: holds %s, which this model does not have; is it of another model config?", name,
                 names[i]);
    }
    for (int32_t i = 0; i < walk->count; i++) {
        const Param *param = walk->params[i];
        Shape want = param_file_shape(param), have = {0};
        H5Type type;
        int ndim;
        int64_t dims[H5_MAX_DIMS];
        TRY(h5_shape(file, param->name, &type, &ndim, dims));
        have.ndim = ndim <= SHAPE_MAX_DIMS ? ndim : 0;
        for (int32_t k = 0; k < have.ndim; k++) have.dim[k] = dims[k];
        if (shape_equal(&want, &have)) continue;
        char want_text[64], have_text[64];
        shape_format(&want, want_text, sizeof want_text);
        shape_format(&have, have_text, sizeof have_text);
        FAIL(ERR_MISMATCH, "%s: %s is %s, this model's is %s; is it of another model config?", name, param->name,
             have_text, want_text);
    }
fail:
    file_free_list(names, name_count);
    return status;
}

static Status open_file(const char *folder, const char *what, const Walk *walk, H5File **file)
{
    Status status = STATUS_OK;
    char name[PATH_MAX];
    *file = NULL;
    TRY(checkpoint_array_path(name, folder, what));
    TRY(h5_open(name, file));
    TRY(check_file(name, *file, walk));
    return STATUS_OK;
fail:
    if (*file) status = close_file(*file, status);
    *file = NULL;
    return status;
}

static Status read_param(H5File *file, Walk *walk, const Param *param, float *values)
{
    Status status = STATUS_OK;
    TRY(h5_read(file, param->name, H5_F32, param->count, walk->scratch));
    param_from_file(param, walk->scratch, values);
fail:
    return status;
}

Status checkpoint_read_params(const char *path, const char *what, const ParamTable *table, float *flat)
{
    Status status = STATUS_OK;
    Walk walk = {0};
    H5File *file = NULL;
    TRY(walk_open(table, &walk));
    TRY(open_file(path, what, &walk, &file));
    for (int32_t i = 0; i < walk.count && status == STATUS_OK; i++)
        status = read_param(file, &walk, walk.params[i], flat + walk.params[i]->offset);
    TRY(close_file(file, status));
fail:
    walk_close(&walk);
    return status;
}

/* A slice of a file; a parameter that begins in it is read whole, and stays in walk->values for the slices that follow.
 */
static Status read_slice(H5File *file, Walk *walk, OptimizerSlice slice, float *values)
{
    Status status = STATUS_OK;
    int64_t from, to;
    memset(values, 0, (size_t)slice.count * sizeof(float));
    while (walk->at < walk->count && overlap(walk, slice, &from, &to)) {
        const Param *param = walk->params[walk->at];
        if (from == param->offset) TRY(read_param(file, walk, param, walk->values));
        memcpy(values + (from - slice.first), walk->values + (from - param->offset),
               (size_t)(to - from) * sizeof(float));
        if (!ends_within(walk, slice)) break;
        walk->at++;
    }
fail:
    return status;
}

/* `file`: on rank 0. */
static Status load_moments(H5File *file, Walk *walk, Comm *comm, Optimizer *optimizer, OptimizerArray which,
                           float *values)
{
    Status status = STATUS_OK;
    walk->at = 0;
    for (int32_t i = 0; i < optimizer_slice_count(optimizer); i++) {
        const OptimizerSlice slice = optimizer_slice(optimizer, i);
        if (file) TRY(read_slice(file, walk, slice, values));
        TRY(comm_broadcast(comm, values, (size_t)slice.count * sizeof(float), 0));
        TRY(optimizer_write_slice(optimizer, which, i, values));
    }
fail:
    return status;
}

static Status broadcast_floats(Comm *comm, float *data, int64_t count)
{
    Status status = STATUS_OK;
    const int64_t piece = BROADCAST_PIECE / (int64_t)sizeof *data;
    for (int64_t at = 0; at < count; at += piece)
        TRY(comm_broadcast(comm, data + at, (size_t)(count - at < piece ? count - at : piece) * sizeof *data, 0));
fail:
    return status;
}

/* An average that the checkpoint does not have begins anew; all ranks alike. */
static Status load_array(const char *path, int k, Walk *walk, Comm *comm, Optimizer *optimizer, float *slice)
{
    Status status = STATUS_OK;
    H5File *file = NULL;
    const bool root = comm_rank(comm) == 0;
    int32_t there = !root || MOMENTS[k].array != OPTIMIZER_EMA || checkpoint_has(path, MOMENTS[k].what);
    TRY(comm_broadcast(comm, &there, sizeof there, 0));
    if (!there) {
        if (root) log_warn("%s has no moving average; it begins anew from the weights", path);
        return optimizer_restart_ema(optimizer);
    }
    if (root) TRY(open_file(path, MOMENTS[k].what, walk, &file));
    status = load_moments(file, walk, comm, optimizer, MOMENTS[k].array, slice);
    if (file) status = close_file(file, status);
fail:
    return status;
}

Status checkpoint_load_arrays(const char *path, Comm *comm, ParamStore *store, Optimizer *optimizer)
{
    Status status = STATUS_OK;
    Walk walk = {0};
    float *slice = alloc_slice(optimizer);
    if (!slice) FAIL(ERR_MEMORY, "no memory for a slice of the optimizer");
    TRY(walk_open(store->table, &walk));
    if (comm_rank(comm) == 0) TRY(checkpoint_read_params(path, "weights", store->table, store->weights));
    TRY(broadcast_floats(comm, store->weights, optimizer_elements(optimizer)));
    TRY(param_image_upload(store));
    for (int k = 0; k < MOMENTS_COUNT; k++)
        if (is_there(optimizer, MOMENTS[k].array)) TRY(load_array(path, k, &walk, comm, optimizer, slice));
fail:
    walk_close(&walk);
    free(slice);
    return status;
}
