/* What the files of a run's folder tell about it, for pages and tables: metrics.jsonl, validation.jsonl, events.jsonl,
 * plan.json and config.yaml. Any of them may be missing, torn or hostile: what is no line of ours is passed over and
 * counted. Files of any length take bounded memory (train/series.h), and reading again goes on where it stopped. */
#ifndef TRAIN_RUN_HISTORY_H
#define TRAIN_RUN_HISTORY_H

#include "train/json_lines.h"
#include "train/run_dir.h"
#include "train/series.h"

enum { RUN_EVENTS_MAX = 2000, RECENT_STEPS = 100 };

typedef struct RunEvent {
    double time; /* seconds since 1970 */
    int64_t step;
    char kind[24];
    char text[256];
} RunEvent;

/* The mean over the last RECENT_STEPS steps, and the least that it ever was. */
typedef struct RecentMean {
    double values[RECENT_STEPS];
    int64_t count; /* of values ever added */
    double sum, best;
    int64_t best_step; /* the last of the steps that `best` is of */
} RecentMean;
double recent_mean(const RecentMean *recent); /* NaN before the first value */

typedef struct RunHistory {
    RunDir dir;
    char name[256]; /* the last part of the folder's path */
    char plan_path[PATH_MAX];
    JsonLines metrics_lines, validation_lines, event_lines;

    SeriesSet metrics;    /* each number of a step, by name: "loss", "data.threads.read" */
    SeriesSet validation; /* "ema.loss", "live.by_timestep.500" */
    int64_t first_step, last_step, steps;
    double busy_seconds, images; /* sums over the steps */
    RecentMean loss;

    RunEvent *events; /* the newest RUN_EVENTS_MAX, oldest first */
    int32_t event_count;
    int64_t event_total;

    char *config;  /* YAML; NULL where there is none */
    JsonDoc *plan; /* NULL where there is none */
    Status failed; /* inside a visit */
} RunHistory;

/* `path`: a run's folder. Reads nothing yet. */
Status run_history_open(const char *path, RunHistory **out);
void run_history_free(RunHistory *history); /* NULL is fine */
/* Everything that is new. ERR_IO when the folder holds no metrics and no config: it is not a run. */
Status run_history_read(RunHistory *history);

int64_t run_history_bad_lines(const RunHistory *history);
double run_history_throughput(const RunHistory *history); /* images/s over all steps; NaN before the first */
/* The value of a config's key, as the dump writes it, or `otherwise`. */
const char *run_history_config(const RunHistory *history, const char *key, char *out, size_t capacity,
                               const char *otherwise);

#endif
