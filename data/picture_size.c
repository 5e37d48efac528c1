#include "data/picture_size.h"

#include <string.h>

#include <webp/decode.h>

#include "data/picture.h"

static int64_t big_endian(const uint8_t *data, int bytes)
{
    int64_t value = 0;
    for (int i = 0; i < bytes; i++) value = value << 8 | data[i];
    return value;
}

/* The header chunk comes first (PNG specification, 11.2.2). */
static Status png_size(const uint8_t *data, size_t size, int64_t *width, int64_t *height)
{
    Status status = STATUS_OK;
    if (size < 24) return STATUS_END;
    if (memcmp(data + 12, "IHDR", 4) != 0) FAIL(ERR_FORMAT, "PNG: broken header");
    *width = big_endian(data + 16, 4);
    *height = big_endian(data + 20, 4);
fail:
    return status;
}

/* A frame header SOF0 to SOF15, which has the markers C0 to CF but for DHT, JPG and DAC (ITU-T T.81, table B.1). */
static bool is_frame(uint8_t marker)
{
    return marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
}

/* TEM, RST0 to RST7; and 0, which makes no marker of the FF before it. */
static bool has_no_segment(uint8_t marker)
{
    return marker <= 0x01 || (marker >= 0xd0 && marker <= 0xd7);
}

/* From marker to marker until the frame header: 8 bits of precision, then height and width (T.81, B.2.2). */
static Status jpeg_size(const uint8_t *data, size_t size, int64_t *width, int64_t *height)
{
    Status status = STATUS_OK;
    size_t at = 2;
    for (;;) {
        while (at < size && data[at] != 0xff) at++; /* decoders pass over bytes between segments, too */
        while (at < size && data[at] == 0xff) at++; /* a marker may have fill bytes before it */
        if (at >= size) return STATUS_END;
        uint8_t marker = data[at];
        if (has_no_segment(marker)) {
            at++;
            continue;
        }
        if (marker >= 0xd8 && marker <= 0xda) FAIL(ERR_FORMAT, "JPEG: no frame header before its bytes");
        if (at + 3 > size) return STATUS_END;
        size_t length = (size_t)big_endian(data + at + 1, 2);
        if (length < 2) length = 2; /* as libjpeg takes it */
        if (is_frame(marker)) {
            if (at + 8 > size) return STATUS_END;
            *height = big_endian(data + at + 4, 2);
            *width = big_endian(data + at + 6, 2);
            return STATUS_OK;
        }
        at += 1 + length;
    }
fail:
    return status;
}

static Status webp_size(const uint8_t *data, size_t size, int64_t *width, int64_t *height)
{
    WebPBitstreamFeatures features;
    VP8StatusCode code = WebPGetFeatures(data, size, &features);
    if (code == VP8_STATUS_NOT_ENOUGH_DATA) return STATUS_END;
    if (code != VP8_STATUS_OK) return status_fail(ERR_FORMAT, __FILE__, __LINE__, "WebP: broken header");
    *width = features.width;
    *height = features.height;
    return STATUS_OK;
}

Status picture_read_size(const uint8_t *data, size_t size, int64_t *width, int64_t *height)
{
    Status status = STATUS_OK;
    *width = *height = 0;
    switch (picture_sniff(data, size)) {
    case PICTURE_PNG:
        status = png_size(data, size, width, height);
        break;
    case PICTURE_JPEG:
        status = jpeg_size(data, size, width, height);
        break;
    case PICTURE_WEBP:
        status = webp_size(data, size, width, height);
        break;
    case PICTURE_UNKNOWN:
        FAIL(ERR_FORMAT, "neither PNG nor JPEG nor WebP by its first bytes");
    }
    if (status == STATUS_OK && (*width < 1 || *height < 1))
        FAIL(ERR_FORMAT, "a picture of %lldx%lld", (long long)*width, (long long)*height);
fail:
    return status;
}
