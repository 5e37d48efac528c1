/* bad-shards.jsonl: one line for each shard, or part of one, and each sample that was passed over because it is broken.
 *
 *     {"time":"2026-01-31T12:00:00Z","rank":0,"what":"shard","source":"laion","shard":"/data/00017.tar","first":2560,
 *      "samples":256,"reason":"read_error","detail":"..."}
 *     {"time":"...","rank":0,"what":"sample","source":"laion","shard":"/data/00017.tar","key":"000170042",
 *      "reason":"bad_jpeg","detail":"..."}
 *
 * Appended to by one write a line, so ranks may share it. At most BAD_LOG_MAX_LINES lines a process; a last line says
 * so. Safe from several threads; a file that cannot be written is a warning, once. */
#ifndef DATA_BAD_LOG_H
#define DATA_BAD_LOG_H

#include <stdint.h>

#include "base/status.h"
#include "data/bad_samples.h"

#define BAD_LOG_MAX_LINES 10000

typedef struct BadLog BadLog;
Status bad_log_create(const char *path, int rank, BadLog **out); /* the path is copied; the file is made when needed */
void bad_log_free(BadLog *log);
/* `log` NULL: does nothing. */
void bad_log_shard(BadLog *log, const char *source, const char *shard, int64_t first, int64_t samples,
                   SampleReason reason, const char *detail);
void bad_log_sample(BadLog *log, const char *source, const char *shard, const char *key, SampleReason reason,
                    const char *detail);

#endif
