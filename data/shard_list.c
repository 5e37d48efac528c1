#include "data/shard_list.h"

#include <errno.h>
#include <glob.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/log.h"
#include "data/shard_file.h"

static const ShardNote NOTHING_TOLD = {-1, -1};

/* Room for a note of each path, those before untold. */
static Status make_notes(ShardList *list)
{
    Status status = STATUS_OK;
    size_t had = list->note_capacity;
    TRY(mem_grow(&list->notes, &list->note_capacity, list->capacity, sizeof list->notes[0]));
    for (size_t i = had; i < list->note_capacity; i++) list->notes[i] = NOTHING_TOLD;
fail:
    return status;
}

static Status list_append(ShardList *list, const char *path, size_t size)
{
    Status status = STATUS_OK;
    if (list->count >= SHARD_LIST_MAX_PATHS)
        FAIL(ERR_LIMIT, "more than %d shards; is a brace range too long?", SHARD_LIST_MAX_PATHS);
    if (size + 1 > SHARD_LIST_MAX_BYTES - list->bytes)
        FAIL(ERR_LIMIT, "the shards' paths take more than %zu bytes; is a brace range too long?", SHARD_LIST_MAX_BYTES);
    TRY(mem_grow(&list->paths, &list->capacity, list->count + 1, sizeof list->paths[0]));
    if (list->notes) TRY(make_notes(list));
    char *copy = mem_alloc_array(size + 1, 1);
    if (!copy) FAIL_WITH(ERR_MEMORY);
    memcpy(copy, path, size);
    list->paths[list->count++] = copy;
    list->bytes += size + 1;
fail:
    return status;
}

/* The closing brace that belongs to the opening one at `open`, or NULL. */
static const char *matching_brace(const char *open)
{
    int depth = 0;
    for (const char *p = open; *p; p++) {
        if (*p == '{') depth++;
        if (*p == '}' && --depth == 0) return p;
    }
    return NULL;
}

/* "012..345" between `text` and `end`: both numbers and the width they are padded to. */
static bool parse_range(const char *text, const char *end, int64_t *from, int64_t *to, int *width)
{
    int64_t value[2] = {0, 0};
    size_t digits[2] = {0, 0};
    bool padded = false;
    for (int i = 0; i < 2; i++) {
        const char *start = text;
        while (text < end && *text >= '0' && *text <= '9' && digits[i] < 18) {
            value[i] = value[i] * 10 + (*text++ - '0');
            digits[i]++;
        }
        if (digits[i] == 0) return false;
        if (digits[i] > 1 && *start == '0') padded = true;
        if (i == 0) {
            if (end - text < 2 || text[0] != '.' || text[1] != '.') return false;
            text += 2;
        }
    }
    if (text != end) return false;
    *from = value[0];
    *to = value[1];
    *width = padded ? (int)(digits[0] > digits[1] ? digits[0] : digits[1]) : 1;
    return true;
}

bool shard_list_is_range(const char *text, const char *end)
{
    int64_t from, to;
    int width;
    return parse_range(text, end, &from, &to, &width);
}

/* The first top-level comma between `text` and `end`, or `end`. */
static const char *next_comma(const char *text, const char *end)
{
    int depth = 0;
    for (; text < end; text++) {
        if (*text == '{') depth++;
        if (*text == '}') depth--;
        if (*text == ',' && depth == 0) break;
    }
    return text;
}

/* Writes head + middle + tail and expands what is still in it from the middle on. `done`: bytes known to be free of
 * groups. */
static Status expand(const char *pattern, size_t done, int depth, ShardList *list);

static Status expand_with(const char *pattern, size_t head, const char *middle, size_t middle_size, const char *tail,
                          size_t done, int depth, ShardList *list)
{
    char path[SHARD_LIST_MAX_LENGTH + 1];
    size_t tail_size = strlen(tail);
    if (head + middle_size + tail_size > SHARD_LIST_MAX_LENGTH) {
        return status_fail(ERR_LIMIT, __FILE__, __LINE__, "a shard's path is longer than %d bytes: %.60s...",
                           SHARD_LIST_MAX_LENGTH, SHARD_SHOWN(pattern));
    }
    memcpy(path, pattern, head);
    memcpy(path + head, middle, middle_size);
    memcpy(path + head + middle_size, tail, tail_size + 1);
    return expand(path, done, depth, list);
}

