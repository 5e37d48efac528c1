#include "engine/ref/ref.h"

/* x seen as (N, positions, G, C/G). */
typedef struct NormSize {
    int64_t n, positions, c, groups, width;
} NormSize;

static NormSize norm_size(const KernelCall *call, const RefTensor *x)
{
    const int64_t n = x->shape.dim[0], c = shape_last(&x->shape), groups = call->op->attr.norm.groups;
    return (NormSize){n, shape_rows(&x->shape) / n, c, groups, c / groups};
}

static int64_t element(const NormSize *s, int64_t n, int64_t p, int64_t c)
{
    return (n * s->positions + p) * s->c + c;
}

/* Mean and 1/sqrt(variance + eps) of group g of sample n; two passes, biased variance. */
static void group_stats(const NormSize *s, const RefTensor *x, int64_t n, int64_t g, float eps, double *mean,
                        double *rstd)
{
    const double count = (double)(s->positions * s->width);
    double sum = 0, squares = 0;
    for (int64_t p = 0; p < s->positions; p++) {
        for (int64_t j = 0; j < s->width; j++) sum += ref_get(x, element(s, n, p, g * s->width + j));
    }
    *mean = sum / count;
    for (int64_t p = 0; p < s->positions; p++) {
        for (int64_t j = 0; j < s->width; j++) {
            const double d = ref_get(x, element(s, n, p, g * s->width + j)) - *mean;
            squares += d * d;
        }
    }
    *rstd = 1 / sqrt(squares / count + (double)eps);
}

static Status group_norm_run(const KernelCall *call)
{
    const RefTensor x = ref_in(call, 0), gamma = ref_in(call, 1), beta = ref_in(call, 2);
    const RefTensor scale_shift = ref_in_optional(call, 3), y = ref_out(call, 0), stats = ref_out(call, 1);
    const NormSize s = norm_size(call, &x);
    for (int64_t n = 0; n < s.n; n++) {
        for (int64_t g = 0; g < s.groups; g++) {
            double mean, rstd;
            group_stats(&s, &x, n, g, call->op->attr.norm.eps, &mean, &rstd);
            ref_put(&stats, (n * s.groups + g) * 2, mean);
            ref_put(&stats, (n * s.groups + g) * 2 + 1, rstd);
            for (int64_t c = g * s.width; c < (g + 1) * s.width; c++) {
                const double scale = ref_get(&scale_shift, n * 2 * s.c + c);
                const double shift = ref_get(&scale_shift, n * 2 * s.c + s.c + c);
                for (int64_t p = 0; p < s.positions; p++) {
                    const double xhat = (ref_get(&x, element(&s, n, p, c)) - mean) * rstd;
                    const double v = (xhat * ref_get(&gamma, c) + ref_get(&beta, c)) * (1 + scale) + shift;
                    ref_put(&y, element(&s, n, p, c), ref_activate(call->op->attr.norm.act, v));
                }
            }
        }
    }
    return STATUS_OK;
}

typedef struct GradCall {
    NormSize s;
    Activation act;
    RefTensor x, dy, gamma, beta, stats, scale_shift;
} GradCall;

typedef struct GradPoint {
    double xhat, u, dv, du; /* u = xhat gamma + beta; v = u (1 + scale) + shift; y = act(v) */
} GradPoint;

static GradPoint grad_point(const GradCall *k, int64_t n, int64_t p, int64_t c)
{
    const NormSize *s = &k->s;
    const int64_t at = element(s, n, p, c), stat = (n * s->groups + c / s->width) * 2;
    const double scale = ref_get(&k->scale_shift, n * 2 * s->c + c);
    const double shift = ref_get(&k->scale_shift, n * 2 * s->c + s->c + c);
    GradPoint q;
    q.xhat = (ref_get(&k->x, at) - ref_get(&k->stats, stat)) * ref_get(&k->stats, stat + 1);
    q.u = q.xhat * ref_get(&k->gamma, c) + ref_get(&k->beta, c);
    q.dv = ref_get(&k->dy, at) * ref_activate_slope(k->act, q.u * (1 + scale) + shift);
    q.du = q.dv * (1 + scale);
    return q;
}

/* dx = rstd (dxhat - mean(dxhat) - xhat mean(dxhat xhat)), means over the group, dxhat = du gamma */
static void grad_x(const GradCall *k, const RefTensor *dx, int64_t n, int64_t g)
{
    const NormSize *s = &k->s;
    const double rstd = ref_get(&k->stats, (n * s->groups + g) * 2 + 1);
    const double count = (double)(s->positions * s->width);
    double sum = 0, sum_xhat = 0;
    for (int64_t p = 0; p < s->positions; p++) {
        for (int64_t c = g * s->width; c < (g + 1) * s->width; c++) {
            const GradPoint q = grad_point(k, n, p, c);
            sum += q.du * ref_get(&k->gamma, c);
            sum_xhat += q.du * ref_get(&k->gamma, c) * q.xhat;
        }
    }
    for (int64_t p = 0; p < s->positions; p++) {
        for (int64_t c = g * s->width; c < (g + 1) * s->width; c++) {
            const GradPoint q = grad_point(k, n, p, c);
            const double dxhat = q.du * ref_get(&k->gamma, c);
            ref_put(dx, element(s, n, p, c), rstd * (dxhat - sum / count - q.xhat * sum_xhat / count));
        }
    }
}

static Status group_norm_grad_run(const KernelCall *call)
{
    const RefTensor x = ref_in(call, 0);
    const GradCall k = {.s = norm_size(call, &x),
                        .act = call->op->attr.norm.act,
                        .x = x,
                        .dy = ref_in(call, 1),
                        .gamma = ref_in(call, 2),
                        .beta = ref_in(call, 3),
                        .stats = ref_in(call, 4),
                        .scale_shift = ref_in_optional(call, 5)};
    const RefTensor dx = ref_out(call, 0), dgamma = ref_out(call, 1), dbeta = ref_out(call, 2);
    const RefTensor dscale_shift = ref_out(call, 3);
    const NormSize *s = &k.s;
    for (int64_t n = 0; n < s->n && dx.data; n++) {
        for (int64_t g = 0; g < s->groups; g++) grad_x(&k, &dx, n, g);
    }
    for (int64_t c = 0; c < s->c; c++) {
        double gamma_sum = 0, beta_sum = 0;
        for (int64_t n = 0; n < s->n; n++) {
            double scale_sum = 0, shift_sum = 0;
            for (int64_t p = 0; p < s->positions; p++) {
                const GradPoint q = grad_point(&k, n, p, c);
                gamma_sum += q.du * q.xhat;
                beta_sum += q.du;
                scale_sum += q.dv * q.u;
                shift_sum += q.dv;
            }
            ref_put(&dscale_shift, n * 2 * s->c + c, scale_sum);
            ref_put(&dscale_shift, n * 2 * s->c + s->c + c, shift_sum);
        }
        ref_put(&dgamma, c, gamma_sum);
        ref_put(&dbeta, c, beta_sum);
    }
    return STATUS_OK;
}

const Kernel ref_kernel_GROUP_NORM = {.run = group_norm_run};
const Kernel ref_kernel_GROUP_NORM_GRAD = {.run = group_norm_grad_run};
