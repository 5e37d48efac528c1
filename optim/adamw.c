#include "optim/adamw.h"

#include <math.h>
#include <stddef.h>

/* The scalars of one update, in the precision of the buffers. */
typedef struct Scalars {
    float grad_scale, keep, one_minus_beta1, beta2, one_minus_beta2, inv_root_bc2, eps, step_size, one_minus_ema;
} Scalars;

typedef void (*UpdateFn)(const Scalars *, int64_t, const float *, float *, float *, float *, float *);

/* Elements [0, count) of the given pointers. The file is compiled without contraction of a*b+c, so that each
 * instruction set gives the same bits. */
static inline __attribute__((always_inline)) void update_range(const Scalars *s, int64_t count,
                                                               const float *restrict grads, float *restrict weights,
                                                               float *restrict m, float *restrict v,
                                                               float *restrict ema)
{
    const Scalars c = *s;
#define ADAMW_ELEMENT(i)                                            \
    float g = grads[i] * c.grad_scale;                              \
    float p = weights[i] * c.keep;                                  \
    float mi = m[i] + c.one_minus_beta1 * (g - m[i]);               \
    float vi = v[i] * c.beta2 + c.one_minus_beta2 * g * g;          \
    p -= c.step_size * (mi / (sqrtf(vi) * c.inv_root_bc2 + c.eps)); \
    m[i] = mi;                                                      \
    v[i] = vi;                                                      \
    weights[i] = p
    if (ema) {
        for (int64_t i = 0; i < count; i++) {
            ADAMW_ELEMENT(i);
            ema[i] += c.one_minus_ema * (p - ema[i]);
        }
    } else {
        for (int64_t i = 0; i < count; i++) {
            ADAMW_ELEMENT(i);
        }
    }
#undef ADAMW_ELEMENT
}

static void update_baseline(const Scalars *s, int64_t count, const float *grads, float *weights, float *m, float *v,
                            float *ema)
{
    update_range(s, count, grads, weights, m, v, ema);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static void update_avx2(const Scalars *s, int64_t count, const float *grads,
                                                        float *weights, float *m, float *v, float *ema)
{
    update_range(s, count, grads, weights, m, v, ema);
}

__attribute__((target("avx512f"))) static void update_avx512(const Scalars *s, int64_t count, const float *grads,
                                                             float *weights, float *m, float *v, float *ema)
{
    update_range(s, count, grads, weights, m, v, ema);
}
#endif

/* Chosen by hand: compiler-made dispatch (target_clones) resolves before ThreadSanitizer has started, and crashes. */
static UpdateFn update_choose(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f")) return update_avx512;
    if (__builtin_cpu_supports("avx2")) return update_avx2;
#endif
    return update_baseline;
}

/* Work is dealt in pieces of whole cache lines. */
#define PIECE 16384

void adamw_values(const AdamwStep *step, UpdateValues *out)
{
    double bc1 = 1.0 - pow(step->beta1, (double)step->t);
    double bc2 = 1.0 - pow(step->beta2, (double)step->t);
    *out = (UpdateValues){
        .grad_scale = step->grad_scale,
        .clip_norm = step->clip_norm,
        .norm_limit = step->norm_limit,
        .one_minus_beta1 = (float)(1.0 - step->beta1),
        .beta2 = (float)step->beta2,
        .one_minus_beta2 = (float)(1.0 - step->beta2),
        .inv_root_bc2 = (float)(1.0 / sqrt(bc2)),
        .eps = (float)step->eps,
        .one_minus_ema = (float)(1.0 - step->ema_decay),
    };
    for (int32_t g = 0; g < step->group_count; g++) {
        const double lr = step->lr * step->groups[g].lr, decay = step->weight_decay * step->groups[g].weight_decay;
        out->group[g] = (UpdateGroup){
            .keep = (float)(1.0 - lr * decay), .step_size = (float)(lr / bc1), .held = step->groups[g].lr == 0};
    }
}

void adamw_update(const UpdateValues *values, int32_t group, double clip, int64_t count, int threads,
                  const float *grads, float *weights, float *m, float *v, float *ema)
{
    const Scalars scalars = {
        .grad_scale = (float)(values->grad_scale * clip),
        .keep = values->group[group].keep,
        .one_minus_beta1 = values->one_minus_beta1,
        .beta2 = values->beta2,
        .one_minus_beta2 = values->one_minus_beta2,
        .inv_root_bc2 = values->inv_root_bc2,
        .eps = values->eps,
        .step_size = values->group[group].step_size,
        .one_minus_ema = values->one_minus_ema,
    };
    UpdateFn update = update_choose();
    int64_t pieces = count / PIECE + (count % PIECE != 0);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t k = 0; k < pieces; k++) {
        int64_t start = k * PIECE;
        int64_t length = count - start < PIECE ? count - start : PIECE;
        update(&scalars, length, grads + start, weights + start, m + start, v + start, ema ? ema + start : NULL);
    }
}

void adamw_average(const UpdateValues *values, int64_t count, int threads, const float *weights, float *ema)
{
    const float one_minus_ema = values->one_minus_ema;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i = 0; i < count; i++) ema[i] += one_minus_ema * (weights[i] - ema[i]);
}
