#include "model/sampler.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/random.h"

Status sampler_create(const Diffusion *base, int32_t steps, const SamplerOptions *options, int64_t pictures,
                      int64_t positions, int64_t channels, Sampler **out)
{
    Status status = STATUS_OK;
    int32_t *kept = NULL, count = 0;
    char sections[32];
    Sampler *sampler = mem_alloc_array(1, sizeof *sampler);
    if (sampler == NULL) return ERR_MEMORY;
    sampler->options = *options;
    sampler->pictures = pictures;
    sampler->positions = positions;
    sampler->channels = channels;
    if (!(options->threshold >= 0 && options->threshold <= 100))
        FAIL(ERR_USAGE, "threshold %g: a percentile from 0 (off) to 100, for example 99.5", options->threshold);
    if (!(options->eta >= 0 && options->eta <= 1)) FAIL(ERR_USAGE, "eta %g: take 0 to 1", options->eta);
    if (!(options->threshold_bound > 0)) FAIL(ERR_INTERNAL, "threshold_bound must be positive");
    if (steps < 1 || steps > base->steps)
        FAIL(ERR_USAGE, "%d sampling steps: the process was trained with %d, take 1 to %d", steps, base->steps,
             base->steps);
    bool shifted = options->reference && options->kind == SAMPLER_DDIM;
    snprintf(sections, sizeof sections, "%s%d", shifted ? "ddim" : "", steps);
    TRY(diffusion_space_timesteps(base->steps, sections, &kept, &count));
    TRY(diffusion_respace(base, kept, count, &sampler->diffusion));
    /* The reference's ddim takes alpha_bar[0] as what precedes its first timestep, not 1. */
    if (shifted) sampler->diffusion->alpha_bar_prev[0] = base->alpha_bar[0];
    sampler->scratch = mem_alloc_array((size_t)(positions * channels), sizeof *sampler->scratch);
    sampler->x0 = mem_alloc_array((size_t)(positions * channels), sizeof *sampler->x0);
    if (sampler->scratch == NULL || sampler->x0 == NULL) FAIL(ERR_MEMORY, "out of memory for a picture");
    free(kept);
    *out = sampler;
    return STATUS_OK;
fail:
    free(kept);
    sampler_free(sampler);
    return status;
}

void sampler_free(Sampler *sampler)
{
    if (sampler == NULL) return;
    diffusion_free(sampler->diffusion);
    free(sampler->scratch);
    free(sampler->x0);
    free(sampler);
}

int32_t sampler_steps(const Sampler *sampler)
{
    return sampler->diffusion->steps;
}

float sampler_model_timestep(const Sampler *sampler, int32_t i)
{
    return diffusion_model_timestep(sampler->diffusion, i);
}

/* Puts the k-th smallest of values at place k, smaller ones before it (Hoare's selection). */
static void select_kth(float *values, int64_t count, int64_t k)
{
    int64_t low = 0, high = count - 1;
    while (low < high) {
        float pivot = values[low + (high - low) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            while (values[i] < pivot) i++;
            while (values[j] > pivot) j--;
            if (i <= j) {
                float swap = values[i];
                values[i++] = values[j];
                values[j--] = swap;
            }
        }
        if (k <= j)
            high = j;
        else if (k >= i)
            low = i;
        else
            return;
    }
}

float sampler_percentile(float *values, int64_t count, double percentile)
{
    double at = percentile / 100 * (double)(count - 1);
    int64_t below = (int64_t)floor(at);
    select_kth(values, count, below);
    float low = values[below];
    if (below + 1 >= count) return low;
    float high = values[below + 1]; /* the smallest of those above */
    for (int64_t i = below + 2; i < count; i++)
        if (values[i] < high) high = values[i];
    return (float)(low + (high - (double)low) * (at - (double)below));
}

/* Clips one picture's x0 to what is usual in it and brings it back within the bound. */
static void threshold_picture(const Sampler *sampler, float *x0, int64_t count)
{
    float bound = (float)sampler->options.threshold_bound;
    for (int64_t i = 0; i < count; i++) sampler->scratch[i] = fabsf(x0[i]);
    float s = sampler_percentile(sampler->scratch, count, sampler->options.threshold);
    if (!(s > bound)) s = bound;
    for (int64_t i = 0; i < count; i++) {
        float clipped = x0[i] < -s ? -s : x0[i] > s ? s : x0[i];
        x0[i] = clipped * (bound / s);
    }
}

