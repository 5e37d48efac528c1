#include "engine/ref/ref.h"

/* Columns of the schedule table (engine/ops.h). */
enum {
    COLUMN_SIGNAL,
    COLUMN_NOISE,
    COLUMN_MEAN_X0,
    COLUMN_MEAN_XT,
    COLUMN_LOG_POSTERIOR,
    COLUMN_LOG_BETA,
    COLUMN_RECIP,
    COLUMN_RECIP_M1,
    COLUMNS
};

/* [cos(t f_k) | sin(t f_k)], f_k = max_period^(-k / (C/2)) */
static Status timestep_embedding_run(const KernelCall *call)
{
    const RefTensor t = ref_in(call, 0), y = ref_out(call, 0);
    const int64_t n = y.shape.dim[0], channels = y.shape.dim[1], half = channels / 2;
    const double log_period = log((double)call->op->attr.diffusion.max_period);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t k = 0; k < half; k++) {
            const double angle = ref_get(&t, i) * exp(-log_period * (double)k / (double)half);
            ref_put(&y, i * channels + k, cos(angle));
            ref_put(&y, i * channels + half + k, sin(angle));
        }
    }
    return STATUS_OK;
}

static Status noise_run(const KernelCall *call)
{
    const RefTensor index = ref_in(call, 0), y = ref_out(call, 0);
    const DiffusionAttr *attr = &call->op->attr.diffusion;
    const int64_t n = index.shape.dim[0], elements = shape_count(&y.shape) / n;
    for (int64_t i = 0; i < n; i++) {
        const uint64_t low = (uint32_t)ref_get_int(&index, 2 * i), high = (uint32_t)ref_get_int(&index, 2 * i + 1);
        random_normal(attr->seed, attr->purpose, high << 32 | low, 0, (float *)y.data + i * elements, (size_t)elements);
    }
    return STATUS_OK;
}

static Status posterior_sample_run(const KernelCall *call)
{
    const RefTensor moments = ref_in(call, 0), noise = ref_in_optional(call, 1), y = ref_out(call, 0);
    const int64_t c = shape_last(&y.shape), positions = shape_rows(&y.shape);
    for (int64_t p = 0; p < positions; p++) {
        for (int64_t i = 0; i < c; i++) {
            const double mean = ref_get(&moments, p * 2 * c + i);
            double log_variance = ref_get(&moments, p * 2 * c + c + i);
            log_variance = log_variance < -30 ? -30 : log_variance > 20 ? 20 : log_variance; /* a NaN stays one */
            const double spread = noise.data ? exp(0.5 * log_variance) * ref_get(&noise, p * c + i) : 0;
            ref_put(&y, p * c + i, (double)call->op->attr.diffusion.latent_scale * (mean + spread));
        }
    }
    return STATUS_OK;
}

/* The table's row of a timestep: the nearest, clamped. NaN reads row 0. */
static int64_t table_row(const RefTensor *table, double t)
{
    const double last = (double)(table->shape.dim[0] - 1), nearest = floor(t + 0.5);
    if (!(nearest > 0)) return 0;
    return (int64_t)(nearest < last ? nearest : last);
}

static Status q_sample_run(const KernelCall *call)
{
    const RefTensor x0 = ref_in(call, 0), noise = ref_in(call, 1), t = ref_in(call, 2), table = ref_in(call, 3);
    const RefTensor y = ref_out(call, 0);
    const int64_t n = x0.shape.dim[0], elements = shape_count(&x0.shape) / n;
    for (int64_t i = 0; i < n; i++) {
        const int64_t row = table_row(&table, ref_get(&t, i)) * COLUMNS;
        const double signal = ref_get(&table, row + COLUMN_SIGNAL), sigma = ref_get(&table, row + COLUMN_NOISE);
        for (int64_t e = i * elements; e < (i + 1) * elements; e++) {
            ref_put(&y, e, signal * ref_get(&x0, e) + sigma * ref_get(&noise, e));
        }
    }
    return STATUS_OK;
}

