/* How far `vasily sample` has come: a bar with the time left on a terminal, now and then a line in a log. */
#ifndef TRAIN_SAMPLE_PROGRESS_H
#define TRAIN_SAMPLE_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct SampleProgress {
    int64_t pictures, pictures_done; /* of all; of the draws before the one in course */
    int64_t pictures_here;           /* of the draw in course */
    double start, last;              /* clock_seconds */
} SampleProgress;

void sample_progress_begin(SampleProgress *progress, int64_t pictures);
/* A SamplingProgress; `context` is the SampleProgress. */
void sample_progress_step(void *context, int64_t done, int64_t total);
void sample_progress_end(void);

#endif
