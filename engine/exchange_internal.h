/* What the files of the exchange share; for exchange*.c only.
 *
 * exchange.c is the front and the host's half: MPI through engine/comm.h. exchange_device.c is a device's half: its
 * collectives through DeviceCollectives. */
#ifndef ENGINE_EXCHANGE_INTERNAL_H
#define ENGINE_EXCHANGE_INTERNAL_H

#include "engine/exchange.h"

typedef struct ExchangeDevice ExchangeDevice;

struct Exchange {
    ExchangeOptions options;
    bool idle;         /* a world of one, and nothing to do */
    int shares, share; /* of the group; this rank's */
    UpdateSpan *spans;
    int32_t span_count;
    int64_t local_elements;
    int32_t *gather_order; /* buckets by the op that needs their weights first */
    bool weights_old;      /* outside this rank's spans */

    /* The host's half. */
    CommRequest **gradient_requests; /* (buckets) in the order begun */
    int32_t gradients_begun;
    CommRequest **weight_requests; /* (buckets) by bucket; NULL: not under way */
    double *blocks;                /* (shares, share_blocks) fp64, sharded only */
    int64_t share_blocks;          /* norm blocks of one share, and what makes it a multiple of 8 */
    double exposed;                /* seconds that a step waited, since the last look */

    ExchangeDevice *device; /* NULL on the host */
    int64_t flight;         /* the device's entry in the flight record */
};

/* Elements of bucket `b` that share `k` owns begin at this place of the flat buffers. */
static inline int64_t exchange_share_start(const Exchange *x, const Bucket *bucket, int k)
{
    return bucket->offset + bucket->count / x->shares * k;
}

/* exchange_device.c. `x` is complete but for x->device; everything that a step needs is allocated. Collective. */
Status exchange_device_open(Exchange *x);
void exchange_device_close(Exchange *x); /* x->device NULL is fine */
Status exchange_device_bucket_ready(Exchange *x, int32_t bucket);
Status exchange_device_wait_gradients(Exchange *x);
Status exchange_device_gather_blocks(Exchange *x, double *sums); /* sums: the device's memory, in flat block order */
Status exchange_device_gather_weights(Exchange *x);              /* all buckets, in gather_order, bf16 copies too */
Status exchange_device_weights_needed(Exchange *x, int32_t bucket);
Status exchange_device_exposed_seconds(Exchange *x, double *seconds);

#endif
