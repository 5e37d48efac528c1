#include "engine/params.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "engine/param_image.h"
#include "base/hash.h"

struct ParamTable {
    Arena *arena;   /* names and Params: their addresses stay */
    Param **params; /* in the order added */
    size_t size, capacity;
    int32_t *slots; /* open addressing by hash of name; index + 1, 0 is empty */
    size_t slot_count;
    bool laid_out;
    int64_t trainable_elements, frozen_elements, trainable_parameters;
    int64_t pad; /* trainable_elements are a multiple of it; 0: of PARAM_ALIGN */
};

Status param_table_create(ParamTable **out)
{
    Status status = STATUS_OK;
    ParamTable *table = mem_alloc_array(1, sizeof *table);
    if (!table) FAIL(ERR_MEMORY, "no memory for a parameter table");
    TRY(arena_create(&table->arena));
    *out = table;
    return STATUS_OK;
fail:
    param_table_free(table);
    return status;
}

void param_table_free(ParamTable *table)
{
    if (!table) return;
    arena_free(table->arena);
    free(table->params);
    free(table->slots);
    free(table);
}

/* The slot that holds `name`, or the empty one where it belongs. */
static size_t find_slot(const ParamTable *table, const char *name)
{
    size_t slot = (size_t)hash_string64(name) & (table->slot_count - 1);
    while (table->slots[slot] != 0 && strcmp(table->params[table->slots[slot] - 1]->name, name) != 0) {
        slot = (slot + 1) & (table->slot_count - 1);
    }
    return slot;
}

static Status grow_slots(ParamTable *table)
{
    Status status = STATUS_OK;
    if (2 * (table->size + 1) <= table->slot_count) return STATUS_OK;
    const size_t count = table->slot_count ? 2 * table->slot_count : 64;
    int32_t *slots = mem_alloc_array(count, sizeof *slots);
    if (!slots) FAIL(ERR_MEMORY, "no memory for the names of %zu parameters", table->size + 1);
    free(table->slots);
    table->slots = slots;
    table->slot_count = count;
    for (size_t i = 0; i < table->size; i++) slots[find_slot(table, table->params[i]->name)] = (int32_t)i + 1;
fail:
    return status;
}

int32_t param_table_find(const ParamTable *table, const char *name)
{
    return table->slot_count == 0 ? -1 : table->slots[find_slot(table, name)] - 1;
}

/* Elements of a shape, or -1 where a dimension is not positive or the bytes would not fit. */
static int64_t checked_count(const Shape *shape)
{
    if (shape->ndim < 1 || shape->ndim > SHAPE_MAX_DIMS) return -1;
    int64_t count = 1;
    for (int32_t i = 0; i < shape->ndim; i++) {
        if (shape->dim[i] < 1 || count > INT64_MAX / 64 / shape->dim[i]) return -1;
        count *= shape->dim[i];
    }
    return count;
}

static Status check_param(const Param *param, int64_t *count)
{
    Status status = STATUS_OK;
    char shape[96];
    shape_format(&param->shape, shape, sizeof shape);
    *count = checked_count(&param->shape);
    if (!param->name || !param->name[0]) FAIL(ERR_INTERNAL, "a parameter of shape %s has no name", shape);
    if (*count < 0) FAIL(ERR_INTERNAL, "parameter %s has the impossible shape %s", param->name, shape);
    if (param->layout == PARAM_CONV && param->shape.ndim != 4) {
        FAIL(ERR_INTERNAL, "parameter %s: convolution weights are O,KH,KW,C, not %s", param->name, shape);
    }
    if (param->layout == PARAM_CONV1D && param->shape.ndim != 2) {
        FAIL(ERR_INTERNAL, "parameter %s: one-dimensional convolution weights are O,C, not %s", param->name, shape);
    }
fail:
    return status;
}

