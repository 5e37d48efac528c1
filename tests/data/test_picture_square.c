/* The square of a picture, decoded without what lies outside of it, and JPEGs decoded smaller. */
#include "shards.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include "data/picture.h"
#include "data/resize.h"

static const PictureLimits usual = {.max_pixels = 64 << 20};

typedef struct JpegKind {
    int channels, across, down; /* components; luma's sampling factors */
    bool progressive, restarts;
} JpegKind;

static const JpegKind kinds[] = {
    {.channels = 1, .across = 1, .down = 1},
    {.channels = 3, .across = 1, .down = 1},
    {.channels = 3, .across = 2, .down = 1},
    {.channels = 3, .across = 2, .down = 2},
    {.channels = 3, .across = 1, .down = 2},
    {.channels = 3, .across = 4, .down = 1},
    {.channels = 3, .across = 2, .down = 2, .progressive = true},
    {.channels = 3, .across = 2, .down = 2, .restarts = true},
    {.channels = 4, .across = 1, .down = 1},
};
#define KINDS (sizeof kinds / sizeof kinds[0])

/* Waves that get finer to the right, up to a tenth of the width each, and edges. */
static void paint(uint8_t *row, int y, int width, int channels)
{
    for (int x = 0; x < width; x++)
        for (int c = 0; c < channels; c++) {
            double v = 128 + 90 * sin(30.0 * x * x / width / width + 6.0 * y / width + 0.3 * c) +
                       ((6 * x / width + 7 * y / width) % 2 ? 25 : -25);
            row[x * channels + c] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
        }
}

static void encode(const JpegKind *kind, int width, int height, StrBuf *out)
{
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    unsigned char *bytes = NULL;
    unsigned long size = 0;
    uint8_t *row = mem_alloc_array((size_t)width, (size_t)kind->channels);
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &bytes, &size);
    jpeg.image_width = (JDIMENSION)width;
    jpeg.image_height = (JDIMENSION)height;
    jpeg.input_components = kind->channels;
    jpeg.in_color_space = kind->channels == 1 ? JCS_GRAYSCALE : kind->channels == 4 ? JCS_CMYK : JCS_RGB;
    jpeg_set_defaults(&jpeg);
    jpeg_set_quality(&jpeg, 90, TRUE);
    jpeg.comp_info[0].h_samp_factor = kind->across;
    jpeg.comp_info[0].v_samp_factor = kind->down;
    if (kind->progressive) jpeg_simple_progression(&jpeg);
    if (kind->restarts) jpeg.restart_interval = 3;
    jpeg_start_compress(&jpeg, TRUE);
    for (int y = 0; y < height; y++) {
        paint(row, y, width, kind->channels);
        JSAMPROW rows[] = {row};
        jpeg_write_scanlines(&jpeg, rows, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    out->size = 0;
    assert_ok(strbuf_append(out, bytes, size));
    free(bytes);
    free(row);
}

/* Keeps the square's rows. */
typedef struct Kept {
    PictureSquare square;
    uint8_t *rgb;
    int rows;
} Kept;

static Status keep_begin(void *context, const PictureSquare *square)
{
    Kept *kept = context;
    free(kept->rgb);
    kept->square = *square;
    kept->rows = 0;
    kept->rgb = mem_alloc_array((size_t)square->width * (size_t)square->height, 3);
    return kept->rgb ? STATUS_OK : ERR_MEMORY;
}

static void keep_rows(void *context, const uint8_t *rgb, size_t pitch, int count)
{
    Kept *kept = context;
    size_t row = (size_t)kept->square.width * 3;
    assert_true(kept->rows + count <= kept->square.height);
    assert_true(kept->rows % PICTURE_STRIP == 0);
    for (int y = 0; y < count; y++) memcpy(kept->rgb + (size_t)(kept->rows + y) * row, rgb + (size_t)y * pitch, row);
    kept->rows += count;
}

static PictureSink keeper(Kept *kept)
{
    return (PictureSink){.begin = keep_begin, .rows = keep_rows, .context = kept};
}

/* Every place of the square, sampling and coding: the same pixels as the whole picture has there. */
static void test_same_pixels(void **state)
{
    (void)state;
    static const int sizes[][2] = {{200, 97},  {97, 203}, {160, 64}, {64, 161},
                                   {130, 130}, {33, 300}, {301, 20}, {7, 5}};
    Picture whole = {0}, part = {0};
    Kept kept = {0};
    StrBuf file = {0};
    PictureSink sink = keeper(&kept);
    for (size_t k = 0; k < KINDS; k++)
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            int width = sizes[s][0], height = sizes[s][1], side = width < height ? width : height;
            encode(&kinds[k], width, height, &file);
            assert_ok(picture_decode((uint8_t *)file.data, file.size, &usual, &whole));
            for (uint32_t place = 0; place < 16; place++) {
                PictureCut cut = {.anywhere = place < 15, .place = place * 0x12492492u};
                assert_ok(picture_decode_square((uint8_t *)file.data, file.size, &usual, &cut, &sink, &part));
                assert_int_equal(part.width, width);
                assert_int_equal(part.height, height);
                assert_int_equal(kept.square.width, side);
                assert_int_equal(kept.square.height, side);
                assert_int_equal(kept.rows, side);
                int x, y;
                PictureSquare square = picture_square(&cut, width, height, 1, &x, &y);
                assert_true(square.side == side && square.x == 0 && square.y == 0);
                assert_true(x >= 0 && y >= 0 && x + side <= width && y + side <= height);
                for (int row = 0; row < side; row++)
                    if (memcmp(kept.rgb + (size_t)(row * side) * 3, whole.rgb + (size_t)((y + row) * width + x) * 3,
                               (size_t)side * 3) != 0)
                        fail_msg("kind %zu, %dx%d, place %u: row %d differs", k, width, height, place, row);
            }
        }
    free(kept.rgb);
    strbuf_free(&file);
    picture_free(&whole);
    picture_free(&part);
}

