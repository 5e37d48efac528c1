/* Writes a run's report.html, beside the training: on a thread of its own that gives way to all others. What was read
 * for one report is not read again for the next. */
#ifndef TRAIN_REPORT_WRITER_H
#define TRAIN_REPORT_WRITER_H

#include "train/run_history.h"

typedef struct ReportWriter ReportWriter;

/* `folder`: the run's. */
Status report_writer_open(const char *folder, ReportWriter **out);
/* Begins a report, unless one is being made. */
void report_writer_begin(ReportWriter *writer);
/* Waits for that one, then makes another of all that is there. */
void report_writer_finish(ReportWriter *writer);
void report_writer_free(ReportWriter *writer); /* NULL is fine; waits for the one that is being made */

/* The page of a run's folder, at once, to `path`; NULL: its report.html. */
Status report_write(RunHistory *history, const char *path);

#endif
