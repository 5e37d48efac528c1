#include "data/resize.h"

#include <math.h>
#include <stdlib.h>
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

static uint8_t to_level(float v)
{
    v += 0.5f;
    return v <= 0 ? 0 : v >= 255 ? 255 : (uint8_t)v;
}

typedef float Pixel __attribute__((vector_size(16))); /* R, G, B and one unused */

/* One row: (from, 3) bytes to (to, 3). `row`: room for from pixels. */
static void shrink_row(const Resizer *r, const uint8_t *in, Pixel *row, uint8_t *out)
{
    for (int x = 0; x < r->from; x++) row[x] = (Pixel){in[3 * x], in[3 * x + 1], in[3 * x + 2], 0};
    for (int i = 0; i < r->to; i++) {
        const float *w = r->weights + (size_t)i * (size_t)r->max_taps;
        const Pixel *p = row + r->first[i];
        Pixel sum = {0, 0, 0, 0};
        for (int k = 0; k < r->taps[i]; k++) sum += p[k] * w[k];
        for (int c = 0; c < 3; c++) out[3 * i + c] = to_level(sum[c]);
    }
}

static void shrink_column(const Resizer *r, int i, const uint8_t *middle, float *sum, uint8_t *out)
{
    size_t pitch = (size_t)r->to * 3;
    const float *w = r->weights + (size_t)i * (size_t)r->max_taps;
    memset(sum, 0, pitch * sizeof sum[0]);
    for (int k = 0; k < r->taps[i]; k++) {
        const uint8_t *in = middle + (size_t)(r->first[i] + k) * pitch;
        float weight = w[k];
        for (size_t x = 0; x < pitch; x++) sum[x] += weight * (float)in[x];
    }
    for (size_t x = 0; x < pitch; x++) out[x] = to_level(sum[x]);
}

Status resize_square(Resizer *r, const uint8_t *rgb, int width, int height, int resolution, uint8_t *out)
{
    Status status = STATUS_OK;
    int side = width < height ? width : height;
    size_t pitch = (size_t)width * 3, out_pitch = (size_t)resolution * 3;
    const uint8_t *corner = rgb + (size_t)((height - side) / 2) * pitch + (size_t)((width - side) / 2) * 3;
    if (side == resolution) {
        for (size_t y = 0; y < (size_t)side; y++) memcpy(out + y * out_pitch, corner + y * pitch, out_pitch);
        return STATUS_OK;
    }
    TRY(make_weights(r, side, resolution));
    TRY(mem_grow(&r->row, &r->row_capacity, (size_t)side * 4 + 4, sizeof r->row[0]));
    TRY(mem_grow(&r->sum, &r->sum_capacity, out_pitch, sizeof r->sum[0]));
    TRY(mem_grow(&r->middle, &r->middle_capacity, (size_t)side * out_pitch, 1));
    /* malloc aligns to 16, which Pixel needs. */
    for (size_t y = 0; y < (size_t)side; y++)
        shrink_row(r, corner + y * pitch, (Pixel *)(void *)r->row, r->middle + y * out_pitch);
    for (int y = 0; y < resolution; y++) shrink_column(r, y, r->middle, r->sum, out + (size_t)y * out_pitch);
    return STATUS_OK;
fail:
    return status;
}

void resizer_free(Resizer *r)
{
    free(r->first);
    free(r->taps);
    free(r->weights);
    free(r->row);
    free(r->sum);
    free(r->middle);
    *r = (Resizer){0};
}
