/* vasily probe xlmr-clip, mt5: one run of a text encoder on tokens from a file. */
#include "model/probe_text.h"
#include "train/command.h"
#include "train/network.h"
#include "train/run_config.h"

typedef struct ProbeArguments {
    const char *weights; /* NULL: not given */
} ProbeArguments;

typedef Status (*ProbeFunction)(const ModelConfig *model, Backend *backend, Dtype compute, const char *in,
                                const char *out, uint64_t seed);

static Status run(CommandCall *call, int which, ProbeFunction probe)
{
    Status status = STATUS_OK;
    const ProbeArguments *arguments = call->options;
    const char *const *overrides;
    size_t override_count;
    RunConfig config;
    Config *file = NULL;
    Backend *backend = NULL;
    TRY(command_arguments(call, 3, &overrides, &override_count));
    const char *const *paths = call->positional.items;
    TRY(run_config_load_unet(paths[0], overrides, override_count, &config, &file));
    TRY(model_config_check(&config.model, file));
    const char **weights = which == 1 ? &config.model.text_encoder1.weights : &config.model.text_encoder2.weights;
    if (arguments->weights) *weights = arguments->weights;
    TRY(network_open_backend(&config, NULL, &backend));
    TRY(probe(&config.model, backend, model_compute_dtype(&config.model, backend), paths[1], paths[2],
              (uint64_t)config.seed));
fail:
    if (backend) backend_close(backend);
    config_free(file);
    return status;
}

static Status run_xlmr_clip(CommandCall *call)
{
    return run(call, 1, probe_xlmr_clip);
}

static Status run_mt5(CommandCall *call)
{
    return run(call, 2, probe_mt5);
}

static const ArgSpec options[] = {
    {"weights", ARG_TEXT, offsetof(ProbeArguments, weights), "FILE",
     "weight file in place of the one that the config names", 0, 0, NULL},
};

#define USAGE "CONFIG INPUTS.safetensors OUTPUTS.safetensors [key.path=value ...] [--weights FILE]"
#define WHAT_IS_READ                                                                                                  \
    "Reads `tokens` (N,T, integers; also called `input_ids`) and `mask` (N,T, 0 or 1; also `attention_mask`; all 1\n" \
    "where it is missing) and writes "
#define WHAT_COUNTS                                                                                                 \
    "Of CONFIG the sections `model` and `device` and `seed` count; model.precision=f32 compares most exactly. An\n" \
    "empty config, {}, is Kandinsky 2.0's encoder.\n"

const Command command_probe_xlmr_clip = {
    .name = "probe xlmr-clip",
    .summary = "run text encoder 1 on given tokens, for parity checks",
    .usage = USAGE,
    .details = WHAT_IS_READ "`states` (N,T,D) and `pooled` (N,P).\n" WHAT_COUNTS,
    .table = COMMAND_TABLE(options),
    .options_size = sizeof(ProbeArguments),
    .computes = true,
    .run = run_xlmr_clip,
};

const Command command_probe_mt5 = {
    .name = "probe mt5",
    .summary = "run text encoder 2 on given tokens, for parity checks",
    .usage = USAGE,
    .details = WHAT_IS_READ "`states` (N,T,D).\n" WHAT_COUNTS,
    .table = COMMAND_TABLE(options),
    .options_size = sizeof(ProbeArguments),
    .computes = true,
    .run = run_mt5,
};
