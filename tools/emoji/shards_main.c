/* emoji_shards: pictures of emoji with their names in many languages, as webdataset shards (docs/data.md). */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/random.h"
#include "emoji/font.h"
#include "emoji/names.h"
#include "emoji/picture.h"
#include "emoji/shard_writer.h"

#define FONT_PATH "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
#define CLDR_PATH "/usr/share/unicode/cldr/common"
#define PICTURE_SIDE 128 /* the middle of the font's 136x128 bitmaps */
#define LIST_LIMIT (1u << 20)

typedef struct Options {
    const char *out, *emoji, *languages, *font, *cldr;
    int64_t resolution, per_shard, repeat, seed;
    double validation;
    bool skin_tones;
} Options;

typedef struct Words {
    char *text; /* the file; the words point into it */
    char **items;
    size_t count, capacity;
} Words;

/* One set of shards with its list of names. */
typedef struct Output {
    ShardWriter *writer;
    StrBuf names, corpus;
    const Emoji **emoji;
    size_t count;
} Output;

static const char usage[] =
    "emoji_shards --out DIR [options]\n"
    "\n"
    "Writes webdataset shards DIR/00000.tar, ... of emoji pictures (.png), a name of each (.txt) and its names in all\n"
    "chosen languages (.json, member \"captions\"); DIR/names.tsv (emoji, language, name) and DIR/corpus.txt (the\n"
    "names, one a line, for spm_train).\n"
    "\n"
    "  --emoji FILE|N|all       a file with one emoji a line (the rest of a line and lines that begin with \"# \" are\n"
    "                           ignored), or N of them spread over all, or all (default: all)\n"
    "  --languages FILE|N|all   a file with one CLDR locale a line, or the N languages with the most names, or all\n"
    "                           (default: all)\n"
    "  --resolution R           pictures of R x R pixels, 1 to 128 (default: 128)\n"
    "  --samples-per-shard K    1 to 9999 (default: 1000)\n"
    "  --repeat K               every emoji K times, each time with another name in its .txt (default: 1)\n"
    "  --validation FRACTION    put about this share of the emoji into DIR/validation/ instead; those that differ by\n"
    "                           skin tone only stay together (default: 0)\n"
    "  --no-skin-tones          leave out emoji with a skin tone\n"
    "  --seed S                 of the order of the samples (default: 0)\n"
    "  --font PATH              default: " FONT_PATH "\n"
    "  --cldr DIR               CLDR's folder `common`; default: " CLDR_PATH "\n";

/* A file of words: the first of each line. */
static Status read_list(const char *path, Words *words)
{
    Status status = STATUS_OK;
    size_t size = 0;
    TRY(file_read(path, LIST_LIMIT, &words->text, &size));
    if (!utf8_valid(words->text, size)) FAIL(ERR_FORMAT, "%s: not valid UTF-8", path);
    const char *begin = words->text;
    utf8_skip_mark(&begin, &size);
    char *rest = words->text + (begin - words->text);
    for (char *line = strsep(&rest, "\n"); line; line = strsep(&rest, "\n")) {
        if (line[0] == '#' && (line[1] == ' ' || line[1] == 0)) continue;
        line += strspn(line, " \t\r");
        line[strcspn(line, " \t\r")] = 0;
        if (!*line) continue;
        TRY(mem_grow(&words->items, &words->capacity, words->count + 1, sizeof *words->items));
        words->items[words->count++] = line;
    }
    if (!words->count) FAIL(ERR_FORMAT, "%s: the list is empty", path);
fail:
    return status;
}

static void free_list(Words *words)
{
    free(words->items);
    free(words->text);
}

static bool parse_count(const char *text, int64_t *out)
{
    char *end = NULL;
    long long value = strtoll(text, &end, 10);
    if (end == text || *end) return false;
    *out = value;
    return true;
}

/* The `count` languages with the most names, ties by name; regional files and other spellings of a language (with an
 * underscore in their name) are passed over. */
