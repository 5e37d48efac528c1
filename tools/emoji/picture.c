#include "emoji/picture.h"

#include <math.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/file.h"

#define PIXEL_LIMIT (16u << 20)
#define FILE_LIMIT (64u << 20)

void picture_free(Picture *picture)
{
    free(picture->rgb);
    *picture = (Picture){0};
}

static Status picture_create(int width, int height, Picture *out)
{
    Status status = STATUS_OK;
    *out = (Picture){.width = width, .height = height};
    if (width < 1 || height < 1 || (uint64_t)width * (uint64_t)height > PIXEL_LIMIT) {
        FAIL(ERR_LIMIT, "a picture of %d x %d pixels; at most 16 Mpixel", width, height);
    }
    out->rgb = mem_alloc_array((size_t)width * (size_t)height, 3);
    if (!out->rgb) FAIL(ERR_MEMORY, "no memory for a picture of %d x %d", width, height);
fail:
    return status;
}

Status picture_decode(const void *png, size_t size, const char *name, Picture *out)
{
    Status status = STATUS_OK;
    uint8_t *rgba = NULL;
    *out = (Picture){0};
    png_image image = {.version = PNG_IMAGE_VERSION};
    if (!png_image_begin_read_from_memory(&image, png, size)) {
        FAIL(ERR_FORMAT, "%s: not a readable PNG: %s", name, image.message);
    }
    if ((uint64_t)image.width * image.height > PIXEL_LIMIT) {
        FAIL(ERR_LIMIT, "%s: %u x %u pixels; at most 16 Mpixel", name, image.width, image.height);
    }
    image.format = PNG_FORMAT_RGBA;
    rgba = mem_alloc_array((size_t)image.width * image.height, 4);
    if (!rgba) FAIL(ERR_MEMORY, "%s: no memory for %u x %u pixels", name, image.width, image.height);
    if (!png_image_finish_read(&image, NULL, rgba, 0, NULL)) {
        FAIL(ERR_FORMAT, "%s: broken PNG: %s", name, image.message);
    }
    TRY(picture_create((int)image.width, (int)image.height, out));
    for (size_t i = 0; i < (size_t)image.width * image.height; i++) {
        unsigned alpha = rgba[4 * i + 3];
        for (size_t c = 0; c < 3; c++) {
            out->rgb[3 * i + c] = (uint8_t)((rgba[4 * i + c] * alpha + 255u * (255u - alpha) + 127u) / 255u);
        }
    }
fail:
    png_image_free(&image);
    free(rgba);
    if (status != STATUS_OK) picture_free(out);
    return status;
}

Status picture_load(const char *path, Picture *out)
{
    Status status = STATUS_OK;
    char *data = NULL;
    size_t size = 0;
    *out = (Picture){0};
    TRY(file_read(path, FILE_LIMIT, &data, &size));
    TRY(picture_decode(data, size, path, out));
fail:
    free(data);
    return status;
}

Status picture_encode(const Picture *picture, uint8_t **png, size_t *size)
{
    Status status = STATUS_OK;
    uint8_t *bytes = NULL;
    png_image image = {.version = PNG_IMAGE_VERSION,
                       .width = (png_uint_32)picture->width,
                       .height = (png_uint_32)picture->height,
                       .format = PNG_FORMAT_RGB};
    png_alloc_size_t room = PNG_IMAGE_PNG_SIZE_MAX(image);
    bytes = mem_alloc_array(room, 1);
    if (!bytes) FAIL(ERR_MEMORY, "no memory to write a PNG of %d x %d", picture->width, picture->height);
    if (!png_image_write_to_memory(&image, bytes, &room, 0, picture->rgb, 0, NULL)) {
        FAIL(ERR_INTERNAL, "libpng cannot write a picture of %d x %d: %s", picture->width, picture->height,
             image.message);
    }
    *png = bytes;
    *size = room;
    bytes = NULL;
fail:
    png_image_free(&image);
    free(bytes);
    return status;
}

Status picture_crop_middle(const Picture *in, int width, int height, Picture *out)
{
    Status status = STATUS_OK;
    TRY(picture_create(width, height, out));
    memset(out->rgb, 255, (size_t)width * (size_t)height * 3);
    int left = (in->width - width) / 2, top = (in->height - height) / 2;
    for (int y = 0; y < height; y++) {
        if (y + top < 0 || y + top >= in->height) continue;
        for (int x = 0; x < width; x++) {
            if (x + left < 0 || x + left >= in->width) continue;
            memcpy(out->rgb + ((size_t)y * (size_t)width + (size_t)x) * 3,
                   in->rgb + ((size_t)(y + top) * (size_t)in->width + (size_t)(x + left)) * 3, 3);
        }
    }
fail:
    return status;
}

/* The share of source cell `s` that lies within destination cell `d`, both spanning the same length. */
static double overlap(int s, int d, int from, int to)
{
    double scale = (double)from / to, low = fmax(s, d * scale), high = fmin(s + 1, (d + 1) * scale);
    return high > low ? high - low : 0;
}

Status picture_shrink(const Picture *in, int width, int height, Picture *out)
{
    Status status = STATUS_OK;
    *out = (Picture){0};
    if (width > in->width || height > in->height) {
        FAIL(ERR_USAGE, "cannot make %d x %d pixels from %d x %d: this only shrinks", width, height, in->width,
             in->height);
    }
    TRY(picture_create(width, height, out));
    double area = (double)in->width / width * ((double)in->height / height);
    for (int y = 0; y < height; y++) {
        int top = (int)((int64_t)y * in->height / height);
        int bottom = (int)(((int64_t)(y + 1) * in->height + height - 1) / height);
        for (int x = 0; x < width; x++) {
            int left = (int)((int64_t)x * in->width / width);
            int right = (int)(((int64_t)(x + 1) * in->width + width - 1) / width);
            double sum[3] = {0};
            for (int v = top; v < bottom; v++) {
                double row = overlap(v, y, in->height, height);
                for (int u = left; u < right; u++) {
                    double weight = row * overlap(u, x, in->width, width);
                    const uint8_t *pixel = in->rgb + ((size_t)v * (size_t)in->width + (size_t)u) * 3;
                    for (int c = 0; c < 3; c++) sum[c] += weight * pixel[c];
                }
            }
            uint8_t *pixel = out->rgb + ((size_t)y * (size_t)width + (size_t)x) * 3;
            for (int c = 0; c < 3; c++) pixel[c] = (uint8_t)(sum[c] / area + 0.5);
        }
    }
fail:
    return status;
}
