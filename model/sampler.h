/* Sampling on host arrays, NHWC: a trajectory is a row of network evaluations, and each takes x and the network's
 * output to the x of the next. Noise is an argument, so a trajectory is a function of its inputs.
 *
 *   ddpm   ancestral sampling with the learned variance (Nichol & Dhariwal 2021)
 *   ddim   Song et al. 2020, equation 12, with eta
 *   plms   pseudo linear multistep, fourth order (Liu et al. 2022), its first step taken as improved Euler
 *   dpm++  DPM-Solver++(2M), second order in the log signal-to-noise ratio (Lu et al. 2022, algorithm 2)
 *
 * In every one, before it is used, the predicted picture x0 goes through
 *   - dynamic thresholding (Imagen, Saharia et al. 2022), per picture: with p the given percentile of |x0| and b the
 *     bound, s = max(p, b), x0 = clip(x0, -s, s) b / s;
 *   - restoring: where the mask is 1, x0 is the known latent; after the last evaluation x is it, exactly.
 *
 * SamplerOptions.reference does as the public code does instead: both of the above in ddpm only, with the percentile of
 * the batch's first picture, and once more at 99.5 after restoring; ddim and plms visit timesteps one later, end at
 * alpha_bar of timestep 0, and ddim adds noise after the last step too. It has no dpm++. docs/sampling.md tells more.
 */
#ifndef MODEL_SAMPLER_H
#define MODEL_SAMPLER_H

#include "model/diffusion.h"

typedef enum SamplerKind { SAMPLER_DDPM, SAMPLER_DDIM, SAMPLER_PLMS, SAMPLER_DPMPP, SAMPLER_KINDS } SamplerKind;

typedef struct SamplerOptions {
    SamplerKind kind;
    double eta;             /* ddim: 0 deterministic, 1 as random as ddpm; others take none */
    double threshold;       /* percentile, e.g. 99.5; 0: no thresholding */
    double threshold_bound; /* 1, or autoencoder_latent_bound */
    /* How much of a given picture stays, as the public code counts: of N steps the last (int)(N (1 - strength)) are
     * taken, from the picture with the first one's noise. 0: all of them, from noise. Below 1. */
    double strength;
    bool reference; /* see above */
} SamplerOptions;

typedef struct Sampler Sampler;

/* `steps` in [1, base->steps]; pictures of `positions` (H W) by `channels` (C). Everything is allocated here. */
Status sampler_create(const Diffusion *base, int32_t steps, const SamplerOptions *options, int64_t pictures,
                      int64_t positions, int64_t channels, Sampler **out);
void sampler_free(Sampler *sampler);                    /* NULL is fine */
int32_t sampler_steps(const Sampler *sampler);          /* that are taken, those that strength leaves out not counted */
int32_t sampler_evaluations(const Sampler *sampler);    /* of the network: the steps, and one more with plms */
double sampler_start_alpha_bar(const Sampler *sampler); /* of what the first evaluation is given */
bool sampler_wants_noise(const Sampler *sampler);       /* whether sampler_step reads its noise */

/* Evaluations run from 0 up; `noise` is that of step sampler_step_of(evaluation), which runs from sampler_steps - 1
 * down to 0. */
int32_t sampler_step_of(const Sampler *sampler, int32_t evaluation);
/* What the network is told at an evaluation. */
float sampler_model_timestep(const Sampler *sampler, int32_t evaluation);
/* Known latents (N,HW,C) and mask (HW), 1 = keep, in [0,1]; both are copied. NULL: none. */
void sampler_restore(Sampler *sampler, const float *known, const float *mask);
/* x (N,HW,C) is replaced by what the next evaluation is given, or by the result; out (N,HW,2C): eps, then the variance
 * fraction in [-1,1]; noise (N,HW,C), or NULL where none is wanted. Evaluation 0 forgets the trajectory before.
 * ERR_NUMERIC when x0 is not finite. */
Status sampler_step(Sampler *sampler, int32_t evaluation, float *x, const float *out, const float *noise);

/* Known latents with the noise of the start: x = sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) x, on `count` numbers. */
void sampler_noise_known(const Sampler *sampler, const float *x0, float *x, int64_t count);

/* Classifier-free guidance in place of the conditional half: eps = uncond + scale (cond - uncond); the variance
 * fractions stay those of the conditional half. Both (rows,2C). */
void sampler_guide(float *cond, const float *uncond, int64_t rows, int64_t channels, float scale);
/* Percentile with linear interpolation, as numpy.percentile; reorders `values`. count >= 1. */
float sampler_percentile(float *values, int64_t count, double percentile);
/* The default noise: x_T of picture `picture`, and the noise of its step i. */
void sampler_start_noise(uint64_t seed, uint64_t picture, float *x, int64_t count);
void sampler_step_noise(uint64_t seed, uint64_t picture, int32_t i, float *noise, int64_t count);

/* The mask of the latent from that of the picture, as the public code does it: the nearest pixel, the upper left one of
 * each latent's (index floor(i height / h)); what is not 1 is to be drawn, and spreads to six of its eight neighbours
 * (not the upper right and lower left ones). `pixels` (height,width), `latent` (h,w), `scratch` (h,w). */
void sampler_latent_mask(const float *pixels, int64_t height, int64_t width, int64_t h, int64_t w, float *scratch,
                         float *latent);

#endif
