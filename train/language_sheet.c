#include "train/language_sheet.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "train/picture_font.h"

enum {
    GAP = 4, /* pixels between pictures and around them */
    MEAN_GAP = 12,
    SHEET_GAP = 16,
    LINE = PICTURE_FONT_HEIGHT + PICTURE_FONT_ABOVE + 3, /* of text */
    SMALL = 64,
    LARGE = 256, /* wide pictures have larger text */
    SIDE_MAX = 1 << 15
};

typedef struct Layout {
    int32_t columns, rows;
    int32_t zoom, width, height; /* of a picture */
    int32_t scale, line;         /* of text; 0 without labels */
    int64_t sheet_width, sheet_height;
} Layout;

static Layout layout_of(const LanguageSheet *sheet)
{
    Layout l = {.columns = (int32_t)sheet->seeds->count, .rows = (int32_t)sheet->subject->prompts.count, .zoom = 1};
    const int32_t smaller = sheet->width < sheet->height ? sheet->width : sheet->height;
    if (smaller < SMALL) l.zoom = (SMALL + smaller - 1) / smaller;
    l.width = sheet->width * l.zoom;
    l.height = sheet->height * l.zoom;
    l.scale = l.width >= LARGE ? 2 : 1;
    l.line = sheet->labels ? LINE * l.scale : 0;
    l.sheet_width = GAP + (int64_t)l.columns * (l.width + GAP) + MEAN_GAP + l.width + GAP;
    l.sheet_height = GAP + 2 * (int64_t)l.line + (int64_t)l.rows * (l.line + l.height + GAP);
    return l;
}

static Status allocate(int64_t width, int64_t height, PictureGrid *out)
{
    Status status = STATUS_OK;
    memset(out, 0, sizeof *out);
    if (width > SIDE_MAX || height > SIDE_MAX)
        FAIL(ERR_LIMIT,
             "the sheet would have %lld x %lld pixels, at most %d a side are drawn; take fewer seeds, languages or "
             "subjects, or smaller pictures",
             (long long)width, (long long)height, SIDE_MAX);
    const size_t bytes = (size_t)width * (size_t)height * 3;
    out->rgb = mem_alloc_aligned(bytes);
    if (!out->rgb)
        FAIL(ERR_MEMORY, "a sheet of %lld x %lld pixels does not fit into memory", (long long)width, (long long)height);
    out->width = (int32_t)width;
    out->height = (int32_t)height;
    memset(out->rgb, 0xff, bytes);
fail:
    return status;
}

static int32_t column_left(const Layout *l, int32_t column)
{
    return GAP + column * (l->width + GAP) + (column == l->columns ? MEAN_GAP : 0);
}

/* From `left` to the sheet's right side; what the font cannot write stays out. */
static void draw_text(const char *text, const Layout *l, int32_t left, int32_t top, PictureGrid *out)
{
    const int32_t width = (int32_t)l->sheet_width - GAP - left;
    if (width > 0 && picture_font_has(text))
        picture_font_draw(&(PictureCanvas){out->rgb, out->width}, text, left, top, width, l->scale);
}

static void draw_heads(const LanguageSheet *sheet, const Layout *l, PictureGrid *out)
{
    PictureCanvas canvas = {out->rgb, out->width};
    const int32_t above = PICTURE_FONT_ABOVE * l->scale;
    char head[32];
    draw_text(sheet->subject->title, l, GAP, GAP + above, out);
    for (int32_t c = 0; c <= l->columns; c++) {
        snprintf(head, sizeof head, "seed %lld", c < l->columns ? (long long)sheet->seeds->items[c] : 0);
        picture_font_draw(&canvas, c < l->columns ? head : "mean", column_left(l, c), GAP + l->line + above, l->width,
                          l->scale);
    }
}

static void draw_caption(const LanguageSheet *sheet, const Layout *l, int32_t row, int32_t top, PictureGrid *out)
{
    const char *language = sheet->subject->prompts.keys[row], *caption = sheet->subject->prompts.values[row];
    const int32_t left = GAP + (picture_font_length(language) + 2) * PICTURE_FONT_PITCH * l->scale;
    top += PICTURE_FONT_ABOVE * l->scale;
    draw_text(language, l, GAP, top, out);
    draw_text(caption, l, left, top, out);
}

static void draw_picture(const LanguageSheet *sheet, const Layout *l, const uint8_t *rgb, int32_t left, int32_t top,
                         PictureGrid *out)
{
    for (int32_t y = 0; y < l->height; y++) {
        uint8_t *to = out->rgb + 3 * ((int64_t)(top + y) * out->width + left);
        const uint8_t *from = rgb + 3 * (int64_t)(y / l->zoom) * sheet->width;
        for (int32_t x = 0; x < l->width; x++) memcpy(to + 3 * x, from + 3 * (int64_t)(x / l->zoom), 3);
    }
}

Status language_sheet_draw(const LanguageSheet *sheet, PictureGrid *out)
{
    Status status = STATUS_OK;
    const Layout l = layout_of(sheet);
    const int64_t bytes = (int64_t)sheet->width * sheet->height * 3;
    TRY(allocate(l.sheet_width, l.sheet_height, out));
    if (sheet->labels) draw_heads(sheet, &l, out);
    for (int32_t row = 0; row < l.rows; row++) {
        const int32_t top = GAP + 2 * l.line + row * (l.line + l.height + GAP);
        if (sheet->labels) draw_caption(sheet, &l, row, top, out);
        for (int32_t c = 0; c < l.columns; c++)
            draw_picture(sheet, &l, sheet->pictures + (row * l.columns + c) * bytes, column_left(&l, c), top + l.line,
                         out);
        draw_picture(sheet, &l, sheet->means + row * bytes, column_left(&l, l.columns), top + l.line, out);
    }
fail:
    return status;
}

Status language_sheets_stack(const PictureGrid *sheets, size_t count, PictureGrid *out)
{
    Status status = STATUS_OK;
    int64_t width = 1, height = 0, top = 0;
    for (size_t i = 0; i < count; i++) {
        if (sheets[i].width > width) width = sheets[i].width;
        height += sheets[i].height + (i ? SHEET_GAP : 0);
    }
    TRY(allocate(width, height, out));
    for (size_t i = 0; i < count; i++) {
        for (int32_t y = 0; y < sheets[i].height; y++)
            memcpy(out->rgb + 3 * (top + y) * width, sheets[i].rgb + 3 * (int64_t)y * sheets[i].width,
                   3 * (size_t)sheets[i].width);
        top += sheets[i].height + SHEET_GAP;
    }
fail:
    return status;
}

static double to_linear(int value)
{
    const double v = value / 255.0;
    return v <= 0.04045 ? v / 12.92 : pow((v + 0.055) / 1.055, 2.4);
}

static uint8_t from_linear(double linear)
{
    const double v = linear <= 0.0031308 ? 12.92 * linear : 1.055 * pow(linear, 1 / 2.4) - 0.055;
    return (uint8_t)lrint(255 * (v < 0 ? 0 : v > 1 ? 1 : v));
}

void picture_mean(const uint8_t *pictures, size_t count, size_t pixels, uint8_t *out)
{
    double linear[256];
    for (int v = 0; v < 256; v++) linear[v] = to_linear(v);
    for (size_t i = 0; i < 3 * pixels; i++) {
        double sum = 0;
        for (size_t k = 0; k < count; k++) sum += linear[pictures[k * 3 * pixels + i]];
        out[i] = from_linear(sum / (double)count);
    }
}
