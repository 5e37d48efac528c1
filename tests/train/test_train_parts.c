/* The parts of the program that need no run: command line, config differences, metrics, grids, state.json. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "train/args.h"
#include "train/checkpoint.h"
#include "train/checkpoint_aside.h"
#include "train/checkpoint_folder.h"
#include "train/checkpoint_manifest.h"
#include "train/config_difference.h"
#include "train/metrics.h"
#include "train/picture_grid.h"
#include "train/progress.h"
#include "train/sampling.h"

/* ---- args ---- */

typedef struct Options {
    bool flag;
    const char *text;
    ArgTexts texts;
    int64_t number;
    double real;
    int32_t word;
} Options;
static const char *const words[] = {"ddpm", "ddim", NULL};
static const ArgSpec specs[] = {
    {"flag", ARG_FLAG, offsetof(Options, flag), NULL, "a flag", 0, 0, NULL},
    {"text", ARG_TEXT, offsetof(Options, text), "T", "a text", 0, 0, NULL},
    {"prompt", ARG_TEXTS, offsetof(Options, texts), "T", "texts", 0, 0, NULL},
    {"number", ARG_INT, offsetof(Options, number), "N", "a number", 1, 9, NULL},
    {"scale", ARG_FLOAT, offsetof(Options, real), "S", "a real number", 0, 10, NULL},
    {"sampler", ARG_WORD, offsetof(Options, word), "W", "a word", 0, 0, words},
};
static const ArgTable table = {specs, sizeof specs / sizeof specs[0]};

static Status parse(Arena *arena, Options *out, ArgTexts *rest, const char *const *argv)
{
    int argc = 0;
    while (argv[argc]) argc++;
    *out = (Options){0};
    *rest = (ArgTexts){0};
    return args_parse("test", table, argc, (char **)argv, arena, out, rest);
}

#define PARSE(...) parse(arena, &o, &rest, (const char *const[]){__VA_ARGS__, NULL})

static void args_both_forms(void **state)
{
    (void)state;
    Arena *arena;
    Options o;
    ArgTexts rest;
    assert_int_equal(arena_create(&arena), STATUS_OK);
    assert_int_equal(PARSE("run", "--flag", "--text", "a=b", "--number=7", "--scale", "-0", "--sampler=ddim",
                           "--prompt", "x", "--prompt=", "k.v=1", "--", "--flag"),
                     STATUS_OK);
    assert_true(o.flag);
    assert_string_equal(o.text, "a=b");
    assert_int_equal(o.number, 7);
    assert_int_equal(o.word, 1);
    assert_int_equal(o.texts.count, 2);
    assert_string_equal(o.texts.items[0], "x");
    assert_string_equal(o.texts.items[1], "");
    assert_int_equal(rest.count, 3);
    assert_string_equal(rest.items[1], "k.v=1");
    assert_string_equal(rest.items[2], "--flag");
    arena_free(arena);
}

static void args_mistakes(void **state)
{
    (void)state;
    Arena *arena;
    Options o;
    ArgTexts rest;
    assert_int_equal(arena_create(&arena), STATUS_OK);
    assert_int_equal(PARSE("--promt", "x"), ERR_USAGE);
    assert_non_null(strstr(status_message(), "--prompt"));
    assert_int_equal(PARSE("--number", "10"), ERR_USAGE);
    assert_int_equal(PARSE("--number", "7x"), ERR_USAGE);
    assert_int_equal(PARSE("--number="), ERR_USAGE);
    assert_int_equal(PARSE("--number", "99999999999999999999"), ERR_USAGE);
    assert_int_equal(PARSE("--scale", "nan"), ERR_USAGE);
    assert_int_equal(PARSE("--scale", "11"), ERR_USAGE);
    assert_int_equal(PARSE("--sampler", "plms"), ERR_USAGE);
    assert_non_null(strstr(status_message(), "ddpm, ddim"));
    assert_int_equal(PARSE("--text"), ERR_USAGE);
    assert_int_equal(PARSE("--flag=yes"), ERR_USAGE);
    assert_int_equal(PARSE("-f"), ERR_USAGE);
    char name[5000] = "--";
    memset(name + 2, 'a', sizeof name - 3);
    name[sizeof name - 1] = 0;
    assert_int_equal(PARSE(name), ERR_USAGE);
    arena_free(arena);
}

/* ---- config differences ---- */

static void config_lines(void **state)
{
    (void)state;
    ConfigWalk walk;
    ConfigLine line;
    const char *const keys[] = {"seed",       "data.sources[0].name", "data.sources[0].weight", "data.sources[1].name",
                                "data.lanes", "model.precision"};
    const char *yaml = "seed: 1\ndata:\n  sources:\n    - name: a\n      weight: 2\n    - name: b\n  lanes: 4\n"
                       "model:\n  precision: auto\n";
    config_walk_begin(&walk, yaml);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        assert_true(config_walk_next(&walk, &line));
        assert_string_equal(line.key, keys[i]);
    }
    assert_memory_equal(line.value, "auto", line.value_size);
    assert_false(config_walk_next(&walk, &line));
}

