/* vasily report: a run's page, made again from its files. */
#include <stdio.h>

#include "train/command.h"
#include "train/report_writer.h"

typedef struct ReportArguments {
    const char *out;
} ReportArguments;

static Status run(CommandCall *call)
{
    Status status = STATUS_OK;
    const ReportArguments *arguments = call->options;
    RunHistory *history = NULL;
    if (call->positional.count != 1) FAIL(ERR_USAGE, "usage: vasily report %s", call->command->usage);
    TRY(run_history_open(call->positional.items[0], &history));
    TRY(report_write(history, arguments->out));
    printf("%s%s: %lld steps", arguments->out ? arguments->out : history->dir.path,
           arguments->out ? "" : "/report.html", (long long)history->steps);
    if (run_history_bad_lines(history) > 0)
        printf(", %lld lines could not be read", (long long)run_history_bad_lines(history));
    putchar('\n');
fail:
    run_history_free(history);
    return status;
}

static const ArgSpec options[] = {
    {"out", ARG_TEXT, offsetof(ReportArguments, out), "FILE", "where to write it (default: RUN/report.html)", 0, 0,
     NULL},
};

const Command command_run_report = {
    .name = "report",
    .summary = "make a run's page again: curves, previews, events, plan",
    .usage = "RUN [--out FILE]",
    .details =
        "Writes one HTML file that holds everything: no server, no network. Training writes the same page to\n"
        "RUN/report.html with each checkpoint and at its end (watch.report). docs/watching.md says what is in it.\n",
    .table = COMMAND_TABLE(options),
    .options_size = sizeof(ReportArguments),
    .run = run,
};
