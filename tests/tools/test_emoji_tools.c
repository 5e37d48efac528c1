/* The parts of the emoji tools: names from CLDR files, pictures, tar shards. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/archive.h"
#include "base/arena.h"
#include "base/file.h"
#include "emoji/names.h"
#include "emoji/picture.h"
#include "emoji/shard_writer.h"

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/test_emoji_XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return file_remove_tree(folder) == STATUS_OK ? 0 : -1;
}

static void write_text(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(file_write_atomic(path, text, strlen(text)), STATUS_OK);
}

static void make_cldr(void)
{
    char path[256];
    snprintf(path, sizeof path, "%s/annotations", folder);
    assert_int_equal(file_make_dirs(path), STATUS_OK);
    snprintf(path, sizeof path, "%s/annotationsDerived", folder);
    assert_int_equal(file_make_dirs(path), STATUS_OK);
    write_text("annotations/en.xml", "<ldml><annotations>"
                                     "<annotation cp=\"🐢\">shell | turtle</annotation>"
                                     "<annotation cp=\"🐢\" type=\"tts\"> turtle\n  dove </annotation>"
                                     "<annotation cp=\"❤\xef\xb8\x8f\" type=\"tts\">Tom &amp; red heart</annotation>"
                                     "</annotations></ldml>");
    write_text("annotationsDerived/en.xml",
               "<ldml><annotations><annotation cp=\"👋🏽\" type=\"tts\">waving hand: medium skin tone</annotation>"
               "</annotations></ldml>");
    write_text("annotations/de.xml", "<ldml><annotations><annotation cp=\"🐢\" type=\"tts\">Schildkröte</annotation>"
                                     "<annotation cp=\"❤\" type=\"tts\">↑↑↑</annotation></annotations></ldml>");
    write_text("annotations/root.xml", "<ldml/>");
}

static void test_names(void **state)
{
    (void)state;
    static const char *const chosen[] = {"de", "en"};
    NameTable *table = NULL;
    make_cldr();
    assert_int_equal(names_load(folder, chosen, 2, &table), STATUS_OK);
    assert_int_equal(table->locale_count, 2);
    assert_int_equal(table->locale_names[0], 1); /* the inheritance mark is no name */
    assert_int_equal(table->locale_names[1], 3);
    const Emoji *turtle = names_find(table, "🐢"), *heart = names_find(table, "❤"),
                *hand = names_find(table, "👋🏽");
    assert_non_null(turtle);
    assert_string_equal(names_of(turtle, 0), "Schildkröte");
    assert_string_equal(names_of(turtle, 1), "turtle dove"); /* the name, not the keywords; white space joined */
    assert_non_null(heart);
    assert_null(names_of(heart, 0));
    assert_string_equal(names_of(heart, 1), "Tom & red heart");
    assert_non_null(hand);
    assert_null(names_find(table, "🐱"));
    names_free(table);

    assert_int_equal(names_load(folder, NULL, 0, &table), STATUS_OK); /* all: de, en; not root */
    assert_int_equal(table->locale_count, 2);
    assert_string_equal(table->locales[1], "en");
    names_free(table);
}

static void test_names_refuse(void **state)
{
    (void)state;
    static const char *const unknown[] = {"fr"}, *const climbing[] = {"../annotations/en"},
                             *const twice[] = {"en", "en"};
    NameTable *table = NULL;
    make_cldr();
    assert_int_equal(names_load(folder, unknown, 1, &table), ERR_USAGE);
    assert_non_null(strstr(status_message(), "'fr'"));
    assert_int_equal(names_load(folder, climbing, 1, &table), ERR_USAGE);
    assert_int_equal(names_load(folder, twice, 2, &table), ERR_USAGE);
    write_text("annotations/en.xml", "<ldml><annotations><annotation cp=\"x\" type=\"tts\">cut");
    assert_int_equal(names_load(folder, NULL, 0, &table), ERR_FORMAT);
    assert_non_null(strstr(status_message(), "en.xml: "));
    assert_int_equal(names_load("/nonexistent", NULL, 0, &table), ERR_IO);
}

static void test_bases(void **state)
{
    (void)state;
    char base[64];
    bool toned = false;
    assert_true(names_base("👩🏽\u200d🚀", base, sizeof base, &toned));
    assert_true(toned);
    assert_string_equal(base, "👩\u200d🚀");
    assert_true(names_base("❤\xef\xb8\x8f", base, sizeof base, &toned));
    assert_false(toned);
    assert_string_equal(base, "❤");
    assert_false(names_strip_selector("abc", base, 3));
    assert_true(names_strip_selector("abc", base, 4));
}