Status param_table_add(ParamTable *table, const Param *param, int32_t *index)
{
    Status status = STATUS_OK;
    int64_t count = 0;
    TRY(check_param(param, &count));
    const int32_t found = param_table_find(table, param->name);
    if (found >= 0) {
        const Param *old = table->params[found];
        if (!shape_equal(&old->shape, &param->shape) || old->layout != param->layout) {
            char a[96], b[96];
            shape_format(&old->shape, a, sizeof a);
            shape_format(&param->shape, b, sizeof b);
            FAIL(ERR_INTERNAL, "parameter %s exists with shape %s and is asked for with %s", param->name, a, b);
        }
        *index = found;
        return STATUS_OK;
    }
    if (table->laid_out) FAIL(ERR_INTERNAL, "parameter %s is new, but the table is laid out already", param->name);
    if (table->size >= INT32_MAX - 1) FAIL(ERR_LIMIT, "more than %d parameters", INT32_MAX - 1);
    TRY(grow_slots(table));
    TRY(mem_grow(&table->params, &table->capacity, table->size + 1, sizeof *table->params));
    Param *copy = arena_alloc(table->arena, sizeof *copy);
    char *name = arena_strdup(table->arena, param->name);
    if (!copy || !name) FAIL(ERR_MEMORY, "no memory for parameter %s", param->name);
    *copy = *param;
    copy->name = name;
    copy->count = count;
    copy->offset = -1;
    table->slots[find_slot(table, name)] = (int32_t)table->size + 1;
    table->params[table->size] = copy;
    *index = (int32_t)table->size++;
fail:
    return status;
}

int32_t param_table_size(const ParamTable *table)
{
    return (int32_t)table->size;
}

const Param *param_table_get(const ParamTable *table, int32_t index)
{
    return table->params[index];
}

/* Gives a parameter its place at the end of its buffer. */
static Status place(Param *param, int64_t *elements)
{
    Status status = STATUS_OK;
    const int64_t padded = (param->count + PARAM_ALIGN - 1) / PARAM_ALIGN * PARAM_ALIGN;
    if (*elements > INT64_MAX / 64 - padded) FAIL(ERR_LIMIT, "parameter %s: the buffer would overflow", param->name);
    param->offset = *elements;
    *elements += padded;
fail:
    return status;
}

void param_table_pad(ParamTable *table, int64_t multiple)
{
    table->pad = multiple;
}

Status param_table_layout(ParamTable *table, const int32_t *trainable_order, int32_t count)
{
    Status status = STATUS_OK;
    int64_t trainable = 0, frozen = 0, parameters = 0;
    if (table->laid_out) return STATUS_OK;
    for (size_t i = 0; i < table->size; i++) table->params[i]->offset = -1;
    for (int32_t i = 0; trainable_order && i < count; i++) {
        const int32_t index = trainable_order[i];
        if (index < 0 || (size_t)index >= table->size) FAIL(ERR_INTERNAL, "parameter order: no parameter %d", index);
        Param *param = table->params[index];
        if (!param->trainable) FAIL(ERR_INTERNAL, "parameter order: %s is frozen", param->name);
        if (param->offset >= 0) FAIL(ERR_INTERNAL, "parameter order: %s is there twice", param->name);
        TRY(place(param, &trainable));
    }
    for (size_t i = 0; i < table->size; i++) {
        Param *param = table->params[i];
        if (param->trainable) parameters += param->count;
        if (param->offset < 0) TRY(place(param, param->trainable ? &trainable : &frozen));
    }
    if (table->pad > 1) trainable = (trainable + table->pad - 1) / table->pad * table->pad;
    table->trainable_elements = trainable;
    table->frozen_elements = frozen;
    table->trainable_parameters = parameters;
    table->laid_out = true;
fail:
    return status;
}

bool param_table_is_laid_out(const ParamTable *table)
{
    return table->laid_out;
}

int64_t param_table_trainable_elements(const ParamTable *table)
{
    return table->trainable_elements;
}

int64_t param_table_frozen_elements(const ParamTable *table)
{
    return table->frozen_elements;
}

int64_t param_table_trainable_parameters(const ParamTable *table)
{
    return table->trainable_parameters;
}

Shape param_file_shape(const Param *param)
{
    const int64_t *d = param->shape.dim;
    switch (param->layout) {
    case PARAM_CONV:
        return SHAPE4(d[0], d[3], d[1], d[2]);
    case PARAM_CONV1D:
        return SHAPE3(d[0], d[1], 1);
    case PARAM_PLAIN:
        break;
    }
    return param->shape;
}

