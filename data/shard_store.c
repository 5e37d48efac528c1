#include "data/shard_store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/archive.h"
#include "base/arena.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "data/shard_list.h"

#define HEADER 512
#define MAX_UNPACKED ((int64_t)64 << 30)

/* A place in the cache of open shards. */
typedef struct Place {
    OpenShard open;
    TarIndex index;
    int64_t shard; /* global number; -1: free */
    int users;
    bool loading, loaded;
    uint64_t last_use;
} Place;

typedef struct StoreSource {
    ShardList list;
    int64_t first; /* global number of its first shard */
    uint64_t identity;
    PrecomputedFacts facts;
} StoreSource;

struct ShardStore {
    const DataConfig *config;
    const PrecomputedSpec *precomputed; /* NULL: none */
    bool without_tars;                  /* all is precomputed */
    StoreSource *sources;
    int64_t shard_count;
    char **paths;     /* (shard_count), owned by the lists */
    int64_t *samples; /* (shard_count) */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    Place *places;
    int place_count;
    uint64_t clock;
    bool write_index, ready;
};

static void place_clear(Place *place)
{
    if (place->open.fd >= 0) close(place->open.fd);
    for (int kind = 0; kind < PRECOMPUTED_KINDS; kind++) precomputed_close(place->open.precomputed[kind]);
    tar_index_free(&place->index);
    place->open = (OpenShard){.fd = -1};
    place->shard = -1;
    place->loaded = false;
}

/* ---- the scan at the start ---- */

typedef struct Scan {
    ShardStore *store;
    atomic_int_least64_t next;
    atomic_bool stop;
    pthread_mutex_t lock;
    StatusRecord *failure; /* NULL: none */
    int64_t failed_shard;
    BadSamples *bad;
} Scan;

static int32_t source_of(const ShardStore *store, int64_t shard)
{
    int32_t s = 0;
    while (s + 1 < (int32_t)store->config->sources.count && store->sources[s + 1].first <= shard) s++;
    return s;
}

/* A missing file; perhaps there is one of another resolution. */
static Status missing_error(const PrecomputedSpec *spec, PrecomputedKind kind, const char *path, const char *shard)
{
    const char *word = PRECOMPUTED_KIND_WORDS[kind];
    char other[PATH_MAX], pattern[PATH_MAX];
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
    return status_fail(
        ERR_IO, __FILE__, __LINE__,
        "%s does not exist: no precomputed %s of %s%s; `vasily precompute CONFIG` makes this file, frozen.path "
        "says where such files are, and with frozen.%s: inline none are needed",
        path, word, shard, other, word);
}

/* The wanted precomputed files of a shard, which fit each other and its index (NULL: not looked at). */
static Status open_precomputed(const ShardStore *store, int32_t source, const char *shard, const TarIndex *index,
                               PrecomputedFile *files[PRECOMPUTED_KINDS])
{
    Status status = STATUS_OK;
    const PrecomputedSpec *spec = store->precomputed;
    const char *name = data_config_source(store->config, (size_t)source)->name;
    char path[PATH_MAX];
    Hash128 hash = {0}, own;
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
                 "%s: is not of the same samples as %s, which has changed or is another; make it anew with `vasily "
                 "precompute CONFIG`",
                 path, index ? shard : precomputed_file_path(files[0]));
        hash = own;
        known = true;
    }
fail:
    return status;
}

