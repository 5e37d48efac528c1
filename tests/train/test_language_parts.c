/* The parts of `vasily sample --grid` that need no model: its file, the font of its labels, the mean picture, the
 * sheet.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "train/language_grid.h"
#include "train/language_sheet.h"
#include "train/picture_font.h"

#define OK(call) check_ok((call), __LINE__)
static void check_ok(Status status, int line)
{
    if (status != STATUS_OK) fail_msg("line %d: %s", line, status_message());
}

/* ---- the file ---- */

static void refuses(const char *text, const char *words)
{
    LanguageGrid grid;
    Config *config = NULL;
    assert_int_equal(language_grid_load("grid.yaml", text, &grid, &config), ERR_CONFIG);
    if (!strstr(status_message(), words)) fail_msg("\"%s\" does not say %s", status_message(), words);
}

static void grids_are_read(void **state)
{
    (void)state;
    static const char text[] = "seeds: [3, 5]\n"
                               "subjects:\n"
                               "  - title: a cat\n"
                               "    prompts:\n"
                               "      no: en katt\n"
                               "      ja: 猫\n"
                               "      pt-BR: \"um: gato\"\n";
    LanguageGrid grid, again;
    Config *config, *other;
    StrBuf dumped = {0};
    OK(language_grid_load("grid.yaml", text, &grid, &config));
    assert_int_equal(language_grid_pictures(&grid), 6);
    OK(language_grid_dump(&grid, language_grid_subject(&grid, 0), &dumped));
    OK(language_grid_load("again.yaml", dumped.data, &again, &other));
    const LanguageSubject *subject = language_grid_subject(&again, 0);
    assert_int_equal(again.seeds.items[1], 5);
    assert_int_equal(subject->prompts.count, 3);
    assert_string_equal(subject->prompts.keys[0], "no"); /* a text, not false */
    assert_string_equal(subject->prompts.values[1], "猫");
    assert_string_equal(subject->prompts.keys[2], "pt-BR");
    assert_string_equal(subject->prompts.values[2], "um: gato");
    strbuf_free(&dumped);
    config_free(config);
    config_free(other);
}

static void mistakes_are_named(void **state)
{
    (void)state;
    refuses("seeds: [1]\n", "subjects");
    refuses("seeds: [1, 1]\nsubjects: [{title: a, prompts: {en: a}}]\n", "grid.yaml:1: seeds[1]: 1 is there twice");
    refuses("seeds: []\nsubjects: [{title: a, prompts: {en: a}}]\n", "seeds: are 0");
    refuses("subjects:\n  - title: a\n    prompts: {e/n: a}\n",
            "grid.yaml:3: subjects[0].prompts: \"e/n\" is no language");
    refuses("subjects:\n  - title: a\n    prompts: {}\n", "grid.yaml:3: subjects[0].prompts: are 0");
    refuses("subjects:\n  - title: a\n    prompts: [en]\n", "wants texts under keys");
    refuses("subjects:\n  - title: a\n    prompts:\n      en: [a]\n",
            "grid.yaml:4: subjects[0].prompts.en wants a text");
    refuses("subjects:\n  - title: a\n    prompts:\n      en: a\n      en: b\n", "written twice");
    refuses("subjects:\n  - prompts: {en: a}\n", "subjects[0].title is missing");
    refuses("subjects:\n  - title: a\n    prompt: {en: a}\n", "did you mean prompts?");
}

/* The files that are shipped; each in ten languages and more. */
static void shipped_grids_are_good(void **state)
{
    (void)state;
    char **names, path[4096];
    size_t count, read = 0;
    OK(file_list(TEST_SOURCE_DIR "/../configs/prompts", &names, &count));
    for (size_t i = 0; i < count; i++) {
        LanguageGrid grid;
        Config *config;
        OK(path_join(path, sizeof path, TEST_SOURCE_DIR "/../configs/prompts", names[i]));
        OK(language_grid_load(path, NULL, &grid, &config));
        for (size_t k = 0; k < grid.subjects.count; k++)
            assert_true(language_grid_subject(&grid, k)->prompts.count >= 10);
        config_free(config);
        read++;
    }
    assert_true(read >= 3);
    file_free_list(names, count);
}

/* ---- the font ---- */

enum { CANVAS_WIDTH = 64, CANVAS_HEIGHT = 16 };

/* The ink of a text, a row a line, '#' and '.'. */
static const char *drawn(const char *text, int32_t width)
{
    static uint8_t rgb[CANVAS_HEIGHT][CANVAS_WIDTH][3];
    static char out[CANVAS_HEIGHT * (CANVAS_WIDTH + 1) + 1];
    PictureCanvas canvas = {rgb[0][0], CANVAS_WIDTH};
    char *at = out;
    memset(rgb, 0xff, sizeof rgb);
    picture_font_draw(&canvas, text, 0, 2, width, 1);
    for (int y = 0; y < 10; y++) {
        for (int x = 0; x < width; x++) *at++ = rgb[y][x][0] < 128 ? '#' : '.';
        *at++ = '\n';
    }
    *at = 0;
    for (int y = 0; y < CANVAS_HEIGHT; y++)
        for (int x = width; x < CANVAS_WIDTH; x++) assert_int_equal(rgb[y][x][0], 255); /* nothing beyond */
    return out;
}

