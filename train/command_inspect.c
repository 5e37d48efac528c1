/* vasily inspect: what is in a weight file. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "model/weight_file.h"
#include "train/checkpoint.h"
#include "train/checkpoint_arrays.h"
#include "train/checkpoint_snapshot.h"
#include "train/command.h"
#include "train/init_weights.h"

enum { PIECE = 1 << 16 };

typedef struct InspectArguments {
    bool json, no_statistics;
    int32_t part; /* of a checkpoint: index into CHECKPOINT_ARRAY_WORDS */
} InspectArguments;

/* Of the finite values. */
typedef struct Statistics {
    int64_t finite, nan, infinite;
    double min, max, mean, deviation; /* NAN without finite values */
} Statistics;

/* Mean and deviation by Welford's updates of blocks (Chan et al. 1979), in double. */
static void add_piece(Statistics *s, double *squares, const float *values, int64_t count)
{
    double sum = 0, own_squares = 0;
    int64_t finite = 0;
    for (int64_t i = 0; i < count; i++) {
        double v = (double)values[i];
        s->nan += isnan(v) != 0;
        s->infinite += isinf(v) != 0;
        if (!isfinite(v)) continue;
        finite++;
        sum += v;
        if (!(v >= s->min)) s->min = v;
        if (!(v <= s->max)) s->max = v;
    }
    if (finite == 0) return;
    double mean = sum / (double)finite;
    for (int64_t i = 0; i < count; i++)
        if (isfinite(values[i])) own_squares += ((double)values[i] - mean) * ((double)values[i] - mean);
    double n = (double)s->finite, m = (double)finite, delta = mean - (s->finite ? s->mean : 0);
    s->mean = (s->finite ? s->mean : 0) + delta * m / (n + m);
    *squares += own_squares + delta * delta * n * m / (n + m);
    s->finite += finite;
}

static void measure(const WeightTensor *t, float *piece, Statistics *out)
{
    double squares = 0;
    *out = (Statistics){.min = NAN, .max = NAN, .mean = NAN, .deviation = NAN};
    for (int64_t at = 0; at < t->count; at += PIECE) {
        int64_t n = t->count - at < PIECE ? t->count - at : PIECE;
        weight_tensor_to_f32(t, at, n, piece);
        add_piece(out, &squares, piece, n);
        if (at % (64 * PIECE) == 0) weight_tensor_release(t);
    }
    weight_tensor_release(t);
    if (out->finite) out->deviation = sqrt(squares / (double)out->finite);
}

static Status shape_text(const WeightTensor *t, StrBuf *out)
{
    Status status = STATUS_OK;
    out->size = 0;
    TRY(strbuf_printf(out, "("));
    for (int32_t d = 0; d < t->ndim; d++) TRY(strbuf_printf(out, "%s%lld", d > 0 ? "," : "", (long long)t->shape[d]));
    TRY(strbuf_printf(out, ")"));
fail:
    return status;
}

static int64_t total(const WeightFile *file, bool bytes)
{
    int64_t sum = 0;
    for (int32_t i = 0; i < weight_file_count(file); i++) {
        const WeightTensor *t = weight_file_get(file, i);
        sum += t->count * (bytes ? (int64_t)safe_dtype_size(t->dtype) : 1);
    }
    return sum;
}

/* ---- for people ---- */

/* Metadata is free text: what a terminal would obey is shown as '?'. */
static void print_plain(const char *text)
{
    size_t length;
    for (; *text; text += length) {
        length = *text == (char)0xc2 && text[1] ? 2 : 1;
        if (utf8_has_controls(text, length))
            putchar('?');
        else
            fwrite(text, 1, length, stdout);
    }
}

static Status print_lines(const WeightFile *file, const CheckpointState *state, bool statistics, float *piece)
{
    Status status = STATUS_OK;
    StrBuf shape = {0};
    const char *key, *value;
    int64_t nan = 0, infinite = 0;
    size_t width = 4;
    printf("%s: %s\n", weight_file_path(file), weight_format_name(weight_file_format(file)));
    if (state)
        printf("checkpoint of step %lld, %lld samples, seed %lld\n", (long long)state->step, (long long)state->samples,
               (long long)state->seed);
    for (int32_t i = 0; weight_file_metadata(file, i, &key, &value); i++) {
        print_plain(key);
        printf(": ");
        print_plain(value);
        printf("\n");
    }
    for (int32_t i = 0; i < weight_file_count(file); i++) {
        size_t length = strlen(weight_file_get(file, i)->name);
        if (length > width) width = length < 72 ? length : 72;
    }
    printf("\n%-*s  %-5s %-20s", (int)width, "name", "dtype", "shape");
    printf(statistics ? " %12s %12s %12s %12s %8s\n" : "\n", "min", "max", "mean", "std", "nan");
    for (int32_t i = 0; i < weight_file_count(file); i++) {
        const WeightTensor *t = weight_file_get(file, i);
        Statistics s;
        TRY(shape_text(t, &shape));
        printf("%-*s  %-5s %-20s", (int)width, t->name, safe_dtype_name(t->dtype), shape.data);
        if (statistics) {
            measure(t, piece, &s);
            nan += s.nan;
            infinite += s.infinite;
            printf(" %12.5g %12.5g %12.5g %12.5g %8lld", s.min, s.max, s.mean, s.deviation, (long long)s.nan);
            if (s.infinite > 0) printf("  and %lld infinite", (long long)s.infinite);
        }
        putchar('\n');
    }
    printf("\n%d tensors, %lld parameters, %lld bytes", weight_file_count(file), (long long)total(file, false),
           (long long)total(file, true));
    if (statistics) printf(", %lld NaN, %lld infinite", (long long)nan, (long long)infinite);
    putchar('\n');
fail:
    strbuf_free(&shape);
    return status;
}