/* Counts one shard, and keeps its index while there is a free place in the cache. */
static Status scan_one(Scan *scan, int64_t shard)
{
    Status status = STATUS_OK;
    ShardStore *store = scan->store;
    TarIndex index = {0};
    PrecomputedFile *files[PRECOMPUTED_KINDS] = {NULL};
    const char *path = store->paths[shard];
    bool tar = !store->without_tars || file_exists(path);
    if (tar) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) FAIL(ERR_IO, "%s: %s", path, strerror(errno));
        close(fd);
        TRY(tar_index_open(path, store->write_index, &index));
    }
    store->samples[shard] = (int64_t)index.table.sample_count;
    if (store->precomputed) {
        TRY(open_precomputed(store, source_of(store, shard), path, tar ? &index : NULL, files));
        const PrecomputedFile *any = files[0] ? files[0] : files[1];
        store->samples[shard] = precomputed_samples(any);
        if (store->without_tars) goto fail; /* done: broken and empty shards were counted when they were precomputed */
    }
    pthread_mutex_lock(&scan->lock);
    if (index.broken)
        bad_samples_add(scan->bad, SHARD_BROKEN, path, "", index.trouble);
    else if (index.table.sample_count == 0)
        bad_samples_add(scan->bad, SHARD_EMPTY, path, "", "it has no samples");
    if (shard < store->place_count && index.table.sample_count > 0) {
        store->places[shard].index = index; /* the first shards have a place each; nobody else touches it now */
        store->places[shard].shard = shard;
        index = (TarIndex){0};
    }
    pthread_mutex_unlock(&scan->lock);
fail:
    for (int kind = 0; kind < PRECOMPUTED_KINDS; kind++) precomputed_close(files[kind]);
    tar_index_free(&index);
    return status;
}

static void *scan_thread(void *argument)
{
    Scan *scan = argument;
    while (!atomic_load(&scan->stop)) {
        int64_t shard = atomic_fetch_add(&scan->next, 1);
        if (shard >= scan->store->shard_count) break;
        Status status = scan_one(scan, shard);
        if (status == STATUS_OK) continue;
        status_prefix("source %s: ",
                      data_config_source(scan->store->config, (size_t)source_of(scan->store, shard))->name);
        pthread_mutex_lock(&scan->lock);
        if (scan->failed_shard < 0 || shard < scan->failed_shard) {
            status_save(status, scan->failure);
            scan->failed_shard = shard;
        }
        pthread_mutex_unlock(&scan->lock);
        atomic_store(&scan->stop, true);
    }
    return NULL;
}

static Status scan_all(ShardStore *store, int threads, BadSamples *bad)
{
    Status status = STATUS_OK;
    pthread_t ids[64];
    int started = 0;
    Scan scan = {.store = store, .failed_shard = -1, .bad = bad};
    StatusRecord failure;
    scan.failure = &failure;
    pthread_mutex_init(&scan.lock, NULL);
    if (threads > 64) threads = 64;
    while (started < threads - 1 && started + 1 < store->shard_count &&
           pthread_create(&ids[started], NULL, scan_thread, &scan) == 0)
        started++;
    scan_thread(&scan);
    for (int i = 0; i < started; i++) pthread_join(ids[i], NULL);
    pthread_mutex_destroy(&scan.lock);
    if (scan.failed_shard >= 0) {
        status = status_restore(&failure);
        if (!store->precomputed) status_prefix("cannot read a shard; check data.sources and the file's permissions: ");
    }
    return status;
}

