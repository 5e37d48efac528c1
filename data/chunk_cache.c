#include "data/chunk_cache.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/log.h"
#include "data/spool.h"

#define NONE (-1)
#define LEAST_SLOTS 4
#define DROPPED 65536   /* chunks that are remembered, by a hash of their key, later ones over earlier */
#define DOUBT_SETS 2048 /* of chunks whose hashes share their low bits */
#define DOUBT_WAYS 8    /* that a set remembers, the latest */
#define MOST_DOUBTS 8   /* of one chunk in a row */
#define DOUBT_SECONDS 300.0
#define FAILURE_SECONDS 60.0 /* that damaged bytes are not asked for again */

typedef enum SlotState { SLOT_FREE, SLOT_FETCHING, SLOT_READY, SLOT_FAILED } SlotState;

/* A place of the file. Those in use are in the table by their key and in the list by their last use. */
typedef struct Slot {
    ChunkKey key;
    SlotState state;
    bool checked;
    int32_t users;   /* that read it: it stays */
    uint64_t fetch;  /* number of the fetch that filled it, or does; never 0 */
    int32_t waiting; /* threads that wait for it: they are to hear of a failure */
    int32_t next_in_bucket, newer, older;
    int64_t size;          /* SLOT_READY */
    StatusRecord *failure; /* SLOT_FAILED: not NULL */
    double failed_at;
} Slot;

typedef struct Doubt {
    uint64_t key; /* 0: none */
    Hash128 bytes;
    int32_t count;
    double last;
    bool failed; /* what was fetched last did not come at all */
} Doubt;

struct ChunkCache {
    const ReadConfig *config;
    int fd;
    int64_t slot_bytes;
    int32_t slot_count, used; /* used: slots that were ever in use; the file is no longer than these */
    int32_t bucket_mask;
    Slot *slots;
    int32_t *buckets;
    int32_t newest, oldest;
    uint64_t fetches;
    uint64_t *dropped; /* (DROPPED) keys */
    Doubt *doubts;     /* (DOUBT_SETS, DOUBT_WAYS) */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool locks, warned;
};

static uint64_t key_hash(ChunkKey key)
{
    uint64_t mixed[3] = {key.file.low, key.file.high, (uint64_t)key.chunk};
    return hash_memory(mixed, sizeof mixed).low | 1; /* never 0 */
}

static bool same_key(ChunkKey a, ChunkKey b)
{
    return a.chunk == b.chunk && a.file.low == b.file.low && a.file.high == b.file.high;
}

Status chunk_cache_create(const ReadConfig *config, ChunkCache **out)
{
    Status status = STATUS_OK;
    *out = NULL;
    ChunkCache *cache = mem_alloc_array(1, sizeof *cache);
    if (!cache) FAIL(ERR_MEMORY, "out of memory for the cache of shards");
    cache->config = config;
    cache->fd = -1;
    cache->slot_bytes = config->chunk_bytes;
    int64_t slots = config->cache_bytes / config->chunk_bytes;
    if (slots > CHUNK_CACHE_MAX) slots = CHUNK_CACHE_MAX;
    cache->slot_count = (int32_t)(slots < LEAST_SLOTS ? LEAST_SLOTS : slots);
    cache->bucket_mask = 1;
    while (cache->bucket_mask < cache->slot_count) cache->bucket_mask = cache->bucket_mask * 2 + 1;
    cache->newest = cache->oldest = NONE;
    /* calloc: pages that are never touched take no memory. */
    cache->slots = mem_alloc_array((size_t)cache->slot_count, sizeof cache->slots[0]);
    cache->buckets = mem_alloc_array((size_t)cache->bucket_mask + 1, sizeof cache->buckets[0]); /* index + 1 */
    cache->dropped = mem_alloc_array(DROPPED, sizeof cache->dropped[0]);
    cache->doubts = mem_alloc_array(DOUBT_SETS * DOUBT_WAYS, sizeof cache->doubts[0]);
    if (!cache->slots || !cache->buckets || !cache->dropped || !cache->doubts)
        FAIL(ERR_MEMORY, "out of memory for the cache of shards");
    TRY(spool_create(config, &cache->fd));
    if (pthread_mutex_init(&cache->lock, NULL) != 0) FAIL(ERR_MEMORY, "cannot create a lock");
    if (pthread_cond_init(&cache->changed, NULL) != 0) {
        pthread_mutex_destroy(&cache->lock);
        FAIL(ERR_MEMORY, "cannot create a lock");
    }
    cache->locks = true;
    *out = cache;
    return STATUS_OK;
fail:
    chunk_cache_free(cache);
    return status;
}

