/* Learning rate and momentum over the run: PyTorch's torch.optim.lr_scheduler.OneCycleLR with cosine annealing and two
 * phases. Source: L. Smith, N. Topin, "Super-Convergence" (2018), in the form that PyTorch gives it. */
#ifndef OPTIM_ONE_CYCLE_H
#define OPTIM_ONE_CYCLE_H

#include <stdint.h>

#include "optim/optim_config.h"

typedef struct ScheduleValues {
    double lr;
    double beta1;
} ScheduleValues;

/* The values in force for optimizer step number `step` (from 0). Steps at or past total_steps get the last step's
 * values: the trainer ends there. */
ScheduleValues schedule_values(const OptimConfig *config, int64_t total_steps, int64_t step);

#endif
