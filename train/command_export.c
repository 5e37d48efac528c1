/* vasily export: the weights of a checkpoint as one safetensors file, under the names of the published weight files. A
 * checkpoint's HDF5 files have these names and this layout already, so values are streamed from file to file. */
#include <stdlib.h>

#include "base/file.h"
#include "base/log.h"
#include "train/command.h"
#include "train/init_weights.h"
#include "train/weight_stream.h"

typedef struct ExportArguments {
    const char *out;
    bool weights, ema;
    int32_t dtype; /* StreamDtype */
} ExportArguments;

static const char *const dtype_words[] = {"f32", "bf16", "f16", NULL}; /* as STREAM_DTYPE_WORDS, without "keep" */

static Status write_out(const WeightFile *file, const ExportArguments *arguments, bool is_ema)
{
    Status status = STATUS_OK;
    int32_t count = weight_file_count(file);
    StreamTotals totals;
    StreamTensor *items = mem_alloc_array((size_t)count + 1, sizeof *items);
    if (!items) FAIL(ERR_MEMORY, "out of memory");
    for (int32_t i = 0; i < count; i++) {
        const WeightTensor *t = weight_file_get(file, i);
        items[i] = (StreamTensor){t, t->name};
    }
    TRY(weight_stream_write(arguments->out, items, count, (StreamDtype)arguments->dtype, "export", &totals));
    log_info("%s: %s of %s, %lld parameters, %s", arguments->out, is_ema ? "moving average" : "weights",
             weight_file_path(file), (long long)totals.values, dtype_words[arguments->dtype]);
    if (totals.overflowed > 0)
        log_warn("%lld values are beyond f16 and became infinite; bf16 and f32 hold them",
                 (long long)totals.overflowed);
fail:
    free(items);
    return status;
}

static Status run(CommandCall *call)
{
    Status status = STATUS_OK;
    const ExportArguments *arguments = call->options;
    WeightFile *file = NULL;
    char path[PATH_MAX];
    bool is_ema = false;
    if (call->positional.count != 1 || !arguments->out)
        FAIL(ERR_USAGE, "usage: vasily export %s", call->command->usage);
    if (arguments->weights && arguments->ema) FAIL(ERR_USAGE, "vasily export: --ema or --weights, not both");
    const char *checkpoint = call->positional.items[0];
    if (file_exists(checkpoint) && !file_is_dir(checkpoint))
        FAIL(ERR_USAGE, "vasily export: %s is no checkpoint; `vasily import` writes weight files anew", checkpoint);
    TRY(init_weights_find(checkpoint, !arguments->weights, path, &is_ema));
    TRY(weight_file_open(path, &file));
    if (weight_file_format(file) != WEIGHT_HDF5)
        FAIL(ERR_USAGE, "vasily export: %s is no checkpoint; `vasily import` writes weight files anew", checkpoint);
    if (!arguments->weights && !is_ema) log_warn("%s has no moving average: using its weights", checkpoint);
    TRY(write_out(file, arguments, is_ema));
fail:
    weight_file_close(file);
    return status;
}

static const ArgSpec options[] = {
    {"out", ARG_TEXT, offsetof(ExportArguments, out), "FILE", "the safetensors file to write", 0, 0, NULL},
    {"ema", ARG_FLAG, offsetof(ExportArguments, ema), NULL, "the moving average of the weights (the default)", 0, 0,
     NULL},
    {"weights", ARG_FLAG, offsetof(ExportArguments, weights), NULL, "the weights themselves", 0, 0, NULL},
    {"dtype", ARG_WORD, offsetof(ExportArguments, dtype), "f32|bf16|f16", "of the file (default f32)", 0, 0,
     dtype_words},
};

const Command command_export = {
    .name = "export",
    .summary = "write a checkpoint's weights as safetensors",
    .usage = "RUN|CHECKPOINT --out X.safetensors [--ema|--weights] [--dtype f32|bf16|f16]",
    .details = "Names and layout are those of Kandinsky 2.0's published weight files (convolutions O,C,KH,KW). A run's "
               "folder\n"
               "stands for its newest good checkpoint.\n",
    .table = COMMAND_TABLE(options),
    .options_size = sizeof(ExportArguments),
    .run = run,
};
