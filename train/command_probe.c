/* vasily probe unet: one run of the network on tensors from a file. */
#include "engine/backend.h"
#include "model/probe.h"
#include "train/command.h"
#include "train/network.h"
#include "train/run_config.h"

typedef struct ProbeArguments {
    const char *weights;
    bool backward;
} ProbeArguments;

static Status run(CommandCall *call)
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
    TRY(network_open_backend(&config, NULL, &backend));
    TRY(probe_unet(&config.model, backend, model_compute_dtype(&config.model, backend), paths[1], paths[2],
                   arguments->weights, (uint64_t)config.seed, arguments->backward));
fail:
    if (backend) backend_close(backend);
    config_free(file);
    return status;
}

static const ArgSpec options[] = {
    {"weights", ARG_TEXT, offsetof(ProbeArguments, weights), "FILE",
     "safetensors file of the weights (default: initial weights drawn from `seed`)", 0, 0, NULL},
    {"backward", ARG_FLAG, offsetof(ProbeArguments, backward), NULL,
     "read `grad_out` too, and write the gradient of every weight and input under its name", 0, 0, NULL},
};

const Command command_probe_unet = {
    .name = "probe unet",
    .summary = "run the network on given tensors, for parity checks",
    .usage = "CONFIG INPUTS.safetensors OUTPUTS.safetensors [key.path=value ...] [--weights FILE] [--backward]",
    .details =
        "Reads `x` (N,C,H,W float32), `timesteps` (N), `full_emb1` (N,T1,D1), `pooled_emb1` (N,P), `full_emb2` "
        "(N,T2,D2)\n"
        "and writes `out` (N,C,H,W). Weights carry the names of Kandinsky 2.0's weight files. Of CONFIG the sections\n"
        "`model` and `device` and `seed` count; model.precision=f32 compares most exactly.\n",
    .table = COMMAND_TABLE(options),
    .options_size = sizeof(ProbeArguments),
    .computes = true,
    .run = run,
};
