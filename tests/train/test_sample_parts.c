/* The parts of `vasily sample` that need no model: the picture to start from, its mask and place, the texts of a PNG,
 * options that are noted and read back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/random.h"
#include "data/png_text.h"
#include "data/png_write.h"
#include "data/resize.h"
#include "model/sampler.h"
#include "train/init_picture.h"
#include "train/sample_arguments.h"

static char folder[] = "/tmp/vasily-sample-parts.XXXXXX";
static Arena *arena;

static int open_all(void **state)
{
    (void)state;
    return mkdtemp(folder) != NULL && arena_create(&arena) == STATUS_OK ? 0 : -1;
}

static int close_all(void **state)
{
    (void)state;
    arena_free(arena);
    return file_remove_tree(folder) == STATUS_OK ? 0 : -1;
}

#define OK(call) check_ok((call), __LINE__)
static void check_ok(Status status, int line)
{
    if (status != STATUS_OK) fail_msg("line %d: %s", line, status_message());
}

#define FAILS(call, want, words) check_fails((call), (want), (words), __LINE__)
static void check_fails(Status status, Status want, const char *words, int line)
{
    if (status != want) fail_msg("line %d: %s where %s was expected", line, status_name(status), status_name(want));
    if (!strstr(status_message(), words)) fail_msg("line %d: \"%s\" does not say %s", line, status_message(), words);
}

static const char *in_folder(const char *name)
{
    return arena_printf(arena, "%s/%s", folder, name);
}

static void test_names_of_png(void **state)
{
    (void)state;
    assert_true(png_is_name("x.png") && png_is_name("a/UP.PNG") && png_is_name("x.jpg.Png"));
    assert_false(png_is_name(".png") || png_is_name("x.png/") || png_is_name("x.jpg") || png_is_name("png"));
}

/* Pixel (x,y) is (10 x, 10 y, 100). */
static const char *write_picture(const char *name, int width, int height)
{
    const char *path = in_folder(name);
    uint8_t *rgb = mem_alloc_array((size_t)width * (size_t)height, 3);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            uint8_t *p = rgb + 3 * (y * width + x);
            p[0] = (uint8_t)(10 * x);
            p[1] = (uint8_t)(10 * y);
            p[2] = 100;
        }
    OK(png_write_rgb(path, width, height, rgb, NULL, NULL, 0));
    free(rgb);
    return path;
}

/* White where x < white_columns. */
static const char *write_mask(const char *name, int width, int height, int white_columns)
{
    const char *path = in_folder(name);
    uint8_t *rgb = mem_alloc_array((size_t)width * (size_t)height, 3);
    for (int i = 0; i < width * height; i++) memset(rgb + 3 * i, i % width < white_columns ? 128 : 127, 3);
    OK(png_write_rgb(path, width, height, rgb, NULL, NULL, 0));
    free(rgb);
    return path;
}

static InitPictureOptions options_of(const char *picture, int64_t width, int64_t height)
{
    return (InitPictureOptions){.picture = picture,
                                .width = width,
                                .height = height,
                                .drawn_width = (width + 7) / 8 * 8,
                                .drawn_height = (height + 7) / 8 * 8,
                                .max_pixels = 1 << 20};
}

static const uint8_t *canvas(const InitPicture *p, int64_t x, int64_t y)
{
    return p->rgb + 3 * (y * p->width + x);
}