void param_to_file(const Param *param, const float *engine, float *file)
{
    if (param->layout != PARAM_CONV) {
        memcpy(file, engine, (size_t)param->count * sizeof *file);
        return;
    }
    const int64_t o = param->shape.dim[0], taps = param->shape.dim[1] * param->shape.dim[2], c = param->shape.dim[3];
    for (int64_t i = 0; i < o; i++) {
        for (int64_t j = 0; j < c; j++) {
            for (int64_t k = 0; k < taps; k++) file[(i * c + j) * taps + k] = engine[(i * taps + k) * c + j];
        }
    }
}

void param_from_file(const Param *param, const float *file, float *engine)
{
    if (param->layout != PARAM_CONV) {
        memcpy(engine, file, (size_t)param->count * sizeof *engine);
        return;
    }
    const int64_t o = param->shape.dim[0], taps = param->shape.dim[1] * param->shape.dim[2], c = param->shape.dim[3];
    for (int64_t i = 0; i < o; i++) {
        for (int64_t k = 0; k < taps; k++) {
            for (int64_t j = 0; j < c; j++) engine[(i * taps + k) * c + j] = file[(i * c + j) * taps + k];
        }
    }
}

/* A zeroed buffer that is never empty, so that NULL means failure (or absence) alone. */
static float *alloc_elements(int64_t elements)
{
    return mem_alloc_aligned((size_t)(elements > 0 ? elements : PARAM_ALIGN) * sizeof(float));
}

Status param_store_create(const ParamTable *table, bool with_grads, ParamStore *out)
{
    Status status = STATUS_OK;
    *out = (ParamStore){.table = table};
    if (!table->laid_out) FAIL(ERR_INTERNAL, "a parameter store needs a table that is laid out");
    out->weights = alloc_elements(table->trainable_elements);
    out->frozen = alloc_elements(table->frozen_elements);
    if (with_grads) out->grads = alloc_elements(table->trainable_elements);
    out->bound = mem_alloc_array(table->size + 1, sizeof *out->bound);
    if (!out->weights || !out->frozen || !out->bound || (with_grads && !out->grads)) {
        FAIL(ERR_MEMORY, "no memory for %.0f MB of weights%s",
             4e-6 * ((double)table->trainable_elements + (double)table->frozen_elements),
             with_grads ? " and their gradients" : "");
    }
    return STATUS_OK;
fail:
    param_store_free(out);
    return status;
}

void param_store_free(ParamStore *store)
{
    param_image_free(store->image);
    mem_free_aligned(store->weights);
    mem_free_aligned(store->grads);
    mem_free_aligned(store->frozen);
    free(store->bound);
    *store = (ParamStore){0};
}

Status param_store_bind(ParamStore *store, int32_t index, const float *values)
{
    Status status = STATUS_OK;
    if (index < 0 || index >= param_table_size(store->table))
        FAIL(ERR_INTERNAL, "there is no parameter %d to bind", index);
    const Param *param = param_table_get(store->table, index);
    if (param->trainable) FAIL(ERR_INTERNAL, "parameter %s is trained, so its values cannot be bound", param->name);
    if (!values || (uintptr_t)values % sizeof *values)
        FAIL(ERR_INTERNAL, "parameter %s: its values at %p are not at a multiple of 4", param->name,
             (const void *)values);
    store->bound[index] = values;
fail:
    return status;
}

bool param_store_is_bound(const ParamStore *store, int32_t index)
{
    return store->bound[index] != NULL;
}

void param_store_align(const ParamStore *store, int32_t index, size_t alignment)
{
    const Param *param = param_table_get(store->table, index);
    const float *values = store->bound[index];
    if (!values || (uintptr_t)values % alignment == 0) return;
    store->bound[index] = NULL;
    memcpy(param_store_weight(store, index), values, (size_t)param->count * sizeof *values);
}

float *param_store_weight(const ParamStore *store, int32_t index)
{
    const Param *param = param_table_get(store->table, index);
    if (store->bound[index]) {
        union {
            const float *in;
            float *out;
        } values = {store->bound[index]};
        return values.out;
    }
    return (param->trainable ? store->weights : store->frozen) + param->offset;
}

float *param_store_grad(const ParamStore *store, int32_t index)
{
    const Param *param = param_table_get(store->table, index);
    return param->trainable && store->grads ? store->grads + param->offset : NULL;
}
