/* What the files of the samplers share; model/sampler.h is what others use. */
#ifndef MODEL_SAMPLER_INSIDE_H
#define MODEL_SAMPLER_INSIDE_H

#include "model/sampler.h"

#define SAMPLER_HISTORY 3 /* outputs of earlier evaluations that plms looks at; dpm++ looks at one */

struct Sampler {
    Diffusion *diffusion; /* of the steps that are taken */
    SamplerOptions options;
    int64_t pictures, positions, channels; /* N, H W, C */
    double start_alpha_bar;
    float *x0, *eps, *scratch; /* one picture each, (HW,C) */
    float *before;             /* plms: (N,HW,C), the x of its first step */
    float *history;            /* plms: eps, dpm++: x0; (SAMPLER_HISTORY or 1,N,HW,C) */
    int32_t remembered;        /* outputs put into the history so far */
    float *known, *mask;       /* (N,HW,C), (HW) */
    bool restoring;
    float first_spread[2]; /* reference: what the batch's first picture was clipped to */
};

static inline int64_t sampler_picture_count(const Sampler *sampler)
{
    return sampler->positions * sampler->channels;
}

/* Which timesteps of `base` are visited, ascending, strength considered, and the start's alpha_bar. The caller frees
 * *kept. */
Status sampler_choose_timesteps(const Diffusion *base, int32_t steps, const SamplerOptions *options, int32_t **kept,
                                int32_t *count, double *start_alpha_bar);

/* x0 of picture n from its eps (HW rows, `pitch` apart), thresholded and restored, into sampler->x0. */
Status sampler_predict_x0(Sampler *sampler, int32_t i, int64_t n, const float *x, const float *eps, int64_t pitch);

/* One picture's step i; x (HW,C), out (HW,2C), noise (HW,C). */
Status sampler_ddpm(Sampler *sampler, int32_t i, int64_t n, float *x, const float *out, const float *noise);
Status sampler_ddim(Sampler *sampler, int32_t i, int64_t n, float *x, const float *out, const float *noise);
Status sampler_plms(Sampler *sampler, int32_t evaluation, int64_t n, float *x, const float *out);
Status sampler_dpmpp(Sampler *sampler, int32_t i, int64_t n, float *x, const float *out);
/* From sampler->x0 (thresholded, so eps is derived again) to the x of the step before, without noise but with room for
 * `sigma` of it. */
void sampler_toward_x0(const Sampler *sampler, int32_t i, double sigma, const float *x, float *next);

#endif
