#include "engine/tensor.h"

#include <inttypes.h>
#include <stdio.h>

size_t dtype_size(Dtype dtype)
{
    switch (dtype) {
    case DTYPE_F32:
        return 4;
    case DTYPE_BF16:
        return 2;
    case DTYPE_I32:
        return 4;
    case DTYPE_COUNT:
        break;
    }
    return 0;
}

const char *dtype_name(Dtype dtype)
{
    switch (dtype) {
    case DTYPE_F32:
        return "f32";
    case DTYPE_BF16:
        return "bf16";
    case DTYPE_I32:
        return "i32";
    case DTYPE_COUNT:
        break;
    }
    return "?";
}

int64_t shape_count(const Shape *shape)
{
    int64_t count = 1;
    for (int32_t i = 0; i < shape->ndim; i++) count *= shape->dim[i];
    return count;
}

int64_t shape_rows(const Shape *shape)
{
    int64_t rows = 1;
    for (int32_t i = 0; i + 1 < shape->ndim; i++) rows *= shape->dim[i];
    return rows;
}

int64_t shape_last(const Shape *shape)
{
    return shape->ndim > 0 ? shape->dim[shape->ndim - 1] : 1;
}

bool shape_equal(const Shape *a, const Shape *b)
{
    if (a->ndim != b->ndim) return false;
    for (int32_t i = 0; i < a->ndim; i++) {
        if (a->dim[i] != b->dim[i]) return false;
    }
    return true;
}

void shape_format(const Shape *shape, char *out, size_t capacity)
{
    if (capacity == 0) return;
    out[0] = '\0';
    size_t used = 0;
    for (int32_t i = 0; i < shape->ndim && used < capacity; i++) {
        const int n = snprintf(out + used, capacity - used, "%s%" PRId64, i == 0 ? "" : "x", shape->dim[i]);
        if (n < 0) return;
        used += (size_t)n;
    }
}
