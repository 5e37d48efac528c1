#include "data/http_shard.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/log.h"
#include "data/spool.h"

#define PROBE 512 /* bytes that are asked for to learn the size */

struct HttpShard {
    HttpAccess *access;
    const char *url, *shown;
    const Checksums *sums; /* NULL: none that fit the chunks */
    int64_t bytes;
    char validator[HTTP_MAX_VALIDATOR + 1];
    uint8_t start[4];
    Hash128 identity;
    /* of a server that does not send parts */
    int spool;             /* -1: parts are sent */
    pthread_rwlock_t lock; /* written: the spool is being filled anew */
    bool locked;
    int respools;
};

/* ---- tries ---- */

typedef struct Try {
    HttpAccess *access;
    const char *shown;
    int64_t attempt; /* that have failed */
} Try;

/* After a failed try: STATUS_OK when there is to be another, after a pause; else what failed. */
static Status try_again(Try *t, Status failure, const HttpReply *reply, bool count)
{
    if (failure == ERR_INTERRUPTED || failure == ERR_MEMORY || reply->final) return failure;
    if (count && t->attempt >= t->access->config->retries) {
        if (t->attempt > 0) status_prefix("given up after %" PRId64 " tries: ", t->attempt + 1);
        return failure;
    }
    if (count) t->attempt++;
    atomic_fetch_add(&t->access->retries, 1);
    log_debug("%s; try %" PRId64, status_message(), t->attempt + 1);
    return patience_pause(t->access->patience, count ? t->attempt : 1, reply->wait);
}

typedef struct Buffer {
    uint8_t *data;
    int64_t first; /* of the file, where data[0] lies */
} Buffer;

static Status into_buffer(void *context, const void *data, size_t size, int64_t offset)
{
    const Buffer *buffer = context;
    memcpy(buffer->data + (offset - buffer->first), data, size);
    return STATUS_OK;
}

/* Bytes [first, first + count) into `out`, each try where the last one stopped. One that brought an eighth of them is
 * not counted: a line that is cut now and then comes to its end. */
static Status fetch_range(HttpShard *shard, int64_t first, int64_t count, uint8_t *out)
{
    HttpAccess *access = shard->access;
    Buffer buffer = {out, first};
    Try tries = {.access = access, .shown = shard->shown};
    HttpRequest request = {.url = shard->url,
                           .shown = shard->shown,
                           .validator = shard->validator,
                           .total = shard->bytes,
                           .sink = into_buffer,
                           .context = &buffer};
    for (int64_t done = 0;;) {
        HttpReply reply;
        request.first = first + done;
        request.count = count - done;
        Status status = http_get(access->http, &request, &reply);
        done += reply.received;
        atomic_fetch_add(&access->fetched_bytes, reply.received);
        if (status == STATUS_OK) return STATUS_OK;
        status = try_again(&tries, status, &reply, reply.received < (count + 7) / 8);
        if (status != STATUS_OK) return status_trace(status, __FILE__, __LINE__);
        if (done > 0) atomic_fetch_add(&access->restarts, 1);
    }
}

/* ---- chunks ---- */

/* The piece that is not what was noted; -1: all are. */
static int64_t wrong_piece(const HttpShard *shard, const uint8_t *data, int64_t first, int64_t count)
{
    const Checksums *sums = shard->sums;
    for (int64_t at = 0; at < count; at += sums->piece) {
        int64_t size = count - at < sums->piece ? count - at : sums->piece;
        if (!checksums_match(sums, (first + at) / sums->piece, data + at, size)) return (first + at) / sums->piece;
    }
    return -1;
}

/* A ChunkFetch. What does not match its checksum is fetched anew at once, and then with pauses. */
static Status fetch_chunk(void *context, int64_t chunk, uint8_t *out, int64_t size, bool again, bool *checked)
{
    Status status = STATUS_OK;
    HttpShard *shard = context;
    HttpAccess *access = shard->access;
    const int64_t first = chunk * access->config->chunk_bytes;
    for (int64_t attempt = 0;; attempt++) {
        TRY(fetch_range(shard, first, size, out));
        if (again || attempt > 0) atomic_fetch_add(&access->refetched_bytes, size);
        int64_t wrong = shard->sums ? wrong_piece(shard, out, first, size) : -1;
        if (wrong < 0) break;
        if (attempt >= access->config->retries)
            FAIL(ERR_FORMAT,
                 "%s: the %" PRId64 " bytes from byte %" PRId64 " are not those that were indexed, %" PRId64
                 " times; if the shard has been changed, run `vasily data index --force`",
                 shard->shown, shard->sums->piece, wrong * shard->sums->piece, attempt + 1);
        log_debug("%s: damaged bytes from byte %" PRId64, shard->shown, wrong * shard->sums->piece);
        atomic_fetch_add(&access->retries, 1);
        if (attempt > 0) TRY(patience_pause(access->patience, attempt, 0));
    }
    *checked = shard->sums != NULL;
fail:
    return status;
}

