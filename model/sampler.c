#include "model/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "model/sampler_inside.h"

/* Fixed in the public code's ancestral sampler, whatever percentile is asked for. */
static const double reference_percentile = 99.5;

static Status check_options(const Diffusion *base, int32_t steps, const SamplerOptions *o)
{
    Status status = STATUS_OK;
    static const char *const names[] = {"ddpm", "ddim", "plms", "dpm++"};
    if (!(o->threshold >= 0 && o->threshold <= 100))
        FAIL(ERR_USAGE, "threshold %g: a percentile from 0 (off) to 100, for example 99.5", o->threshold);
    if (!(o->eta >= 0 && o->eta <= 1)) FAIL(ERR_USAGE, "eta %g: take 0 to 1", o->eta);
    if (o->eta != 0 && o->kind != SAMPLER_DDIM)
        FAIL(ERR_USAGE, "eta %g: %s takes no eta, only ddim does; leave it 0", o->eta, names[o->kind]);
    if (!(o->threshold_bound > 0)) FAIL(ERR_INTERNAL, "threshold_bound must be positive");
    if (steps < 1 || steps > base->steps)
        FAIL(ERR_USAGE, "%d sampling steps: the process was trained with %d, take 1 to %d", steps, base->steps,
             base->steps);
    if (o->reference && o->kind == SAMPLER_DPMPP)
        FAIL(ERR_USAGE, "dpm++ is not among the public code's samplers; take ddpm, ddim or plms with compat reference");
fail:
    return status;
}

static Status allocate_buffers(Sampler *s)
{
    Status status = STATUS_OK;
    size_t picture = 0, all = 0, histories = s->options.kind == SAMPLER_PLMS ? SAMPLER_HISTORY : 1;
    if (!mem_mul_size((size_t)s->positions, (size_t)s->channels, &picture) ||
        !mem_mul_size(picture, (size_t)s->pictures, &all))
        FAIL(ERR_LIMIT, "latents of %lld x %lld are too large", (long long)s->positions, (long long)s->channels);
    s->x0 = mem_alloc_array(picture, sizeof *s->x0);
    s->eps = mem_alloc_array(picture, sizeof *s->eps);
    s->scratch = mem_alloc_array(picture, sizeof *s->scratch);
    s->known = mem_alloc_array(all, sizeof *s->known);
    s->mask = mem_alloc_array((size_t)s->positions, sizeof *s->mask);
    s->history = mem_alloc_array(all, histories * sizeof *s->history);
    s->before = mem_alloc_array(all, sizeof *s->before);
    if (s->x0 == NULL || s->eps == NULL || s->scratch == NULL || s->known == NULL || s->mask == NULL ||
        s->history == NULL || s->before == NULL)
        FAIL(ERR_MEMORY, "out of memory for the latents of %lld pictures", (long long)s->pictures);
fail:
    return status;
}

Status sampler_create(const Diffusion *base, int32_t steps, const SamplerOptions *options, int64_t pictures,
                      int64_t positions, int64_t channels, Sampler **out)
{
    Status status = STATUS_OK;
    int32_t *kept = NULL, count = 0;
    Sampler *s = mem_alloc_array(1, sizeof *s);
    if (s == NULL) return ERR_MEMORY;
    s->options = *options;
    if (options->reference) s->options.threshold_bound = 1;
    s->pictures = pictures;
    s->positions = positions;
    s->channels = channels;
    TRY(check_options(base, steps, options));
    TRY(sampler_choose_timesteps(base, steps, options, &kept, &count, &s->start_alpha_bar));
    TRY(diffusion_respace(base, kept, count, &s->diffusion));
    /* The public ddim and plms take alpha_bar[0] as what precedes their first timestep, not 1. */
    if (options->reference && options->kind != SAMPLER_DDPM) s->diffusion->alpha_bar_prev[0] = base->alpha_bar[0];
    TRY(allocate_buffers(s));
    free(kept);
    *out = s;
    return STATUS_OK;
fail:
    free(kept);
    sampler_free(s);
    return status;
}

void sampler_free(Sampler *s)
{
    if (s == NULL) return;
    diffusion_free(s->diffusion);
    free(s->x0);
    free(s->eps);
    free(s->scratch);
    free(s->known);
    free(s->mask);
    free(s->history);
    free(s->before);
    free(s);
}

int32_t sampler_steps(const Sampler *s)
{
    return s->diffusion->steps;
}

int32_t sampler_evaluations(const Sampler *s)
{
    return s->diffusion->steps + (s->options.kind == SAMPLER_PLMS ? 1 : 0);
}

double sampler_start_alpha_bar(const Sampler *s)
{
    return s->start_alpha_bar;
}

bool sampler_wants_noise(const Sampler *s)
{
    return s->options.kind == SAMPLER_DDPM || (s->options.kind == SAMPLER_DDIM && s->options.eta > 0);
}

int32_t sampler_step_of(const Sampler *s, int32_t evaluation)
{
    bool second = s->options.kind == SAMPLER_PLMS && evaluation > 0; /* of the first step's two */
    return s->diffusion->steps - 1 - evaluation + (second ? 1 : 0);
}

float sampler_model_timestep(const Sampler *s, int32_t evaluation)
{
    int32_t i = sampler_step_of(s, evaluation);
    /* The first step's second evaluation looks ahead to the next timestep, where there is one. */
    if (s->options.kind == SAMPLER_PLMS && evaluation == 1 && i > 0) i--;
    return diffusion_model_timestep(s->diffusion, i);
}

