#include "train/sample_progress.h"

#include <stdio.h>

#include "base/file.h"
#include "base/log.h"
#include "train/progress.h"

enum { BAR_WIDTH = 24 };
static const double live_interval = 0.1, plain_interval = 10; /* seconds */

void sample_progress_begin(SampleProgress *p, int64_t pictures)
{
    *p = (SampleProgress){.pictures = pictures, .start = clock_seconds()};
    p->last = p->start;
}

void sample_progress_step(void *context, int64_t done, int64_t total)
{
    SampleProgress *p = context;
    double now = clock_seconds(), interval = log_is_terminal() ? live_interval : plain_interval;
    bool last = done == total && p->pictures_done + p->pictures_here >= p->pictures;
    if (total < 1 || (now - p->last < interval && !(last && log_is_terminal()))) return;
    p->last = now;
    double part =
        ((double)p->pictures_done + (double)p->pictures_here * (double)done / (double)total) / (double)p->pictures;
    char bar[BAR_WIDTH + 1], left[32], text[160];
    for (int i = 0; i < BAR_WIDTH; i++) bar[i] = i < (int)(part * BAR_WIDTH) ? '#' : '.';
    bar[BAR_WIDTH] = 0;
    progress_format_time(part > 0 ? (now - p->start) * (1 - part) / part : 0, left, sizeof left);
    int64_t first = p->pictures_done + 1, end = p->pictures_done + p->pictures_here;
    if (log_is_terminal()) {
        snprintf(text, sizeof text, "[%s] pictures %lld-%lld of %lld  step %lld/%lld  left %s", bar, (long long)first,
                 (long long)end, (long long)p->pictures, (long long)done, (long long)total, left);
        log_live_line(text);
        return;
    }
    log_info("pictures %lld-%lld of %lld  step %lld/%lld  left %s", (long long)first, (long long)end,
             (long long)p->pictures, (long long)done, (long long)total, left);
}

void sample_progress_end(void)
{
    log_live_line(NULL);
}
