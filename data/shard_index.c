#include "data/shard_index.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "data/checksums.h"
#include "data/index_name.h"
#include "data/shard_file.h"
#include "data/tar_index.h"

#define MOST_THREADS 256

const char *shard_index_state_name(ShardIndexState state)
{
    static const char *const names[SHARD_INDEX_STATES] = {"indexed", "had an index", "no index", "damaged",
                                                          "unreadable"};
    return names[state];
}

typedef struct Job {
    const ShardIndexOptions *options;
    ShardIndexReport *report;
    ShardAccess *access;
    int64_t shards;
    atomic_int_least64_t next, done, bytes;
    atomic_bool stop;
    pthread_mutex_t lock; /* of what follows */
    StatusRecord failure; /* the first that ends it all */
    bool failed;
    double shown;
} Job;

/* ---- one shard ---- */

static Status keep_trouble(ShardIndexResult *result, ShardIndexState state, const char *trouble)
{
    result->state = state;
    result->trouble = strdup(trouble);
    if (!result->trouble) return status_fail(ERR_MEMORY, __FILE__, __LINE__, "out of memory for a message");
    return STATUS_OK;
}

static bool wants_checksums(const Job *job, const char *shard)
{
    return shard_kind(shard) == SHARD_HTTP && job->options->config->read.checksums;
}

/* Where it should be, and of a shard here not older than that. */
static bool has_index(const ReadConfig *read, const char *shard, ShardIndexResult *result)
{
    char path[PATH_MAX], wanted[PATH_MAX];
    struct stat info, index;
    if (tar_index_find(shard, read->index_folder, &result->samples, path) != STATUS_OK) return false;
    if (read->index_folder[0] && /* one beside the shard is not what was asked for */
        (tar_index_path(shard, read->index_folder, wanted) != STATUS_OK || strcmp(path, wanted) != 0))
        return false;
    if (shard_kind(shard) != SHARD_LOCAL) return true;
    if (stat(shard, &info) != 0 || stat(path, &index) != 0) return false;
    result->bytes = info.st_size;
    return index.st_mtim.tv_sec >= info.st_mtim.tv_sec;
}

/* What it has is enough: an index, and over http checksums where they are wanted, of a file of the size that the server
 * tells now: that is asked for, and fails when it cannot be had. */
static Status has_all(Job *job, const char *shard, ShardIndexResult *result, bool *has)
{
    Status status = STATUS_OK;
    const ReadConfig *read = &job->options->config->read;
    char path[PATH_MAX];
    Checksums sums;
    int64_t bytes;
    *has = has_index(read, shard, result);
    if (!*has || !wants_checksums(job, shard)) return STATUS_OK;
    *has = checksums_path(shard, read->index_folder, path) == STATUS_OK && checksums_read(path, &sums) == STATUS_OK;
    if (!*has) return STATUS_OK;
    result->bytes = sums.bytes;
    checksums_free(&sums);
    TRY(shard_http_size(job->access, shard, &bytes));
    *has = bytes < 0 || bytes == result->bytes;
fail:
    return status;
}

/* What is wrong with a shard, not with this machine. */
static bool is_of_the_shard(Status status)
{
    return status == ERR_IO || status == ERR_FORMAT || status == ERR_LIMIT || status == ERR_MISMATCH ||
           status == ERR_UNSUPPORTED;
}

static Status write_checksums(const Job *job, const char *shard, const Checksums *sums)
{
    Status status = STATUS_OK;
    char path[PATH_MAX];
    TRY(checksums_path(shard, job->options->config->read.index_folder, path));
    TRY(checksums_write(sums, path));
fail:
    return status;
}

static Status write_index(const Job *job, const char *shard, const TarIndex *index, ShardIndexResult *result)
{
    Status status = STATUS_OK;
    char path[PATH_MAX], shown[SHARD_NAME_MAX], trouble[SHARD_NAME_MAX + 600];
    if (index->broken) return keep_trouble(result, SHARD_DAMAGED, index->trouble);
    shard_show(shard, shown, sizeof shown);
    if (index->table.sample_count == 0) {
        snprintf(trouble, sizeof trouble, "%s: has no samples", shown);
        return keep_trouble(result, SHARD_NO_INDEX, trouble);
    }
    TRY(tar_index_path(shard, job->options->config->read.index_folder, path));
    status = tar_index_write(index, path);
    if (status == ERR_UNSUPPORTED) {
        snprintf(trouble, sizeof trouble, "%s: %.500s", shown, status_message());
        return keep_trouble(result, SHARD_NO_INDEX, trouble);
    }
    if (status != STATUS_OK) FAIL_WITH(status);
    result->state = SHARD_INDEXED;
fail:
    return status;
}

