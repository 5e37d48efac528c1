/* emoji_score: how many generated pictures have their own emoji as the nearest neighbour, by L2 over pixels, among
 * the emoji of a set of shards. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/archive.h"
#include "base/arena.h"
#include "base/file.h"
#include "base/json.h"
#include "emoji/picture.h"

#define MEMBER_LIMIT (64 << 20)
#define LIST_LIMIT (64u << 20)

static const char usage[] =
    "emoji_score LIST SHARD.tar [SHARD.tar ...] [--json FILE]\n"
    "\n"
    "LIST has one generated picture a line, columns parted by tabs: the PNG (relative to LIST's folder), its emoji,\n"
    "and, if you like, the language and the prompt. The references are the pictures of every emoji in the shards.\n"
    "A picture is right when the nearest reference by pixel L2 is its own emoji. Prints the share and the misses.\n";

typedef struct Reference {
    char *emoji;
    Picture picture;
} Reference;

typedef struct References {
    Reference *items;
    size_t count, capacity;
} References;

typedef struct Miss {
    const char *picture, *emoji, *nearest, *language, *prompt;
} Miss;

typedef struct Score {
    size_t prompts, right;
    Miss *misses;
    size_t miss_count, miss_capacity;
} Score;

static const Reference *find(const References *references, const char *emoji)
{
    for (size_t i = 0; i < references->count; i++) {
        if (strcmp(references->items[i].emoji, emoji) == 0) return &references->items[i];
    }
    return NULL;
}

/* A sample's "emoji" and its picture become a reference, unless that emoji is there already (--repeat). */
static Status add_reference(References *references, const char *shard, const char *json, size_t json_size,
                            const uint8_t *png, size_t png_size)
{
    Status status = STATUS_OK;
    JsonDoc *doc = NULL;
    Reference reference = {0};
    TRY(json_parse(json, json_size, 1 << 20, &doc));
    const char *emoji = json_text(json_get(json_root(doc), "emoji"), NULL);
    if (!emoji) FAIL(ERR_FORMAT, "%s: a sample's .json has no \"emoji\"; were the shards made by emoji_shards?", shard);
    if (!find(references, emoji)) {
        TRY(picture_decode(png, png_size, emoji, &reference.picture));
        reference.emoji = strdup(emoji);
        if (!reference.emoji) FAIL(ERR_MEMORY, "no memory for the references");
        TRY(mem_grow(&references->items, &references->capacity, references->count + 1, sizeof *references->items));
        references->items[references->count++] = reference;
        reference = (Reference){0};
    }
fail:
    json_free(doc);
    free(reference.emoji);
    picture_free(&reference.picture);
    return status;
}

static bool has_suffix(const char *name, const char *suffix)
{
    size_t length = strlen(name), n = strlen(suffix);
    return length > n && strcmp(name + length - n, suffix) == 0;
}

/* emoji_shards writes a sample's .png before its .json. */
static Status read_shard(const char *path, References *references)
{
    Status status = STATUS_OK;
    Archive *archive = NULL;
    uint8_t *png = NULL;
    size_t png_size = 0;
    char *data = NULL;
    TRY(archive_open(path, 0, &archive));
    for (;;) {
        const char *name = NULL;
        int64_t size = 0;
        status = archive_next(archive, &name, &size);
        if (status == STATUS_END) break;
        TRY(status);
        bool is_png = has_suffix(name, ".png"), is_json = has_suffix(name, ".json");
        if (!is_png && !is_json) continue;
        if (size < 1 || size > MEMBER_LIMIT)
            FAIL(ERR_LIMIT, "%s: member %s has %lld bytes", path, name, (long long)size);
        data = mem_alloc_array((size_t)size, 1);
        if (!data) FAIL(ERR_MEMORY, "%s: no memory for member %s", path, name);
        TRY(archive_read(archive, data));
        if (is_png) {
            free(png);
            png = (uint8_t *)data;
            png_size = (size_t)size;
        } else {
            if (!png) FAIL(ERR_FORMAT, "%s: %s comes before its .png", path, name);
            TRY(add_reference(references, path, data, (size_t)size, png, png_size));
            free(data);
        }
        data = NULL;
    }
    status = STATUS_OK;
fail:
    archive_close(archive);
    free(png);
    free(data);
    return status;
}

static double distance(const Picture *a, const Picture *b)
{
    double sum = 0;
    for (size_t i = 0; i < (size_t)a->width * (size_t)a->height * 3; i++) {
        double d = (double)a->rgb[i] - b->rgb[i];
        sum += d * d;
    }
    return sum;
}

static Status nearest(const References *references, const Picture *picture, const char *path, const char **emoji)
{
    Status status = STATUS_OK;
    double best = 0;
    *emoji = NULL;
    for (size_t i = 0; i < references->count; i++) {
        const Picture *other = &references->items[i].picture;
        if (other->width != picture->width || other->height != picture->height) {
            FAIL(ERR_MISMATCH, "%s is %d x %d, the shards' picture of %s %d x %d; sample at the shards' resolution",
                 path, picture->width, picture->height, references->items[i].emoji, other->width, other->height);
        }
        double d = distance(picture, other);
        if (!*emoji || d < best) {
            best = d;
            *emoji = references->items[i].emoji;
        }
    }
    if (!*emoji) FAIL(ERR_INTERNAL, "%s: no reference to compare with", path);
fail:
    return status;
}

