/* vasily config: every key with its type, range, default and meaning; or a config with all its keys, or one value. */
#include <stdio.h>

#include "base/log.h"
#include "train/command.h"
#include "train/run_config.h"

typedef struct ConfigArguments {
    int32_t command; /* index into COMMANDS; -1: none */
    const char *value;
} ConfigArguments;

static const Command *const COMMANDS[] = {&command_train, &command_precompute};
static const char *const COMMAND_WORDS[] = {"train", "precompute", NULL};

/* As another command has it, for which all that is left of the command line is meant. */
static Status load_for(const CommandCall *call, const Command *command, RunConfig *config, Config **file)
{
    Status status = STATUS_OK;
    CommandCall other = {.command = command, .arena = call->arena};
    const size_t count = call->positional.count;
    char **argv = arena_alloc_array(call->arena, count + 1, sizeof *argv);
    if (!argv) FAIL(ERR_MEMORY, "out of memory");
    for (size_t i = 0; i < count; i++) {
        argv[i] = arena_strdup(call->arena, call->positional.items[i]);
        if (!argv[i]) FAIL(ERR_MEMORY, "out of memory");
    }
    TRY(command_parse(&other, (int)count, argv));
    TRY(command->load(&other, config, file));
fail:
    return status;
}

static Status load(const CommandCall *call, RunConfig *config, Config **file)
{
    Status status = STATUS_OK;
    const ConfigArguments *arguments = call->options;
    const char *const *overrides;
    size_t override_count;
    if (arguments->command >= 0) {
        TRY(load_for(call, COMMANDS[arguments->command], config, file));
    } else {
        TRY(command_arguments(call, 1, &overrides, &override_count));
        TRY(run_config_load(call->positional.items[0], NULL, overrides, override_count, config, file));
    }
    if (arguments->command >= 0 && COMMANDS[arguments->command] == &command_precompute)
        return run_config_check_precompute_settings(config, *file);
    TRY(run_config_check_trainable(config, *file, true));
    if (config->stages.count == 0 && config->data.sources.count == 0)
        log_warn("data.sources is empty: this config can be planned and measured, not trained");
fail:
    return status;
}

static Status run(CommandCall *call)
{
    Status status = STATUS_OK;
    const ConfigArguments *arguments = call->options;
    StrBuf text = {0};
    RunConfig config;
    Config *file = NULL;
    if (call->positional.count == 0 && !arguments->value && arguments->command < 0) {
        TRY(config_describe(&RUN_CONFIG_SCHEMA, &text));
    } else {
        TRY(load(call, &config, &file));
        if (arguments->value)
            TRY(config_dump_value(&RUN_CONFIG_SCHEMA, &config, arguments->value, &text));
        else
            TRY(config_dump(&RUN_CONFIG_SCHEMA, &config, &text));
    }
    fputs(text.data ? text.data : "", stdout);
    if (arguments->value) fputs("\n", stdout);
fail:
    strbuf_free(&text);
    config_free(file);
    return status;
}

static const ArgSpec options[] = {
    {"value", ARG_TEXT, offsetof(ConfigArguments, value), "KEY",
     "print no more than this key's value; a text without quotes", 0, 0, NULL},
    {"for", ARG_WORD, offsetof(ConfigArguments, command), "train|precompute",
     "as this command has it, whose arguments and options stand behind --; they are checked, too", 0, 0, COMMAND_WORDS},
};
static const ConfigArguments defaults = {.command = -1};

const Command command_config = {
    .name = "config",
    .summary = "list the config's keys, or check a config",
    .usage = "[CONFIG [key.path=value ...]] [--value KEY] | --for COMMAND [--value KEY] -- ARGUMENT ...",
    .details =
        "Without CONFIG: every key with its type, range, default and meaning. With one: checks it, and each of its\n"
        "stages, as training would before it reads anything, and prints it with every key, as training would write it\n"
        "into the run's folder.\n"
        "\n"
        "For scripts: `vasily config --value run.dir CONFIG` prints one value. `vasily config --for precompute "
        "--value\n"
        "frozen.path -- CONFIG --stage NAME --out DIR` first looks at the command line as that command would.\n",
    .table = COMMAND_TABLE(options),
    .options_size = sizeof(ConfigArguments),
    .defaults = &defaults,
    .run = run,
};