void chunk_cache_free(ChunkCache *cache)
{
    if (!cache) return;
    if (cache->fd >= 0) close(cache->fd);
    for (int32_t i = 0; cache->slots && i < cache->used; i++) free(cache->slots[i].failure);
    if (cache->locks) {
        pthread_mutex_destroy(&cache->lock);
        pthread_cond_destroy(&cache->changed);
    }
    free(cache->slots);
    free(cache->buckets);
    free(cache->dropped);
    free(cache->doubts);
    free(cache);
}

/* ---- the table and the list; with the lock held ---- */

static int32_t *bucket_of(ChunkCache *cache, ChunkKey key)
{
    return &cache->buckets[(key_hash(key) >> 1) & (uint64_t)cache->bucket_mask];
}

static int32_t find(ChunkCache *cache, ChunkKey key)
{
    for (int32_t i = *bucket_of(cache, key) - 1; i != NONE; i = cache->slots[i].next_in_bucket)
        if (same_key(cache->slots[i].key, key)) return i;
    return NONE;
}

static void list_remove(ChunkCache *cache, int32_t i)
{
    Slot *slot = &cache->slots[i];
    *(slot->newer == NONE ? &cache->newest : &cache->slots[slot->newer].older) = slot->older;
    *(slot->older == NONE ? &cache->oldest : &cache->slots[slot->older].newer) = slot->newer;
}

static void list_append(ChunkCache *cache, int32_t i, bool newest)
{
    Slot *slot = &cache->slots[i];
    slot->newer = newest ? NONE : cache->oldest;
    slot->older = newest ? cache->newest : NONE;
    *(slot->newer == NONE ? &cache->newest : &cache->slots[slot->newer].older) = i;
    *(slot->older == NONE ? &cache->oldest : &cache->slots[slot->older].newer) = i;
}

/* Out of the table, to the end of the list where places are taken from; those who read it go on. */
static void drop(ChunkCache *cache, int32_t i)
{
    Slot *slot = &cache->slots[i];
    int32_t *bucket = bucket_of(cache, slot->key);
    if (*bucket - 1 == i)
        *bucket = slot->next_in_bucket + 1;
    else {
        int32_t k = *bucket - 1;
        while (cache->slots[k].next_in_bucket != i) k = cache->slots[k].next_in_bucket;
        cache->slots[k].next_in_bucket = slot->next_in_bucket;
    }
    if (slot->state == SLOT_READY) {
        uint64_t hash = key_hash(slot->key);
        cache->dropped[hash / 2 % DROPPED] = hash;
    }
    free(slot->failure);
    slot->failure = NULL;
    slot->state = SLOT_FREE;
    list_remove(cache, i);
    list_append(cache, i, false);
}

/* A free place for the key, in the table; NONE: all are in use. */
static int32_t take_slot(ChunkCache *cache, ChunkKey key)
{
    int32_t i = cache->oldest;
    if (cache->used < cache->slot_count && (i == NONE || cache->slots[i].state != SLOT_FREE))
        i = cache->used++;
    else {
        while (i != NONE && (cache->slots[i].users > 0 || cache->slots[i].state == SLOT_FETCHING))
            i = cache->slots[i].newer;
        if (i == NONE) return NONE;
        if (cache->slots[i].state != SLOT_FREE) drop(cache, i);
        list_remove(cache, i);
    }
    int32_t *bucket = bucket_of(cache, key);
    cache->slots[i] =
        (Slot){.key = key, .state = SLOT_FETCHING, .fetch = ++cache->fetches, .next_in_bucket = *bucket - 1};
    *bucket = i + 1;
    list_append(cache, i, true);
    return i;
}