static Status expand(const char *pattern, size_t done, int depth, ShardList *list)
{
    Status status = STATUS_OK;
    if (depth > SHARD_LIST_MAX_GROUPS) /* bounds the recursion */
        FAIL(ERR_LIMIT, "more than %d braces in a shard pattern: %.60s...", SHARD_LIST_MAX_GROUPS,
             SHARD_SHOWN(pattern));
    for (const char *open = strchr(pattern + done, '{'); open; open = strchr(open + 1, '{')) {
        const char *close = matching_brace(open);
        if (!close) break;
        size_t head = (size_t)(open - pattern);
        int64_t from, to;
        int width;
        if (parse_range(open + 1, close, &from, &to, &width)) {
            int64_t step = from <= to ? 1 : -1;
            if ((to - from) * step >= SHARD_LIST_MAX_PATHS)
                FAIL(ERR_LIMIT, "the range in %.200s has more than %d items", SHARD_SHOWN(pattern),
                     SHARD_LIST_MAX_PATHS);
            for (int64_t n = from;; n += step) {
                char digits[24];
                int size = snprintf(digits, sizeof digits, "%0*lld", width, (long long)n);
                TRY(expand_with(pattern, head, digits, (size_t)size, close + 1, head + (size_t)size, depth + 1, list));
                if (n == to) break;
            }
            return STATUS_OK;
        }
        if (next_comma(open + 1, close) != close) {
            for (const char *item = open + 1;;) {
                const char *end = next_comma(item, close);
                TRY(expand_with(pattern, head, item, (size_t)(end - item), close + 1, head, depth + 1, list));
                if (end == close) break;
                item = end + 1;
            }
            return STATUS_OK;
        }
    }
    return list_append(list, pattern, strlen(pattern)); /* braces that are neither range nor list stay as written */
fail:
    return status;
}

Status shard_list_expand(const char *pattern, ShardList *list)
{
    Status status = STATUS_OK;
    if (strlen(pattern) > SHARD_LIST_MAX_LENGTH)
        FAIL(ERR_LIMIT, "a shard pattern is longer than %d bytes: %.60s...", SHARD_LIST_MAX_LENGTH,
             SHARD_SHOWN(pattern));
    TRY(expand(pattern, 0, 0, list));
    return STATUS_OK;
fail:
    return status;
}

Status shard_list_append(const char *path, ShardList *list)
{
    return list_append(list, path, strlen(path));
}

Status shard_list_append_noted(const char *path, ShardNote note, ShardList *list)
{
    Status status = STATUS_OK;
    TRY(shard_list_append(path, list));
    TRY(shard_list_set_note(list, list->count - 1, note));
fail:
    return status;
}

Status shard_list_set_note(ShardList *list, size_t i, ShardNote note)
{
    Status status = STATUS_OK;
    if (note.samples < 0 && note.bytes < 0 && !list->notes) return STATUS_OK;
    TRY(make_notes(list));
    list->notes[i] = note;
fail:
    return status;
}

ShardNote shard_list_note(const ShardList *list, size_t i)
{
    return list->notes && i < list->count ? list->notes[i] : NOTHING_TOLD;
}

static bool has_suffix(const char *text, const char *suffix)
{
    size_t n = strlen(text), m = strlen(suffix);
    return n >= m && strcmp(text + n - m, suffix) == 0;
}

