/* A run as one self-contained page: RUN/report.html (docs/watching.md). */
#ifndef TRAIN_REPORT_H
#define TRAIN_REPORT_H

#include "train/report_pictures.h"
#include "train/run_history.h"

/* Appends the page of what has been read so far. It depends on the run's files alone: the same ones give the same page.
 */
Status report_format(const RunHistory *history, const ReportPictures *pictures, StrBuf *out);

/* The parts, each by a function of its own file. */
struct Page;
void report_charts(struct Page *page, const RunHistory *history); /* report_charts.c */
void report_tables(struct Page *page, const RunHistory *history); /* report_tables.c: plan, events, config */

#endif
