/* What is open of the shards: windows, each with the index of its own samples only, over files of which fewer stay
 * open. Both are caches whose least recently used place is taken next. A file is pinned while one of its windows is. */
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "data/shard_store_inside.h"

#define MOST_FILES 256
#define FAILED_READS 2 /* in a row, retries and all, after which a window is given up */

static void file_clear(OpenFile *open)
{
    shard_file_close(open->file);
    for (int kind = 0; kind < PRECOMPUTED_KINDS; kind++) precomputed_close(open->precomputed[kind]);
    tar_index_free(&open->index);
    memset(open->precomputed, 0, sizeof open->precomputed);
    open->file = NULL;
    open->scanned = false;
    open->shard = -1;
    open->state = PLACE_FREE;
}

static void window_clear(ShardStore *store, int w)
{
    OpenWindow *window = &store->windows[w];
    tar_index_free(&window->index);
    *window = (OpenWindow){.state = PLACE_FREE};
    store->keys[w] = (WindowKey){-1, -1};
}

Status store_windows_create(ShardStore *store, int windows)
{
    Status status = STATUS_OK;
    int files = windows < MOST_FILES ? windows : MOST_FILES;
    store->windows = mem_alloc_array((size_t)windows, sizeof store->windows[0]);
    store->keys = mem_alloc_array((size_t)windows, sizeof store->keys[0]);
    store->files = mem_alloc_array((size_t)files, sizeof store->files[0]);
    if (!store->windows || !store->keys || !store->files) FAIL(ERR_MEMORY, "out of memory for open shards");
    for (; store->file_count < files; store->file_count++) {
        OpenFile *open = &store->files[store->file_count];
        open->shard = -1;
        if (pthread_mutex_init(&open->index_lock, NULL) != 0) FAIL(ERR_MEMORY, "cannot create a lock");
    }
    store->window_count = windows;
    for (int w = 0; w < windows; w++) window_clear(store, w);
fail:
    return status;
}

void store_windows_free(ShardStore *store)
{
    for (int w = 0; w < store->window_count; w++) window_clear(store, w);
    for (int f = 0; f < store->file_count; f++) {
        file_clear(&store->files[f]);
        pthread_mutex_destroy(&store->files[f].index_lock);
    }
    free(store->windows);
    free(store->keys);
    free(store->files);
}

/* ---- files; called with the lock held, which is let go while one is opened ---- */

/* The place that holds the shard, else the least recently used one without users; NULL: all are in use. */
static OpenFile *find_file(ShardStore *store, int64_t shard)
{
    OpenFile *best = NULL;
    for (int f = 0; f < store->file_count; f++) {
        OpenFile *open = &store->files[f];
        if (open->shard == shard) return open;
        if (open->users > 0 || open->state == PLACE_LOADING) continue;
        if (!best || open->last_use < best->last_use) best = open;
    }
    return best;
}

static Status load_file(ShardStore *store, OpenFile *open, int32_t source)
{
    Status status = STATUS_OK;
    const char *path = store->paths[open->shard];
    const ShardNote note =
        shard_list_note(&store->sources[source].list, (size_t)(open->shard - store->sources[source].first));
    if (!store->without_tars) TRY(shard_file_open(store->access, path, note.bytes, &open->file));
    TRY(store_open_precomputed(store, source, path, NULL, open->precomputed));
fail:
    return status;
}

static Status pin_file(ShardStore *store, int32_t source, int64_t shard, OpenFile **out)
{
    Status status = STATUS_OK;
    OpenFile *open;
    *out = NULL;
    while (!(open = find_file(store, shard)) || open->state == PLACE_LOADING)
        pthread_cond_wait(&store->changed, &store->lock);
    if (open->shard != shard) {
        file_clear(open);
        open->shard = shard;
        open->state = PLACE_LOADING;
        pthread_mutex_unlock(&store->lock);
        status = load_file(store, open, source);
        pthread_mutex_lock(&store->lock);
        open->state = PLACE_READY;
        if (status != STATUS_OK) file_clear(open);
        pthread_cond_broadcast(&store->changed);
        if (status != STATUS_OK) return status;
    }
    open->last_use = ++store->clock;
    open->users++;
    *out = open;
    return STATUS_OK;
}

