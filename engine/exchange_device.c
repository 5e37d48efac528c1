/* A device's half of the exchange: everything is queued with its collectives, beside what computes, and is recorded
 * with the step. MPI only carries the ids with which communicators are opened.
 *
 * Marks: the weights of bucket b, its gradients, and the block sums of the norm. */
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "engine/exchange_internal.h"
#include "engine/param_image.h"

struct ExchangeDevice {
    const DeviceCollectives *ops;
    DeviceComm *inner; /* of the group; NULL: groups of one rank */
    DeviceComm *outer; /* of the owners of this rank's share in every group; NULL: one group */
    uint16_t *wire;    /* (elements of the largest bucket) bf16; NULL: gradients travel in fp32 */
    int32_t last;      /* mark of the gradients begun last; -1: none since they were waited for */
};

static int32_t weights_mark(const Exchange *x, int32_t bucket)
{
    return bucket;
}

static int32_t gradients_mark(const Exchange *x, int32_t bucket)
{
    return x->options.plan->bucket_count + bucket;
}

static int32_t blocks_mark(const Exchange *x)
{
    return 2 * x->options.plan->bucket_count;
}

/* ---- opening ---- */

/* What a rank tells the others before any communicator is there. */
typedef struct Card {
    char device[DEVICE_IDENTITY_BYTES];
    uint8_t inner[DEVICE_COMM_ID_BYTES], outer[DEVICE_COMM_ID_BYTES]; /* of those that this rank leads */
    int32_t rank, unused;
} Card;

static int by_device(const void *a, const void *b)
{
    const Card *left = a, *right = b;
    const int order = memcmp(left->device, right->device, sizeof left->device);
    return order != 0 ? order : (left->rank > right->rank) - (left->rank < right->rank);
}

/* All ranks find the same pair. Sorts the cards. */
static Status check_devices(Card *cards, int world)
{
    Status status = STATUS_OK;
    qsort(cards, (size_t)world, sizeof *cards, by_device);
    for (int k = 1; k < world; k++) {
        if (memcmp(cards[k - 1].device, cards[k].device, sizeof cards[k].device) != 0) continue;
        FAIL(ERR_CONFIG,
             "ranks %d and %d have the same GPU (%.*s), and NCCL wants one for each rank: start as many ranks on a "
             "machine as it has GPUs, and let each rank see all of them or one of its own (CUDA_VISIBLE_DEVICES, srun "
             "--gpus-per-task=1)",
             cards[k - 1].rank, cards[k].rank, (int)sizeof cards[k].device, cards[k].device);
    }
fail:
    return status;
}

static Status open_communicators(Exchange *x)
{
    Status status = STATUS_OK;
    ExchangeDevice *d = x->device;
    Comm *comm = x->options.comm;
    Backend *backend = x->options.backend;
    const int rank = comm_rank(comm), world = comm_world(comm), groups = world / x->shares, group = rank / x->shares;
    Card own = {.rank = rank};
    uint8_t inner[DEVICE_COMM_ID_BYTES], outer[DEVICE_COMM_ID_BYTES];
    Card *cards = mem_alloc_array((size_t)world, sizeof *cards);
    if (!cards) FAIL(ERR_MEMORY, "no memory for %d ranks", world);
    TRY(d->ops->identity(backend, own.device));
    if (x->share == 0 && (x->shares > 1 || world == 1)) TRY(d->ops->make_id(backend, own.inner));
    if (group == 0 && groups > 1) TRY(d->ops->make_id(backend, own.outer));
    TRY(comm_all_gather(comm, &own, sizeof own, cards));
    memcpy(inner, cards[group * x->shares].inner, sizeof inner);
    memcpy(outer, cards[x->share].outer, sizeof outer);
    TRY(check_devices(cards, world));
    if (x->shares > 1 || world == 1) TRY(d->ops->open(backend, inner, x->share, x->shares, &d->inner));
    if (groups > 1) TRY(d->ops->open(backend, outer, group, groups, &d->outer));
fail:
    free(cards);
    return status;
}

static int64_t largest_bucket(const Plan *plan)
{
    int64_t most = 0;
    for (int32_t b = 0; b < plan->bucket_count; b++)
        if (plan->buckets[b].count > most) most = plan->buckets[b].count;
    return most;
}

