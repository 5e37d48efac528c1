#include "data/shard_store.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/hash.h"
#include "data/index_name.h"
#include "data/shard_store_inside.h"

int32_t store_source_of(const ShardStore *store, int64_t shard)
{
    int32_t s = 0;
    while (s + 1 < (int32_t)store->config->sources.count && store->sources[s + 1].first <= shard) s++;
    return s;
}

/* ---- precomputed files ---- */

/* A missing file; perhaps there is one of another resolution. */
static Status missing_error(const PrecomputedSpec *spec, PrecomputedKind kind, const char *path, const char *shard)
{
    const char *word = PRECOMPUTED_KIND_WORDS[kind];
    char other[PATH_MAX], pattern[PATH_MAX];
    PrecomputeCommand command;
    ShardList found = {0};
    other[0] = 0;
    const char *end = strstr(path, ".latents-");
    if (kind == PRECOMPUTED_LATENTS && end) {
        snprintf(pattern, sizeof pattern, "%.*s.latents-*.h5", (int)(end - path), path);
        if (shard_list_glob(pattern, &found) == STATUS_OK && found.count > 0)
            snprintf(other, sizeof other, " (there is %s, of another resolution than %lld)", found.paths[0],
                     (long long)spec->resolution);
        shard_list_free(&found);
    }
    return status_fail(ERR_IO, __FILE__, __LINE__,
                       "%s does not exist: no precomputed %s of %s%s; `%s` makes this file, frozen.path "
                       "says where such files are, and with frozen.%s: inline none are needed",
                       path, word, SHARD_SHOWN(shard), other, precomputed_command(spec, command), word);
}

Status store_open_precomputed(const ShardStore *store, int32_t source, const char *shard, const TarIndex *index,
                              PrecomputedFile *files[PRECOMPUTED_KINDS])
{
    Status status = STATUS_OK;
    const PrecomputedSpec *spec = store->precomputed;
    const char *name = data_config_source(store->config, (size_t)source)->name;
    char path[PATH_MAX];
    Hash128 hash = {0}, own;
    PrecomputeCommand command;
    bool known = index != NULL;
    if (!spec) return STATUS_OK;
    if (index) TRY(precomputed_hash_index(index, &hash));
    for (int kind = 0; kind < PRECOMPUTED_KINDS; kind++) {
        if (!spec->wanted[kind]) continue;
        TRY(precomputed_path(spec, (PrecomputedKind)kind, name, shard, path));
        if (!file_exists(path)) FAIL_WITH(missing_error(spec, (PrecomputedKind)kind, path, shard));
        TRY(precomputed_open(path, (PrecomputedKind)kind, spec, &store->sources[source].facts, &files[kind]));
        own = precomputed_shard_index(files[kind]);
        if (known && (own.low != hash.low || own.high != hash.high))
            FAIL(ERR_MISMATCH,
                 "%s: is not of the same samples as %s, which has changed or is another; make it anew with `%s`", path,
                 index ? SHARD_SHOWN(shard) : precomputed_file_path(files[0]), precomputed_command(spec, command));
        hash = own;
        known = true;
    }
fail:
    return status;
}

/* ---- opening and closing ---- */

/* Of a URL without its query: a token that is renewed makes no other data of it. */
static const char *base_name(const char *path, char plain[SHARD_NAME_MAX])
{
    shard_plain(path, plain, SHARD_NAME_MAX);
    const char *slash = strrchr(plain, '/');
    return slash ? slash + 1 : plain;
}

static Status make_identity(ShardStore *store, int32_t s)
{
    Status status = STATUS_OK;
    StrBuf text = {0};
    char plain[SHARD_NAME_MAX];
    StoreSource *source = &store->sources[s];
    for (size_t i = 0; i < source->list.count; i++)
        TRY(strbuf_printf(&text, "%s %" PRId64 "\n", base_name(source->list.paths[i], plain),
                          store->samples[source->first + (int64_t)i]));
    source->identity = hash_string64(text.data ? text.data : "");
fail:
    strbuf_free(&text);
    return status;
}

/* The paths of all sources. */
static Status list_shards(ShardStore *store)
{
    Status status = STATUS_OK;
    const DataConfig *config = store->config;
    for (size_t s = 0; s < config->sources.count; s++) {
        const SourceConfig *source = data_config_source(config, s);
        ShardList *list = &store->sources[s].list;
        store->sources[s].first = store->shard_count;
        for (size_t i = 0; i < source->shards.count; i++) {
            const char *pattern = source->shards.items[i];
            if (store->without_tars)
                status = precomputed_list_shards(store->precomputed, source->name, pattern, list);
            else
                status = shard_list_add(pattern, list);
            if (status != STATUS_OK) {
                status_prefix("%s.sources: source %s: ", data_config_section(config), source->name);
                goto fail;
            }
        }
        store->shard_count += (int64_t)list->count;
        if (store->shard_count > SHARD_LIST_MAX_PATHS)
            FAIL(ERR_LIMIT, "more than %d shards in all", SHARD_LIST_MAX_PATHS);
        if (store->precomputed)
            TRY(precomputed_facts_of_data(config, source, store->precomputed->resolution, &store->sources[s].facts));
    }
fail:
    return status;
}

