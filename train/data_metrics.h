/* What this rank's loader did since the last look at it, for metrics.jsonl: rates, where the decode threads spent their
 * time, what was passed over and why, and what each source gave. */
#ifndef TRAIN_DATA_METRICS_H
#define TRAIN_DATA_METRICS_H

#include "base/json.h"
#include "data/loader.h"

typedef struct DataMetrics {
    const DataConfig *config;
    LoaderStats now, before;
    LoaderSourceStats *sources, *sources_before; /* (config->sources.count) */
    double seconds, looked;                      /* of the last interval; when it ended, clock_seconds */
} DataMetrics;

/* `config` must outlive it. */
Status data_metrics_create(const DataConfig *config, Loader *loader, DataMetrics **out);
void data_metrics_free(DataMetrics *metrics); /* NULL is fine */
/* Allocates nothing. */
void data_metrics_look(DataMetrics *metrics, Loader *loader);
int64_t data_metrics_passed_over(const DataMetrics *metrics); /* samples, since the loader was opened */

/* Writes the object `key`:
 *   samples_per_second (looked at), bytes_per_second,
 *   threads: {read, text, decode, resize}: how many decode threads were busy with each, on average,
 *   passed_over: {reason: count} since the loader was opened,
 *   sources: {name: {accepted, bytes_per_second}}, accepted since it was opened,
 *   and of shards behind HTTP fetched_bytes_per_second, retries since it was opened */
void data_metrics_write(const DataMetrics *metrics, const char *key, JsonWriter *w);

#endif