/* ---- servers that send whole files only ---- */

typedef struct Spooling {
    const ReadConfig *config;
    int fd;
} Spooling;

static Status into_spool(void *context, const void *data, size_t size, int64_t offset)
{
    const Spooling *spooling = context;
    if (offset > SPOOL_MAX_BYTES - (int64_t)size)
        return status_fail(ERR_LIMIT, __FILE__, __LINE__, "a shard of more than 64 GiB that is sent whole");
    return spool_write(spooling->config, spooling->fd, data, (int64_t)size, offset);
}

static Status check_spool(const HttpShard *shard, int fd, int64_t bytes)
{
    Status status = STATUS_OK;
    const Checksums *sums = shard->sums;
    uint8_t *piece = NULL;
    if (!sums) return STATUS_OK;
    if (sums->bytes != bytes)
        FAIL(ERR_FORMAT, "%s: has %" PRId64 " bytes, but %" PRId64 " were indexed", shard->shown, bytes, sums->bytes);
    piece = malloc((size_t)sums->piece);
    if (!piece) FAIL(ERR_MEMORY, "out of memory for a part of a shard");
    for (int64_t at = 0; at < bytes; at += sums->piece) {
        int64_t size = bytes - at < sums->piece ? bytes - at : sums->piece;
        TRY(spool_read(fd, shard->shown, piece, size, at));
        if (!checksums_match(sums, at / sums->piece, piece, size))
            FAIL(ERR_FORMAT, "%s: the bytes from byte %" PRId64 " are not those that were indexed", shard->shown, at);
    }
fail:
    free(piece);
    return status;
}

/* All of the file into a new spool. It cannot go on where it stopped. */
static Status spool_whole(HttpShard *shard, int64_t expected, int *out, int64_t *bytes)
{
    HttpAccess *access = shard->access;
    Try tries = {.access = access, .shown = shard->shown};
    Spooling spooling = {access->config, -1};
    HttpRequest request = {.url = shard->url,
                           .shown = shard->shown,
                           .validator = "",
                           .total = expected,
                           .sink = into_spool,
                           .context = &spooling};
    for (;;) {
        HttpReply reply;
        Status status = spool_create(access->config, &spooling.fd);
        if (status != STATUS_OK) return status_trace(status, __FILE__, __LINE__);
        status = http_get(access->http, &request, &reply);
        atomic_fetch_add(&access->fetched_bytes, reply.received);
        if (tries.attempt > 0) atomic_fetch_add(&access->refetched_bytes, reply.received);
        if (status == STATUS_OK) status = check_spool(shard, spooling.fd, reply.received);
        if (status == STATUS_OK) {
            *out = spooling.fd;
            *bytes = reply.received;
            return STATUS_OK;
        }
        close(spooling.fd);
        status = try_again(&tries, status, &reply, true);
        if (status != STATUS_OK) return status_trace(status, __FILE__, __LINE__);
    }
}

/* ---- opening ---- */

/* Learns size and version by asking for the first bytes, for not every server answers HEAD. */
static Status probe(HttpShard *shard, bool *whole)
{
    HttpAccess *access = shard->access;
    uint8_t bytes[PROBE] = {0};
    Buffer buffer = {bytes, 0};
    Try tries = {.access = access, .shown = shard->shown};
    HttpRequest request = {.url = shard->url,
                           .shown = shard->shown,
                           .count = PROBE,
                           .validator = "",
                           .total = -1,
                           .sink = into_buffer,
                           .context = &buffer};
    for (;;) {
        HttpReply reply;
        Status status = http_get(access->http, &request, &reply);
        atomic_fetch_add(&access->fetched_bytes, reply.received);
        shard->bytes = reply.total;
        *whole = reply.whole || (reply.code == 206 && reply.connected && reply.total < 0 && reply.received > 0);
        if (*whole) return STATUS_OK;
        bool empty = reply.code == 416 && reply.total == 0;
        bool small = reply.code == 206 && reply.total >= 0 && reply.total <= PROBE && reply.received == reply.total;
        if (reply.total > CHECKSUMS_MAX_BYTES)
            return status_fail(ERR_LIMIT, __FILE__, __LINE__,
                               "%s: has %" PRId64 " bytes, says the server; a shard may have 1 TiB", shard->shown,
                               reply.total);
        if (status == STATUS_OK || empty || small) {
            memcpy(shard->validator, reply.validator, sizeof shard->validator);
            memcpy(shard->start, bytes, sizeof shard->start);
            return STATUS_OK;
        }
        status = try_again(&tries, status, &reply, true);
        if (status != STATUS_OK) return status_trace(status, __FILE__, __LINE__);
    }
}

