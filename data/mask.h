/* Random masks for inpainting: which part of a picture is known and which is to be painted.
 *
 * A mask is a function of (seed, sample index) and the config alone (RANDOM_MASK), so sample i has the same one on any
 * rank and after any resume. It is drawn in the unit square, x to the right and y down, so a picture of any size has
 * the same shapes in it; what any of its shapes covers is painted. In numbers, 1 = keep and 0 = paint, as in sampling.
 *
 * Kinds: a box with sides along the picture's; a polygon with rounded corners (its outline is the closed quadratic
 * B-spline of 3 to 8 corners around a centre); a brush stroke that turns at random (a round brush along 2 to 6 straight
 * pieces); a frame along one to four sides, each side with a width of its own; the whole picture. The first shape's
 * kind is drawn by the config's shares. With the chance `more` another box, polygon or stroke comes on top, by their
 * own shares, and then another, up to MASK_SHAPES in all; the whole picture stays alone. */
#ifndef DATA_MASK_H
#define DATA_MASK_H

#include <stdint.h>

#include "data/mask_config.h"

enum { MASK_SHAPES = 4, MASK_POINTS = 64 };

typedef struct MaskPoint {
    float x, y;
} MaskPoint;

typedef struct MaskShape {
    MaskKind kind;
    int32_t count;                /* of points: box, frame 2; polygon its outline; stroke the ends of its pieces */
    MaskPoint point[MASK_POINTS]; /* box: painted from point 0 to point 1. frame: kept from point 0 to point 1 */
    float radius;                 /* stroke: half the brush's width */
} MaskShape;

typedef struct Mask {
    int32_t count;
    MaskShape shape[MASK_SHAPES];
} Mask;

void mask_draw(const MaskConfig *config, uint64_t seed, uint64_t index, Mask *out);

/* The share of masks that have more than one shape: `more` of those that begin with another than the whole picture, and
 * none where box, polygon and stroke, of which the others are, have no share. */
double mask_more_share(const MaskConfig *config);

/* The mask of every step-th pixel, down and across, of a picture of side x step pixels a side: out (side,side) is 1
 * where the middle of that pixel is kept, else 0. step 1: of every pixel. With the autoencoder's factor as the step it
 * is what the nearest pixel of a picture's mask gives each latent (sampler_latent_mask). */
void mask_rasterise(const Mask *mask, int64_t side, int64_t step, float *out);

#endif
