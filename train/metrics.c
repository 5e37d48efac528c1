#include "train/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"

/* Every line begins with the step, so that a resume need not parse the rest. */
static const char line_start[] = "{\"step\":";

int64_t metrics_step_of_line(const char *line)
{
    if (strncmp(line, line_start, sizeof line_start - 1) != 0) return INT64_MAX;
    const char *digits = line + sizeof line_start - 1;
    while (*digits == ' ') digits++;
    char *end = NULL;
    long long step = strtoll(digits, &end, 10);
    return end == digits || (*end != ',' && *end != '}') ? INT64_MAX : step;
}

Status metrics_drop_later(const char *path, int64_t steps_done)
{
    Status status = STATUS_OK;
    StrBuf kept = {0};
    char *line = NULL;
    size_t capacity = 0;
    bool dropped = false;
    FILE *file = fopen(path, "rb");
    if (!file) FAIL(ERR_IO, "%s: %s", path, strerror(errno));
    for (;;) {
        ssize_t length = getline(&line, &capacity, file);
        if (length <= 0) break;
        bool whole = line[length - 1] == '\n';
        if (whole && metrics_step_of_line(line) <= steps_done)
            TRY(strbuf_append(&kept, line, (size_t)length));
        else
            dropped = true;
    }
    if (ferror(file)) FAIL(ERR_IO, "%s: %s", path, strerror(errno));
    if (dropped) TRY(file_write_atomic(path, kept.data ? kept.data : "", kept.size));
fail:
    if (file) fclose(file);
    free(line);
    strbuf_free(&kept);
    return status;
}

Status metrics_open(const char *path, int64_t steps_done, Metrics *out)
{
    Status status = STATUS_OK;
    *out = (Metrics){.path = path, .file = -1};
    if (file_exists(path)) TRY(metrics_drop_later(path, steps_done));
    out->file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (out->file < 0) FAIL(ERR_IO, "%s: %s", path, strerror(errno));
fail:
    return status;
}

Status metrics_write(Metrics *metrics, const StepMetrics *step)
{
    Status status = STATUS_OK;
    JsonWriter w;
    metrics->line.size = 0;
    json_begin(&w, &metrics->line);
    json_object(&w, NULL);
    json_int(&w, "step", step->step);
    json_float(&w, "loss", step->loss);
    json_float(&w, "mse", step->mse);
    json_float(&w, "vb", step->vb);
    json_float(&w, "lr", step->lr);
    json_float(&w, "beta1", step->beta1);
    json_float(&w, "grad_norm", step->grad_norm);
    json_float(&w, "ema_decay", step->ema_decay);
    json_float(&w, "images_per_second", step->images_per_second);
    json_float(&w, "step_seconds", step->step_seconds);
    json_float(&w, "data_wait_seconds", step->data_wait_seconds);
    json_float(&w, "comm_wait_seconds", step->comm_wait_seconds);
    json_int(&w, "samples", step->samples);
    json_int(&w, "rejected", step->rejected);
    if (step->data) data_metrics_write(step->data, "data", &w);
    if (step->stage) json_string(&w, "stage", step->stage);
    if (isfinite(step->loss_z)) json_float(&w, "loss_z", step->loss_z);
    if (isfinite(step->grad_norm_z)) json_float(&w, "grad_norm_z", step->grad_norm_z);
    if (step->guard) json_string(&w, "guard", step->guard);
    json_bool(&w, "skipped", step->skipped);
    json_int(&w, "skipped_steps", step->skipped_steps);
    json_int(&w, "allocations", step->allocations);
    json_int(&w, "peak_bytes", step->peak_bytes);
    json_end_object(&w);
    TRY(strbuf_append(&metrics->line, "\n", 1));
    /* One write a line, so that a reader or a kill sees whole lines or, at worst, a torn last one. */
    if (write(metrics->file, metrics->line.data, metrics->line.size) != (ssize_t)metrics->line.size)
        FAIL(ERR_IO, "%s: %s", metrics->path, strerror(errno));
fail:
    return status;
}

void metrics_close(Metrics *metrics)
{
    if (metrics->file >= 0) close(metrics->file);
    metrics->file = -1;
    strbuf_free(&metrics->line);
}
