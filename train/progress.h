/* What a person sees while training: a live line on a terminal, plain lines in a log file. */
#ifndef TRAIN_PROGRESS_H
#define TRAIN_PROGRESS_H

#include "train/metrics.h"

typedef struct Progress {
    int64_t log_every; /* steps between plain lines */
    int64_t start_step;
    double last_line, last_live; /* clock_seconds */
    double step_seconds;         /* smoothed */
    double data_share;           /* smoothed share of the step spent waiting for data */
    double loss;                 /* smoothed */
    int64_t seen;
} Progress;

void progress_begin(Progress *progress, int64_t steps_done, int64_t log_every);
void progress_step(Progress *progress, const StepMetrics *step);
void progress_end(Progress *progress);

/* "1:02:03" of a number of seconds. */
void progress_format_time(double seconds, char *out, size_t capacity);

#endif
