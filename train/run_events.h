/* RUN/events.jsonl: what happened to a run besides its steps, one object a line, only ever appended to:
 *
 *   {"time": seconds since 1970, "step": steps done, "kind": "stage", "text": "..."}
 *
 * `kind` is one word for programs (start, resume, stage, guard, checkpoint, stop, end), `text` a line for people. Steps
 * may go back where a run was resumed from an earlier checkpoint. */
#ifndef TRAIN_RUN_EVENTS_H
#define TRAIN_RUN_EVENTS_H

#include <stdint.h>

/* Appends a line to the file `path`, in one write. A run does not end because this fails: that is a warning. Rank 0. */
void run_events_add(const char *path, int64_t step, const char *kind, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#endif
