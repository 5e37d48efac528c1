#include "data/resize.h"

#include <math.h>
#include <stdlib.h>
#include <stdint.h>
#include <string.h>

#include "base/arena.h"

#define SUPPORT 2.0

/* Keys 1981, equation 15 with a = -1/2. */
static double cubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
    return 0;
}

/* first[i], taps[i]: the source pixels that target pixel i takes; weights: (to, max_taps), each row sums to 1. */
static Status make_weights(Resizer *r, int from, int to)
{
    Status status = STATUS_OK;
    if (r->from == from && r->to == to) return STATUS_OK;
    r->from = r->to = 0;
    double scale = (double)from / to;
    double stretch = scale > 1 ? scale : 1;
    double support = SUPPORT * stretch;
    int max_taps = (int)ceil(support) * 2 + 1;
    if (max_taps > from) max_taps = from;
    size_t count;
    if (!mem_mul_size((size_t)to, (size_t)max_taps, &count)) FAIL(ERR_LIMIT, "resize from %d to %d", from, to);
    TRY(mem_grow(&r->first, &r->first_capacity, (size_t)to, sizeof r->first[0]));
    TRY(mem_grow(&r->taps, &r->taps_capacity, (size_t)to, sizeof r->taps[0]));
    TRY(mem_grow(&r->weights, &r->weights_capacity, count, sizeof r->weights[0]));
    for (int i = 0; i < to; i++) {
        double center = (i + 0.5) * scale;
        int low = (int)fmax(center - support + 0.5, 0);
        int high = (int)fmin(center + support + 0.5, from);
        int taps = high - low < max_taps ? high - low : max_taps;
        float *w = r->weights + (size_t)i * (size_t)max_taps;
        double sum = 0;
        for (int k = 0; k < taps; k++) sum += cubic((k + low - center + 0.5) / stretch);
        for (int k = 0; k < taps; k++) w[k] = (float)(cubic((k + low - center + 0.5) / stretch) / sum);
        r->first[i] = low;
        r->taps[i] = taps;
    }
    r->max_taps = max_taps;
    r->from = from;
    r->to = to;
    return STATUS_OK;
fail:
    return status;
}

typedef float Float4 __attribute__((vector_size(16)));
typedef int32_t Int4 __attribute__((vector_size(16)));
typedef uint8_t Byte4 __attribute__((vector_size(4)));

/* Rounded and clipped to 0..255. */
static Int4 to_levels(Float4 sum)
{
    Int4 level = __builtin_convertvector(sum + 0.5f, Int4); /* cuts towards 0; what is negative becomes 0 below */
    Int4 above = level > 255;
    level &= level > 0;
    return (level & ~above) | (above & 255);
}

#define ROWS 4    /* taken together: their sums do not wait for each other */
#define COLUMNS 4 /* Float4s of a row taken together */

/* Four rows of (from, 3) bytes, `pitch` apart, to levels 0..255 in four rows of the middle picture. A pixel is taken as
 * a Float4 whose fourth number belongs to the next pixel and does no harm. */
static void resize_rows(const Resizer *r, const uint8_t *in, size_t pitch, float *values, float *out, size_t out_pitch)
{
    size_t width = (size_t)r->from * 3, value_pitch = width + 4;
    for (size_t y = 0; y < ROWS; y++)
        for (size_t x = 0; x < width; x++) values[y * value_pitch + x] = in[y * pitch + x];
    for (int i = 0; i < r->to; i++) {
        const float *w = r->weights + (size_t)i * (size_t)r->max_taps;
        const float *p = values + 3 * (size_t)r->first[i];
        Float4 sum[ROWS] = {{0}};
        for (int k = 0; k < r->taps[i]; k++, p += 3)
            for (size_t y = 0; y < ROWS; y++) {
                Float4 pixel;
                memcpy(&pixel, p + y * value_pitch, sizeof pixel);
                sum[y] += pixel * w[k];
            }
        for (size_t y = 0; y < ROWS; y++) {
            /* The fourth lies where the next pixel goes, and behind the last one in the padding. */
            Float4 level = __builtin_convertvector(to_levels(sum[y]), Float4);
            memcpy(out + y * out_pitch + 3 * (size_t)i, &level, sizeof level);
        }
    }
}

