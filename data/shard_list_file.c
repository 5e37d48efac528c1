/* List files: a shard a line, with what is known of it; or webdataset's JSON. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/json.h"
#include "data/shard_file.h"
#include "data/shard_list.h"

#define MAX_JSON ((size_t)32 << 20) /* its tree takes some thirty times as much */

/* ---- relative paths ---- */

static bool is_relative(const char *path)
{
    return path[0] != '/' && shard_kind(path) == SHARD_LOCAL;
}

/* folder/path into out; with `escape`, as a glob whose folder stands for itself alone. */
static Status join(const char *folder, const char *path, bool escape, char out[2 * SHARD_LIST_MAX_LENGTH + 8])
{
    size_t size = 0, rest = strlen(path);
    bool fits = strlen(folder) <= SHARD_LIST_MAX_LENGTH;
    for (const char *p = folder; fits && *p; p++) {
        if (escape && strchr("*?[]\\", *p)) out[size++] = '\\';
        out[size++] = *p;
    }
    if (size > 0 && out[size - 1] != '/') out[size++] = '/';
    if (!fits || size + rest > SHARD_LIST_MAX_LENGTH)
        return status_fail(ERR_LIMIT, __FILE__, __LINE__, "a shard's path is longer than %d bytes: %.60s...",
                           SHARD_LIST_MAX_LENGTH, SHARD_SHOWN(path));
    memcpy(out + size, path, rest + 1);
    return STATUS_OK;
}

/* `*` and then `..` again and again goes through the same folders any number of times. */
static bool may_take_for_ever(const char *path)
{
    const char *wild = strpbrk(path, "*?[");
    return wild && strstr(wild, "..") != NULL;
}

/* One path of a line, its braces expanded. */
static Status add_path(const char *folder, const char *path, ShardList *list)
{
    Status status = STATUS_OK;
    char full[2 * SHARD_LIST_MAX_LENGTH + 8];
    bool relative = is_relative(path);
    TRY(join(relative ? folder : "", path, false, full));
    if (shard_kind(path) == SHARD_LOCAL && strpbrk(path, "*?[") && !file_exists(full)) {
        size_t before = list->count;
        if (may_take_for_ever(path)) FAIL(ERR_FORMAT, "%.200s: wildcards with .. behind them", path);
        TRY(join(relative ? folder : "", path, true, full));
        TRY(shard_list_glob(full, list));
        if (list->count == before) FAIL(ERR_IO, "no file matches %.200s", full);
        return STATUS_OK;
    }
    TRY(shard_list_append(full, list));
fail:
    return status;
}

/* ---- lines ---- */

/* A number of digits, or nothing, between `text` and `end`. */
static bool parse_count(const char *text, const char *end, int64_t *out)
{
    int64_t value = 0;
    if (end - text > 15) return false;
    for (const char *p = text; p < end; p++) {
        if (*p < '0' || *p > '9') return false;
        value = value * 10 + (*p - '0');
    }
    *out = text < end ? value : -1;
    return true;
}

/* What stands behind the path: tab, samples, tab, bytes. */
static bool parse_note(const char *text, const char *end, ShardNote *note)
{
    *note = (ShardNote){-1, -1};
    if (text == end) return true;
    const char *tab = memchr(text + 1, '\t', (size_t)(end - text - 1));
    if (!parse_count(text + 1, tab ? tab : end, &note->samples)) return false;
    return !tab || parse_count(tab + 1, end, &note->bytes);
}

/* Braces, then each path. A file of exactly that name is taken as it is. */
static Status add_pattern(const char *folder, const char *pattern, ShardList *list)
{
    Status status = STATUS_OK;
    ShardList plain = {0};
    char full[2 * SHARD_LIST_MAX_LENGTH + 8];
    bool exact = !strchr(pattern, '{');
    if (!exact && shard_kind(pattern) == SHARD_LOCAL) {
        TRY(join(is_relative(pattern) ? folder : "", pattern, false, full));
        exact = file_exists(full);
        if (exact) return shard_list_append(full, list);
    }
    if (exact) return add_path(folder, pattern, list);
    TRY(shard_list_expand(pattern, &plain));
    for (size_t i = 0; i < plain.count; i++) TRY(add_path(folder, plain.paths[i], list));
fail:
    shard_list_free(&plain);
    return status;
}

/* Most lines of a long list need no closer look. */
static bool may_be_wrong(const char *path)
{
    return strpbrk(path, "{*[ ") || strstr(path, "://");
}

