/* Who writes what of a checkpoint: the flat buffers of weights, moments and average are dealt to the ranks, so that
 * each writes what it has without asking another, all about as much as any other.
 *
 * Ranks that hold the same of the optimizer (all of them with a replicated one; those with the same share where it is
 * divided inside each machine) split every span of it evenly. One rank alone has everything, in the order of the flat
 * buffers. */
#ifndef TRAIN_CHECKPOINT_DEAL_H
#define TRAIN_CHECKPOINT_DEAL_H

#include "engine/exchange.h"

/* Elements [flat, flat + count) of the flat buffers; their moments are at `held` of that rank's optimizer, and `local`
 * is their place in its share. */
typedef struct DealSpan {
    int64_t flat, held, local, count;
} DealSpan;

typedef struct CheckpointDeal {
    DealSpan *spans; /* (count), none empty, by `local` */
    int32_t count;
    int64_t elements; /* of all spans */
} CheckpointDeal;

/* Rank `rank` of `world`; any rank can tell for all. */
Status checkpoint_deal_make(const Exchange *exchange, int world, int group, int rank, CheckpointDeal *out);
void checkpoint_deal_free(CheckpointDeal *deal);

#endif
