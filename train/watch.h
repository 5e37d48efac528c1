/* What a run writes for those who look at it: event files for TensorBoard and report.html, of what stands in the run's
 * other files. On rank 0; nothing here ends a run: what cannot be written is a warning, once. */
#ifndef TRAIN_WATCH_H
#define TRAIN_WATCH_H

#include "train/network.h"
#include "train/run_dir.h"

typedef struct Watch Watch;

typedef struct WatchOptions {
    const RunConfig *run;   /* must outlive it */
    const RunDir *dir;      /* likewise */
    const char *config;     /* the effective config */
    int64_t step;           /* steps done */
    const Network *network; /* NULL: no plan is written */
    int ranks;
    const char *device;
} WatchOptions;

/* Writes plan.json, and begins. */
Status watch_open(const WatchOptions *options, Watch **out);
/* The following accept NULL. After a step: its line of metrics.jsonl. Looks for new lines of validation.jsonl as well.
 */
void watch_step(Watch *watch, int64_t step, const char *line, size_t size);
/* After previews were drawn: the newest picture. */
void watch_preview(Watch *watch, int64_t step);
/* Writes what is left, and the last report. */
void watch_close(Watch *watch);

#endif
