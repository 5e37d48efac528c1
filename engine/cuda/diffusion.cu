/* The formulas and their sources stand in engine/ref/diffusion.c.
 *
 * The bound and the angles of timesteps are computed in fp64. The bound is a small difference of larger numbers, the
 * angles are large; and there are so few of them that it costs some microseconds a step. */
#include "engine/cuda/diffusion_kernels.h"
#include "engine/cuda/vector.h"

namespace
{

enum { THREADS = 256 };

/* Columns of the schedule table (engine/ops.h). */
enum { SIGNAL, SIGMA, MEAN_X0, MEAN_XT, LOG_POSTERIOR, LOG_BETA, RECIP, RECIP_M1, COLUMNS };

/* The table's row of a timestep: the nearest, clamped. NaN reads row 0. t + 0.5 could round to the next integer. */
__device__ __forceinline__ int64_t table_row(int64_t steps, float t)
{
    const float below = floorf(t), nearest = t - below >= 0.5f ? below + 1.0f : below, last = (float)(steps - 1);
    if (!(nearest > 0.0f)) return 0;
    return (int64_t)(nearest < last ? nearest : last);
}

__global__ void __launch_bounds__(THREADS)
    timestep_embedding_kernel(const float *t, float *y, int64_t n, int64_t half, double log_period)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n * half) return;
    const int64_t sample = i / half, k = i - sample * half;
    const double angle = (double)t[sample] * exp(-log_period * (double)k / (double)half);
    y[sample * 2 * half + k] = (float)cos(angle);
    y[sample * 2 * half + half + k] = (float)sin(angle);
}

__global__ void __launch_bounds__(THREADS) posterior_sample_kernel(const float *moments, const float *noise, float *y,
                                                                   int64_t positions, int64_t c, float scale)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= positions * c) return;
    const int64_t mean = i + i / c * c;
    float value = moments[mean];
    if (noise) {
        const float log_variance = moments[mean + c];
        /* A NaN stays one. */
        const float clamped = log_variance < -30.0f ? -30.0f : log_variance > 20.0f ? 20.0f : log_variance;
        value += expf(0.5f * clamped) * noise[i];
    }
    y[i] = scale * value;
}

/* A pack of y a thread; samples have whole packs. */
template <int N> __global__ void __launch_bounds__(THREADS) q_sample_kernel(QSampleLaunch l)
{
    const int64_t per_sample = l.elements / N, i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= l.n * per_sample) return;
    const float *row = l.table + table_row(l.steps, l.t[i / per_sample]) * COLUMNS;
    const Pack<float, N> x0 = load_pack<float, N>(l.x0 + i * N), noise = load_pack<float, N>(l.noise + i * N);
    const float signal = row[SIGNAL], sigma = row[SIGMA];
    Pack<float, N> y;
#pragma unroll
    for (int e = 0; e < N; e++) y.at[e] = signal * x0.at[e] + sigma * noise.at[e];
    store_pack<float, N>(l.y + i * N, y);
}

/* An element of y a thread. */
__global__ void __launch_bounds__(THREADS)
    inpaint_input_kernel(const float *x_t, const float *x0, const float *keep, float *y, int64_t positions, int64_t c)
{
    const int64_t width = 2 * c + 1, i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= positions * width) return;
    const int64_t p = i / width, k = i - p * width;
    const float known = keep[p];
    y[i] = k < c ? x_t[p * c + k] : k == 2 * c ? known : known > 0.0f ? x0[p * c + k - c] * known : 0.0f;
}

/* ---- the loss ---- */

/* One element of the variational bound in nats, and its slope by the model's log variance. */
struct Bound {
    double value, slope;
};

/* The standard normal's distribution function in its tanh form, and that form's slope. */
__device__ double normal_cdf(double x, double *density)
{
    const double root_2_over_pi = 0.79788456080286535588, cubic = 0.044715;
    const double t = tanh(root_2_over_pi * (x + cubic * x * x * x));
    *density = 0.5 * (1 - t * t) * root_2_over_pi * (1 + 3 * cubic * x * x);
    return 0.5 * (1 + t);
}

