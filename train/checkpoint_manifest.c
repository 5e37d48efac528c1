/* manifest.json: which files a checkpoint has, their sizes and hashes. */
#include "train/checkpoint.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"

enum { MANIFEST_LIMIT = 1 << 20, MANIFEST_FILES_MAX = 1000 };

Status manifest_write(const char *folder, int64_t step, const char *const *names, size_t count)
{
    Status status = STATUS_OK;
    StrBuf text = {0};
    JsonWriter w;
    char path[PATH_MAX], hex[33];
    json_begin(&w, &text);
    json_object(&w, NULL);
    json_int(&w, "format", CHECKPOINT_FORMAT);
    json_int(&w, "step", step);
    json_array(&w, "files");
    for (size_t i = 0; i < count; i++) {
        Hash128 hash;
        int64_t size;
        TRY(path_join(path, sizeof path, folder, names[i]));
        TRY(hash_file(path, &hash, &size));
        hash_format(hash, hex);
        json_object(&w, NULL);
        json_string(&w, "name", names[i]);
        json_int(&w, "size", size);
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

static Status verify_file(const char *folder, const char *name, int64_t size, const char *hex)
{
    Status status = STATUS_OK;
    char path[PATH_MAX], found_hex[33];
    Hash128 hash;
    int64_t found;
    TRY(path_join(path, sizeof path, folder, name));
    if (access(path, R_OK)) FAIL(ERR_FORMAT, "%s: %s, but the manifest lists it", path, strerror(errno));
    TRY(file_size(path, &found));
    if (found != size)
        FAIL(ERR_FORMAT, "%s: %lld bytes, the manifest says %lld", path, (long long)found, (long long)size);
    TRY(hash_file(path, &hash, &found));
    hash_format(hash, found_hex);
    if (strcmp(found_hex, hex) != 0)
        FAIL(ERR_FORMAT, "%s: its contents have changed since it was written (XXH3-128 %s, the manifest says %s)", path,
             found_hex, hex);
fail:
    return status;
}

Status manifest_verify(const char *folder)
{
    Status status = STATUS_OK;
    JsonDoc *doc = NULL;
    char path[PATH_MAX], *text = NULL;
    size_t size;
    int64_t format;
    TRY(path_join(path, sizeof path, folder, "manifest.json"));
    TRY(file_read(path, MANIFEST_LIMIT, &text, &size));
    Status parsed = json_parse(text, size, MANIFEST_LIMIT, &doc);
    if (parsed) {
        status_prefix("%s: ", path);
        TRY(parsed);
    }
    const JsonValue *root = json_root(doc), *files = json_get(root, "files");
    if (!json_integer(json_get(root, "format"), &format)) FAIL(ERR_FORMAT, "%s: has no format number", path);
    if (format > CHECKPOINT_FORMAT)
        FAIL(ERR_UNSUPPORTED, "%s: format %lld, this program reads up to %d; use a newer one", path, (long long)format,
             CHECKPOINT_FORMAT);
    size_t count = json_count(files);
    if (!count || count > MANIFEST_FILES_MAX) FAIL(ERR_FORMAT, "%s: lists %zu files", path, count);
    for (size_t i = 0; i < count; i++) {
        const JsonValue *file = json_item(files, i);
        const char *name = json_text(json_get(file, "name"), NULL), *hex = json_text(json_get(file, "xxh3_128"), NULL);
        int64_t bytes;
        if (!name || !hex || !json_integer(json_get(file, "size"), &bytes) || strchr(name, '/') || !name[0] ||
            name[0] == '.')
            FAIL(ERR_FORMAT, "%s: entry %zu is not a name, a size and a hash", path, i);
        TRY(verify_file(folder, name, bytes, hex));
    }
fail:
    json_free(doc);
    free(text);
    return status;
}