static Status score_line(const char *folder, char *line, const References *references, Score *score)
{
    Status status = STATUS_OK;
    Picture picture = {0};
    char path[4096];
    char *columns[4] = {"", "", "", ""};
    for (int i = 0; i < 4 && line; i++) columns[i] = strsep(&line, "\t");
    if (!columns[0][0] || !columns[1][0]) FAIL(ERR_FORMAT, "the list: a line needs a picture, a tab, and its emoji");
    if (!find(references, columns[1])) FAIL(ERR_MISMATCH, "the list: '%s' is not among the shards' emoji", columns[1]);
    if (columns[0][0] == '/') {
        if (strlen(columns[0]) >= sizeof path) FAIL(ERR_LIMIT, "%s: the path is too long", columns[0]);
        strcpy(path, columns[0]);
    } else {
        TRY(path_join(path, sizeof path, folder, columns[0]));
    }
    const char *found = NULL;
    TRY(picture_load(path, &picture));
    TRY(nearest(references, &picture, path, &found));
    score->prompts++;
    if (strcmp(found, columns[1]) == 0) {
        score->right++;
    } else {
        TRY(mem_grow(&score->misses, &score->miss_capacity, score->miss_count + 1, sizeof *score->misses));
        score->misses[score->miss_count++] = (Miss){columns[0], columns[1], found, columns[2], columns[3]};
    }
fail:
    picture_free(&picture);
    return status;
}

static Status write_json(const char *path, const Score *score, size_t emoji)
{
    Status status = STATUS_OK;
    StrBuf text = {0};
    JsonWriter w;
    json_begin(&w, &text);
    json_object(&w, NULL);
    json_int(&w, "prompts", (int64_t)score->prompts);
    json_int(&w, "right", (int64_t)score->right);
    json_float(&w, "accuracy", (double)score->right / (double)score->prompts);
    json_int(&w, "emoji", (int64_t)emoji);
    json_array(&w, "misses");
    for (size_t i = 0; i < score->miss_count; i++) {
        const Miss *miss = &score->misses[i];
        json_object(&w, NULL);
        json_string(&w, "picture", miss->picture);
        json_string(&w, "emoji", miss->emoji);
        json_string(&w, "nearest", miss->nearest);
        json_string(&w, "language", miss->language);
        json_string(&w, "prompt", miss->prompt);
        json_end_object(&w);
    }
    json_end_array(&w);
    json_end_object(&w);
    TRY(strbuf_printf(&text, "\n"));
    TRY(file_write_atomic(path, text.data, text.size));
fail:
    strbuf_free(&text);
    return status;
}

static Status run(const char *list_path, char **shards, int shard_count, const char *json_path)
{
    Status status = STATUS_OK;
    References references = {0};
    Score score = {0};
    char *list = NULL, folder[4096];
    size_t size = 0;
    const char *slash = strrchr(list_path, '/');
    if (snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - list_path + 1) : 1, slash ? list_path : ".") >=
        (int)sizeof folder) {
        FAIL(ERR_LIMIT, "%s: the path is too long", list_path);
    }
    for (int i = 0; i < shard_count; i++) TRY(read_shard(shards[i], &references));
    if (!references.count) FAIL(ERR_FORMAT, "%s: no samples", shards[0]);
    TRY(file_read(list_path, LIST_LIMIT, &list, &size));
    char *rest = list;
    for (char *line = strsep(&rest, "\n"); line; line = strsep(&rest, "\n")) {
        if (*line) TRY(score_line(folder, line, &references, &score));
    }
    if (!score.prompts) FAIL(ERR_FORMAT, "%s: the list is empty", list_path);
    for (size_t i = 0; i < score.miss_count; i++) {
        const Miss *miss = &score.misses[i];
        printf("  missed: %s asked for, nearest to %s  %s %s (%s)\n", miss->emoji, miss->nearest, miss->language,
               miss->prompt, miss->picture);
    }
    printf("%zu of %zu pictures (%.1f%%) have their own emoji as the nearest neighbour among %zu, by pixel L2\n",
           score.right, score.prompts, 100.0 * (double)score.right / (double)score.prompts, references.count);
    if (json_path) TRY(write_json(json_path, &score, references.count));
fail:
    for (size_t i = 0; i < references.count; i++) {
        free(references.items[i].emoji);
        picture_free(&references.items[i].picture);
    }
    free(references.items);
    free(score.misses);
    free(list);
    return status;
}

int main(int argc, char **argv)
{
    static const struct option known[] = {
        {"json", required_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    const char *json_path = NULL;
    for (int option; (option = getopt_long(argc, argv, "h", known, NULL)) != -1;) {
        if (option == 'h') {
            fputs(usage, stdout);
            return 0;
        }
        if (option != 'j') return status_exit_code(ERR_USAGE);
        json_path = optarg;
    }
    if (argc - optind < 2) {
        fputs(usage, stderr);
        return status_exit_code(ERR_USAGE);
    }
    Status status = run(argv[optind], argv + optind + 1, argc - optind - 1, json_path);
    if (status != STATUS_OK) fprintf(stderr, "emoji_score: %s\n", status_message());
    return status_exit_code(status);
}
