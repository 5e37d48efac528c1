/* vasily import: a published weight file as safetensors, checked name by name. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "model/training_graph.h"
#include "model/weight_names.h"
#include "train/command.h"
#include "train/run_config.h"
#include "train/weight_stream.h"

#define FIRST_CONVOLUTION "input_blocks.0.0.weight"

typedef struct ImportArguments {
    const char *out;
    int32_t dtype; /* StreamDtype */
    bool ignore_extra;
} ImportArguments;

typedef struct Import {
    WeightKind kind;
    const char *path;
    RunConfig config;
    Config *config_file;
    WeightFile *file;
    ParamTable *params;
    WeightMatch match;
} Import;

static Status find_kind(const char *word, WeightKind *out)
{
    Status status = STATUS_OK;
    for (int k = 0; k < WEIGHT_KIND_COUNT; k++)
        if (strcmp(word, WEIGHT_KIND_WORDS[k]) == 0) {
            *out = (WeightKind)k;
            return STATUS_OK;
        }
    FAIL(ERR_USAGE, "vasily import: \"%s\" is no kind of weights; unet, vae, xlmr-clip and mt5 are", word);
fail:
    return status;
}

/* The config file that is the third argument, if it is one, or the published sizes; then the overrides. */
static Status load_config(CommandCall *call, Import *import)
{
    Status status = STATUS_OK;
    ArgTexts *all = &call->positional, overrides = {0};
    bool named = all->count > 2 && !strchr(all->items[2], '=');
    const char *const *given = NULL;
    size_t count = 0;
    TRY(command_arguments(call, named ? 3 : 2, &given, &count));
    if (!named && import->kind == WEIGHTS_VAE)
        TRY(args_texts_add(&overrides, call->arena, "model.autoencoder.kind=kl"));
    for (size_t i = 0; i < count; i++) TRY(args_texts_add(&overrides, call->arena, given[i]));
    TRY(config_load(named ? all->items[2] : "published sizes", named ? NULL : "seed: 0\n", &RUN_CONFIG_SCHEMA,
                    overrides.items, overrides.count, &import->config, &import->config_file));
    TRY(model_config_check_unet(&import->config.model, import->config_file));
    if (import->kind == WEIGHTS_VAE && import->config.model.autoencoder.kind != AUTOENCODER_KL)
        FAIL_WITH(config_error(import->config_file, "model.autoencoder.kind",
                               "this autoencoder has no weights; `vasily import vae` is for kind kl"));
fail:
    return status;
}

static Status match_file(Import *import)
{
    Status status = STATUS_OK;
    weight_match_free(&import->match);
    param_table_free(import->params);
    import->params = NULL;
    TRY(param_table_create(&import->params));
    TRY(model_declare_params(import->params, &import->config.model));
    TRY(weight_match(import->file, import->params, import->kind, &import->match));
fail:
    return status;
}

/* An inpainting network differs in its first convolution alone: latent, masked latent and mask. */
static Status try_inpainting(Import *import)
{
    Status status = STATUS_OK;
    char name[128];
    ModelConfig *model = &import->config.model;
    int64_t wide = 2 * model_latent_channels(model) + 1;
    const size_t inside = strlen(import->match.inside);
    memcpy(name, import->match.inside, inside);
    memcpy(name + inside, FIRST_CONVOLUTION, sizeof FIRST_CONVOLUTION);
    const WeightTensor *first = weight_file_find(import->file, name);
    if (!first || first->ndim != 4 || first->shape[1] != wide || model->in_channels == wide) return STATUS_OK;
    model->in_channels = wide;
    TRY(match_file(import));
    log_info("an inpainting network: its first convolution takes %lld channels; use it with model.in_channels=%lld",
             (long long)wide, (long long)wide);
fail:
    return status;
}

/* Every line of a list, on standard error. */
static void log_lines(const char *word, const StrBuf *lines)
{
    const char *at = lines->data ? lines->data : "";
    while (*at) {
        size_t length = strcspn(at, "\n");
        log_warn("%s: %.*s", word, (int)length, at);
        at += length + (at[length] == '\n');
    }
}