/* [x_t | x0 keep | keep] */
static Status inpaint_input_run(const KernelCall *call)
{
    const RefTensor x_t = ref_in(call, 0), x0 = ref_in(call, 1), keep = ref_in(call, 2), y = ref_out(call, 0);
    const int64_t c = shape_last(&x_t.shape), positions = shape_rows(&x_t.shape);
    for (int64_t p = 0; p < positions; p++) {
        const double known = ref_get(&keep, p);
        for (int64_t i = 0; i < c; i++) {
            ref_put(&y, p * (2 * c + 1) + i, ref_get(&x_t, p * c + i));
            ref_put(&y, p * (2 * c + 1) + c + i, known > 0 ? ref_get(&x0, p * c + i) * known : 0);
        }
        ref_put(&y, p * (2 * c + 1) + 2 * c, known);
    }
    return STATUS_OK;
}

/* One element of the variational bound in nats, and its slope by the model's log variance. */
typedef struct Bound {
    double value, slope;
} Bound;

/* KL(N(mean1, exp(log1)) || N(mean2, exp(log2))) */
static Bound gaussian_kl(double mean1, double log1, double mean2, double log2)
{
    const double ratio = exp(log1 - log2), distance = (mean1 - mean2) * (mean1 - mean2) * exp(-log2);
    return (Bound){0.5 * (-1 + log2 - log1 + ratio + distance), 0.5 * (1 - ratio - distance)};
}

/* The standard normal's distribution function in its tanh form, and its density as the slope of that form
 * (Page 1977; as guided diffusion has it). */
static double normal_cdf(double x, double *density)
{
    const double root_2_over_pi = 0.79788456080286535588, cubic = 0.044715;
    const double t = tanh(root_2_over_pi * (x + cubic * x * x * x));
    *density = 0.5 * (1 - t * t) * root_2_over_pi * (1 + 3 * cubic * x * x);
    return 0.5 * (1 + t);
}

/* -log of the probability that a Gaussian gives to the bin of 1/127.5 around x, the outer bins being open:
 * Ho et al. 2020, eq. 13. */
static Bound discretised_nll(double x, double mean, double log_variance)
{
    const double smallest = 1e-12, inverse = exp(-0.5 * log_variance);
    const double plus = inverse * (x - mean + 1.0 / 255), minus = inverse * (x - mean - 1.0 / 255);
    double plus_density, minus_density;
    const double plus_cdf = normal_cdf(plus, &plus_density), minus_cdf = normal_cdf(minus, &minus_density);
    /* d plus / d log_variance = -plus / 2, likewise minus */
    double p, dp;
    if (x < -0.999) {
        p = plus_cdf, dp = -0.5 * plus * plus_density;
    } else if (x > 0.999) {
        p = 1 - minus_cdf, dp = 0.5 * minus * minus_density;
    } else {
        p = plus_cdf - minus_cdf, dp = -0.5 * (plus * plus_density - minus * minus_density);
    }
    if (p < smallest) return (Bound){-log(smallest), 0};
    return (Bound){-log(p), -dp / p};
}

typedef struct LossCall {
    RefTensor out, x0, x_t, noise, t, table;
    int64_t n, positions, c;
} LossCall;

static LossCall loss_call(const KernelCall *call)
{
    LossCall l = {
        ref_in(call, 0), ref_in(call, 1), ref_in(call, 2), ref_in(call, 3), ref_in(call, 4), ref_in(call, 5), 0, 0, 0};
    l.n = l.x0.shape.dim[0];
    l.positions = l.x0.shape.dim[1] * l.x0.shape.dim[2];
    l.c = l.x0.shape.dim[3];
    return l;
}

/* Element (p, c) of sample n. The fraction v in [-1, 1] places the log variance between the posterior's and log beta
 * (Nichol & Dhariwal 2021, eq. 15); slope is by v. The mean comes from eps, x0 unclipped. */
