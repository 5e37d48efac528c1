/* vasily compare: runs side by side, in the terminal and as a page. */
#include <stdio.h>

#include "base/file.h"
#include "train/command.h"
#include "train/compare.h"

typedef struct CompareArguments {
    const char *out;
} CompareArguments;

static Status run(CommandCall *call)
{
    Status status = STATUS_OK;
    const CompareArguments *arguments = call->options;
    const int count = (int)call->positional.count;
    RunHistory *runs[COMPARE_RUNS_MAX] = {0};
    Comparison comparison = {0};
    StrBuf text = {0}, page = {0};
    if (count < 2) FAIL(ERR_USAGE, "usage: vasily compare %s", call->command->usage);
    if (count > COMPARE_RUNS_MAX) FAIL(ERR_USAGE, "%d runs; at most %d can be compared", count, COMPARE_RUNS_MAX);
    for (int k = 0; k < count; k++) {
        TRY(run_history_open(call->positional.items[k], &runs[k]));
        TRY(run_history_read(runs[k]));
    }
    TRY(comparison_make((const RunHistory *const *)runs, count, &comparison));
    TRY(comparison_print(&comparison, &text));
    if (arguments->out) {
        TRY(comparison_page(&comparison, &page));
        TRY(file_write_atomic(arguments->out, page.data, page.size));
    }
    fputs(text.data, stdout);
fail:
    comparison_free(&comparison);
    for (int k = 0; k < COMPARE_RUNS_MAX; k++) run_history_free(runs[k]);
    strbuf_free(&text);
    strbuf_free(&page);
    return status;
}

static const ArgSpec options[] = {
    {"out", ARG_TEXT, offsetof(CompareArguments, out), "FILE", "also write a page with the curves over each other", 0,
     0, NULL},
};

const Command command_compare = {
    .name = "compare",
    .summary = "put runs side by side: losses, speed, and where their configs differ",
    .usage = "RUN RUN ... [--out FILE.html]",
    .details =
        "Prints a table of 2 to 8 runs: steps, losses, validation, speed, memory (* marks the best), then the keys\n"
        "in which their configs differ. With --out also a page like that of `vasily report`.\n",
    .table = COMMAND_TABLE(options),
    .options_size = sizeof(CompareArguments),
    .run = run,
};
