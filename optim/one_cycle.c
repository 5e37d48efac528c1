#include "optim/one_cycle.h"

#include <math.h>

/* From `start` at pct 0 to `end` at pct 1, along half a cosine. */
static double anneal(double start, double end, double pct)
{
    return end + (start - end) / 2.0 * (cos(3.14159265358979323846 * pct) + 1.0);
}

ScheduleValues schedule_values(const OptimConfig *config, int64_t total_steps, int64_t step)
{
    if (config->schedule == OPTIM_CONSTANT) return (ScheduleValues){config->max_lr, config->beta1};

    if (total_steps < 1) total_steps = 1;
    if (step > total_steps - 1) step = total_steps - 1;
    if (step < 0) step = 0;

    /* The peak need not fall on a whole step; with few steps it may even lie before step 0, as in PyTorch. */
    double peak = config->pct_start * (double)total_steps - 1.0;
    double last = (double)(total_steps - 1);
    double first_lr = config->max_lr / config->div_factor;
    double last_lr = first_lr / config->final_div_factor;
    double k = (double)step;
    ScheduleValues values = {0, config->beta1};
    /* A rising phase of length 0 is a division by zero in PyTorch; here it is the peak itself, and so is a falling
     * phase of length 0. */
    if (k <= peak) {
        double pct = peak > 0 ? k / peak : 1.0;
        values.lr = anneal(first_lr, config->max_lr, pct);
        if (config->cycle_momentum) values.beta1 = anneal(config->max_momentum, config->base_momentum, pct);
    } else {
        double pct = last > peak ? (k - peak) / (last - peak) : 0.0;
        values.lr = anneal(config->max_lr, last_lr, pct);
        if (config->cycle_momentum) values.beta1 = anneal(config->base_momentum, config->max_momentum, pct);
    }
    return values;
}