/* One row of the result, `width` numbers, from the middle picture, whose rows are padded to whole groups of COLUMNS. */
static void resize_column(const Resizer *r, int i, const float *middle, size_t pitch, size_t width, uint8_t *out)
{
    const float *w = r->weights + (size_t)i * (size_t)r->max_taps;
    for (size_t x = 0; x < width; x += 4 * COLUMNS) {
        const float *p = middle + (size_t)r->first[i] * pitch + x;
        Float4 sum[COLUMNS] = {{0}};
        for (int k = 0; k < r->taps[i]; k++, p += pitch)
            for (int c = 0; c < COLUMNS; c++) sum[c] += ((const Float4 *)(const void *)p)[c] * w[k];
        for (size_t c = 0; c < COLUMNS; c++) {
            Byte4 bytes = __builtin_convertvector(to_levels(sum[c]), Byte4);
            size_t at = x + 4 * c;
            if (at < width) memcpy(out + at, &bytes, width - at < 4 ? width - at : 4);
        }
    }
}

/* 64-byte aligned and at least `count` floats; what it held is lost. */
static Status make_room(float **buffer, size_t *capacity, size_t count)
{
    if (count <= *capacity) return STATUS_OK;
    mem_free_aligned(*buffer);
    *capacity = 0;
    *buffer = mem_alloc_aligned(count * sizeof(float));
    if (!*buffer) return status_trace(ERR_MEMORY, __FILE__, __LINE__);
    *capacity = count;
    return STATUS_OK;
}

Status resize_box(Resizer *r, const uint8_t *rgb, size_t pitch, int width, int height, int to_width, int to_height,
                  uint8_t *out)
{
    Status status = STATUS_OK;
    size_t out_pitch = (size_t)to_width * 3;
    if (width == to_width && height == to_height) {
        for (size_t y = 0; y < (size_t)height; y++) memcpy(out + y * out_pitch, rgb + y * pitch, out_pitch);
        return STATUS_OK;
    }
    TRY(make_weights(r, width, to_width));
    size_t middle_pitch = (out_pitch / (4 * COLUMNS) + 1) * (4 * COLUMNS); /* at least one more than out_pitch */
    TRY(make_room(&r->values, &r->values_capacity, ((size_t)width * 3 + 4) * ROWS));
    TRY(make_room(&r->middle, &r->middle_capacity, ((size_t)height + ROWS) * middle_pitch));
    for (int y = 0; y < height; y += height < ROWS ? 1 : ROWS) {
        /* The last rows may be taken twice; a tiny picture's rows are taken four times each, the copies overwritten. */
        size_t at = (size_t)(height < ROWS || y <= height - ROWS ? y : height - ROWS);
        resize_rows(r, rgb + at * pitch, height < ROWS ? 0 : pitch, r->values, r->middle + at * middle_pitch,
                    middle_pitch);
    }
    TRY(make_weights(r, height, to_height));
    for (int y = 0; y < to_height; y++)
        resize_column(r, y, r->middle, middle_pitch, out_pitch, out + (size_t)y * out_pitch);
    return STATUS_OK;
fail:
    return status;
}

Status resize_square(Resizer *r, const uint8_t *rgb, int width, int height, int resolution, uint8_t *out)
{
    int side = width < height ? width : height;
    size_t pitch = (size_t)width * 3;
    const uint8_t *corner = rgb + (size_t)((height - side) / 2) * pitch + (size_t)((width - side) / 2) * 3;
    return resize_box(r, corner, pitch, side, side, resolution, resolution, out);
}

void resizer_free(Resizer *r)
{
    free(r->first);
    free(r->taps);
    free(r->weights);
    mem_free_aligned(r->values);
    mem_free_aligned(r->middle);
    *r = (Resizer){0};
}
