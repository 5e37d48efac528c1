#include "optim/optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "optim/adamw.h"
#include "optim/ema.h"
#include "optim/grad_norm.h"
#include "optim/one_cycle.h"

struct Optimizer {
    OptimConfig config;
    int64_t total_steps;
    int threads;
    int64_t elements;
    float *weights;     /* (elements) fp32, the store's */
    const float *grads; /* (elements) fp32, the store's */
    float *m, *v, *ema; /* (elements) fp32; ema may be NULL */
    double *block_sums; /* (grad_norm_block_count(elements)) fp64 */
    OptimizerState state;
};

Status optimizer_create(const OptimConfig *config, int64_t total_steps, const ParamStore *store, int threads,
                        Optimizer **out)
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

    int64_t elements = param_table_trainable_elements(store->table);
    size_t bytes = 0;
    if (elements < 0 || !mem_mul_size((size_t)elements, sizeof(float), &bytes)) {
        FAIL(ERR_LIMIT, "%lld trainable elements do not fit in memory", (long long)elements);
    }
    optimizer = mem_alloc_array(1, sizeof(*optimizer));
    if (!optimizer) FAIL(ERR_MEMORY, "no memory for the optimizer");
    optimizer->config = *config;
    optimizer->total_steps = total_steps;
    optimizer->threads = threads;
    optimizer->elements = elements;
    optimizer->weights = store->weights;
    optimizer->grads = store->grads;
    optimizer->m = mem_alloc_aligned(bytes);
    optimizer->v = mem_alloc_aligned(bytes);
    optimizer->block_sums = mem_alloc_array((size_t)grad_norm_block_count(elements), sizeof(double));
    if (config->ema_decay > 0) optimizer->ema = mem_alloc_aligned(bytes);
    if (elements > 0 &&
        (!optimizer->m || !optimizer->v || !optimizer->block_sums || (config->ema_decay > 0 && !optimizer->ema))) {
        FAIL(ERR_MEMORY,
             "no memory for the optimizer: %.2f GB for %lld trainable elements; optim.ema_decay=0 saves %.2f",
             (double)optimizer_bytes(config, elements) / 1e9, (long long)elements, (double)bytes / 1e9);
    }
    optimizer_restart_ema(optimizer);
    *out = optimizer;
    return STATUS_OK;
fail:
    optimizer_free(optimizer);
    return status;
}

void optimizer_free(Optimizer *optimizer)
{
    if (!optimizer) return;
    mem_free_aligned(optimizer->m);
    mem_free_aligned(optimizer->v);
    mem_free_aligned(optimizer->ema);
    free(optimizer->block_sums);
    free(optimizer);
}

Status optimizer_step(Optimizer *optimizer, int64_t schedule_step, double grad_scale, OptimizerReport *report)
{
    Status status = STATUS_OK;
    const OptimConfig *config = &optimizer->config;
    if (!isfinite(grad_scale) || grad_scale <= 0) FAIL(ERR_INTERNAL, "gradient scale %g", grad_scale);

    ScheduleValues values = schedule_values(config, optimizer->total_steps, schedule_step);
    grad_norm_blocks(optimizer->grads, optimizer->elements, optimizer->threads, optimizer->block_sums);
    double squares = grad_norm_sum(optimizer->block_sums, grad_norm_block_count(optimizer->elements));
    double norm = grad_scale * sqrt(squares);
    *report = (OptimizerReport){.lr = values.lr, .beta1 = values.beta1, .grad_norm = norm, .clip = 1.0};
    if (!isfinite(squares)) {
        optimizer->state.skipped++;
        report->skipped = true;
        report->ema_decay = 1.0;
        return STATUS_OK;
    }

    int64_t t = ++optimizer->state.t;
    report->clip = grad_clip_factor(norm, config->clip_norm);
    report->ema_decay = ema_decay_at(config->ema_decay, config->ema_warmup, t);
    const AdamwStep step = {
        .lr = values.lr,
        .beta1 = values.beta1,
        .beta2 = config->beta2,
        .eps = config->eps,
        .weight_decay = config->weight_decay,
        .grad_scale = grad_scale * report->clip,
        .t = t,
        .ema_decay = report->ema_decay,
    };
    adamw_update(&step, optimizer->elements, optimizer->threads, optimizer->grads, optimizer->weights, optimizer->m,
                 optimizer->v, optimizer->ema);
    return STATUS_OK;
fail:
    return status;
}

int64_t optimizer_elements(const Optimizer *optimizer)
{
    return optimizer->elements;
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

void optimizer_restart_ema(Optimizer *optimizer)
{
    if (!optimizer->ema || optimizer->elements == 0) return;
    memcpy(optimizer->ema, optimizer->weights, (size_t)optimizer->elements * sizeof(float));
}

int64_t optimizer_bytes(const OptimConfig *config, int64_t elements)
{
    int64_t buffers = config->ema_decay > 0 ? 3 : 2;
    return buffers * elements * (int64_t)sizeof(float) + grad_norm_block_count(elements) * (int64_t)sizeof(double);
}