/* ---- opening and closing ---- */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static Status make_identity(ShardStore *store, int32_t s)
{
    Status status = STATUS_OK;
    StrBuf text = {0};
    StoreSource *source = &store->sources[s];
    for (size_t i = 0; i < source->list.count; i++)
        TRY(strbuf_printf(&text, "%s %" PRId64 "\n", base_name(source->list.paths[i]),
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
                status_prefix("data.sources: source %s: ", source->name);
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

Status shard_store_open(const DataConfig *config, const PrecomputedSpec *precomputed, bool write_index, int threads,
                        int cache, BadSamples *bad, ShardStore **out)
{
    Status status = STATUS_OK;
    *out = NULL;
    ShardStore *store = mem_alloc_array(1, sizeof *store);
    if (!store) FAIL(ERR_MEMORY, "out of memory for the list of shards");
    store->config = config;
    store->precomputed = precomputed;
    store->without_tars =
        precomputed && precomputed->wanted[PRECOMPUTED_LATENTS] && precomputed->wanted[PRECOMPUTED_TEXT];
    store->write_index = write_index;
    store->sources = mem_alloc_array(config->sources.count, sizeof store->sources[0]);
    if (!store->sources) FAIL(ERR_MEMORY, "out of memory for the list of shards");
    TRY(list_shards(store));
    store->paths = mem_alloc_array((size_t)store->shard_count + 1, sizeof store->paths[0]);
    store->samples = mem_alloc_array((size_t)store->shard_count + 1, sizeof store->samples[0]);
    store->places = mem_alloc_array((size_t)cache, sizeof store->places[0]);
    if (!store->paths || !store->samples || !store->places) FAIL(ERR_MEMORY, "out of memory for the list of shards");
    for (size_t s = 0; s < config->sources.count; s++)
        memcpy(store->paths + store->sources[s].first, store->sources[s].list.paths,
               store->sources[s].list.count * sizeof store->paths[0]);
    store->place_count = cache;
    for (int i = 0; i < cache; i++) {
        store->places[i].open.fd = -1; /* zero would be standard input */
        place_clear(&store->places[i]);
    }
    if (pthread_mutex_init(&store->lock, NULL) != 0 || pthread_cond_init(&store->changed, NULL) != 0)
        FAIL(ERR_MEMORY, "cannot create a lock");
    store->ready = true;
    TRY(scan_all(store, threads, bad));
    for (size_t s = 0; s < config->sources.count; s++) TRY(make_identity(store, (int32_t)s));
    *out = store;
    return STATUS_OK;
fail:
    shard_store_close(store);
    return status;
}

void shard_store_close(ShardStore *store)
{
    if (!store) return;
    for (int i = 0; store->places && i < store->place_count; i++) place_clear(&store->places[i]);
    for (size_t s = 0; store->sources && s < store->config->sources.count; s++) {
        shard_list_free(&store->sources[s].list);
        precomputed_facts_free(&store->sources[s].facts);
    }
    if (store->ready) {
        pthread_mutex_destroy(&store->lock);
        pthread_cond_destroy(&store->changed);
    }
    free(store->sources);
    free(store->paths);
    free(store->samples);
    free(store->places);
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

/* ---- open shards ---- */

static Status write_all(int fd, const char *data, int64_t size, int64_t offset)
{
    while (size > 0) {
        ssize_t done = pwrite(fd, data, (size_t)size, (off_t)offset);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0)
            return status_fail(ERR_IO, __FILE__, __LINE__, "cannot unpack a shard: %s; is $TMPDIR full?",
                               strerror(done < 0 ? errno : ENOSPC));
        data += done;
        size -= done;
        offset += done;
    }
    return STATUS_OK;
}

/* The index's members, read from a compressed tar, to their offsets in a nameless file. */
static Status unpack(const char *path, const LimitsConfig *limits, int *out)
{
    Status status = STATUS_OK;
    Archive *archive = NULL;
    char *buffer = NULL, name[4200];
    size_t capacity = 0;
    const char *folder = getenv("TMPDIR");
    int fd = -1;
    snprintf(name, sizeof name, "%s/vasily-shard-XXXXXX", folder && folder[0] ? folder : "/tmp");
    fd = mkostemp(name, O_CLOEXEC);
    if (fd < 0) FAIL(ERR_IO, "%s: %s; set TMPDIR to a folder with room for unpacked shards", name, strerror(errno));
    unlink(name);
    TRY(archive_open(path, 0, &archive));
    for (;;) {
        const char *member;
        int64_t size;
        status = archive_next(archive, &member, &size);
        if (status == STATUS_END) break;
        if (status != STATUS_OK) { /* the whole members before a break are used, as the index has only those */
            log_debug("%s: %s", path, status_message());
            break;
        }
        int64_t position = archive_position(archive);
        if (size > limits->member_bytes) continue;
        if (position > MAX_UNPACKED) FAIL(ERR_LIMIT, "%s: more than 64 GiB unpacked", path);
        TRY(mem_grow(&buffer, &capacity, (size_t)size + 1, 1));
        if (archive_read(archive, buffer) != STATUS_OK) break;
        TRY(write_all(fd, buffer, size, position + HEADER));
    }
    status = STATUS_OK;
    *out = fd;
    fd = -1;
fail:
    free(buffer);
    archive_close(archive);
    if (fd >= 0) close(fd);
    return status;
}

static Status place_load(ShardStore *store, Place *place, int32_t source, const char *path)
{
    Status status = STATUS_OK;
    bool kept = place->index.table.sample_count > 0;
    place->open.path = path;
    place->open.index = &place->index;
    if (store->without_tars) return open_precomputed(store, source, path, NULL, place->open.precomputed);
    if (!kept) TRY(tar_index_open(path, false, &place->index));
    if (place->index.compressed)
        TRY(unpack(path, &store->config->limits, &place->open.fd));
    else
        place->open.fd = open(path, O_RDONLY | O_CLOEXEC);
    if (place->open.fd < 0) FAIL(ERR_IO, "%s: %s", path, strerror(errno));
    TRY(open_precomputed(store, source, path, &place->index, place->open.precomputed));
fail:
    return status;
}

/* The place that holds the shard, else the least recently used one that nobody uses; NULL when all are in use. */
static Place *find_place(ShardStore *store, int64_t shard)
{
    Place *best = NULL;
    for (int i = 0; i < store->place_count; i++) {
        Place *place = &store->places[i];
        if (place->shard == shard) return place;
        if (place->users > 0 || place->loading) continue;
        if (!best || (place->shard < 0 && best->shard >= 0) ||
            ((place->shard < 0) == (best->shard < 0) && place->last_use < best->last_use))
            best = place;
    }
    return best;
}

Status shard_store_acquire(ShardStore *store, int32_t source, int32_t shard_number, const OpenShard **out)
{
    int64_t shard = store->sources[source].first + shard_number;
    Place *place;
    pthread_mutex_lock(&store->lock);
    while (!(place = find_place(store, shard)) || place->loading) pthread_cond_wait(&store->changed, &store->lock);
    if (place->shard != shard) {
        place_clear(place);
        place->shard = shard;
    }
    place->last_use = ++store->clock;
    place->users++;
    Status status = STATUS_OK;
    if (!place->loaded) {
        place->loading = true;
        pthread_mutex_unlock(&store->lock);
        status = place_load(store, place, source, store->paths[shard]);
        pthread_mutex_lock(&store->lock);
        place->loading = false;
        place->loaded = status == STATUS_OK;
        if (status != STATUS_OK) {
            place->users--;
            place_clear(place);
        }
        pthread_cond_broadcast(&store->changed);
    }
    pthread_mutex_unlock(&store->lock);
    *out = status == STATUS_OK ? &place->open : NULL;
    return status;
}

void shard_store_release(ShardStore *store, const OpenShard *shard)
{
    pthread_mutex_lock(&store->lock);
    for (int i = 0; i < store->place_count; i++)
        if (&store->places[i].open == shard && --store->places[i].users == 0) pthread_cond_broadcast(&store->changed);
    pthread_mutex_unlock(&store->lock);
}

static Status read_all(const OpenShard *shard, uint8_t *out, int64_t size, int64_t offset)
{
    while (size > 0) {
        ssize_t got = pread(shard->fd, out, (size_t)size, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return status_fail(ERR_IO, __FILE__, __LINE__, "%s: %s", shard->path, strerror(errno));
        if (got == 0)
            return status_fail(ERR_FORMAT, __FILE__, __LINE__, "%s: shorter than its index says; delete %s.idx",
                               shard->path, shard->path);
        out += got;
        size -= got;
        offset += got;
    }
    return STATUS_OK;
}

/* The size in a tar header, which is octal for all sizes that we read. */
static int64_t size_in_header(const uint8_t *header)
{
    int64_t value = 0;
    for (int i = 124; i < 136; i++) {
        if (header[i] == ' ' && value == 0) continue;
        if (header[i] < '0' || header[i] > '7') break;
        value = value * 8 + (header[i] - '0');
    }
    return value;
}

Status shard_read_member(const OpenShard *shard, const SampleMember *member, uint8_t *out)
{
    Status status = STATUS_OK;
    uint8_t header[HEADER];
    if (!shard->index->compressed) {
        TRY(read_all(shard, header, HEADER, member->offset - HEADER));
        if (size_in_header(header) != member->size)
            FAIL(ERR_FORMAT, "%s: is not the file that was indexed; delete %s.idx", shard->path, shard->path);
    }
    TRY(read_all(shard, out, member->size, member->offset));
fail:
    return status;
}
