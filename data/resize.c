#include "data/resize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "data/resize_kernels.h"

#define SUPPORT 2.0
#define MAX_BITS 22

/* Keys 1981, equation 15 with a = -1/2. */
static double cubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
    return 0;
}

/* The weights of target pixel i, adding up to 1; returns the sum of their absolute values. */
static double exact_weights(ResizeAxis *axis, int i, double *out)
{
    double scale = axis->length / axis->to, stretch = scale > 1 ? scale : 1, support = SUPPORT * stretch;
    double center = axis->start + (i + 0.5) * scale, sum = 0, size = 0;
    int low = (int)fmax(center - support + 0.5, 0);
    int high = (int)fmin(center + support + 0.5, axis->from);
    if (low > axis->from - 1) low = axis->from - 1;
    int taps = high - low < 1 ? 1 : high - low < axis->max_taps ? high - low : axis->max_taps;
    for (int k = 0; k < taps; k++) sum += out[k] = cubic((k + low - center + 0.5) / stretch);
    if (taps == 1) sum = out[0] = 1; /* a single pixel, however far from the centre */
    for (int k = 0; k < taps; k++) size += fabs(out[k] /= sum);
    axis->first[i] = low;
    axis->taps[i] = taps;
    return size;
}

/* Whole numbers that add up to 2^bits: the running sums are rounded, so that no constant changes its level. */
static void round_weights(ResizeAxis *axis, int i, const double *exact)
{
    int16_t *w = axis->weights + (size_t)i * resize_stride(axis) + 1;
    double sum = 0, unit = ldexp(1, axis->bits);
    int32_t before = 0;
    memset(w - 1, 0, resize_stride(axis) * sizeof w[0]);
    for (int k = 0; k < axis->taps[i]; k++) {
        sum += exact[k];
        int32_t now = k == axis->taps[i] - 1 ? (int32_t)1 << axis->bits : (int32_t)lrint(sum * unit);
        w[k] = (int16_t)(now - before);
        before = now;
    }
}

static Status make_axis(ResizeAxis *axis, int from, double start, double length, int to)
{
    Status status = STATUS_OK;
    double *exact = NULL, most = 0, largest = 0;
    size_t count, room;
    if (axis->from == from && axis->start == start && axis->length == length && axis->to == to) return STATUS_OK;
    *axis = (ResizeAxis){.first = axis->first,
                         .taps = axis->taps,
                         .weights = axis->weights,
                         .first_capacity = axis->first_capacity,
                         .taps_capacity = axis->taps_capacity,
                         .weights_capacity = axis->weights_capacity,
                         .start = start,
                         .length = length,
                         .to = to};
    double support = SUPPORT * (length > to ? length / to : 1);
    axis->max_taps = support > from ? from : (int)ceil(support) * 2 + 1;
    if (axis->max_taps > from) axis->max_taps = from;
    axis->from = from;
    if (!mem_mul_size((size_t)to, (size_t)axis->max_taps, &count) ||
        !mem_mul_size((size_t)to, resize_stride(axis), &room))
        FAIL(ERR_LIMIT, "resize from %d to %d", from, to);
    TRY(mem_grow(&axis->first, &axis->first_capacity, (size_t)to, sizeof axis->first[0]));
    TRY(mem_grow(&axis->taps, &axis->taps_capacity, (size_t)to, sizeof axis->taps[0]));
    TRY(mem_grow(&axis->weights, &axis->weights_capacity, room, sizeof axis->weights[0]));
    exact = malloc(count * sizeof *exact);
    if (!exact) FAIL(ERR_MEMORY, "out of memory for a resize from %d to %d", from, to);
    for (int i = 0; i < to; i++) {
        double *row = exact + (size_t)i * (size_t)axis->max_taps;
        most = fmax(most, exact_weights(axis, i, row));
        for (int k = 0; k < axis->taps[i]; k++) largest = fmax(largest, fabs(row[k]));
    }
    /* Weights fit into 16 bits, rounding included, and sums of 255 of each into 32. */
    for (axis->bits = MAX_BITS; axis->bits > 1; axis->bits--)
        if (ldexp(largest, axis->bits) < 32766 && ldexp(256 * most + 1, axis->bits) + 256 * axis->max_taps < 2147483647)
            break;
    for (int i = 0; i < to; i++) round_weights(axis, i, exact + (size_t)i * (size_t)axis->max_taps);
fail:
    if (status != STATUS_OK) axis->from = 0;
    free(exact);
    return status;
}

