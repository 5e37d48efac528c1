/* Decoders, crop and resize against Pillow (make_picture_goldens.py), damage and limits, the PNG writer. */
#include "shards.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "data/picture.h"
#include "data/png_write.h"
#include "data/resize.h"

static const PictureLimits usual = {.max_pixels = 64 << 20, .min_side = 0};

static const char *picture_path(const char *name)
{
    return in_folder(TEST_SOURCE_DIR "/data/pictures", name);
}

/* Every NAME.R.rgb of the folder. */
static void test_pillow(void **state)
{
    (void)state;
    char **names;
    size_t count, done = 0;
    Picture picture = {0};
    Resizer resizer = {0};
    assert_ok(file_list(TEST_SOURCE_DIR "/data/pictures", &names, &count));
    for (size_t i = 0; i < count; i++) {
        char source[256];
        int resolution, worst = 0;
        StrBuf wanted = {0}, file = {0};
        size_t n = strlen(names[i]);
        if (n < 5 || strcmp(names[i] + n - 4, ".rgb") != 0) continue;
        snprintf(source, sizeof source, "%.*s", (int)(n - 4), names[i]);
        char *dot = strrchr(source, '.');
        resolution = (int)strtol(dot + 1, NULL, 10);
        *dot = 0;
        read_file(picture_path(source), &file);
        read_file(picture_path(names[i]), &wanted);
        size_t bytes = (size_t)resolution * (size_t)resolution * 3;
        assert_int_equal(wanted.size, bytes);
        uint8_t *got = mem_alloc_array(bytes, 1);
        assert_ok(picture_decode((uint8_t *)file.data, file.size, &usual, &picture));
        assert_ok(resize_square(&resizer, picture.rgb, picture.width, picture.height, resolution, got));
        for (size_t b = 0; b < bytes; b++) {
            int d = abs((int)got[b] - (int)(uint8_t)wanted.data[b]);
            if (d > worst) worst = d;
        }
        if (worst > 1) fail_msg("%s at %d: differs from Pillow by %d levels", source, resolution, worst);
        free(got);
        strbuf_free(&file);
        strbuf_free(&wanted);
        done++;
    }
    assert_true(done >= 20);
    file_free_list(names, count);
    picture_free(&picture);
    resizer_free(&resizer);
}

static void test_sniffing(void **state)
{
    (void)state;
    Picture picture = {0};
    StrBuf png = {0}, jpeg = {0}, webp = {0};
    make_png(&png, 5, 4, 1);
    make_jpeg(&jpeg, 5, 4, 1);
    make_webp(&webp, 5, 4, 1);
    assert_int_equal(picture_sniff((uint8_t *)png.data, png.size), PICTURE_PNG);
    assert_int_equal(picture_sniff((uint8_t *)jpeg.data, jpeg.size), PICTURE_JPEG);
    assert_int_equal(picture_sniff((uint8_t *)webp.data, webp.size), PICTURE_WEBP);
    assert_int_equal(picture_sniff((const uint8_t *)"", 0), PICTURE_UNKNOWN);
    assert_int_equal(picture_decode((const uint8_t *)"GIF89a..........", 16, &usual, &picture), ERR_FORMAT);
    assert_ok(picture_decode((uint8_t *)webp.data, webp.size, &usual, &picture));
    assert_int_equal(picture.width, 5);
    assert_int_equal(picture.height, 4);
    picture_free(&picture);
    strbuf_free(&png);
    strbuf_free(&jpeg);
    strbuf_free(&webp);
}

/* Each format cut at every length is refused, and every single flipped byte either decodes or is refused. */
static void damage(StrBuf *file)
{
    Picture picture = {0};
    uint8_t *copy = mem_alloc_array(file->size, 1);
    size_t refused = 0;
    for (size_t cut = 0; cut < file->size - 16; cut++) {
        memcpy(copy, file->data, cut);
        Status status = picture_decode(copy, cut, &usual, &picture);
        if (status != ERR_FORMAT) fail_msg("%zu of %zu bytes: %s", cut, file->size, status_name(status));
    }
    for (size_t at = 0; at < file->size; at++) {
        memcpy(copy, file->data, file->size);
        copy[at] ^= 0x5a;
        Status status = picture_decode(copy, file->size, &usual, &picture);
        if (status != STATUS_OK) refused++;
        assert_true(status == STATUS_OK || status == ERR_FORMAT || status == ERR_LIMIT);
    }
    assert_true(refused > 20);
    free(copy);
    picture_free(&picture);
}

static void test_damage(void **state)
{
    (void)state;
    StrBuf png = {0}, jpeg = {0}, webp = {0};
    make_png(&png, 24, 18, 3);
    damage(&png);
    make_jpeg(&jpeg, 24, 18, 3);
    damage(&jpeg);
    make_webp(&webp, 24, 18, 3);
    damage(&webp);
    strbuf_free(&png);
    strbuf_free(&jpeg);
    strbuf_free(&webp);
    StrBuf animated = {0};
    Picture picture = {0};
    read_file(picture_path("animated.webp"), &animated);
    assert_int_equal(picture_decode((uint8_t *)animated.data, animated.size, &usual, &picture), ERR_FORMAT);
    check_message("animated");
    strbuf_free(&animated);
}