static Status pick_languages(const NameTable *table, int64_t count, Words *words)
{
    Status status = STATUS_OK;
    bool *taken = mem_alloc_array(table->locale_count, sizeof *taken);
    if (!taken) FAIL(ERR_MEMORY, "no memory to choose languages");
    for (int64_t i = 0; i < count; i++) {
        size_t best = table->locale_count;
        for (size_t k = 0; k < table->locale_count; k++) {
            if (taken[k] || strchr(table->locales[k], '_')) continue;
            if (best == table->locale_count || table->locale_names[k] > table->locale_names[best]) best = k;
        }
        if (best == table->locale_count) {
            FAIL(ERR_USAGE, "--languages %lld: there are only %lld", (long long)count, (long long)i);
        }
        taken[best] = true;
    }
    for (size_t k = 0; k < table->locale_count; k++) {
        if (!taken[k]) continue;
        char *copy = arena_strdup(table->arena, table->locales[k]);
        if (!copy) FAIL(ERR_MEMORY, "no memory to choose languages");
        TRY(mem_grow(&words->items, &words->capacity, words->count + 1, sizeof *words->items));
        words->items[words->count++] = copy;
    }
fail:
    free(taken);
    return status;
}

static Status load_names(const Options *options, NameTable **out)
{
    Status status = STATUS_OK;
    NameTable *all = NULL;
    Words words = {0};
    int64_t count = 0;
    if (strcmp(options->languages, "all") == 0) {
        TRY(names_load(options->cldr, NULL, 0, out));
    } else {
        if (parse_count(options->languages, &count)) {
            if (count < 1) FAIL(ERR_USAGE, "--languages %lld: at least 1", (long long)count);
            TRY(names_load(options->cldr, NULL, 0, &all));
            TRY(pick_languages(all, count, &words));
        } else {
            TRY(read_list(options->languages, &words));
        }
        TRY(names_load(options->cldr, (const char *const *)words.items, words.count, out));
    }
fail:
    free_list(&words);
    names_free(all);
    return status;
}

/* The emoji that have a picture, in the table's order. */
static Status with_pictures(const Options *options, const NameTable *table, EmojiFont *font, const Emoji **chosen,
                            size_t *count)
{
    Status status = STATUS_OK;
    for (size_t i = 0; i < table->emoji_count; i++) {
        char base[128];
        bool toned = false;
        const uint8_t *png = NULL;
        size_t size = 0;
        if (!names_base(table->emoji[i].text, base, sizeof base, &toned)) continue;
        if (toned && !options->skin_tones) continue;
        TRY(font_png(font, table->emoji[i].text, &png, &size));
        if (png) chosen[(*count)++] = &table->emoji[i];
    }
    if (!*count) FAIL(ERR_UNSUPPORTED, "%s: no picture of any emoji that has a name", options->font);
fail:
    return status;
}

static Status listed_emoji(const char *path, const NameTable *table, EmojiFont *font, Words *words,
                           const Emoji **chosen, size_t *count)
{
    Status status = STATUS_OK;
    for (size_t i = 0; i < words->count; i++) {
        char text[128];
        const uint8_t *png = NULL;
        size_t size = 0;
        if (!names_strip_selector(words->items[i], text, sizeof text)) {
            FAIL(ERR_FORMAT, "%s: '%s' is too long for an emoji", path, words->items[i]);
        }
        const Emoji *emoji = names_find(table, text);
        if (!emoji) FAIL(ERR_FORMAT, "%s: '%s' has no name in any chosen language", path, words->items[i]);
        TRY(font_png(font, text, &png, &size));
        if (!png) FAIL(ERR_FORMAT, "%s: the font has no picture of '%s'", path, words->items[i]);
        for (size_t k = 0; k < *count; k++) {
            if (chosen[k] == emoji) FAIL(ERR_FORMAT, "%s: '%s' is listed twice", path, words->items[i]);
        }
        chosen[(*count)++] = emoji;
    }
fail:
    return status;
}

