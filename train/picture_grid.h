/* Pictures side by side with a label under each (train/picture_font.h). */
#ifndef TRAIN_PICTURE_GRID_H
#define TRAIN_PICTURE_GRID_H

#include <stdint.h>

#include "base/status.h"

typedef struct PictureGrid {
    int32_t width, height;
    uint8_t *rgb; /* height x width x 3; free with picture_grid_free */
} PictureGrid;
void picture_grid_free(PictureGrid *picture);

typedef struct GridSpec {
    const uint8_t *pictures;   /* count x height x width x 3 */
    const char *const *labels; /* count, NULL entries are left out; NULL: no labels. Cut to the cell's width; left
                                * out where the font has not every character */
    int32_t count, width, height;
    int32_t columns; /* 0: about square */
} GridSpec;

/* White background, dark labels. Pictures under 64 pixels are enlarged by a whole factor. */
Status picture_grid_draw(const GridSpec *spec, PictureGrid *out);

#endif
