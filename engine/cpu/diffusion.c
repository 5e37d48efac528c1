/* Noise, diffusion and the hybrid loss: a sample at a time, samples shared out between the threads. The formulas and
 * their sources stand with the constructors (engine/ops.h) and in engine/ref/diffusion.c. */
#include <math.h>

#include "engine/cpu/cpu.h"

/* Columns of the schedule table (engine/ops.h). */
enum { SIGNAL, SIGMA, MEAN_X0, MEAN_XT, LOG_POSTERIOR, LOG_BETA, RECIP, RECIP_M1, COLUMNS };

typedef struct Samples {
    const KernelCall *call;
    int64_t elements; /* of x0 in a sample */
    int64_t c;
} Samples;

static Status by_sample(const KernelCall *call, const Shape *shape,
                        Status (*body)(void *context, int64_t begin, int64_t end, int32_t thread))
{
    const int64_t n = shape->dim[0];
    Samples s = {call, shape_count(shape) / n, shape_last(shape)};
    return cpu_parallel(cpu_of_call(call), n, 2, body, &s);
}

/* The table's row of a timestep: the nearest, clamped. NaN reads row 0. */
static int64_t table_row(const Tensor *table, float t)
{
    const float last = (float)(table->shape.dim[0] - 1), nearest = floorf(t + 0.5f);
    if (!(nearest > 0)) return 0;
    return (int64_t)(nearest < last ? nearest : last);
}

static Status noise_share(void *context, int64_t begin, int64_t end, int32_t thread)
{
    const Samples *s = context;
    const DiffusionAttr *attr = &s->call->op->attr.diffusion;
    const int32_t *index = s->call->in[0];
    float *y = s->call->out[0];
    for (int64_t n = begin; n < end; n++) {
        const uint64_t low = (uint32_t)index[2 * n], high = (uint32_t)index[2 * n + 1];
        random_normal(attr->seed, attr->purpose, high << 32 | low, 0, y + n * s->elements, (size_t)s->elements);
    }
    return STATUS_OK;
}

static Status noise_run(const KernelCall *call)
{
    return by_sample(call, &cpu_out(call, 0)->shape, noise_share);
}

/* A NaN stays one, so that whoever looks for it finds it. */
static float clamp(float x, float low, float high)
{
    return x < low ? low : x > high ? high : x;
}

/* Positions [begin, end) of all samples. */
static Status posterior_share(void *context, int64_t begin, int64_t end, int32_t thread)
{
    const KernelCall *call = context;
    const int64_t c = shape_last(&cpu_out(call, 0)->shape);
    const float *moments = call->in[0], *noise = call->in[1], scale = call->op->attr.diffusion.latent_scale;
    float *y = call->out[0];
    for (int64_t p = begin; p < end; p++) {
        const float *mean = moments + p * 2 * c, *log_variance = mean + c;
        for (int64_t i = 0; i < c; i++) {
            float value = mean[i];
            if (noise) value += expf(0.5f * clamp(log_variance[i], -30, 20)) * noise[p * c + i];
            y[p * c + i] = scale * value;
        }
    }
    return STATUS_OK;
}

static Status posterior_sample_run(const KernelCall *call)
{
    const Shape *shape = &cpu_out(call, 0)->shape;
    KernelCall copy = *call;
    return cpu_parallel(cpu_of_call(call), shape_rows(shape), CPU_GRAIN / (8 * shape_last(shape)) + 2, posterior_share,
                        &copy);
}

static Status q_sample_share(void *context, int64_t begin, int64_t end, int32_t thread)
{
    const Samples *s = context;
    const KernelCall *call = s->call;
    const float *x0 = call->in[0], *noise = call->in[1], *t = call->in[2], *table = call->in[3];
    float *y = call->out[0];
    for (int64_t n = begin; n < end; n++) {
        const float *row = table + table_row(cpu_in(call, 3), t[n]) * COLUMNS;
        const float signal = row[SIGNAL], sigma = row[SIGMA];
        for (int64_t e = n * s->elements; e < (n + 1) * s->elements; e++) y[e] = signal * x0[e] + sigma * noise[e];
    }
    return STATUS_OK;
}