static void unpin_file(ShardStore *store, OpenFile *open)
{
    if (open && --open->users == 0) pthread_cond_broadcast(&store->changed);
}

/* ---- windows ---- */

/* The window's samples out of the index of the whole shard; fewer where the shard has fewer. */
static Status slice(const TarIndex *whole, int64_t first, int64_t count, TarIndex *out)
{
    Status status = STATUS_OK;
    StrBuf name = {0};
    TarIndex index = {0};
    const SampleTable *table = &whole->table;
    *out = (TarIndex){0};
    for (int64_t s = first; s < first + count && s < (int64_t)table->sample_count; s++) {
        const Sample *sample = &table->samples[s];
        for (uint32_t m = 0; m < sample->member_count; m++) {
            const SampleMember *member = &table->members[sample->first_member + m];
            name.size = 0;
            TRY(strbuf_printf(&name, "%s.%s", sample_key(table, sample), sample_suffix(table, member)));
            TRY(sample_table_add(&index.table, name.data, member->offset, member->size));
        }
    }
    *out = index;
    index = (TarIndex){0};
fail:
    tar_index_free(&index);
    strbuf_free(&name);
    return status;
}

/* The index of a shard that has no usable index file is made once for as long as the shard is open. */
static Status scan_and_slice(OpenFile *open, int64_t first, int64_t count, TarIndex *out)
{
    Status status = STATUS_OK;
    pthread_mutex_lock(&open->index_lock);
    if (!open->scanned) {
        tar_index_free(&open->index);
        status = tar_index_scan(open->file, &open->index);
        open->scanned = status == STATUS_OK;
    }
    if (status == STATUS_OK) status = slice(&open->index, first, count, out);
    pthread_mutex_unlock(&open->index_lock);
    return status;
}

static Status load_index(ShardStore *store, OpenFile *open, int64_t first, int64_t count, TarIndex *out)
{
    Status status = STATUS_OK;
    const char *shard = shard_file_path(open->file);
    char path[PATH_MAX];
    int64_t samples;
    status = tar_index_find(shard, store->config->read.index_folder, &samples, path);
    if (status == STATUS_OK) {
        status = tar_index_window(path, first, count, shard_file_bytes(open->file), out);
        if (status == STATUS_OK) return STATUS_OK;
        log_warn("%s: this index is not used, the shard is scanned instead: %s", path, status_message());
    }
    TRY(scan_and_slice(open, first, count, out));
fail:
    return status;
}

/* The window w of these samples; called and left with the lock held. */
static Status load_window(ShardStore *store, OpenWindow *window, int32_t source, int64_t shard, int64_t first,
                          int64_t count)
{
    OpenFile *open;
    Status status = pin_file(store, source, shard, &open);
    if (status != STATUS_OK) return status;
    if (!store->without_tars) {
        pthread_mutex_unlock(&store->lock);
        status = load_index(store, open, first, count, &window->index);
        pthread_mutex_lock(&store->lock);
    }
    window->open = open;
    return status;
}

static const char *source_name(const ShardStore *store, int64_t shard)
{
    return data_config_source(store->config, (size_t)store_source_of(store, shard))->name;
}

/* The window is given up, with the last recorded message as the cause. */
static void give_up(ShardStore *store, OpenWindow *window, int64_t shard, Status failure)
{
    window->state = PLACE_FAILED;
    window->failure = failure;
    snprintf(window->message, sizeof window->message, "%s", status_message());
    if (failure != ERR_INTERRUPTED)
        bad_log_shard(store->bad_log, source_name(store, shard), store->paths[shard], window->shown.first,
                      window->shown.count, SAMPLE_READ_ERROR, window->message);
}

/* The place of the window, else the least recently used one without users; -1: all are in use. */
static int find_window(const ShardStore *store, int64_t shard, int64_t first)
{
    int best = -1;
    for (int w = 0; w < store->window_count; w++)
        if (store->keys[w].first == first && store->keys[w].shard == shard) return w;
    for (int w = 0; w < store->window_count; w++) {
        const OpenWindow *window = &store->windows[w];
        if (window->users > 0 || window->state == PLACE_LOADING) continue;
        if (best < 0 || window->last_use < store->windows[best].last_use) best = w;
    }
    return best;
}