static void test_fit(void **state)
{
    (void)state;
    InitPicture p;
    /* The same size: as it is; beyond it its edge is repeated, the mask's too. */
    InitPictureOptions o = options_of(write_picture("p.png", 12, 10), 12, 10);
    o.mask = write_mask("m.png", 12, 10, 7);
    OK(init_picture_load(&o, &p));
    for (int64_t y = 0; y < 10; y++)
        for (int64_t x = 0; x < 12; x++) assert_true(canvas(&p, x, y)[0] == 10 * x && canvas(&p, x, y)[1] == 10 * y);
    assert_true(fabsf(p.pixels[(9 * 16 + 11) * 3] - (110 / 127.5f - 1)) < 1e-6f);
    for (int64_t y = 0; y < 16; y++)
        for (int64_t x = 0; x < 16; x++) {
            const float *at = p.pixels + 3 * (y * 16 + x),
                        *edge = p.pixels + 3 * ((y < 10 ? y : 9) * 16 + (x < 12 ? x : 11));
            assert_memory_equal(at, edge, 3 * sizeof *at);
            assert_true(p.mask[y * 16 + x] == (x < 7 ? 1 : 0)); /* white is 1, and 1 is kept */
        }
    char text[33];
    hash_format(p.picture_hash, text);
    assert_int_equal(strlen(text), 32);
    assert_memory_not_equal(&p.picture_hash, &p.mask_hash, sizeof p.picture_hash);
    init_picture_free(&p);

    /* Another shape: the middle in the canvas's proportions, or all of it stretched. */
    o = options_of(write_picture("wide.png", 24, 8), 8, 8);
    o.mask = write_mask("wide-mask.png", 24, 8, 12);
    OK(init_picture_load(&o, &p));
    for (int64_t x = 0; x < 8; x++) {
        assert_int_equal(canvas(&p, x, 3)[0], 10 * (x + 8));
        assert_true(p.mask[3 * 8 + x] == (x + 8 < 12 ? 1 : 0));
    }
    init_picture_free(&p);
    o.stretched = true;
    OK(init_picture_load(&o, &p));
    for (int64_t x = 1; x < 7; x++) { /* the ends lean on fewer pixels */
        assert_in_range(canvas(&p, x, 3)[0], 30 * x + 8, 30 * x + 12);
        assert_true(p.mask[3 * 8 + x] == (3 * x < 12 ? 1 : 0));
    }
    init_picture_free(&p);
    o = options_of(write_picture("tall.png", 8, 24), 4, 4);
    OK(init_picture_load(&o, &p));
    assert_null(p.mask);
    for (int64_t y = 1; y < 3; y++) assert_in_range(canvas(&p, 1, y)[1], 10 * (8 + 2 * y) + 3, 10 * (8 + 2 * y) + 7);
    init_picture_free(&p);
}

static void test_place(void **state)
{
    (void)state;
    InitPicture p;
    InitPictureOptions o = options_of(write_picture("p.png", 6, 4), 20, 12);
    o.placed = true;
    o.x = 3;
    o.y = 5;
    OK(init_picture_load(&o, &p));
    for (int64_t y = 0; y < 12; y++)
        for (int64_t x = 0; x < 20; x++) {
            int64_t px = x < 3 ? 0 : x > 8 ? 5 : x - 3, py = y < 5 ? 0 : y > 8 ? 3 : y - 5;
            assert_true(canvas(&p, x, y)[0] == 10 * px && canvas(&p, x, y)[1] == 10 * py);
            assert_true(p.mask[y * 24 + x] == (x >= 3 && x < 9 && y >= 5 && y < 9 ? 1 : 0));
        }
    uint8_t *drawn = mem_alloc_array(20 * 12, 3);
    memset(drawn, 7, 20 * 12 * 3);
    init_picture_paste(&p, drawn);
    assert_true(drawn[3 * (5 * 20 + 3)] == 0 && drawn[3 * (8 * 20 + 8)] == 50 && drawn[3 * (8 * 20 + 9)] == 7);
    free(drawn);
    init_picture_free(&p);
    /* Partly outside, and with a mask of its own. */
    o.x = -2;
    o.y = 10;
    o.mask = write_mask("m.png", 6, 4, 4);
    OK(init_picture_load(&o, &p));
    assert_int_equal(canvas(&p, 0, 11)[0], 20);
    assert_int_equal(canvas(&p, 0, 11)[1], 10);
    for (int64_t x = 0; x < 20; x++) assert_true(p.mask[11 * 24 + x] == (x < 2 ? 1 : 0));
    init_picture_free(&p);
    const int64_t outside[][2] = {{20, 0}, {0, 12}, {-6, 0}, {0, -4}};
    for (int k = 0; k < 4; k++) {
        o.x = outside[k][0];
        o.y = outside[k][1];
        FAILS(init_picture_load(&o, &p), ERR_USAGE, "outside of the canvas of 20x12");
        assert_null(p.rgb);
    }
}