/* What a communicator takes for its channels' buffers; a guess on the safe side, until it is measured on a GPU. */
#define COMMUNICATOR_BYTES ((int64_t)512 << 20)

static int64_t wire_bytes_of(const Plan *plan, CommWire wire)
{
    return wire == COMM_WIRE_BF16 ? largest_bucket(plan) * (int64_t)sizeof(uint16_t) : 0;
}

int64_t exchange_device_bytes(const Plan *plan, CommWire wire, int64_t ranks, int64_t group)
{
    const int64_t communicators = (group > 1 || ranks == 1) + (ranks > group);
    return wire_bytes_of(plan, wire) + communicators * COMMUNICATOR_BYTES;
}

Status exchange_device_open(Exchange *x)
{
    Status status = STATUS_OK;
    Backend *backend = x->options.backend;
    const Plan *plan = x->options.plan;
    const int64_t wire_bytes = wire_bytes_of(plan, x->options.wire);
    if (!backend->device->collectives)
        FAIL(ERR_UNSUPPORTED,
             "%d ranks on GPUs, and this libvasily_cuda.so was built without NCCL: build it where nccl.h and libnccl "
             "are (NCCL_HOME names their folder), use one rank, or device.name: cpu",
             comm_world(x->options.comm));
    if (!x->options.store->image || !x->options.store->image->grads)
        FAIL(ERR_INTERNAL, "an exchange on a device, and no gradients there");
    x->device = mem_alloc_array(1, sizeof *x->device);
    if (!x->device) FAIL(ERR_MEMORY, "no memory for an exchange");
    *x->device = (ExchangeDevice){.ops = backend->device->collectives, .last = -1};
    if (wire_bytes > 0) {
        x->device->wire = backend->alloc(backend, (size_t)wire_bytes);
        if (!x->device->wire)
            FAIL(ERR_MEMORY,
                 "the device has no room for %.2f GB of gradients on their way; parallel.wire: f32 needs none",
                 1e-9 * (double)wire_bytes);
    }
    TRY(open_communicators(x));
    TRY(x->device->ops->marks_reserve(backend, blocks_mark(x) + 1));
fail:
    return status;
}

void exchange_device_close(Exchange *x)
{
    ExchangeDevice *d = x->device;
    if (!d) return;
    d->ops->close(x->options.backend, d->outer);
    d->ops->close(x->options.backend, d->inner);
    x->options.backend->free(x->options.backend, d->wire);
    free(d);
    x->device = NULL;
}

/* ---- gradients ---- */

/* `data`, a bucket in the form in which it travels: this rank's share becomes the sum, replicated all shares do. The
 * same sums in both cases. `own`: where the share is. */
static Status sum_shares(Exchange *x, void *data, void *own, int64_t count, DeviceNumber type)
{
    Status status = STATUS_OK;
    const ExchangeDevice *d = x->device;
    Backend *backend = x->options.backend;
    if (d->inner) TRY(d->ops->reduce_scatter(backend, d->inner, data, count, type));
    if (d->outer) TRY(d->ops->all_reduce(backend, d->outer, own, count / x->shares, type));
    if (d->inner && !x->options.sharded) TRY(d->ops->all_gather(backend, d->inner, data, count, type));
fail:
    return status;
}

static Status sum_bucket(Exchange *x, const Bucket *bucket)
{
    Status status = STATUS_OK;
    const ExchangeDevice *d = x->device;
    Backend *backend = x->options.backend;
    const int64_t count = bucket->count, share = count / x->shares, start = share * x->share;
    float *grads = x->options.store->image->grads + bucket->offset;
    if (!d->wire) {
        TRY(sum_shares(x, grads, grads + start, count, DEVICE_F32));
        return STATUS_OK;
    }
    TRY(d->ops->narrow(backend, d->wire, grads, count));
    TRY(sum_shares(x, d->wire, d->wire + start, count, DEVICE_BF16));
    if (x->options.sharded)
        TRY(d->ops->widen(backend, grads + start, d->wire + start, share));
    else
        TRY(d->ops->widen(backend, grads, d->wire, count));
fail:
    return status;
}