static int compare_paths(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void shard_paths_warn(const char **paths, size_t count)
{
    size_t repeated = 0;
    const char *example = NULL;
    char shown[SHARD_NAME_MAX];
    if (count > 1) qsort(paths, count, sizeof paths[0], compare_paths);
    for (size_t i = 1; i < count; i++)
        if (strcmp(paths[i], paths[i - 1]) == 0 && repeated++ == 0) example = paths[i];
    if (!example) return;
    shard_show(example, shown, sizeof shown);
    log_warn("%zu of %zu shards are named again after they were named before, such as %s: their samples come twice",
             repeated, count, shown);
}

/* What lies beside shards: indexes, checksums, precomputed files, whole or on their way; and img2dataset's tables. */
static bool lies_beside(const char *path)
{
    static const char *const suffixes[] = {".idx", ".sums", ".h5", ".json", ".parquet"};
    static const char *const under_way[] = {".idx.tmp-", ".sums.tmp-", ".h5.tmp-"};
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++)
        if (has_suffix(path, suffixes[i])) return true;
    for (size_t i = 0; i < sizeof under_way / sizeof under_way[0]; i++)
        if (strstr(path, under_way[i])) return true;
    return false;
}

/* A folder that does not exist holds no match; one that cannot be read is an error. */
static int glob_error(const char *path, int error)
{
    (void)path;
    return error != ENOENT && error != ENOTDIR;
}

Status shard_list_glob(const char *pattern, ShardList *list)
{
    Status status = STATUS_OK;
    size_t before = list->count;
    glob_t found = {0};
    bool all = has_suffix(pattern, ".h5");
    int rc = glob(pattern, GLOB_NOSORT, glob_error, &found);
    if (rc == GLOB_NOSPACE) FAIL(ERR_MEMORY, "out of memory while looking for %s", pattern);
    if (rc == GLOB_ABORTED) FAIL(ERR_IO, "%s: a folder on the way cannot be read; check its permissions", pattern);
    for (size_t i = 0; rc == 0 && i < found.gl_pathc; i++)
        if (all || !lies_beside(found.gl_pathv[i])) TRY(shard_list_append(found.gl_pathv[i], list));
    if (list->count > before) qsort(list->paths + before, list->count - before, sizeof list->paths[0], compare_paths);
fail:
    globfree(&found);
    return status;
}

static Status add_glob(const char *pattern, ShardList *list)
{
    Status status = STATUS_OK;
    size_t before = list->count;
    TRY(shard_list_glob(pattern, list));
    if (list->count == before)
        FAIL(ERR_IO, "no file matches %s; check the path (relative ones start from here)", pattern);
fail:
    return status;
}

/* A pattern whose braces are expanded. */
static Status add_expanded(const char *path, ShardList *list)
{
    if (shard_kind(path) == SHARD_LOCAL && strpbrk(path, "*?[") && !file_exists(path)) return add_glob(path, list);
    return shard_list_append(path, list);
}

Status shard_list_add(const char *pattern, ShardList *list)
{
    Status status = STATUS_OK;
    ShardList plain = {0};
    if (!pattern[0]) FAIL(ERR_CONFIG, "an empty path in a list of shards");
    if (strncmp(pattern, "list:", 5) == 0) return shard_list_add_file(pattern + 5, list);
    if (strlen(pattern) <= SHARD_LIST_MAX_LENGTH) TRY(shard_list_check(pattern, pattern));
    if (!strpbrk(pattern, "{*?[") || (shard_kind(pattern) == SHARD_LOCAL && file_exists(pattern))) {
        if (strlen(pattern) > SHARD_LIST_MAX_LENGTH)
            FAIL(ERR_LIMIT, "a shard's path is longer than %d bytes: %.60s...", SHARD_LIST_MAX_LENGTH,
                 SHARD_SHOWN(pattern));
        return shard_list_append(pattern, list);
    }
    TRY(shard_list_expand(pattern, &plain));
    for (size_t i = 0; i < plain.count; i++) TRY(add_expanded(plain.paths[i], list));
fail:
    shard_list_free(&plain);
    return status;
}

void shard_list_free(ShardList *list)
{
    for (size_t i = 0; i < list->count; i++) free(list->paths[i]);
    free(list->paths);
    free(list->notes);
    *list = (ShardList){0};
}