static Bound loss_bound(const LossCall *l, int64_t n, int64_t p, int64_t c)
{
    const int64_t step = table_row(&l->table, ref_get(&l->t, n)), row = step * COLUMNS;
    const int64_t at = (n * l->positions + p) * l->c + c, out_at = (n * l->positions + p) * 2 * l->c + c;
    const double x0 = ref_get(&l->x0, at), x_t = ref_get(&l->x_t, at);
    const double eps = ref_get(&l->out, out_at), fraction = 0.5 * (ref_get(&l->out, out_at + l->c) + 1);
    const double low = ref_get(&l->table, row + COLUMN_LOG_POSTERIOR), high = ref_get(&l->table, row + COLUMN_LOG_BETA);
    const double log_variance = fraction * high + (1 - fraction) * low;
    const double x0_model =
        ref_get(&l->table, row + COLUMN_RECIP) * x_t - ref_get(&l->table, row + COLUMN_RECIP_M1) * eps;
    const double from_x0 = ref_get(&l->table, row + COLUMN_MEAN_X0), from_xt = ref_get(&l->table, row + COLUMN_MEAN_XT);
    const double mean = from_x0 * x0_model + from_xt * x_t;
    Bound b = step == 0 ? discretised_nll(x0, mean, log_variance)
                        : gaussian_kl(from_x0 * x0 + from_xt * x_t, low, mean, log_variance);
    b.slope *= 0.5 * (high - low);
    return b;
}

static const double ln_2 = 0.69314718055994530942;

static Status diffusion_loss_run(const KernelCall *call)
{
    const LossCall l = loss_call(call);
    const RefTensor terms = ref_out(call, 0);
    const double elements = (double)(l.positions * l.c);
    for (int64_t n = 0; n < l.n; n++) {
        double mse = 0, bound = 0;
        for (int64_t p = 0; p < l.positions; p++) {
            for (int64_t c = 0; c < l.c; c++) {
                const int64_t row = n * l.positions + p;
                const double d = ref_get(&l.out, row * 2 * l.c + c) - ref_get(&l.noise, row * l.c + c);
                mse += d * d;
                bound += loss_bound(&l, n, p, c).value;
            }
        }
        ref_put(&terms, 2 * n, mse / elements);
        ref_put(&terms, 2 * n + 1, (double)call->op->attr.diffusion.vb_weight * bound / elements / ln_2);
    }
    return STATUS_OK;
}

static Status diffusion_loss_grad_run(const KernelCall *call)
{
    const LossCall l = loss_call(call);
    const RefTensor dout = ref_out(call, 0);
    const double share = (double)call->op->attr.diffusion.loss_scale / (double)(l.positions * l.c);
    const double bound_share = share * (double)call->op->attr.diffusion.vb_weight / ln_2;
    for (int64_t n = 0; n < l.n; n++) {
        for (int64_t p = 0; p < l.positions; p++) {
            for (int64_t c = 0; c < l.c; c++) {
                const int64_t row = n * l.positions + p;
                const double d = ref_get(&l.out, row * 2 * l.c + c) - ref_get(&l.noise, row * l.c + c);
                ref_put(&dout, row * 2 * l.c + c, 2 * d * share);
                ref_put(&dout, row * 2 * l.c + l.c + c, loss_bound(&l, n, p, c).slope * bound_share);
            }
        }
    }
    return STATUS_OK;
}

const Kernel ref_kernel_TIMESTEP_EMBEDDING = {.run = timestep_embedding_run};
const Kernel ref_kernel_NOISE = {.run = noise_run};
const Kernel ref_kernel_POSTERIOR_SAMPLE = {.run = posterior_sample_run};
const Kernel ref_kernel_Q_SAMPLE = {.run = q_sample_run};
const Kernel ref_kernel_INPAINT_INPUT = {.run = inpaint_input_run};
const Kernel ref_kernel_DIFFUSION_LOSS = {.run = diffusion_loss_run};
const Kernel ref_kernel_DIFFUSION_LOSS_GRAD = {.run = diffusion_loss_grad_run};
