#include "train/tensorboard.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <tensorboard.pb-c.h>

#include "train/json_numbers.h"

typedef Vasily__Tensorboard__Event Event;
typedef Vasily__Tensorboard__Summary Summary;
typedef Vasily__Tensorboard__Summary__Value Value;

enum { VALUES_MAX = 256, STRINGS = 7, RGB = 3 };

struct TensorBoard {
    EventFile file;
    uint8_t *packed;
    size_t capacity;
    /* of one event */
    Value values[VALUES_MAX];
    Value *pointers[VALUES_MAX];
    char tags[VALUES_MAX][TENSORBOARD_TAG_MAX];
    size_t count;
    const char *suffix; /* of the tags of a line of validation.jsonl */
};

/* ---- events ---- */

static Status write_event(TensorBoard *board, Event *event)
{
    Status status = STATUS_OK;
    struct timespec now = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    event->wall_time = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    const size_t size = vasily__tensorboard__event__get_packed_size(event);
    TRY(mem_grow(&board->packed, &board->capacity, size, 1));
    vasily__tensorboard__event__pack(event, board->packed);
    TRY(event_file_add(&board->file, board->packed, size));
fail:
    return status;
}

static Status write_values(TensorBoard *board, int64_t step)
{
    Event event = VASILY__TENSORBOARD__EVENT__INIT;
    Summary summary = VASILY__TENSORBOARD__SUMMARY__INIT;
    if (board->count == 0) return STATUS_OK;
    for (size_t i = 0; i < board->count; i++) board->pointers[i] = &board->values[i];
    summary.n_value = board->count;
    summary.value = board->pointers;
    event.step = step;
    event.what_case = VASILY__TENSORBOARD__EVENT__WHAT_SUMMARY;
    event.summary = &summary;
    board->count = 0;
    return write_event(board, &event);
}

/* The next of an event's values, or NULL when it is full. */
static Value *next_value(TensorBoard *board)
{
    if (board->count == VALUES_MAX) return NULL;
    Value *value = &board->values[board->count];
    vasily__tensorboard__summary__value__init(value);
    value->tag = board->tags[board->count];
    return value;
}

static void add_scalar(TensorBoard *board, double number)
{
    Value *value = &board->values[board->count++];
    value->value_case = VASILY__TENSORBOARD__SUMMARY__VALUE__VALUE_SIMPLE_VALUE;
    value->simple_value = (float)number;
}

/* ---- opening ---- */

static Status write_beginning(TensorBoard *board, int64_t step)
{
    Status status = STATUS_OK;
    static char version[] = "brain.Event:2";
    Event event = VASILY__TENSORBOARD__EVENT__INIT;
    Vasily__Tensorboard__SessionLog session = VASILY__TENSORBOARD__SESSION_LOG__INIT;
    event.what_case = VASILY__TENSORBOARD__EVENT__WHAT_FILE_VERSION;
    event.file_version = version;
    TRY(write_event(board, &event));
    vasily__tensorboard__event__init(&event);
    session.status = VASILY__TENSORBOARD__SESSION_LOG__SESSION_STATUS__START;
    event.what_case = VASILY__TENSORBOARD__EVENT__WHAT_SESSION_LOG;
    event.session_log = &session;
    /* What was written of this step and later ones is forgotten: steps done stay. The first mark of a folder, which
     * every run has at its beginning, makes nothing forgotten. */
    event.step = step + 1;
    TRY(write_event(board, &event));
    TRY(event_file_flush(&board->file));
fail:
    return status;
}

Status tensorboard_open(const char *folder, int64_t step, TensorBoard **out)
{
    Status status = STATUS_OK;
    *out = NULL;
    TensorBoard *board = mem_alloc_array(1, sizeof *board);
    if (!board) FAIL(ERR_MEMORY, "out of memory");
    board->file.file = -1;
    TRY(event_file_create(folder, &board->file));
    TRY(write_beginning(board, step));
    *out = board;
    return STATUS_OK;
fail:
    tensorboard_close(board);
    return status;
}

Status tensorboard_flush(TensorBoard *board)
{
    return event_file_flush(&board->file);
}

Status tensorboard_flush_overdue(TensorBoard *board)
{
    return event_file_flush_overdue(&board->file);
}

void tensorboard_close(TensorBoard *board)
{
    if (!board) return;
    event_file_close(&board->file);
    free(board->packed);
    free(board);
}

/* ---- texts and pictures ---- */

/* Lines that begin with four spaces are shown as they are. */
static Status indent(const char *text, StrBuf *out)
{
    Status status = STATUS_OK;
    while (*text) {
        const char *end = strchrnul(text, '\n');
        TRY(strbuf_append(out, "    ", 4));
        TRY(strbuf_append(out, text, (size_t)(end - text)));
        TRY(strbuf_append(out, "\n", 1));
        text = *end ? end + 1 : end;
    }
fail:
    return status;
}

