/* Writing 8-bit RGB pictures as PNG. */
#ifndef DATA_PNG_WRITE_H
#define DATA_PNG_WRITE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"

/* rgb: (height, width, 3). keys[i]: 1 to 79 printable ASCII characters; values[i]: UTF-8, written as an uncompressed
 * iTXt chunk. The file is complete or absent. */
Status png_write_rgb(const char *path, int width, int height, const uint8_t *rgb, const char *const *keys,
                     const char *const *values, int count);
/* The same into memory, appended to `out`. */
Status png_encode_rgb(int width, int height, const uint8_t *rgb, const char *const *keys, const char *const *values,
                      int count, StrBuf *out);

/* Whether a path ends in .png, in small or large letters, with something before it. */
bool png_is_name(const char *path);

#endif
