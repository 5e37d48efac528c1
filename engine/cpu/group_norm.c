/* Group norm over NHWC. A sample is normalised by one thread, which has it in its cache the second time; with fewer
 * samples than that keeps busy, each sample is cut into blocks of rows that all threads share, and the blocks' sums are
 * added in block order. */
#include <math.h>
#include <string.h>

#include "engine/cpu/cpu.h"

typedef struct NormPlan {
    const Cpu *cpu;
    int64_t n, rows, c, groups, width; /* x (n, rows, c), c = groups * width */
    int64_t blocks;                    /* of rows in a sample */
    int64_t slots;                     /* sets of per-channel scratch: one a thread, or one a sample when blocks > 1 */
} NormPlan;

/* Per-channel scratch, `c` floats each. */
typedef struct NormSlot {
    float *mean, *scale, *shift; /* of NormRows */
    float *a, *b;                /* of norm_grad_apply */
    float *first, *second;       /* sums of each block: (blocks, c) */
} NormSlot;

static NormPlan plan_of(const Cpu *cpu, const Tensor *x, const NormAttr *attr)
{
    NormPlan p = {.cpu = cpu, .n = x->shape.dim[0], .c = shape_last(&x->shape), .groups = attr->groups};
    p.rows = shape_rows(&x->shape) / p.n;
    p.width = p.c / p.groups;
    const bool by_sample = cpu->threads == 1 || p.n % cpu->threads == 0 || p.n >= 4 * cpu->threads;
    p.blocks = by_sample || p.rows < 2 * cpu->threads ? 1 : cpu->threads;
    p.slots = p.blocks > 1 ? p.n : cpu->threads;
    return p;
}

static NormSlot slot_carve(const NormPlan *p, Carver *carver)
{
    NormSlot s;
    s.mean = carve_floats(carver, p->c);
    s.scale = carve_floats(carver, p->c);
    s.shift = carve_floats(carver, p->c);
    s.a = carve_floats(carver, p->c);
    s.b = carve_floats(carver, p->c);
    s.first = carve_floats(carver, p->blocks * p->c);
    s.second = carve_floats(carver, p->blocks * p->c);
    return s;
}

static size_t slot_bytes(const NormPlan *p)
{
    Carver carver = {0};
    slot_carve(p, &carver);
    return carver.used;
}

typedef struct NormCall NormCall;

/* Forward and gradient go the same way: sums over blocks of rows, the sample's coefficients from those, then the blocks
 * again. */
typedef struct Direction {
    void (*begin)(const NormCall *k, const NormSlot *s, int64_t n); /* what the sums need to know of sample n */
    void (*sum)(const NormCall *k, const NormSlot *s, int64_t n, int64_t block, int64_t begin, int64_t end);
    void (*finish)(const NormCall *k, const NormSlot *s, int64_t n); /* from its blocks' sums */
    void (*apply)(const NormCall *k, const NormSlot *s, int64_t n, int64_t begin, int64_t end);
} Direction;

struct NormCall {
    const KernelCall *call;
    const Direction *direction;
    NormPlan plan;
    Dtype type;
    Activation act;
    char *slots;
    float *sums; /* backward: (n, 2, c), per sample the sums over positions of g and of g xhat */
    int phase;   /* with blocks > 1: 1 sums, 2 applies */
    /* Operands; NULL where absent. */
    const void *x, *dy, *scale_shift;
    Dtype scale_shift_type;
    const float *gamma, *beta;
    float *stats;
};

static NormSlot slot_of(const NormCall *k, int64_t index)
{
    Carver carver = {.base = k->slots + (size_t)index * slot_bytes(&k->plan)};
    return slot_carve(&k->plan, &carver);
}

static NormCall norm_call(const KernelCall *call, int stats_in)
{
    const Tensor *x = cpu_in(call, 0);
    NormCall k = {.call = call,
                  .plan = plan_of(cpu_of_call(call), x, &call->op->attr.norm),
                  .type = x->dtype,
                  .act = call->op->attr.norm.act,
                  .slots = call->workspace,
                  .x = call->in[0]};
    k.sums = (float *)(void *)(k.slots + (size_t)k.plan.slots * slot_bytes(&k.plan));
    const int gamma_in = stats_in < 0 ? 1 : 2, scale_shift_in = stats_in < 0 ? 3 : 5;
    k.gamma = call->in[gamma_in];
    k.beta = call->in[gamma_in + 1];
    if (stats_in >= 0) {
        k.dy = call->in[1];
        k.stats = call->in[stats_in];
    } else {
        k.stats = call->out[1];
    }
    k.scale_shift = call->in[scale_shift_in];
    if (k.scale_shift) k.scale_shift_type = cpu_in(call, scale_shift_in)->dtype;
    return k;
}