void sampler_restore(Sampler *s, const float *known, const float *mask)
{
    s->restoring = known != NULL && mask != NULL;
    if (!s->restoring) return;
    memcpy(s->known, known, (size_t)(s->pictures * sampler_picture_count(s)) * sizeof *known);
    memcpy(s->mask, mask, (size_t)s->positions * sizeof *mask);
}

void sampler_noise_known(const Sampler *s, const float *x0, float *x, int64_t count)
{
    float of_x0 = (float)sqrt(s->start_alpha_bar), of_noise = (float)sqrt(1 - s->start_alpha_bar);
    for (int64_t k = 0; k < count; k++) x[k] = of_x0 * x0[k] + of_noise * x[k];
}

/* What x0 is clipped to: the percentile of its magnitudes, at least the bound. */
static float spread_of(Sampler *s, const float *x0, double percentile)
{
    int64_t count = sampler_picture_count(s);
    float bound = (float)s->options.threshold_bound;
    for (int64_t k = 0; k < count; k++) s->scratch[k] = fabsf(x0[k]);
    float spread = sampler_percentile(s->scratch, count, percentile);
    return spread > bound ? spread : bound;
}

/* Clips one picture's x0 to what is usual in it and brings it back within the bound. `pass`: the first or the second
 * time in this step. */
static void threshold_picture(Sampler *s, int64_t n, double percentile, int pass)
{
    float bound = (float)s->options.threshold_bound, spread;
    if (s->options.reference) { /* the first picture's serves the whole batch */
        if (n == 0) s->first_spread[pass] = spread_of(s, s->x0, percentile);
        spread = s->first_spread[pass];
    } else {
        spread = spread_of(s, s->x0, percentile);
    }
    float back = bound / spread;
    for (int64_t k = 0; k < sampler_picture_count(s); k++) {
        float clipped = s->x0[k] < -spread ? -spread : s->x0[k] > spread ? spread : s->x0[k];
        s->x0[k] = clipped * back;
    }
}

/* Where the mask is 1: exactly the known latent. */
static void restore_picture(const Sampler *s, int64_t n, float *x0)
{
    const float *known = s->known + n * sampler_picture_count(s);
    for (int64_t p = 0; p < s->positions; p++) {
        float keep = s->mask[p];
        if (keep == 0) continue;
        for (int64_t c = 0; c < s->channels; c++) {
            int64_t k = p * s->channels + c;
            x0[k] = keep == 1 ? known[k] : x0[k] * (1 - keep) + known[k] * keep;
        }
    }
}

/* x0 = x / sqrt(alpha_bar) - sqrt(1 / alpha_bar - 1) eps, then what is done to x0. */
Status sampler_predict_x0(Sampler *s, int32_t i, int64_t n, const float *x, const float *eps, int64_t pitch)
{
    Status status = STATUS_OK;
    double bar = s->diffusion->alpha_bar[i];
    float of_x = (float)sqrt(1 / bar), of_eps = (float)sqrt(1 / bar - 1);
    bool finite = true, reference = s->options.reference;
    for (int64_t p = 0; p < s->positions; p++)
        for (int64_t c = 0; c < s->channels; c++) {
            float value = of_x * x[p * s->channels + c] - of_eps * eps[p * pitch + c];
            s->x0[p * s->channels + c] = value;
            finite &= isfinite(value) != 0;
        }
    if (!finite)
        FAIL(ERR_NUMERIC, "picture %lld is not finite at sampling step %d; is the checkpoint sound?", (long long)n, i);
    if (reference && s->options.kind != SAMPLER_DDPM) return STATUS_OK;
    /* The public code's own percentile is asked for only together with a mask. */
    if (s->options.threshold > 0 && (!reference || s->restoring)) threshold_picture(s, n, s->options.threshold, 0);
    if (s->restoring) restore_picture(s, n, s->x0);
    if (reference) threshold_picture(s, n, reference_percentile, 1);
fail:
    return status;
}

Status sampler_step(Sampler *s, int32_t evaluation, float *x, const float *out, const float *noise)
{
    Status status = STATUS_OK;
    int64_t count = sampler_picture_count(s);
    int32_t i = sampler_step_of(s, evaluation);
    if (evaluation == 0) s->remembered = 0;
    for (int64_t n = 0; n < s->pictures; n++) {
        float *picture = x + n * count;
        const float *picture_out = out + n * 2 * count, *picture_noise = noise == NULL ? NULL : noise + n * count;
        switch (s->options.kind) {
        case SAMPLER_DDPM:
            TRY(sampler_ddpm(s, i, n, picture, picture_out, picture_noise));
            break;
        case SAMPLER_DDIM:
            TRY(sampler_ddim(s, i, n, picture, picture_out, picture_noise));
            break;
        case SAMPLER_PLMS:
            TRY(sampler_plms(s, evaluation, n, picture, picture_out));
            break;
        case SAMPLER_DPMPP:
            TRY(sampler_dpmpp(s, i, n, picture, picture_out));
            break;
        case SAMPLER_KINDS:
            FAIL(ERR_INTERNAL, "no sampler");
        }
        bool last = evaluation + 1 == sampler_evaluations(s);
        if (last && s->restoring && !s->options.reference) restore_picture(s, n, picture);
    }
    /* The first of plms's first two outputs is remembered, not the second. */
    if (s->options.kind != SAMPLER_PLMS || evaluation != 1) s->remembered++;
fail:
    return status;
}
