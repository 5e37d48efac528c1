/* vasily export: the weights of a checkpoint as one safetensors file, under the names of the published weight files. */
#include "base/log.h"
#include "model/weights.h"
#include "train/command.h"
#include "train/saved_model.h"

enum { DTYPE_WORD_F32, DTYPE_WORD_BF16, DTYPE_WORD_F16 };
static const char *const dtype_words[] = {"f32", "bf16", "f16", NULL};
static const SafeDtype dtypes[] = {SAFE_F32, SAFE_BF16, SAFE_F16};

typedef struct ExportArguments {
    const char *out;
    bool weights, ema;
    int32_t dtype;
} ExportArguments;

static Status run(CommandCall *call)
{
    Status status = STATUS_OK;
    const ExportArguments *arguments = call->options;
    SavedModel model = {0};
    if (call->positional.count != 1 || !arguments->out)
        FAIL(ERR_USAGE, "usage: vasily export %s", call->command->usage);
    if (arguments->weights && arguments->ema) FAIL(ERR_USAGE, "vasily export: --ema or --weights, not both");
    TRY(saved_model_open(call->positional.items[0], !arguments->weights, NULL, 0, &model));
    TRY(weights_save(arguments->out, &model.store, NULL, (WeightsFilter){.trainable = true}, dtypes[arguments->dtype]));
    log_info("%s: %s of %s, %lld parameters, %s", arguments->out, model.ema ? "moving average" : "weights", model.path,
             (long long)param_table_trainable_parameters(model.params), dtype_words[arguments->dtype]);
fail:
    saved_model_close(&model);
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
