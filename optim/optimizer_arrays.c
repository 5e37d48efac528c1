/* The optimizer's arrays as checkpoints and comparisons see them: whole, whoever has what. */
#include <string.h>

#include "optim/optimizer_internal.h"

/* Slices of a rank alone, elements. */
#define SLICE_ELEMENTS ((int64_t)4 << 20)

int64_t optimizer_elements(const Optimizer *optimizer)
{
    return optimizer->elements;
}

bool optimizer_is_divided(const Optimizer *optimizer)
{
    return optimizer->exchange && exchange_is_sharded(optimizer->exchange);
}

float *optimizer_m(Optimizer *optimizer)
{
    return optimizer->m;
}

float *optimizer_v(Optimizer *optimizer)
{
    return optimizer->v;
}

float *optimizer_ema(Optimizer *optimizer)
{
    return optimizer->ema;
}

bool optimizer_on_device(const Optimizer *optimizer)
{
    return optimizer->backend != NULL;
}

/* Where elements [first, first + count) of an array are: within one span. */
static Status find_elements(const Optimizer *optimizer, OptimizerArray which, int64_t first, int64_t count, float **out)
{
    Status status = STATUS_OK;
    float *array = which == OPTIMIZER_M ? optimizer->m : which == OPTIMIZER_V ? optimizer->v : optimizer->ema;
    for (int32_t s = 0; array && s < optimizer->span_count; s++) {
        const UpdateSpan *span = &optimizer->spans[s];
        if (first < span->flat || first > span->flat + span->count) continue;
        if (count < 0 || count > span->flat + span->count - first) continue;
        *out = array + span->local + (first - span->flat);
        return STATUS_OK;
    }
    FAIL(ERR_INTERNAL, "elements %lld to %lld of the optimizer's array %d are not there", (long long)first,
         (long long)(first + count), (int)which);
fail:
    return status;
}

Status optimizer_read(Optimizer *optimizer, OptimizerArray which, int64_t first, int64_t count, float *out)
{
    Status status = STATUS_OK;
    Backend *backend = optimizer->backend;
    float *elements;
    TRY(find_elements(optimizer, which, first, count, &elements));
    if (backend && count > 0)
        TRY(backend->download(backend, out, elements, (size_t)count * sizeof *out));
    else if (count > 0)
        memcpy(out, elements, (size_t)count * sizeof *out);
fail:
    return status;
}

Status optimizer_write(Optimizer *optimizer, OptimizerArray which, int64_t first, int64_t count, const float *values)
{
    Status status = STATUS_OK;
    Backend *backend = optimizer->backend;
    float *elements;
    TRY(find_elements(optimizer, which, first, count, &elements));
    if (backend && count > 0)
        TRY(backend->upload(backend, elements, values, (size_t)count * sizeof *values));
    else if (count > 0)
        memcpy(elements, values, (size_t)count * sizeof *values);
fail:
    return status;
}

/* ---- slices ---- */

int32_t optimizer_slice_count(const Optimizer *optimizer)
{
    const Bucket *buckets;
    if (optimizer->exchange) return exchange_buckets(optimizer->exchange, &buckets);
    return (int32_t)((optimizer->elements + SLICE_ELEMENTS - 1) / SLICE_ELEMENTS);
}

OptimizerSlice optimizer_slice(const Optimizer *optimizer, int32_t index)
{
    const Bucket *buckets;
    if (optimizer->exchange) {
        exchange_buckets(optimizer->exchange, &buckets);
        return (OptimizerSlice){buckets[index].offset, buckets[index].count};
    }
    const int64_t first = index * SLICE_ELEMENTS, left = optimizer->elements - first;
    return (OptimizerSlice){first, left < SLICE_ELEMENTS ? left : SLICE_ELEMENTS};
}

int64_t optimizer_largest_slice(const Optimizer *optimizer)
{
    int64_t largest = 0;
    for (int32_t i = 0; i < optimizer_slice_count(optimizer); i++) {
        const int64_t count = optimizer_slice(optimizer, i).count;
        if (count > largest) largest = count;
    }
    return largest;
}

/* This rank's part of a slice: where the optimizer is divided, its span of that bucket. */
static OptimizerSlice own_part(const Optimizer *optimizer, int32_t index)
{
    if (!optimizer_is_divided(optimizer)) return optimizer_slice(optimizer, index);
    return (OptimizerSlice){optimizer->spans[index].flat, optimizer->spans[index].count};
}

Status optimizer_read_slice(Optimizer *optimizer, OptimizerArray which, int32_t index, float *out)
{
    Status status = STATUS_OK;
    const OptimizerSlice own = own_part(optimizer, index);
    TRY(optimizer_read(optimizer, which, own.first, own.count,
                       out + (own.first - optimizer_slice(optimizer, index).first)));
    if (optimizer->exchange) TRY(exchange_collect(optimizer->exchange, index, out));
fail:
    return status;
}

Status optimizer_write_slice(Optimizer *optimizer, OptimizerArray which, int32_t index, const float *values)
{
    const OptimizerSlice own = own_part(optimizer, index);
    return optimizer_write(optimizer, which, own.first, own.count,
                           values + (own.first - optimizer_slice(optimizer, index).first));
}

int64_t optimizer_total_steps(const Optimizer *optimizer)
{
    return optimizer->total_steps;
}

OptimizerState optimizer_state(const Optimizer *optimizer)
{
    return optimizer->state;
}

void optimizer_set_state(Optimizer *optimizer, OptimizerState state)
{
    optimizer->state = state;
}

Status optimizer_restart_ema(Optimizer *optimizer)
{
    Status status = STATUS_OK;
    Backend *backend = optimizer->backend;
    for (int32_t s = 0; optimizer->ema && s < optimizer->span_count; s++) {
        const UpdateSpan *span = &optimizer->spans[s];
        const size_t bytes = (size_t)span->count * sizeof(float);
        if (bytes == 0) continue;
        if (backend)
            TRY(backend->device->copy(backend, optimizer->ema + span->local, optimizer->weights + span->flat, bytes));
        else
            memcpy(optimizer->ema + span->local, optimizer->weights + span->flat, bytes);
    }
fail:
    return status;
}
