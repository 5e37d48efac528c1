#include "model/diffusion.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"

#define MAX_BETA 0.999 /* of the cosine schedule, Nichol & Dhariwal 2021 */
#define MAX_STEPS 1000000

/* Room for `steps` steps, or NULL. */
static Diffusion *allocate(int32_t steps)
{
    size_t n = (size_t)steps;
    Diffusion *d = mem_alloc_array(1, sizeof *d);
    if (d == NULL) return NULL;
    d->steps = steps;
    double **columns[] = {&d->beta,
                          &d->alpha_bar,
                          &d->alpha_bar_prev,
                          &d->posterior_mean_x0,
                          &d->posterior_mean_xt,
                          &d->posterior_variance,
                          &d->posterior_log_variance};
    d->timestep = mem_alloc_array(n, sizeof *d->timestep);
    bool complete = d->timestep != NULL;
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        *columns[i] = mem_alloc_array(n, sizeof **columns[i]);
        complete &= *columns[i] != NULL;
    }
    if (complete) return d;
    diffusion_free(d);
    return NULL;
}

void diffusion_free(Diffusion *d)
{
    if (d == NULL) return;
    free(d->timestep);
    free(d->beta);
    free(d->alpha_bar);
    free(d->alpha_bar_prev);
    free(d->posterior_mean_x0);
    free(d->posterior_mean_xt);
    free(d->posterior_variance);
    free(d->posterior_log_variance);
    free(d);
}

/* Everything that follows from the betas (Ho et al. 2020, equations 4, 6 and 7). */
static void derive(Diffusion *d)
{
    double product = 1;
    for (int32_t t = 0; t < d->steps; t++) {
        double beta = d->beta[t], alpha = 1 - beta, previous = product;
        product *= alpha;
        d->alpha_bar[t] = product;
        d->alpha_bar_prev[t] = previous;
        d->posterior_variance[t] = beta * (1 - previous) / (1 - product);
        d->posterior_mean_x0[t] = beta * sqrt(previous) / (1 - product);
        d->posterior_mean_xt[t] = (1 - previous) * sqrt(alpha) / (1 - product);
    }
    for (int32_t t = 0; t < d->steps; t++) {
        int32_t from = t == 0 && d->steps > 1 ? 1 : t;
        double variance = d->posterior_variance[from];
        d->posterior_log_variance[t] = log(variance > 0 ? variance : d->beta[t]); /* one step only: beta's own */
    }
}

/* alpha_bar of the cosine schedule at time t in [0,1]. */
static double cosine_alpha_bar(double t)
{
    double c = cos((t + 0.008) / 1.008 * 1.57079632679489661923);
    return c * c;
}

Status diffusion_create(const DiffusionConfig *config, Diffusion **out)
{
    Status status = STATUS_OK;
    Diffusion *d = NULL;
    if (config->steps < 1 || config->steps > MAX_STEPS)
        FAIL(ERR_CONFIG, "diffusion.steps: %lld is not in 1 to %d", (long long)config->steps, MAX_STEPS);
    TRY(diffusion_config_check(config, NULL));
    d = allocate((int32_t)config->steps);
    if (d == NULL) FAIL(ERR_MEMORY, "out of memory for %lld timesteps", (long long)config->steps);
    d->original_steps = d->steps;
    double n = (double)d->steps, start = config->beta_start * 1000 / n, end = config->beta_end * 1000 / n;
    for (int32_t t = 0; t < d->steps; t++) {
        d->timestep[t] = t;
        if (config->schedule == SCHEDULE_LINEAR) {
            d->beta[t] = d->steps == 1 ? start : start + (end - start) * t / (n - 1);
        } else {
            double beta = 1 - cosine_alpha_bar((t + 1) / n) / cosine_alpha_bar(t / n);
            d->beta[t] = beta < MAX_BETA ? beta : MAX_BETA;
        }
    }
    derive(d);
    *out = d;
    return STATUS_OK;
fail:
    diffusion_free(d);
    return status;
}

Status diffusion_respace(const Diffusion *base, const int32_t *kept, int32_t count, Diffusion **out)
{
    Status status = STATUS_OK;
    Diffusion *d = NULL;
    if (count < 1 || count > base->steps)
        FAIL(ERR_USAGE, "%d sampling steps of a process with %d; take 1 to %d", count, base->steps, base->steps);
    d = allocate(count);
    if (d == NULL) FAIL(ERR_MEMORY, "out of memory for %d timesteps", count);
    d->original_steps = base->original_steps;
    double last = 1;
    for (int32_t i = 0; i < count; i++) {
        if (kept[i] < 0 || kept[i] >= base->steps || (i > 0 && kept[i] <= kept[i - 1]))
            FAIL(ERR_INTERNAL, "timesteps to keep must ascend within [0, %d)", base->steps);
        d->timestep[i] = base->timestep[kept[i]];
        d->beta[i] = 1 - base->alpha_bar[kept[i]] / last;
        last = base->alpha_bar[kept[i]];
    }
    derive(d);
    *out = d;
    return STATUS_OK;
fail:
    diffusion_free(d);
    return status;
}

