/* Reading a tensor's values where they lie. */
#include <string.h>

#include "base/file.h"
#include "model/weight_file.h"

#define PIECE 4096 /* elements of a strided tensor gathered at a time */

/* The place of element `index` in C order, in elements from data. */
static int64_t place_of(const WeightTensor *t, int64_t index, int64_t position[WEIGHT_MAX_DIMS])
{
    int64_t place = 0;
    for (int32_t d = t->ndim; d-- > 0;) {
        position[d] = index % t->shape[d];
        index /= t->shape[d];
        place += position[d] * t->stride[d];
    }
    return place;
}

/* Strided elements one after another: the position counts up like an odometer. */
static void gather(const WeightTensor *t, int64_t first, int64_t count, uint8_t *out)
{
    const size_t size = safe_dtype_size(t->dtype);
    int64_t position[WEIGHT_MAX_DIMS];
    if (count <= 0) return;
    int64_t place = place_of(t, first, position);
    for (int64_t i = 0; i < count; i++) {
        memcpy(out + (size_t)i * size, (const uint8_t *)t->data + (size_t)place * size, size);
        for (int32_t d = t->ndim; d-- > 0;) {
            place += t->stride[d];
            if (++position[d] < t->shape[d]) break;
            place -= t->stride[d] * t->shape[d];
            position[d] = 0;
        }
    }
}

void weight_tensor_copy(const WeightTensor *t, int64_t first, int64_t count, void *out)
{
    const size_t size = safe_dtype_size(t->dtype);
    if (count <= 0) return;
    if (t->contiguous)
        memcpy(out, (const uint8_t *)t->data + (size_t)first * size, (size_t)count * size);
    else
        gather(t, first, count, out);
}

void weight_tensor_to_f32(const WeightTensor *t, int64_t first, int64_t count, float *out)
{
    uint8_t piece[PIECE * 8];
    SafeTensor flat = {.dtype = t->dtype};
    if (count <= 0) return;
    if (t->contiguous) {
        flat.count = count;
        flat.data = (const uint8_t *)t->data + (size_t)first * safe_dtype_size(t->dtype);
        safetensors_to_f32(&flat, out);
        return;
    }
    flat.data = piece;
    for (int64_t done = 0; done < count; done += flat.count) {
        flat.count = count - done < PIECE ? count - done : PIECE;
        gather(t, first + done, flat.count, piece);
        safetensors_to_f32(&flat, out + done);
    }
}

void weight_tensor_release(const WeightTensor *t)
{
    size_t span = 1;
    if (t->count == 0) return;
    for (int32_t d = 0; d < t->ndim; d++) span += (size_t)(t->shape[d] - 1) * (size_t)t->stride[d];
    file_release(t->data, span * safe_dtype_size(t->dtype));
}

const float *weight_tensor_floats(const WeightTensor *t)
{
    return t->dtype == SAFE_F32 && t->contiguous && (uintptr_t)t->data % sizeof(float) == 0 ? t->data : NULL;
}
