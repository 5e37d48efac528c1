/* The order of samples: a pure function of the seed, the config and the sample counts of the shards.
 *
 * A source's shards are cut into blocks of neighbouring samples. In every epoch the blocks are permuted, and block p of
 * the permuted list goes to lane p mod L; inside a block the lane visits the samples in a permuted order. So a lane is
 * an endless sequence, and all lanes together visit each sample of the source once an epoch. The blocks are small
 * enough that every lane has some: at most shuffle_block samples, and at least about 16 L blocks where there are that
 * many samples.
 *
 * Sample i of the run takes lane i mod L, then draws its source, then takes the next accepted sample of (source, lane).
 * Permutations are keyed by the source's name, not its place in the list. */
#ifndef DATA_ORDER_H
#define DATA_ORDER_H

#include <stdint.h>

#include "base/status.h"

typedef struct OrderSource {
    const char *name;   /* the caller's */
    uint64_t name_hash; /* keys the permutations */
    int32_t shard_count;
    int64_t *shard_samples; /* (shard_count) */
    int64_t *first_block;   /* (shard_count + 1), ascending from 0 */
    int64_t samples, blocks, block_size;
} OrderSource;

/* ERR_CONFIG when there are fewer samples than lanes. */
Status order_source_create(const char *name, const int64_t *shard_samples, int32_t shard_count, int64_t shuffle_block,
                           int32_t lanes, OrderSource *out);
void order_source_free(OrderSource *source);

/* One (source, lane). */
typedef struct OrderStream {
    const OrderSource *source;
    uint64_t seed;
    int32_t lane, lanes;
    int64_t epoch, position;    /* the next sample to visit */
    int64_t turn, in_block;     /* which of the lane's blocks, and where in it */
    int32_t shard;              /* of the current block */
    int64_t first, size, block; /* the block's samples in the shard; its number; size 0: not loaded */
} OrderStream;

typedef struct OrderVisit {
    int32_t shard;
    int64_t sample;          /* in the shard */
    int64_t epoch, position; /* of the stream after this visit: what a cursor keeps */
    int64_t visit_epoch;     /* the epoch this visit belongs to */
} OrderVisit;

/* ERR_MISMATCH when the lane has no such position in that epoch. */
Status order_stream_start(OrderStream *stream, const OrderSource *source, uint64_t seed, int32_t lane, int32_t lanes,
                          int64_t epoch, int64_t position);
void order_stream_next(OrderStream *stream, OrderVisit *visit);

/* The source of sample i; cumulative: (count) ascending shares, the last one 1. */
int32_t order_pick_source(uint64_t seed, int64_t i, const double *cumulative, int32_t count);

#endif