/* Of a shard over http all bytes are fetched first, so that its index is of those that the checksums are of. */
static Status read_shard(Job *job, const char *shard, ShardIndexResult *result, Checksums *sums, TarIndex *index)
{
    Status status = STATUS_OK;
    ShardFile *file = NULL;
    /* What is not there at the start is a mistake, no bad moment of a file system. */
    if (shard_kind(shard) == SHARD_LOCAL) TRY(file_check_readable(shard));
    if (wants_checksums(job, shard)) TRY(shard_http_sum(job->access, shard, !job->options->once, sums));
    TRY(shard_file_open_summed(job->access, shard, sums, &file));
    result->bytes = shard_file_raw_bytes(file);
    TRY(tar_index_scan(file, index));
fail:
    shard_file_close(file);
    return status;
}

static Status index_one(Job *job, const ShardIndexSource *source, size_t i)
{
    Status status = STATUS_OK;
    ShardIndexResult *result = &source->results[i];
    const char *shard = source->list.paths[i];
    TarIndex index = {0};
    Checksums sums = {0};
    bool has = false;
    result->bytes = -1;
    if (!job->options->force) status = has_all(job, shard, result, &has);
    if (status == STATUS_OK && has) {
        result->state = SHARD_HAD_INDEX;
        return STATUS_OK;
    }
    result->samples = 0;
    if (status == STATUS_OK) status = read_shard(job, shard, result, &sums, &index);
    if (is_of_the_shard(status)) {
        status = keep_trouble(result, SHARD_UNREADABLE, status_message());
        goto fail;
    }
    if (status != STATUS_OK) FAIL_WITH(status);
    result->samples = (int64_t)index.table.sample_count;
    if (!index.broken && wants_checksums(job, shard)) TRY(write_checksums(job, shard, &sums));
    TRY(write_index(job, shard, &index, result));
    atomic_fetch_add(&job->bytes, result->bytes);
fail:
    checksums_free(&sums);
    tar_index_free(&index);
    return status;
}

/* ---- all of them ---- */

static void show_progress(Job *job)
{
    char line[160];
    if (!job->options->progress) return;
    pthread_mutex_lock(&job->lock);
    double now = clock_seconds();
    if (now - job->shown > 0.2) {
        job->shown = now;
        snprintf(line, sizeof line, "indexing: %" PRId64 " of %" PRId64 " shards, %.1f GB of them new",
                 atomic_load(&job->done), job->shards, (double)atomic_load(&job->bytes) * 1e-9);
        log_live_line(line);
    }
    pthread_mutex_unlock(&job->lock);
}

static void *work(void *argument)
{
    Job *job = argument;
    while (!atomic_load(&job->stop)) {
        int64_t n = atomic_fetch_add(&job->next, 1);
        if (n >= job->shards) break;
        const ShardIndexSource *source = job->report->sources;
        size_t i = (size_t)n;
        while (i >= source->list.count) i -= source++->list.count;
        Status status = index_one(job, source, i);
        atomic_fetch_add(&job->done, 1);
        show_progress(job);
        if (status == STATUS_OK) continue;
        pthread_mutex_lock(&job->lock);
        if (!job->failed) status_save(status, &job->failure);
        job->failed = true;
        pthread_mutex_unlock(&job->lock);
        atomic_store(&job->stop, true);
    }
    return NULL;
}

static Status run_threads(Job *job)
{
    pthread_t ids[MOST_THREADS];
    int started = 0, threads = job->options->threads < MOST_THREADS ? job->options->threads : MOST_THREADS;
    while (started < threads - 1 && started + 1 < job->shards && pthread_create(&ids[started], NULL, work, job) == 0)
        started++;
    work(job);
    for (int i = 0; i < started; i++) pthread_join(ids[i], NULL);
    if (job->options->progress) log_live_line(NULL);
    return job->failed ? status_restore(&job->failure) : STATUS_OK;
}

static Status list_source(const SourceConfig *config, const char *index_folder, ShardIndexSource *source)
{
    Status status = STATUS_OK;
    char path[PATH_MAX];
    source->name = config->name;
    for (size_t k = 0; k < config->shards.count; k++) TRY(shard_list_add(config->shards.items[k], &source->list));
    TRY(index_names_differ(source->list.paths, source->list.count));
    for (size_t i = 0; i < source->list.count; i++)
        if (shard_kind(source->list.paths[i]) != SHARD_LOCAL)
            TRY(tar_index_path(source->list.paths[i], index_folder, path));
    source->results = mem_alloc_array(source->list.count + 1, sizeof source->results[0]);
    if (!source->results) FAIL_WITH(ERR_MEMORY);
fail:
    return status;
}

