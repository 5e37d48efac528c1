/* The front of the exchange, and the host's half: every transfer is begun with engine/comm.h, whose thread moves the
 * data while this one computes. */
#include "engine/exchange.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "engine/exchange_internal.h"

/* Doubles travel as pairs of floats, and shares are multiples of 16 floats (engine/comm.h). */
enum { BLOCKS_ALIGN = 8 };

/* ---- what this rank updates ---- */

static Status make_spans(Exchange *x)
{
    Status status = STATUS_OK;
    const Plan *plan = x->options.plan;
    const int64_t elements = param_table_trainable_elements(x->options.store->table);
    const int32_t count = x->options.sharded ? plan->bucket_count : 1;
    x->spans = mem_alloc_array((size_t)count + 1, sizeof *x->spans);
    if (!x->spans) FAIL(ERR_MEMORY, "no memory for %d buckets", count);
    if (!x->options.sharded) {
        x->spans[x->span_count++] = (UpdateSpan){.count = elements};
        x->local_elements = elements;
        return STATUS_OK;
    }
    for (int32_t b = 0; b < plan->bucket_count; b++) {
        const Bucket *bucket = &plan->buckets[b];
        if (bucket->count % ((int64_t)UPDATE_NORM_BLOCK * x->shares))
            FAIL(ERR_INTERNAL, "a bucket of %lld elements for %d ranks", (long long)bucket->count, x->shares);
        const int64_t share = bucket->count / x->shares;
        x->spans[x->span_count++] =
            (UpdateSpan){.flat = exchange_share_start(x, bucket, x->share), .local = x->local_elements, .count = share};
        x->local_elements += share;
    }
fail:
    return status;
}

/* Buckets by need; plans have few, so insertion serves. */
static Status order_gathers(Exchange *x)
{
    const Plan *plan = x->options.plan;
    x->gather_order = mem_alloc_array((size_t)plan->bucket_count + 1, sizeof *x->gather_order);
    if (!x->gather_order)
        return status_fail(ERR_MEMORY, __FILE__, __LINE__, "no memory for %d buckets", plan->bucket_count);
    for (int32_t b = 0; b < plan->bucket_count; b++) {
        int32_t k = b;
        for (; k > 0 && plan->buckets[x->gather_order[k - 1]].needed_by > plan->buckets[b].needed_by; k--)
            x->gather_order[k] = x->gather_order[k - 1];
        x->gather_order[k] = b;
    }
    return STATUS_OK;
}

static Status allocate_host(Exchange *x)
{
    Status status = STATUS_OK;
    const size_t buckets = (size_t)x->options.plan->bucket_count;
    x->gradient_requests = mem_alloc_array(buckets + 1, sizeof *x->gradient_requests);
    x->weight_requests = mem_alloc_array(buckets + 1, sizeof *x->weight_requests);
    if (!x->gradient_requests || !x->weight_requests) FAIL(ERR_MEMORY, "no memory for %zu buckets", buckets);
    if (!x->options.sharded) return STATUS_OK;
    x->share_blocks = (x->local_elements / UPDATE_NORM_BLOCK + BLOCKS_ALIGN - 1) / BLOCKS_ALIGN * BLOCKS_ALIGN;
    x->blocks = mem_alloc_array((size_t)x->share_blocks * (size_t)x->shares + 1, sizeof *x->blocks);
    if (!x->blocks) FAIL(ERR_MEMORY, "no memory for the blocks of the norm");
fail:
    return status;
}

Status exchange_create(const ExchangeOptions *options, Exchange **out)
{
    Status status = STATUS_OK;
    Exchange *x = mem_alloc_array(1, sizeof *x);
    *out = NULL;
    if (!x) return status_fail(ERR_MEMORY, __FILE__, __LINE__, "out of memory");
    x->options = *options;
    x->idle = comm_world(options->comm) == 1 && !options->alone_too;
    x->shares = comm_group(options->comm);
    x->share = comm_share(options->comm);
    for (int32_t b = 0; b < options->plan->bucket_count; b++)
        if (options->plan->buckets[b].count > INT32_MAX)
            FAIL(ERR_CONFIG,
                 "train.bucket_bytes: a bucket of %lld gradients is more than MPI sends at once; at most 4Gi",
                 (long long)options->plan->buckets[b].count);
    TRY(make_spans(x));
    TRY(order_gathers(x));
    if (!options->backend || !options->backend->device)
        TRY(allocate_host(x));
    else if (!x->idle)
        TRY(exchange_device_open(x));
    *out = x;
    return STATUS_OK;
fail:
    exchange_free(x);
    return status;
}