static void letters_are_legible(void **state)
{
    (void)state;
    assert_string_equal(drawn("ё", 5), ".....\n.....\n.#.#.\n.....\n.###.\n#...#\n#####\n#....\n.###.\n.....\n");
    assert_string_equal(drawn("É", 5), "...#.\n..#..\n#####\n#....\n#....\n####.\n#....\n#....\n#####\n.....\n");
    assert_string_equal(drawn("ж", 5), ".....\n.....\n.....\n.....\n#.#.#\n#.#.#\n.###.\n#.#.#\n#.#.#\n.....\n");
    assert_string_equal(drawn("ï", 5), ".....\n.....\n.#.#.\n.....\n.##..\n..#..\n..#..\n..#..\n.###.\n.....\n");
    assert_string_equal(drawn("ς", 5), ".....\n.....\n.....\n.....\n.###.\n#....\n#....\n.###.\n....#\n..##.\n");
    assert_true(picture_font_has("Größe, façade, señor, żółw, želva, kaplumbağa, Đà"));
    assert_true(picture_font_has("Щука, їжак, ґанок, ў, Ъгъл, χελώνα, Ώρα, ϊ"));
    assert_false(picture_font_has("猫"));
    assert_false(picture_font_has("a سلحفاة"));
    assert_false(picture_font_has("कछुआ"));
    assert_false(picture_font_has("😀"));
    assert_false(picture_font_has("\xc3"));
    assert_false(picture_font_has("\xf0\x9f"));
    assert_int_equal(picture_font_length("aжÉ猫😀"), 5);
}

/* Every character of a range but those of `none`. */
static void has_all(unsigned first, unsigned last, const char *none)
{
    for (unsigned code = first; code <= last; code++) {
        char text[4] = {0};
        if (code < 0x80) {
            text[0] = (char)code;
        } else if (code < 0x800) {
            text[0] = (char)(0xc0 | code >> 6);
            text[1] = (char)(0x80 | (code & 0x3f));
        } else {
            text[0] = (char)(0xe0 | code >> 12);
            text[1] = (char)(0x80 | (code >> 6 & 0x3f));
            text[2] = (char)(0x80 | (code & 0x3f));
        }
        if (picture_font_has(text) == (strstr(none, text) != NULL)) fail_msg("U+%04X, %s", code, text);
    }
}

/* What picture_font.h and docs/sampling.md promise. */
static void promised_letters_are_there(void **state)
{
    (void)state;
    has_all(0x20, 0x7e, "");
    has_all(0xc0, 0xff, "\xc3\xb7"); /* which is the sign of division */
    has_all(0x100, 0x17f, "");
    has_all(0x1ea0, 0x1ef9, "");
    has_all(0x386, 0x386, "");
    has_all(0x388, 0x3ce, "\xce\x8b\xce\x8d\xce\xa2"); /* of which there are none */
    has_all(0x400, 0x45f, "");
    assert_true(picture_font_has("Tiếng Việt có dấu, ữ Ơ ơ Ư ư"));
    assert_true(picture_font_has("Ђорђе, Љубљана, Ћуприја, Џез, Ѓорѓи, Ќе, Ґ ґ"));
    assert_true(picture_font_has("Қазақ тілі: ә ғ ң ө ұ ү һ; хәрефләр җ; тоҷикӣ ӯ ҳ қ"));
    assert_true(picture_font_has("„Ja…“ «да» ‘a’ – — • № ° € £ © ® § ¿ ¡ → −"));
    assert_false(picture_font_has("e\xcc\x81")); /* an accent that is a character of its own */
}

/* Two accents: over a small letter one above the other, over a large one by making the letter smaller. */
static void accents_are_stacked(void **state)
{
    (void)state;
    assert_string_equal(drawn("ấ", 5), "...#.\n..#..\n..#..\n.#.#.\n.###.\n....#\n.####\n#...#\n.####\n.....\n");
    assert_string_equal(drawn("Ấ", 5), "...#.\n..#..\n..#..\n.#.#.\n.###.\n#...#\n#####\n#...#\n#...#\n.....\n");
    assert_string_equal(drawn("ệ", 5), ".....\n.....\n..#..\n.#.#.\n.###.\n#...#\n#####\n#....\n.###.\n..#..\n");
    assert_string_equal(drawn("ị", 5), ".....\n.....\n..#..\n.....\n.##..\n..#..\n..#..\n..#..\n.###.\n..#..\n");
    char latin[64];
    snprintf(latin, sizeof latin, "%s", drawn("ï", 5));
    assert_string_equal(drawn("ї", 5), latin);
}

static void long_texts_end_in_dots(void **state)
{
    (void)state;
    char whole[512], cut[512];
    snprintf(whole, sizeof whole, "%s", drawn("abcde", 29));
    assert_string_equal(whole, drawn("abcde", 29));
    snprintf(cut, sizeof cut, "%s", drawn("abcdef", 29));
    assert_string_equal(cut, drawn("ab...", 29));
    assert_string_not_equal(cut, whole);
}

