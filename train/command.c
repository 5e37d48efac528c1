#include "train/command.h"

#include <string.h>

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
