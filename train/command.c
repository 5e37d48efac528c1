#include "train/command.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"

static const char *const DEVICES[] = {"auto", "cpu", "cuda", "ref", NULL};

/* What every command has that computes. */
typedef struct CommonOptions {
    int32_t device; /* index into DEVICES; -1: as the config says */
} CommonOptions;

static ArgSpec device_option(size_t offset)
{
    return (ArgSpec){.name = "device",
                     .type = ARG_WORD,
                     .offset = offset,
                     .value_name = "auto|cpu|cuda",
                     .help = "what computes: short for device.name=... (default: as the config says)",
                     .words = DEVICES};
}

Status command_describe_options(const Command *command, StrBuf *out)
{
    Status status = STATUS_OK;
    const ArgSpec device = device_option(0);
    TRY(args_describe(command->table, out));
    if (command->computes) TRY(args_describe((ArgTable){&device, 1}, out));
    TRY(strbuf_printf(out, "  %-24s %s\n", "--help", "this text"));
fail:
    return status;
}

/* The override that --device stands for comes last, so that it wins over the config and over other overrides. */
static Status add_device(CommandCall *call, int32_t device)
{
    Status status = STATUS_OK;
    ArgTexts *positional = &call->positional;
    if (device < 0 || positional->count == 0) return STATUS_OK; /* without a config the command says what it lacks */
    const char **items = arena_alloc_array(call->arena, positional->count + 1, sizeof *items);
    const char *override = arena_printf(call->arena, "device.name=%s", DEVICES[device]);
    if (!items || !override) FAIL(ERR_MEMORY, "out of memory");
    memcpy(items, positional->items, positional->count * sizeof *items);
    items[positional->count] = override;
    *positional = (ArgTexts){items, positional->count + 1, positional->count + 1};
fail:
    return status;
}

Status command_parse(CommandCall *call, int argc, char **argv)
{
    Status status = STATUS_OK;
    const Command *command = call->command;
    /* The common options lie behind the command's own. */
    const size_t align = sizeof(void *), offset = (command->options_size + align) / align * align;
    ArgSpec *specs = arena_alloc_array(call->arena, command->table.count + 1, sizeof *specs);
    char *options = arena_alloc(call->arena, offset + sizeof(CommonOptions));
    if (!specs || !options) FAIL(ERR_MEMORY, "out of memory");
    CommonOptions *common = (CommonOptions *)(void *)(options + offset);
    common->device = -1;
    if (command->defaults) memcpy(options, command->defaults, command->options_size);
    for (size_t i = 0; i < command->table.count; i++) specs[i] = command->table.items[i];
    specs[command->table.count] = device_option(offset + offsetof(CommonOptions, device));
    call->options = options;
    TRY(args_parse(command->name, (ArgTable){specs, command->table.count + (command->computes ? 1 : 0)}, argc, argv,
                   call->arena, options, &call->positional));
    TRY(add_device(call, common->device));
fail:
    return status;
}

Status command_arguments(const CommandCall *call, size_t fixed, const char *const **overrides, size_t *override_count)
{
    Status status = STATUS_OK;
    const char *name = call->command->name;
    if (call->positional.count < fixed)
        FAIL(ERR_USAGE, "vasily %s: usage: vasily %s %s", name, name, call->command->usage);
    for (size_t i = fixed; i < call->positional.count; i++)
        if (!strchr(call->positional.items[i], '='))
            FAIL(ERR_USAGE, "vasily %s: \"%s\" is one argument too many; an override has the form key.path=value", name,
                 call->positional.items[i]);
    *overrides = call->positional.items + fixed;
    *override_count = call->positional.count - fixed;
fail:
    return status;
}

void command_report(CommandCall *call, Status status)
{
    if (!status || call->reported) return;
    call->reported = true;
    log_live_line(NULL);
    log_error("%s", status_message());
    if (status == ERR_INTERNAL || getenv("VASILY_TRACE")) log_error("at\n%s", status_trail());
}
