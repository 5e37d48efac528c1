#include "engine/param_image.h"

#include <stdlib.h>

#include "base/arena.h"

enum { PIECE_BYTES = 64 << 20 }; /* of one copy: bounds what a driver stages at once */

void param_image_free(ParamImage *image)
{
    if (!image) return;
    Backend *backend = image->backend;
    backend->free(backend, image->weights);
    backend->free(backend, image->grads);
    backend->free(backend, image->frozen);
    backend->free(backend, image->half_weights);
    backend->free(backend, image->half_frozen);
    free(image);
}

/* Never empty, so that NULL means failure alone. */
static void *alloc_elements(Backend *backend, int64_t elements, size_t size)
{
    return backend->alloc(backend, (size_t)(elements > 0 ? elements : PARAM_ALIGN) * size);
}

Status param_image_open(ParamStore *store, Backend *backend, bool halves)
{
    Status status = STATUS_OK;
    ParamImage *image = NULL;
    const int64_t trainable = param_table_trainable_elements(store->table);
    const int64_t frozen = param_table_frozen_elements(store->table);
    if (!backend->device) return STATUS_OK;
    if (store->image) FAIL(ERR_INTERNAL, "this parameter store has an image already");
    image = mem_alloc_array(1, sizeof *image);
    if (!image) FAIL(ERR_MEMORY, "no memory for an image of the parameters");
    image->backend = backend;
    image->weights = alloc_elements(backend, trainable, sizeof(float));
    image->frozen = alloc_elements(backend, frozen, sizeof(float));
    if (store->grads) image->grads = alloc_elements(backend, trainable, sizeof(float));
    if (halves) {
        image->half_weights = alloc_elements(backend, trainable, sizeof(uint16_t));
        image->half_frozen = alloc_elements(backend, frozen, sizeof(uint16_t));
    }
    if (!image->weights || !image->frozen || (store->grads && !image->grads) ||
        (halves && (!image->half_weights || !image->half_frozen)))
        FAIL(ERR_MEMORY, "the device has no room for %.2f GB of weights%s",
             1e-9 * (double)param_image_bytes(store->table, store->grads != NULL, halves),
             store->grads ? " and their gradients" : "");
    store->image = image;
    TRY(param_image_upload(store));
    return STATUS_OK;
fail:
    if (image && store->image != image) param_image_free(image);
    return status;
}

static Status upload(Backend *backend, float *to, const float *from, int64_t count)
{
    Status status = STATUS_OK;
    const int64_t piece = PIECE_BYTES / (int64_t)sizeof *to;
    for (int64_t at = 0; at < count; at += piece)
        TRY(backend->upload(backend, to + at, from + at,
                            (size_t)(count - at < piece ? count - at : piece) * sizeof *to));
fail:
    return status;
}

static Status download(Backend *backend, float *to, const float *from, int64_t count)
{
    Status status = STATUS_OK;
    const int64_t piece = PIECE_BYTES / (int64_t)sizeof *to;
    for (int64_t at = 0; at < count; at += piece)
        TRY(backend->download(backend, to + at, from + at,
                              (size_t)(count - at < piece ? count - at : piece) * sizeof *to));
fail:
    return status;
}

Status param_image_upload(const ParamStore *store)
{
    Status status = STATUS_OK;
    const ParamImage *image = store->image;
    const int64_t trainable = param_table_trainable_elements(store->table);
    const int64_t frozen = param_table_frozen_elements(store->table);
    if (!image) return STATUS_OK;
    Backend *backend = image->backend;
    TRY(upload(backend, image->weights, store->weights, trainable));
    for (int32_t i = 0; i < param_table_size(store->table); i++) { /* one by one: bound ones lie elsewhere */
        const Param *param = param_table_get(store->table, i);
        if (!param->trainable)
            TRY(upload(backend, image->frozen + param->offset, param_store_weight(store, i), param->count));
    }
    if (image->half_weights) TRY(backend->device->halve(backend, image->half_weights, image->weights, trainable));
    if (image->half_frozen) TRY(backend->device->halve(backend, image->half_frozen, image->frozen, frozen));
fail:
    return status;
}

Status param_image_download_weights(const ParamStore *store)
{
    const ParamImage *image = store->image;
    if (!image) return STATUS_OK;
    return download(image->backend, store->weights, image->weights, param_table_trainable_elements(store->table));
}

Status param_image_download_grads(const ParamStore *store)
{
    const ParamImage *image = store->image;
    if (!image || !image->grads) return STATUS_OK;
    return download(image->backend, store->grads, image->grads, param_table_trainable_elements(store->table));
}

int64_t param_image_bytes(const ParamTable *table, bool grads, bool halves)
{
    const int64_t trainable = param_table_trainable_elements(table), frozen = param_table_frozen_elements(table);
    return (int64_t)sizeof(float) * (trainable * (grads ? 2 : 1) + frozen) +
           (halves ? (int64_t)sizeof(uint16_t) * (trainable + frozen) : 0);
}