/* Where a square may lie: the ends are reached, and nothing behind them. */
static void test_places(void **state)
{
    (void)state;
    int x, y;
    PictureCut cut = {.anywhere = true, .place = 0};
    (void)picture_square(&cut, 100, 40, 1, &x, &y);
    assert_true(x == 0 && y == 0);
    cut.place = UINT32_MAX;
    (void)picture_square(&cut, 100, 40, 1, &x, &y);
    assert_true(x == 60 && y == 0);
    (void)picture_square(&cut, 40, 101, 1, &x, &y);
    assert_true(x == 0 && y == 61);
    cut.anywhere = false;
    (void)picture_square(&cut, 40, 101, 1, &x, &y);
    assert_true(x == 0 && y == 30);
    /* decoded at a quarter: 15 of 60 pixels across, 30 / 4 and a half down */
    PictureSquare square = picture_square(&cut, 40, 101, 4, &x, &y);
    assert_true(x == 0 && y == 7 && square.width == 10 && square.height == 11);
    assert_true(square.y == 0.5 && square.x == 0 && square.side == 10);
}

typedef struct Shrink {
    Resizer resizer;
    int to;
    uint8_t *out;
    PictureSquare square;
} Shrink;

static Status shrink_begin(void *context, const PictureSquare *s)
{
    Shrink *shrink = context;
    shrink->square = *s;
    return resize_begin(&shrink->resizer,
                        &(ResizeShape){.width = s->width,
                                       .height = s->height,
                                       .x = s->x,
                                       .y = s->y,
                                       .box_width = s->side,
                                       .box_height = s->side,
                                       .to_width = shrink->to,
                                       .to_height = shrink->to},
                        shrink->out);
}

static void shrink_rows(void *context, const uint8_t *rgb, size_t pitch, int count)
{
    resize_add_rows(&((Shrink *)context)->resizer, rgb, pitch, count);
}

/* A JPEG decoded at 1/2, 1/4 or 1/8 gives nearly the picture that full decoding gives: at least 33 dB here, wherever
 * the square begins. */
