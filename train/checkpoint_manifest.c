#include "train/checkpoint_manifest.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "train/checkpoint.h"

enum { MANIFEST_LIMIT = 64 << 20, MANIFEST_FILES_MAX = 1 << 17 };

Status file_facts_take(const char *folder, const char *name, FileFacts *out)
{
    Status status = STATUS_OK;
    char path[PATH_MAX];
    *out = (FileFacts){0};
    snprintf(out->name, sizeof out->name, "%s", name);
    TRY(path_join(path, sizeof path, folder, name));
    TRY(file_sync(path));
    TRY(hash_file(path, &out->hash, &out->size));
fail:
    return status;
}

Status manifest_write(const char *folder, int format, int64_t step, const FileFacts *files, size_t count)
{
    Status status = STATUS_OK;
    StrBuf text = {0};
    JsonWriter w;
    char path[PATH_MAX], hex[33];
    json_begin(&w, &text);
    json_object(&w, NULL);
    json_int(&w, "format", format);
    json_int(&w, "step", step);
    json_array(&w, "files");
    for (size_t i = 0; i < count; i++) {
        hash_format(files[i].hash, hex);
        json_object(&w, NULL);
        json_string(&w, "name", files[i].name);
        json_int(&w, "size", files[i].size);
        json_string(&w, "xxh3_128", hex);
        json_end_object(&w);
    }
    json_end_array(&w);
    json_end_object(&w);
    TRY(strbuf_append(&text, "\n", 1));
    TRY(path_join(path, sizeof path, folder, "manifest.json"));
    TRY(file_write_atomic(path, text.data, text.size));
fail:
    strbuf_free(&text);
    return status;
}

/* ---- reading ---- */

/* 32 hex digits. */
static bool parse_hash(const char *hex, Hash128 *out)
{
    char *end;
    char half[17] = {0};
    if (strlen(hex) != 32 || strspn(hex, "0123456789abcdef") != 32) return false;
    memcpy(half, hex, 16);
    out->high = strtoull(half, &end, 16);
    memcpy(half, hex + 16, 16);
    out->low = strtoull(half, &end, 16);
    return true;
}

static Status read_entry(const char *path, const JsonValue *entry, size_t index, FileFacts *out)
{
    Status status = STATUS_OK;
    size_t length = 0;
    const char *name = json_text(json_get(entry, "name"), &length);
    const char *hex = json_text(json_get(entry, "xxh3_128"), NULL);
    if (!name || !hex || !json_integer(json_get(entry, "size"), &out->size) || out->size < 0 || strchr(name, '/') ||
        !name[0] || name[0] == '.' || length >= sizeof out->name || strlen(name) != length ||
        !parse_hash(hex, &out->hash))
        FAIL(ERR_FORMAT, "%s: entry %zu is not a name, a size and a hash", path, index);
    memcpy(out->name, name, length + 1);
fail:
    return status;
}

Status manifest_read(const char *folder, int64_t *format, FileFacts **out, size_t *out_count)
{
    Status status = STATUS_OK;
    JsonDoc *doc = NULL;
    FileFacts *facts = NULL;
    char path[PATH_MAX], *text = NULL;
    size_t size;
    TRY(path_join(path, sizeof path, folder, "manifest.json"));
    TRY(file_read(path, MANIFEST_LIMIT, &text, &size));
    Status parsed = json_parse(text, size, MANIFEST_LIMIT, &doc);
    if (parsed) {
        status_prefix("%s: ", path);
        TRY(parsed);
    }
    const JsonValue *root = json_root(doc), *files = json_get(root, "files");
    if (!json_integer(json_get(root, "format"), format)) FAIL(ERR_FORMAT, "%s: has no format number", path);
    if (*format > CHECKPOINT_FORMAT)
        FAIL(ERR_UNSUPPORTED, "%s: format %lld, this program reads up to %d; use a newer one", path, (long long)*format,
             CHECKPOINT_FORMAT);
    const size_t count = json_count(files);
    if (!count || count > MANIFEST_FILES_MAX) FAIL(ERR_FORMAT, "%s: lists %zu files", path, count);
    facts = mem_alloc_array(count, sizeof *facts);
    if (!facts) FAIL(ERR_MEMORY, "%s: out of memory", path);
    for (size_t i = 0; i < count; i++) TRY(read_entry(path, json_item(files, i), i, &facts[i]));
    *out = facts;
    *out_count = count;
    facts = NULL;
fail:
    json_free(doc);
    free(text);
    free(facts);
    return status;
}

static Status verify_file(const char *folder, const FileFacts *want)
{
    Status status = STATUS_OK;
    char path[PATH_MAX], found_hex[33], want_hex[33];
    Hash128 hash;
    int64_t found;
    TRY(path_join(path, sizeof path, folder, want->name));
    if (access(path, R_OK)) FAIL(ERR_FORMAT, "%s: %s, but the manifest lists it", path, strerror(errno));
    TRY(file_size(path, &found));
    if (found != want->size)
        FAIL(ERR_FORMAT, "%s: %lld bytes, the manifest says %lld", path, (long long)found, (long long)want->size);
    TRY(hash_file(path, &hash, &found));
    hash_format(hash, found_hex);
    hash_format(want->hash, want_hex);
    if (strcmp(found_hex, want_hex) != 0)
        FAIL(ERR_FORMAT, "%s: its contents have changed since it was written (XXH3-128 %s, the manifest says %s)", path,
             found_hex, want_hex);
fail:
    return status;
}

Status manifest_verify(const char *folder)
{
    Status status = STATUS_OK;
    FileFacts *files = NULL;
    size_t count = 0;
    int64_t format;
    TRY(manifest_read(folder, &format, &files, &count));
    for (size_t i = 0; i < count; i++) TRY(verify_file(folder, &files[i]));
fail:
    free(files);
    return status;
}

Status manifest_verify_file(const char *folder, const char *name, bool *listed)
{
    Status status = STATUS_OK;
    FileFacts *files = NULL;
    size_t count = 0;
    int64_t format;
    *listed = false;
    TRY(manifest_read(folder, &format, &files, &count));
    for (size_t i = 0; i < count && !*listed; i++) {
        if (strcmp(files[i].name, name) != 0) continue;
        *listed = true;
        TRY(verify_file(folder, &files[i]));
    }
fail:
    free(files);
    return status;
}