/* After a failure buffers may be freed that are still on their way. */
static bool is_under_way(const Exchange *x)
{
    bool any = x->gradients_begun > 0;
    for (int32_t b = 0; x->weight_requests && b < x->options.plan->bucket_count; b++)
        any = any || x->weight_requests[b];
    return any;
}

void exchange_free(Exchange *x)
{
    if (!x) return;
    if (is_under_way(x)) comm_stop(x->options.comm);
    exchange_device_close(x);
    free(x->spans);
    free(x->gather_order);
    free(x->gradient_requests);
    free(x->weight_requests);
    free(x->blocks);
    free(x);
}

bool exchange_is_sharded(const Exchange *x)
{
    return x->options.sharded;
}

int32_t exchange_spans(const Exchange *x, const UpdateSpan **spans)
{
    *spans = x->spans;
    return x->span_count;
}

int64_t exchange_local_elements(const Exchange *x)
{
    return x->local_elements;
}

void exchange_spans_of(const Exchange *x, int share, UpdateSpan *out)
{
    for (int32_t s = 0; s < x->span_count; s++) {
        out[s] = x->spans[s];
        if (x->options.sharded) out[s].flat = exchange_share_start(x, &x->options.plan->buckets[s], share);
    }
}

/* ---- gradients ---- */

/* For what a step waits for, as against what is saved or drawn between steps. */
static Status wait_in_step(Exchange *x, CommRequest *request)
{
    const double before = comm_exposed_seconds(x->options.comm);
    const Status status = comm_wait(x->options.comm, request);
    x->exposed += comm_exposed_seconds(x->options.comm) - before;
    return status;
}

Status exchange_bucket_ready(void *exchange, int32_t index)
{
    Status status = STATUS_OK;
    Exchange *x = exchange;
    const Bucket *bucket = &x->options.plan->buckets[index];
    if (x->idle) return STATUS_OK;
    if (x->device) return exchange_device_bucket_ready(x, index);
    TRY(comm_reduce_begin(x->options.comm, x->options.store->grads + bucket->offset, bucket->count, x->options.wire,
                          !x->options.sharded, &x->gradient_requests[x->gradients_begun]));
    x->gradients_begun++;
    if (!x->options.overlap) TRY(exchange_wait_gradients(x));
fail:
    return status;
}

Status exchange_wait_gradients(Exchange *x)
{
    Status status = STATUS_OK;
    if (x->idle) return STATUS_OK;
    if (x->device) return exchange_device_wait_gradients(x);
    for (int32_t i = 0; i < x->gradients_begun; i++) TRY(wait_in_step(x, x->gradient_requests[i]));
    /* Weights that no op reads were waited for by none. */
    for (int32_t b = 0; b < x->options.plan->bucket_count; b++) TRY(exchange_weights_needed(x, b));
fail:
    x->gradients_begun = 0;
    return status;
}

/* ---- the norm ---- */

static void place_blocks(const Exchange *x, double *sums)
{
    const Plan *plan = x->options.plan;
    for (int k = 0; k < x->shares; k++) {
        const double *from = x->blocks + k * x->share_blocks;
        for (int32_t b = 0; b < plan->bucket_count; b++) {
            const Bucket *bucket = &plan->buckets[b];
            const int64_t count = bucket->count / x->shares / UPDATE_NORM_BLOCK;
            memcpy(sums + exchange_share_start(x, bucket, k) / UPDATE_NORM_BLOCK, from, (size_t)count * sizeof *sums);
            from += count;
        }
    }
}

Status exchange_gather_blocks(Exchange *x, double *sums)
{
    Status status = STATUS_OK;
    CommRequest *request;
    if (x->idle || !x->options.sharded) return STATUS_OK;
    if (x->device) return exchange_device_gather_blocks(x, sums);
    double *own = x->blocks + x->share * x->share_blocks;
    for (int32_t s = 0; s < x->span_count; s++) {
        const int64_t count = x->spans[s].count / UPDATE_NORM_BLOCK;
        memcpy(own, sums + x->spans[s].flat / UPDATE_NORM_BLOCK, (size_t)count * sizeof *own);
        own += count;
    }
    TRY(comm_gather_begin(x->options.comm, (float *)(void *)x->blocks, 2 * x->share_blocks * x->shares, &request));
    TRY(wait_in_step(x, request));
    place_blocks(x, sums);
fail:
    return status;
}