/* Checksums are used when a chunk is a whole number of pieces. */
static Status adopt_sums(HttpShard *shard, const Checksums *sums)
{
    Status status = STATUS_OK;
    static atomic_bool warned;
    if (!sums) return STATUS_OK;
    if (shard->bytes >= 0 && shard->bytes != sums->bytes)
        FAIL(ERR_MISMATCH, "%s: has %" PRId64 " bytes, but %" PRId64 " were indexed; run `vasily data index --force`",
             shard->shown, shard->bytes, sums->bytes);
    if (shard->access->config->chunk_bytes % sums->piece == 0)
        shard->sums = sums;
    else if (!atomic_exchange(&warned, true))
        log_warn("%s: its checksums are not used: they are of pieces of %" PRId64 " bytes; make data.read.chunk_bytes "
                 "a multiple of that, or run `vasily data index --force`",
                 shard->shown, sums->piece);
fail:
    return status;
}

static Status make_identity(HttpShard *shard)
{
    Status status = STATUS_OK;
    StrBuf text = {0};
    TRY(strbuf_printf(&text, "%s\n%" PRId64 "\n%s", shard->url, shard->bytes, shard->validator));
    shard->identity = hash_memory(text.data, text.size);
fail:
    strbuf_free(&text);
    return status;
}

Status http_shard_open(HttpAccess *access, const char *url, const char *shown, const Checksums *sums, HttpShard **out)
{
    Status status = STATUS_OK;
    bool whole = false;
    *out = NULL;
    HttpShard *shard = mem_alloc_array(1, sizeof *shard);
    if (!shard) FAIL(ERR_MEMORY, "out of memory for a shard");
    *shard = (HttpShard){.access = access, .url = url, .shown = shown, .bytes = -1, .spool = -1};
    if (pthread_rwlock_init(&shard->lock, NULL) != 0) FAIL(ERR_MEMORY, "cannot create a lock");
    shard->locked = true;
    TRY(probe(shard, &whole));
    TRY(adopt_sums(shard, sums));
    if (whole) {
        TRY(spool_whole(shard, -1, &shard->spool, &shard->bytes));
        if (shard->bytes >= 4) TRY(spool_read(shard->spool, shown, shard->start, 4, 0));
    }
    TRY(make_identity(shard));
    *out = shard;
    return STATUS_OK;
fail:
    http_shard_close(shard);
    return status;
}

Status http_shard_size(HttpAccess *access, const char *url, const char *shown, int64_t *bytes)
{
    HttpShard shard = {.access = access, .url = url, .shown = shown, .bytes = -1, .spool = -1};
    bool whole;
    Status status = probe(&shard, &whole);
    *bytes = status == STATUS_OK ? shard.bytes : -1;
    return status;
}

void http_shard_close(HttpShard *shard)
{
    if (!shard) return;
    if (shard->spool >= 0) close(shard->spool);
    if (shard->locked) pthread_rwlock_destroy(&shard->lock);
    free(shard);
}

int64_t http_shard_bytes(const HttpShard *shard)
{
    return shard->bytes;
}

int64_t http_shard_spooled_bytes(const HttpShard *shard)
{
    return shard->spool >= 0 ? shard->bytes : 0;
}

const uint8_t *http_shard_start(const HttpShard *shard)
{
    return shard->start;
}

/* ---- reading ---- */

Status http_shard_read(HttpShard *shard, void *out, int64_t size, int64_t offset)
{
    Status status = STATUS_OK;
    HttpAccess *access = shard->access;
    const int64_t chunk_bytes = access->config->chunk_bytes;
    char *to = out;
    if (shard->spool >= 0) {
        pthread_rwlock_rdlock(&shard->lock);
        status = spool_read(shard->spool, shard->shown, out, size, offset);
        pthread_rwlock_unlock(&shard->lock);
        return status;
    }
    while (size > 0) {
        ChunkKey key = {shard->identity, offset / chunk_bytes};
        int64_t first = key.chunk * chunk_bytes, rest = shard->bytes - first;
        int64_t chunk = rest < chunk_bytes ? rest : chunk_bytes;
        int64_t count = first + chunk - offset < size ? first + chunk - offset : size;
        TRY(chunk_cache_read(access->cache, key, chunk, offset - first, count, to, fetch_chunk, shard));
        to += count;
        offset += count;
        size -= count;
    }
fail:
    return status;
}

