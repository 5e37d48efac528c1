/* What the ranks of a training step exchange: sums of gradients, bucket by bucket while backward still runs, and where
 * the optimizer is divided among them, the norm's block sums and the new weights, bucket by bucket while the next
 * forward pass runs already.
 *
 *   replicated   every rank gets the sum of all gradients and makes the whole update
 *   sharded      a rank gets the sum of its share of every bucket, updates that share, and the weights are gathered
 *
 * Both sum in the same order (engine/comm.h), so both give the same bits. On the host MPI moves the data
 * (engine/comm.h); on a device its collectives do (DeviceCollectives), queued beside what computes and recorded with
 * it. */
#ifndef ENGINE_EXCHANGE_H
#define ENGINE_EXCHANGE_H

#include "engine/comm.h"
#include "engine/plan.h"
#include "engine/update.h"

typedef struct Exchange Exchange;

typedef struct ExchangeOptions {
    Comm *comm; /* comm_set_group has been called */
    Backend *backend;
    const Plan *plan; /* PlanOptions.shares = comm_group(comm) */
    const ParamStore *store;
    bool sharded;
    CommWire wire;  /* of gradients; weights travel as they are */
    bool overlap;   /* false: what could run beside computing is waited for at once, for comparison */
    bool alone_too; /* exchange with a world of one as well, for tests and timing; else nothing is exchanged then */
} ExchangeOptions;

/* Collective. Everything is allocated here. Comm, backend, plan and store must outlive it. */
Status exchange_create(const ExchangeOptions *options, Exchange **out);
void exchange_free(Exchange *exchange); /* NULL is fine */

/* Bytes that it takes of a device, with groups of `group` of the `ranks`: what travels as bf16, and what the
 * communicators take for themselves. */
int64_t exchange_device_bytes(const Plan *plan, CommWire wire, int64_t ranks, int64_t group);

/* What this rank updates: one span a bucket, or with a replicated optimizer one for all. */
bool exchange_is_sharded(const Exchange *exchange);
int32_t exchange_spans(const Exchange *exchange, const UpdateSpan **spans);
int64_t exchange_local_elements(const Exchange *exchange); /* of all spans together */
/* What the group's `share`-th rank updates: as many spans as this rank has, into `out`. */
void exchange_spans_of(const Exchange *exchange, int share, UpdateSpan *out);

/* In the order of a step; all ranks alike. On a device these queue, and may be recorded. */
/* Bucket's gradients are complete here: their sum begins. For ExecutorRun.on_bucket, `exchange` as context. */
Status exchange_bucket_ready(void *exchange, int32_t bucket);
Status exchange_wait_gradients(Exchange *exchange); /* sums are there, for what comes after on the host or the device */
/* `sums`: fp64 per norm block, those of this rank's spans filled; afterwards of all blocks. Replicated: nothing to do.
 */
Status exchange_gather_blocks(Exchange *exchange, double *sums);
/* After the update: the weights outside this rank's spans are old until they were gathered. Host state only. */
void exchange_weights_updated(Exchange *exchange);
/* Begins to gather the weights; on the host only where they are old, on a device (where it is recorded) always. */
Status exchange_gather_weights(Exchange *exchange);
/* The bucket's weights are new, for what comes after. For ExecutorRun.on_weights. */
Status exchange_weights_needed(void *exchange, int32_t bucket);
/* All weights are new, now: gathers what is old and waits; before they are saved, hashed or drawn with. */
Status exchange_refresh_weights(Exchange *exchange);

/* Buckets of the plan, the slices in which flat buffers are walked. */
int32_t exchange_buckets(const Exchange *exchange, const Bucket **buckets);
/* Host memory: `data` has a bucket's elements, of which this rank's share is filled; afterwards all are. Collective;
 * for what is divided as the weights are and is wanted whole, such as moments in a checkpoint. Replicated: nothing to
 * do. */
Status exchange_collect(Exchange *exchange, int32_t bucket, float *data);

/* `count` doubles of every rank, in rank order, into out (ranks, count): what the ranks decide a step by. */
Status exchange_agree(Exchange *exchange, const double *values, int32_t count, double *out);

/* Before a step's work is queued. A device's collectives, which the host does not see one by one, are one entry of the
 * flight record (engine/flight_record.h) from here to exchange_exposed_seconds. */
void exchange_step_begins(Exchange *exchange);
/* Seconds since the last call that computing stood still for gradients and weights, on this rank; once finished. */
Status exchange_exposed_seconds(Exchange *exchange, double *seconds);

#endif
