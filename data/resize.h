/* Middle square, then antialiased bicubic to R x R: the crop and resize of Pillow-based trainers, to within 1 level.
 *
 * The crop's offset is floor((side - square) / 2). The filter is Keys' cubic with a = -0.5, its support widened by
 * the scale when shrinking; horizontal first, rounded and clipped to 8 bits in between (as Pillow does, so that
 * overshoots do not differ), then vertical. The result depends on no instruction set. */
#ifndef DATA_RESIZE_H
#define DATA_RESIZE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Reusable buffers; zero-initialise, resizer_free at the end. */
typedef struct Resizer {
    int from, to; /* what the weights are for */
    int *first, *taps;
    float *weights;
    int max_taps;
    float *values, *middle;
    size_t first_capacity, taps_capacity, weights_capacity, values_capacity, middle_capacity;
} Resizer;

/* A box of a picture to any size, with the same filter: rgb points to its upper left pixel, rows are `pitch` bytes
 * apart; out: (to_height, to_width, 3). Sides of at least 1. */
Status resize_box(Resizer *resizer, const uint8_t *rgb, size_t pitch, int width, int height, int to_width,
                  int to_height, uint8_t *out);
/* rgb: (height, width, 3); out: (resolution, resolution, 3). */
Status resize_square(Resizer *resizer, const uint8_t *rgb, int width, int height, int resolution, uint8_t *out);
void resizer_free(Resizer *resizer);

#endif
