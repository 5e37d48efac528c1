/* Antialiased bicubic resize of a box of a picture: the crop and resize of Pillow-based trainers, to within 1 level.
 *
 * The filter is Keys' cubic with a = -0.5, its support widened by the scale when shrinking; horizontal first, rounded
 * and clipped to 8 bits in between (as Pillow does, so that overshoots do not differ), then vertical. Weights are whole
 * numbers that add up to a power of two, so the result is the same bit for bit with every instruction set.
 *
 * Rows may come bit by bit, as a decoder makes them: only those that a row of the result still needs are kept. */
#ifndef DATA_RESIZE_H
#define DATA_RESIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct ResizeKernels;

/* One direction: `to` pixels out of the stretch [start, start + length) of `from` pixels. */
typedef struct ResizeAxis {
    int from, to;
    double start, length;
    int bits;         /* weights are in units of 2^-bits */
    int max_taps;     /* most source pixels of a target pixel */
    int *first;       /* (to) its first source pixel */
    int *taps;        /* (to) how many */
    int16_t *weights; /* (to, resize_stride): a zero, the weights, zeros */
    size_t first_capacity, taps_capacity, weights_capacity;
} ResizeAxis;

/* Reusable buffers; zero-initialise, resizer_free at the end. One thread at a time. */
typedef struct Resizer {
    const struct ResizeKernels *kernels; /* NULL: the fastest of this processor */
    ResizeAxis across, down;
    uint8_t *edge;    /* copies of rows behind which nothing may be read */
    uint32_t *middle; /* a ring of pairs of rows after the first direction */
    size_t edge_capacity, middle_capacity;
    size_t middle_pitch;
    int ring; /* pairs, a power of two */
    /* between resize_begin and the last row */
    uint8_t *out;
    bool square, mirror;
    int rows_in, rows_out;
} Resizer;

/* What a result of to_width x to_height is made of: rows of `width` pixels, `height` of them, of which the box
 * [x, x + box_width) x [y, y + box_height) is wanted. Bounds may lie between pixels. */
typedef struct ResizeShape {
    int width, height;
    double x, y, box_width, box_height;
    int to_width, to_height;
    bool mirror; /* left to right */
} ResizeShape;

/* out: (to_height, to_width, 3), written until the last row was added. Sides of at least 1. */
Status resize_begin(Resizer *resizer, const ResizeShape *shape, uint8_t *out);
/* The next rows, `pitch` bytes apart; a multiple of RESIZE_ROWS of them, but for the last call. Nothing behind the last
 * row's pixels is read. */
#define RESIZE_ROWS 4
void resize_add_rows(Resizer *resizer, const uint8_t *rgb, size_t pitch, int count);

/* A box of a picture to any size: rgb points to its upper left pixel, rows are `pitch` bytes apart; out: (to_height,
 * to_width, 3). Sides of at least 1. */
Status resize_box(Resizer *resizer, const uint8_t *rgb, size_t pitch, int width, int height, int to_width,
                  int to_height, uint8_t *out);
/* The middle square: its offset is floor((side - square) / 2). rgb: (height, width, 3); out: (resolution, resolution,
 * 3). */
Status resize_square(Resizer *resizer, const uint8_t *rgb, int width, int height, int resolution, uint8_t *out);
void resizer_free(Resizer *resizer);

#endif