/* "x.tar 10000": a number behind blanks, where a tab belongs. A file that is called so is fine. */
static Status check_blanks(const char *path, const char *file)
{
    Status status = STATUS_OK;
    size_t size = strlen(path), digits = 0;
    if (shard_kind(path) == SHARD_PIPE) return STATUS_OK;
    while (digits < size && path[size - digits - 1] >= '0' && path[size - digits - 1] <= '9') digits++;
    if (digits == 0 || digits + 1 >= size || path[size - digits - 1] != ' ' || file_exists(file)) return STATUS_OK;
    FAIL(ERR_FORMAT, "%.200s: a number behind a blank; separate path, samples and bytes by a tab each", path);
fail:
    return status;
}

static Status add_line(const char *folder, const char *text, const char *end, ShardList *list)
{
    Status status = STATUS_OK;
    char path[SHARD_LIST_MAX_LENGTH + 1], full[2 * SHARD_LIST_MAX_LENGTH + 8];
    ShardNote note;
    const char *tab = memchr(text, '\t', (size_t)(end - text));
    size_t size = (size_t)((tab ? tab : end) - text), before = list->count;
    if (size > SHARD_LIST_MAX_LENGTH) FAIL(ERR_LIMIT, "a path of more than %d bytes", SHARD_LIST_MAX_LENGTH);
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)text[i] < ' ') FAIL(ERR_FORMAT, "a control character in a path");
    if (size == 0) FAIL(ERR_FORMAT, "no path before the tab");
    memcpy(path, text, size);
    path[size] = 0;
    if (strncmp(path, "list:", 5) == 0) FAIL(ERR_FORMAT, "a list may not name another: %.200s", SHARD_SHOWN(path));
    if (!parse_note(text + size, end, &note))
        FAIL(ERR_FORMAT, "behind the path stand neither samples nor, after another tab, bytes: %.200s",
             SHARD_SHOWN(path));
    if (may_be_wrong(path)) {
        TRY(join(is_relative(path) ? folder : "", path, false, full));
        if (!tab) TRY(check_blanks(path, full));
        status = shard_list_check(path, full);
        if (status != STATUS_OK) FAIL(ERR_FORMAT, "%s", status_message());
    }
    if (!tab) return add_pattern(folder, path, list);
    if (!strpbrk(path, "{*?[")) { /* the common case, and the one that must be fast */
        TRY(join(is_relative(path) ? folder : "", path, false, full));
        return shard_list_append_noted(full, note, list);
    }
    TRY(add_pattern(folder, path, list));
    if (list->count != before + 1)
        FAIL(ERR_FORMAT, "%.200s stands for %zu shards, the numbers behind it can be those of one only",
             SHARD_SHOWN(path), list->count - before);
    TRY(shard_list_set_note(list, before, note));
fail:
    return status;
}

static bool is_blank(const char *text, const char *end)
{
    while (text < end && (*text == ' ' || *text == '\t')) text++;
    return text == end;
}

static Status parse_lines(const char *text, size_t size, const char *folder, ShardList *list)
{
    const char *end = text + size;
    for (int64_t number = 1; text < end; number++) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        const char *stop = newline ? newline : end, *next = newline ? newline + 1 : end;
        if (stop > text && stop[-1] == '\r') stop--;
        if (!is_blank(text, stop) && *text != '#') {
            Status status = add_line(folder, text, stop, list);
            if (status != STATUS_OK) {
                status_prefix("line %" PRId64 ": ", number);
                return status_trace(status, __FILE__, __LINE__);
            }
        }
        text = next;
    }
    return STATUS_OK;
}

/* ---- JSON ---- */

/* A count of the JSON: absent or null is -1, anything but a whole number of sensible size is an error. */
static bool json_count_of(const JsonValue *entry, const char *key, int64_t *out)
{
    const JsonValue *value = json_get(entry, key);
    *out = -1;
    if (!value || json_is_null(value)) return true;
    return json_integer(value, out) && *out >= 0 && *out < (int64_t)1e15;
}