Status shard_store_acquire(ShardStore *store, int32_t source, int32_t shard_number, int64_t first, int64_t count,
                           const ShardWindow **out)
{
    Status status = STATUS_OK;
    const int64_t shard = store->sources[source].first + shard_number;
    int w;
    *out = NULL;
    pthread_mutex_lock(&store->lock);
    while ((w = find_window(store, shard, first)) < 0 || store->windows[w].state == PLACE_LOADING)
        pthread_cond_wait(&store->changed, &store->lock);
    OpenWindow *window = &store->windows[w];
    if (store->keys[w].shard != shard || store->keys[w].first != first) {
        window_clear(store, w);
        store->keys[w] = (WindowKey){shard, first};
        window->shown = (ShardWindow){.path = store->paths[shard], .first = first, .count = count};
        window->state = PLACE_LOADING;
        status = load_window(store, window, source, shard, first, count);
        window->state = PLACE_READY;
        if (status != STATUS_OK) {
            unpin_file(store, window->open);
            window->open = NULL;
            give_up(store, window, shard, status);
        }
        pthread_cond_broadcast(&store->changed);
    } else if (window->state == PLACE_READY && window->users == 0) {
        /* Held by hand while its file is opened again. */
        window->state = PLACE_LOADING;
        status = pin_file(store, source, shard, &window->open);
        window->state = PLACE_READY;
        if (status != STATUS_OK) give_up(store, window, shard, status);
        pthread_cond_broadcast(&store->changed);
    } else if (window->state == PLACE_FAILED) {
        status = status_fail(window->failure, __FILE__, __LINE__, "%s", window->message);
    }
    window->last_use = ++store->clock;
    if (status == STATUS_OK) {
        window->users++;
        window->shown.file = window->open->file;
        window->shown.index = &window->index;
        memcpy(window->shown.precomputed, window->open->precomputed, sizeof window->shown.precomputed);
        *out = &window->shown;
    }
    pthread_mutex_unlock(&store->lock);
    return status;
}

static OpenWindow *window_of(const ShardWindow *shown)
{
    return (OpenWindow *)((const char *)shown - offsetof(OpenWindow, shown));
}

void shard_store_release(ShardStore *store, const ShardWindow *shown)
{
    OpenWindow *window = window_of(shown);
    pthread_mutex_lock(&store->lock);
    if (--window->users == 0) {
        unpin_file(store, window->open);
        window->open = NULL;
        pthread_cond_broadcast(&store->changed);
    }
    pthread_mutex_unlock(&store->lock);
}

/* ---- reading ---- */

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

/* Counts reads that fail in a row, and gives the window up when they are too many. */
static void note_read(ShardStore *store, const ShardWindow *shown, Status result)
{
    OpenWindow *window = window_of(shown);
    if (result == STATUS_OK && atomic_load(&window->failed_reads) == 0) return;
    pthread_mutex_lock(&store->lock);
    atomic_store(&window->failed_reads, result == STATUS_OK ? 0 : atomic_load(&window->failed_reads) + 1);
    if (atomic_load(&window->failed_reads) >= FAILED_READS && window->state == PLACE_READY)
        give_up(store, window, store->keys[window - store->windows].shard, result);
    pthread_mutex_unlock(&store->lock);
}

Status shard_window_read(ShardStore *store, const ShardWindow *window, const SampleMember *member, uint8_t *out)
{
    Status status = shard_file_read(window->file, out, SHARD_HEADER + member->size, member->offset - SHARD_HEADER);
    if (status == ERR_IO) note_read(store, window, status);
    if (status != STATUS_OK) return status_trace(status, __FILE__, __LINE__);
    note_read(store, window, STATUS_OK);
    if (size_in_header(out) != member->size)
        return status_fail(ERR_FORMAT, __FILE__, __LINE__,
                           "%s: is not the file that was indexed; delete its index, or run `vasily data index`",
                           window->path);
    return STATUS_OK;
}

bool shard_window_doubt(ShardStore *store, const ShardWindow *window, const Sample *sample)
{
    (void)store;
    if (!window->file || sample->member_count == 0) return false;
    const SampleMember *first = &window->index->table.members[sample->first_member];
    const SampleMember *last = first + sample->member_count - 1;
    int64_t from = first->offset - SHARD_HEADER, to = last->offset + last->size;
    return to > from && shard_file_doubt(window->file, to - from, from);
}
