/* The work of `vasily precompute`: every shard of the config through the frozen networks, into files that the loader
 * reads (data/precomputed.h). */
#ifndef TRAIN_PRECOMPUTE_H
#define TRAIN_PRECOMPUTE_H

#include "engine/comm.h"
#include "train/precompute_networks.h"

typedef struct PrecomputeOptions {
    const RunConfig *run; /* run->frozen says what and where to */
    Comm *comm;
    int64_t pictures, captions; /* of a batch; 0: chosen here */
} PrecomputeOptions;

/* Shards whose files are there and fit the config are passed over, the others dealt to the ranks. A signal ends it
 * between batches with ERR_INTERRUPTED; finished shards stay. Collective. */
Status precompute_run(const PrecomputeOptions *options);

/* ---- shared by precompute.c and precompute_shard.c ---- */

/* Rows on their way through a network. */
typedef struct PrecomputeBatch {
    int64_t count, capacity;
    StrBuf *keys; /* (capacity) of the sample of each row, for messages */
} PrecomputeBatch;

typedef struct PrecomputeTotals {
    BadSamples bad;
    int64_t shards, pictures, captions, bytes;
} PrecomputeTotals;

typedef struct Precompute {
    const RunConfig *run;
    const PrecomputedSpec *spec;
    struct ShardStore *store;
    struct ShardReader *reader;
    PrecomputeNetworks *networks;
    struct Tokenizer *tokenizers[2];
    PrecomputeBatch pictures, captions;
    float *pixels, *moments; /* (pictures.capacity, R, R, 3), (pictures.capacity, side, side, M) */
    PrecomputedText text;    /* (captions.capacity, ...) */
    PrecomputedWriter *writers[PRECOMPUTED_KINDS];
    PrecomputeTotals totals;
    void (*tick)(void *context); /* after each sample */
    void *tick_context;
} Precompute;

typedef struct PrecomputeShard {
    int32_t source, shard;
    int64_t samples;
    const char *path;
    bool wanted[PRECOMPUTED_KINDS];
    bool duplicate; /* an earlier source has it, too */
} PrecomputeShard;

/* Everything but spec, reader and networks. */
Status precompute_open_buffers(Precompute *p);
void precompute_close_buffers(Precompute *p);
Status precompute_shard(Precompute *p, const PrecomputeShard *shard);

#endif
