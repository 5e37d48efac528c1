#include "data/pixels.h"

void pixels_to_floats(const uint8_t *restrict in, size_t count, float *restrict out)
{
    for (size_t i = 0; i < count; i++) out[i] = (float)in[i] / 127.5f - 1.0f;
}