/* x0 from eps: x0 = x / sqrt(alpha_bar) - sqrt(1 / alpha_bar - 1) eps; x (HW,C), out (HW,2C), x0 (HW,C). */
static bool predict_x0(const Sampler *sampler, int32_t i, const float *x, const float *out, float *x0)
{
    int64_t channels = sampler->channels;
    double bar = sampler->diffusion->alpha_bar[i];
    float of_x = (float)sqrt(1 / bar), of_eps = (float)sqrt(1 / bar - 1);
    bool finite = true;
    for (int64_t p = 0; p < sampler->positions; p++)
        for (int64_t c = 0; c < channels; c++) {
            float value = of_x * x[p * channels + c] - of_eps * out[p * 2 * channels + c];
            x0[p * channels + c] = value;
            finite &= isfinite(value) != 0;
        }
    return finite;
}

/* x_{t-1} = posterior mean(x0, x_t) + exp(log_variance / 2) noise; the log variance lies between the posterior's and
 * beta's, at the fraction (v + 1) / 2 that the network gives. No noise at step 0. */
static void ddpm_picture(const Sampler *sampler, int32_t i, float *x, const float *x0, const float *out,
                         const float *noise)
{
    const Diffusion *d = sampler->diffusion;
    int64_t channels = sampler->channels;
    float of_x0 = (float)d->posterior_mean_x0[i], of_xt = (float)d->posterior_mean_xt[i];
    float low = (float)d->posterior_log_variance[i], high = (float)log(d->beta[i]);
    for (int64_t p = 0; p < sampler->positions; p++)
        for (int64_t c = 0; c < channels; c++) {
            int64_t k = p * channels + c;
            float fraction = (out[p * 2 * channels + channels + c] + 1) / 2;
            float log_variance = fraction * high + (1 - fraction) * low;
            float mean = of_x0 * x0[k] + of_xt * x[k];
            x[k] = i == 0 ? mean : mean + expf(0.5f * log_variance) * noise[k];
        }
}

/* Song et al. 2020, equation 12, with eps derived again from the (thresholded) x0. */
static void ddim_picture(const Sampler *sampler, int32_t i, float *x, const float *x0, const float *noise)
{
    const Diffusion *d = sampler->diffusion;
    double bar = d->alpha_bar[i], previous = d->alpha_bar_prev[i];
    double sigma = sampler->options.eta * sqrt((1 - previous) / (1 - bar)) * sqrt(1 - bar / previous);
    float of_x = (float)sqrt(1 / bar), of_eps = (float)sqrt(1 / bar - 1);
    float toward_x0 = (float)sqrt(previous), toward_eps = (float)sqrt(fmax(1 - previous - sigma * sigma, 0));
    float amount = i == 0 && !sampler->options.reference ? 0 : (float)sigma;
    for (int64_t k = 0; k < sampler->positions * sampler->channels; k++) {
        float eps = (of_x * x[k] - x0[k]) / of_eps;
        x[k] = x0[k] * toward_x0 + toward_eps * eps + amount * noise[k];
    }
}

Status sampler_step(Sampler *sampler, int32_t i, float *x, const float *out, const float *noise)
{
    Status status = STATUS_OK;
    int64_t count = sampler->positions * sampler->channels;
    bool ddim = sampler->options.kind == SAMPLER_DDIM;
    bool threshold = sampler->options.threshold > 0 && !(ddim && sampler->options.reference);
    for (int64_t n = 0; n < sampler->pictures; n++) {
        float *picture = x + n * count;
        const float *picture_out = out + n * 2 * count;
        if (!predict_x0(sampler, i, picture, picture_out, sampler->x0))
            FAIL(ERR_NUMERIC, "picture %lld is not finite at sampling step %d; is the checkpoint sound?", (long long)n,
                 i);
        if (threshold) threshold_picture(sampler, sampler->x0, count);
        if (ddim)
            ddim_picture(sampler, i, picture, sampler->x0, noise + n * count);
        else
            ddpm_picture(sampler, i, picture, sampler->x0, picture_out, noise + n * count);
    }
fail:
    return status;
}

void sampler_guide(float *cond, const float *uncond, int64_t rows, int64_t channels, float scale)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < channels; c++) {
            int64_t k = r * 2 * channels + c;
            cond[k] = uncond[k] + scale * (cond[k] - uncond[k]);
        }
}

void sampler_start_noise(uint64_t seed, uint64_t picture, float *x, int64_t count)
{
    random_normal(seed, RANDOM_SAMPLE_START, picture, 0, x, (size_t)count);
}

void sampler_step_noise(uint64_t seed, uint64_t picture, int32_t i, float *noise, int64_t count)
{
    /* A picture has 1024 indices; steps beyond them take later elements of the same ones. */
    uint64_t padded = ((uint64_t)count + 3) / 4 * 4, first = (uint64_t)i / 1024 * padded;
    random_normal(seed, RANDOM_SAMPLE_STEP, picture * 1024 + (uint64_t)i % 1024, first, noise, (size_t)count);
}