/* Black pixels that no latent is drawn anew for are counted; where sizes were rounded up there is no picture. */
static void test_missed_holes(void **state)
{
    (void)state;
    static const struct {
        int x, width, height, want; /* the hole, from (x,x) on; missed pixels */
    } cases[] = {{9, 1, 1, 1}, {8, 1, 1, 0}, {9, 3, 3, 9}, {5, 4, 4, 0}, {1, 6, 2, 12}, {0, 0, 0, 0}};
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        float pixels[16 * 16], keep[2][4 * 4];
        InitPicture p = {.mask = pixels, .width = 14, .height = 14, .drawn_width = 16, .drawn_height = 16};
        int64_t painted, missed;
        for (int y = 0; y < 16; y++)
            for (int x = 0; x < 16; x++) {
                const bool inside = x >= cases[k].x && x < cases[k].x + cases[k].width && y >= cases[k].x &&
                                    y < cases[k].x + cases[k].height;
                pixels[y * 16 + x] = inside || x == 15 ? 0 : 1;
            }
        sampler_latent_mask(pixels, 16, 16, 4, 4, keep[0], keep[1]);
        init_picture_missed(&p, keep[1], 4, 4, &painted, &missed);
        assert_int_equal(painted, cases[k].width * cases[k].height);
        assert_int_equal(missed, cases[k].want);
    }
}

static void test_refused_pictures(void **state)
{
    (void)state;
    InitPicture p;
    InitPictureOptions o = options_of(write_picture("p.png", 6, 4), 8, 8);
    o.mask = write_mask("m.png", 6, 5, 3);
    FAILS(init_picture_load(&o, &p), ERR_USAGE, "the mask is 6x5");
    o.mask = in_folder("gone.png");
    FAILS(init_picture_load(&o, &p), ERR_IO, "gone.png");
    o.mask = NULL;
    o.max_pixels = 23;
    FAILS(init_picture_load(&o, &p), ERR_LIMIT, "p.png: 6x4");
    o.max_pixels = 24;
    OK(file_write_atomic(in_folder("text.png"), "no picture", 10));
    o.picture = in_folder("text.png");
    FAILS(init_picture_load(&o, &p), ERR_FORMAT, "text.png: neither PNG");
}

/* A box of one size to another, each side by its own factor: a ramp stays a ramp. */
static void test_resize_box(void **state)
{
    (void)state;
    enum { W = 40, H = 30, X = 5, Y = 3, BW = 32, BH = 24, TW = 16, TH = 48 };
    static uint8_t rgb[H][W][3], out[TH][TW][3];
    Resizer resizer = {0};
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) {
            rgb[y][x][0] = (uint8_t)(6 * x);
            rgb[y][x][1] = (uint8_t)(8 * y);
        }
    OK(resize_box(&resizer, &rgb[Y][X][0], W * 3, BW, BH, TW, TH, &out[0][0][0]));
    for (int y = 6; y < TH - 6; y++) /* the ends lean on fewer pixels */
        for (int x = 3; x < TW - 3; x++) {
            double want_x = 6 * (X + (x + 0.5) * BW / TW - 0.5), want_y = 8 * (Y + (y + 0.5) * BH / TH - 0.5);
            assert_true(fabs(out[y][x][0] - want_x) <= 1 && fabs(out[y][x][1] - want_y) <= 1);
        }
    uint8_t one[3];
    OK(resize_box(&resizer, &rgb[1][1][0], W * 3, 1, 1, 1, 1, one));
    assert_memory_equal(one, rgb[1][1], 3);
    OK(resize_box(&resizer, &rgb[0][0][0], W * 3, 1, H, 7, 2, &out[0][0][0]));
    resizer_free(&resizer);
}

/* ---- texts ---- */

