/* What is open of the shards: windows, each with the index of its own samples only, over files of which fewer stay
 * open. Both are caches whose least recently used place is taken next. A file is pinned while one of its windows is. */
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/file.h"
#include "base/log.h"
#include "data/shard_store_inside.h"

#define MOST_FILES 4096
#define MOST_WINDOW_BYTES ((int64_t)512 << 20) /* of the indexes of all windows */
#define MOST_SCANNED ((int64_t)256 << 20)      /* bytes of indexes kept of shards that have no index file */
#define GIVE_UP_SECONDS 60 /* that a shard which could not be opened, retries and all, is not tried again */
#define FAILED_SECONDS 30  /* that reads in a row may take to fail, retries and all, before a window is given up */

static int64_t index_bytes(const TarIndex *index)
{
    const SampleTable *table = &index->table;
    return (int64_t)(table->sample_capacity * sizeof table->samples[0] +
                     table->member_capacity * sizeof table->members[0] + table->text.capacity);
}

static void drop_scanned(ShardStore *store, OpenFile *open)
{
    if (open->scanned) store->scanned_bytes -= index_bytes(&open->index);
    tar_index_free(&open->index);
    open->scanned = false;
}

static void file_clear(ShardStore *store, OpenFile *open)
{
    shard_file_close(open->file);
    for (int kind = 0; kind < PRECOMPUTED_KINDS; kind++) precomputed_close(open->precomputed[kind]);
    memset(open->precomputed, 0, sizeof open->precomputed);
    drop_scanned(store, open);
    open->file = NULL;
    open->shard = -1;
    open->state = PLACE_FREE;
}

/* ---- windows by their hash; with the lock held ---- */

static int *bucket_of(const ShardStore *store, int64_t shard, int64_t first)
{
    uint64_t mixed = ((uint64_t)shard * 0x9e3779b97f4a7c15u + (uint64_t)first) * 0xd6e8feb86659fd93u;
    return &store->buckets[(mixed >> 32) % (uint64_t)store->window_count];
}

static OpenWindow *find_window(const ShardStore *store, int64_t shard, int64_t first)
{
    for (int w = *bucket_of(store, shard, first); w >= 0; w = store->windows[w].next)
        if (store->windows[w].shard == shard && store->windows[w].shown.first == first) return &store->windows[w];
    return NULL;
}

static void window_clear(ShardStore *store, OpenWindow *window)
{
    if (window->shard >= 0) {
        int *link = bucket_of(store, window->shard, window->shown.first);
        while (&store->windows[*link] != window) link = &store->windows[*link].next;
        *link = window->next;
    }
    store->window_bytes -= window->index_bytes;
    tar_index_free(&window->index);
    *window = (OpenWindow){.shard = -1, .next = -1, .state = PLACE_FREE};
}

/* The least recently used window without users; NULL: all are in use. */
static OpenWindow *spare_window(const ShardStore *store)
{
    OpenWindow *best = NULL;
    for (int w = 0; w < store->window_count; w++) {
        OpenWindow *window = &store->windows[w];
        if (window->users > 0 || window->state == PLACE_LOADING) continue;
        if (!best || window->last_use < best->last_use) best = window;
    }
    return best;
}

/* Windows that nobody uses go, the longest unused first, while the indexes of all take too much memory. */
static void bound_windows(ShardStore *store)
{
    while (store->window_bytes > MOST_WINDOW_BYTES) {
        OpenWindow *oldest = NULL;
        for (int w = 0; w < store->window_count; w++) {
            OpenWindow *window = &store->windows[w];
            if (window->users > 0 || window->state == PLACE_LOADING || window->index_bytes == 0) continue;
            if (!oldest || window->last_use < oldest->last_use) oldest = window;
        }
        if (!oldest) return;
        window_clear(store, oldest);
    }
}

static void window_begin(ShardStore *store, OpenWindow *window, int64_t shard, int64_t first, int64_t count)
{
    window_clear(store, window);
    int *bucket = bucket_of(store, shard, first);
    window->shown = (ShardWindow){.path = store->paths[shard], .first = first, .count = count};
    window->shard = shard;
    window->next = *bucket;
    window->state = PLACE_LOADING;
    *bucket = (int)(window - store->windows);
}

