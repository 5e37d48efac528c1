#include "train/validation_overlap.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "data/shard_file.h"
#include "data/shard_list.h"

static void list_shards(const DataConfig *data, const PrecomputedSpec *precomputed, ShardList *out)
{
    const bool without_tars = precomputed->wanted[PRECOMPUTED_LATENTS] && precomputed->wanted[PRECOMPUTED_TEXT];
    for (size_t s = 0; s < data->sources.count; s++) {
        const SourceConfig *source = data_config_source(data, s);
        for (size_t i = 0; i < source->shards.count; i++)
            (void)(without_tars ? precomputed_list_shards(precomputed, source->name, source->shards.items[i], out)
                                : shard_list_add(source->shards.items[i], out));
    }
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static int by_base_name(const void *a, const void *b)
{
    return strcmp(base_name(*(char *const *)a), base_name(*(char *const *)b));
}

static bool is_same(const char *a, const char *b)
{
    char real_a[PATH_MAX], real_b[PATH_MAX];
    if (strcmp(a, b) == 0) return true;
    if (shard_kind(a) != SHARD_LOCAL || shard_kind(b) != SHARD_LOCAL) return false;
    return realpath(a, real_a) && realpath(b, real_b) && strcmp(real_a, real_b) == 0;
}

/* Whether a shard is among those sorted by name. Only those of its name are looked at. */
static bool contains(const ShardList *sorted, char *path)
{
    size_t low = 0, high = sorted->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (by_base_name(&sorted->paths[middle], &path) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < sorted->count && by_base_name(&sorted->paths[low], &path) == 0; low++)
        if (is_same(sorted->paths[low], path)) return true;
    return false;
}

void validation_warn_overlap(const DataConfig *held_out, const DataConfig *training, const PrecomputedSpec *precomputed)
{
    ShardList ours = {0}, theirs = {0};
    const char *first = NULL;
    size_t shared = 0;
    list_shards(held_out, precomputed, &ours);
    list_shards(training, precomputed, &theirs);
    if (theirs.count > 1) qsort(theirs.paths, theirs.count, sizeof *theirs.paths, by_base_name);
    for (size_t i = 0; i < ours.count; i++) {
        if (!contains(&theirs, ours.paths[i])) continue;
        if (!first) first = ours.paths[i];
        shared++;
    }
    if (shared)
        log_warn("validation.sources: %zu of %zu shards (such as %s) are in data.sources, too: what is measured on "
                 "them is no held-out loss; leave them out of one of the two",
                 shared, ours.count, SHARD_SHOWN(first));
    shard_list_free(&ours);
    shard_list_free(&theirs);
}