static Status q_sample_run(const KernelCall *call)
{
    return by_sample(call, &cpu_in(call, 0)->shape, q_sample_share);
}

/* Positions [begin, end) of all samples: [x_t | x0 keep | keep]. */
static Status inpaint_input_share(void *context, int64_t begin, int64_t end, int32_t thread)
{
    const KernelCall *call = context;
    const int64_t c = shape_last(&cpu_in(call, 0)->shape);
    const float *x_t = call->in[0], *x0 = call->in[1], *keep = call->in[2];
    float *y = call->out[0];
    for (int64_t p = begin; p < end; p++) {
        float *row = y + p * (2 * c + 1);
        for (int64_t i = 0; i < c; i++) {
            row[i] = x_t[p * c + i];
            row[c + i] = keep[p] > 0 ? x0[p * c + i] * keep[p] : 0;
        }
        row[2 * c] = keep[p];
    }
    return STATUS_OK;
}

static Status inpaint_input_run(const KernelCall *call)
{
    const Shape *shape = &cpu_in(call, 0)->shape;
    KernelCall copy = *call;
    return cpu_parallel(cpu_of_call(call), shape_rows(shape), CPU_GRAIN / (2 * shape_last(shape)) + 2,
                        inpaint_input_share, &copy);
}

/* One element of the variational bound in nats, and its slope by the model's log variance. */
typedef struct Bound {
    double value, slope;
} Bound;

/* The standard normal's distribution function in its tanh form, and that form's slope. */
static double normal_cdf(double x, double *density)
{
    const double root_2_over_pi = 0.79788456080286535588, cubic = 0.044715;
    const double t = tanh(root_2_over_pi * (x + cubic * x * x * x));
    *density = 0.5 * (1 - t * t) * root_2_over_pi * (1 + 3 * cubic * x * x);
    return 0.5 * (1 + t);
}

/* -log of the probability that a Gaussian gives to the bin of 1/127.5 around x, the outer bins being open. */
static Bound discretised_nll(double x, double mean, double log_variance)
{
    const double smallest = 1e-12, inverse = exp(-0.5 * log_variance);
    const double upper = inverse * (x - mean + 1.0 / 255), lower = inverse * (x - mean - 1.0 / 255);
    double upper_density, lower_density;
    const double upper_cdf = normal_cdf(upper, &upper_density), lower_cdf = normal_cdf(lower, &lower_density);
    const bool first = x<-0.999, last = x> 0.999;
    const double p = (last ? 1 : upper_cdf) - (first ? 0 : lower_cdf);
    const double dp = -0.5 * ((last ? 0 : upper * upper_density) - (first ? 0 : lower * lower_density));
    return p < smallest ? (Bound){-log(smallest), 0} : (Bound){-log(p), -dp / p};
}

/* What the loss of one sample reads. */
typedef struct LossSample {
    const void *out;
    Dtype out_type;
    const float *x0, *x_t, *noise, *row;
    int64_t c, first; /* channels; index of the sample's first element in x0 */
    bool at_zero;     /* t = 0 */
    double low, high; /* log variances */
} LossSample;

static LossSample loss_sample(const Samples *s, int64_t n)
{
    const KernelCall *call = s->call;
    const int64_t step = table_row(cpu_in(call, 5), ((const float *)call->in[4])[n]);
    LossSample k = {.out = call->in[0],
                    .out_type = cpu_in(call, 0)->dtype,
                    .x0 = call->in[1],
                    .x_t = call->in[2],
                    .noise = call->in[3],
                    .row = (const float *)call->in[5] + step * COLUMNS,
                    .c = s->c,
                    .first = n * s->elements,
                    .at_zero = step == 0};
    k.low = (double)k.row[LOG_POSTERIOR];
    k.high = (double)k.row[LOG_BETA];
    return k;
}

/* Where element e of x0 has its eps in `out`; its variance fraction is c further on. */
static int64_t out_index(const LossSample *k, int64_t e)
{
    return e / k->c * 2 * k->c + e % k->c;
}

/* The bound of element e; the slope is by the variance fraction v. KL(N(m1, exp(low)) || N(m2, exp(log_variance))) for
 * t > 0, where both means share the term in x_t. */