/* ---- reading ---- */

/* A chunk's own, or the one of its set that was there longest: that is another's. */
static Doubt *doubt_of(ChunkCache *cache, uint64_t hash)
{
    Doubt *set = &cache->doubts[hash / 2 % DOUBT_SETS * DOUBT_WAYS], *oldest = set;
    for (int way = 0; way < DOUBT_WAYS; way++) {
        if (set[way].key == hash) return &set[way];
        if (set[way].last < oldest->last) oldest = &set[way];
    }
    return oldest;
}

/* Doubting what could not be had is of no use: it has been asked for often enough. */
static void note_fetch(ChunkCache *cache, uint64_t hash, Status status)
{
    Doubt *doubt = doubt_of(cache, hash);
    if (status != STATUS_OK && doubt->key != hash) *doubt = (Doubt){.key = hash, .last = clock_seconds()};
    if (doubt->key == hash) doubt->failed = status != STATUS_OK;
}

/* Fetches into a slot, with the lock let go; then the slot is READY, or FAILED, or no longer the chunk's. */
static Status fill(ChunkCache *cache, int32_t i, uint8_t *buffer, int64_t size, ChunkFetch fetch, void *context)
{
    Slot *slot = &cache->slots[i];
    const ChunkKey key = slot->key;
    const uint64_t hash = key_hash(key);
    bool again = cache->dropped[hash / 2 % DROPPED] == hash, checked = false, kept = false;
    StatusRecord *failure = NULL;
    pthread_mutex_unlock(&cache->lock);
    Status status = fetch(context, key.chunk, buffer, size, again, &checked);
    if (status == STATUS_OK)
        kept = spool_write(cache->config, cache->fd, buffer, size, (int64_t)i * cache->slot_bytes) == STATUS_OK;
    else if ((failure = malloc(sizeof *failure)) != NULL)
        status_save(status, failure);
    pthread_mutex_lock(&cache->lock);
    if (status == STATUS_OK && !kept && !cache->warned) {
        log_warn("%s; shards are fetched again and again meanwhile", status_message());
        cache->warned = true;
    }
    note_fetch(cache, hash, status);
    slot->checked = checked;
    slot->size = size;
    slot->failure = failure;
    slot->failed_at = clock_seconds();
    slot->state = kept ? SLOT_READY : failure ? SLOT_FAILED : SLOT_FREE;
    if (kept) slot->waiting = 0;
    if (slot->state == SLOT_FREE || (slot->state == SLOT_FAILED && status != ERR_FORMAT && slot->waiting == 0))
        drop(cache, i);
    pthread_cond_broadcast(&cache->changed);
    return status;
}

/* The slot's chunk, as it comes. */
static Status fetch_and_copy(ChunkCache *cache, int32_t i, int64_t size, int64_t from, int64_t count, void *out,
                             ChunkFetch fetch, void *context)
{
    Status status = STATUS_OK;
    uint8_t *buffer = malloc((size_t)size);
    if (!buffer) {
        drop(cache, i);
        pthread_cond_broadcast(&cache->changed);
        FAIL(ERR_MEMORY, "out of memory for a part of a shard");
    }
    TRY(fill(cache, i, buffer, size, fetch, context));
    memcpy(out, buffer + from, (size_t)count);
fail:
    free(buffer);
    return status;
}

/* The failure that somebody else met while this thread waited, or that is remembered. */
static Status share_failure(ChunkCache *cache, int32_t i, bool waited)
{
    Slot *slot = &cache->slots[i];
    Status status = status_restore(slot->failure);
    if (waited) slot->waiting--;
    if (slot->waiting <= 0 && status != ERR_FORMAT) drop(cache, i);
    return status;
}

