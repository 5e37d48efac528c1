#include "optim/optimizer_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "optim/adamw.h"
#include "optim/ema.h"
#include "optim/grad_norm.h"
#include "optim/one_cycle.h"
#include "optim/param_groups.h"

static int64_t sum_count(int64_t elements)
{
    return update_norm_block_count(elements) + update_norm_group_count(elements);
}

/* ---- memory of the host or the device ---- */

static void *buffer_alloc(const Optimizer *optimizer, size_t bytes)
{
    if (bytes == 0) bytes = 1; /* so that NULL means failure alone */
    return optimizer->backend ? optimizer->backend->alloc(optimizer->backend, bytes) : mem_alloc_aligned(bytes);
}

static void buffer_free(const Optimizer *optimizer, void *memory)
{
    if (!memory) return;
    if (optimizer->backend)
        optimizer->backend->free(optimizer->backend, memory);
    else
        mem_free_aligned(memory);
}

static Status bind_parameters(Optimizer *optimizer, const ParamStore *store)
{
    Status status = STATUS_OK;
    const ParamImage *image = store->image;
    if (!optimizer->backend) {
        optimizer->weights = store->weights;
        optimizer->grads = store->grads;
        return STATUS_OK;
    }
    if (!image || !image->grads) FAIL(ERR_INTERNAL, "an optimizer on a device, and no parameters there");
    optimizer->weights = image->weights;
    optimizer->grads = image->grads;
    optimizer->half = image->half_weights;
fail:
    return status;
}

static Status allocate(Optimizer *optimizer)
{
    Status status = STATUS_OK;
    const int64_t elements = optimizer->elements, local = optimizer->local_elements;
    const bool has_ema = optimizer->config.ema_decay > 0;
    Backend *backend = optimizer->backend;
    size_t bytes = 0;
    if (elements < 0 || !mem_mul_size((size_t)local, sizeof(float), &bytes)) {
        FAIL(ERR_LIMIT, "%lld trainable elements do not fit in memory", (long long)elements);
    }
    optimizer->m = buffer_alloc(optimizer, bytes);
    optimizer->v = buffer_alloc(optimizer, bytes);
    optimizer->sums = buffer_alloc(optimizer, (size_t)sum_count(elements) * sizeof(double));
    if (has_ema) optimizer->ema = buffer_alloc(optimizer, bytes);
    if (backend) optimizer->device_told = buffer_alloc(optimizer, sizeof(Told));
    optimizer->told = backend ? backend->device->host_alloc(backend, sizeof(Told)) : mem_alloc_array(1, sizeof(Told));
    if (!optimizer->m || !optimizer->v || !optimizer->sums || !optimizer->told || (has_ema && !optimizer->ema) ||
        (backend && !optimizer->device_told)) {
        FAIL(ERR_MEMORY,
             "no memory for the optimizer: %.2f GB for %lld trainable elements; optim.ema_decay=0 saves %.2f, and with "
             "several ranks parallel.shard=all divides it",
             (double)optimizer_bytes(&optimizer->config, local, 1) / 1e9, (long long)local, (double)bytes / 1e9);
    }
fail:
    return status;
}

static void set_spans(Optimizer *optimizer)
{
    if (optimizer->exchange) {
        optimizer->span_count = exchange_spans(optimizer->exchange, &optimizer->spans);
        optimizer->local_elements = exchange_local_elements(optimizer->exchange);
        return;
    }
    optimizer->whole = (UpdateSpan){.count = optimizer->elements};
    optimizer->spans = &optimizer->whole;
    optimizer->span_count = 1;
    optimizer->local_elements = optimizer->elements;
}

/* Patterns by parameter, on the device too. */
static Status place_groups(Optimizer *optimizer, const ParamStore *store)
{
    Status status = STATUS_OK;
    Backend *backend = optimizer->backend;
    optimizer->group_count = param_group_factors(&optimizer->config, optimizer->groups);
    TRY(param_groups_segments(&optimizer->config, store->table, &optimizer->segments, &optimizer->segment_count));
    if (!backend || !optimizer->segments) return STATUS_OK;
    const size_t bytes = (size_t)optimizer->segment_count * sizeof *optimizer->segments;
    optimizer->device_segments = buffer_alloc(optimizer, bytes);
    if (!optimizer->device_segments) FAIL(ERR_MEMORY, "no memory for the groups of the optimizer");
    TRY(backend->upload(backend, optimizer->device_segments, optimizer->segments, bytes));
fail:
    return status;
}