Status tensorboard_text(TensorBoard *board, int64_t step, const char *tag, const char *text)
{
    Status status = STATUS_OK;
    static char plugin_name[] = "text";
    StrBuf indented = {0};
    Vasily__Tensorboard__Tensor tensor = VASILY__TENSORBOARD__TENSOR__INIT;
    Vasily__Tensorboard__TensorShape shape = VASILY__TENSORBOARD__TENSOR_SHAPE__INIT;
    Vasily__Tensorboard__TensorShape__Dim dim = VASILY__TENSORBOARD__TENSOR_SHAPE__DIM__INIT, *dims = &dim;
    Vasily__Tensorboard__SummaryMetadata metadata = VASILY__TENSORBOARD__SUMMARY_METADATA__INIT;
    Vasily__Tensorboard__SummaryMetadata__PluginData plugin = VASILY__TENSORBOARD__SUMMARY_METADATA__PLUGIN_DATA__INIT;
    TRY(indent(text, &indented));
    ProtobufCBinaryData string = {indented.size, (uint8_t *)indented.data};
    dim.size = 1;
    shape.n_dim = 1;
    shape.dim = &dims;
    tensor.dtype = STRINGS;
    tensor.tensor_shape = &shape;
    tensor.n_string_val = 1;
    tensor.string_val = &string;
    plugin.plugin_name = plugin_name;
    metadata.plugin_data = &plugin;
    board->count = 0;
    Value *value = next_value(board);
    snprintf(value->tag, TENSORBOARD_TAG_MAX, "%s", tag);
    value->metadata = &metadata;
    value->value_case = VASILY__TENSORBOARD__SUMMARY__VALUE__VALUE_TENSOR;
    value->tensor = &tensor;
    board->count++;
    TRY(write_values(board, step));
fail:
    strbuf_free(&indented);
    return status;
}

static uint32_t big_endian(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

Status tensorboard_png(TensorBoard *board, int64_t step, const char *tag, const void *png, size_t size)
{
    Status status = STATUS_OK;
    static const uint8_t signature[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    const uint8_t *bytes = png;
    Vasily__Tensorboard__Summary__Image image = VASILY__TENSORBOARD__SUMMARY__IMAGE__INIT;
    if (size < 24 || memcmp(bytes, signature, sizeof signature) != 0) FAIL(ERR_FORMAT, "%s is no PNG", tag);
    image.width = (int32_t)(big_endian(bytes + 16) & INT32_MAX);
    image.height = (int32_t)(big_endian(bytes + 20) & INT32_MAX);
    image.colorspace = RGB;
    image.encoded_image_string = (ProtobufCBinaryData){size, (uint8_t *)bytes};
    board->count = 0;
    Value *value = next_value(board);
    snprintf(value->tag, TENSORBOARD_TAG_MAX, "%s", tag);
    value->value_case = VASILY__TENSORBOARD__SUMMARY__VALUE__VALUE_IMAGE;
    value->image = &image;
    board->count++;
    TRY(write_values(board, step));
fail:
    return status;
}

/* ---- numbers ---- */

static void take_metric(void *context, const char *name, double number)
{
    TensorBoard *board = context;
    Value *value = next_value(board);
    if (value && isfinite(number) && tensorboard_metrics_tag(name, value->tag)) add_scalar(board, number);
}

Status tensorboard_metrics(TensorBoard *board, int64_t step, const JsonValue *line)
{
    json_numbers_visit(line, take_metric, board);
    return write_values(board, step);
}

/* "validation/loss_ema" */
static void take_validation(void *context, const char *name, double number)
{
    TensorBoard *board = context;
    Value *value = next_value(board);
    if (!value || !isfinite(number) || strcmp(name, "step") == 0) return;
    snprintf(value->tag, TENSORBOARD_TAG_MAX, "validation/%s_%s", name, board->suffix);
    add_scalar(board, number);
}

/* "validation_by_timestep_ema/0500" */
static void take_timesteps(TensorBoard *board, const JsonValue *pairs)
{
    for (size_t i = 0; json_is_array(pairs) && i < json_count(pairs); i++) {
        const JsonValue *pair = json_item(pairs, i);
        double t, loss;
        Value *value = next_value(board);
        if (!value || !json_number(json_item(pair, 0), &t) || !json_number(json_item(pair, 1), &loss)) continue;
        if (!(t >= 0 && t < 1e9) || !isfinite(loss)) continue;
        snprintf(value->tag, TENSORBOARD_TAG_MAX, "validation_by_timestep_%s/%04lld", board->suffix, (long long)t);
        add_scalar(board, loss);
    }
}

Status tensorboard_validation(TensorBoard *board, int64_t step, const JsonValue *line)
{
    const char *weights = json_text(json_get(line, "weights"), NULL);
    board->suffix = weights && strcmp(weights, "ema") == 0 ? "ema" : "live";
    json_numbers_visit(line, take_validation, board);
    take_timesteps(board, json_get(line, "by_timestep"));
    return write_values(board, step);
}

void tensorboard_library_version(char *out, size_t capacity)
{
    snprintf(out, capacity, "protobuf-c %s", protobuf_c_version());
}
