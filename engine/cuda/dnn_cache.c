#include "engine/cuda/dnn_cache.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"

static const char magic[8] = {'V', 'D', 'N', 'N', 'P', 'L', 'A', 'N'};
static const size_t size_limit = (size_t)64 << 20;

/* A file is this and then cuDNN's text. The numbers are this machine's; others have other keys or another order of
 * bytes, at which `size` is wrong. */
typedef struct Header {
    char magic[8];
    uint64_t size; /* of what follows the header */
    Hash128 key;
    Hash128 hash; /* of the file with zeros here */
    int64_t engine;
    int32_t mode, position;
    int32_t compiled, measured;
} Header;
_Static_assert(sizeof(Header) == 72, "no gaps, whose bytes would be undefined");

Hash128 dnn_cache_key(const Dnn *dnn, const DnnGraph *graph, bool precise)
{
    const struct {
        Hash128 identity, graph;
        uint64_t precise, deterministic;
    } all = {dnn->identity, graph->hash, precise, dnn->deterministic};
    return hash_memory(&all, sizeof all);
}

static Status entry_path(const char *folder, Hash128 key, char path[PATH_MAX])
{
    char name[33 + 5];
    hash_format(key, name);
    memcpy(name + 32, ".plan", 6);
    return path_join(path, PATH_MAX, folder, name);
}

static bool is_whole(char *file, size_t size, Hash128 key)
{
    Header header;
    if (size < sizeof header) return false;
    memcpy(&header, file, sizeof header);
    if (memcmp(header.magic, magic, sizeof magic) != 0 || header.size != size - sizeof header ||
        memcmp(&header.key, &key, sizeof key) != 0)
        return false;
    memset(file + offsetof(Header, hash), 0, sizeof header.hash);
    const Hash128 hash = hash_memory(file, size);
    return memcmp(&hash, &header.hash, sizeof hash) == 0;
}

bool dnn_cache_read(const char *folder, Hash128 key, bool measured, DnnEntry *out)
{
    char path[PATH_MAX], *file = NULL;
    size_t size = 0;
    *out = (DnnEntry){0};
    if (entry_path(folder, key, path) != STATUS_OK || !file_exists(path)) return false;
    if (file_read(path, size_limit, &file, &size) != STATUS_OK) {
        log_warn("%s; the plan is made anew", status_message());
        return false;
    }
    if (!is_whole(file, size, key)) {
        log_warn("%s: damaged; the plan is made anew", path);
        free(file);
        return false;
    }
    Header header;
    memcpy(&header, file, sizeof header);
    if (measured && !header.measured) {
        free(file);
        return false;
    }
    out->choice = (DnnChoice){.mode = header.mode,
                              .position = header.position,
                              .engine = header.engine,
                              .compiled = header.compiled != 0,
                              .measured = header.measured != 0};
    out->plan_size = size - sizeof header;
    if (out->plan_size > 0) {
        memmove(file, file + sizeof header, out->plan_size + 1); /* file_read ends it with a NUL */
        out->plan = file;
    } else {
        free(file);
    }
    return true;
}

void dnn_cache_write(const char *folder, Hash128 key, const DnnEntry *entry)
{
    char path[PATH_MAX];
    const size_t size = sizeof(Header) + entry->plan_size;
    char *file = malloc(size);
    Header header = {.size = entry->plan_size,
                     .key = key,
                     .engine = entry->choice.engine,
                     .mode = entry->choice.mode,
                     .position = entry->choice.position,
                     .compiled = entry->choice.compiled,
                     .measured = entry->choice.measured};
    if (!file) return;
    memcpy(header.magic, magic, sizeof magic);
    memcpy(file, &header, sizeof header);
    if (entry->plan_size > 0) memcpy(file + sizeof header, entry->plan, entry->plan_size);
    header.hash = hash_memory(file, size);
    memcpy(file, &header, sizeof header);
    if (file_make_dirs(folder) != STATUS_OK || entry_path(folder, key, path) != STATUS_OK ||
        file_write_atomic(path, file, size) != STATUS_OK)
        log_warn("%s; cuDNN's plans are not kept", status_message());
    free(file);
}
