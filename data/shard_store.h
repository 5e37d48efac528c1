/* All shards of a config: their sample counts, and an open file and index for those in use, together with their
 * precomputed files. A run that reads nothing from the shards themselves does without them.
 *
 * Compressed shards cannot be read at random: the first use of one unpacks its members into a nameless temporary file
 * (in $TMPDIR or /tmp), which lives until the shard leaves the store's cache. The calls after shard_store_open are safe
 * from several threads. */
#ifndef DATA_SHARD_STORE_H
#define DATA_SHARD_STORE_H

#include <stdint.h>

#include "base/status.h"
#include "data/bad_samples.h"
#include "data/data_config.h"
#include "data/precomputed.h"
#include "data/tar_index.h"

typedef struct ShardStore ShardStore;

typedef struct OpenShard {
    const char *path;
    int fd;                                          /* the tar, or what was unpacked of it; -1 when it is not read */
    const TarIndex *index;                           /* empty when the tar is not read */
    PrecomputedFile *precomputed[PRECOMPUTED_KINDS]; /* NULL: not wanted */
} OpenShard;

/* Expands the lists and indexes every shard with `threads` threads. Empty and broken shards are counted in `bad`;
 * unreadable ones are an error, and so are precomputed files that are missing or do not fit. cache: how many shards may
 * stay open. write_index: see tar_index_open; one rank of a run should. `precomputed` (NULL: none) must outlive it. */
Status shard_store_open(const DataConfig *config, const PrecomputedSpec *precomputed, bool write_index, int threads,
                        int cache, BadSamples *bad, ShardStore **out);
void shard_store_close(ShardStore *store);

/* Shards of a source are numbered from 0 in the order of the list. */
int32_t shard_store_count(const ShardStore *store, int32_t source);
const char *shard_store_path(const ShardStore *store, int32_t source, int32_t shard);
const int64_t *shard_store_samples(const ShardStore *store, int32_t source); /* (count) */
/* Of base names and sample counts: the same data moved elsewhere has the same identity. */
uint64_t shard_store_identity(const ShardStore *store, int32_t source);

/* Opens (or finds) a shard and pins it until the matching release. */
Status shard_store_acquire(ShardStore *store, int32_t source, int32_t shard, const OpenShard **out);
void shard_store_release(ShardStore *store, const OpenShard *shard);

/* Reads one member into `out` (size bytes). ERR_FORMAT when the bytes before it are not its tar header, which means
 * that the shard is not the one that was indexed. */
Status shard_read_member(const OpenShard *shard, const SampleMember *member, uint8_t *out);

#endif
