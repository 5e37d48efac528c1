/* A number over the steps of a run, however long, in bounded memory: columns of equally many steps, each with the
 * least, the greatest and the mean of what fell into it. While no more than SERIES_COLUMNS steps are seen a column is
 * one step; then columns are made twice as wide. So no extreme is ever lost, and what comes out depends on the values
 * alone. */
#ifndef TRAIN_SERIES_H
#define TRAIN_SERIES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

enum { SERIES_COLUMNS = 1000, SERIES_NAME_MAX = 96, SERIES_MAX = 160 };
#define SERIES_STEP_MAX 1000000000000 /* train.steps has the same bound */

typedef struct SeriesColumn {
    double min, max, sum;
    double steps;  /* the sum of the steps with a value */
    int64_t count; /* of values */
    int64_t holes; /* steps whose value was not finite */
} SeriesColumn;

typedef struct Series {
    char name[SERIES_NAME_MAX];
    int64_t width; /* steps of a column: a power of two */
    int32_t used;  /* columns, empty ones among them */
    int64_t count, holes;
    double sum, last;  /* of and among the finite values */
    double min, max;   /* their bounds, where count > 0 */
    int64_t last_step; /* of `last` */
    SeriesColumn columns[SERIES_COLUMNS];
} Series;

void series_begin(Series *series, const char *name);
/* A step of 0 to SERIES_STEP_MAX, in any order; values that are not finite leave a hole. */
void series_add(Series *series, int64_t step, double value);

/* Where a column stands and what it holds, of one with count > 0. */
double series_step(const Series *series, int32_t column);
double series_mean(const Series *series, int32_t column);
/* Means over a triangle of columns that spans about `share` of them, weighted by how many values they have: out[used],
 * NaN for columns without values. */
void series_smooth(const Series *series, double share, double *out);

/* Series by name. */
typedef struct SeriesSet {
    Series *items[SERIES_MAX];
    int32_t count;
    int32_t hint;    /* lines of a file name the same series in the same order */
    int64_t refused; /* values for which there was no room */
} SeriesSet;
Status series_set_add(SeriesSet *set, const char *name, int64_t step, double value);
const Series *series_set_find(const SeriesSet *set, const char *name); /* NULL where there is none, or without values */
void series_set_free(SeriesSet *set);                                  /* leaves an empty one */

#endif
