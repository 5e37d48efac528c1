/* vasily checkpoint convert: a checkpoint in another layout. */
#include <stddef.h>

#include "base/log.h"
#include "model/weight_shares.h"
#include "train/checkpoint.h"
#include "train/checkpoint_convert.h"
#include "train/command.h"

enum { TO_ONE_FILE, TO_SHARES };
static const char *const layout_words[] = {"one-file", "shares", NULL};

typedef struct ConvertArguments {
    int32_t to;
    int64_t shares;
    bool without_optimizer;
} ConvertArguments;

static Status run(CommandCall *call)
{
    Status status = STATUS_OK;
    const ConvertArguments *a = call->options;
    char from[PATH_MAX];
    bool found;
    ConvertTotals totals;
    if (call->positional.count != 2) FAIL(ERR_USAGE, "usage: vasily checkpoint convert %s", call->command->usage);
    if (a->to == TO_SHARES && a->shares == 0)
        FAIL(ERR_USAGE, "vasily checkpoint convert: --to shares wants --shares N, how many");
    if (a->to == TO_ONE_FILE && a->shares > 0)
        FAIL(ERR_USAGE, "vasily checkpoint convert: --shares N goes with --to shares");
    TRY(checkpoint_find(call->positional.items[0], false, from, &found));
    TRY(checkpoint_convert(from, call->positional.items[1],
                           &(ConvertOptions){.shares = (int)a->shares, .optimizer = !a->without_optimizer}, &totals));
    log_info("%s: %d arrays of %s, %lld values", call->positional.items[1], totals.arrays, from,
             (long long)totals.values);
fail:
    return status;
}

static const ArgSpec options[] = {
    {"to", ARG_WORD, offsetof(ConvertArguments, to), "one-file|shares",
     "one file an array under the published names, or shares (default one-file)", 0, 0, layout_words},
    {"shares", ARG_INT, offsetof(ConvertArguments, shares), "N", "how many shares", 1, WEIGHT_SHARES_MOST, NULL},
    {"without-optimizer", ARG_FLAG, offsetof(ConvertArguments, without_optimizer), NULL,
     "leave Adam's moments out: a third to a half of the size, to draw with or to begin from, not to resume", 0, 0,
     NULL},
};

const Command command_checkpoint_convert = {
    .name = "checkpoint convert",
    .summary = "write a checkpoint in another layout",
    .usage = "RUN|CHECKPOINT OUT [--to one-file|shares] [--shares N] [--without-optimizer]",
    .details =
        "Several ranks write shares, one rank one file an array; every command reads both, and either is resumed\n"
        "on any number of ranks. OUT is a new folder: a checkpoint. `vasily export` writes safetensors.\n",
    .table = COMMAND_TABLE(options),
    .options_size = sizeof(ConvertArguments),
    .run = run,
};
