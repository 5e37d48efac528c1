/* The noise process: betas and what follows from them, in fp64 (Ho et al. 2020; Nichol & Dhariwal 2021). */
#ifndef MODEL_DIFFUSION_H
#define MODEL_DIFFUSION_H

#include "model/model_config.h"

#define DIFFUSION_TABLE_COLUMNS 8

typedef struct Diffusion {
    int32_t steps;                                 /* of this process */
    int32_t original_steps;                        /* of the process it was respaced from; the same when it was not */
    int32_t *timestep;                             /* [steps] index in the original process */
    double *beta;                                  /* each [steps] */
    double *alpha_bar;                             /* running product of 1 - beta */
    double *alpha_bar_prev;                        /* 1 at step 0 */
    double *posterior_mean_x0, *posterior_mean_xt; /* coefficients of the mean of q(x_{t-1} | x_t, x_0) */
    double *posterior_variance;
    double *posterior_log_variance; /* step 0 takes step 1's, for its own variance is 0 */
} Diffusion;

Status diffusion_create(const DiffusionConfig *config, Diffusion **out);
/* The process that visits only `kept` (ascending indices) of `base`, with betas such that alpha_bar agrees there. */
Status diffusion_respace(const Diffusion *base, const int32_t *kept, int32_t count, Diffusion **out);
void diffusion_free(Diffusion *diffusion); /* NULL is fine */

/* Which of `steps` timesteps a sampler of fewer steps visits. `sections` is "100", or counts per equal section such as
 * "10,15,20", or "ddimN" (a stride of steps / N, plus one, as the reference's DDIM). The caller frees *kept. */
Status diffusion_space_timesteps(int32_t steps, const char *sections, int32_t **kept, int32_t *count);

/* The rows that ops read: (steps,8) floats, columns as listed at op_q_sample in engine/ops.h. */
void diffusion_table(const Diffusion *diffusion, float *table);
/* What the network is told for step i: the original index in units of a 1000-step process. */
float diffusion_model_timestep(const Diffusion *diffusion, int32_t i);
/* The training timestep of a sample: uniform on [0, steps), Philox(seed, RANDOM_TIMESTEP, sample index). */
int32_t diffusion_draw_timestep(const Diffusion *diffusion, uint64_t seed, uint64_t sample_index);
/* RESCALED_MSE: the weight of the variational term, steps / 1000. */
float diffusion_vb_weight(const Diffusion *diffusion);

#endif