/* ---- the mean, the sheet ---- */

static void mean_is_of_light(void **state)
{
    (void)state;
    static const uint8_t pictures[2][2][3] = {{{0, 10, 255}, {100, 0, 7}}, {{255, 10, 255}, {200, 1, 7}}};
    uint8_t mean[2][3], one[2][3];
    picture_mean(pictures[0][0], 2, 2, mean[0]);
    assert_int_equal(mean[0][0], 188); /* half of white's light: 1.055 x 0.5^(1/2.4) - 0.055 = 0.7354 */
    assert_int_equal(mean[0][1], 10);
    assert_int_equal(mean[0][2], 255);
    assert_int_equal(mean[1][0], 160); /* (0.1274 + 0.5776) / 2 = 0.3525, which is 0.6284 of 255 = 160.2 */
    assert_int_equal(mean[1][2], 7);
    for (int v = 0; v < 256; v++) { /* the mean of one is itself */
        uint8_t single[2][3];
        memset(single, v, sizeof single);
        picture_mean(single[0], 1, 2, one[0]);
        assert_memory_equal(one, single, sizeof one);
    }
}

static void sheets_are_laid_out(void **state)
{
    (void)state;
    char *languages[] = {"en", "ar", "ru"}, *captions[] = {"cat", "قطة", "кот"};
    int64_t seeds[] = {7, 123};
    LanguageSubject subject = {.title = "a cat", .prompts = {languages, captions, 3}};
    uint8_t pictures[3 * 2][64 * 64 * 3], means[3][64 * 64 * 3];
    for (int i = 0; i < 6; i++) memset(pictures[i], 10 * (i + 1), sizeof pictures[i]);
    for (int i = 0; i < 3; i++) memset(means[i], 200 + i, sizeof means[i]);
    LanguageSheet sheet = {.subject = &subject,
                           .seeds = &(ConfigInts){seeds, 2},
                           .pictures = pictures[0],
                           .means = means[0],
                           .width = 64,
                           .height = 64,
                           .labels = true};
    PictureGrid grid, plain, both;
    OK(language_sheet_draw(&sheet, &grid));
    const int line = 13, width = 4 + 2 * 68 + 12 + 68, height = 4 + 2 * line + 3 * (line + 64 + 4);
    assert_int_equal(grid.width, width);
    assert_int_equal(grid.height, height);
    for (int row = 0; row < 3; row++) {
        const int top = 4 + 2 * line + row * (line + 68) + line;
        for (int column = 0; column < 2; column++) {
            const int left = 4 + 68 * column;
            assert_int_equal(grid.rgb[3 * (top * width + left)], 10 * (2 * row + column + 1));
            assert_int_equal(grid.rgb[3 * ((top + 63) * width + left + 63)], 10 * (2 * row + column + 1));
            assert_int_equal(grid.rgb[3 * ((top + 63) * width + left + 64)], 255);
        }
        assert_int_equal(grid.rgb[3 * (top * width + 4 + 2 * 68 + 12)], 200 + row);
        int code = 0, caption = 0; /* ink of the label's two parts */
        for (int y = top - line; y < top; y++)
            for (int x = 4; x < width; x++) *(x < 4 + 2 * 6 ? &code : &caption) += grid.rgb[3 * (y * width + x)] < 128;
        assert_true(code > 10);
        assert_int_equal(caption > 10, row != 1); /* Arabic is left to its code, not drawn as boxes */
    }
    for (int k = 0; k < 2; k++) { /* a title is left out likewise: its line is the first */
        subject.title = k ? "猫" : "a cat";
        picture_grid_free(&grid);
        OK(language_sheet_draw(&sheet, &grid));
        int ink = 0;
        for (int i = 0; i < (4 + line) * width; i++) ink += grid.rgb[3 * i] < 128;
        assert_int_equal(ink > 10, k == 0);
        assert_true(k == 0 || ink == 0);
    }
    sheet.labels = false;
    OK(language_sheet_draw(&sheet, &plain));
    assert_int_equal(plain.height, 4 + 3 * 68);
    OK(language_sheets_stack((PictureGrid[]){grid, plain}, 2, &both));
    assert_int_equal(both.height, height + 16 + plain.height);
    assert_memory_equal(both.rgb, grid.rgb, 3 * (size_t)width * (size_t)height);
    picture_grid_free(&grid);
    picture_grid_free(&plain);
    picture_grid_free(&both);
    sheet.width = 20000;
    assert_int_equal(language_sheet_draw(&sheet, &grid), ERR_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grids_are_read),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(shipped_grids_are_good),
        cmocka_unit_test(letters_are_legible),
        cmocka_unit_test(promised_letters_are_there),
        cmocka_unit_test(accents_are_stacked),
        cmocka_unit_test(long_texts_end_in_dots),
        cmocka_unit_test(mean_is_of_light),
        cmocka_unit_test(sheets_are_laid_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
