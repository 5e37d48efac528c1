#include "model/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

#define LISTED_MAX 8 /* names of each kind in an error */

static bool is_meant(const Param *param, WeightsFilter filter)
{
    return param->trainable ? filter.trainable : filter.frozen;
}

/* Names of one kind of misfit, for an error. */
typedef struct Misfits {
    StrBuf names;
    int64_t count;
} Misfits;

static Status misfit_add(Misfits *misfits, const char *name, const char *note)
{
    Status status = STATUS_OK;
    if (misfits->count++ < LISTED_MAX)
        TRY(strbuf_printf(&misfits->names, "%s%s%s", misfits->count > 1 ? ", " : "", name, note));
    else if (misfits->count == LISTED_MAX + 1)
        TRY(strbuf_printf(&misfits->names, ", ..."));
fail:
    return status;
}

static const char *misfit_names(const Misfits *misfits)
{
    return misfits->names.data == NULL ? "" : misfits->names.data;
}

static bool shape_matches(const SafeTensor *tensor, const Shape *shape)
{
    if (tensor->ndim != shape->ndim) return false;
    for (int32_t d = 0; d < shape->ndim; d++)
        if (tensor->shape[d] != shape->dim[d]) return false;
    return true;
}

/* Whether every parameter that is meant is there with its shape, and nothing else. */
static Status check_names(const char *path, const Safetensors *file, const ParamTable *table, WeightsFilter filter,
                          bool allow_extra)
{
    Status status = STATUS_OK;
    Misfits missing = {0}, shaped = {0}, extra = {0};
    for (int32_t p = 0; p < param_table_size(table); p++) {
        const Param *param = param_table_get(table, p);
        if (!is_meant(param, filter)) continue;
        const SafeTensor *tensor = safetensors_find(file, param->name);
        Shape want = param_file_shape(param);
        if (tensor == NULL) {
            TRY(misfit_add(&missing, param->name, ""));
        } else if (!shape_matches(tensor, &want)) {
            Shape have = {.ndim = tensor->ndim <= SHAPE_MAX_DIMS ? tensor->ndim : SHAPE_MAX_DIMS};
            memcpy(have.dim, tensor->shape, (size_t)have.ndim * sizeof *have.dim);
            char note[256], from[96], to[96];
            shape_format(&have, from, sizeof from);
            shape_format(&want, to, sizeof to);
            snprintf(note, sizeof note, " (%s, wanted %s)", from, to);
            TRY(misfit_add(&shaped, param->name, note));
        }
    }
    for (int32_t i = 0; i < safetensors_count(file) && !allow_extra; i++) {
        int32_t index = param_table_find(table, safetensors_get(file, i)->name);
        if (index < 0 || !is_meant(param_table_get(table, index), filter))
            TRY(misfit_add(&extra, safetensors_get(file, i)->name, ""));
    }
    if (missing.count + shaped.count + extra.count > 0)
        FAIL(ERR_MISMATCH,
             "%s does not fit the model: %lld missing [%s], %lld of another shape [%s], %lld unknown [%s]; "
             "is it of this config?",
             path, (long long)missing.count, misfit_names(&missing), (long long)shaped.count, misfit_names(&shaped),
             (long long)extra.count, misfit_names(&extra));
fail:
    strbuf_free(&missing.names);
    strbuf_free(&shaped.names);
    strbuf_free(&extra.names);
    return status;
}

/* The length of the longest parameter that is meant. */
static size_t longest(const ParamTable *table, WeightsFilter filter)
{
    int64_t most = 1;
    for (int32_t p = 0; p < param_table_size(table); p++) {
        const Param *param = param_table_get(table, p);
        if (is_meant(param, filter) && param->count > most) most = param->count;
    }
    return (size_t)most;
}

Status weights_load(const char *path, ParamStore *store, WeightsFilter filter, bool allow_extra)
{
    Status status = STATUS_OK;
    Safetensors *file = NULL;
    float *values = NULL;
    TRY(safetensors_open(path, &file));
    TRY(check_names(path, file, store->table, filter, allow_extra));
    values = mem_alloc_array(longest(store->table, filter), sizeof *values);
    if (values == NULL) FAIL(ERR_MEMORY, "%s: out of memory", path);
    for (int32_t p = 0; p < param_table_size(store->table); p++) {
        const Param *param = param_table_get(store->table, p);
        if (!is_meant(param, filter)) continue;
        safetensors_to_f32(safetensors_find(file, param->name), values);
        param_from_file(param, values, param_store_weight(store, p));
    }
fail:
    free(values);
    safetensors_close(file);
    return status;
}

Status weights_save(const char *path, const ParamStore *store, const float *weights, WeightsFilter filter,
                    SafeDtype dtype)
{
    Status status = STATUS_OK;
    const ParamTable *table = store->table;
    int32_t size = param_table_size(table), count = 0;
    SafetensorsWriter *writer = NULL;
    float *values = mem_alloc_array(longest(table, filter), sizeof *values);
    SafeTensor *tensors = mem_alloc_array((size_t)size + 1, sizeof *tensors);
    if (values == NULL || tensors == NULL) FAIL(ERR_MEMORY, "%s: out of memory", path);
    for (int32_t p = 0; p < size; p++) {
        const Param *param = param_table_get(table, p);
        if (!is_meant(param, filter)) continue;
        Shape shape = param_file_shape(param);
        tensors[count] = (SafeTensor){.name = param->name, .dtype = dtype, .ndim = shape.ndim, .count = param->count};
        memcpy(tensors[count++].shape, shape.dim, (size_t)shape.ndim * sizeof *shape.dim);
    }
    TRY(safetensors_writer_create(path, tensors, count, &writer));
    for (int32_t p = 0; p < size; p++) {
        const Param *param = param_table_get(table, p);
        if (!is_meant(param, filter)) continue;
        const float *from = param_store_weight(store, p);
        if (param->trainable && weights != NULL) from = weights + param->offset;
        param_to_file(param, from, values);
        TRY(safetensors_writer_add_f32(writer, values));
    }
    status = safetensors_writer_finish(writer);
    writer = NULL;
    TRY(status);
fail:
    safetensors_writer_abort(writer);
    free(values);
    free(tensors);
    return status;
}