/* ---- for programs ---- */

static void write_tensor(JsonWriter *w, const WeightTensor *t, bool statistics, float *piece)
{
    Statistics s;
    json_object(w, NULL);
    json_string(w, "name", t->name);
    json_string(w, "dtype", safe_dtype_name(t->dtype));
    json_array(w, "shape");
    for (int32_t d = 0; d < t->ndim; d++) json_int(w, NULL, t->shape[d]);
    json_end_array(w);
    json_int(w, "parameters", t->count);
    if (statistics) {
        measure(t, piece, &s);
        json_float(w, "min", s.min);
        json_float(w, "max", s.max);
        json_float(w, "mean", s.mean);
        json_float(w, "std", s.deviation);
        json_int(w, "nan", s.nan);
        json_int(w, "infinite", s.infinite);
    }
    json_end_object(w);
}

static Status print_json(const WeightFile *file, const CheckpointState *state, bool statistics, float *piece)
{
    Status status = STATUS_OK;
    StrBuf text = {0};
    JsonWriter w;
    const char *key, *value;
    json_begin(&w, &text);
    json_object(&w, NULL);
    json_string(&w, "file", weight_file_path(file));
    json_string(&w, "format", weight_format_name(weight_file_format(file)));
    if (state) json_int(&w, "step", state->step);
    if (state) json_int(&w, "samples", state->samples);
    if (state) json_int(&w, "seed", state->seed);
    json_object(&w, "metadata");
    for (int32_t i = 0; weight_file_metadata(file, i, &key, &value); i++) json_string(&w, key, value);
    json_end_object(&w);
    json_array(&w, "tensors");
    for (int32_t i = 0; i < weight_file_count(file); i++) write_tensor(&w, weight_file_get(file, i), statistics, piece);
    json_end_array(&w);
    json_int(&w, "count", weight_file_count(file));
    json_int(&w, "parameters", total(file, false));
    json_int(&w, "bytes", total(file, true));
    json_end_object(&w);
    TRY(strbuf_append(&text, "\n", 1));
    fputs(text.data, stdout);
fail:
    strbuf_free(&text);
    return status;
}

/* ---- */

/* A checkpoint of ours: one of its files, and its state. */
static Status find_part(const char *path, int32_t part, char out[PATH_MAX], CheckpointState *state, bool *is_checkpoint)
{
    Status status = STATUS_OK;
    bool is_ema;
    char folder[PATH_MAX];
    TRY(init_weights_find(path, false, out, &is_ema));
    *is_checkpoint = strcmp(path, out) != 0;
    if (!*is_checkpoint) return STATUS_OK;
    memcpy(folder, out, sizeof folder);
    *strrchr(folder, '/') = '\0';
    TRY(checkpoint_read_state(folder, state));
    if (!checkpoint_has(folder, CHECKPOINT_ARRAY_WORDS[part]))
        FAIL(ERR_IO, "%s has no %s.h5", folder, CHECKPOINT_ARRAY_WORDS[part]);
    TRY(checkpoint_array_path(out, folder, CHECKPOINT_ARRAY_WORDS[part]));
fail:
    return status;
}

static Status run(CommandCall *call)
{
    Status status = STATUS_OK;
    const InspectArguments *arguments = call->options;
    WeightFile *file = NULL;
    CheckpointState state = {0};
    char path[PATH_MAX];
    bool is_checkpoint = false;
    float *piece = mem_alloc_array(PIECE, sizeof *piece);
    if (!piece) FAIL(ERR_MEMORY, "out of memory");
    if (call->positional.count != 1) FAIL(ERR_USAGE, "usage: vasily inspect %s", call->command->usage);
    TRY(find_part(call->positional.items[0], arguments->part, path, &state, &is_checkpoint));
    TRY(weight_file_open(path, &file));
    const CheckpointState *told = is_checkpoint ? &state : NULL;
    TRY(arguments->json ? print_json(file, told, !arguments->no_statistics, piece)
                        : print_lines(file, told, !arguments->no_statistics, piece));
fail:
    weight_file_close(file);
    checkpoint_state_free(&state);
    free(piece);
    return status;
}

static const ArgSpec options[] = {
    {"json", ARG_FLAG, offsetof(InspectArguments, json), NULL, "as JSON", 0, 0, NULL},
    {"no-stats", ARG_FLAG, offsetof(InspectArguments, no_statistics), NULL,
     "names, shapes and types only, without reading the values", 0, 0, NULL},
    {"part", ARG_WORD, offsetof(InspectArguments, part), "weights|ema|adam_m|adam_v",
     "of a checkpoint (default weights)", 0, 0, CHECKPOINT_ARRAY_WORDS},
};

const Command command_inspect = {
    .name = "inspect",
    .summary = "list the tensors of a weight file or checkpoint",
    .usage = "FILE|FOLDER|RUN|CHECKPOINT [--json] [--no-stats] [--part weights|ema|adam_m|adam_v]",
    .details =
        "Reads safetensors, PyTorch .pt, .ckpt and .bin, and the HDF5 files of checkpoints. Statistics are those "
        "of the\n"
        "finite values; NaN are counted. Nothing in a file is executed.\n",
    .table = COMMAND_TABLE(options),
    .options_size = sizeof(InspectArguments),
    .run = run,
};
