/* What kind of shard a path names, and how the path is shown and compared. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "data/http.h"
#include "data/shard_file.h"

ShardKind shard_kind(const char *path)
{
    if (strncmp(path, "pipe:", 5) == 0) return SHARD_PIPE;
    if (strncmp(path, "http://", 7) == 0 || strncmp(path, "https://", 8) == 0) return SHARD_HTTP;
    return SHARD_LOCAL;
}

/* A command may hold tokens anywhere, but for the name of a program: NAME=VALUE is none. */
static void show_pipe(const char *path, char *out, size_t capacity)
{
    const char *command = path + 5;
    const size_t word = strcspn(command, " \t\n'\"`$;|&<>()=");
    const bool name = command[word] == 0 || command[word] == ' ';
    if (name && command[word] == 0)
        snprintf(out, capacity, "%s", path);
    else
        snprintf(out, capacity, "pipe:%.*s ... #%016" PRIx64, name ? (int)word : 0, command, hash_string64(path));
}

void shard_show(const char *path, char *out, size_t capacity)
{
    const char *scheme = strstr(path, "://");
    switch (shard_kind(path)) {
    case SHARD_HTTP:
        http_show(path, out, capacity);
        break;
    case SHARD_PIPE:
        show_pipe(path, out, capacity);
        break;
    case SHARD_LOCAL: /* or a pattern that becomes URLs */
        snprintf(out, capacity, "%.*s%s", scheme ? (int)(scheme + 3 - path) : (int)strlen(path), path,
                 scheme ? "..." : "");
        break;
    }
}

const char *shard_shown(const char *path, char *out, size_t capacity)
{
    shard_show(path, out, capacity);
    return out;
}

void shard_plain(const char *path, char *out, size_t capacity)
{
    if (shard_kind(path) == SHARD_HTTP)
        http_plain(path, out, capacity);
    else
        snprintf(out, capacity, "%s", path);
}
