#include "train/data_arguments.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "data/data_config.h"

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* "data.read.allow_pipe=true"; not "data.d/x=1.tar". */
static bool is_override(const char *argument)
{
    return strncmp(argument, "data.", 5) == 0 && argument[strcspn(argument, "=/")] == '=';
}

static const ConfigField data_field = {.key = "data",
                                       .type = CONFIG_SECTION,
                                       .offset = offsetof(RunConfig, data),
                                       .schema = &data_config_schema,
                                       .help = "the data"};
static const ConfigSchema data_alone = {"data", &data_field, 1, sizeof(RunConfig)};

/* The positional arguments are shards: one source, of which nothing is left out but by --filter. */
static Status shards_config(const CommandCall *call, RunConfig *run, Config **file)
{
    static const char text[] = "data:\n"
                               "  sources: [{name: shards, shards: [x]}]\n"
                               "  write_index: false\n"
                               "  filter: {watermark_max: 10, unsafe_max: 10, similarity_min: -1, min_side: 0}\n";
    Status status = STATUS_OK;
    size_t shards = 0, overrides = 0;
    const char **texts = arena_alloc_array(call->arena, call->positional.count, sizeof texts[0]);
    char **items = arena_alloc_array(call->arena, call->positional.count, sizeof items[0]);
    if (!texts || !items) FAIL_WITH(ERR_MEMORY);
    for (size_t i = 0; i < call->positional.count; i++) {
        const char *argument = call->positional.items[i];
        if (is_override(argument)) {
            texts[overrides++] = argument;
            continue;
        }
        items[shards] = arena_strdup(call->arena, argument);
        if (!items[shards++]) FAIL_WITH(ERR_MEMORY);
    }
    TRY(config_load("command line", text, &data_alone, texts, overrides, run, file));
    if (run->data.sources.count != 1)
        FAIL(ERR_USAGE, "data.sources cannot be given beside shards; write a config, or leave the shards out");
    ((SourceConfig *)run->data.sources.items)->shards = (ConfigStrings){items, shards};
    TRY(data_config_check(NULL, "data", &run->data));
fail:
    return status;
}

Status data_arguments_load(CommandCall *call, const char *stage, RunConfig *run, Config **file)
{
    Status status = STATUS_OK;
    const char *const *overrides;
    size_t override_count;
    if (call->positional.count == 0)
        FAIL(ERR_USAGE, "a config or shards are missing: vasily %s %s", call->command->name, call->command->usage);
    const char *first = call->positional.items[0];
    if (!ends_with(first, ".yaml") && !ends_with(first, ".yml")) {
        if (stage) FAIL(ERR_USAGE, "--stage %s: shards have no stages; name a config", stage);
        return shards_config(call, run, file);
    }
    TRY(command_arguments(call, 1, &overrides, &override_count));
    TRY(run_config_load_one(first, overrides, override_count, stage, run, file));
    TRY(data_config_check(*file, "data", &run->data));
fail:
    return status;
}

Status data_output_prepare(const char *option, const char *path)
{
    Status status = STATUS_OK;
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t size = slash ? (size_t)(slash - path) : 0;
    if (!path[0] || strlen(path) >= sizeof folder) FAIL(ERR_USAGE, "%s: the name of a file is expected", option);
    memcpy(folder, path, size);
    folder[size] = 0;
    if (size > 0) {
        status = file_make_dirs(folder);
        if (status != STATUS_OK) {
            status_prefix("%s %.300s: ", option, path);
            FAIL_WITH(status);
        }
    }
    if (file_is_dir(path)) FAIL(ERR_IO, "%s: %.300s is a folder; name a file", option, path);
    if (access(slash ? size > 0 ? folder : "/" : ".", W_OK | X_OK) != 0)
        FAIL(ERR_IO, "%s: %.300s cannot be written: %s; name a file in a folder of yours", option, path,
             strerror(errno));
fail:
    return status;
}
