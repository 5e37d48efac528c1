#include "data/index_name.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "data/shard_file.h"

#define MAX_BASE 100

static void base_name(const char *shard, char out[MAX_BASE + 1])
{
    size_t length = shard_kind(shard) == SHARD_HTTP ? strcspn(shard, "?#") : strlen(shard), start = length, size = 0;
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

void index_identity(const char *shard, char out[PATH_MAX])
{
    const size_t path = strcspn(shard, "?#");
    char base[MAX_BASE + 1];
    base_name(shard, base);
    snprintf(out, PATH_MAX, "%s", shard);
    if (shard_kind(shard) != SHARD_HTTP) return;
    bool named = strstr(base, ".tar") || strstr(base, ".tgz");
    if (named && path < PATH_MAX) out[path] = 0;
    char *host = strstr(out, "://") + 3, *end = host + strcspn(host, "/?#"), *at = NULL;
    for (char *c = host; c < end; c++)
        if (*c == '@') at = c;
    if (at) memmove(host, at + 1, strlen(at + 1) + 1);
}

Status index_name(const char *shard, const char *folder, const char *suffix, char path[PATH_MAX])
{
    Status status = STATUS_OK;
    char base[MAX_BASE + 1], absolute[PATH_MAX];
    int length;
    if (folder && folder[0]) {
        const char *whole = shard;
        if (shard_kind(shard) == SHARD_LOCAL) {
            TRY(index_absolute(shard, absolute));
            whole = absolute;
        } else {
            index_identity(shard, absolute);
            whole = absolute;
        }
        base_name(shard, base);
        length = snprintf(path, PATH_MAX, "%s/%s.%016" PRIx64 "%s", folder, base, hash_string64(whole), suffix);
    } else {
        if (shard_kind(shard) != SHARD_LOCAL)
            FAIL(ERR_CONFIG, "an index of a shard that is not a file here needs a folder: set data.read.index_folder");
        length = snprintf(path, PATH_MAX, "%s%s", shard, suffix);
    }
    if (length < 0 || length >= PATH_MAX) FAIL(ERR_LIMIT, "a shard's path is too long: %.60s...", shard);
fail:
    return status;
}