/* A READY slot's bytes, with the lock let go. */
static Status copy_out(ChunkCache *cache, int32_t i, int64_t from, int64_t count, void *out)
{
    Slot *slot = &cache->slots[i];
    slot->users++;
    list_remove(cache, i);
    list_append(cache, i, true);
    pthread_mutex_unlock(&cache->lock);
    Status status = spool_read(cache->fd, "the cache of shards", out, count, (int64_t)i * cache->slot_bytes + from);
    pthread_mutex_lock(&cache->lock);
    if (--slot->users == 0) pthread_cond_broadcast(&cache->changed);
    return status;
}

Status chunk_cache_read(ChunkCache *cache, ChunkKey key, int64_t size, int64_t from, int64_t count, void *out,
                        ChunkFetch fetch, void *context)
{
    Status status;
    uint64_t awaited = 0; /* the fetch that this thread is counted as waiting for */
    int32_t i;
    pthread_mutex_lock(&cache->lock);
    for (;;) {
        i = find(cache, key);
        if (i != NONE && cache->slots[i].fetch != awaited && cache->slots[i].state == SLOT_FAILED &&
            clock_seconds() - cache->slots[i].failed_at > FAILURE_SECONDS) {
            drop(cache, i);
            i = NONE;
        }
        if (i == NONE && (i = take_slot(cache, key)) != NONE) break;
        if (i != NONE && cache->slots[i].state != SLOT_FETCHING) {
            status = cache->slots[i].state == SLOT_READY ? copy_out(cache, i, from, count, out)
                                                         : share_failure(cache, i, cache->slots[i].fetch == awaited);
            pthread_mutex_unlock(&cache->lock);
            return status == STATUS_OK ? status : status_trace(status, __FILE__, __LINE__);
        }
        if (i != NONE && cache->slots[i].fetch != awaited) { /* once, however often it wakes up */
            awaited = cache->slots[i].fetch;
            cache->slots[i].waiting++;
        }
        pthread_cond_wait(&cache->changed, &cache->lock);
    }
    status = fetch_and_copy(cache, i, size, from, count, out, fetch, context);
    pthread_mutex_unlock(&cache->lock);
    return status;
}

/* ---- doubt ---- */

/* Hashes a READY slot's bytes, with the lock let go. */
static bool hash_slot(ChunkCache *cache, int32_t i, Hash128 *out)
{
    const int64_t size = cache->slots[i].size;
    uint8_t *bytes = malloc((size_t)size);
    bool read = bytes && copy_out(cache, i, 0, size, bytes) == STATUS_OK;
    if (read) *out = hash_memory(bytes, (size_t)size);
    free(bytes);
    return read;
}

bool chunk_cache_doubt(ChunkCache *cache, ChunkKey key)
{
    const uint64_t hash = key_hash(key);
    bool again = false;
    double now = clock_seconds();
    pthread_mutex_lock(&cache->lock);
    const Doubt *before = doubt_of(cache, hash);
    int32_t i = find(cache, key);
    const SlotState state = i == NONE ? SLOT_FREE : cache->slots[i].state;
    const bool failed = before->key == hash && before->failed;
    if (!failed &&
        (state == SLOT_FREE || state == SLOT_FETCHING || (state == SLOT_READY && !cache->slots[i].checked))) {
        Hash128 bytes = {0};
        bool known = state == SLOT_READY && hash_slot(cache, i, &bytes);
        Doubt *doubt = doubt_of(cache, hash); /* while the bytes were looked at, others may have doubted */
        if (doubt->key != hash || now - doubt->last > DOUBT_SECONDS)
            doubt->count = 0; /* but what came then is kept in mind */
        bool same = known && doubt->key == hash && doubt->bytes.low == bytes.low && doubt->bytes.high == bytes.high;
        again = !same && doubt->count < MOST_DOUBTS;
        /* Another thread may have doubted and dropped it while its bytes were looked at. */
        if (again && known && find(cache, key) == i && cache->slots[i].state == SLOT_READY) drop(cache, i);
        *doubt = (Doubt){hash, known ? bytes : doubt->key == hash ? doubt->bytes : bytes, doubt->count + 1, now, false};
    }
    pthread_mutex_unlock(&cache->lock);
    return again;
}
