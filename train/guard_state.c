/* The guard's part of state.json:
 *
 *   "guard": {"resolution": 256, "global_batch": 48, "in_a_row": 0, "loss": [...], "grad_norm": [...]}
 */
#include "train/guard.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

static void write_values(JsonWriter *w, const char *key, const double *values, int64_t count)
{
    json_array(w, key);
    for (int64_t i = 0; i < count; i++) json_float(w, NULL, values[i]);
    json_end_array(w);
}

void guard_state_write(const GuardState *state, JsonWriter *w)
{
    json_int(w, "resolution", state->resolution);
    json_int(w, "global_batch", state->global_batch);
    json_int(w, "in_a_row", state->in_a_row);
    write_values(w, "loss", state->loss, state->loss_count);
    write_values(w, "grad_norm", state->norm, state->norm_count);
}

void guard_state_free(GuardState *state)
{
    free(state->loss);
    free(state->norm);
    *state = (GuardState){0};
}

static Status read_values(const char *path, const JsonValue *object, const char *key, double **out, int64_t *count)
{
    Status status = STATUS_OK;
    const JsonValue *array = json_get(object, key);
    const size_t size = json_count(array);
    if (!json_is_array(array) || size > GUARD_WINDOW_MOST)
        FAIL(ERR_FORMAT, "%s: \"guard\": \"%s\" is not a list of at most %d numbers", path, key, GUARD_WINDOW_MOST);
    *out = mem_alloc_array(size + 1, sizeof **out);
    if (!*out) FAIL(ERR_MEMORY, "out of memory");
    for (size_t i = 0; i < size; i++)
        if (!json_number(json_item(array, i), &(*out)[i]) || !isfinite((*out)[i]))
            FAIL(ERR_FORMAT, "%s: \"guard\": \"%s\" has an item that is not a number", path, key);
    *count = (int64_t)size;
fail:
    return status;
}

Status guard_state_read(const char *path, const JsonValue *object, GuardState *out)
{
    Status status = STATUS_OK;
    const struct {
        const char *key;
        int64_t *to;
    } numbers[] = {
        {"resolution", &out->resolution}, {"global_batch", &out->global_batch}, {"in_a_row", &out->in_a_row}};
    *out = (GuardState){0};
    if (json_is_null(object)) return STATUS_OK;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (!json_integer(json_get(object, numbers[i].key), numbers[i].to) || *numbers[i].to < 0)
            FAIL(ERR_FORMAT, "%s: \"guard\": \"%s\" is not a whole number of at least 0", path, numbers[i].key);
    TRY(read_values(path, object, "loss", &out->loss, &out->loss_count));
    TRY(read_values(path, object, "grad_norm", &out->norm, &out->norm_count));
    return STATUS_OK;
fail:
    guard_state_free(out);
    return status;
}
