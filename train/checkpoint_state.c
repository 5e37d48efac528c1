/* state.json: everything of a checkpoint that is not an array of weights. */
#include "train/checkpoint.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"

enum { STATE_LIMIT = 256 << 20, STATE_FORMAT = 1 };

void checkpoint_state_free(CheckpointState *state)
{
    free(state->backend);
    free(state->config);
    guard_state_free(&state->guard);
    cursor_free(state->cursor);
    memset(state, 0, sizeof *state);
}

Status checkpoint_format_state(const CheckpointState *state, StrBuf *out)
{
    Status status = STATUS_OK;
    StrBuf cursor = {0};
    JsonWriter w;
    if (state->cursor) TRY(cursor_save(state->cursor, &cursor));
    json_begin(&w, out);
    json_object(&w, NULL);
    json_int(&w, "format", STATE_FORMAT);
    json_int(&w, "step", state->step);
    json_int(&w, "samples", state->samples);
    json_int(&w, "total_steps", state->total_steps);
    json_int(&w, "seed", state->seed);
    json_int(&w, "adam_t", state->optimizer.t);
    json_int(&w, "skipped_steps", state->optimizer.skipped);
    json_int(&w, "world", state->world);
    json_int(&w, "threads", state->threads);
    json_int(&w, "micro_batch", state->micro_batch);
    json_string(&w, "backend", state->backend);
    json_object(&w, "frozen");
    for (int n = 0; n < FROZEN_NETWORK_COUNT; n++)
        if (state->frozen[n][0]) json_string(&w, FROZEN_NETWORK_WORDS[n], state->frozen[n]);
    json_end_object(&w);
    stage_place_write(&state->stage, &w);
    json_object(&w, "guard");
    guard_state_write(&state->guard, &w);
    json_end_object(&w);
    if (state->cursor) json_string(&w, "cursor", cursor.data);
    json_string(&w, "config", state->config);
    json_end_object(&w);
    TRY(strbuf_append(out, "\n", 1));
fail:
    strbuf_free(&cursor);
    return status;
}

static Status read_integer(const char *path, const JsonValue *root, const char *key, int64_t min, int64_t *out)
{
    Status status = STATUS_OK;
    if (!json_integer(json_get(root, key), out) || *out < min)
        FAIL(ERR_FORMAT, "%s: \"%s\" is not a whole number of at least %lld", path, key, (long long)min);
fail:
    return status;
}

static Status read_text(const char *path, const JsonValue *root, const char *key, char **out)
{
    Status status = STATUS_OK;
    size_t size;
    const char *text = json_text(json_get(root, key), &size);
    if (!text) FAIL(ERR_FORMAT, "%s: \"%s\" is not a text", path, key);
    *out = strdup(text);
    if (!*out) FAIL(ERR_MEMORY, "out of memory");
fail:
    return status;
}

/* Absent in checkpoints of earlier versions. */
static Status read_fingerprints(const char *path, const JsonValue *object, char out[FROZEN_NETWORK_COUNT][33])
{
    Status status = STATUS_OK;
    for (int n = 0; n < FROZEN_NETWORK_COUNT; n++) {
        size_t size = 0;
        const char *text = json_text(json_get(object, FROZEN_NETWORK_WORDS[n]), &size);
        if (text && (size > 32 || strlen(text) != size))
            FAIL(ERR_FORMAT, "%s: the fingerprint of %s is not 32 hex digits", path, FROZEN_NETWORK_WORDS[n]);
        if (text) memcpy(out[n], text, size + 1);
    }
fail:
    return status;
}

Status checkpoint_parse_state(const char *path, const char *text, size_t size, CheckpointState *out)
{
    Status status = STATUS_OK;
    JsonDoc *doc = NULL;
    int64_t format;
    memset(out, 0, sizeof *out);
    Status parsed = json_parse(text, size, STATE_LIMIT, &doc);
    if (parsed) {
        status_prefix("%s: ", path);
        TRY(parsed);
    }
    const JsonValue *root = json_root(doc);
    TRY(read_integer(path, root, "format", 1, &format));
    if (format > STATE_FORMAT)
        FAIL(ERR_UNSUPPORTED, "%s: format %lld, this program reads up to %d; use a newer one", path, (long long)format,
             STATE_FORMAT);
    TRY(read_integer(path, root, "step", 0, &out->step));
    TRY(read_integer(path, root, "samples", 0, &out->samples));
    TRY(read_integer(path, root, "total_steps", 1, &out->total_steps));
    TRY(read_integer(path, root, "seed", 0, &out->seed));
    TRY(read_integer(path, root, "adam_t", 0, &out->optimizer.t));
    TRY(read_integer(path, root, "skipped_steps", 0, &out->optimizer.skipped));
    TRY(read_integer(path, root, "world", 1, &out->world));
    TRY(read_integer(path, root, "threads", 1, &out->threads));
    if (!json_is_null(json_get(root, "micro_batch")))
        TRY(read_integer(path, root, "micro_batch", 0, &out->micro_batch));
    TRY(read_text(path, root, "backend", &out->backend));
    TRY(read_text(path, root, "config", &out->config));
    TRY(read_fingerprints(path, json_get(root, "frozen"), out->frozen));
    TRY(stage_place_read(path, json_get(root, "stage"), out->step, &out->stage));
    TRY(guard_state_read(path, json_get(root, "guard"), &out->guard));
    size_t cursor_size;
    const char *cursor = json_text(json_get(root, "cursor"), &cursor_size);
    if (cursor) {
        Status loaded = cursor_load(cursor, cursor_size, &out->cursor);
        if (loaded) {
            status_prefix("%s: cursor: ", path);
            TRY(loaded);
        }
    }
    json_free(doc);
    return STATUS_OK;
fail:
    json_free(doc);
    checkpoint_state_free(out);
    return status;
}