static void test_shrink(void **state)
{
    (void)state;
    uint8_t pixels[3 * 3 * 3];
    Picture in = {.width = 3, .height = 3, .rgb = pixels}, out = {0};
    for (int i = 0; i < 9; i++) {
        for (int c = 0; c < 3; c++) pixels[3 * i + c] = (uint8_t)(10 * i + c);
    }
    assert_int_equal(picture_shrink(&in, 1, 1, &out), STATUS_OK);
    assert_int_equal(out.rgb[0], 40);
    assert_int_equal(out.rgb[2], 42);
    picture_free(&out);
    /* 3 to 2: the first output covers one whole source pixel and half of the next, both ways: weights 4, 2, 2, 1. */
    assert_int_equal(picture_shrink(&in, 2, 2, &out), STATUS_OK);
    assert_int_equal(out.rgb[0], (4 * 0 + 2 * 10 + 2 * 30 + 40 + 4) / 9);
    assert_int_equal(out.rgb[3 * 3], (4 * 80 + 2 * 70 + 2 * 50 + 40 + 4) / 9);
    picture_free(&out);
    assert_int_equal(picture_shrink(&in, 4, 3, &out), ERR_USAGE);
}

static void test_crop(void **state)
{
    (void)state;
    uint8_t pixels[5 * 1 * 3] = {0};
    Picture in = {.width = 5, .height = 1, .rgb = pixels}, out = {0};
    for (int x = 0; x < 5; x++) pixels[3 * x] = (uint8_t)(x + 1);
    assert_int_equal(picture_crop_middle(&in, 3, 3, &out), STATUS_OK);
    assert_int_equal(out.rgb[0], 255); /* above and below: white */
    assert_int_equal(out.rgb[3 * 3], 2);
    assert_int_equal(out.rgb[3 * 5], 4);
    assert_int_equal(out.rgb[3 * 6], 255);
    picture_free(&out);
}

static void test_png(void **state)
{
    (void)state;
    uint8_t pixels[2 * 2 * 3] = {1, 2, 3, 250, 5, 6, 7, 128, 9, 10, 11, 12};
    Picture in = {.width = 2, .height = 2, .rgb = pixels}, out = {0};
    uint8_t *png = NULL;
    size_t size = 0;
    assert_int_equal(picture_encode(&in, &png, &size), STATUS_OK);
    assert_int_equal(picture_decode(png, size, "x", &out), STATUS_OK);
    assert_int_equal(out.width, 2);
    assert_memory_equal(out.rgb, pixels, sizeof pixels);
    picture_free(&out);
    for (size_t cut = 0; cut + 32 < size; cut += 7) { /* the end mark may be missing */
        assert_int_not_equal(picture_decode(png, cut, "cut.png", &out), STATUS_OK);
        assert_null(out.rgb);
    }
    memset(png + 16, 0x7f, 8); /* the header's width and height */
    assert_int_not_equal(picture_decode(png, size, "huge.png", &out), STATUS_OK);
    free(png);
}

static void test_shards(void **state)
{
    (void)state;
    ShardWriter *writer = NULL;
    const char *key = NULL;
    char path[256], big[1000];
    memset(big, 'b', sizeof big);
    assert_int_equal(shard_writer_open(folder, 0, &writer), ERR_USAGE);
    assert_int_equal(shard_writer_open(folder, 2, &writer), STATUS_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(shard_writer_sample(writer, &key), STATUS_OK);
        assert_int_equal(shard_writer_member(writer, "txt", big, i == 1 ? sizeof big : 512), STATUS_OK);
        assert_int_equal(shard_writer_member(writer, "json", "{}", 2), STATUS_OK);
    }
    assert_string_equal(key, "000010000");
    snprintf(path, sizeof path, "%s/00001.tar", folder);
    assert_false(file_exists(path)); /* not before it is complete */
    assert_int_equal(shard_writer_shards(writer), 2);
    assert_int_equal(shard_writer_close(writer), STATUS_OK);
    assert_true(file_exists(path));

    snprintf(path, sizeof path, "%s/00000.tar", folder);
    static const struct {
        const char *name;
        int64_t size;
    } expected[] = {{"000000000.txt", 512}, {"000000000.json", 2}, {"000000001.txt", 1000}, {"000000001.json", 2}};
    Archive *archive = NULL;
    assert_int_equal(archive_open(path, 0, &archive), STATUS_OK);
    const char *name = NULL;
    int64_t size = 0;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(archive_next(archive, &name, &size), STATUS_OK);
        assert_string_equal(name, expected[i].name);
        assert_int_equal(size, expected[i].size);
        char data[1000];
        assert_int_equal(archive_read(archive, data), STATUS_OK);
        if (i == 2) assert_memory_equal(data, big, sizeof big);
    }
    assert_int_equal(archive_next(archive, &name, &size), STATUS_END);
    archive_close(archive);

    assert_int_equal(shard_writer_open(folder, 2, &writer), STATUS_OK);
    assert_int_equal(shard_writer_sample(writer, &key), STATUS_OK);
    shard_writer_abandon(writer);
    snprintf(path, sizeof path, "%s/00000.tar.partial", folder);
    assert_false(file_exists(path));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_names, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_names_refuse, make_folder, remove_folder),
        cmocka_unit_test(test_bases),
        cmocka_unit_test(test_shrink),
        cmocka_unit_test(test_crop),
        cmocka_unit_test(test_png),
        cmocka_unit_test_setup_teardown(test_shards, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
