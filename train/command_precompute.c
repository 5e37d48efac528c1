/* vasily precompute: the frozen networks' outputs, once for all. */
#include <stdio.h>

#include "base/log.h"
#include "train/command.h"
#include "train/precompute.h"
#include "train/run_agreement.h"
#include "train/run_config.h"

typedef struct PrecomputeArguments {
    const char *stage;
    const char *out;
    int64_t pictures, captions;
} PrecomputeArguments;

static Status check_one_run(const RunConfig *config, const PrecomputeArguments *arguments, Comm *comm)
{
    Status status = STATUS_OK;
    char command[96];
    snprintf(command, sizeof command, "precompute --pictures %lld --captions %lld", (long long)arguments->pictures,
             (long long)arguments->captions);
    TRY(run_agreement_check(config, command, comm));
    TRY(run_agreement_check_files(config, true, comm));
fail:
    return status;
}

static Status load(CommandCall *call, RunConfig *config, Config **file)
{
    Status status = STATUS_OK;
    const PrecomputeArguments *arguments = call->options;
    const char *const *overrides;
    size_t override_count;
    TRY(command_arguments(call, 1, &overrides, &override_count));
    TRY(run_config_load_one(call->positional.items[0], overrides, override_count, arguments->stage, config, file));
    if (arguments->out) config->frozen.path = arena_strdup(call->arena, arguments->out);
    if (!config->frozen.path) FAIL(ERR_MEMORY, "out of memory");
    if (config->frozen.latents == FROZEN_INLINE && config->frozen.text == FROZEN_INLINE) {
        log_info("frozen.latents and frozen.text are inline: both are precomputed; set them to precomputed to train "
                 "with what is written");
        config->frozen.latents = config->frozen.text = FROZEN_PRECOMPUTED;
    }
fail:
    return status;
}

static Status run(CommandCall *call)
{
    Status status = STATUS_OK;
    const PrecomputeArguments *arguments = call->options;
    RunConfig config;
    Config *file = NULL;
    DataConfig all = {0};
    TRY(load(call, &config, &file));
    TRY(check_one_run(&config, arguments, call->comm));
    TRY(run_config_check_precompute(&config, file));
    TRY(validation_config_all_data(&config.validation, &config.data, &all));
    config.data.sources = all.sources;
    TRY(precompute_run(&(PrecomputeOptions){
        .run = &config, .comm = call->comm, .pictures = arguments->pictures, .captions = arguments->captions}));
fail:
    validation_config_free_data(&all);
    config_free(file);
    return status;
}

static const ArgSpec options[] = {
    {"stage", ARG_TEXT, offsetof(PrecomputeArguments, stage), "NAME",
     "as this stage of the config has it (default: what stands outside its stages)", 0, 0, NULL},
    {"out", ARG_TEXT, offsetof(PrecomputeArguments, out), "DIR",
     "folder of the files, which training then finds as frozen.path (default: what that key says)", 0, 0, NULL},
    {"pictures", ARG_INT, offsetof(PrecomputeArguments, pictures), "N",
     "pictures at once (default: a micro-batch of training, at most as many pixels as 16 of 256 x 256 have)", 1, 4096,
     NULL},
    {"captions", ARG_INT, offsetof(PrecomputeArguments, captions), "N", "captions at once (default 16)", 1, 4096, NULL},
};

const Command command_precompute = {
    .name = "precompute",
    .summary = "run the frozen networks once over all data",
    .usage = "CONFIG [key.path=value ...] [--out DIR]",
    .details =
        "Writes what the config's frozen.latents and frozen.text declare precomputed (both where neither does): one\n"
        "HDF5 file a shard and kind, beside the shard or under frozen.path; of validation.sources, too. `vasily "
        "train`\n"
        "with frozen.latents, frozen.text or both set to precomputed reads them, in the same order and with the same\n"
        "losses as inline. Under `mpirun -n W` the shards are dealt to W ranks.\n"
        "\n"
        "A file appears when it is whole. Shards whose files fit the config are passed over, so after a stop the same\n"
        "command goes on; files made with other weights, tokenizers, filters or sizes are made anew.\n",
    .table = COMMAND_TABLE(options),
    .options_size = sizeof(PrecomputeArguments),
    .parallel = true,
    .computes = true,
    .run = run,
    .load = load,
};