static Status check(Import *import, bool ignore_extra)
{
    Status status = STATUS_OK;
    const WeightMatch *match = &import->match;
    log_lines("missing", &match->missing);
    log_lines("another shape or type", &match->shaped);
    log_lines(ignore_extra ? "unknown, left out" : "unknown", &match->extra);
    TRY(weight_match_check(match, import->path, import->kind, ignore_extra,
                           match->missing_count + match->shaped_count > 0
                               ? "a file of another architecture needs its config: vasily import KIND FILE CONFIG"
                               : "--ignore-extra leaves them out"));
fail:
    return status;
}

static Status write_out(const Import *import, const ImportArguments *arguments, const char *source)
{
    Status status = STATUS_OK;
    int32_t count = 0, size = param_table_size(import->params);
    StreamTotals totals;
    StreamTensor *items = mem_alloc_array((size_t)size + 1, sizeof *items);
    if (!items) FAIL(ERR_MEMORY, "out of memory");
    for (int32_t p = 0; p < size; p++) {
        const Param *param = param_table_get(import->params, p);
        if (import->match.tensors[p])
            items[count++] = (StreamTensor){import->match.tensors[p], weight_published_name(import->kind, param)};
    }
    TRY(weight_stream_write(arguments->out, items, count, (StreamDtype)arguments->dtype, "import", &totals));
    log_info("%s: %s out of %s (%s), %d tensors, %.1f M values, %.1f MB, dtype %s; %d tensors of other parts left out",
             arguments->out, WEIGHT_KIND_WORDS[import->kind], source,
             weight_format_name(weight_file_format(import->file)), count, (double)totals.values / 1e6,
             (double)totals.bytes / 1e6, STREAM_DTYPE_WORDS[arguments->dtype], import->match.ignored_count);
    if (import->match.inside[0]) log_info("the names in the file begin with \"%s\"", import->match.inside);
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
    const ImportArguments *arguments = call->options;
    Import import = {0};
    if (call->positional.count < 2 || !arguments->out) FAIL(ERR_USAGE, "usage: vasily import %s", call->command->usage);
    TRY(find_kind(call->positional.items[0], &import.kind));
    import.path = call->positional.items[1];
    TRY(load_config(call, &import));
    TRY(weight_file_open(import.path, &import.file));
    TRY(match_file(&import));
    if (import.kind == WEIGHTS_UNET && import.match.shaped_count > 0) TRY(try_inpainting(&import));
    TRY(check(&import, arguments->ignore_extra));
    TRY(weight_file_verify(import.file));
    TRY(write_out(&import, arguments, import.path));
fail:
    weight_match_free(&import.match);
    param_table_free(import.params);
    weight_file_close(import.file);
    config_free(import.config_file);
    return status;
}

static const ArgSpec options[] = {
    {"out", ARG_TEXT, offsetof(ImportArguments, out), "FILE", "the safetensors file to write", 0, 0, NULL},
    {"dtype", ARG_WORD, offsetof(ImportArguments, dtype), "keep|f32|bf16|f16",
     "of the file (default keep: every value as it is, to the bit)", 0, 0, STREAM_DTYPE_WORDS},
    {"ignore-extra", ARG_FLAG, offsetof(ImportArguments, ignore_extra), NULL,
     "leave out tensors that the network does not have, instead of refusing the file", 0, 0, NULL},
};

static const ImportArguments defaults = {.dtype = STREAM_KEEP};

const Command command_import = {
    .name = "import",
    .summary = "check a published weight file and write it as safetensors",
    .usage = "unet|vae|xlmr-clip|mt5 FILE [CONFIG] [key.path=value ...] --out X.safetensors\n"
             "              [--dtype keep|f32|bf16|f16] [--ignore-extra]",
    .details =
        "FILE is a PyTorch .pt, .ckpt or .bin, a safetensors file, or a folder with one (in parts, too). Nothing in "
        "it\n"
        "is executed. The network is Kandinsky 2.0's unless CONFIG says otherwise; every tensor that is missing,\n"
        "unknown or of another shape is named. What the network does not use (mT5's decoder, the autoencoder's\n"
        "discriminator, optimizer states) is left out. Values are streamed: memory does not grow with the file.\n",
    .table = COMMAND_TABLE(options),
    .options_size = sizeof(ImportArguments),
    .defaults = &defaults,
    .run = run,
};
