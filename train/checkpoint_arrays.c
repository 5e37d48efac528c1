#include "train/checkpoint_arrays.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "engine/param_image.h"
#include "model/weight_file.h"
#include "model/weight_shares.h"
#include "train/checkpoint.h"
#include "train/checkpoint_snapshot.h"

enum { BROADCAST_PIECE = 64 << 20 };

static const struct {
    CheckpointArray array;
    OptimizerArray of;
} MOMENTS[] = {
    {CHECKPOINT_EMA, OPTIMIZER_EMA},
    {CHECKPOINT_M, OPTIMIZER_M},
    {CHECKPOINT_V, OPTIMIZER_V},
};
enum { MOMENTS_COUNT = sizeof MOMENTS / sizeof MOMENTS[0] };

Status checkpoint_array_path(char out[PATH_MAX], const char *folder, const char *what)
{
    Status status = STATUS_OK;
    char name[64], shares[PATH_MAX];
    snprintf(name, sizeof name, "%s" WEIGHT_SHARES_SUFFIX, what);
    TRY(path_join(shares, sizeof shares, folder, name));
    snprintf(name, sizeof name, "%s.h5", what);
    TRY(path_join(out, PATH_MAX, folder, name));
    if (!file_exists(out) && file_exists(shares)) memcpy(out, shares, sizeof shares);
fail:
    return status;
}

/* ---- one array's files ---- */

typedef struct ArrayReader {
    WeightFile *file;
    const ParamOrder *order;
    int32_t at;     /* of slices: the first parameter that is not done */
    float *values;  /* room for the largest parameter, engine layout */
    float *scratch; /* and in file layout */
} ArrayReader;

static void reader_close(ArrayReader *reader)
{
    weight_file_close(reader->file);
    free(reader->values);
    free(reader->scratch);
    *reader = (ArrayReader){0};
}

static void format_shape(const WeightTensor *t, char *out, size_t capacity)
{
    Shape shape = {.ndim = t->ndim <= SHAPE_MAX_DIMS ? t->ndim : 0};
    memcpy(shape.dim, t->shape, (size_t)shape.ndim * sizeof shape.dim[0]);
    shape_format(&shape, out, capacity);
}

static bool has_shape(const WeightTensor *t, const Shape *want)
{
    return t->ndim == want->ndim &&
           (want->ndim == 0 || memcmp(t->shape, want->dim, (size_t)want->ndim * sizeof want->dim[0]) == 0);
}

/* Every tensor must be of this model, and every parameter there in its shape. */
static Status check_file(const char *path, const WeightFile *file, const ParamTable *table, const ParamOrder *order)
{
    Status status = STATUS_OK;
    for (int32_t i = 0; i < weight_file_count(file); i++) {
        const char *name = weight_file_get(file, i)->name;
        const int32_t index = param_table_find(table, name);
        if (index < 0 || !param_table_get(table, index)->trainable)
            FAIL(ERR_MISMATCH, "%s: holds %s, which this model does not have; is it of another model config?", path,
                 name);
    }
    for (int32_t i = 0; i < order->count; i++) {
        const Param *param = order->params[i];
        const Shape want = param_file_shape(param);
        const WeightTensor *have = weight_file_find(file, param->name);
        char want_text[64], have_text[64];
        if (!have) FAIL(ERR_FORMAT, "%s: has no %s; is it of another model config?", path, param->name);
        if (have->dtype != SAFE_F32) FAIL(ERR_FORMAT, "%s: %s is not of fp32 numbers", path, param->name);
        if (has_shape(have, &want)) continue;
        shape_format(&want, want_text, sizeof want_text);
        format_shape(have, have_text, sizeof have_text);
        FAIL(ERR_MISMATCH, "%s: %s is %s, this model's is %s; is it of another model config?", path, param->name,
             have_text, want_text);
    }
fail:
    return status;
}

static Status reader_open(const char *folder, const char *what, const ParamTable *table, const ParamOrder *order,
                          ArrayReader *out)
{
    Status status = STATUS_OK;
    char path[PATH_MAX];
    *out = (ArrayReader){.order = order};
    TRY(checkpoint_array_path(path, folder, what));
    if (!file_exists(path))
        FAIL(ERR_IO, "%s has no %s; to begin a new run with its weights, name it in init.from", folder, what);
    TRY(weight_file_open(path, &out->file));
    TRY(check_file(path, out->file, table, order));
    out->values = mem_alloc_array((size_t)order->largest, sizeof *out->values);
    out->scratch = mem_alloc_array((size_t)order->largest, sizeof *out->scratch);
    if (!out->values || !out->scratch) FAIL(ERR_MEMORY, "no memory for one parameter of a checkpoint");
    return STATUS_OK;
fail:
    reader_close(out);
    return status;
}

