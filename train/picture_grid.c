#include "train/picture_grid.h"

#include <string.h>

#include "base/arena.h"
#include "train/picture_font.h"

enum {
    GAP = 4,           /* pixels between cells and around them */
    SMALL = 64,        /* pictures under this many pixels are enlarged */
    SIDE_MAX = 1 << 15 /* of the whole grid */
};

static void draw_picture(PictureGrid *to, const uint8_t *rgb, int32_t width, int32_t height, int32_t left, int32_t top,
                         int32_t zoom)
{
    for (int32_t y = 0; y < height * zoom; y++) {
        uint8_t *row = to->rgb + 3 * ((int64_t)(top + y) * to->width + left);
        const uint8_t *from = rgb + 3 * (int64_t)(y / zoom) * width;
        for (int32_t x = 0; x < width * zoom; x++) memcpy(row + 3 * x, from + 3 * (int64_t)(x / zoom), 3);
    }
}

static int32_t square_columns(int32_t count)
{
    int32_t columns = 1;
    while (columns * columns < count) columns++;
    return columns;
}

Status picture_grid_draw(const GridSpec *spec, PictureGrid *out)
{
    Status status = STATUS_OK;
    memset(out, 0, sizeof *out);
    if (spec->count < 1 || spec->count > 1 << 20 || spec->width < 1 || spec->height < 1 || spec->width > SIDE_MAX ||
        spec->height > SIDE_MAX)
        FAIL(ERR_INTERNAL, "a grid of %d pictures of %dx%d", spec->count, spec->width, spec->height);
    int32_t smaller = spec->width < spec->height ? spec->width : spec->height;
    int32_t zoom = smaller < SMALL ? (SMALL + smaller - 1) / smaller : 1;
    int32_t width = spec->width * zoom, height = spec->height * zoom;
    int32_t scale = width >= 4 * SMALL ? 2 : 1;
    int32_t label = spec->labels ? (PICTURE_FONT_HEIGHT + 3) * scale : 0;
    int32_t columns = spec->columns > 0 ? spec->columns : square_columns(spec->count);
    if (columns > spec->count) columns = spec->count;
    int32_t rows = (spec->count + columns - 1) / columns;
    int64_t total_width = GAP + (int64_t)columns * (width + GAP);
    int64_t total_height = GAP + (int64_t)rows * (height + label + GAP);
    if (total_width > SIDE_MAX || total_height > SIDE_MAX)
        FAIL(ERR_LIMIT, "a grid of %d pictures would be %lld x %lld pixels, at most %d a side are drawn; ask for fewer",
             spec->count, (long long)total_width, (long long)total_height, SIDE_MAX);
    out->width = (int32_t)total_width;
    out->height = (int32_t)total_height;
    size_t bytes = (size_t)total_width * (size_t)total_height * 3;
    out->rgb = mem_alloc_aligned(bytes);
    if (!out->rgb) FAIL(ERR_MEMORY, "a grid of %d x %d pixels does not fit into memory", out->width, out->height);
    memset(out->rgb, 0xff, bytes);

    for (int32_t i = 0; i < spec->count; i++) {
        int32_t left = GAP + (i % columns) * (width + GAP), top = GAP + (i / columns) * (height + label + GAP);
        draw_picture(out, spec->pictures + 3 * (int64_t)i * spec->width * spec->height, spec->width, spec->height, left,
                     top, zoom);
        if (spec->labels && spec->labels[i] && picture_font_has(spec->labels[i]))
            picture_font_draw(&(PictureCanvas){out->rgb, out->width}, spec->labels[i], left, top + height + 2 * scale,
                              width, scale);
    }
    return STATUS_OK;
fail:
    picture_grid_free(out);
    return status;
}

void picture_grid_free(PictureGrid *picture)
{
    mem_free_aligned(picture->rgb);
    memset(picture, 0, sizeof *picture);
}
