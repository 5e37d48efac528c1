/* The store's parts: shard_store.c opens and closes it, shard_count.c counts samples when a run starts,
 * shard_windows.c keeps what is open. */
#ifndef DATA_SHARD_STORE_INSIDE_H
#define DATA_SHARD_STORE_INSIDE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "data/shard_list.h"
#include "data/shard_store.h"

typedef struct StoreSource {
    ShardList list;
    int64_t first; /* global number of its first shard */
    uint64_t identity;
    PrecomputedFacts facts;
} StoreSource;

typedef enum PlaceState { PLACE_FREE, PLACE_LOADING, PLACE_READY, PLACE_FAILED } PlaceState;

/* A shard that is open. */
typedef struct OpenFile {
    int64_t shard; /* global number; -1: free */
    PlaceState state;
    int users;
    uint64_t last_use;
    ShardFile *file;
    PrecomputedFile *precomputed[PRECOMPUTED_KINDS];
    pthread_mutex_t index_lock; /* of what follows */
    bool scanned;
    TarIndex index; /* of the whole shard, which has no usable index file */
} OpenFile;

/* A window that is open, or has failed: then its message is kept for those who ask again. */
typedef struct OpenWindow {
    ShardWindow shown;
    int64_t shard; /* global number; -1: free */
    int next;      /* of the windows with the same hash; -1: none */
    PlaceState state;
    int users;
    uint64_t last_use;
    TarIndex index;
    int64_t index_bytes;
    OpenFile *open;        /* pinned while there are users */
    atomic_bool failing;   /* the last read did */
    double failed_seconds; /* that the reads since the last good one took */
    Status failure;
    char message[512];
} OpenWindow;

struct ShardStore {
    const DataConfig *config;
    const PrecomputedSpec *precomputed; /* NULL: none */
    BadLog *bad_log;                    /* NULL: none */
    bool without_tars;                  /* all is precomputed */
    bool write_index, progress, pass_over;
    ShardAccess *access;
    StoreSource *sources;
    int64_t shard_count;
    char **paths;      /* (shard_count), owned by the lists */
    int64_t *samples;  /* (shard_count) */
    double *try_again; /* (shard_count) clock_seconds before which a shard that could not be opened is not tried */

    pthread_mutex_t lock;   /* of all below */
    pthread_cond_t changed; /* something was loaded or released */
    bool locks;
    OpenWindow *windows;
    int *buckets; /* (window_count) first window of each hash; -1: none */
    OpenFile *files;
    int window_count, file_count;
    int64_t scanned_bytes; /* of the indexes in `files` */
    int64_t window_bytes;  /* of those in `windows` */
    bool said_scanned;
    uint64_t clock;
};

/* The source that a shard of this global number is of. */
int32_t store_source_of(const ShardStore *store, int64_t shard);

/* The wanted precomputed files of a shard, which fit each other and its index (NULL: not looked at). */
Status store_open_precomputed(const ShardStore *store, int32_t source, const char *shard, const TarIndex *index,
                              PrecomputedFile *files[PRECOMPUTED_KINDS]);

/* store->samples of every shard, by `threads` threads. */
Status store_count_all(ShardStore *store, int threads, BadSamples *bad);

Status store_windows_create(ShardStore *store, int windows);
void store_windows_free(ShardStore *store);

#endif
