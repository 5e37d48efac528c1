/* A shard behind http or https: its size, and bytes of it through the chunk cache. A server that does not send parts of
 * files has it spooled whole into a file without a name. Transfers that fail are tried again, where they stopped. */
#ifndef DATA_HTTP_SHARD_H
#define DATA_HTTP_SHARD_H

#include <stdatomic.h>

#include "data/checksums.h"
#include "data/chunk_cache.h"
#include "data/http.h"

/* What the shards of a run have in common; owned by ShardAccess. */
typedef struct HttpAccess {
    const ReadConfig *config;
    Patience *patience;
    Http *http;
    ChunkCache *cache;
    atomic_int_least64_t retries, restarts, fetched_bytes, refetched_bytes;
} HttpAccess;

typedef struct HttpShard HttpShard;

/* `shown`: what messages call it. `sums` (may be NULL): what its bytes are known to be. `url` and `shown` must outlive
 * it, and `sums` too. ERR_MISMATCH when the sums are of a file of another size. */
Status http_shard_open(HttpAccess *access, const char *url, const char *shown, const Checksums *sums, HttpShard **out);
void http_shard_close(HttpShard *shard); /* NULL is fine */
/* The size that the server tells of a file, -1 when it tells none: one request, retries and all. */
Status http_shard_size(HttpAccess *access, const char *url, const char *shown, int64_t *bytes);
int64_t http_shard_bytes(const HttpShard *shard);
int64_t http_shard_spooled_bytes(const HttpShard *shard); /* on the local disk, beside the cache */
/* The first 4 bytes, zeros where it has fewer, as they came when it was opened: nothing is fetched. */
const uint8_t *http_shard_start(const HttpShard *shard);
/* All of it must lie within the shard. Safe from several threads. */
Status http_shard_read(HttpShard *shard, void *out, int64_t size, int64_t offset);
/* Checksums of all its bytes, in pieces of a chunk. `twice`: each piece is fetched until two transfers agree, and
 * ERR_FORMAT when none do, retries and all. What the cache keeps of it then is what was noted. */
Status http_shard_sum(HttpShard *shard, bool twice, Checksums *out);
bool http_shard_doubt(HttpShard *shard, int64_t size, int64_t offset); /* as shard_file_doubt */

#endif
