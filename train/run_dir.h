/* The folder of a run:
 *
 *   RUN/config.yaml        the full effective config
 *   RUN/metrics.jsonl      one object a step
 *   RUN/events.jsonl       what happened besides (train/run_events.h)
 *   RUN/validation.jsonl   the loss on held-out samples (train/validation.h)
 *   RUN/plan.json          what it was planned to be (train/run_plan.h)
 *   RUN/report.html        all of it as a page (train/report.h)
 *   RUN/tensorboard/       event files (train/tensorboard.h)
 *   RUN/bad-shards.jsonl   shards and samples that were passed over because they are broken (data/bad_log.h)
 *   RUN/checkpoints/       step-NNNNNNN/ and latest
 *   RUN/previews/          step-NNNNNNN.png
 *   RUN/tokenizer1.model   the tokenizers, copied, so that the folder can be moved and sampled from anywhere
 *   RUN/tokenizer2.model
 *   RUN/flight-record/     rank-N.jsonl, where a job of several ranks has ended badly (engine/watchdog.h)
 *   RUN/flight-record.set-aside/  that of the start before
 *   RUN/lock               held by the one trainer that writes here */
#ifndef TRAIN_RUN_DIR_H
#define TRAIN_RUN_DIR_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

#define RUN_DIR_TOKENIZER1 "tokenizer1.model"
#define RUN_DIR_TOKENIZER2 "tokenizer2.model"

typedef struct RunDir {
    char path[PATH_MAX];
    char config[PATH_MAX];
    char metrics[PATH_MAX];
    char events[PATH_MAX];
    char validation[PATH_MAX];
    char bad_shards[PATH_MAX];
    char checkpoints[PATH_MAX];
    char previews[PATH_MAX];
    char flight_record[PATH_MAX];
    int lock; /* file descriptor; -1 where not held */
} RunDir;

/* The names only; touches nothing. */
Status run_dir_name(const char *path, RunDir *out);
/* Makes the folders, takes the lock where it is not held yet (waiting up to so many seconds where another process has
 * it), and sets an earlier flight record aside. `resume` false: refuses a folder that already holds a run. One process
 * (rank 0) does this. */
Status run_dir_open(RunDir *dir, bool resume, int64_t wait);
Status run_dir_write_config(const RunDir *dir, const char *yaml, size_t size);
void run_dir_close(RunDir *dir);

#endif