static Status choose_emoji(const Options *options, const NameTable *table, EmojiFont *font, const Emoji ***out,
                           size_t *out_count)
{
    Status status = STATUS_OK;
    Words words = {0};
    int64_t wanted = 0;
    size_t count = 0;
    const Emoji **chosen = NULL;
    bool number = parse_count(options->emoji, &wanted), all = strcmp(options->emoji, "all") == 0;
    if (!number && !all) TRY(read_list(options->emoji, &words));
    chosen = mem_alloc_array(table->emoji_count > words.count ? table->emoji_count : words.count, sizeof *chosen);
    if (!chosen) FAIL(ERR_MEMORY, "no memory to choose emoji");
    if (number || all) {
        TRY(with_pictures(options, table, font, chosen, &count));
    } else {
        TRY(listed_emoji(options->emoji, table, font, &words, chosen, &count));
    }
    if (number) {
        if (wanted < 1 || (uint64_t)wanted > count) {
            FAIL(ERR_USAGE, "--emoji %lld: from 1 to %zu", (long long)wanted, count);
        }
        for (size_t i = 0; i < (size_t)wanted; i++) chosen[i] = chosen[i * count / (size_t)wanted];
        count = (size_t)wanted;
    }
    *out = chosen;
    *out_count = count;
    chosen = NULL;
fail:
    free(chosen);
    free_list(&words);
    return status;
}

/* The emoji's bitmap cut to its middle square and shrunk; *width and *height are those of the bitmap. */
static Status make_picture(EmojiFont *font, const char *text, int side, uint8_t **png, size_t *size, int *width,
                           int *height)
{
    Status status = STATUS_OK;
    Picture strike = {0}, middle = {0}, small = {0};
    const uint8_t *glyph = NULL;
    size_t glyph_size = 0;
    TRY(font_png(font, text, &glyph, &glyph_size));
    TRY(picture_decode(glyph, glyph_size, text, &strike));
    *width = strike.width;
    *height = strike.height;
    TRY(picture_crop_middle(&strike, PICTURE_SIDE, PICTURE_SIDE, &middle));
    TRY(picture_shrink(&middle, side, side, &small));
    TRY(picture_encode(&small, png, size));
fail:
    picture_free(&strike);
    picture_free(&middle);
    picture_free(&small);
    return status;
}

static Status write_sample(const Options *options, const NameTable *table, EmojiFont *font, Output *output,
                           const Emoji *emoji, size_t name)
{
    Status status = STATUS_OK;
    StrBuf json = {0};
    JsonWriter w;
    uint8_t *png = NULL;
    size_t png_size = 0;
    int width = 0, height = 0;
    const char *key = NULL, *caption = emoji->names[name].text;
    TRY(make_picture(font, emoji->text, (int)options->resolution, &png, &png_size, &width, &height));
    TRY(shard_writer_sample(output->writer, &key));
    json_begin(&w, &json);
    json_object(&w, NULL);
    json_string(&w, "key", key);
    json_string(&w, "caption", caption);
    json_string(&w, "LANGUAGE", table->locales[emoji->names[name].locale]);
    json_int(&w, "width", options->resolution);
    json_int(&w, "height", options->resolution);
    json_int(&w, "original_width", width);
    json_int(&w, "original_height", height);
    json_string(&w, "emoji", emoji->text);
    json_object(&w, "captions");
    for (size_t i = 0; i < emoji->name_count; i++) {
        json_string(&w, table->locales[emoji->names[i].locale], emoji->names[i].text);
    }
    json_end_object(&w);
    json_end_object(&w);
    if (!json.data) FAIL(ERR_MEMORY, "no memory for the metadata of a sample");
    TRY(shard_writer_member(output->writer, "png", png, png_size));
    TRY(shard_writer_member(output->writer, "txt", caption, strlen(caption)));
    TRY(shard_writer_member(output->writer, "json", json.data, json.size));
fail:
    strbuf_free(&json);
    free(png);
    return status;
}

