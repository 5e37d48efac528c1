/* Small RGB pictures: PNG in and out, crop, and shrinking by exact area averages. */
#ifndef EMOJI_PICTURE_H
#define EMOJI_PICTURE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct Picture {
    int width, height;
    uint8_t *rgb; /* (height, width, 3), sRGB */
} Picture;

void picture_free(Picture *picture); /* leaves an empty one */

/* Decodes a PNG, transparency laid on white (in sRGB, as browsers do). `name` is for messages. At most 16 Mpixel. */
Status picture_decode(const void *png, size_t size, const char *name, Picture *out);
Status picture_load(const char *path, Picture *out);
/* PNG bytes; the caller frees them. The same picture gives the same bytes. */
Status picture_encode(const Picture *picture, uint8_t **png, size_t *size);

/* The middle width x height of `in`; white where `in` is smaller. */
Status picture_crop_middle(const Picture *in, int width, int height, Picture *out);
/* Each output pixel is the average of the area it covers; width and height at most those of `in`. */
Status picture_shrink(const Picture *in, int width, int height, Picture *out);

#endif
