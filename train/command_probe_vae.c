/* vasily probe vae-encode, vae-decode: one run of the picture autoencoder on tensors from a file. */
#include "model/probe_autoencoder.h"
#include "train/command.h"
#include "train/network.h"
#include "train/run_config.h"

typedef struct ProbeArguments {
    const char *weights; /* NULL: not given */
} ProbeArguments;

typedef Status (*ProbeFunction)(const ModelConfig *model, Backend *backend, Dtype compute, const char *in,
                                const char *out, uint64_t seed);

static Status run(CommandCall *call, ProbeFunction probe)
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
    if (arguments->weights) config.model.autoencoder.weights = arguments->weights;
    TRY(model_config_check(&config.model, file));
    TRY(network_open_backend(&config, NULL, &backend));
    TRY(probe(&config.model, backend, model_compute_dtype(&config.model, backend), paths[1], paths[2],
              (uint64_t)config.seed));
fail:
    if (backend) backend_close(backend);
    config_free(file);
    return status;
}

static Status run_encode(CommandCall *call)
{
    return run(call, probe_vae_encode);
}

static Status run_decode(CommandCall *call)
{
    return run(call, probe_vae_decode);
}

static const ArgSpec options[] = {
    {"weights", ARG_TEXT, offsetof(ProbeArguments, weights), "FILE",
     "weight file in place of model.autoencoder.weights", 0, 0, NULL},
};

#define USAGE "CONFIG INPUTS.safetensors OUTPUTS.safetensors [key.path=value ...] [--weights FILE]"
#define WHAT_COUNTS                                                                                                    \
    "Sizes are multiples of the autoencoder's factor. Of CONFIG the sections `model` and `device` and `seed` count;\n" \
    "model.precision=f32 compares most exactly.\n"

const Command command_probe_vae_encode = {
    .name = "probe vae-encode",
    .summary = "run the autoencoder's encoder on given pictures, for parity checks",
    .usage = USAGE,
    .details = "Reads `pixels` (N,3,H,W float32 in [-1,1]) and, where it is there, `noise` (N,C,h,w) for the posterior "
               "of kl;\n"
               "writes `moments` (N,2C,h,w: mean, log variance) and `latent` (N,C,h,w; times the scale): drawn with "
               "the noise,\n"
               "or the mean without. " WHAT_COUNTS,
    .table = COMMAND_TABLE(options),
    .options_size = sizeof(ProbeArguments),
    .computes = true,
    .run = run_encode,
};

const Command command_probe_vae_decode = {
    .name = "probe vae-decode",
    .summary = "run the autoencoder's decoder on given latents, for parity checks",
    .usage = USAGE,
    .details =
        "Reads `latent` (N,C,h,w; float32, times the scale) and writes `pixels` (N,3,H,W), not clipped.\n" WHAT_COUNTS,
    .table = COMMAND_TABLE(options),
    .options_size = sizeof(ProbeArguments),
    .computes = true,
    .run = run_decode,
};