/* ---- weights ---- */

void exchange_weights_updated(Exchange *x)
{
    x->weights_old = x->options.sharded && !x->idle;
}

Status exchange_gather_weights(Exchange *x)
{
    Status status = STATUS_OK;
    if (x->idle || !x->options.sharded) return STATUS_OK;
    if (x->device) return exchange_device_gather_weights(x);
    if (!x->weights_old) return STATUS_OK;
    x->weights_old = false;
    for (int32_t i = 0; i < x->options.plan->bucket_count; i++) {
        const int32_t b = x->gather_order[i];
        const Bucket *bucket = &x->options.plan->buckets[b];
        TRY(comm_gather_begin(x->options.comm, x->options.store->weights + bucket->offset, bucket->count,
                              &x->weight_requests[b]));
        if (!x->options.overlap) TRY(exchange_weights_needed(x, b));
    }
fail:
    return status;
}

Status exchange_weights_needed(void *exchange, int32_t bucket)
{
    Status status = STATUS_OK;
    Exchange *x = exchange;
    if (x->idle || !x->options.sharded) return STATUS_OK;
    if (x->device) return exchange_device_weights_needed(x, bucket);
    CommRequest *request = x->weight_requests[bucket];
    x->weight_requests[bucket] = NULL;
    if (request) TRY(wait_in_step(x, request));
fail:
    return status;
}

Status exchange_refresh_weights(Exchange *x)
{
    Status status = STATUS_OK;
    const double exposed = x->exposed; /* this is no part of a step */
    if (x->idle || !x->options.sharded) return STATUS_OK;
    /* On a device a step's recording gathers at its beginning, so the weights are old whenever a step has ended. */
    if (!x->device || x->weights_old) TRY(exchange_gather_weights(x));
    x->weights_old = false;
    for (int32_t b = 0; b < x->options.plan->bucket_count; b++) TRY(exchange_weights_needed(x, b));
    if (x->device) TRY(x->options.backend->device->finish(x->options.backend));
fail:
    x->exposed = exposed;
    return status;
}

/* ---- whole arrays ---- */

int32_t exchange_buckets(const Exchange *x, const Bucket **buckets)
{
    *buckets = x->options.plan->buckets;
    return x->options.plan->bucket_count;
}

Status exchange_collect(Exchange *x, int32_t bucket, float *data)
{
    Status status = STATUS_OK;
    CommRequest *request;
    if (!x->options.sharded) return STATUS_OK;
    TRY(comm_gather_begin(x->options.comm, data, x->options.plan->buckets[bucket].count, &request));
    TRY(comm_wait(x->options.comm, request));
fail:
    return status;
}

/* ---- the rest of a step ---- */

Status exchange_agree(Exchange *x, const double *values, int32_t count, double *out)
{
    return comm_all_gather(x->options.comm, values, (size_t)count * sizeof *values, out);
}

void exchange_step_begins(Exchange *x)
{
    if (!x->device) return;
    const int64_t buckets = x->options.plan->bucket_count;
    const FlightWhat what = {.kind =
                                 x->options.sharded ? "device's gathering of weights, sums and norm" : "device's sums",
                             .unit = "floats",
                             .count = param_table_trainable_elements(x->options.store->table),
                             .ranks = comm_world(x->options.comm),
                             .stands_for = (x->options.sharded ? 3 : 2) * buckets};
    x->flight = flight_record_begin(comm_flight_record(x->options.comm), &what);
}

Status exchange_exposed_seconds(Exchange *x, double *seconds)
{
    *seconds = 0;
    if (x->idle) return STATUS_OK;
    if (x->device) {
        flight_record_end(comm_flight_record(x->options.comm), x->flight, false);
        return exchange_device_exposed_seconds(x, seconds);
    }
    *seconds = x->exposed;
    x->exposed = 0;
    return STATUS_OK;
}