static Status add_entry(const JsonValue *entry, const char *folder, ShardList *list)
{
    Status status = STATUS_OK;
    char full[2 * SHARD_LIST_MAX_LENGTH + 8];
    ShardNote note;
    size_t size;
    const char *url = json_text(json_get(entry, "url"), &size);
    if (!url || size == 0) FAIL(ERR_FORMAT, "has no \"url\"");
    if (size > SHARD_LIST_MAX_LENGTH) FAIL(ERR_LIMIT, "its url has more than %d bytes", SHARD_LIST_MAX_LENGTH);
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)url[i] < ' ') FAIL(ERR_FORMAT, "a control character in its url");
    if (strncmp(url, "list:", 5) == 0) FAIL(ERR_FORMAT, "a list may not name another: %.200s", SHARD_SHOWN(url));
    if (!json_count_of(entry, "nsamples", &note.samples) || !json_count_of(entry, "filesize", &note.bytes))
        FAIL(ERR_FORMAT, "\"nsamples\" or \"filesize\" is no count: %.200s", SHARD_SHOWN(url));
    TRY(join(is_relative(url) ? folder : "", url, false, full));
    if (strstr(url, "://") && !strpbrk(url, "{*[")) {
        status = shard_list_check(url, full);
        if (status != STATUS_OK) FAIL(ERR_FORMAT, "%s", status_message());
    }
    TRY(shard_list_append_noted(full, note, list));
fail:
    return status;
}

static Status parse_json(const char *text, size_t size, const char *folder, ShardList *list)
{
    Status status = STATUS_OK;
    JsonDoc *doc = NULL;
    status = json_parse(text, size, MAX_JSON, &doc);
    if (status != STATUS_OK) {
        status_prefix("it begins with { and so is read as JSON (a list of lines may begin with # instead): ");
        FAIL_WITH(status);
    }
    const JsonValue *entries = json_get(json_root(doc), "shardlist");
    if (!json_is_array(entries)) FAIL(ERR_FORMAT, "has no \"shardlist\", as webdataset's lists of shards have");
    for (size_t i = 0; i < json_count(entries); i++) {
        status = add_entry(json_item(entries, i), folder, list);
        if (status != STATUS_OK) {
            status_prefix("entry %zu of \"shardlist\": ", i);
            FAIL_WITH(status);
        }
    }
fail:
    json_free(doc);
    return status;
}

/* ---- files ---- */

Status shard_list_parse(const char *text, size_t size, const char *folder, ShardList *list)
{
    utf8_skip_mark(&text, &size);
    return size > 0 && text[0] == '{' ? parse_json(text, size, folder, list) : parse_lines(text, size, folder, list);
}

Status shard_list_add_file(const char *path, ShardList *list)
{
    Status status = STATUS_OK;
    char *text = NULL, folder[SHARD_LIST_MAX_LENGTH + 1];
    size_t size, before = list->count;
    if (shard_kind(path) != SHARD_LOCAL)
        FAIL(ERR_UNSUPPORTED, "list:%.200s: a list must be a file here; fetch it first", SHARD_SHOWN(path));
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) + 1 : 0;
    if (length > SHARD_LIST_MAX_LENGTH) FAIL(ERR_LIMIT, "a list's path is too long: %.60s...", path);
    memcpy(folder, path, length);
    folder[length] = 0;
    TRY(file_read(path, SHARD_LIST_MAX_BYTES, &text, &size));
    status = shard_list_parse(text, size, folder, list);
    if (status != STATUS_OK) {
        status_prefix("%.200s, ", path);
        FAIL_WITH(status);
    }
    if (list->count == before) FAIL(ERR_FORMAT, "%.200s: names no shard", path);
fail:
    free(text);
    return status;
}

Status shard_list_format(const char *path, ShardNote note, StrBuf *out)
{
    Status status = STATUS_OK;
    bool noted = note.samples >= 0 || note.bytes >= 0;
    for (const char *p = path; *p; p++)
        if ((unsigned char)*p < ' ')
            FAIL(ERR_UNSUPPORTED, "a control character in a shard's path: %.200s", SHARD_SHOWN(path));
    if (path[0] == '#' || path[0] == 0 || strncmp(path, "list:", 5) == 0 ||
        (shard_kind(path) == SHARD_LOCAL ? strpbrk(path, "{*?[") : strchr(path, '{')) ||
        (!noted && check_blanks(path, "") != STATUS_OK) || shard_list_check(path, path) != STATUS_OK)
        FAIL(ERR_UNSUPPORTED, "a list cannot hold this path, which would be read as something else: %.200s",
             SHARD_SHOWN(path));
    TRY(strbuf_printf(out, "%s", path));
    if (noted) TRY(strbuf_append(out, "\t", 1));
    if (note.samples >= 0) TRY(strbuf_printf(out, "%" PRId64, note.samples));
    if (note.bytes >= 0) TRY(strbuf_printf(out, "\t%" PRId64, note.bytes));
    TRY(strbuf_append(out, "\n", 1));
fail:
    return status;
}
