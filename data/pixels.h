/* Pixels from bytes to what networks read: v / 127.5 - 1, from [0, 255] to [-1, 1]. */
#ifndef DATA_PIXELS_H
#define DATA_PIXELS_H

#include <stddef.h>
#include <stdint.h>

void pixels_to_floats(const uint8_t *in, size_t count, float *out);

#endif