/* A spooled shard is fetched anew as a whole, at most `retries` times while it is open: true when the range differs. */
static bool doubt_spool(HttpShard *shard, int64_t size, int64_t offset)
{
    int fd = -1;
    int64_t bytes = 0;
    Hash128 before = {0}, after = {0};
    bool differs = false;
    if (shard->sums) return false;
    pthread_rwlock_wrlock(&shard->lock);
    if (shard->respools < shard->access->config->retries && spool_hash(shard->spool, size, offset, &before)) {
        shard->respools++;
        if (spool_whole(shard, shard->bytes, &fd, &bytes) == STATUS_OK) {
            if (bytes == shard->bytes && spool_hash(fd, size, offset, &after))
                differs = before.low != after.low || before.high != after.high;
            atomic_fetch_add(&shard->access->refetched_bytes, bytes);
        }
        if (differs) {
            int old = shard->spool;
            shard->spool = fd;
            fd = old;
        }
    }
    pthread_rwlock_unlock(&shard->lock);
    if (fd >= 0) close(fd);
    return differs;
}

bool http_shard_doubt(HttpShard *shard, int64_t size, int64_t offset)
{
    const int64_t chunk_bytes = shard->access->config->chunk_bytes;
    bool again = false;
    if (shard->spool >= 0) return doubt_spool(shard, size, offset);
    for (int64_t chunk = offset / chunk_bytes; chunk <= (offset + size - 1) / chunk_bytes; chunk++)
        again |= chunk_cache_doubt(shard->access->cache, (ChunkKey){shard->identity, chunk});
    return again;
}

/* ---- checksums ---- */

static bool same(Hash128 a, Hash128 b)
{
    return a.low == b.low && a.high == b.high;
}

/* One chunk: what the cache has of it is believed when a transfer past the cache brings the same. */
static Status sum_chunk(HttpShard *shard, int64_t at, int64_t size, bool twice, uint8_t *bytes, Hash128 *out)
{
    Status status = STATUS_OK;
    HttpAccess *access = shard->access;
    Hash128 other = {0};
    for (int64_t attempt = 0;; attempt++) {
        TRY(http_shard_read(shard, bytes, size, at));
        *out = hash_memory(bytes, (size_t)size);
        if (!twice || (attempt > 0 && same(*out, other))) break;
        TRY(fetch_range(shard, at, size, bytes));
        other = hash_memory(bytes, (size_t)size);
        if (same(*out, other)) break;
        if (attempt >= access->config->retries)
            FAIL(ERR_FORMAT, "%s: the %" PRId64 " bytes from byte %" PRId64 " are others whenever they are fetched",
                 shard->shown, size, at);
        (void)http_shard_doubt(shard, size, at);
        atomic_fetch_add(&access->retries, 1);
        if (attempt > 0) TRY(patience_pause(access->patience, attempt, 0));
    }
fail:
    return status;
}

/* The whole file is fetched until it is the one that came before. */
static Status settle_spool(HttpShard *shard)
{
    Status status = STATUS_OK;
    HttpAccess *access = shard->access;
    Hash128 before = {0}, after = {0};
    int64_t bytes = 0;
    int fd = -1;
    if (!spool_hash(shard->spool, shard->bytes, 0, &before)) FAIL(ERR_IO, "%s: cannot be read back", shard->shown);
    for (int64_t attempt = 0;; attempt++) {
        TRY(spool_whole(shard, -1, &fd, &bytes));
        pthread_rwlock_wrlock(&shard->lock);
        close(shard->spool);
        shard->spool = fd;
        shard->bytes = bytes;
        pthread_rwlock_unlock(&shard->lock);
        if (!spool_hash(fd, bytes, 0, &after)) FAIL(ERR_IO, "%s: cannot be read back", shard->shown);
        if (same(before, after)) break;
        if (attempt >= access->config->retries)
            FAIL(ERR_FORMAT, "%s: its bytes are others whenever it is fetched", shard->shown);
        before = after;
    }
fail:
    return status;
}

Status http_shard_sum(HttpShard *shard, bool twice, Checksums *out)
{
    Status status = STATUS_OK;
    const bool spooled = shard->spool >= 0;
    Checksums sums = {.piece = shard->access->config->chunk_bytes};
    uint8_t *piece = NULL;
    size_t capacity = 0;
    *out = (Checksums){0};
    if (spooled && twice) TRY(settle_spool(shard));
    sums.bytes = shard->bytes;
    piece = malloc((size_t)sums.piece);
    if (!piece) FAIL(ERR_MEMORY, "out of memory for a part of a shard");
    for (int64_t at = 0; at < sums.bytes; at += sums.piece) {
        int64_t size = sums.bytes - at < sums.piece ? sums.bytes - at : sums.piece;
        TRY(mem_grow(&sums.sums, &capacity, (size_t)sums.count + 1, sizeof sums.sums[0]));
        TRY(sum_chunk(shard, at, size, twice && !spooled, piece, &sums.sums[sums.count]));
        sums.count++;
    }
    *out = sums;
    sums.sums = NULL;
fail:
    free(sums.sums);
    free(piece);
    return status;
}