static Bound loss_bound(const LossSample *k, int64_t e)
{
    const int64_t at = out_index(k, e);
    const double eps = (double)cpu_get(k->out, k->out_type, at);
    const double fraction = 0.5 * ((double)cpu_get(k->out, k->out_type, at + k->c) + 1);
    const double log_variance = fraction * k->high + (1 - fraction) * k->low;
    const double x_t = (double)k->x_t[e], x0 = (double)k->x0[e];
    const double x0_model = (double)k->row[RECIP] * x_t - (double)k->row[RECIP_M1] * eps;
    Bound b;
    if (k->at_zero) {
        const double mean = (double)k->row[MEAN_X0] * x0_model + (double)k->row[MEAN_XT] * x_t;
        b = discretised_nll(x0, mean, log_variance);
    } else {
        const double difference = (double)k->row[MEAN_X0] * (x0 - x0_model);
        const double ratio = exp(k->low - log_variance), distance = difference * difference * exp(-log_variance);
        b = (Bound){0.5 * (-1 + log_variance - k->low + ratio + distance), 0.5 * (1 - ratio - distance)};
    }
    b.slope *= 0.5 * (k->high - k->low);
    return b;
}

static const double ln_2 = 0.69314718055994530942;

static Status loss_share(void *context, int64_t begin, int64_t end, int32_t thread)
{
    const Samples *s = context;
    float *terms = s->call->out[0];
    const double elements = (double)s->elements;
    for (int64_t n = begin; n < end; n++) {
        const LossSample k = loss_sample(s, n);
        double mse = 0, bound = 0;
        for (int64_t e = k.first; e < k.first + s->elements; e++) {
            const double d = (double)cpu_get(k.out, k.out_type, out_index(&k, e)) - (double)k.noise[e];
            mse += d * d;
            bound += loss_bound(&k, e).value;
        }
        terms[2 * n] = (float)(mse / elements);
        terms[2 * n + 1] = (float)((double)s->call->op->attr.diffusion.vb_weight * bound / elements / ln_2);
    }
    return STATUS_OK;
}

static Status diffusion_loss_run(const KernelCall *call)
{
    return by_sample(call, &cpu_in(call, 1)->shape, loss_share);
}

static Status loss_grad_share(void *context, int64_t begin, int64_t end, int32_t thread)
{
    const Samples *s = context;
    const DiffusionAttr *attr = &s->call->op->attr.diffusion;
    const Dtype type = cpu_out(s->call, 0)->dtype;
    const bool add = cpu_adds(s->call, 0);
    const double share = (double)attr->loss_scale / (double)s->elements;
    const double bound_share = share * (double)attr->vb_weight / ln_2;
    for (int64_t n = begin; n < end; n++) {
        const LossSample k = loss_sample(s, n);
        for (int64_t e = k.first; e < k.first + s->elements; e++) {
            const int64_t at = out_index(&k, e);
            const double d = (double)cpu_get(k.out, k.out_type, at) - (double)k.noise[e];
            cpu_put(s->call->out[0], type, at, (float)(2 * d * share), add);
            cpu_put(s->call->out[0], type, at + k.c, (float)(loss_bound(&k, e).slope * bound_share), add);
        }
    }
    return STATUS_OK;
}

static Status diffusion_loss_grad_run(const KernelCall *call)
{
    return by_sample(call, &cpu_in(call, 1)->shape, loss_grad_share);
}

const Kernel cpu_kernel_NOISE = {.prepare = cpu_prepare_plain, .run = noise_run};
const Kernel cpu_kernel_POSTERIOR_SAMPLE = {.prepare = cpu_prepare_plain, .run = posterior_sample_run};
const Kernel cpu_kernel_Q_SAMPLE = {.prepare = cpu_prepare_plain, .run = q_sample_run};
const Kernel cpu_kernel_INPAINT_INPUT = {.prepare = cpu_prepare_plain, .run = inpaint_input_run};
const Kernel cpu_kernel_DIFFUSION_LOSS = {.prepare = cpu_prepare_plain, .run = diffusion_loss_run};
const Kernel cpu_kernel_DIFFUSION_LOSS_GRAD = {.prepare = cpu_prepare_plain, .run = diffusion_loss_grad_run};
