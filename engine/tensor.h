/* Shapes and element types. Everything is dense and row-major; pictures are N,H,W,C, sequences N,T,D. */
#ifndef ENGINE_TENSOR_H
#define ENGINE_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum Dtype { DTYPE_F32, DTYPE_BF16, DTYPE_I32, DTYPE_COUNT } Dtype;

#define SHAPE_MAX_DIMS 4

typedef struct Shape {
    int32_t ndim;
    int64_t dim[SHAPE_MAX_DIMS];
} Shape;

#define SHAPE1(a) ((Shape){1, {(a)}})
#define SHAPE2(a, b) ((Shape){2, {(a), (b)}})
#define SHAPE3(a, b, c) ((Shape){3, {(a), (b), (c)}})
#define SHAPE4(a, b, c, d) ((Shape){4, {(a), (b), (c), (d)}})

size_t dtype_size(Dtype dtype); /* bytes */
const char *dtype_name(Dtype dtype);
int64_t shape_count(const Shape *shape); /* elements; shapes in a graph are checked not to overflow */
int64_t shape_rows(const Shape *shape);  /* product of all but the last dimension */
int64_t shape_last(const Shape *shape);  /* the last dimension */
bool shape_equal(const Shape *a, const Shape *b);
/* "32x16x16x128" into out. */
void shape_format(const Shape *shape, char *out, size_t capacity);

#endif
