/* The samplers that look back at earlier evaluations: plms and dpm++. */
#include <math.h>
#include <string.h>

#include "model/sampler_inside.h"

/* Picture n's place in the history, `back` outputs before the one that comes now. */
static float *remembered(const Sampler *s, int32_t back, int32_t places, int64_t n)
{
    int64_t place = (s->remembered - back + places) % places;
    return s->history + (place * s->pictures + n) * sampler_picture_count(s);
}

/* Adams-Bashforth of as many orders as there are outputs to look back at (Liu et al. 2022, equation 12): the weights of
 * eps now, one, two and three evaluations ago. */
static const float ADAMS[SAMPLER_HISTORY + 1][SAMPLER_HISTORY + 1] = {
    {1, 0, 0, 0},
    {3.0f / 2, -1.0f / 2, 0, 0},
    {23.0f / 12, -16.0f / 12, 5.0f / 12, 0},
    {55.0f / 24, -59.0f / 24, 37.0f / 24, -9.0f / 24},
};

/* Evaluation 0 goes ahead with its own eps; evaluation 1 looks from there and takes the step again with the mean of
 * both; what is remembered is what the network said, before thresholding. */
Status sampler_plms(Sampler *s, int32_t evaluation, int64_t n, float *x, const float *out)
{
    Status status = STATUS_OK;
    int64_t count = sampler_picture_count(s), channels = s->channels;
    int32_t i = sampler_step_of(s, evaluation);
    float *from = evaluation <= 1 ? s->before + n * count : x; /* where the step begins */
    if (evaluation == 0) memcpy(from, x, (size_t)count * sizeof *x);
    for (int64_t p = 0; p < s->positions; p++)
        memcpy(s->eps + p * channels, out + p * 2 * channels, (size_t)channels * sizeof *out);

    if (evaluation == 1) {
        const float *first = remembered(s, 1, SAMPLER_HISTORY, n);
        for (int64_t k = 0; k < count; k++) s->eps[k] = (first[k] + s->eps[k]) / 2;
    } else {
        int32_t order = s->remembered < SAMPLER_HISTORY ? s->remembered : SAMPLER_HISTORY;
        const float *w = ADAMS[order];
        /* The oldest place is read before this output takes it. */
        float *oldest = remembered(s, 0, SAMPLER_HISTORY, n);
        const float *one = remembered(s, 1, SAMPLER_HISTORY, n), *two = remembered(s, 2, SAMPLER_HISTORY, n);
        for (int64_t k = 0; k < count; k++) {
            float now = s->eps[k], sum = w[0] * now;
            if (order > 0) sum += w[1] * one[k];
            if (order > 1) sum += w[2] * two[k];
            if (order > 2) sum += w[3] * oldest[k];
            oldest[k] = now;
            s->eps[k] = sum;
        }
    }
    TRY(sampler_predict_x0(s, i, n, from, s->eps, channels));
    sampler_toward_x0(s, i, 0, from, x);
fail:
    return status;
}

/* lambda = log(alpha / sigma) of Lu et al., alpha = sqrt(alpha_bar), sigma = sqrt(1 - alpha_bar). */
static double log_snr(double alpha_bar)
{
    return 0.5 * (log(alpha_bar) - log1p(-alpha_bar));
}

/* Lu et al. 2022, algorithm 2, with h = lambda_{t-1} - lambda_t and r = h_before / h:
 *     D = (1 + 1 / (2 r)) x0 - 1 / (2 r) x0_before,
 *     x_{t-1} = sigma_{t-1} / sigma_t x_t - alpha_{t-1} (exp(-h) - 1) D.
 * The first step, and the last, which goes to sigma = 0 where h is infinite, are of first order: D = x0. */
Status sampler_dpmpp(Sampler *s, int32_t i, int64_t n, float *x, const float *out)
{
    Status status = STATUS_OK;
    const Diffusion *d = s->diffusion;
    int64_t count = sampler_picture_count(s);
    float *before = remembered(s, 0, 1, n);
    TRY(sampler_predict_x0(s, i, n, x, out, 2 * s->channels));
    if (i == 0) {
        memcpy(x, s->x0, (size_t)count * sizeof *x);
        return STATUS_OK;
    }
    double bar = d->alpha_bar[i], next = d->alpha_bar_prev[i], h = log_snr(next) - log_snr(bar);
    double back = s->remembered == 0 ? 0 : h / (2 * (log_snr(bar) - log_snr(d->alpha_bar[i + 1]))); /* 1 / (2 r) */
    float of_x = (float)sqrt((1 - next) / (1 - bar)), of_d = (float)(-sqrt(next) * expm1(-h));
    float of_now = (float)(1 + back), of_before = (float)back;
    for (int64_t k = 0; k < count; k++) {
        float now = s->x0[k], mixed = of_now * now - of_before * before[k];
        x[k] = of_x * x[k] + of_d * mixed;
        before[k] = now;
    }
fail:
    return status;
}
