/* Axes of charts: bounds, ticks at round numbers, and where a value lies between the bounds. */
#ifndef TRAIN_AXIS_H
#define TRAIN_AXIS_H

#include <stdbool.h>

enum { AXIS_TICKS_MAX = 12 };

typedef struct Axis {
    double low, high; /* low < high; both positive with log */
    bool log;
    double ticks[AXIS_TICKS_MAX];
    int count;
} Axis;

/* `low` and `high` as they are, with about five ticks between. */
void axis_exact(Axis *axis, double low, double high);

typedef enum AxisKind {
    AXIS_LINEAR,
    AXIS_FROM_ZERO, /* linear; begins at 0 where no value is negative */
    AXIS_AUTO       /* logarithmic where all values are positive and reach over a factor of ten, else linear */
} AxisKind;

/* From the round number below `low` to the one above `high`. */
void axis_around(Axis *axis, double low, double high, AxisKind kind);

double axis_place(const Axis *axis, double value); /* 0 at low, 1 at high */

#endif
