/* Width and height of a picture from its first bytes, without decoding it. */
#ifndef DATA_PICTURE_SIZE_H
#define DATA_PICTURE_SIZE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* The first `size` bytes of a PNG, JPEG or WebP. STATUS_END when these are fine and more are needed; ERR_FORMAT for
 * what is no picture of these formats or broken before its size is told. */
Status picture_read_size(const uint8_t *data, size_t size, int64_t *width, int64_t *height);

#endif
