/* What the files of the optimizer share; for optimizer*.c only.
 *
 * optimizer.c has the steps, optimizer_arrays.c moments and average for checkpoints and comparisons. */
#ifndef OPTIM_OPTIMIZER_INTERNAL_H
#define OPTIM_OPTIMIZER_INTERNAL_H

#include "optim/adamw.h"
#include "optim/optimizer.h"

/* What host and device tell each other in a step. */
typedef struct Told {
    UpdateValues values;
    UpdateResult result;
} Told;

struct Optimizer {
    OptimConfig config;
    int64_t total_steps;
    int threads;
    Exchange *exchange; /* NULL: this rank is alone */
    int64_t elements;
    const UpdateSpan *spans; /* (span_count) what this rank updates */
    int32_t span_count;
    UpdateSpan whole; /* the span of a rank alone */
    int64_t local_elements;
    AdamwGroup groups[UPDATE_GROUPS_MAX];
    int32_t group_count;
    UpdateSegment *segments;        /* (segment_count) of the flat buffer; NULL: one group */
    UpdateSegment *device_segments; /* the same on a device */
    int32_t segment_count;
    Backend *backend;            /* whose memory the buffers are in; NULL: the host's */
    float *weights;              /* (elements) fp32, the store's or its image's */
    const float *grads;          /* (elements) fp32, likewise */
    uint16_t *half;              /* (elements) bf16, the image's; may be NULL */
    float *m, *v, *ema;          /* (local_elements) fp32; ema may be NULL */
    double *sums;                /* (sum_count(elements)) fp64 */
    Told *told;                  /* on a device: page-locked */
    Told *device_told;           /* NULL on the host */
    double norm_limit;           /* of the steps to come */
    double lr, beta1, ema_decay; /* of the step that has begun */
    OptimizerState state;
};

#endif
