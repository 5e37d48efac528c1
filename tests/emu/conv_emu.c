/* Convolutions as products of patches with filters. */
#include <stdlib.h>
#include <string.h>

#include "dnn_emu.h"
#include "products.h"

enum { CHUNK = 64 }; /* pixels at a time */

typedef struct Pixel {
    int64_t n, h, w;
} Pixel;
static Pixel pixel(int64_t row, int64_t height, int64_t width)
{
    return (Pixel){row / (height * width), row / width % height, row % width};
}

/* The channels that filter position (i,j) joins to this pixel: of x for a pixel of y, of y for one of x. NULL: none. */
typedef const void *Source(const DnnConvSpec *s, const DnnConvArgs *args, Pixel p, int64_t i, int64_t j);

static const void *element(const void *data, Dtype type, int64_t i)
{
    return (const char *)data + i * (type == DTYPE_BF16 ? 2 : 4);
}

static const void *source_x(const DnnConvSpec *s, const DnnConvArgs *args, Pixel p, int64_t i, int64_t j)
{
    const int64_t h = p.h * s->attr.stride + i - s->attr.pad_top, w = p.w * s->attr.stride + j - s->attr.pad_left;
    if (h < 0 || h >= s->h || w < 0 || w >= s->w) return NULL;
    return element(args->x, s->type, ((p.n * s->h + h) * s->w + w) * s->c);
}

static const void *source_y(const DnnConvSpec *s, const DnnConvArgs *args, Pixel p, int64_t i, int64_t j)
{
    const int64_t h = p.h + s->attr.pad_top - i, w = p.w + s->attr.pad_left - j, stride = s->attr.stride;
    if (h < 0 || w < 0 || h % stride != 0 || w % stride != 0) return NULL;
    if (h / stride >= s->oh || w / stride >= s->ow) return NULL;
    return element(args->y, s->type, ((p.n * s->oh + h / stride) * s->ow + w / stride) * s->o);
}

/* patches (rows, kh kw channels) of the pixels from `row` on of a picture height x width. */
static void take_patches(const DnnConvSpec *s, const DnnConvArgs *args, Source *source, int64_t channels, int64_t row,
                         int64_t rows, int64_t height, int64_t width, float *patches)
{
    for (int64_t r = 0; r < rows; r++) {
        const Pixel p = pixel(row + r, height, width);
        for (int64_t i = 0; i < s->attr.kh; i++) {
            for (int64_t j = 0; j < s->attr.kw; j++, patches += channels) {
                const void *from = source(s, args, p, i, j);
                for (int64_t c = 0; c < channels; c++) patches[c] = from ? emu_get(from, s->type, c) : 0;
            }
        }
    }
}

/* Output rows (pixels) of `outs` channels = patches times filters, plus what `finish` adds. */
typedef struct Pass {
    const DnnConvSpec *spec;
    const DnnConvArgs *args;
    Source *source;
    int64_t channels, outs, height, width;
    Panels filters; /* (kh kw channels, outs) */
} Pass;

static void pass_chunk(const Pass *pass, int64_t row, int64_t rows)
{
    const DnnConvSpec *s = pass->spec;
    float *patches = emu_floats(rows * pass->filters.k), *sums = emu_floats(rows * pass->outs);
    take_patches(s, pass->args, pass->source, pass->channels, row, rows, pass->height, pass->width, patches);
    panels_multiply(rows, patches, &pass->filters, sums, false);
    for (int64_t i = 0; i < rows * pass->outs; i++) {
        float value = sums[i];
        if (s->residual) value += emu_get(pass->args->residual, s->type, row * pass->outs + i);
        if (s->bias) value += emu_get(pass->args->bias, s->type, i % pass->outs);
        emu_put(pass->args->out, s->type, row * pass->outs + i, value);
    }
    free(patches);
    free(sums);
}

static void run_pass(const Pass *pass)
{
    const int64_t total = pass->spec->n * pass->height * pass->width;
#pragma omp parallel for schedule(dynamic)
    for (int64_t row = 0; row < total; row += CHUNK) pass_chunk(pass, row, total - row < CHUNK ? total - row : CHUNK);
}

static void conv(const DnnConvSpec *s, const DnnConvArgs *args)
{
    const int64_t patch = s->attr.kh * s->attr.kw * s->c;
    Pass pass = {s, args, source_x, s->c, s->o, s->oh, s->ow, panels_of(args->w, s->type, patch, s->o, 1, patch)};
    run_pass(&pass);
    panels_free(&pass.filters);
}

static void conv_grad_x(const DnnConvSpec *s, const DnnConvArgs *args)
{
    /* Filters (o, kh kw, c) as (kh kw o, c). */
    const int64_t positions = s->attr.kh * s->attr.kw, size = s->type == DTYPE_BF16 ? 2 : 4;
    char *turned = (char *)emu_floats(positions * s->o * s->c);
    for (int64_t o = 0; o < s->o; o++) {
        for (int64_t k = 0; k < positions; k++) {
            memcpy(turned + (k * s->o + o) * s->c * size, (const char *)args->w + (o * positions + k) * s->c * size,
                   (size_t)(s->c * size));
        }
    }
    Pass pass = {s,    args, source_y, s->o,
                 s->c, s->h, s->w,     panels_of(turned, s->type, positions * s->o, s->c, s->c, 1)};
    run_pass(&pass);
    panels_free(&pass.filters);
    free(turned);
}

/* dw (o, patch) = sum over pixels of dy (pixel, o) patch (pixel) */
static void conv_grad_w(const DnnConvSpec *s, const DnnConvArgs *args)
{
    const int64_t patch = s->attr.kh * s->attr.kw * s->c, total = s->n * s->oh * s->ow, chunk = 16 * CHUNK;
    float *patches = emu_floats(chunk * patch), *dw = args->out;
    memset(dw, 0, sizeof *dw * (size_t)(s->o * patch));
    for (int64_t row = 0; row < total; row += chunk) {
        const int64_t rows = total - row < chunk ? total - row : chunk;
#pragma omp parallel for
        for (int64_t r = 0; r < rows; r++) {
            take_patches(s, args, source_x, s->c, row + r, 1, s->oh, s->ow, patches + r * patch);
        }
        Panels right = panels_of(patches, DTYPE_F32, rows, patch, patch, 1);
#pragma omp parallel for schedule(dynamic)
        for (int64_t o = 0; o < s->o; o += 4) {
            const int64_t outs = s->o - o < 4 ? s->o - o : 4;
            float *left = emu_floats(outs * rows);
            for (int64_t i = 0; i < outs; i++) {
                for (int64_t r = 0; r < rows; r++)
                    left[i * rows + r] = emu_get(args->y, s->type, (row + r) * s->o + o + i);
            }
            panels_multiply(outs, left, &right, dw + o * patch, true);
            free(left);
        }
        panels_free(&right);
    }
    free(patches);
}

void emu_conv(const DnnConvSpec *spec, const DnnConvArgs *args)
{
    switch (spec->kind) {
    case DNN_CONV:
        conv(spec, args);
        break;
    case DNN_CONV_GRAD_X:
        conv_grad_x(spec, args);
        break;
    case DNN_CONV_GRAD_W:
        conv_grad_w(spec, args);
        break;
    }
}