static void read_param(ArrayReader *reader, const Param *param, float *values)
{
    const WeightTensor *tensor = weight_file_find(reader->file, param->name);
    weight_tensor_to_f32(tensor, 0, param->count, reader->scratch);
    weight_tensor_release(tensor);
    param_from_file(param, reader->scratch, values);
}

Status checkpoint_check_array(const char *path, const char *what, const ParamTable *table)
{
    Status status = STATUS_OK;
    ParamOrder order = {0};
    ArrayReader reader = {0};
    TRY(param_order_make(table, &order));
    TRY(reader_open(path, what, table, &order, &reader));
fail:
    reader_close(&reader);
    param_order_free(&order);
    return status;
}

Status checkpoint_read_params(const char *path, const char *what, const ParamTable *table, float *flat)
{
    Status status = STATUS_OK;
    ParamOrder order = {0};
    ArrayReader reader = {0};
    TRY(param_order_make(table, &order));
    TRY(reader_open(path, what, table, &order, &reader));
    for (int32_t i = 0; i < order.count; i++) read_param(&reader, order.params[i], flat + order.params[i]->offset);
fail:
    reader_close(&reader);
    param_order_free(&order);
    return status;
}

/* ---- slices, for those that hold a part ---- */

/* What the current parameter and a slice have in common: elements [*from, *to) of the flat buffers. */
static bool overlap(const ArrayReader *reader, OptimizerSlice slice, int64_t *from, int64_t *to)
{
    const Param *param = reader->order->params[reader->at];
    const int64_t end = param->offset + param->count, slice_end = slice.first + slice.count;
    *from = param->offset > slice.first ? param->offset : slice.first;
    *to = end < slice_end ? end : slice_end;
    return *from < *to;
}

static bool ends_within(const ArrayReader *reader, OptimizerSlice slice)
{
    const Param *param = reader->order->params[reader->at];
    return param->offset + param->count <= slice.first + slice.count;
}

/* A parameter that begins in the slice is read whole, and stays in reader->values for the slices that follow. */
static void read_slice(ArrayReader *reader, OptimizerSlice slice, float *values)
{
    int64_t from, to;
    memset(values, 0, (size_t)slice.count * sizeof(float));
    while (reader->at < reader->order->count && overlap(reader, slice, &from, &to)) {
        const Param *param = reader->order->params[reader->at];
        if (from == param->offset) read_param(reader, param, reader->values);
        memcpy(values + (from - slice.first), reader->values + (from - param->offset),
               (size_t)(to - from) * sizeof(float));
        if (!ends_within(reader, slice)) break;
        reader->at++;
    }
}

/* `reader`: rank 0's. */
static Status load_moments(ArrayReader *reader, Comm *comm, Optimizer *optimizer, OptimizerArray which, float *values)
{
    Status status = STATUS_OK;
    for (int32_t i = 0; i < optimizer_slice_count(optimizer); i++) {
        const OptimizerSlice slice = optimizer_slice(optimizer, i);
        if (reader->file) read_slice(reader, slice, values);
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
static Status load_array(const char *path, int k, const ParamTable *table, const ParamOrder *order, Comm *comm,
                         Optimizer *optimizer, float *slice)
{
    Status status = STATUS_OK;
    ArrayReader reader = {0};
    const char *what = CHECKPOINT_ARRAY_WORDS[MOMENTS[k].array];
    const bool root = comm_rank(comm) == 0;
    int32_t there = !root || MOMENTS[k].of != OPTIMIZER_EMA || checkpoint_has(path, what);
    TRY(comm_broadcast(comm, &there, sizeof there, 0));
    if (!there) {
        if (root) log_warn("%s has no moving average; it begins anew from the weights", path);
        return optimizer_restart_ema(optimizer);
    }
    if (root) TRY(reader_open(path, what, table, order, &reader));
    TRY(load_moments(&reader, comm, optimizer, MOMENTS[k].of, slice));
fail:
    reader_close(&reader);
    return status;
}

Status checkpoint_load_arrays(const char *path, Comm *comm, ParamStore *store, Optimizer *optimizer)
{
    Status status = STATUS_OK;
    ParamOrder order = {0};
    float *slice = mem_alloc_array((size_t)optimizer_largest_slice(optimizer) + 1, sizeof *slice);
    if (!slice) FAIL(ERR_MEMORY, "no memory for a slice of the optimizer");
    TRY(param_order_make(store->table, &order));
    if (comm_rank(comm) == 0) TRY(checkpoint_read_params(path, "weights", store->table, store->weights));
    TRY(broadcast_floats(comm, store->weights, optimizer_elements(optimizer)));
    TRY(param_image_upload(store));
    for (int k = 0; k < MOMENTS_COUNT; k++)
        if (MOMENTS[k].of != OPTIMIZER_EMA || optimizer_ema(optimizer))
            TRY(load_array(path, k, store->table, &order, comm, optimizer, slice));
fail:
    param_order_free(&order);
    free(slice);
    return status;
}
