/* Shards of which nothing but precomputed files may be left. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "data/precomputed_inside.h"

/* Base name of the shard that a precomputed file was made from. */
static Status shard_of(const char *path, char **out)
{
    Status status = STATUS_OK;
    H5File *h5 = NULL;
    size_t size;
    TRY(h5_open(path, &h5));
    TRY(h5_read_text(h5, "shard", out, &size));
    if (size == 0 || strlen(*out) != size || strchr(*out, '/')) FAIL(ERR_FORMAT, "%s: names no shard", path);
fail:
    if (h5) (void)h5_close(h5);
    return status;
}

/* Bytes of a path up to its base name. */
static int folder_size(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? (int)(slash - path) + 1 : 0;
}

/* The shards whose precomputed files of `kind` match. */
static Status add_from_files(const PrecomputedSpec *spec, PrecomputedKind kind, const char *source, const char *pattern,
                             ShardList *list)
{
    Status status = STATUS_OK;
    ShardList files = {0};
    char wanted[PATH_MAX], path[PATH_MAX], *shard = NULL;
    TRY(precomputed_path(spec, kind, source, pattern, wanted));
    TRY(shard_list_glob(wanted, &files));
    for (size_t i = 0; i < files.count; i++) {
        TRY(shard_of(files.paths[i], &shard));
        /* files in a folder of their own do not say where the shards were: that is the pattern's folder */
        const char *folder = spec->path[0] ? pattern : files.paths[i];
        int size = snprintf(path, sizeof path, "%.*s%s", folder_size(folder), folder, shard);
        if (size < 0 || (size_t)size >= sizeof path) FAIL(ERR_LIMIT, "%s: a long path", files.paths[i]);
        free(shard);
        shard = NULL;
        TRY(shard_list_append(path, list));
    }
fail:
    free(shard);
    shard_list_free(&files);
    return status;
}

static int compare_paths(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* One pattern without braces. */
static Status add_pattern(const PrecomputedSpec *spec, const char *source, const char *pattern, ShardList *list)
{
    Status status = STATUS_OK;
    ShardList found = {0};
    char last[PATH_MAX] = "", path[PATH_MAX];
    TRY(shard_list_glob(pattern, &found));
    TRY(add_from_files(spec, PRECOMPUTED_TEXT, source, pattern, &found));
    TRY(add_from_files(spec, PRECOMPUTED_LATENTS, source, pattern, &found));
    if (found.count == 0) {
        TRY(precomputed_path(spec, PRECOMPUTED_TEXT, source, pattern, path));
        FAIL(ERR_IO, "no file matches %s, and no precomputed one %s; check data.sources and frozen.path", pattern,
             path);
    }
    qsort(found.paths, found.count, sizeof found.paths[0], compare_paths);
    for (size_t i = 0; i < found.count; i++) {
        /* the same shard by its tar and by its files, whose folder may be told in another way */
        TRY(precomputed_path(spec, PRECOMPUTED_TEXT, source, found.paths[i], path));
        if (strcmp(path, last) == 0) continue;
        memcpy(last, path, sizeof last);
        TRY(shard_list_append(found.paths[i], list));
    }
fail:
    shard_list_free(&found);
    return status;
}

Status precomputed_list_shards(const PrecomputedSpec *spec, const char *source, const char *pattern, ShardList *list)
{
    Status status = STATUS_OK;
    ShardList plain = {0};
    if (!pattern[0]) FAIL(ERR_CONFIG, "an empty path in a list of shards");
    if (strncmp(pattern, "list:", 5) == 0) return shard_list_add(pattern, list);
    if (file_exists(pattern)) return shard_list_append(pattern, list);
    TRY(shard_list_expand(pattern, &plain));
    for (size_t i = 0; i < plain.count; i++) {
        const char *path = plain.paths[i];
        if (shard_kind(path) != SHARD_LOCAL)
            TRY(shard_list_append(path, list));
        else if (spec->path[0] && strcspn(path, "*?[") < (size_t)folder_size(path))
            TRY(shard_list_add(path, list)); /* files in one folder do not tell the order of shards in several */
        else if (strpbrk(path, "*?[") && !file_exists(path))
            TRY(add_pattern(spec, source, path, list));
        else
            TRY(shard_list_append(path, list));
    }
fail:
    shard_list_free(&plain);
    return status;
}
