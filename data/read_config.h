/* The `data.read:` section: how shards are reached, how patiently, and what of them is kept on the local disk. */
#ifndef DATA_READ_CONFIG_H
#define DATA_READ_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"

typedef struct ReadConfig {
    bool allow_pipe;        /* `pipe:COMMAND` shards may start a shell */
    int64_t retries;        /* of a read that failed, after the first try */
    double retry_seconds;   /* before the first of them; doubled each time, at most 60 s */
    double connect_seconds; /* http: until connected */
    double stall_seconds;   /* http: without a byte, after which the transfer is begun anew where it stopped */
    int64_t chunk_bytes;    /* http: fetched at once */
    int64_t cache_bytes; /* most that is kept of http on the local disk; as much again of unpacked and piped shards */
    char *cache_folder;  /* empty: $TMPDIR, else /tmp. Files there have no names: nothing is left behind */
    char *index_folder;  /* where indexes are read from and kept; empty: beside each shard */
    bool checksums;      /* http: what `vasily data index` noted of the bytes is compared with what comes */
} ReadConfig;

extern const ConfigSchema read_config_schema;

#endif