/* -log of the probability that a Gaussian gives to the bin of 1/127.5 around x, the outer bins being open. */
__device__ Bound discretised_nll(double x, double mean, double log_variance)
{
    const double smallest = 1e-12, inverse = exp(-0.5 * log_variance);
    const double upper = inverse * (x - mean + 1.0 / 255), lower = inverse * (x - mean - 1.0 / 255);
    double upper_density, lower_density;
    const double upper_cdf = normal_cdf(upper, &upper_density), lower_cdf = normal_cdf(lower, &lower_density);
    const bool first = x<-0.999, last = x> 0.999 && !first;
    const double p = (last ? 1 : upper_cdf) - (first ? 0 : lower_cdf);
    const double dp = -0.5 * ((last ? 0 : upper * upper_density) - (first ? 0 : lower * lower_density));
    if (p < smallest) return {-log(smallest), 0};
    return {-log(p), -dp / p};
}

/* KL(N(m1, exp(low)) || N(m2, exp(log_variance))) where both means share the term in x_t. */
__device__ Bound gaussian_kl(double difference, double low, double log_variance)
{
    const double ratio = exp(low - log_variance), distance = difference * difference * exp(-log_variance);
    return {0.5 * (-1 + log_variance - low + ratio + distance), 0.5 * (1 - ratio - distance)};
}

/* An element of x0, by its number in its sample; its eps and variance fraction in `out`. */
struct Element {
    int64_t at, eps, fraction;
};

__device__ __forceinline__ Element element_of(const LossLaunch &l, int64_t sample, int64_t e)
{
    const int64_t at = sample * l.elements + e, eps = at + at / l.c * l.c;
    return {at, eps, eps + l.c};
}

/* The fraction v in [-1, 1] places the log variance between the posterior's and log beta; the slope is by v. */
__device__ Bound loss_bound(const LossLaunch &l, int64_t step, Element k)
{
    const float *row = l.table + step * COLUMNS;
    const double low = (double)row[LOG_POSTERIOR], high = (double)row[LOG_BETA];
    const double fraction = 0.5 * ((double)l.out[k.fraction] + 1);
    const double log_variance = fraction * high + (1 - fraction) * low;
    const double x0 = (double)l.x0[k.at], x_t = (double)l.x_t[k.at];
    const double x0_model = (double)row[RECIP] * x_t - (double)row[RECIP_M1] * (double)l.out[k.eps];
    Bound b;
    if (step == 0) {
        b = discretised_nll(x0, (double)row[MEAN_X0] * x0_model + (double)row[MEAN_XT] * x_t, log_variance);
    } else {
        b = gaussian_kl((double)row[MEAN_X0] * (x0 - x0_model), low, log_variance);
    }
    b.slope *= 0.5 * (high - low);
    return b;
}

/* A sample is summed in parts of PART elements, one block each, and then the parts: always in the same order. */
enum { PART = 4 * THREADS };

struct Sums {
    double squares, bound;
};

/* The sum over the warp, the same in every lane. */
__device__ __forceinline__ Sums warp_sums(Sums s)
{
    for (int step = 16; step > 0; step /= 2) {
        s.squares += __shfl_xor_sync(0xffffffffu, s.squares, step);
        s.bound += __shfl_xor_sync(0xffffffffu, s.bound, step);
    }
    return s;
}

/* parts (n,parts_per_sample) */
__global__ void __launch_bounds__(THREADS) loss_parts_kernel(LossLaunch l, int64_t parts_per_sample, Sums *parts)
{
    __shared__ Sums of_warp[THREADS / 32];
    const int64_t sample = blockIdx.x / parts_per_sample, part = blockIdx.x - sample * parts_per_sample;
    const int64_t step = table_row(l.steps, l.t[sample]);
    Sums s = {0, 0};
    for (int i = threadIdx.x; i < PART && part * PART + i < l.elements; i += THREADS) {
        const Element k = element_of(l, sample, part * PART + i);
        const double d = (double)l.out[k.eps] - (double)l.noise[k.at];
        s.squares += d * d;
        s.bound += loss_bound(l, step, k).value;
    }
    s = warp_sums(s);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = s;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int w = 1; w < THREADS / 32; w++) {
        s.squares += of_warp[w].squares;
        s.bound += of_warp[w].bound;
    }
    parts[blockIdx.x] = s;
}

/* A warp a sample. terms (n,2); `bound_share`: of a nat of one element. */
__global__ void loss_terms_kernel(const Sums *parts, int64_t parts_per_sample, double square_share, double bound_share,
                                  float *terms)
{
    Sums s = {0, 0};
    for (int64_t i = threadIdx.x; i < parts_per_sample; i += 32) {
        s.squares += parts[blockIdx.x * parts_per_sample + i].squares;
        s.bound += parts[blockIdx.x * parts_per_sample + i].bound;
    }
    s = warp_sums(s);
    if (threadIdx.x != 0) return;
    terms[2 * (int64_t)blockIdx.x] = (float)(s.squares * square_share);
    terms[2 * (int64_t)blockIdx.x + 1] = (float)(s.bound * bound_share);
}