Status optimizer_create(const OptimConfig *config, int64_t total_steps, const ParamStore *store, Backend *backend,
                        int threads, Exchange *exchange, Optimizer **out)
{
    Status status = STATUS_OK;
    Optimizer *optimizer = NULL;
    *out = NULL;
    if (total_steps < 1) {
        FAIL(ERR_CONFIG, "optim.total_steps: a schedule of %lld steps; set it or train.steps to at least 1",
             (long long)total_steps);
    }
    if (threads < 1) FAIL(ERR_INTERNAL, "an optimizer with %d threads", threads);
    if (!store->grads) FAIL(ERR_INTERNAL, "an optimizer over a ParamStore without gradients");
    optimizer = mem_alloc_array(1, sizeof(*optimizer));
    if (!optimizer) FAIL(ERR_MEMORY, "no memory for the optimizer");
    optimizer->config = *config;
    optimizer->total_steps = total_steps;
    optimizer->norm_limit = INFINITY;
    optimizer->threads = threads;
    optimizer->elements = param_table_trainable_elements(store->table);
    optimizer->backend = backend && backend->device ? backend : NULL;
    optimizer->exchange = exchange;
    set_spans(optimizer);
    TRY(bind_parameters(optimizer, store));
    TRY(allocate(optimizer));
    TRY(place_groups(optimizer, store));
    TRY(optimizer_restart_ema(optimizer));
    *out = optimizer;
    return STATUS_OK;
fail:
    optimizer_free(optimizer);
    return status;
}

void optimizer_free(Optimizer *optimizer)
{
    if (!optimizer) return;
    buffer_free(optimizer, optimizer->m);
    buffer_free(optimizer, optimizer->v);
    buffer_free(optimizer, optimizer->ema);
    buffer_free(optimizer, optimizer->sums);
    buffer_free(optimizer, optimizer->device_told);
    buffer_free(optimizer, optimizer->device_segments);
    free(optimizer->segments);
    if (optimizer->backend)
        optimizer->backend->device->host_free(optimizer->backend, optimizer->told);
    else
        free(optimizer->told);
    free(optimizer);
}

/* ---- a step ---- */

static Status send_values(Optimizer *optimizer)
{
    Status status = STATUS_OK;
    Backend *backend = optimizer->backend;
    if (!backend) return STATUS_OK;
    TRY(backend->device->send(backend, &optimizer->device_told->values, &optimizer->told->values,
                              sizeof(UpdateValues)));
    TRY(backend->device->sent(backend));
fail:
    return status;
}

void optimizer_limit_norm(Optimizer *optimizer, double limit)
{
    optimizer->norm_limit = limit;
}

Status optimizer_refuse_update(Optimizer *optimizer)
{
    optimizer->told->values.norm_limit = -1;
    return send_values(optimizer);
}

Status optimizer_begin_step(Optimizer *optimizer, int64_t schedule_step, double grad_scale)
{
    Status status = STATUS_OK;
    const OptimConfig *config = &optimizer->config;
    if (!isfinite(grad_scale) || grad_scale <= 0) FAIL(ERR_INTERNAL, "gradient scale %g", grad_scale);

    const ScheduleValues values = schedule_values(config, optimizer->total_steps, schedule_step);
    const int64_t t = optimizer->state.t + 1; /* if the step is not skipped */
    optimizer->lr = values.lr;
    optimizer->beta1 = values.beta1;
    optimizer->ema_decay = ema_decay_at(config->ema_decay, config->ema_warmup, t);
    adamw_values(
        &(AdamwStep){
            .lr = values.lr,
            .beta1 = values.beta1,
            .beta2 = config->beta2,
            .eps = config->eps,
            .weight_decay = config->weight_decay,
            .grad_scale = grad_scale,
            .clip_norm = config->clip_norm,
            .norm_limit = optimizer->norm_limit,
            .t = t,
            .ema_decay = optimizer->ema_decay,
            .groups = optimizer->groups,
            .group_count = optimizer->group_count,
        },
        &optimizer->told->values);
    TRY(send_values(optimizer));
fail:
    return status;
}

/* Flat elements [first, end) of a span, all of one group. */
static void update_elements(Optimizer *o, const UpdateSpan *span, int64_t first, int64_t end, int32_t group)
{
    const UpdateValues *values = &o->told->values;
    const int64_t local = span->local + (first - span->flat);
    float *ema = o->ema ? o->ema + local : NULL;
    if (!values->group[group].held)
        adamw_update(values, group, o->told->result.clip, end - first, o->threads, o->grads + first, o->weights + first,
                     o->m + local, o->v + local, ema);
    else if (ema)
        adamw_average(values, end - first, o->threads, o->weights + first, ema);
}

