/* How many samples every shard has, when a run starts: what its list says, what the first line of its index file says,
 * else what reading its headers shows. */
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "data/order.h"
#include "data/shard_store_inside.h"

#define MOST_THREADS 64

typedef struct Count {
    ShardStore *store;
    atomic_int_least64_t next, scanned;
    atomic_bool stop;
    pthread_mutex_t lock;
    StatusRecord *failure;
    int64_t failed_shard; /* -1: none */
    BadSamples *bad;
    double shown; /* when the progress line was last written */
} Count;

static void show_progress(Count *count)
{
    char line[160];
    const double every = log_is_terminal() ? 0.2 : 15;
    if (!count->store->progress) return;
    pthread_mutex_lock(&count->lock);
    double now = clock_seconds();
    if (now - count->shown > every) {
        int64_t done = atomic_load(&count->next);
        count->shown = now;
        snprintf(line, sizeof line, "counting samples: %" PRId64 " of %" PRId64 " shards, %" PRId64 " read through",
                 done, count->store->shard_count, atomic_load(&count->scanned));
        if (log_is_terminal())
            log_live_line(line);
        else
            log_info("%s", line);
    }
    pthread_mutex_unlock(&count->lock);
}

static Status check_readable(const char *path)
{
    if (access(path, R_OK) == 0) return STATUS_OK;
    return status_fail(ERR_IO, __FILE__, __LINE__, "%s: %s", path, strerror(errno));
}

/* Reads the shard's headers, and counts it as empty or broken where it is. */
static Status scan(Count *count, int64_t shard, const ShardNote *note, TarIndex *index)
{
    Status status = STATUS_OK;
    ShardStore *store = count->store;
    const char *path = store->paths[shard];
    ShardFile *file = NULL;
    TRY(shard_file_open(store->access, path, note->bytes, &file));
    TRY(tar_index_open(file, store->config->read.index_folder, store->write_index, index));
    atomic_fetch_add(&count->scanned, 1);
    pthread_mutex_lock(&count->lock);
    if (index->broken) {
        bad_samples_add(count->bad, SHARD_BROKEN, path, "", index->trouble);
        bad_log_shard(store->bad_log, data_config_source(store->config, (size_t)store_source_of(store, shard))->name,
                      path, (int64_t)index->table.sample_count, 0, SHARD_BROKEN, index->trouble);
    } else if (index->table.sample_count == 0) {
        bad_samples_add(count->bad, SHARD_EMPTY, path, "", "it has no samples");
    }
    pthread_mutex_unlock(&count->lock);
fail:
    shard_file_close(file);
    return status;
}

/* With precomputed files, which must be those of this shard as it is now. */
static Status count_precomputed(Count *count, int64_t shard, const ShardNote *note)
{
    Status status = STATUS_OK;
    ShardStore *store = count->store;
    const char *path = store->paths[shard];
    PrecomputedFile *files[PRECOMPUTED_KINDS] = {NULL};
    TarIndex index = {0};
    bool tar = !store->without_tars || file_exists(path);
    if (tar) {
        if (shard_kind(path) == SHARD_LOCAL) TRY(check_readable(path));
        TRY(scan(count, shard, note, &index));
    }
    TRY(store_open_precomputed(store, store_source_of(store, shard), path, tar ? &index : NULL, files));
    store->samples[shard] = precomputed_samples(files[0] ? files[0] : files[1]);
fail:
    for (int kind = 0; kind < PRECOMPUTED_KINDS; kind++) precomputed_close(files[kind]);
    tar_index_free(&index);
    return status;
}

static Status too_many(const ShardStore *store, int64_t shard)
{
    char shown[SHARD_NAME_MAX];
    shard_show(store->paths[shard], shown, sizeof shown);
    return status_fail(ERR_LIMIT, __FILE__, __LINE__,
                       "%s: %" PRId64 " samples, more than a shard may have (%" PRId64
                       "); correct the list or the index that says so",
                       shown, store->samples[shard], ORDER_MAX_SHARD_SAMPLES);
}

static Status count_one(Count *count, int64_t shard)
{
    Status status = STATUS_OK;
    ShardStore *store = count->store;
    const StoreSource *source = &store->sources[store_source_of(store, shard)];
    const ShardNote note = shard_list_note(&source->list, (size_t)(shard - source->first));
    const char *path = store->paths[shard];
    char index_path[PATH_MAX];
    TarIndex index = {0};
    if (store->precomputed) return count_precomputed(count, shard, &note);
    store->samples[shard] = note.samples;
    if (note.samples >= 0) return STATUS_OK;                        /* looked at when its turn comes */
    if (shard_kind(path) == SHARD_LOCAL) TRY(check_readable(path)); /* what is missing now is a mistake */
    status = tar_index_find(path, store->config->read.index_folder, &store->samples[shard], index_path);
    if (status == STATUS_OK && store->samples[shard] > 0) return STATUS_OK;
    TRY(scan(count, shard, &note, &index));
    store->samples[shard] = (int64_t)index.table.sample_count;
fail:
    tar_index_free(&index);
    return status;
}

/* A shard that cannot be read, where that is no error. */
static bool pass_over(Count *count, int64_t shard, Status status)
{
    ShardStore *store = count->store;
    if (!store->pass_over || status == ERR_MEMORY || status == ERR_INTERRUPTED || status == ERR_SPACE) return false;
    store->samples[shard] = 0;
    pthread_mutex_lock(&count->lock);
    bad_samples_add(count->bad, SHARD_BROKEN, store->paths[shard], "", status_message());
    pthread_mutex_unlock(&count->lock);
    return true;
}

static void *count_thread(void *argument)
{
    Count *count = argument;
    while (!atomic_load(&count->stop)) {
        int64_t shard = atomic_fetch_add(&count->next, 1);
        if (shard >= count->store->shard_count) break;
        Status status = count_one(count, shard);
        if (status == STATUS_OK && count->store->samples[shard] > ORDER_MAX_SHARD_SAMPLES)
            status = too_many(count->store, shard);
        show_progress(count);
        if (status == STATUS_OK || pass_over(count, shard, status)) continue;
        status_prefix("source %s: ",
                      data_config_source(count->store->config, (size_t)store_source_of(count->store, shard))->name);
        pthread_mutex_lock(&count->lock);
        if (count->failed_shard < 0 || shard < count->failed_shard) {
            status_save(status, count->failure);
            count->failed_shard = shard;
        }
        pthread_mutex_unlock(&count->lock);
        atomic_store(&count->stop, true);
    }
    return NULL;
}

Status store_count_all(ShardStore *store, int threads, BadSamples *bad)
{
    Status status = STATUS_OK;
    pthread_t ids[MOST_THREADS];
    int started = 0;
    Count count = {.store = store, .failed_shard = -1, .bad = bad, .shown = clock_seconds()};
    StatusRecord failure;
    count.failure = &failure;
    pthread_mutex_init(&count.lock, NULL);
    if (threads > MOST_THREADS) threads = MOST_THREADS;
    while (started < threads - 1 && started + 1 < store->shard_count &&
           pthread_create(&ids[started], NULL, count_thread, &count) == 0)
        started++;
    count_thread(&count);
    for (int i = 0; i < started; i++) pthread_join(ids[i], NULL);
    pthread_mutex_destroy(&count.lock);
    if (store->progress) log_live_line(NULL);
    if (count.failed_shard >= 0) {
        status = status_restore(&failure);
        if (!store->precomputed)
            status_prefix("cannot read a shard; check %s.sources and the file's permissions: ",
                          data_config_section(store->config));
    }
    return status;
}
