/* PNG, JPEG and WebP to 8-bit RGB.
 *
 * The format is told by the first bytes, never by the name. Limits hold before anything is allocated. Grey and palette
 * pictures become RGB, 16 bits are scaled to 8, transparency is composited on white, CMYK and YCCK JPEGs are converted
 * without a colour profile. Colour profiles, gamma and the EXIF orientation are ignored, as the common Python loaders
 * ignore them. A truncated picture is an error, not a half-grey picture. Animated WebP is refused. */
#ifndef DATA_PICTURE_H
#define DATA_PICTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef enum PictureType { PICTURE_UNKNOWN, PICTURE_PNG, PICTURE_JPEG, PICTURE_WEBP } PictureType;

typedef struct PictureLimits {
    int64_t max_pixels; /* width x height */
    int64_t min_side;   /* a smaller picture is not decoded: ERR_UNSUPPORTED with width and height set */
} PictureLimits;

/* A decoded picture and its reusable buffer. Zero-initialise; picture_free at the end. */
typedef struct Picture {
    uint8_t *rgb; /* (height, width, 3) */
    size_t capacity;
    int width, height; /* as the file's header says, also when decoding failed after the header */
} Picture;

PictureType picture_sniff(const uint8_t *data, size_t size);
const char *picture_type_name(PictureType type);

/* ERR_FORMAT: broken or unknown; ERR_LIMIT: too many pixels; ERR_UNSUPPORTED: below min_side; ERR_MEMORY. */
Status picture_decode(const uint8_t *data, size_t size, const PictureLimits *limits, Picture *picture);
void picture_free(Picture *picture);
/* Gives back a buffer that one huge picture has blown up. */
void picture_trim(Picture *picture);

/* For the decoders: checks the limits, sets the size, and makes room for width x height x channels bytes. */
Status picture_begin(Picture *picture, int64_t width, int64_t height, int channels, const PictureLimits *limits);
/* rgb holds (height, width, 4): composites on white, in place. */
void picture_drop_alpha(Picture *picture);

Status picture_decode_png(const uint8_t *data, size_t size, const PictureLimits *limits, Picture *picture);
Status picture_decode_jpeg(const uint8_t *data, size_t size, const PictureLimits *limits, Picture *picture);
Status picture_decode_webp(const uint8_t *data, size_t size, const PictureLimits *limits, Picture *picture);

#endif