static const void *row_at(const NormCall *k, const void *data, int64_t n, int64_t row)
{
    return cpu_at(data, k->type, (n * k->plan.rows + row) * k->plan.c);
}

static NormRows rows_of(const NormCall *k, const NormSlot *s, int64_t n, int64_t begin, int64_t end)
{
    return (NormRows){.x = row_at(k, k->x, n, begin),
                      .type = k->type,
                      .rows = end - begin,
                      .channels = k->plan.c,
                      .mean = s->mean,
                      .scale = s->scale,
                      .shift = s->shift,
                      .act = k->act};
}

static float factor_of(const NormCall *k, int64_t n, int64_t c)
{
    return k->scale_shift ? 1.0f + cpu_get(k->scale_shift, k->scale_shift_type, n * 2 * k->plan.c + c) : 1.0f;
}

static Status samples_share(void *context, int64_t begin, int64_t end, int32_t thread)
{
    const NormCall *k = context;
    const NormSlot s = slot_of(k, thread);
    for (int64_t n = begin; n < end; n++) {
        k->direction->begin(k, &s, n);
        k->direction->sum(k, &s, n, 0, 0, k->plan.rows);
        k->direction->finish(k, &s, n);
        k->direction->apply(k, &s, n, 0, k->plan.rows);
    }
    return STATUS_OK;
}

static Status blocks_share(void *context, int64_t begin, int64_t end, int32_t thread)
{
    const NormCall *k = context;
    for (int64_t i = begin; i < end; i++) {
        const int64_t n = i / k->plan.blocks, block = i % k->plan.blocks;
        const NormSlot s = slot_of(k, n);
        int64_t first, last;
        cpu_share(k->plan.rows, k->plan.blocks, block, &first, &last);
        if (k->phase == 1) {
            k->direction->sum(k, &s, n, block, first, last);
        } else {
            k->direction->apply(k, &s, n, first, last);
        }
    }
    return STATUS_OK;
}

static Status run_direction(NormCall *k)
{
    Status status = STATUS_OK;
    const NormPlan *p = &k->plan;
    if (p->blocks == 1) return cpu_parallel(p->cpu, p->n, 1, samples_share, k);
    for (int64_t n = 0; n < p->n; n++) {
        const NormSlot s = slot_of(k, n);
        k->direction->begin(k, &s, n);
    }
    k->phase = 1;
    TRY(cpu_parallel(p->cpu, p->n * p->blocks, 1, blocks_share, k));
    for (int64_t n = 0; n < p->n; n++) {
        const NormSlot s = slot_of(k, n);
        k->direction->finish(k, &s, n);
    }
    k->phase = 2;
    TRY(cpu_parallel(p->cpu, p->n * p->blocks, 1, blocks_share, k));
fail:
    return status;
}

/* v = ((x - mean) rstd gamma + beta) (1 + scale) + shift as one multiplication and one addition of x - mean. */
static void set_coefficients(const NormCall *k, const NormSlot *s, int64_t n, int64_t c, float mean, float rstd)
{
    const float factor = factor_of(k, n, c), offset = k->beta[c] * factor;
    s->mean[c] = mean;
    s->scale[c] = rstd * k->gamma[c] * factor;
    s->shift[c] = offset;
    if (k->scale_shift) s->shift[c] += cpu_get(k->scale_shift, k->scale_shift_type, n * 2 * k->plan.c + k->plan.c + c);
}

/* Sums over a block of rows of x - x[first row] and its square: the shift keeps them small whatever the mean. */
static void sum_block(const NormCall *k, const NormSlot *s, int64_t n, int64_t block, int64_t begin, int64_t end)
{
    const int64_t c = k->plan.c;
    float *sum = s->first + block * c, *square = s->second + block * c;
    memset(sum, 0, (size_t)c * sizeof *sum);
    memset(square, 0, (size_t)c * sizeof *square);
    k->plan.cpu->vector->norm_sums(row_at(k, k->x, n, begin), k->type, end - begin, c, s->a, sum, square);
}

