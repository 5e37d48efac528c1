/* The samplers that look at one evaluation: ddpm and ddim. */
#include <math.h>

#include "model/sampler_inside.h"

/* x_{t-1} = posterior mean(x0, x_t) + exp(log_variance / 2) noise; the log variance lies between the posterior's and
 * beta's, at the fraction (v + 1) / 2 that the network gives. No noise at step 0. */
Status sampler_ddpm(Sampler *s, int32_t i, int64_t n, float *x, const float *out, const float *noise)
{
    Status status = STATUS_OK;
    const Diffusion *d = s->diffusion;
    int64_t channels = s->channels;
    float of_x0 = (float)d->posterior_mean_x0[i], of_xt = (float)d->posterior_mean_xt[i];
    float low = (float)d->posterior_log_variance[i], high = (float)log(d->beta[i]);
    TRY(sampler_predict_x0(s, i, n, x, out, 2 * channels));
    for (int64_t p = 0; p < s->positions; p++)
        for (int64_t c = 0; c < channels; c++) {
            int64_t k = p * channels + c;
            float fraction = (out[p * 2 * channels + channels + c] + 1) / 2;
            float log_variance = fraction * high + (1 - fraction) * low;
            float mean = of_x0 * s->x0[k] + of_xt * x[k];
            x[k] = i == 0 ? mean : mean + expf(0.5f * log_variance) * noise[k];
        }
fail:
    return status;
}

/* Song et al. 2020, equation 12, with eps derived again from the (thresholded) x0. */
void sampler_toward_x0(const Sampler *s, int32_t i, double sigma, const float *x, float *next)
{
    double bar = s->diffusion->alpha_bar[i], previous = s->diffusion->alpha_bar_prev[i];
    float of_x = (float)sqrt(1 / bar), of_eps = (float)sqrt(1 / bar - 1);
    float toward_x0 = (float)sqrt(previous), toward_eps = (float)sqrt(fmax(1 - previous - sigma * sigma, 0));
    for (int64_t k = 0; k < sampler_picture_count(s); k++) {
        float eps = (of_x * x[k] - s->x0[k]) / of_eps;
        next[k] = s->x0[k] * toward_x0 + toward_eps * eps;
    }
}

Status sampler_ddim(Sampler *s, int32_t i, int64_t n, float *x, const float *out, const float *noise)
{
    Status status = STATUS_OK;
    double bar = s->diffusion->alpha_bar[i], previous = s->diffusion->alpha_bar_prev[i];
    double sigma = s->options.eta * sqrt((1 - previous) / (1 - bar)) * sqrt(1 - bar / previous);
    bool noisy = sigma > 0 && (i > 0 || s->options.reference);
    TRY(sampler_predict_x0(s, i, n, x, out, 2 * s->channels));
    sampler_toward_x0(s, i, sigma, x, x);
    if (noisy)
        for (int64_t k = 0; k < sampler_picture_count(s); k++) x[k] += (float)sigma * noise[k];
fail:
    return status;
}
