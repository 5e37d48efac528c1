/* A chart of series over steps, as a <figure> with an SVG that stretches to the width there is; labels are HTML beside
 * it, so that they keep their size. It can be read without a script; train/page.js adds values under the pointer.
 *
 * Inside the SVG, x and y go from 0 to 1000 (y downwards). The figure says what they stand for, data-x0, data-x1
 * (steps), data-y0, data-y1 (values times data-factor), data-log, so that what is drawn can be told from the paths
 * alone. */
#ifndef TRAIN_CHART_H
#define TRAIN_CHART_H

#include "train/axis.h"
#include "train/page.h"
#include "train/run_history.h"

typedef enum ChartStyle {
    CHART_SMOOTHED, /* thin: every value, or least and greatest of each column; thick: the mean of about 3% of the run
                     */
    CHART_TREND,    /* the thick line alone */
    CHART_PLAIN,    /* the mean of each column */
    CHART_POINTS    /* the same, each marked by a dot: for few values */
} ChartStyle;

typedef struct ChartLine {
    const Series *series; /* NULL or empty: left out */
    const char *label;
    int color; /* 0 to CHART_COLORS - 1 */
} ChartLine;

enum { CHART_LINES_MAX = 12, CHART_COLORS = 8 };

/* Where something happened. */
typedef struct ChartMarks {
    const RunEvent *events;
    int32_t count;
} ChartMarks;

typedef struct ChartSpec {
    const char *id; /* of the figure: letters and dashes, ours */
    const char *title, *unit;
    ChartLine lines[CHART_LINES_MAX];
    int count;
    ChartStyle style;
    AxisKind kind;
    double factor; /* of the values drawn; 0 is 1 */
    bool ramp;     /* the lines are an ordered family: shades instead of different colours */
    double first_step, last_step;
    ChartMarks marks;
} ChartSpec;

/* Nothing where no line has a value. */
void chart_write(Page *page, const ChartSpec *spec);

#endif
