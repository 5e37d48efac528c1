/* Chunks of files that are far away, kept in one bounded file without a name on the local disk; the least recently used
 * chunk makes room. A chunk is fetched when it is first touched: once, when several threads want it at a time.
 * Different chunks are fetched by different threads at the same time.
 *
 * At most CHUNK_CACHE_MAX chunks are kept, whatever cache_bytes says. A disk that fills up costs speed, not the run:
 * what cannot be kept is fetched again. */
#ifndef DATA_CHUNK_CACHE_H
#define DATA_CHUNK_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/status.h"
#include "data/read_config.h"

#define CHUNK_CACHE_MAX ((int64_t)1 << 20)

typedef struct ChunkCache ChunkCache;

typedef struct ChunkKey {
    Hash128 file; /* of its URL, size and version */
    int64_t chunk;
} ChunkKey;

/* Fetches a chunk of `size` bytes into `out`. `checked`: its bytes are known to be right. `again`: it has been here
 * lately. */
typedef Status (*ChunkFetch)(void *context, int64_t chunk, uint8_t *out, int64_t size, bool again, bool *checked);

/* ERR_SPACE when the folder cannot be written. The config must outlive it. */
Status chunk_cache_create(const ReadConfig *config, ChunkCache **out);
void chunk_cache_free(ChunkCache *cache); /* NULL is fine */

/* Bytes [from, from + count) of a chunk of `size` bytes (at most ReadConfig.chunk_bytes). Fails as `fetch` does; a
 * chunk whose bytes are not what they should be (ERR_FORMAT) is not fetched again while it is remembered. */
Status chunk_cache_read(ChunkCache *cache, ChunkKey key, int64_t size, int64_t from, int64_t count, void *out,
                        ChunkFetch fetch, void *context);

/* The chunk's bytes make no sense. True: the chunk has been dropped, and what is fetched next may differ. False: it was
 * checked, or these very bytes came twice in a row. */
bool chunk_cache_doubt(ChunkCache *cache, ChunkKey key);

#endif
