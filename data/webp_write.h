/* Writing 8-bit RGB pictures as lossy WebP, for pages that must stay small. */
#ifndef DATA_WEBP_WRITE_H
#define DATA_WEBP_WRITE_H

#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"

/* rgb: (height, width, 3), sides of 1 to 16383; quality: 0 to 100. Appended to `out`. */
Status webp_encode_rgb(int width, int height, const uint8_t *rgb, double quality, StrBuf *out);

#endif