/* A quarter of the descriptors that this process may have, whose limit is raised as far as it may. */
static int most_files(int windows)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return windows < 64 ? windows : 64;
    if (limit.rlim_cur < limit.rlim_max && limit.rlim_cur < 4 * MOST_FILES) {
        struct rlimit more = limit;
        more.rlim_cur = limit.rlim_max < 4 * MOST_FILES ? limit.rlim_max : 4 * MOST_FILES;
        if (setrlimit(RLIMIT_NOFILE, &more) == 0) limit = more;
    }
    int most = limit.rlim_cur / 4 > MOST_FILES ? MOST_FILES : (int)(limit.rlim_cur / 4);
    return windows < most ? windows : most < 1 ? 1 : most;
}

Status store_windows_create(ShardStore *store, int windows)
{
    Status status = STATUS_OK;
    int files = most_files(windows);
    store->windows = mem_alloc_array((size_t)windows, sizeof store->windows[0]);
    store->buckets = mem_alloc_array((size_t)windows, sizeof store->buckets[0]);
    store->files = mem_alloc_array((size_t)files, sizeof store->files[0]);
    if (!store->windows || !store->buckets || !store->files) FAIL(ERR_MEMORY, "out of memory for open shards");
    for (; store->file_count < files; store->file_count++) {
        OpenFile *open = &store->files[store->file_count];
        open->shard = -1;
        if (pthread_mutex_init(&open->index_lock, NULL) != 0) FAIL(ERR_MEMORY, "cannot create a lock");
    }
    for (int w = 0; w < windows; w++) {
        store->windows[w] = (OpenWindow){.shard = -1, .next = -1};
        store->buckets[w] = -1;
    }
    store->window_count = windows;
fail:
    return status;
}

void store_windows_free(ShardStore *store)
{
    for (int w = 0; w < store->window_count; w++) window_clear(store, &store->windows[w]);
    for (int f = 0; f < store->file_count; f++) {
        file_clear(store, &store->files[f]);
        pthread_mutex_destroy(&store->files[f].index_lock);
    }
    free(store->windows);
    free(store->buckets);
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
    if (store->try_again[open->shard] > clock_seconds()) {
        char shown[SHARD_NAME_MAX];
        shard_show(path, shown, sizeof shown);
        FAIL(ERR_IO, "%s: could not be opened, less than %d s ago", shown, GIVE_UP_SECONDS);
    }
    if (!store->without_tars) {
        status = shard_file_open(store->access, path, note.bytes, &open->file);
        if (status == ERR_IO) store->try_again[open->shard] = clock_seconds() + GIVE_UP_SECONDS;
        TRY(status);
    }
    TRY(store_open_precomputed(store, source, path, NULL, open->precomputed));
fail:
    return status;
}

/* Files that nobody uses go, the longest unused first, while what they keep on the local disk is too much. */
static void bound_spools(ShardStore *store)
{
    while (shard_access_spooled_bytes(store->access) > store->config->read.cache_bytes) {
        OpenFile *oldest = NULL;
        for (int f = 0; f < store->file_count; f++) {
            OpenFile *open = &store->files[f];
            if (open->users > 0 || open->state != PLACE_READY || !open->file) continue;
            if (shard_file_spooled_bytes(open->file) > 0 && (!oldest || open->last_use < oldest->last_use))
                oldest = open;
        }
        if (!oldest) return;
        file_clear(store, oldest);
    }
}

