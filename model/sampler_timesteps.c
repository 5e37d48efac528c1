/* Which timesteps a sampler visits. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "model/sampler_inside.h"

/* Far above what rounding takes from count (1 - strength), far below what anybody's decimals say. */
#define ROUNDING 1e-9

/* (T - 1) (k / (N - 1))^2, rounded to whole timesteps and pushed apart where several would fall on one: the quadratic
 * spacing of Song et al. 2020. With dpm++ it follows exact trajectories of toy distributions, guided or not, more
 * closely than spacings even in time, even in the log signal-to-noise ratio, or after Karras et al. 2022 do
 * (docs/sampling.md). */
static Status space_quadratic(int32_t base, int32_t steps, int32_t **kept)
{
    Status status = STATUS_OK;
    int32_t *list = mem_alloc_array((size_t)steps, sizeof *list);
    if (list == NULL) FAIL(ERR_MEMORY, "out of memory for %d timesteps", steps);
    for (int32_t k = 0; k < steps; k++) {
        double part = steps > 1 ? (double)k / (steps - 1) : 1;
        int32_t t = (int32_t)nearbyint((base - 1) * part * part);
        list[k] = k > 0 && t <= list[k - 1] ? list[k - 1] + 1 : t;
    }
    for (int32_t k = steps; k-- > 0;) { /* pushed beyond the end: back again */
        int32_t highest = base - (steps - k);
        if (list[k] > highest) list[k] = highest;
    }
    *kept = list;
fail:
    return status;
}

/* How many of `count` steps strength leaves, or all of them: (int)(count (1 - strength)), for `reference` to the bit as
 * the public code computes it. Ours takes decimals at their word: 10 (1 - 0.9) is 1 and not 0.9999999999999998. */
static Status steps_of_strength(int32_t count, double strength, bool reference, int32_t *out)
{
    Status status = STATUS_OK;
    if (!(strength >= 0 && strength < 1))
        FAIL(ERR_USAGE,
             "strength %g: how much of the picture stays, more than 0 and less than 1; 0.7 keeps 70%% and redraws from "
             "30%% of the noise",
             strength);
    *out = strength == 0 ? count : (int32_t)(count * (1 - strength) + (reference ? 0 : ROUNDING));
fail:
    return status;
}

static Status no_step_left(int32_t steps, double strength)
{
    Status status;
    FAIL(ERR_USAGE, "strength %g leaves none of %d steps to take; take more steps or less strength", strength, steps);
fail:
    return status;
}

Status sampler_choose_timesteps(const Diffusion *base, int32_t steps, const SamplerOptions *o, int32_t **kept,
                                int32_t *count, double *start_alpha_bar)
{
    Status status = STATUS_OK;
    char sections[32];
    int32_t *list = NULL, visited = steps, start;
    bool shifted = o->reference && o->kind != SAMPLER_DDPM;
    if (o->kind == SAMPLER_DPMPP) {
        TRY(space_quadratic(base->steps, steps, &list));
    } else {
        snprintf(sections, sizeof sections, "%s%d", shifted ? "ddim" : "", steps);
        TRY(diffusion_space_timesteps(base->steps, sections, &list, &visited));
    }
    TRY(steps_of_strength(shifted ? base->steps : visited, o->strength, o->reference, &start));
    if (shifted && o->strength > 0) {
        /* The public ddim and plms count strength in timesteps of the full process, noise the picture to the one before
         * and begin with the next one that they visit. */
        while (visited > 0 && list[visited - 1] > start) visited--;
        if (visited == 0 || start == 0) FAIL_WITH(no_step_left(steps, o->strength));
        *start_alpha_bar = base->alpha_bar[start - 1];
    } else {
        if (start < visited) visited = start;
        if (visited == 0) FAIL_WITH(no_step_left(steps, o->strength));
        *start_alpha_bar = base->alpha_bar[list[visited - 1]];
    }
    *kept = list;
    *count = visited;
    return STATUS_OK;
fail:
    free(list);
    return status;
}