/* Reads "10,15,20" into counts. */
static Status parse_sections(const char *text, int32_t steps, int32_t *counts, int32_t capacity, int32_t *count)
{
    Status status = STATUS_OK;
    const char *at = text;
    *count = 0;
    do {
        char *end = NULL;
        long value = strtol(at, &end, 10);
        if (end == at || (*end != ',' && *end != '\0') || value < 1 || value > steps || *count == capacity)
            FAIL(ERR_USAGE, "timesteps '%s': expected counts from 1 to %d separated by commas, or ddimN", text, steps);
        counts[(*count)++] = (int32_t)value;
        at = end + 1;
        if (*end == '\0') break;
    } while (true);
fail:
    return status;
}

/* Every (steps / n)-th timestep plus one, as the reference's ddim sampler visits them. */
static Status space_ddim(int32_t steps, const char *number, int32_t **kept, int32_t *count)
{
    Status status = STATUS_OK;
    int32_t n = 1, parsed = 0;
    TRY(parse_sections(number, steps, &n, 1, &parsed));
    int32_t stride = steps / n, visited = 0;
    int32_t *list = mem_alloc_array((size_t)steps, sizeof *list);
    if (list == NULL) FAIL(ERR_MEMORY, "out of memory for %d timesteps", steps);
    for (int32_t t = 0; t + 1 < steps; t += stride) list[visited++] = t + 1;
    *kept = list;
    *count = visited;
fail:
    return status;
}

Status diffusion_space_timesteps(int32_t steps, const char *sections, int32_t **kept, int32_t *count)
{
    Status status = STATUS_OK;
    int32_t counts[64], section_count = 0, start = 0, total = 0;
    int32_t *list = NULL;
    if (strncmp(sections, "ddim", 4) == 0) return space_ddim(steps, sections + 4, kept, count);
    TRY(parse_sections(sections, steps, counts, 64, &section_count));
    list = mem_alloc_array((size_t)steps, sizeof *list);
    if (list == NULL) FAIL(ERR_MEMORY, "out of memory for %d timesteps", steps);
    for (int32_t s = 0; s < section_count; s++) {
        int32_t size = steps / section_count + (s < steps % section_count ? 1 : 0);
        if (counts[s] > size)
            FAIL(ERR_USAGE, "timesteps '%s': section %d has %d steps, %d cannot be taken", sections, s, size,
                 counts[s]);
        double stride = counts[s] > 1 ? (double)(size - 1) / (counts[s] - 1) : 1, at = 0;
        for (int32_t i = 0; i < counts[s]; i++, at += stride) list[total++] = start + (int32_t)nearbyint(at);
        start += size;
    }
    *kept = list;
    *count = total;
    return STATUS_OK;
fail:
    free(list);
    return status;
}

void diffusion_table(const Diffusion *d, float *table)
{
    for (int32_t t = 0; t < d->steps; t++) {
        float *row = table + (size_t)t * DIFFUSION_TABLE_COLUMNS;
        row[0] = (float)sqrt(d->alpha_bar[t]);
        row[1] = (float)sqrt(1 - d->alpha_bar[t]);
        row[2] = (float)d->posterior_mean_x0[t];
        row[3] = (float)d->posterior_mean_xt[t];
        row[4] = (float)d->posterior_log_variance[t];
        row[5] = (float)log(d->beta[t]);
        row[6] = (float)sqrt(1 / d->alpha_bar[t]);
        row[7] = (float)sqrt(1 / d->alpha_bar[t] - 1);
    }
}

float diffusion_model_timestep(const Diffusion *d, int32_t i)
{
    return (float)d->timestep[i] * (float)(1000.0 / d->original_steps);
}

int32_t diffusion_draw_timestep(const Diffusion *d, uint64_t seed, uint64_t sample_index)
{
    return (int32_t)random_below(seed, RANDOM_TIMESTEP, sample_index, 0, (uint64_t)d->steps);
}

float diffusion_vb_weight(const Diffusion *d)
{
    return (float)(d->original_steps / 1000.0);
}
