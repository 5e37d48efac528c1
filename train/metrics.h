/* What a step was like, and metrics.jsonl: one object a step, in order, no step twice even after a resume. */
#ifndef TRAIN_METRICS_H
#define TRAIN_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"
#include "train/data_metrics.h"

typedef struct StepMetrics {
    int64_t step;         /* steps done, this one included: the first is 1 */
    int64_t total_steps;  /* of the whole run */
    bool last;            /* none follows in this process, or in this stage; not written */
    int64_t samples;      /* samples seen since the start of the run, by all ranks */
    double loss, mse, vb; /* means over the global batch; loss = mse + vb */
    double lr, beta1;
    double grad_norm; /* before clipping */
    double ema_decay;
    double step_seconds;
    double images_per_second;
    double data_wait_seconds;   /* the longest of any rank */
    double comm_wait_seconds;   /* the longest of any rank */
    double loss_z, grad_norm_z; /* how far they stand out (train/guard.h); NAN: not known, and not written */
    const char *guard;          /* what the guard did in this step, as guard.action; NULL: nothing, and not written */
    bool skipped;               /* the update was left out, by the guard or because: */
    bool not_finite;            /* gradients were not finite; not written */
    int64_t skipped_steps;      /* since the start of the run */
    int64_t rejected;           /* samples passed over by this rank's loader since it started */
    const char *stage;          /* its name; NULL: the run has none */
    const DataMetrics *data;    /* of this rank's loader; NULL: left out */
    int64_t allocations;        /* by the trainer's thread in this step, this process */
    int64_t peak_bytes;         /* the most memory that this process ever had in use */
} StepMetrics;

typedef struct Metrics {
    const char *path;
    int file; /* descriptor, appending */
    StrBuf line;
} Metrics;

/* Keeps the lines of steps up to `steps_done` (a torn last line goes too) and appends from there. `path` is borrowed.
 */
Status metrics_open(const char *path, int64_t steps_done, Metrics *out);
Status metrics_write(Metrics *metrics, const StepMetrics *step);
void metrics_close(Metrics *metrics);

/* For any file of one object a line that begins with its step: takes lines of later steps, and a torn last one, out of
 * a file that is there. */
Status metrics_drop_later(const char *path, int64_t steps_done);
int64_t metrics_step_of_line(const char *line); /* INT64_MAX where it has none */

#endif