__global__ void __launch_bounds__(THREADS)
    loss_grad_kernel(LossLaunch l, double square_share, double bound_share, float *dout, bool add)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= l.n * l.elements) return;
    const int64_t sample = i / l.elements;
    const Element k = element_of(l, sample, i - sample * l.elements);
    const double d = (double)l.out[k.eps] - (double)l.noise[k.at];
    put(&dout[k.eps], (float)(2 * d * square_share), add);
    put(&dout[k.fraction], (float)(loss_bound(l, table_row(l.steps, l.t[sample]), k).slope * bound_share), add);
}

constexpr double ln_2 = 0.69314718055994530942;

} // namespace

cudaError_t timestep_embedding_launch(const float *t, float *y, int64_t n, int64_t half, double log_period,
                                      cudaStream_t stream)
{
    LAUNCH(timestep_embedding_kernel, dim3((unsigned)blocks_for(n * half, THREADS)), dim3(THREADS), 0, stream, t, y, n,
           half, log_period);
    return cudaPeekAtLastError();
}

cudaError_t posterior_sample_launch(const float *moments, const float *noise, float *y, int64_t positions, int64_t c,
                                    float scale, cudaStream_t stream)
{
    LAUNCH(posterior_sample_kernel, dim3((unsigned)blocks_for(positions * c, THREADS)), dim3(THREADS), 0, stream,
           moments, noise, y, positions, c, scale);
    return cudaPeekAtLastError();
}

cudaError_t q_sample_launch(const QSampleLaunch *launch, cudaStream_t stream)
{
    const QSampleLaunch l = *launch;
    const int64_t count = l.n * l.elements;
    if (l.elements % 4 == 0 && is_aligned(l.x0, 16) && is_aligned(l.noise, 16) && is_aligned(l.y, 16)) {
        LAUNCH((q_sample_kernel<4>), dim3((unsigned)blocks_for(count / 4, THREADS)), dim3(THREADS), 0, stream, l);
    } else {
        LAUNCH((q_sample_kernel<1>), dim3((unsigned)blocks_for(count, THREADS)), dim3(THREADS), 0, stream, l);
    }
    return cudaPeekAtLastError();
}

cudaError_t inpaint_input_launch(const float *x_t, const float *x0, const float *keep, float *y, int64_t positions,
                                 int64_t c, cudaStream_t stream)
{
    LAUNCH(inpaint_input_kernel, dim3((unsigned)blocks_for(positions * (2 * c + 1), THREADS)), dim3(THREADS), 0, stream,
           x_t, x0, keep, y, positions, c);
    return cudaPeekAtLastError();
}

size_t loss_workspace(int64_t n, int64_t elements)
{
    return (size_t)(n * blocks_for(elements, PART)) * sizeof(Sums);
}

cudaError_t loss_launch(const LossLaunch *launch, float vb_weight, float *terms, void *workspace, cudaStream_t stream)
{
    const LossLaunch l = *launch;
    const int64_t parts_per_sample = blocks_for(l.elements, PART);
    const double square_share = 1 / (double)l.elements, bound_share = square_share * (double)vb_weight / ln_2;
    Sums *parts = (Sums *)workspace;
    LAUNCH(loss_parts_kernel, dim3((unsigned)(l.n * parts_per_sample)), dim3(THREADS), 0, stream, l, parts_per_sample,
           parts);
    LAUNCH(loss_terms_kernel, dim3((unsigned)l.n), dim3(32), 0, stream, parts, parts_per_sample, square_share,
           bound_share, terms);
    return cudaPeekAtLastError();
}

cudaError_t loss_grad_launch(const LossLaunch *launch, float loss_scale, float vb_weight, float *dout, bool add,
                             cudaStream_t stream)
{
    const LossLaunch l = *launch;
    const double square_share = (double)loss_scale / (double)l.elements;
    const double bound_share = square_share * (double)vb_weight / ln_2;
    LAUNCH(loss_grad_kernel, dim3((unsigned)blocks_for(l.n * l.elements, THREADS)), dim3(THREADS), 0, stream, l,
           square_share, bound_share, dout, add);
    return cudaPeekAtLastError();
}
