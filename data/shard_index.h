/* Indexes all shards of a config at once, for `vasily data index`: each shard's index file, of shards over http their
 * checksums too, and lists of the shards with what is known of them. */
#ifndef DATA_SHARD_INDEX_H
#define DATA_SHARD_INDEX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"
#include "data/data_config.h"
#include "data/shard_list.h"

typedef enum ShardIndexState {
    SHARD_INDEXED,    /* anew */
    SHARD_HAD_INDEX,  /* which is usable */
    SHARD_NO_INDEX,   /* readable, but the format cannot hold its members' names, or it has no samples */
    SHARD_DAMAGED,    /* truncated or no tar */
    SHARD_UNREADABLE, /* retries and all */
    SHARD_INDEX_STATES
} ShardIndexState;
const char *shard_index_state_name(ShardIndexState state);

typedef struct ShardIndexResult {
    ShardIndexState state;
    int64_t samples; /* of a damaged shard, those before the damage */
    int64_t bytes;   /* of the file as it lies there; -1: not looked at */
    char *trouble;   /* NULL: none */
} ShardIndexResult;

typedef struct ShardIndexSource {
    const char *name; /* the config's */
    ShardList list;
    ShardIndexResult *results; /* (list.count) */
} ShardIndexSource;

typedef struct ShardIndexReport {
    ShardIndexSource *sources;
    size_t source_count;
    double seconds;
} ShardIndexReport;

typedef struct ShardIndexOptions {
    const DataConfig *config; /* must outlive the report */
    int threads;
    bool force;    /* shards that have an index, too */
    bool once;     /* checksums of what comes over plain http are of one transfer, not of two that agree */
    bool progress; /* a live line */
} ShardIndexOptions;

/* A shard that is damaged or cannot be read is noted in the report. ERR_CONFIG before anything is read when a shard has
 * no place for its index; what fails when an index file is written ends it all. */
Status shard_index_all(const ShardIndexOptions *options, ShardIndexReport **out);
void shard_index_free(ShardIndexReport *report); /* NULL is fine */

/* The list file of a source that is to be written to `path`: shards below its folder relative to it. Damaged and
 * unreadable ones become comments. */
Status shard_index_list(const ShardIndexSource *source, const char *path, StrBuf *out);

#endif
