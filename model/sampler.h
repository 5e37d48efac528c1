/* Sampling steps on host arrays, NHWC: x_t and the network's output in, x_{t-1} out. Noise is an argument, so a
 * trajectory is a function of its inputs.
 *
 *   ddpm  ancestral sampling with the learned variance (Nichol & Dhariwal 2021)
 *   ddim  Song et al. 2020, equation 12, with eta
 *
 * Dynamic thresholding (Imagen, Saharia et al. 2022) is applied in both, per picture: with p the given percentile of
 * |x0| and b the bound, s = max(p, b), x0 = clip(x0, -s, s) b / s. The reference takes the percentile of a batch's
 * first picture for all of it; it thresholds only in its ddpm sampler; and its ddim sampler visits timesteps one
 * later and adds noise after the last step too: SamplerOptions.reference reproduces these. */
#ifndef MODEL_SAMPLER_H
#define MODEL_SAMPLER_H

#include "model/diffusion.h"

typedef enum SamplerKind { SAMPLER_DDPM, SAMPLER_DDIM } SamplerKind;

typedef struct SamplerOptions {
    SamplerKind kind;
    double eta;             /* ddim: 0 deterministic, 1 as random as ddpm */
    double threshold;       /* percentile, e.g. 99.5; 0: no thresholding */
    double threshold_bound; /* 1, or autoencoder_latent_bound */
    bool reference;         /* as the public code does, see above */
} SamplerOptions;

typedef struct Sampler {
    Diffusion *diffusion; /* respaced to the steps that are visited */
    SamplerOptions options;
    float *x0, *scratch;                   /* one picture each */
    int64_t pictures, positions, channels; /* N, H W, C */
} Sampler;

/* `steps` in [1, base->steps]; pictures of `positions` (H W) by `channels` (C). */
Status sampler_create(const Diffusion *base, int32_t steps, const SamplerOptions *options, int64_t pictures,
                      int64_t positions, int64_t channels, Sampler **out);
void sampler_free(Sampler *sampler); /* NULL is fine */
int32_t sampler_steps(const Sampler *sampler);
/* What the network is told at step i; steps run from sampler_steps - 1 down to 0. */
float sampler_model_timestep(const Sampler *sampler, int32_t i);
/* x (N,HW,C) is replaced by the next; out (N,HW,2C): eps, then the variance fraction in [-1,1]; noise (N,HW,C).
 * ERR_NUMERIC when x0 is not finite. */
Status sampler_step(Sampler *sampler, int32_t i, float *x, const float *out, const float *noise);

/* Classifier-free guidance in place of the conditional half: eps = uncond + scale (cond - uncond); the variance
 * fractions stay those of the conditional half. Both (rows,2C). */
void sampler_guide(float *cond, const float *uncond, int64_t rows, int64_t channels, float scale);
/* Percentile with linear interpolation, as numpy.percentile; reorders `values`. count >= 1. */
float sampler_percentile(float *values, int64_t count, double percentile);
/* The default noise: x_T of picture `picture`, and the noise of its step i. */
void sampler_start_noise(uint64_t seed, uint64_t picture, float *x, int64_t count);
void sampler_step_noise(uint64_t seed, uint64_t picture, int32_t i, float *noise, int64_t count);

#endif