Status shard_store_open(const ShardStoreOptions *options, BadSamples *bad, ShardStore **out)
{
    Status status = STATUS_OK;
    const DataConfig *config = options->config;
    const PrecomputedSpec *precomputed = options->precomputed;
    *out = NULL;
    ShardStore *store = mem_alloc_array(1, sizeof *store);
    if (!store) FAIL(ERR_MEMORY, "out of memory for the list of shards");
    store->config = config;
    store->precomputed = precomputed;
    store->bad_log = options->bad_log;
    store->without_tars =
        precomputed && precomputed->wanted[PRECOMPUTED_LATENTS] && precomputed->wanted[PRECOMPUTED_TEXT];
    store->write_index = options->write_index;
    store->progress = options->progress;
    store->pass_over = options->pass_over;
    if (pthread_mutex_init(&store->lock, NULL) != 0) FAIL(ERR_MEMORY, "cannot create a lock");
    if (pthread_cond_init(&store->changed, NULL) != 0) {
        pthread_mutex_destroy(&store->lock);
        FAIL(ERR_MEMORY, "cannot create a lock");
    }
    store->locks = true;
    store->sources = mem_alloc_array(config->sources.count, sizeof store->sources[0]);
    if (!store->sources) FAIL(ERR_MEMORY, "out of memory for the list of shards");
    TRY(list_shards(store));
    store->paths = mem_alloc_array((size_t)store->shard_count + 1, sizeof store->paths[0]);
    store->samples = mem_alloc_array((size_t)store->shard_count + 1, sizeof store->samples[0]);
    store->try_again = mem_alloc_array((size_t)store->shard_count + 1, sizeof store->try_again[0]);
    if (!store->paths || !store->samples || !store->try_again) FAIL(ERR_MEMORY, "out of memory for the list of shards");
    for (size_t s = 0; s < config->sources.count; s++)
        memcpy(store->paths + store->sources[s].first, store->sources[s].list.paths,
               store->sources[s].list.count * sizeof store->paths[0]);
    if (config->read.cache_folder[0] && access(config->read.cache_folder, W_OK | X_OK) != 0)
        FAIL(ERR_CONFIG, "data.read.cache_folder is %s: %s; make the folder, or name another",
             config->read.cache_folder, strerror(errno));
    if (config->read.index_folder && config->read.index_folder[0])
        TRY(index_names_differ(store->paths, (size_t)store->shard_count));
    TRY(shard_access_create(&config->read, &store->access));
    TRY(store_windows_create(store, options->windows));
    TRY(store_count_all(store, options->threads, bad));
    for (size_t s = 0; s < config->sources.count; s++) TRY(make_identity(store, (int32_t)s));
    *out = store;
    return STATUS_OK;
fail:
    shard_store_close(store);
    return status;
}

void shard_store_stop(ShardStore *store)
{
    shard_access_stop(store->access);
}

void shard_store_close(ShardStore *store)
{
    if (!store) return;
    store_windows_free(store);
    shard_access_free(store->access);
    for (size_t s = 0; store->sources && s < store->config->sources.count; s++) {
        shard_list_free(&store->sources[s].list);
        precomputed_facts_free(&store->sources[s].facts);
    }
    if (store->locks) {
        pthread_mutex_destroy(&store->lock);
        pthread_cond_destroy(&store->changed);
    }
    free(store->sources);
    free(store->paths);
    free(store->samples);
    free(store->try_again);
    free(store);
}

int32_t shard_store_count(const ShardStore *store, int32_t source)
{
    return (int32_t)store->sources[source].list.count;
}

const char *shard_store_path(const ShardStore *store, int32_t source, int32_t shard)
{
    return store->sources[source].list.paths[shard];
}

const int64_t *shard_store_samples(const ShardStore *store, int32_t source)
{
    return store->samples + store->sources[source].first;
}

uint64_t shard_store_identity(const ShardStore *store, int32_t source)
{
    return store->sources[source].identity;
}

void shard_store_access_stats(ShardStore *store, ShardAccessStats *out)
{
    shard_access_stats(store->access, out);
}

Status shard_store_index(ShardStore *store, int32_t source, int32_t shard, TarIndex *out)
{
    Status status = STATUS_OK;
    const StoreSource *of = &store->sources[source];
    const ShardNote note = shard_list_note(&of->list, (size_t)shard);
    ShardFile *file = NULL;
    *out = (TarIndex){0};
    TRY(shard_file_open(store->access, of->list.paths[shard], note.bytes, &file));
    TRY(tar_index_open(file, store->config->read.index_folder, false, out));
fail:
    shard_file_close(file);
    return status;
}
