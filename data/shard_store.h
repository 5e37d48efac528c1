/* All shards of a config: their sample counts, and what is open of those in use, together with their precomputed files.
 * A run that reads nothing from the shards themselves does without them.
 *
 * Counts come, in this order, from the list that names a shard, from the first line of its index file, from reading it
 * through. What a thread works on is a window: some neighbouring samples of a shard, of which alone the index is in
 * memory. The calls after shard_store_open are safe from several threads. */
#ifndef DATA_SHARD_STORE_H
#define DATA_SHARD_STORE_H

#include <stdint.h>

#include "base/status.h"
#include "data/bad_log.h"
#include "data/bad_samples.h"
#include "data/data_config.h"
#include "data/precomputed.h"
#include "data/shard_file.h"
#include "data/tar_index.h"

typedef struct ShardStore ShardStore;

typedef struct ShardStoreOptions {
    const DataConfig *config;           /* must outlive the store, as what follows */
    const PrecomputedSpec *precomputed; /* NULL: none */
    BadLog *bad_log;                    /* NULL: none */
    bool write_index;                   /* leave index files; one rank of a run should */
    bool progress;                      /* show how far the reading of shards without an index has come */
    bool pass_over; /* a shard that cannot be read counts as broken, with no samples, instead of being an error */
    int threads;    /* that read them */
    int windows;    /* how many may stay open */
} ShardStoreOptions;

typedef struct ShardWindow {
    const char *path;
    ShardFile *file; /* NULL when the tar is not read */
    int64_t first, count;
    const TarIndex *index;                           /* of samples [first, first + count); empty when it is not read */
    PrecomputedFile *precomputed[PRECOMPUTED_KINDS]; /* NULL: not wanted */
} ShardWindow;

/* Expands the lists and counts every shard's samples. Empty and broken shards are counted in `bad`; unreadable ones are
 * an error, and so are precomputed files that are missing or do not fit. */
Status shard_store_open(const ShardStoreOptions *options, BadSamples *bad, ShardStore **out);
void shard_store_close(ShardStore *store);
/* Waits for servers and retries end soon: the store is about to be closed. */
void shard_store_stop(ShardStore *store);

/* Shards of a source are numbered from 0 in the order of the list. */
int32_t shard_store_count(const ShardStore *store, int32_t source);
const char *shard_store_path(const ShardStore *store, int32_t source, int32_t shard);
const int64_t *shard_store_samples(const ShardStore *store, int32_t source); /* (count) */
/* Of base names (of URLs without their queries) and sample counts: the same data moved elsewhere has the same identity.
 */
uint64_t shard_store_identity(const ShardStore *store, int32_t source);
void shard_store_access_stats(ShardStore *store, ShardAccessStats *out);

/* The index of a whole shard; tar_index_free it. */
Status shard_store_index(ShardStore *store, int32_t source, int32_t shard, TarIndex *out);

/* Opens (or finds) the window of samples [first, first + count) and pins it until the matching release. After a
 * failure, retries and all, the window is written to the bad log, and fails at once until it is dropped. */
Status shard_store_acquire(ShardStore *store, int32_t source, int32_t shard, int64_t first, int64_t count,
                           const ShardWindow **out);
void shard_store_release(ShardStore *store, const ShardWindow *window);

#define SHARD_HEADER 512
/* Reads one member into `out`: its tar header, SHARD_HEADER bytes, then its `size` bytes. ERR_FORMAT when the header is
 * of another size, which means that the shard is not the one that was indexed. When reads of a window fail in a row and
 * have taken long, it is given up as a whole. */
Status shard_window_read(ShardStore *store, const ShardWindow *window, const SampleMember *member, uint8_t *out);
/* A sample's bytes make no sense: true when reading it again may help (shard_file_doubt). */
bool shard_window_doubt(const ShardWindow *window, const Sample *sample);

#endif