static void config_lines_hostile(void **state)
{
    (void)state;
    ConfigWalk walk;
    ConfigLine line;
    size_t size = 20000;
    char *text = malloc(size + 1);
    assert_non_null(text);
    for (int seed = 0; seed < 200; seed++) {
        static const char letters[] = "a:- \n b.[]";
        uint32_t random = (uint32_t)seed * 2654435761u + 1;
        for (size_t i = 0; i < size; i++) {
            random = random * 1664525u + 1013904223u;
            text[i] = letters[(random >> 16) % (sizeof letters - 1)];
        }
        text[size] = 0;
        config_walk_begin(&walk, text);
        while (config_walk_next(&walk, &line)) assert_true(strlen(line.key) < sizeof line.key);
    }
    free(text);
}

/* ---- metrics ---- */

static void metrics_resume(void **state)
{
    (void)state;
    char path[] = "/tmp/vasily-metrics-XXXXXX", *text;
    size_t size;
    Metrics metrics;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(metrics_open(path, 0, &metrics), STATUS_OK);
    for (int64_t step = 1; step <= 5; step++)
        assert_int_equal(metrics_write(&metrics, &(StepMetrics){.step = step, .loss = 0.5}), STATUS_OK);
    assert_int_equal((int)write(metrics.file, "{\"step\": 2, \"lo", 15), 15); /* torn by a kill */
    metrics_close(&metrics);

    assert_int_equal(metrics_open(path, 3, &metrics), STATUS_OK);
    assert_int_equal(metrics_write(&metrics, &(StepMetrics){.step = 4, .loss = 0.25}), STATUS_OK);
    metrics_close(&metrics);
    assert_int_equal(file_read(path, 1 << 20, &text, &size), STATUS_OK);
    int lines = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        char want[32];
        snprintf(want, sizeof want, "\"step\": %d,", ++lines);
        assert_non_null(strstr(line, want));
        assert_int_equal(strstr(line, "0.25") != NULL, lines == 4);
    }
    assert_int_equal(lines, 4);
    free(text);
    unlink(path);
}

/* ---- pictures ---- */

static void grid_places_pictures(void **state)
{
    (void)state;
    uint8_t pictures[3][64 * 64 * 3];
    for (int i = 0; i < 3; i++) memset(pictures[i], 10 * (i + 1), sizeof pictures[i]);
    const char *const labels[] = {"en", NULL, "\xd1\x80\xd1\x83 long label that is cut"};
    PictureGrid grid;
    GridSpec spec = {.pictures = pictures[0], .labels = labels, .count = 3, .width = 64, .height = 64, .columns = 2};
    assert_int_equal(picture_grid_draw(&spec, &grid), STATUS_OK);
    assert_int_equal(grid.width, 4 + 2 * 68);
    assert_int_equal(grid.height, 4 + 2 * (64 + 11 + 4));
#define PIXEL(x, y) grid.rgb[3 * ((y)*grid.width + (x))]
    assert_int_equal(PIXEL(4, 4), 10);
    assert_int_equal(PIXEL(67, 67), 10);
    assert_int_equal(PIXEL(68, 67), 255);
    assert_int_equal(PIXEL(72, 4), 20);
    assert_int_equal(PIXEL(4, 83), 30);
    assert_int_equal(PIXEL(72, 83), 255); /* no fourth picture */
    int ink = 0;
    for (int y = 68; y < 79; y++)
        for (int x = 4; x < 68; x++) ink += PIXEL(x, y) != 255;
    assert_in_range(ink, 15, 60); /* "en" */
    ink = 0;
    for (int y = 68; y < 79; y++)
        for (int x = 72; x < 136; x++) ink += PIXEL(x, y) != 255;
    assert_int_equal(ink, 0);
    for (int y = 0; y < grid.height; y++)
        assert_int_equal(PIXEL(grid.width - 1, y), 255); /* labels end in their cell */
    picture_grid_free(&grid);
    const char *const unwritten[] = {"\xe7\x8c\xab", "\xd8\xae\xd8\xb7 cat", "cat"}; /* no boxes: left out */
    spec.labels = unwritten;
    assert_int_equal(picture_grid_draw(&spec, &grid), STATUS_OK);
    int inks[2] = {0};
    for (int y = 68; y < grid.height; y++)
        for (int x = 0; x < grid.width; x++)
            if (y < 79 || y >= 147) inks[y >= 147] += PIXEL(x, y) != 255;
    assert_int_equal(inks[0], 0);
    assert_in_range(inks[1], 15, 60);
    picture_grid_free(&grid);
    spec.count = 1 << 19;
    assert_int_equal(picture_grid_draw(&spec, &grid), ERR_LIMIT);
}

