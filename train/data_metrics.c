#include "train/data_metrics.h"

#include <stdlib.h>

#include "base/file.h"

static size_t source_count(const DataMetrics *metrics)
{
    return metrics->config->sources.count;
}

Status data_metrics_create(const DataConfig *config, Loader *loader, DataMetrics **out)
{
    Status status = STATUS_OK;
    *out = NULL;
    DataMetrics *metrics = mem_alloc_array(1, sizeof *metrics);
    if (!metrics) FAIL(ERR_MEMORY, "out of memory for metrics of the data");
    metrics->config = config;
    metrics->sources = mem_alloc_array(source_count(metrics), sizeof metrics->sources[0]);
    metrics->sources_before = mem_alloc_array(source_count(metrics), sizeof metrics->sources_before[0]);
    if (!metrics->sources || !metrics->sources_before) FAIL(ERR_MEMORY, "out of memory for metrics of the data");
    metrics->looked = clock_seconds();
    data_metrics_look(metrics, loader);
    *out = metrics;
    return STATUS_OK;
fail:
    data_metrics_free(metrics);
    return status;
}

void data_metrics_free(DataMetrics *metrics)
{
    if (!metrics) return;
    free(metrics->sources);
    free(metrics->sources_before);
    free(metrics);
}

void data_metrics_look(DataMetrics *metrics, Loader *loader)
{
    LoaderSourceStats *swap = metrics->sources_before;
    double now = clock_seconds();
    metrics->before = metrics->now;
    metrics->sources_before = metrics->sources;
    metrics->sources = swap;
    loader_stats(loader, &metrics->now);
    for (size_t s = 0; s < source_count(metrics); s++) loader_source_stats(loader, (int32_t)s, &metrics->sources[s]);
    metrics->seconds = now - metrics->looked;
    metrics->looked = now;
}

int64_t data_metrics_passed_over(const DataMetrics *metrics)
{
    return bad_samples_seen(&metrics->now.bad) - metrics->now.bad.counts[SAMPLE_ACCEPTED];
}

static double rate(const DataMetrics *metrics, double now, double before)
{
    return metrics->seconds > 0 ? (now - before) / metrics->seconds : 0;
}

static double rate_of(const DataMetrics *metrics, int64_t now, int64_t before)
{
    return rate(metrics, (double)now, (double)before);
}

static void write_threads(const DataMetrics *metrics, JsonWriter *w)
{
    static const char *const names[CANDIDATE_STAGES] = {
        [STAGE_READ] = "read", [STAGE_TEXT] = "text", [STAGE_DECODE] = "decode", [STAGE_RESIZE] = "resize"};
    json_object(w, "threads");
    for (int stage = 0; stage < CANDIDATE_STAGES; stage++)
        json_float(w, names[stage],
                   rate(metrics, metrics->now.stage_seconds[stage], metrics->before.stage_seconds[stage]));
    json_end_object(w);
}

static void write_passed_over(const DataMetrics *metrics, JsonWriter *w)
{
    json_object(w, "passed_over");
    for (int r = SAMPLE_ACCEPTED + 1; r < SAMPLE_REASON_COUNT; r++)
        if (metrics->now.bad.counts[r]) json_int(w, sample_reason_name((SampleReason)r), metrics->now.bad.counts[r]);
    json_end_object(w);
}

static void write_sources(const DataMetrics *metrics, JsonWriter *w)
{
    json_object(w, "sources");
    for (size_t s = 0; s < source_count(metrics); s++) {
        json_object(w, data_config_source(metrics->config, s)->name);
        json_int(w, "accepted", metrics->sources[s].accepted);
        json_float(w, "bytes_per_second",
                   rate_of(metrics, metrics->sources[s].bytes_read, metrics->sources_before[s].bytes_read));
        json_end_object(w);
    }
    json_end_object(w);
}

void data_metrics_write(const DataMetrics *metrics, const char *key, JsonWriter *w)
{
    const LoaderStats *now = &metrics->now, *before = &metrics->before;
    json_object(w, key);
    json_float(w, "samples_per_second", rate_of(metrics, bad_samples_seen(&now->bad), bad_samples_seen(&before->bad)));
    json_float(w, "bytes_per_second", rate_of(metrics, now->bytes_read, before->bytes_read));
    write_threads(metrics, w);
    write_passed_over(metrics, w);
    write_sources(metrics, w);
    if (now->access.fetched_bytes > 0 || now->access.retries > 0) {
        json_float(w, "fetched_bytes_per_second",
                   rate_of(metrics, now->access.fetched_bytes, before->access.fetched_bytes));
        json_int(w, "retries", now->access.retries);
    }
    json_end_object(w);
}