static void test_png_texts(void **state)
{
    (void)state;
    const uint8_t rgb[3] = {1, 2, 3};
    const char *keys[] = {"prompt", "seed", "empty"}, *values[] = {"ein Hund\nüber \"Wörter\"\tund 犬", "12", ""};
    StrBuf png = {0};
    PngTexts texts;
    OK(png_encode_rgb(1, 1, rgb, keys, values, 3, &png));
    OK(png_read_texts(png.data, png.size, arena, &texts));
    assert_int_equal(texts.count, 3);
    for (int k = 0; k < 3; k++) assert_string_equal(png_texts_find(&texts, keys[k]), values[k]);
    assert_null(png_texts_find(&texts, "Prompt"));
    /* Cut anywhere or with any byte changed it is refused or read, and nothing worse. */
    for (size_t size = 0; size < png.size; size++) (void)png_read_texts(png.data, size, arena, &texts);
    FAILS(png_read_texts(png.data, 20, arena, &texts), ERR_FORMAT, "PNG");
    for (size_t at = 0; at < png.size; at++) {
        png.data[at] = (char)(png.data[at] ^ (1 << at % 8));
        (void)png_read_texts(png.data, png.size, arena, &texts);
        png.data[at] = (char)(png.data[at] ^ (1 << at % 8));
    }
    FAILS(png_read_texts("GIF89a..", 8, arena, &texts), ERR_FORMAT, "no PNG");
    strbuf_free(&png);
}

static SampleArguments parse(const char *const *arguments, int count)
{
    char *argv[32];
    SampleArguments a = SAMPLE_ARGUMENT_DEFAULTS;
    ArgTexts positional = {0};
    for (int i = 0; i < count; i++) argv[i] = arena_strdup(arena, arguments[i]);
    OK(args_parse("sample", (ArgTable){SAMPLE_OPTIONS, SAMPLE_OPTION_COUNT}, count, argv, arena, &a, &positional));
    return a;
}

static RunConfig small_run(void)
{
    RunConfig run = {
        .train = {.resolution = 48},
        .preview = {.steps = 9, .scale = 4.5, .sampler = 1, .eta = 0.05, .threshold = 99.5, .seed = 3, .batch = 8}};
    run.model.in_channels = 4;
    run.model.out_channels = 8;
    run.diffusion.steps = 1000;
    return run;
}

/* What is written into a picture and read back is the same, to the last digit. */
static void test_notes_round_trip(void **state)
{
    (void)state;
    static const char *const cases[][8] = {
        {"--prompt", "x", "--scale", "0.1", "--seed", "8999999999999999"},
        {"--prompt", "two\nlines", "--sampler", "plms", "--size", "64x32", "--first", "12"},
        {"--prompt", "x", "--eta", "0.30000000000000004", "--threshold", "97.123456789"},
        {"--prompt", "x", "--init", "a b.png", "--strength", "0.123", "--compat", "reference"},
        {"--prompt", "x", "--init", "a.png", "--place", "-3,4", "--paste", "--no-ema"},
    };
    RunConfig run = small_run();
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        int count = 0;
        while (count < 8 && cases[c][count]) count++;
        SampleArguments a = parse(cases[c], count), b = SAMPLE_ARGUMENT_DEFAULTS;
        SampleNotes notes = {0};
        PngTexts texts;
        const uint8_t rgb[3] = {0};
        OK(sample_arguments_complete(&a, &run, arena));
        OK(sample_notes_of(&a, arena, &notes));
        OK(sample_note(&notes, "prompt", a.prompts.items[0]));
        OK(sample_note(&notes, "pictures", "1"));
        b.like = in_folder("like.png");
        OK(png_write_rgb(b.like, 1, 1, rgb, notes.keys, notes.values, notes.count));
        OK(sample_arguments_like(&b, arena, &texts));
        assert_int_equal(b.prompts.count, 1);
        assert_string_equal(b.prompts.items[0], a.prompts.items[0]);
        run.preview.scale = 1; /* must not matter any more */
        OK(sample_arguments_complete(&b, &run, arena));
        assert_true(a.scale == b.scale && a.eta == b.eta && a.threshold == b.threshold);
        assert_true(a.strength == b.strength || (isnan(a.strength) && isnan(b.strength)));
        assert_true(a.seed == b.seed && a.first == b.first && a.steps == b.steps && a.columns == b.columns);
        assert_true(a.sampler == b.sampler && a.compat == b.compat && a.paste == b.paste && a.no_ema == b.no_ema);
        const char *const texts_a[] = {a.size, a.init, a.place, a.mask}, *const texts_b[] = {b.size, b.init, b.place,
                                                                                             b.mask};
        for (int k = 0; k < 4; k++) assert_string_equal(texts_a[k] ? texts_a[k] : "", texts_b[k] ? texts_b[k] : "");
        run = small_run();
    }
}