static void set_origin(const NormCall *k, const NormSlot *s, int64_t n)
{
    for (int64_t c = 0; c < k->plan.c; c++) s->a[c] = cpu_get(row_at(k, k->x, n, 0), k->type, c);
}

/* Group statistics of sample n from its blocks' sums, and from those the coefficients of each channel. */
static void finish_forward(const NormCall *k, const NormSlot *s, int64_t n)
{
    const NormPlan *p = &k->plan;
    const double rows = (double)p->rows;
    for (int64_t g = 0; g < p->groups; g++) {
        double mean = 0, squares = 0;
        for (int pass = 0; pass < 2; pass++) {
            for (int64_t c = g * p->width; c < (g + 1) * p->width; c++) {
                double sum = 0, square = 0;
                for (int64_t b = 0; b < p->blocks; b++) {
                    sum += (double)s->first[b * p->c + c];
                    square += (double)s->second[b * p->c + c];
                }
                const double channel_mean = (double)s->a[c] + sum / rows;
                if (pass == 0) {
                    mean += channel_mean / (double)p->width;
                } else {
                    squares += square - sum * sum / rows + rows * (channel_mean - mean) * (channel_mean - mean);
                }
            }
        }
        const double variance = squares / (rows * (double)p->width);
        const double rstd = 1 / sqrt((variance > 0   ? variance
                                      : variance < 0 ? 0
                                                     : variance) +
                                     (double)k->call->op->attr.norm.eps);
        if (k->stats) {
            k->stats[(n * p->groups + g) * 2] = (float)mean;
            k->stats[(n * p->groups + g) * 2 + 1] = (float)rstd;
        }
        for (int64_t c = g * p->width; c < (g + 1) * p->width; c++)
            set_coefficients(k, s, n, c, (float)mean, (float)rstd);
    }
}

static void apply_block(const NormCall *k, const NormSlot *s, int64_t n, int64_t begin, int64_t end)
{
    NormRows rows = rows_of(k, s, n, begin, end);
    k->plan.cpu->vector->norm_apply(&rows, cpu_at(k->call->out[0], k->type, (n * k->plan.rows + begin) * k->plan.c));
}

static Status group_norm_prepare(Backend *backend, const Graph *graph, const Op *op, Prepared *out)
{
    const NormPlan p = plan_of(cpu_of(backend), cpu_operand(graph, op->in[0]), &op->attr.norm);
    out->workspace_bytes = (size_t)p.slots * slot_bytes(&p);
    return cpu_prepare_plain(backend, graph, op, out);
}

static Status group_norm_run(const KernelCall *call)
{
    static const Direction forward = {set_origin, sum_block, finish_forward, apply_block};
    NormCall k = norm_call(call, -1);
    k.direction = &forward;
    return run_direction(&k);
}

/* ---- backward ----
 * g = dy act'(v), A = gamma (1 + scale):
 *   dx = rstd (A g - mean(A g) - xhat mean(A g xhat)), means over the group
 *   dgamma = sum (1 + scale) g xhat,  dbeta = sum (1 + scale) g,  dscale = sum g (gamma xhat + beta),  dshift = sum g
 */

static void begin_backward(const NormCall *k, const NormSlot *s, int64_t n)
{
    const NormPlan *p = &k->plan;
    for (int64_t c = 0; c < p->c; c++) {
        const float *stats = k->stats + (n * p->groups + c / p->width) * 2;
        set_coefficients(k, s, n, c, stats[0], stats[1]);
    }
}

static void grad_sum_block(const NormCall *k, const NormSlot *s, int64_t n, int64_t block, int64_t begin, int64_t end)
{
    const int64_t c = k->plan.c;
    float *sum = s->first + block * c, *product = s->second + block * c;
    memset(sum, 0, (size_t)c * sizeof *sum);
    memset(product, 0, (size_t)c * sizeof *product);
    NormRows rows = rows_of(k, s, n, begin, end);
    k->plan.cpu->vector->norm_grad_sums(&rows, row_at(k, k->dy, n, begin), sum, product);
}