static void prompts_and_times(void **state)
{
    (void)state;
    char text[8];
    assert_string_equal(prompt_caption("de\tKatze"), "Katze");
    assert_string_equal(prompt_caption("cat"), "cat");
    prompt_label("de\tKatze", text, sizeof text);
    assert_string_equal(text, "de");
    prompt_label("a long caption", text, sizeof text);
    assert_string_equal(text, "a long ");
    prompt_label("abc \xd0\xba\xd0\xbe\xd1\x82", text, sizeof text); /* no half of a letter */
    assert_string_equal(text, "abc \xd0\xba");
    prompt_label("\xe7\x8c\xab\xe7\x8c\xab\tcat", text, sizeof text);
    assert_string_equal(text, "\xe7\x8c\xab\xe7\x8c\xab");
    progress_format_time(3723.4, text, sizeof text);
    assert_string_equal(text, "1:02:03");
    progress_format_time(-1, text, sizeof text);
    assert_string_equal(text, "0:00:00");
}

/* ---- state.json ---- */

static void state_round_trip(void **state)
{
    (void)state;
    StrBuf text = {0};
    char backend[] = "cpu \"x\"", config[] = "seed: 7\nname: \"\xc3\xa9\"\n";
    CheckpointState before = {.step = 30,
                              .samples = 240,
                              .total_steps = 60,
                              .seed = 7,
                              .optimizer = {.t = 29, .skipped = 1},
                              .world = 2,
                              .threads = 4,
                              .backend = backend,
                              .config = config},
                    after;
    assert_int_equal(cursor_create(7, 4, 1, &before.cursor), STATUS_OK);
    const CursorSource shapes = {.samples = 96, .block_size = 8, .mix = 2, .identity = 12345};
    assert_int_equal(cursor_set_source(before.cursor, 0, "shapes", &shapes), STATUS_OK);
    before.cursor->next_index = 240;
    before.cursor->positions[3] = (LanePosition){2, 11};
    assert_int_equal(checkpoint_format_state(&before, &text), STATUS_OK);
    assert_int_equal(checkpoint_parse_state("state.json", text.data, text.size, &after), STATUS_OK);
    assert_int_equal(after.step, 30);
    assert_int_equal(after.samples, 240);
    assert_int_equal(after.total_steps, 60);
    assert_int_equal(after.seed, 7);
    assert_int_equal(after.optimizer.t, 29);
    assert_int_equal(after.optimizer.skipped, 1);
    assert_int_equal(after.world, 2);
    assert_string_equal(after.backend, before.backend);
    assert_string_equal(after.config, before.config);
    assert_int_equal(after.cursor->next_index, 240);
    assert_int_equal(after.cursor->positions[3].position, 11);
    checkpoint_state_free(&after);

    /* Every cut and every flipped byte is refused or read, never more. */
    for (size_t i = 0; i < text.size; i++) {
        char *copy = malloc(text.size);
        assert_non_null(copy);
        memcpy(copy, text.data, text.size);
        copy[i] ^= 0x11;
        if (checkpoint_parse_state("state.json", copy, text.size, &after) == STATUS_OK) checkpoint_state_free(&after);
        if (checkpoint_parse_state("state.json", copy, i, &after) == STATUS_OK) checkpoint_state_free(&after);
        free(copy);
    }
    cursor_free(before.cursor);
    strbuf_free(&text);
}

/* ---- which checkpoints go ---- */

static void chooses_old_checkpoints(void **state)
{
    (void)state;
    const int64_t all[] = {4, 8, 10, 12, 16, 20};
    int64_t steps[6];
    memcpy(steps, all, sizeof all);
    assert_int_equal(checkpoint_choose_old(steps, 6, (CheckpointKeep){.keep = 2}), 4);
    assert_memory_equal(steps, all, 4 * sizeof *all);
    memcpy(steps, all, sizeof all);
    assert_int_equal(checkpoint_choose_old(steps, 6, (CheckpointKeep){.keep = 2, .permanent_every = 8}), 3);
    const int64_t old[] = {4, 10, 12};
    assert_memory_equal(steps, old, sizeof old);
    assert_int_equal(checkpoint_choose_old(steps, 3, (CheckpointKeep){.keep = 3}), 0);
    assert_int_equal(checkpoint_choose_old(steps, 0, (CheckpointKeep){.keep = 1}), 0);
}

/* ---- names in a folder of checkpoints ---- */

static void make_entry(const char *folder, const char *name)
{
    char path[PATH_MAX];
    assert_int_equal(path_join(path, sizeof path, folder, name), STATUS_OK);
    assert_int_equal(file_make_dirs(path), STATUS_OK);
}

