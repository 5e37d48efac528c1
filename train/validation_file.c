/* RUN/validation.jsonl. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "train/metrics.h"
#include "train/validation.h"

Status validation_line(int64_t step, bool ema, const ValidationResult *result, StrBuf *out)
{
    JsonWriter w;
    json_begin(&w, out);
    json_object(&w, NULL);
    json_int(&w, "step", step);
    json_string(&w, "weights", ema ? "ema" : "live");
    json_float(&w, "loss", result->loss);
    json_float(&w, "mse", result->mse);
    json_float(&w, "vb", result->vb);
    json_array(&w, "by_timestep");
    for (int64_t k = 0; k < result->timestep_count; k++) {
        json_array(&w, NULL);
        json_int(&w, NULL, result->timesteps[k]);
        json_float(&w, NULL, result->by_timestep[k]);
        json_end_array(&w);
    }
    json_end_array(&w);
    json_end_object(&w);
    return strbuf_append(out, "\n", 1);
}

/* Whole lines of `step`. */
static Status count_lines(const char *path, int64_t step, int *out)
{
    Status status = STATUS_OK;
    char *line = NULL;
    size_t capacity = 0;
    FILE *file = fopen(path, "rb");
    *out = 0;
    if (!file) FAIL(ERR_IO, "%s: %s", path, strerror(errno));
    for (ssize_t length; (length = getline(&line, &capacity, file)) > 0;)
        *out += line[length - 1] == '\n' && metrics_step_of_line(line) == step;
    if (ferror(file)) FAIL(ERR_IO, "%s: %s", path, strerror(errno));
fail:
    if (file) fclose(file);
    free(line);
    return status;
}

int validation_lines(const RunConfig *run)
{
    return run->validation.ema && run->optim.ema_decay > 0 ? 2 : 1;
}

Status validation_file_has(const char *path, int64_t step, int lines, bool *there)
{
    Status status = STATUS_OK;
    int found = 0;
    *there = false;
    if (!file_exists(path)) return STATUS_OK;
    TRY(count_lines(path, step, &found));
    *there = found == lines;
fail:
    return status;
}

Status validation_file_resume(const char *path, int64_t step, int lines, bool *there)
{
    Status status = STATUS_OK;
    *there = false;
    if (!file_exists(path)) return STATUS_OK;
    TRY(metrics_drop_later(path, step));
    TRY(validation_file_has(path, step, lines, there));
    if (!*there) TRY(metrics_drop_later(path, step - 1));
fail:
    return status;
}