static Status pin_file(ShardStore *store, int32_t source, int64_t shard, OpenFile **out)
{
    Status status = STATUS_OK;
    OpenFile *open;
    *out = NULL;
    while (!(open = find_file(store, shard)) || open->state == PLACE_LOADING)
        pthread_cond_wait(&store->changed, &store->lock);
    if (open->shard != shard) {
        file_clear(store, open);
        open->shard = shard;
        open->state = PLACE_LOADING;
        pthread_mutex_unlock(&store->lock);
        status = load_file(store, open, source);
        pthread_mutex_lock(&store->lock);
        open->state = PLACE_READY;
        if (status != STATUS_OK) file_clear(store, open);
        pthread_cond_broadcast(&store->changed);
        if (status != STATUS_OK) return status;
    }
    open->last_use = ++store->clock;
    open->users++;
    bound_spools(store);
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
    for (int64_t s = first < 0 ? 0 : first; s < first + count && s < (int64_t)table->sample_count; s++) {
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

/* Keeps the index that was just made for the windows to come. Where that is too much, those of the files that were not
 * used for the longest go. */
static void keep_scanned(ShardStore *store, OpenFile *open)
{
    pthread_mutex_lock(&store->lock);
    open->scanned = true;
    store->scanned_bytes += index_bytes(&open->index);
    const bool dropped = store->scanned_bytes > MOST_SCANNED;
    while (store->scanned_bytes > MOST_SCANNED) {
        OpenFile *oldest = NULL;
        for (int f = 0; f < store->file_count; f++) {
            OpenFile *other = &store->files[f];
            if (other->scanned && other->users == 0 && (!oldest || other->last_use < oldest->last_use)) oldest = other;
        }
        drop_scanned(store, oldest ? oldest : open);
        if (!oldest) break;
    }
    bool say = dropped && !store->said_scanned;
    store->said_scanned = store->said_scanned || dropped;
    pthread_mutex_unlock(&store->lock);
    if (say) log_warn("many shards have no index and are scanned again and again; `vasily data index` makes indexes");
}

/* The index of a shard that has no usable index file is made when a window needs it. */
static Status scan_and_slice(ShardStore *store, OpenFile *open, int64_t first, int64_t count, TarIndex *out)
{
    Status status = STATUS_OK;
    bool made = false;
    pthread_mutex_lock(&open->index_lock);
    if (!open->scanned) {
        TRY(tar_index_scan(open->file, &open->index));
        made = true;
    }
    status = slice(&open->index, first, count, out);
    if (made) keep_scanned(store, open);
fail:
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
    TRY(scan_and_slice(store, open, first, count, out));
fail:
    return status;
}

static const char *source_name(const ShardStore *store, int64_t shard)
{
    return data_config_source(store->config, (size_t)store_source_of(store, shard))->name;
}

/* Samples that were there when they were counted, and are not any more. */
static void log_missing(ShardStore *store, const OpenWindow *window, OpenFile *open)
{
    char detail[640];
    const int64_t have = (int64_t)window->index.table.sample_count;
    if (have >= window->shown.count) return;
    pthread_mutex_lock(&open->index_lock);
    snprintf(detail, sizeof detail, "the shard has fewer samples than its list or index says%s%s",
             open->index.broken ? ": " : "", open->index.broken ? open->index.trouble : "");
    pthread_mutex_unlock(&open->index_lock);
    bad_log_shard(store->bad_log, source_name(store, window->shard), window->shown.path, window->shown.first + have,
                  window->shown.count - have, SAMPLE_READ_ERROR, detail);
}

/* Called and left with the lock held. */
static Status load_window(ShardStore *store, OpenWindow *window, int32_t source)
{
    OpenFile *open;
    Status status = pin_file(store, source, window->shard, &open);
    if (status != STATUS_OK) return status;
    if (!store->without_tars) {
        pthread_mutex_unlock(&store->lock);
        status = load_index(store, open, window->shown.first, window->shown.count, &window->index);
        if (status == STATUS_OK) log_missing(store, window, open);
        sample_table_shrink(&window->index.table);
        pthread_mutex_lock(&store->lock);
        window->index_bytes = index_bytes(&window->index);
        store->window_bytes += window->index_bytes;
    }
    window->open = open;
    return status;
}

/* The window is given up, with the last recorded message as the cause. */
static void give_up(ShardStore *store, OpenWindow *window, Status failure)
{
    const int64_t shard = window->shard;
    window->state = PLACE_FAILED;
    window->failure = failure;
    snprintf(window->message, sizeof window->message, "%s", status_message());
    if (failure != ERR_INTERRUPTED && failure != ERR_SPACE) /* which are not the shard's */
        bad_log_shard(store->bad_log, source_name(store, shard), store->paths[shard], window->shown.first,
                      window->shown.count, SAMPLE_READ_ERROR, window->message);
}

/* The window of these samples, which this thread is to load when its state is PLACE_LOADING. */
static OpenWindow *take_window(ShardStore *store, int64_t shard, int64_t first, int64_t count)
{
    for (;;) {
        OpenWindow *window = find_window(store, shard, first);
        if (window && window->state != PLACE_LOADING) return window;
        if (!window && (window = spare_window(store)) != NULL) {
            window_begin(store, window, shard, first, count);
            return window;
        }
        pthread_cond_wait(&store->changed, &store->lock);
    }
}

/* Loads a new window, or opens the file of one that nobody has used for a while. */
static Status make_ready(ShardStore *store, OpenWindow *window, int32_t source)
{
    Status status = STATUS_OK;
    bool new = window->state == PLACE_LOADING;
    window->state = PLACE_LOADING;
    status = new ? load_window(store, window, source) : pin_file(store, source, window->shard, &window->open);
    window->state = PLACE_READY;
    window->users++; /* while others make room */
    bound_windows(store);
    window->users--;
    if (status != STATUS_OK) {
        unpin_file(store, window->open);
        window->open = NULL;
        give_up(store, window, status);
    }
    if (status == STATUS_OK) {
        window->shown.file = window->open->file;
        window->shown.index = &window->index;
        memcpy(window->shown.precomputed, window->open->precomputed, sizeof window->shown.precomputed);
    }
    pthread_cond_broadcast(&store->changed);
    return status;
}

Status shard_store_acquire(ShardStore *store, int32_t source, int32_t shard, int64_t first, int64_t count,
                           const ShardWindow **out)
{
    Status status = STATUS_OK;
    *out = NULL;
    pthread_mutex_lock(&store->lock);
    OpenWindow *window = take_window(store, store->sources[source].first + shard, first, count);
    if (window->state == PLACE_FAILED)
        status = status_fail(window->failure, __FILE__, __LINE__, "%s", window->message);
    else if (window->users == 0)
        status = make_ready(store, window, source);
    window->last_use = ++store->clock;
    if (status == STATUS_OK) {
        window->users++;
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

/* Gives the window up when reads that fail cost too much time, or when the shard has become another. What fails
 * quickly, because it is known to be lost, costs nothing, and what lies beside it may still be had. */
static void note_read(ShardStore *store, const ShardWindow *shown, Status result, double seconds)
{
    OpenWindow *window = window_of(shown);
    if (result == STATUS_OK && !atomic_load(&window->failing)) return;
    pthread_mutex_lock(&store->lock);
    atomic_store(&window->failing, result != STATUS_OK);
    window->failed_seconds = result == STATUS_OK ? 0 : window->failed_seconds + seconds;
    bool over = result == ERR_MISMATCH || window->failed_seconds > FAILED_SECONDS;
    if (over && window->state == PLACE_READY) give_up(store, window, result);
    pthread_mutex_unlock(&store->lock);
}

Status shard_window_read(ShardStore *store, const ShardWindow *window, const SampleMember *member, uint8_t *out)
{
    double start = clock_seconds();
    Status status = shard_file_read(window->file, out, SHARD_HEADER + member->size, member->offset - SHARD_HEADER);
    if (status == STATUS_OK || status == ERR_IO || status == ERR_MISMATCH)
        note_read(store, window, status, clock_seconds() - start);
    if (status != STATUS_OK) return status_trace(status, __FILE__, __LINE__);
    if (size_in_header(out) != member->size)
        return status_fail(ERR_FORMAT, __FILE__, __LINE__,
                           "%s: is not the file that was indexed; delete its index, or run `vasily data index --force`",
                           shard_file_shown(window->file));
    return STATUS_OK;
}

bool shard_window_doubt(const ShardWindow *window, const Sample *sample)
{
    if (!window->file || sample->member_count == 0) return false;
    const SampleMember *first = &window->index->table.members[sample->first_member];
    const SampleMember *last = first + sample->member_count - 1;
    int64_t from = first->offset - SHARD_HEADER, to = last->offset + last->size;
    return to > from && shard_file_doubt(window->file, to - from, from);
}