static void lists_what_was_set_aside(void **state)
{
    (void)state;
    static const char *const others[] = {"step-0000060",      "step-0000060.set-aside-",    "step-0000060.set-aside-2b",
                                         "step-60.set-aside", "step-0000060.set-aside.tmp", "notes.set-aside"};
    static const char *const aside[] = {"latest.set-aside", "step-0000060.set-aside", "step-0000060.set-aside-12"};
    char folder[] = "/tmp/vasily-parts.XXXXXX", **names;
    size_t count;
    assert_non_null(mkdtemp(folder));
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) make_entry(folder, others[i]);
    for (size_t i = 0; i < 3; i++) make_entry(folder, aside[i]);
    assert_int_equal(checkpoint_list_aside(folder, &names, &count), STATUS_OK);
    assert_int_equal(count, 3);
    for (size_t i = 0; i < 3; i++) assert_string_equal(names[i], aside[i]);
    file_free_list(names, count);
    assert_int_equal(file_remove_tree(folder), STATUS_OK);
}

/* Where `latest` has become a folder meanwhile, the link that cannot be put there does not stay beside it. */
static void latest_that_cannot_be_moved(void **state)
{
    (void)state;
    char folder[] = "/tmp/vasily-parts.XXXXXX", **names;
    size_t count;
    assert_non_null(mkdtemp(folder));
    make_entry(folder, "latest");
    assert_int_equal(checkpoint_move_latest(folder, 60), ERR_IO);
    assert_int_equal(file_list(folder, &names, &count), STATUS_OK);
    assert_int_equal(count, 1);
    file_free_list(names, count);
    assert_int_equal(file_remove_tree(folder), STATUS_OK);
}

/* The C library's, with another process that renames the same folder first. */
static bool another_is_faster;

int rename(const char *from, const char *to)
{
    if (another_is_faster) {
        another_is_faster = false;
        assert_int_equal(renameat(AT_FDCWD, from, AT_FDCWD, to), 0);
        assert_int_equal(file_remove_tree(to), STATUS_OK);
    }
    return renameat(AT_FDCWD, from, AT_FDCWD, to);
}

static void removed_by_two(void **state)
{
    (void)state;
    char folder[] = "/tmp/vasily-parts.XXXXXX", **names;
    size_t count;
    assert_non_null(mkdtemp(folder));
    make_entry(folder, "step-0000060/inner");
    another_is_faster = true;
    assert_int_equal(checkpoint_remove(folder, 60), STATUS_OK);
    assert_false(another_is_faster);
    assert_int_equal(file_list(folder, &names, &count), STATUS_OK);
    assert_int_equal(count, 0);
    file_free_list(names, count);
    assert_int_equal(file_remove_tree(folder), STATUS_OK);
}

/* One without optimizer state, which somebody has put where the run saves, only steps aside. */
static void light_steps_aside(void **state)
{
    (void)state;
    static const char *const want[] = {"latest", "step-0000060", "step-0000060.set-aside"};
    const FileFacts weights = {.name = "weights.h5"};
    char folder[] = "/tmp/vasily-parts.XXXXXX", path[PATH_MAX], **names;
    size_t count;
    bool committed;
    assert_non_null(mkdtemp(folder));
    make_entry(folder, "step-0000060");
    make_entry(folder, "step-0000060.tmp");
    assert_int_equal(path_join(path, sizeof path, folder, "step-0000060"), STATUS_OK);
    assert_int_equal(manifest_write(path, CHECKPOINT_FORMAT_WHOLE, 60, &weights, 1), STATUS_OK);
    assert_true(checkpoint_lacks_optimizer(path));
    assert_int_equal(checkpoint_commit(folder, 60, (CheckpointKeep){.keep = 1}, &committed), STATUS_OK);
    assert_true(committed);
    assert_int_equal(file_list(folder, &names, &count), STATUS_OK);
    assert_int_equal(count, 3);
    for (size_t i = 0; i < 3; i++) assert_string_equal(names[i], want[i]);
    file_free_list(names, count);
    assert_int_equal(file_remove_tree(folder), STATUS_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_what_was_set_aside),
        cmocka_unit_test(latest_that_cannot_be_moved),
        cmocka_unit_test(removed_by_two),
        cmocka_unit_test(light_steps_aside),
        cmocka_unit_test(chooses_old_checkpoints),
        cmocka_unit_test(args_both_forms),
        cmocka_unit_test(args_mistakes),
        cmocka_unit_test(config_lines),
        cmocka_unit_test(config_lines_hostile),
        cmocka_unit_test(metrics_resume),
        cmocka_unit_test(grid_places_pictures),
        cmocka_unit_test(prompts_and_times),
        cmocka_unit_test(state_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
