/* vasily data order: the keys of each step's samples, in the order that training reads them. */
#include <stdio.h>

#include "data/loader.h"
#include "train/command.h"
#include "train/frozen_data.h"
#include "train/run_config.h"

typedef struct OrderArguments {
    const char *stage;
    int64_t ranks, steps;
} OrderArguments;

static Status run(CommandCall *call)
{
    Status status = STATUS_OK;
    const OrderArguments *arguments = call->options;
    const char *const *overrides;
    size_t override_count;
    StrBuf text = {0};
    RunConfig config;
    PrecomputedSpec precomputed; /* keys and verdicts do not depend on the networks: no facts about them */
    Config *file = NULL;
    TRY(command_arguments(call, 1, &overrides, &override_count));
    TRY(run_config_load_one(call->positional.items[0], overrides, override_count, arguments->stage, &config, &file));
    config.train.micro_batch = 0; /* order does not depend on it, and it need not fit this number of ranks */
    TRY(run_config_check_ranks(&config, file, (int)arguments->ranks, (int)arguments->ranks));
    TRY(data_config_check(file, "data", &config.data));
    frozen_spec_sizes(&config, &precomputed);
    bool any = precomputed.wanted[PRECOMPUTED_LATENTS] || precomputed.wanted[PRECOMPUTED_TEXT];
    TRY(order_print(&config.data, any ? &precomputed : NULL, (uint64_t)config.seed, (int)config.train.resolution,
                    config.train.global_batch, (int)arguments->ranks, arguments->steps, &text));
    if (text.size) fputs(text.data, stdout);
fail:
    strbuf_free(&text);
    config_free(file);
    return status;
}

static const ArgSpec options[] = {
    {"stage", ARG_TEXT, offsetof(OrderArguments, stage), "NAME",
     "as this stage of the config has it (default: what stands outside its stages)", 0, 0, NULL},
    {"ranks", ARG_INT, offsetof(OrderArguments, ranks), "W", "ranks that read; divides data.lanes (default 1)", 1,
     65536, NULL},
    {"steps", ARG_INT, offsetof(OrderArguments, steps), "N", "steps to print (default 10)", 1, 1e9, NULL},
};
static const OrderArguments defaults = {.ranks = 1, .steps = 10};

const Command command_data_order = {
    .name = "data order",
    .summary = "print the keys of the samples of each step",
    .usage = "CONFIG [key.path=value ...] [--ranks W] [--steps N]",
    .details = "One step a line, keys separated by spaces, in global order; with several sources SOURCE/KEY. The lines "
               "are the same whatever W is: the order\n"
               "is a function of the seed and of data.lanes alone.\n",
    .table = COMMAND_TABLE(options),
    .options_size = sizeof(OrderArguments),
    .defaults = &defaults,
    .run = run,
};