static void test_scaled(void **state)
{
    (void)state;
    enum { TO = 48 };
    static const int sizes[][3] = {{233, 197, 2}, {200, 300, 2}, {431, 389, 4},
                                   {403, 401, 4}, {799, 801, 8}, {1213, 777, 8}};
    static uint8_t full[TO * TO * 3], small[TO * TO * 3];
    Shrink shrink = {.to = TO};
    PictureSink sink = {.begin = shrink_begin, .rows = shrink_rows, .context = &shrink};
    Picture picture = {0};
    StrBuf file = {0};
    double worst = 1e9;
    for (size_t k = 0; k < KINDS; k++)
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            int width = sizes[s][0], height = sizes[s][1], side = width < height ? width : height;
            encode(&kinds[k], width, height, &file);
            for (uint32_t place = 0; place < 4; place++) {
                PictureCut cut = {.anywhere = true, .place = place * 0x50000000u};
                shrink.out = full;
                assert_ok(picture_decode_square((uint8_t *)file.data, file.size, &usual, &cut, &sink, &picture));
                assert_int_equal(shrink.square.width, side);
                shrink.out = small;
                cut.enough_pixels = 2 * TO;
                assert_ok(picture_decode_square((uint8_t *)file.data, file.size, &usual, &cut, &sink, &picture));
                assert_true(fabs(shrink.square.side - (double)side / sizes[s][2]) < 1e-9);
                assert_int_equal(picture.width, width);
                double sum = 0;
                for (int b = 0; b < TO * TO * 3; b++) sum += pow((double)full[b] - (double)small[b], 2);
                double psnr = sum == 0 ? 99 : 10 * log10(255.0 * 255.0 * TO * TO * 3 / sum);
                if (psnr < worst) worst = psnr;
                if (psnr < 33) fail_msg("kind %zu, %dx%d, place %u: %.1f dB", k, width, height, place, psnr);
            }
        }
    print_message("at least %.1f dB\n", worst);
    resizer_free(&shrink.resizer);
    picture_free(&picture);
    strbuf_free(&file);
}

/* Damage anywhere in the file, also outside of the square, is found as by decoding all. */
static void test_same_damage(void **state)
{
    (void)state;
    static const int sizes[][2] = {{40, 100}, {100, 40}};
    Picture whole = {0}, part = {0};
    StrBuf file = {0};
    int refused = 0;
    for (size_t k = 0; k < KINDS; k++)
        for (size_t s = 0; s < 2; s++) {
            encode(&kinds[k], sizes[s][0], sizes[s][1], &file);
            uint8_t *copy = mem_alloc_array(file.size, 1);
            for (size_t at = 0; at < 2 * file.size; at += 7) {
                size_t cut_at = at < file.size ? file.size : at - file.size; /* a flipped byte, then a cut file */
                PictureCut cut = {.enough_pixels = at % 2 ? 8 : 0};
                memcpy(copy, file.data, file.size);
                if (at < file.size) copy[at] ^= 0x5a;
                Status a = picture_decode(copy, cut_at, &usual, &whole);
                Status b = picture_decode_square(copy, cut_at, &usual, &cut, NULL, &part);
                if (a != b)
                    fail_msg("kind %zu, size %zu, byte %zu: %s, and %s of the square", k, s, at, status_name(a),
                             status_name(b));
                refused += a != STATUS_OK;
            }
            free(copy);
        }
    assert_true(refused > 500);
    picture_free(&whole);
    picture_free(&part);
    strbuf_free(&file);
}

/* A strip is all that a large picture takes, and the limits are those of its true size. */
static void test_memory(void **state)
{
    (void)state;
    Picture picture = {0};
    StrBuf file = {0};
    const PictureLimits tight = {.max_pixels = 3000 * 1000 - 1};
    PictureCut cut = {.enough_pixels = 64};
    encode(&kinds[3], 3000, 1000, &file);
    assert_int_equal(picture_decode_square((uint8_t *)file.data, file.size, &tight, &cut, NULL, &picture), ERR_LIMIT);
    assert_int_equal(picture.capacity, 0);
    cut.enough_pixels = 0;
    assert_ok(picture_decode_square((uint8_t *)file.data, file.size, &usual, &cut, NULL, &picture));
    assert_true(picture.capacity <= 3000 * 3 * PICTURE_STRIP);
    picture_free(&picture);
    strbuf_free(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_pixels), cmocka_unit_test(test_places), cmocka_unit_test(test_scaled),
        cmocka_unit_test(test_same_damage), cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
