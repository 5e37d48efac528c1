#include "train/checkpoint_snapshot.h"

#include <string.h>

#include "base/arena.h"
#include "engine/param_image.h"

const char *const CHECKPOINT_ARRAY_WORDS[] = {"weights", "ema", "adam_m", "adam_v", NULL};

/* Where this rank computes. */
static const float *place_of(const SnapshotOptions *o, CheckpointArray array, const DealSpan *span)
{
    const float *weights = o->backend->device ? o->store->image->weights : o->store->weights;
    switch (array) {
    case CHECKPOINT_EMA:
        return optimizer_ema(o->optimizer) + span->held;
    case CHECKPOINT_M:
        return optimizer_m(o->optimizer) + span->held;
    case CHECKPOINT_V:
        return optimizer_v(o->optimizer) + span->held;
    default:
        return weights + span->flat;
    }
}

bool snapshot_has(const Snapshot *snapshot, CheckpointArray array)
{
    return array != CHECKPOINT_EMA || optimizer_ema(snapshot->options.optimizer);
}

Status snapshot_create(const SnapshotOptions *options, Snapshot *out)
{
    Status status = STATUS_OK;
    Backend *backend = options->backend;
    const size_t bytes = (size_t)options->deal->elements * sizeof(float) + 1;
    *out = (Snapshot){.options = *options};
    for (int a = 0; options->copies && a < CHECKPOINT_ARRAYS; a++) {
        if (!snapshot_has(out, (CheckpointArray)a)) continue;
        out->memory[a] = backend->device ? backend->device->host_alloc(backend, bytes) : mem_alloc_aligned(bytes);
        if (!out->memory[a])
            FAIL(ERR_MEMORY,
                 "no memory for a copy of what a checkpoint holds, %.2f GB; checkpoint.async: false does without",
                 1e-9 * (double)snapshot_bytes(options->deal->elements, snapshot_has(out, CHECKPOINT_EMA), 1));
    }
    return STATUS_OK;
fail:
    snapshot_free(out);
    return status;
}

void snapshot_free(Snapshot *snapshot)
{
    Backend *backend = snapshot->options.backend;
    for (int a = 0; a < CHECKPOINT_ARRAYS; a++) {
        if (!snapshot->memory[a]) continue;
        if (backend->device)
            backend->device->host_free(backend, snapshot->memory[a]);
        else
            mem_free_aligned(snapshot->memory[a]);
    }
    *snapshot = (Snapshot){0};
}

Status snapshot_take(Snapshot *snapshot)
{
    Status status = STATUS_OK;
    const SnapshotOptions *o = &snapshot->options;
    Backend *backend = o->backend;
    for (int a = 0; a < CHECKPOINT_ARRAYS; a++)
        for (int32_t s = 0; snapshot->memory[a] && s < o->deal->count; s++) {
            const DealSpan *span = &o->deal->spans[s];
            const float *from = place_of(o, (CheckpointArray)a, span);
            float *to = snapshot->memory[a] + span->local;
            const size_t bytes = (size_t)span->count * sizeof *to;
            if (backend->device)
                TRY(backend->device->fetch(backend, to, from, bytes));
            else
                memcpy(to, from, bytes);
        }
    if (backend->device) TRY(backend->device->finish(backend));
fail:
    return status;
}

Status snapshot_read(const Snapshot *snapshot, CheckpointArray array, int64_t first, int64_t count, float *room,
                     const float **out)
{
    Status status = STATUS_OK;
    const SnapshotOptions *o = &snapshot->options;
    if (snapshot->memory[array]) {
        *out = snapshot->memory[array] + first;
        return STATUS_OK;
    }
    *out = room;
    for (int32_t s = 0; s < o->deal->count; s++) {
        DealSpan part = o->deal->spans[s];
        const int64_t from = first > part.local ? first - part.local : 0;
        const int64_t to = first + count - part.local < part.count ? first + count - part.local : part.count;
        if (from >= to) continue;
        float *target = room + (part.local + from - first);
        part.flat += from;
        part.held += from;
        const float *source = place_of(o, array, &part);
        if (o->backend->device)
            TRY(o->backend->download(o->backend, target, source, (size_t)(to - from) * sizeof *target));
        else
            memcpy(target, source, (size_t)(to - from) * sizeof *target);
    }
fail:
    return status;
}

int64_t snapshot_bytes(int64_t elements, bool has_ema, int64_t ranks)
{
    return (has_ema ? CHECKPOINT_ARRAYS : CHECKPOINT_ARRAYS - 1) * ((elements + ranks - 1) / ranks) *
           (int64_t)sizeof(float);
}