/* What spans and segments have in common; both are in order. */
static void update_span(Optimizer *o, const UpdateSpan *span)
{
    const int64_t span_end = span->flat + span->count;
    int64_t first = span->flat;
    if (!o->segments) update_elements(o, span, first, span_end, 0);
    for (int32_t s = 0; o->segments && s < o->segment_count && first < span_end; s++) {
        const int64_t end = o->segments[s].end < span_end ? o->segments[s].end : span_end;
        if (end <= first) continue;
        update_elements(o, span, first, end, o->segments[s].group);
        first = end;
    }
}

static Status update_on_host(Optimizer *o)
{
    Status status = STATUS_OK;
    const UpdateValues *values = &o->told->values;
    UpdateResult *result = &o->told->result;
    for (int32_t s = 0; s < o->span_count; s++)
        grad_norm_blocks(o->grads + o->spans[s].flat, o->spans[s].count, o->threads,
                         o->sums + o->spans[s].flat / UPDATE_NORM_BLOCK);
    if (o->exchange) TRY(exchange_gather_blocks(o->exchange, o->sums));
    const double squares = grad_norm_sum(o->sums, update_norm_block_count(o->elements));
    const double norm = values->grad_scale * sqrt(squares);
    *result = (UpdateResult){.squares = squares, .norm = norm, .clip = 1.0};
    if (norm > values->norm_limit) result->skipped = UPDATE_OVER_LIMIT;
    if (!isfinite(squares)) result->skipped = UPDATE_NOT_FINITE;
    if (result->skipped != UPDATE_DONE) return STATUS_OK;
    result->clip = grad_clip_factor(norm, values->clip_norm);
    for (int32_t s = 0; s < o->span_count; s++) update_span(o, &o->spans[s]);
    if (o->exchange) exchange_weights_updated(o->exchange);
fail:
    return status;
}

Status optimizer_queue_update(Optimizer *optimizer)
{
    Status status = STATUS_OK;
    Backend *backend = optimizer->backend;
    if (!backend) return update_on_host(optimizer);
    const DeviceUpdate update = {.count = optimizer->elements,
                                 .spans = optimizer->spans,
                                 .span_count = optimizer->span_count,
                                 .grads = optimizer->grads,
                                 .weights = optimizer->weights,
                                 .m = optimizer->m,
                                 .v = optimizer->v,
                                 .ema = optimizer->ema,
                                 .half = optimizer->half,
                                 .sums = optimizer->sums,
                                 .segments = optimizer->device_segments,
                                 .segment_count = optimizer->segment_count,
                                 .values = &optimizer->device_told->values,
                                 .result = &optimizer->device_told->result};
    TRY(backend->device->update_norm(backend, &update));
    if (optimizer->exchange) TRY(exchange_gather_blocks(optimizer->exchange, optimizer->sums));
    TRY(backend->device->update_apply(backend, &update));
    TRY(backend->device->fetch(backend, &optimizer->told->result, &optimizer->device_told->result,
                               sizeof(UpdateResult)));
fail:
    return status;
}

void optimizer_end_step(Optimizer *optimizer, OptimizerReport *report)
{
    if (optimizer->backend && optimizer->exchange) exchange_weights_updated(optimizer->exchange);
    const UpdateResult *result = &optimizer->told->result;
    *report = (OptimizerReport){.lr = optimizer->lr,
                                .beta1 = optimizer->beta1,
                                .grad_norm = result->norm,
                                .clip = result->clip,
                                .ema_decay = result->skipped ? 1.0 : optimizer->ema_decay,
                                .skipped = (UpdateSkip)result->skipped};
    if (result->skipped)
        optimizer->state.skipped++;
    else
        optimizer->state.t++;
}

Status optimizer_step(Optimizer *optimizer, int64_t schedule_step, double grad_scale, OptimizerReport *report)
{
    Status status = STATUS_OK;
    TRY(optimizer_begin_step(optimizer, schedule_step, grad_scale));
    TRY(optimizer_queue_update(optimizer));
    if (optimizer->backend) TRY(optimizer->backend->device->finish(optimizer->backend));
    optimizer_end_step(optimizer, report);
fail:
    return status;
}

int64_t optimizer_bytes(const OptimConfig *config, int64_t elements, int shares)
{
    int64_t buffers = config->ema_decay > 0 ? 3 : 2;
    return buffers * (elements / shares) * (int64_t)sizeof(float) + sum_count(elements) * (int64_t)sizeof(double);
}