/* Hostile texts are refused as the command line would be; what is given wins over them. */
static void test_like_is_checked(void **state)
{
    (void)state;
    const uint8_t rgb[3] = {0};
    const char *keys[] = {"prompt", "sampler", "steps", "eta"};
    const char *bad[][4] = {
        {"x", "euler", "3", "0"}, {"x", "ddim", "-1", "0"}, {"x", "ddim", "3;", "0"}, {"x", "ddim", "3", "nan"}};
    PngTexts texts;
    for (int k = 0; k < 4; k++) {
        SampleArguments a = SAMPLE_ARGUMENT_DEFAULTS;
        a.like = in_folder("bad.png");
        OK(png_write_rgb(a.like, 1, 1, rgb, keys, bad[k], 4));
        FAILS(sample_arguments_like(&a, arena, &texts), ERR_USAGE, "bad.png: vasily sample: --");
    }
    const char *good[] = {"x\ny", "ddim", "3", "0.5"};
    const char *const given[] = {"--sampler", "plms", "--steps", "5"};
    SampleArguments a = parse(given, 4);
    RunConfig run = small_run();
    a.like = in_folder("good.png");
    OK(png_write_rgb(a.like, 1, 1, rgb, keys, good, 4));
    OK(sample_arguments_like(&a, arena, &texts));
    OK(sample_arguments_complete(&a, &run, arena));
    assert_int_equal(a.steps, 5);
    assert_true(a.eta == 0); /* ddim's does not bother plms */
    FAILS(sample_arguments_like(&(SampleArguments){.like = in_folder("gone.png")}, arena, &texts), ERR_IO, "gone.png");
}

static void test_sizes_and_places(void **state)
{
    (void)state;
    int64_t a = 0, b = 0;
    OK(sample_parse_size("512x768", &a, &b));
    assert_true(a == 512 && b == 768);
    OK(sample_parse_size("64", &a, &b));
    assert_true(a == 64 && b == 64);
    const char *const bad_sizes[] = {"", "x", "512x", "x512", "512x512x", "12.5", "999999", "5 12y", "512X512"};
    for (size_t k = 0; k < sizeof bad_sizes / sizeof *bad_sizes; k++)
        FAILS(sample_parse_size(bad_sizes[k], &a, &b), ERR_USAGE, "takes WxH");
    OK(sample_parse_place("-8,16", &a, &b));
    assert_true(a == -8 && b == 16);
    const char *const bad_places[] = {"", "3", "3,", "3;4", "3,4,5", "a,b"};
    for (size_t k = 0; k < sizeof bad_places / sizeof *bad_places; k++)
        FAILS(sample_parse_place(bad_places[k], &a, &b), ERR_USAGE, "takes X,Y");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fit),
        cmocka_unit_test(test_place),
        cmocka_unit_test(test_names_of_png),
        cmocka_unit_test(test_missed_holes),
        cmocka_unit_test(test_refused_pictures),
        cmocka_unit_test(test_resize_box),
        cmocka_unit_test(test_png_texts),
        cmocka_unit_test(test_notes_round_trip),
        cmocka_unit_test(test_like_is_checked),
        cmocka_unit_test(test_sizes_and_places),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
