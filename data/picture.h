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

/* Which square of a picture is wanted: its side is the shorter one of the picture. Decoders may leave out what lies
 * outside of it, and libjpeg may give fewer pixels of it; the pixels inside are the same as without that. */
typedef struct PictureCut {
    bool anywhere;     /* else in the middle: at floor((longer - shorter) / 2) */
    uint32_t place;    /* anywhere: at place * (longer - shorter + 1) / 2^32, so that a uniform draw is one */
    int enough_pixels; /* a JPEG is decoded at a half, quarter or eighth of its size as long as the square's side is not
                          less than this; 0: always in full */
} PictureCut;

/* The rows that hold the square, which may begin and end between their pixels when a JPEG was decoded smaller. */
typedef struct PictureSquare {
    int width, height; /* pixels that overlap it */
    double x, y, side; /* in these */
} PictureSquare;

/* What is done with the rows as they come: from the top, `count` at once, a multiple of PICTURE_STRIP but for the last.
 */
#define PICTURE_STRIP 16
typedef struct PictureSink {
    Status (*begin)(void *context, const PictureSquare *square);
    void (*rows)(void *context, const uint8_t *rgb, size_t pitch, int count);
    void *context;
} PictureSink;

/* A decoded picture and its reusable buffer. Zero-initialise; picture_free at the end. */
typedef struct Picture {
    uint8_t *rgb; /* (height, width, 3); after picture_decode_square of no meaning */
    size_t capacity;
    int width, height; /* as the file's header says, also when decoding failed after the header */
} Picture;

PictureType picture_sniff(const uint8_t *data, size_t size);
const char *picture_type_name(PictureType type);

/* ERR_FORMAT: broken or unknown; ERR_LIMIT: too many pixels; ERR_UNSUPPORTED: below min_side; ERR_MEMORY. */
Status picture_decode(const uint8_t *data, size_t size, const PictureLimits *limits, Picture *picture);
/* The square as `cut` says, to the sink; NULL: only looked at. The same pictures fail, in the same way, as with
 * picture_decode. The sink may have taken rows when a picture turns out to be broken. */
Status picture_decode_square(const uint8_t *data, size_t size, const PictureLimits *limits, const PictureCut *cut,
                             const PictureSink *sink, Picture *picture);
void picture_free(Picture *picture);
/* Gives back a buffer that one huge picture has blown up. */
void picture_trim(Picture *picture);

/* For the decoders: checks the limits and sets the size; makes room, what was there is lost. */
Status picture_check(Picture *picture, int64_t width, int64_t height, const PictureLimits *limits);
Status picture_make_room(Picture *picture, int64_t width, int64_t height, int channels);
/* The square of a picture of this size, 1/scale of it decoded: its whole pixels begin at (*x, *y). */
PictureSquare picture_square(const PictureCut *cut, int width, int height, int scale, int *x, int *y);
/* Composites `count` pixels of 4 channels on white, in place. */
void picture_drop_alpha(uint8_t *rgba, size_t count);

Status picture_decode_png(const uint8_t *data, size_t size, const PictureLimits *limits, Picture *picture);
Status picture_decode_webp(const uint8_t *data, size_t size, const PictureLimits *limits, Picture *picture);
/* `cut` NULL: all of it into `picture`. */
Status picture_decode_jpeg(const uint8_t *data, size_t size, const PictureLimits *limits, const PictureCut *cut,
                           const PictureSink *sink, Picture *picture);

#endif
