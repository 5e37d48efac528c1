/* The middle and the spread of the last values of a series, such as neither a few outliers nor a slow drift can move
 * far: the median, and 1.4826 times the median of the distances from it, which for normal values is their standard
 * deviation. (F. Hampel, "The Influence Curve and its Role in Robust Estimation", 1974) */
#ifndef TRAIN_GUARD_HISTORY_H
#define TRAIN_GUARD_HISTORY_H

#include <stdint.h>

#include "base/status.h"

typedef struct GuardHistory {
    double *values; /* (capacity) the last `count`, oldest first */
    double *sorted; /* the same, ascending */
    int64_t capacity, count;
} GuardHistory;

Status guard_history_create(int64_t capacity, GuardHistory *out); /* capacity >= 1; empty */
void guard_history_free(GuardHistory *history);                   /* zeroed is fine */
/* A finite value; the oldest makes room. Allocates nothing. */
void guard_history_add(GuardHistory *history, double value);
/* Of at least one value. */
void guard_history_measure(const GuardHistory *history, double *middle, double *spread);

#endif