static Status write_lists(const NameTable *table, const char *folder, Output *output)
{
    Status status = STATUS_OK;
    char path[4096];
    for (size_t i = 0; i < output->count; i++) {
        const Emoji *emoji = output->emoji[i];
        for (size_t k = 0; k < emoji->name_count; k++) {
            TRY(strbuf_printf(&output->names, "%s\t%s\t%s\n", emoji->text, table->locales[emoji->names[k].locale],
                              emoji->names[k].text));
            TRY(strbuf_printf(&output->corpus, "%s\n", emoji->names[k].text));
        }
    }
    TRY(path_join(path, sizeof path, folder, "names.tsv"));
    TRY(file_write_atomic(path, output->names.data, output->names.size));
    TRY(path_join(path, sizeof path, folder, "corpus.txt"));
    TRY(file_write_atomic(path, output->corpus.data, output->corpus.size));
fail:
    return status;
}

/* Every emoji `repeat` times, each time in another order and with the next of its names. */
static Status write_output(const Options *options, const NameTable *table, EmojiFont *font, const char *folder,
                           Output *output)
{
    Status status = STATUS_OK;
    if (!output->count) return STATUS_OK;
    TRY(shard_writer_open(folder, options->per_shard, &output->writer));
    for (int64_t round = 0; round < options->repeat; round++) {
        for (size_t i = 0; i < output->count; i++) {
            size_t pick =
                (size_t)random_permute((uint64_t)options->seed, RANDOM_SHARD_ORDER, (uint64_t)round, output->count, i);
            const Emoji *emoji = output->emoji[pick];
            TRY(write_sample(options, table, font, output, emoji, (pick + (size_t)round) % emoji->name_count));
        }
    }
    int64_t shards = shard_writer_shards(output->writer);
    ShardWriter *writer = output->writer;
    output->writer = NULL;
    TRY(shard_writer_close(writer));
    TRY(write_lists(table, folder, output));
    size_t names = 0;
    for (size_t i = 0; i < output->count; i++) names += output->emoji[i]->name_count;
    printf("%s: %zu emoji, %zu languages, %zu names; %zu samples of %lldx%lld in %lld shards\n", folder, output->count,
           table->locale_count, names, output->count * (size_t)options->repeat, (long long)options->resolution,
           (long long)options->resolution, (long long)shards);
fail:
    return status;
}

static bool is_validation(const Options *options, const Emoji *emoji)
{
    char base[128];
    bool toned = false;
    if (!names_base(emoji->text, base, sizeof base, &toned)) return false;
    return (double)(hash_string64(base) >> 11) * 0x1p-53 < options->validation;
}

static Status run(const Options *options)
{
    Status status = STATUS_OK;
    NameTable *table = NULL;
    EmojiFont *font = NULL;
    const Emoji **chosen = NULL, **kept = NULL, **held = NULL;
    Output train = {0}, validation = {0};
    size_t count = 0;
    char folder[4096];
    TRY(font_open(options->font, &font));
    TRY(load_names(options, &table));
    TRY(choose_emoji(options, table, font, &chosen, &count));
    kept = mem_alloc_array(count, sizeof *kept);
    held = mem_alloc_array(count, sizeof *held);
    if (!kept || !held) FAIL(ERR_MEMORY, "no memory to split the emoji");
    train.emoji = kept;
    validation.emoji = held;
    for (size_t i = 0; i < count; i++) {
        if (is_validation(options, chosen[i])) {
            held[validation.count++] = chosen[i];
        } else {
            kept[train.count++] = chosen[i];
        }
    }
    if (!train.count) FAIL(ERR_USAGE, "--validation %g leaves nothing to train on", options->validation);
    TRY(write_output(options, table, font, options->out, &train));
    TRY(path_join(folder, sizeof folder, options->out, "validation"));
    TRY(write_output(options, table, font, folder, &validation));
fail:
    shard_writer_abandon(train.writer);
    shard_writer_abandon(validation.writer);
    strbuf_free(&train.names);
    strbuf_free(&train.corpus);
    strbuf_free(&validation.names);
    strbuf_free(&validation.corpus);
    free(chosen);
    free(kept);
    free(held);
    names_free(table);
    font_close(font);
    return status;
}