static void put32(uint8_t *at, unsigned v)
{
    for (int i = 0; i < 4; i++) at[i] = (uint8_t)(v >> (24 - 8 * i));
}

static unsigned crc_of(const uint8_t *data, size_t size)
{
    unsigned crc = 0xffffffffu;
    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (int k = 0; k < 8; k++) crc = crc & 1 ? 0xedb88320u ^ (crc >> 1) : crc >> 1;
    }
    return ~crc;
}

/* 10000 x 10000 in the header of a small file: refused before anything of that size is allocated. */
static void test_limits(void **state)
{
    (void)state;
    Picture picture = {0};
    StrBuf png = {0}, jpeg = {0}, webp = {0};
    make_png(&png, 8, 8, 1);
    uint8_t *p = (uint8_t *)png.data;
    put32(p + 16, 10000);
    put32(p + 20, 10000);
    put32(p + 29, crc_of(p + 12, 17));
    assert_int_equal(picture_decode(p, png.size, &usual, &picture), ERR_LIMIT);
    check_message("10000x10000");
    assert_int_equal(picture.capacity, 0);

    make_jpeg(&jpeg, 8, 8, 1);
    p = memmem(jpeg.data, jpeg.size, "\xff\xc0", 2);
    assert_non_null(p);
    p[5] = p[7] = 10000 >> 8;
    p[6] = p[8] = 10000 & 255;
    assert_int_equal(picture_decode((uint8_t *)jpeg.data, jpeg.size, &usual, &picture), ERR_LIMIT);
    assert_int_equal(picture.capacity, 0);

    make_webp(&webp, 200, 100, 1);
    const PictureLimits tight = {.max_pixels = 19999}, fits = {.max_pixels = 20000};
    const PictureLimits large = {.max_pixels = 20000, .min_side = 101};
    assert_int_equal(picture_decode((uint8_t *)webp.data, webp.size, &tight, &picture), ERR_LIMIT);
    assert_int_equal(picture_decode((uint8_t *)webp.data, webp.size, &large, &picture), ERR_UNSUPPORTED);
    assert_int_equal(picture.capacity, 0);
    assert_ok(picture_decode((uint8_t *)webp.data, webp.size, &fits, &picture));
    picture_free(&picture);
    strbuf_free(&png);
    strbuf_free(&jpeg);
    strbuf_free(&webp);
}

static void test_png_writer(void **state)
{
    (void)state;
    char folder[512];
    uint8_t rgb[7 * 3 * 3];
    StrBuf file = {0};
    Picture picture = {0};
    const char *keys[] = {"prompt", "seed"}, *values[] = {"красный кот", "7"};
    make_folder(folder);
    for (size_t i = 0; i < sizeof rgb; i++) rgb[i] = (uint8_t)(i * 4);
    assert_ok(png_write_rgb(in_folder(folder, "a.png"), 7, 3, rgb, keys, values, 2));
    read_file(in_folder(folder, "a.png"), &file);
    assert_non_null(memmem(file.data, file.size, "красный кот", strlen("красный кот")));
    assert_non_null(memmem(file.data, file.size, "iTXtseed", 8));
    assert_ok(picture_decode((uint8_t *)file.data, file.size, &usual, &picture));
    assert_int_equal(picture.width, 7);
    assert_int_equal(picture.height, 3);
    assert_memory_equal(picture.rgb, rgb, sizeof rgb);

    const char *bad_keys[] = {"a\nb"};
    assert_int_equal(png_write_rgb(in_folder(folder, "b.png"), 7, 3, rgb, bad_keys, values, 1), ERR_FORMAT);
    assert_int_equal(png_write_rgb(in_folder(folder, "b.png"), 0, 3, rgb, NULL, NULL, 0), ERR_LIMIT);
    assert_int_equal(png_write_rgb(in_folder(folder, "no/b.png"), 7, 3, rgb, NULL, NULL, 0), ERR_IO);
    assert_false(file_exists(in_folder(folder, "b.png")));
    picture_free(&picture);
    strbuf_free(&file);
    remove_folder(folder);
}

/* A constant stays constant at any ratio, and one pixel fills everything. */
static void test_resize_constant(void **state)
{
    (void)state;
    static uint8_t rgb[97 * 90 * 3], out[200 * 200 * 3];
    Resizer resizer = {0};
    memset(rgb, 201, sizeof rgb);
    const int sizes[] = {1, 2, 3, 31, 89, 90, 91, 200};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        memset(out, 0, sizeof out);
        assert_ok(resize_square(&resizer, rgb, 97, 90, sizes[i], out));
        for (int b = 0; b < sizes[i] * sizes[i] * 3; b++) assert_int_equal(out[b], 201);
    }
    assert_ok(resize_square(&resizer, rgb, 97, 1, 64, out));
    for (int b = 0; b < 64 * 64 * 3; b++) assert_int_equal(out[b], 201);
    resizer_free(&resizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pillow), cmocka_unit_test(test_sniffing),   cmocka_unit_test(test_damage),
        cmocka_unit_test(test_limits), cmocka_unit_test(test_png_writer), cmocka_unit_test(test_resize_constant),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
