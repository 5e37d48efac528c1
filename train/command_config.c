/* vasily config: every key with its type, range, default and meaning; or a config with all its keys. */
#include <stdio.h>

#include "base/log.h"
#include "train/command.h"
#include "train/run_config.h"

static Status run(CommandCall *call)
{
    Status status = STATUS_OK;
    const char *const *overrides;
    size_t override_count;
    StrBuf text = {0};
    RunConfig config;
    Config *file = NULL;
    if (call->positional.count == 0) {
        TRY(config_describe(&RUN_CONFIG_SCHEMA, &text));
    } else {
        TRY(command_arguments(call, 1, &overrides, &override_count));
        TRY(run_config_load(call->positional.items[0], NULL, overrides, override_count, &config, &file));
        TRY(run_config_check_trainable(&config, file, true));
        if (config.stages.count == 0 && config.data.sources.count == 0)
            log_warn("%s: data.sources is empty: this config can be planned and measured, not trained",
                     call->positional.items[0]);
        TRY(config_dump(&RUN_CONFIG_SCHEMA, &config, &text));
    }
    fputs(text.data, stdout);
fail:
    strbuf_free(&text);
    config_free(file);
    return status;
}

const Command command_config = {
    .name = "config",
    .summary = "list the config's keys, or check a config",
    .usage = "[CONFIG [key.path=value ...]]",
    .details =
        "Without CONFIG: every key with its type, range, default and meaning. With one: checks it, and each of its\n"
        "stages, as training would before it reads anything, and prints it with every key, as training would write it\n"
        "into the run's folder.\n",
    .run = run,
};
