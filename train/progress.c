#include "train/progress.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"

enum { BAR_WIDTH = 16 };
static const double live_interval = 0.1; /* seconds between redraws of the live line */
static const double plain_interval = 10; /* at least so many seconds between plain lines, save every log_every steps */

void progress_format_time(double seconds, char *out, size_t capacity)
{
    if (!(seconds >= 0 && seconds < 1e9)) seconds = 0;
    long whole = (long)(seconds + 0.5);
    snprintf(out, capacity, "%ld:%02ld:%02ld", whole / 3600, whole / 60 % 60, whole % 60);
}

void progress_begin(Progress *progress, int64_t steps_done, int64_t log_every)
{
    memset(progress, 0, sizeof *progress);
    progress->log_every = log_every;
    progress->start_step = steps_done;
    progress->last_line = clock_seconds();
}

static void smooth(double *value, double next, int64_t seen)
{
    if (!isfinite(next)) return;
    double weight = seen < 20 ? 1.0 / (double)(seen + 1) : 0.05;
    *value += weight * (next - *value);
}

static void format_line(const Progress *progress, const StepMetrics *step, char *out, size_t capacity)
{
    char left[32];
    progress_format_time((double)(step->total_steps - step->step) * progress->step_seconds, left, sizeof left);
    double images_per_second = step->images_per_second * step->step_seconds / fmax(progress->step_seconds, 1e-9);
    snprintf(out, capacity, "loss %.4f  lr %.2e  grad %.3g  %.1f images/s  data wait %.1f%%  left %s", progress->loss,
             step->lr, step->grad_norm, images_per_second, 100 * progress->data_share, left);
}

void progress_step(Progress *progress, const StepMetrics *step)
{
    char text[256], bar[BAR_WIDTH + 1];
    double now = clock_seconds();
    /* The first step of a process also fills caches and the prefetch ring: it says nothing about the pace. */
    bool first = step->step == progress->start_step + 1;
    if (!first || !progress->seen) {
        int64_t seen = first ? 0 : progress->seen;
        smooth(&progress->step_seconds, step->step_seconds, seen);
        smooth(&progress->data_share, step->data_wait_seconds / fmax(step->step_seconds, 1e-9), seen);
    }
    smooth(&progress->loss, step->loss, progress->seen);
    if (!first) progress->seen++;

    if (log_is_terminal()) {
        if (now - progress->last_live < live_interval && !step->last) return;
        progress->last_live = now;
        int64_t filled = step->total_steps > 0 ? BAR_WIDTH * step->step / step->total_steps : 0;
        for (int i = 0; i < BAR_WIDTH; i++) bar[i] = i < filled ? '#' : '.';
        bar[BAR_WIDTH] = 0;
        format_line(progress, step, text, sizeof text);
        char line[400];
        snprintf(line, sizeof line, "[%s] %s%sstep %lld/%lld  %s", bar, step->stage ? step->stage : "",
                 step->stage ? ": " : "", (long long)step->step, (long long)step->total_steps, text);
        log_live_line(line);
        return;
    }
    bool due = (progress->log_every > 0 && step->step % progress->log_every == 0) ||
               now - progress->last_line >= plain_interval || first || step->last;
    if (!due) return;
    progress->last_line = now;
    format_line(progress, step, text, sizeof text);
    log_info("%s%sstep %lld/%lld  %s", step->stage ? step->stage : "", step->stage ? ": " : "", (long long)step->step,
             (long long)step->total_steps, text);
}

void progress_end(Progress *progress)
{
    (void)progress;
    log_live_line(NULL);
}
