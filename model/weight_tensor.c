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

/* The piece that has the element at a place in memory order. */
static const WeightPiece *piece_at(const WeightPieces *pieces, int64_t place)
{
    int32_t low = 0, high = pieces->count - 1;
    while (low < high) {
        const int32_t middle = low + (high - low + 1) / 2;
        if (pieces->items[middle].first <= place)
            low = middle;
        else
            high = middle - 1;
    }
    return &pieces->items[low];
}

/* Where the element at a place is; *piece is the one that was looked at last, or NULL. */
static const uint8_t *element_at(const WeightTensor *t, int64_t place, size_t size, const WeightPiece **piece)
{
    if (!t->pieces) return (const uint8_t *)t->data + (size_t)place * size;
    if (!*piece || place < (*piece)->first || place >= (*piece)[1].first) *piece = piece_at(t->pieces, place);
    return (const uint8_t *)((*piece)->data + (place - (*piece)->first));
}

/* Memory order is C order. */
static bool is_ordered(const WeightTensor *t)
{
    int64_t stride = 1;
    for (int32_t d = t->ndim; d-- > 0; stride *= t->shape[d])
        if (t->shape[d] > 1 && t->stride[d] != stride) return false;
    return true;
}

/* Of a tensor in pieces and in C order. */
static void copy_pieces(const WeightTensor *t, int64_t first, int64_t count, uint8_t *out)
{
    const size_t size = sizeof *t->pieces->items->data;
    const WeightPiece *piece = piece_at(t->pieces, first);
    for (int64_t done = 0; done < count; piece++) {
        const int64_t at = first + done - piece->first, here = piece[1].first - piece->first - at;
        const int64_t n = here < count - done ? here : count - done;
        memcpy(out + (size_t)done * size, piece->data + at, (size_t)n * size);
        done += n;
    }
}

/* Strided elements one after another: the position counts up like an odometer. */
static void gather(const WeightTensor *t, int64_t first, int64_t count, uint8_t *out)
{
    const size_t size = safe_dtype_size(t->dtype);
    const WeightPiece *piece = NULL;
    int64_t position[WEIGHT_MAX_DIMS];
    if (count <= 0) return;
    if (t->pieces && is_ordered(t)) {
        copy_pieces(t, first, count, out);
        return;
    }
    int64_t place = place_of(t, first, position);
    for (int64_t i = 0; i < count; i++) {
        memcpy(out + (size_t)i * size, element_at(t, place, size, &piece), size);
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
    for (int32_t i = 0; t->pieces && i < t->pieces->count; i++) {
        const WeightPiece *piece = &t->pieces->items[i];
        file_release(piece->data, (size_t)(piece[1].first - piece->first) * sizeof *piece->data);
    }
    if (t->pieces) return;
    for (int32_t d = 0; d < t->ndim; d++) span += (size_t)(t->shape[d] - 1) * (size_t)t->stride[d];
    file_release(t->data, span * safe_dtype_size(t->dtype));
}

const float *weight_tensor_floats(const WeightTensor *t)
{
    return t->dtype == SAFE_F32 && t->contiguous && !t->pieces && (uintptr_t)t->data % sizeof(float) == 0 ? t->data
                                                                                                          : NULL;
}