Status exchange_device_bucket_ready(Exchange *x, int32_t bucket)
{
    Status status = STATUS_OK;
    ExchangeDevice *d = x->device;
    Backend *backend = x->options.backend;
    TRY(d->ops->fork(backend));
    TRY(sum_bucket(x, &x->options.plan->buckets[bucket]));
    d->last = gradients_mark(x, bucket);
    TRY(d->ops->mark(backend, d->last));
    if (!x->options.overlap) TRY(exchange_device_wait_gradients(x));
fail:
    return status;
}

/* Collectives run in their queue's order: the last one is all of them. */
Status exchange_device_wait_gradients(Exchange *x)
{
    Status status = STATUS_OK;
    ExchangeDevice *d = x->device;
    if (d->last >= 0) TRY(d->ops->join(x->options.backend, d->last));
fail:
    d->last = -1;
    return status;
}

/* ---- the norm ---- */

/* A bucket's block sums are divided as its elements are, so they are gathered where they lie. */
Status exchange_device_gather_blocks(Exchange *x, double *sums)
{
    Status status = STATUS_OK;
    ExchangeDevice *d = x->device;
    Backend *backend = x->options.backend;
    const Plan *plan = x->options.plan;
    bool batch = false;
    if (!d->inner) return STATUS_OK;
    TRY(d->ops->fork(backend));
    TRY(d->ops->begin_batch(backend));
    batch = true;
    for (int32_t b = 0; b < plan->bucket_count; b++) {
        const Bucket *bucket = &plan->buckets[b];
        TRY(d->ops->all_gather(backend, d->inner, sums + bucket->offset / UPDATE_NORM_BLOCK,
                               bucket->count / UPDATE_NORM_BLOCK, DEVICE_F64));
    }
    batch = false;
    TRY(d->ops->end_batch(backend));
    TRY(d->ops->mark(backend, blocks_mark(x)));
    TRY(d->ops->join(backend, blocks_mark(x)));
    return STATUS_OK;
fail:
    if (batch) { /* the failure inside is the one to tell */
        StatusRecord failure;
        status_save(status, &failure);
        (void)d->ops->end_batch(backend);
        status = status_restore(&failure);
    }
    return status;
}

/* ---- weights ---- */

static Status gather_bucket(Exchange *x, int32_t b)
{
    Status status = STATUS_OK;
    const ExchangeDevice *d = x->device;
    Backend *backend = x->options.backend;
    const ParamImage *image = x->options.store->image;
    const Bucket *bucket = &x->options.plan->buckets[b];
    if (d->inner)
        TRY(d->ops->all_gather(backend, d->inner, image->weights + bucket->offset, bucket->count, DEVICE_F32));
    if (image->half_weights)
        TRY(d->ops->narrow(backend, image->half_weights + bucket->offset, image->weights + bucket->offset,
                           bucket->count));
    TRY(d->ops->mark(backend, weights_mark(x, b)));
    if (!x->options.overlap) TRY(d->ops->join(backend, weights_mark(x, b)));
fail:
    return status;
}

/* Those that no op needs come first: nobody asks for them, and a recording must not end before them. Whoever waits for
 * a later one waits for them too. */
Status exchange_device_gather_weights(Exchange *x)
{
    Status status = STATUS_OK;
    const Plan *plan = x->options.plan;
    const int32_t none = graph_op_count(plan->graph);
    int32_t last = -1;
    TRY(x->device->ops->fork(x->options.backend));
    for (int needed = 0; needed < 2; needed++) {
        for (int32_t i = 0; i < plan->bucket_count; i++) {
            const int32_t b = x->gather_order[i];
            if ((plan->buckets[b].needed_by < none) != (needed != 0)) continue;
            TRY(gather_bucket(x, b));
            last = b;
        }
    }
    if (last >= 0 && plan->buckets[last].needed_by >= none)
        TRY(x->device->ops->join(x->options.backend, weights_mark(x, last)));
fail:
    return status;
}

Status exchange_device_weights_needed(Exchange *x, int32_t bucket)
{
    if (!x->options.overlap) return STATUS_OK;
    return x->device->ops->join(x->options.backend, weights_mark(x, bucket));
}

Status exchange_device_exposed_seconds(Exchange *x, double *seconds)
{
    return x->device->ops->exposed_seconds(x->options.backend, seconds);
}
