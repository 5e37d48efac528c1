/* One update of the weights by a device that has memory of its own: what optim/ computes on the host, queued there.
 *
 * The host computes what depends on the step's number in fp64 (optim/optimizer.c) and sends it as UpdateValues; norm,
 * clipping and the decision to skip are the device's, so that nothing waits. AdamW is elementwise, the norm is summed
 * in an order that depends on the element count alone, and neither contracts a*b+c: the bits are those of optim/. The
 * gradients of what is held are zero, for backward writes none, and so are no part of the norm. */
#ifndef ENGINE_UPDATE_H
#define ENGINE_UPDATE_H

#include <stdint.h>

/* The squares of the gradient are summed in fp64 over blocks of so many elements, counted from the start of the flat
 * buffer; block sums over groups of so many blocks; groups in order. Inside a block element i goes to running sum i %
 * 8; those add up as ((0 + 4) + (2 + 6)) + ((1 + 5) + (3 + 7)). */
#define UPDATE_NORM_BLOCK 4096
#define UPDATE_NORM_GROUP 1024
#define UPDATE_NORM_LANES 8

static inline int64_t update_norm_block_count(int64_t elements)
{
    return elements / UPDATE_NORM_BLOCK + (elements % UPDATE_NORM_BLOCK != 0);
}

static inline int64_t update_norm_group_count(int64_t elements)
{
    const int64_t blocks = update_norm_block_count(elements);
    return blocks / UPDATE_NORM_GROUP + (blocks % UPDATE_NORM_GROUP != 0);
}

/* Elements may be updated with a learning rate and a weight decay of their own, or held: group 0 is that of all that
 * have none. */
#define UPDATE_GROUPS_MAX 64
typedef struct UpdateGroup {
    float keep;      /* 1 - lr weight_decay */
    float step_size; /* lr / (1 - beta1^t) */
    int32_t held;    /* 1: weights and moments stay as they are, only the average follows */
    int32_t unused;
} UpdateGroup;

/* The scalars of one update; read by the device, never by the code that queues it. */
typedef struct UpdateValues {
    double grad_scale; /* multiplies every gradient first: makes a sum a mean */
    double clip_norm;  /* 0: off; else gradients are multiplied by min(1, clip_norm / (norm + 1e-6)) as well */
    double norm_limit; /* a larger norm leaves the update out; infinity: none does; below 0: every one does */
    float one_minus_beta1, beta2, one_minus_beta2;
    float inv_root_bc2; /* 1 / sqrt(1 - beta2^t) */
    float eps;
    float one_minus_ema;
    UpdateGroup group[UPDATE_GROUPS_MAX];
} UpdateValues;

/* Why an update was left out; nothing has changed then. */
typedef enum UpdateSkip { UPDATE_DONE, UPDATE_NOT_FINITE, UPDATE_OVER_LIMIT } UpdateSkip;

/* What became of it. */
typedef struct UpdateResult {
    double squares;  /* sum of the unscaled gradients' squares */
    double norm;     /* grad_scale sqrt(squares) */
    double clip;     /* the factor of clipping, 1: none */
    int32_t skipped; /* UpdateSkip */
    int32_t unused;
} UpdateResult;

/* Elements [end of the segment before, end) are of `group`. Ends are multiples of 16, but for the last. */
typedef struct UpdateSegment {
    int64_t end;
    int32_t group, unused;
} UpdateSegment;

/* Elements that one rank updates: [flat, flat + count) of gradients and weights, whose moments and average are at
 * [local, local + count) of buffers that hold what this rank updates and no more. `flat` and `local` are multiples of
 * UPDATE_NORM_BLOCK, and so is `count`, but in the last span. */
typedef struct UpdateSpan {
    int64_t flat, local, count;
} UpdateSpan;

/* All on the device but `spans`. Buffers are fp32 and 64-byte aligned; they do not overlap. */
typedef struct DeviceUpdate {
    int64_t count; /* elements of grads, weights and half */
    const UpdateSpan *spans;
    int32_t span_count;
    const float *grads;
    float *weights;
    float *m, *v;   /* as many elements as the spans have together; the same of ema */
    float *ema;     /* NULL: none is kept */
    uint16_t *half; /* bf16 of the new weights, written in the same pass; NULL: not wanted */
    double *sums;   /* update_norm_block_count(count) block sums, then update_norm_group_count(count) of scratch */
    const UpdateSegment *segments; /* (segment_count) of all `count` elements; NULL: all are of group 0 */
    int32_t segment_count;
    const UpdateValues *values;
    UpdateResult *result;
} DeviceUpdate;

#endif
