/* The order of samples: a pure function of the seed, the config and the sample counts of the shards.
 *
 * A source's shards are cut into blocks of neighbouring samples. In every epoch the blocks are permuted, and block p of
 * the permuted list goes to lane p mod L. A lane takes its blocks in groups of `mix`, and visits the samples of a group
 * in a permuted order. So a lane is an endless sequence, and all lanes together visit each sample of the source once an
 * epoch. The blocks are small enough that every lane has some: at most shuffle_block samples, and at least about 16 L
 * blocks where there are that many samples.
 *
 * A position in an epoch is group x mix x block_size + samples visited of the group, so that a stream starts anywhere
 * at once, without going through the epoch.
 *
 * Sample i of the run takes lane i mod L, then draws its source, then takes the next accepted sample of (source, lane).
 * Permutations are keyed by the source's name, not its place in the list. */
#ifndef DATA_ORDER_H
#define DATA_ORDER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

#define ORDER_MAX_MIX 64
#define ORDER_MAX_SHARD_SAMPLES ((int64_t)1 << 31) /* products of two such numbers fit */

/* What the config says about the shuffle. */
typedef struct OrderShuffle {
    int64_t block; /* samples */
    int32_t mix, lanes;
} OrderShuffle;

typedef struct OrderSource {
    const char *name;   /* the caller's */
    uint64_t name_hash; /* keys the permutations */
    int32_t shard_count;
    int64_t *shard_samples; /* (shard_count) */
    int64_t *first_block;   /* (shard_count + 1), ascending from 0 */
    int64_t samples, blocks, block_size;
    int32_t mix; /* at most ORDER_MAX_MIX */
} OrderSource;

/* ERR_CONFIG when there are fewer samples than lanes, ERR_LIMIT for a shard of impossible size. */
Status order_source_create(const char *name, const int64_t *shard_samples, int32_t shard_count,
                           const OrderShuffle *shuffle, OrderSource *out);
void order_source_free(OrderSource *source);

/* Neighbouring samples of a shard. */
typedef struct OrderBlock {
    int32_t shard;
    int64_t first, size;
} OrderBlock;

/* One (source, lane). */
typedef struct OrderStream {
    const OrderSource *source;
    uint64_t seed;
    int32_t lane, lanes;
    int64_t epoch, group; /* the group of blocks that is loaded */
    int64_t in_group;     /* its samples visited */
    int32_t block_count;
    int64_t first_block; /* number of the group's first block */
    OrderBlock blocks[ORDER_MAX_MIX];
    int64_t starts[ORDER_MAX_MIX + 1]; /* samples of the group before each block, and in all */
} OrderStream;

typedef struct OrderVisit {
    OrderBlock block;
    int64_t sample;          /* in the shard */
    int64_t epoch, position; /* of the stream after this visit: what a cursor keeps */
    int64_t visit_epoch;     /* the epoch this visit belongs to */
} OrderVisit;

/* ERR_MISMATCH when the lane has no such position in that epoch. Takes no longer for a late position. */
Status order_stream_start(OrderStream *stream, const OrderSource *source, uint64_t seed, int32_t lane, int32_t lanes,
                          int64_t epoch, int64_t position);
void order_stream_next(OrderStream *stream, OrderVisit *visit);

/* Names a visit: the same whatever the rank, thread, or number of ranks; another in each epoch. */
uint64_t order_visit_key(const OrderSource *source, const OrderVisit *visit);

/* The source of sample i; shares (count) add up to 1. Draws are spread evenly over every 4096 indices, so that what a
 * source gets is its share to within a fraction of a percent at once. Where the source drawn has ended, others are
 * drawn until one has not: the end of a source changes nothing for the samples of the others. -1: all have ended. */
int32_t order_pick_source(uint64_t seed, int64_t i, const double *shares, const bool *ended, int32_t count);

#endif