/* 64-byte aligned and at least `count` numbers; what it held is lost. */
static Status make_room(uint32_t **buffer, size_t *capacity, size_t count)
{
    if (count <= *capacity) return STATUS_OK;
    mem_free_aligned(*buffer);
    *capacity = 0;
    *buffer = mem_alloc_aligned(count * sizeof **buffer);
    if (!*buffer) return status_trace(ERR_MEMORY, __FILE__, __LINE__);
    *capacity = count;
    return STATUS_OK;
}

const ResizeKernels *resize_kernels_available(int i)
{
    const ResizeKernels *found[3];
    int count = 0;
    found[count++] = &resize_kernels_plain;
#ifdef __x86_64__
    found[count++] = &resize_kernels_sse2;
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2")) found[count++] = &resize_kernels_avx2;
#endif
    return i >= 0 && i < count ? found[i] : NULL;
}

static const ResizeKernels *fastest(void)
{
    int i = 0;
    while (resize_kernels_available(i + 1)) i++;
    return resize_kernels_available(i);
}

/* The axis of the columns: a square's is that of its rows. */
static const ResizeAxis *down_axis(const Resizer *r)
{
    return r->square ? &r->across : &r->down;
}

Status resize_begin(Resizer *r, const ResizeShape *s, uint8_t *out)
{
    Status status = STATUS_OK;
    if (!r->kernels) r->kernels = fastest();
    r->square = s->width == s->height && s->x == s->y && s->box_width == s->box_height && s->to_width == s->to_height;
    TRY(make_axis(&r->across, s->width, s->x, s->box_width, s->to_width));
    if (!r->square) TRY(make_axis(&r->down, s->height, s->y, s->box_height, s->to_height));
    /* A row of the result needs max_taps rows, which may begin with an odd one; two pairs come at once. */
    int pairs = down_axis(r)->max_taps / 2 + 1 + RESIZE_ROWS;
    for (r->ring = 1; r->ring < pairs;) r->ring *= 2;
    r->middle_pitch = ((size_t)s->to_width * 3 / RESIZE_PITCH + 1) * RESIZE_PITCH; /* at least one more than written */
    size_t count;
    if (!mem_mul_size(r->middle_pitch, (size_t)r->ring, &count)) FAIL(ERR_LIMIT, "resize to %d", s->to_width);
    TRY(make_room(&r->middle, &r->middle_capacity, count));
    TRY(mem_grow(&r->edge, &r->edge_capacity, ((size_t)s->width * 3 + RESIZE_READS) * RESIZE_ROWS, 1));
    r->out = out;
    r->mirror = s->mirror;
    r->rows_in = r->rows_out = 0;
fail:
    return status;
}

/* The rows of the result for which all is there. */
static void write_rows(Resizer *r)
{
    const ResizeAxis *down = down_axis(r);
    size_t width = (size_t)r->across.to * 3;
    for (int i = r->rows_out; i < down->to && down->first[i] + down->taps[i] <= r->rows_in; i++, r->rows_out++)
        r->kernels->column(down, i, r->middle, r->middle_pitch, r->ring - 1, width, r->out + (size_t)i * width);
}

void resize_add_rows(Resizer *r, const uint8_t *rgb, size_t pitch, int count)
{
    size_t row_bytes = (size_t)r->across.from * 3, edge_pitch = row_bytes + RESIZE_READS;
    for (int y = 0; y < count; y += RESIZE_ROWS) {
        const uint8_t *in[RESIZE_ROWS];
        uint32_t *pairs[2];
        for (int k = 0; k < RESIZE_ROWS; k++) {
            int at = y + k < count ? y + k : count - 1; /* copies of the last row have no weight */
            in[k] = rgb + (size_t)at * pitch;
            if ((size_t)(count - 1 - at) * pitch >= RESIZE_READS) continue;
            in[k] = memcpy(r->edge + (size_t)k * edge_pitch, in[k], row_bytes);
        }
        for (int p = 0; p < 2; p++)
            pairs[p] = r->middle + (size_t)((r->rows_in / 2 + p) & (r->ring - 1)) * r->middle_pitch;
        r->kernels->rows(&r->across, in, r->mirror, pairs);
        r->rows_in += count - y < RESIZE_ROWS ? count - y : RESIZE_ROWS;
        write_rows(r);
    }
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
    TRY(resize_begin(r,
                     &(ResizeShape){.width = width,
                                    .height = height,
                                    .box_width = width,
                                    .box_height = height,
                                    .to_width = to_width,
                                    .to_height = to_height},
                     out));
    resize_add_rows(r, rgb, pitch, height);
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

static void free_axis(ResizeAxis *axis)
{
    free(axis->first);
    free(axis->taps);
    free(axis->weights);
}

void resizer_free(Resizer *r)
{
    free_axis(&r->across);
    free_axis(&r->down);
    free(r->edge);
    mem_free_aligned(r->middle);
    *r = (Resizer){0};
}