/* In one source it is a mistake, in two perhaps none. */
static Status warn_of_repeated(const ShardIndexReport *report, size_t count)
{
    Status status = STATUS_OK;
    size_t at = 0;
    const char **paths = mem_alloc_array(count + 1, sizeof paths[0]);
    if (!paths) FAIL_WITH(ERR_MEMORY);
    for (size_t s = 0; s < report->source_count; s++)
        for (size_t i = 0; i < report->sources[s].list.count; i++) paths[at++] = report->sources[s].list.paths[i];
    shard_paths_warn(paths, count);
fail:
    free(paths);
    return status;
}

Status shard_index_all(const ShardIndexOptions *options, ShardIndexReport **out)
{
    Status status = STATUS_OK;
    const DataConfig *config = options->config;
    Job *job = mem_alloc_array(1, sizeof *job);
    ShardIndexReport *report = mem_alloc_array(1, sizeof *report);
    double start = clock_seconds();
    bool locked = false;
    *out = NULL;
    if (!job || !report) FAIL_WITH(ERR_MEMORY);
    report->sources = mem_alloc_array(config->sources.count + 1, sizeof report->sources[0]);
    if (!report->sources) FAIL_WITH(ERR_MEMORY);
    report->source_count = config->sources.count;
    *job = (Job){.options = options, .report = report, .shown = start};
    for (size_t s = 0; s < report->source_count; s++) {
        TRY(list_source(data_config_source(config, s), config->read.index_folder, &report->sources[s]));
        job->shards += (int64_t)report->sources[s].list.count;
    }
    TRY(warn_of_repeated(report, (size_t)job->shards));
    if (config->read.index_folder[0]) TRY(file_make_dirs(config->read.index_folder));
    TRY(shard_access_create(&config->read, &job->access));
    if (pthread_mutex_init(&job->lock, NULL) != 0) FAIL(ERR_MEMORY, "cannot create a lock");
    locked = true;
    TRY(run_threads(job));
    report->seconds = clock_seconds() - start;
    *out = report;
    report = NULL;
fail:
    if (locked) pthread_mutex_destroy(&job->lock);
    if (job) shard_access_free(job->access);
    free(job);
    shard_index_free(report);
    return status;
}

void shard_index_free(ShardIndexReport *report)
{
    if (!report) return;
    for (size_t s = 0; report->sources && s < report->source_count; s++) {
        ShardIndexSource *source = &report->sources[s];
        for (size_t i = 0; source->results && i < source->list.count; i++) free(source->results[i].trouble);
        free(source->results);
        shard_list_free(&source->list);
    }
    free(report->sources);
    free(report);
}

/* ---- list files ---- */

/* The path as a list in `folder` (absolute, ends with a slash) names it. */
static Status name_in_list(const char *shard, const char *folder, char out[PATH_MAX])
{
    Status status = STATUS_OK;
    size_t size = strlen(folder);
    if (shard_kind(shard) != SHARD_LOCAL) {
        if (snprintf(out, PATH_MAX, "%s", shard) >= PATH_MAX)
            FAIL(ERR_LIMIT, "a shard's path is too long: %.60s", SHARD_SHOWN(shard));
        return STATUS_OK;
    }
    TRY(index_absolute(shard, out));
    if (strncmp(out, folder, size) == 0 && out[size] && out[size] != '#' && strncmp(out + size, "list:", 5) != 0 &&
        shard_kind(out + size) == SHARD_LOCAL)
        memmove(out, out + size, strlen(out + size) + 1);
fail:
    return status;
}

Status shard_index_list(const ShardIndexSource *source, const char *path, StrBuf *out)
{
    Status status = STATUS_OK;
    char folder[PATH_MAX], name[PATH_MAX];
    TRY(index_absolute(path, folder));
    strrchr(folder, '/')[1] = 0;
    TRY(strbuf_printf(out, "# path, samples, bytes\n"));
    for (size_t i = 0; i < source->list.count; i++) {
        const ShardIndexResult *result = &source->results[i];
        TRY(name_in_list(source->list.paths[i], folder, name));
        if (result->state != SHARD_DAMAGED && result->state != SHARD_UNREADABLE) {
            TRY(shard_list_format(name, (ShardNote){result->samples, result->bytes}, out));
            continue;
        }
        size_t from = out->size;
        TRY(strbuf_printf(out, "# %s: %s", shard_index_state_name(result->state), result->trouble));
        for (size_t k = from; k < out->size; k++)
            if ((unsigned char)out->data[k] < ' ') out->data[k] = ' ';
        TRY(strbuf_append(out, "\n", 1));
    }
fail:
    return status;
}
