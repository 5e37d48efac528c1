#include "data/index_name.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/hash.h"
#include "data/shard_file.h"

#define MAX_BASE 100

static void base_name(const char *shard, char out[MAX_BASE + 1])
{
    size_t length = strlen(shard), start = length, size = 0;
    if (shard_kind(shard) == SHARD_PIPE) {
        strcpy(out, "pipe");
        return;
    }
    while (start > 0 && shard[start - 1] != '/') start--;
    for (size_t i = start; i < length && size < MAX_BASE; i++) {
        unsigned char c = (unsigned char)shard[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                     c == '_' || (c == '.' && size > 0);
        out[size++] = plain ? (char)c : '_';
    }
    out[size] = 0;
}

Status index_absolute(const char *path, char out[PATH_MAX])
{
    Status status = STATUS_OK;
    size_t size = 0;
    out[0] = 0;
    if (path[0] != '/') {
        if (!getcwd(out, PATH_MAX)) FAIL_WITH(file_system_error(errno, "find", "the current folder"));
        size = strlen(out);
        while (size > 0 && out[size - 1] == '/') size--;
    }
    while (*path) {
        size_t length = strcspn(path, "/");
        bool empty = length == 0 || (length == 1 && path[0] == '.');
        if (!empty) {
            if (size + length + 2 > PATH_MAX) FAIL(ERR_LIMIT, "a path is too long: %.60s...", path);
            out[size++] = '/';
            memcpy(out + size, path, length);
            size += length;
        }
        path += length + (path[length] == '/');
    }
    if (size == 0) out[size++] = '/';
    out[size] = 0;
fail:
    return status;
}

static Status too_long(const char *shard)
{
    return status_fail(ERR_LIMIT, __FILE__, __LINE__, "a shard's path is too long: %.60s...", SHARD_SHOWN(shard));
}

Status index_name(const char *shard, const char *folder, const char *suffix, char path[PATH_MAX])
{
    Status status = STATUS_OK;
    char base[MAX_BASE + 1], whole[PATH_MAX];
    int length;
    if (folder && folder[0]) {
        if (strlen(shard) >= sizeof whole) FAIL_WITH(too_long(shard));
        if (shard_kind(shard) == SHARD_LOCAL)
            TRY(index_absolute(shard, whole));
        else
            shard_plain(shard, whole, sizeof whole);
        base_name(whole, base);
        length = snprintf(path, PATH_MAX, "%s/%s.%016" PRIx64 "%s", folder, base, hash_string64(whole), suffix);
    } else {
        if (shard_kind(shard) != SHARD_LOCAL)
            FAIL(ERR_CONFIG, "an index of a shard that is not a file here needs a folder: set data.read.index_folder");
        length = snprintf(path, PATH_MAX, "%s%s", shard, suffix);
    }
    if (length < 0 || length >= PATH_MAX) FAIL_WITH(too_long(shard));
fail:
    return status;
}

/* ---- names that meet ---- */

typedef struct NamedUrl {
    uint64_t hash; /* of what names it */
    const char *url;
} NamedUrl;

static int compare_urls(const void *a, const void *b)
{
    const NamedUrl *x = a, *y = b;
    if (x->hash != y->hash) return x->hash < y->hash ? -1 : 1;
    return strcmp(x->url, y->url);
}

static bool has_secrets(const char *shard)
{
    return shard_kind(shard) == SHARD_HTTP && strpbrk(shard, "?#@");
}

Status index_names_differ(char *const *shards, size_t count)
{
    Status status = STATUS_OK;
    NamedUrl *urls = NULL;
    size_t found = 0;
    char plain[SHARD_NAME_MAX];
    for (size_t i = 0; i < count; i++) found += has_secrets(shards[i]);
    if (found == 0) return STATUS_OK;
    urls = mem_alloc_array(found, sizeof urls[0]);
    if (!urls) FAIL(ERR_MEMORY, "out of memory for the list of shards");
    found = 0;
    for (size_t i = 0; i < count; i++) {
        if (!has_secrets(shards[i])) continue;
        shard_plain(shards[i], plain, sizeof plain);
        urls[found++] = (NamedUrl){hash_string64(plain), shards[i]};
    }
    qsort(urls, found, sizeof urls[0], compare_urls);
    for (size_t i = 1; i < found; i++)
        if (urls[i].hash == urls[i - 1].hash && strcmp(urls[i].url, urls[i - 1].url) != 0)
            FAIL(ERR_CONFIG,
                 "%s: two shards differ in nothing but user and query, which are no part of an index's name; leave "
                 "data.read.index_folder empty, or give each a path of its own",
                 SHARD_SHOWN(urls[i].url));
fail:
    free(urls);
    return status;
}
