#include "data/picture.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

#define KEEP_BYTES ((size_t)32 << 20)

PictureType picture_sniff(const uint8_t *data, size_t size)
{
    if (size >= 8 && memcmp(data, "\x89PNG\r\n\x1a\n", 8) == 0) return PICTURE_PNG;
    if (size >= 3 && memcmp(data, "\xff\xd8\xff", 3) == 0) return PICTURE_JPEG;
    if (size >= 12 && memcmp(data, "RIFF", 4) == 0 && memcmp(data + 8, "WEBP", 4) == 0) return PICTURE_WEBP;
    return PICTURE_UNKNOWN;
}

const char *picture_type_name(PictureType type)
{
    static const char *const names[] = {"unknown", "PNG", "JPEG", "WebP"};
    return names[type];
}

Status picture_decode(const uint8_t *data, size_t size, const PictureLimits *limits, Picture *picture)
{
    picture->width = picture->height = 0;
    switch (picture_sniff(data, size)) {
    case PICTURE_PNG:
        return picture_decode_png(data, size, limits, picture);
    case PICTURE_JPEG:
        return picture_decode_jpeg(data, size, limits, NULL, NULL, picture);
    case PICTURE_WEBP:
        return picture_decode_webp(data, size, limits, picture);
    case PICTURE_UNKNOWN:
        break;
    }
    return status_fail(ERR_FORMAT, __FILE__, __LINE__, "neither PNG nor JPEG nor WebP by its first bytes");
}

PictureSquare picture_square(const PictureCut *cut, int width, int height, int scale, int *x, int *y)
{
    int side = width < height ? width : height, longer = width < height ? height : width;
    int at = cut->anywhere ? (int)((uint64_t)cut->place * (uint64_t)(longer - side + 1) >> 32) : (longer - side) / 2;
    int left = width > height ? at : 0, top = height > width ? at : 0;
    *x = left / scale;
    *y = top / scale;
    return (PictureSquare){.width = (left + side - 1) / scale + 1 - *x,
                           .height = (top + side - 1) / scale + 1 - *y,
                           .x = (double)left / scale - *x,
                           .y = (double)top / scale - *y,
                           .side = (double)side / scale};
}

Status picture_decode_square(const uint8_t *data, size_t size, const PictureLimits *limits, const PictureCut *cut,
                             const PictureSink *sink, Picture *picture)
{
    Status status = STATUS_OK;
    int x, y;
    if (picture_sniff(data, size) == PICTURE_JPEG) return picture_decode_jpeg(data, size, limits, cut, sink, picture);
    TRY(picture_decode(data, size, limits, picture));
    if (!sink) return STATUS_OK;
    PictureSquare square = picture_square(cut, picture->width, picture->height, 1, &x, &y);
    size_t pitch = (size_t)picture->width * 3;
    TRY(sink->begin(sink->context, &square));
    sink->rows(sink->context, picture->rgb + (size_t)y * pitch + (size_t)x * 3, pitch, square.height);
fail:
    return status;
}

Status picture_check(Picture *picture, int64_t width, int64_t height, const PictureLimits *limits)
{
    Status status = STATUS_OK;
    if (width <= 0 || height <= 0 || width > INT32_MAX || height > INT32_MAX)
        FAIL(ERR_FORMAT, "a picture of %" PRId64 "x%" PRId64, width, height);
    picture->width = (int)width;
    picture->height = (int)height;
    if (width > limits->max_pixels / height)
        FAIL(ERR_LIMIT, "%" PRId64 "x%" PRId64 " is more than data.limits.picture_pixels (%" PRId64 ")", width, height,
             limits->max_pixels);
    if (width < limits->min_side || height < limits->min_side)
        FAIL(ERR_UNSUPPORTED, "%" PRId64 "x%" PRId64 ", wanted at least %" PRId64, width, height, limits->min_side);
fail:
    return status;
}

Status picture_make_room(Picture *picture, int64_t width, int64_t height, int channels)
{
    size_t pixels, bytes;
    if (!mem_mul_size((size_t)width, (size_t)height, &pixels) || !mem_mul_size(pixels, (size_t)channels, &bytes))
        return status_fail(ERR_LIMIT, __FILE__, __LINE__, "a picture of %" PRId64 "x%" PRId64, width, height);
    if (bytes <= picture->capacity) return STATUS_OK;
    free(picture->rgb);
    picture->capacity = 0;
    picture->rgb = mem_alloc_array(bytes, 1);
    if (!picture->rgb) return status_trace(ERR_MEMORY, __FILE__, __LINE__);
    picture->capacity = bytes;
    return STATUS_OK;
}

void picture_drop_alpha(uint8_t *rgba, size_t count)
{
    const uint8_t *in = rgba;
    uint8_t *out = rgba; /* never ahead of `in` */
    for (size_t i = 0; i < count; i++, in += 4, out += 3) {
        unsigned alpha = in[3];
        for (int c = 0; c < 3; c++) out[c] = (uint8_t)((in[c] * alpha + 255u * (255u - alpha) + 127u) / 255u);
    }
}

void picture_trim(Picture *picture)
{
    if (picture->capacity > KEEP_BYTES) picture_free(picture);
}

void picture_free(Picture *picture)
{
    free(picture->rgb);
    *picture = (Picture){0};
}
