/* The bytes of one shard, wherever it lies: read at any offset.
 *
 *     path/x.tar              pread
 *     path/x.tar.gz|.zst      unpacked into a nameless file when it is opened; offsets are those of the plain tar
 *     http(s)://host/x.tar    fetched by ranges, chunk by chunk, into one bounded nameless file (data/chunk_cache.h)
 *     pipe:COMMAND            its output, spooled into a nameless file when it is opened (data.read.allow_pipe only)
 *
 * What fails for a reason that may pass (a lost connection, a stalled server, 5xx, 429, EIO, ESTALE, a file that is not
 * there for the moment) is tried again as ReadConfig says, a transfer where it stopped. ERR_IO: given up; ERR_FORMAT:
 * the bytes are not what they should be; ERR_SPACE: the local disk is full, which is not the shard's fault. Messages
 * name the shard. All functions are safe from several threads. */
#ifndef DATA_SHARD_FILE_H
#define DATA_SHARD_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "data/checksums.h"
#include "data/read_config.h"

#define SHARD_NAME_MAX 4096
typedef enum ShardKind { SHARD_LOCAL, SHARD_HTTP, SHARD_PIPE } ShardKind;
ShardKind shard_kind(const char *path);
/* The path (or a pattern of paths) as messages and logs may show it, without what may be secret; cut at the capacity.
 * Of a URL user, password and query are left out. Of a command its first word stays, and the hash by which its index is
 * named: "pipe:curl ... #0123456789abcdef". */
void shard_show(const char *path, char *out, size_t capacity);
/* The same within one message, of which it lives as long as the block around: FAIL(ERR_IO, "%s: ...",
 * SHARD_SHOWN(path)). */
#define SHARD_SHOWN(path) shard_shown(path, (char[256]){0}, 256)
const char *shard_shown(const char *path, char *out, size_t capacity); /* out */
/* Which shard it is, also when a token in its URL is renewed: a URL without user, password, query and fragment;
 * anything else as it is. Cut at the capacity. */
void shard_plain(const char *path, char *out, size_t capacity);

/* What all shards of a run share: connections, the chunk cache. */
typedef struct ShardAccess ShardAccess;
typedef struct ShardAccessStats {
    int64_t retries, restarts; /* tries again; of these, transfers that went on where they had stopped */
    int64_t fetched_bytes;     /* over http */
    int64_t refetched_bytes;   /* of these, fetched before and dropped by the cache, or damaged */
} ShardAccessStats;

/* `config` must outlive it. */
Status shard_access_create(const ReadConfig *config, ShardAccess **out);
void shard_access_free(ShardAccess *access);
/* Every wait and transfer ends soon, with ERR_INTERRUPTED. */
void shard_access_stop(ShardAccess *access);
void shard_access_stats(ShardAccess *access, ShardAccessStats *out);
/* On the local disk, of all shards that are open now: what was unpacked, piped or fetched whole. Whoever keeps shards
 * open closes some when this is above ReadConfig.cache_bytes. */
int64_t shard_access_spooled_bytes(ShardAccess *access);

typedef struct ShardFile ShardFile;
/* `bytes`: the size that the shard must have, as a list or index says; negative: unknown. ERR_MISMATCH when it has
 * another. The path is copied. */
Status shard_file_open(ShardAccess *access, const char *path, int64_t bytes, ShardFile **out);
/* Of a file over http: its bytes must be those of `sums` (count 0: whatever comes), which must outlive it; what else is
 * known of them is not looked at. */
Status shard_file_open_summed(ShardAccess *access, const char *path, const Checksums *sums, ShardFile **out);
void shard_file_close(ShardFile *file); /* NULL is fine */
const char *shard_file_path(const ShardFile *file);
const char *shard_file_shown(const ShardFile *file); /* of its path (shard_show), at most SHARD_NAME_MAX bytes */
/* Of the plain tar: of a compressed or piped shard, of what was unpacked. */
int64_t shard_file_bytes(const ShardFile *file);
int64_t shard_file_raw_bytes(const ShardFile *file);     /* of the file as it lies there */
int64_t shard_file_spooled_bytes(const ShardFile *file); /* its part of shard_access_spooled_bytes */
bool shard_file_unpacked(const ShardFile *file);         /* compressed: its offsets are not those of the file itself */

/* `size` bytes from `offset`. ERR_FORMAT when the shard ends before. */
Status shard_file_read(ShardFile *file, void *out, int64_t size, int64_t offset);
/* The bytes there turned out to make no sense: what is kept of them is dropped, and with true the next read fetches
 * them anew. False: they came from the local disk, or were fetched twice already and were the same. */
bool shard_file_doubt(ShardFile *file, int64_t size, int64_t offset);
/* The size of a file over http as its server tells it, -1 when it tells none; nothing else is looked at. */
Status shard_http_size(ShardAccess *access, const char *path, int64_t *bytes);
/* Checksums of every byte of a file over http as it lies there (a compressed one is not unpacked), in pieces of
 * ReadConfig.chunk_bytes. What comes over http (not https) is fetched twice where `twice` is true, and believed when
 * both are the same; ERR_FORMAT when they never are. */
Status shard_http_sum(ShardAccess *access, const char *path, bool twice, Checksums *out);

#endif
