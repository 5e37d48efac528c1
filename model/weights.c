#include "model/weights.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

static bool is_meant(const Param *param, WeightsFilter filter)
{
    return param->trainable ? filter.trainable : filter.frozen;
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

/* A convolution's weights (O,C,KH,KW) of a file with fewer channels: the others are zero. */
static void read_widened(const WeightTensor *tensor, const Param *param, float *values)
{
    const Shape shape = param_file_shape(param);
    const int64_t row = param->count / shape.dim[0], narrow = tensor->count / shape.dim[0];
    memset(values, 0, (size_t)param->count * sizeof *values);
    for (int64_t o = 0; o < shape.dim[0]; o++) weight_tensor_to_f32(tensor, o * narrow, narrow, values + o * row);
}

/* `widened`: whether a narrower first convolution will do; its place in the table then, else -1. NULL: it will not. */
static Status load(const char *path, ParamStore *store, WeightKind kind, bool allow_extra, int32_t *widened,
                   int64_t *channels)
{
    Status status = STATUS_OK;
    WeightFile *file = NULL;
    WeightMatch match = {0};
    float *values = NULL;
    TRY(weight_file_open(path, &file));
    TRY(weight_match(file, store->table, kind, &match));
    if (widened) *widened = weight_match_widen(file, store->table, &match);
    TRY(weight_match_check(&match, path, kind, allow_extra,
                           "is it of this model? `vasily import` lists every name and can leave unknown tensors out"));
    values = mem_alloc_array(longest(store->table, (WeightsFilter){true, true}), sizeof *values);
    if (values == NULL) FAIL(ERR_MEMORY, "%s: out of memory", path);
    for (int32_t p = 0; p < param_table_size(store->table); p++) {
        const Param *param = param_table_get(store->table, p);
        if (match.tensors[p] == NULL) continue;
        if (widened && p == *widened) {
            read_widened(match.tensors[p], param, values);
            *channels = match.tensors[p]->shape[1];
        } else {
            weight_tensor_to_f32(match.tensors[p], 0, param->count, values);
        }
        weight_tensor_release(match.tensors[p]);
        param_from_file(param, values, param_store_weight(store, p));
    }
fail:
    free(values);
    weight_match_free(&match);
    weight_file_close(file);
    return status;
}

Status weights_load(const char *path, ParamStore *store, WeightKind kind, bool allow_extra)
{
    return load(path, store, kind, allow_extra, NULL, NULL);
}

Status weights_load_unet(const char *path, ParamStore *store, int64_t *from, int64_t *to)
{
    Status status = STATUS_OK;
    int32_t widened = -1;
    *from = *to = 0;
    TRY(load(path, store, WEIGHTS_UNET, false, &widened, from));
    if (widened >= 0) *to = param_file_shape(param_table_get(store->table, widened)).dim[1];
fail:
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