/* The blocks' sums become those of the sample, its dscale and dshift, and the coefficients of dx. */
static void finish_backward(const NormCall *k, const NormSlot *s, int64_t n)
{
    const NormPlan *p = &k->plan;
    float *sum = k->sums + n * 2 * p->c, *product = sum + p->c;
    for (int64_t g = 0; g < p->groups; g++) {
        const float rstd = k->stats[(n * p->groups + g) * 2 + 1];
        double mean = 0, mean_xhat = 0;
        for (int64_t c = g * p->width; c < (g + 1) * p->width; c++) {
            double total = 0, total_product = 0;
            for (int64_t b = 0; b < p->blocks; b++) {
                total += (double)s->first[b * p->c + c];
                total_product += (double)s->second[b * p->c + c];
            }
            total_product *= (double)rstd;
            sum[c] = (float)total;
            product[c] = (float)total_product;
            const double gain = (double)k->gamma[c] * (double)factor_of(k, n, c);
            mean += gain * total;
            mean_xhat += gain * total_product;
        }
        const double count = (double)(p->rows * p->width);
        for (int64_t c = g * p->width; c < (g + 1) * p->width; c++) {
            s->a[c] = (float)(mean / count * (double)rstd);
            s->b[c] = (float)(mean_xhat / count * (double)rstd * (double)rstd);
        }
    }
    void *dscale_shift = k->call->out[3];
    if (!dscale_shift) return;
    const Dtype type = cpu_out(k->call, 3)->dtype;
    const bool add = cpu_adds(k->call, 3);
    for (int64_t c = 0; c < p->c; c++) {
        cpu_put(dscale_shift, type, n * 2 * p->c + c, k->gamma[c] * product[c] + k->beta[c] * sum[c], add);
        cpu_put(dscale_shift, type, n * 2 * p->c + p->c + c, sum[c], add);
    }
}

static void grad_apply_block(const NormCall *k, const NormSlot *s, int64_t n, int64_t begin, int64_t end)
{
    if (!k->call->out[0]) return;
    NormRows rows = rows_of(k, s, n, begin, end);
    k->plan.cpu->vector->norm_grad_apply(&rows, row_at(k, k->dy, n, begin), s->a, s->b,
                                         cpu_at(k->call->out[0], k->type, (n * k->plan.rows + begin) * k->plan.c),
                                         cpu_adds(k->call, 0));
}

/* dgamma and dbeta: over the samples in their order. */
static Status parameter_share(void *context, int64_t begin, int64_t end, int32_t thread)
{
    const NormCall *k = context;
    const NormPlan *p = &k->plan;
    float *dgamma = k->call->out[1], *dbeta = k->call->out[2];
    for (int64_t c = begin; c < end; c++) {
        double gamma_sum = 0, beta_sum = 0;
        for (int64_t n = 0; n < p->n; n++) {
            const double factor = (double)factor_of(k, n, c);
            gamma_sum += factor * (double)k->sums[(n * 2 + 1) * p->c + c];
            beta_sum += factor * (double)k->sums[n * 2 * p->c + c];
        }
        if (dgamma) dgamma[c] = (float)gamma_sum + (cpu_adds(k->call, 1) ? dgamma[c] : 0);
        if (dbeta) dbeta[c] = (float)beta_sum + (cpu_adds(k->call, 2) ? dbeta[c] : 0);
    }
    return STATUS_OK;
}

static Status group_norm_grad_prepare(Backend *backend, const Graph *graph, const Op *op, Prepared *out)
{
    const NormPlan p = plan_of(cpu_of(backend), cpu_operand(graph, op->in[0]), &op->attr.norm);
    out->workspace_bytes = (size_t)p.slots * slot_bytes(&p) + (size_t)(p.n * 2 * p.c) * sizeof(float);
    return cpu_prepare_plain(backend, graph, op, out);
}

static Status group_norm_grad_run(const KernelCall *call)
{
    static const Direction backward = {begin_backward, grad_sum_block, finish_backward, grad_apply_block};
    Status status = STATUS_OK;
    NormCall k = norm_call(call, 4);
    k.direction = &backward;
    TRY(run_direction(&k));
    if (call->out[1] || call->out[2]) TRY(cpu_parallel(k.plan.cpu, k.plan.c, 4096, parameter_share, &k));
fail:
    return status;
}

const Kernel cpu_kernel_GROUP_NORM = {.prepare = group_norm_prepare, .run = group_norm_run};
const Kernel cpu_kernel_GROUP_NORM_GRAD = {.prepare = group_norm_grad_prepare, .run = group_norm_grad_run};