static Status number_option(const char *name, const char *text, int64_t min, int64_t max, int64_t *out)
{
    if (!parse_count(text, out) || *out < min || *out > max) {
        return status_fail(ERR_USAGE, __FILE__, __LINE__, "--%s %s: a whole number from %lld to %lld", name, text,
                           (long long)min, (long long)max);
    }
    return STATUS_OK;
}

static Status parse(int argc, char **argv, Options *options, bool *help)
{
    static const struct option known[] = {{"out", required_argument, NULL, 'o'},
                                          {"emoji", required_argument, NULL, 'e'},
                                          {"languages", required_argument, NULL, 'l'},
                                          {"resolution", required_argument, NULL, 'r'},
                                          {"repeat", required_argument, NULL, 'k'},
                                          {"samples-per-shard", required_argument, NULL, 'n'},
                                          {"seed", required_argument, NULL, 's'},
                                          {"validation", required_argument, NULL, 'v'},
                                          {"font", required_argument, NULL, 'f'},
                                          {"cldr", required_argument, NULL, 'c'},
                                          {"help", no_argument, NULL, 'h'},
                                          {"no-skin-tones", no_argument, NULL, 't'},
                                          {NULL, 0, NULL, 0}};
    Status status = STATUS_OK;
    *options = (Options){.emoji = "all",
                         .languages = "all",
                         .font = FONT_PATH,
                         .cldr = CLDR_PATH,
                         .resolution = PICTURE_SIDE,
                         .per_shard = 1000,
                         .repeat = 1,
                         .skin_tones = true};
    for (int option; (option = getopt_long(argc, argv, "h", known, NULL)) != -1;) {
        char *end = NULL;
        switch (option) {
        case 'o':
            options->out = optarg;
            break;
        case 'e':
            options->emoji = optarg;
            break;
        case 'l':
            options->languages = optarg;
            break;
        case 'f':
            options->font = optarg;
            break;
        case 'c':
            options->cldr = optarg;
            break;
        case 't':
            options->skin_tones = false;
            break;
        case 'h':
            *help = true;
            break;
        case 'r':
            TRY(number_option("resolution", optarg, 1, PICTURE_SIDE, &options->resolution));
            break;
        case 'k':
            TRY(number_option("repeat", optarg, 1, 1000000, &options->repeat));
            break;
        case 'n':
            TRY(number_option("samples-per-shard", optarg, 1, 9999, &options->per_shard));
            break;
        case 's':
            TRY(number_option("seed", optarg, 0, INT64_MAX, &options->seed));
            break;
        case 'v':
            options->validation = strtod(optarg, &end);
            if (end == optarg || *end || !(options->validation >= 0 && options->validation < 1)) {
                FAIL(ERR_USAGE, "--validation %s: a share of at least 0 and below 1", optarg);
            }
            break;
        default:
            FAIL(ERR_USAGE, "see emoji_shards --help");
        }
    }
    if (optind < argc) FAIL(ERR_USAGE, "'%s' is not an option; see emoji_shards --help", argv[optind]);
    if (!*help && !options->out) FAIL(ERR_USAGE, "--out DIR is missing; see emoji_shards --help");
fail:
    return status;
}

int main(int argc, char **argv)
{
    Options options;
    bool help = false;
    Status status = parse(argc, argv, &options, &help);
    if (status == STATUS_OK && help) {
        fputs(usage, stdout);
        return 0;
    }
    if (status == STATUS_OK) status = run(&options);
    if (status != STATUS_OK) fprintf(stderr, "emoji_shards: %s\n", status_message());
    return status_exit_code(status);
}
