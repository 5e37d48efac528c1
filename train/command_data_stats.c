/* vasily data stats: what a config, or filters on shards, would keep. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "data/data_stats.h"
#include "data/filter.h"
#include "data/loader.h"
#include "train/data_arguments.h"

typedef struct StatsArguments {
    const char *stage;
    ArgTexts filters;
    int64_t samples, threads;
    const char *json;
} StatsArguments;

/* After those of the config. */
static Status add_filters(const CommandCall *call, const ArgTexts *filters, ConfigStrings *where)
{
    Status status = STATUS_OK;
    size_t count = where->count + filters->count;
    char **items = arena_alloc_array(call->arena, count + 1, sizeof items[0]);
    if (!items) FAIL_WITH(ERR_MEMORY);
    if (where->count > 0) memcpy(items, where->items, where->count * sizeof items[0]);
    for (size_t i = 0; i < filters->count; i++) {
        FilterExpression *expression;
        status = filter_parse(filters->items[i], &expression);
        if (status != STATUS_OK) {
            status_prefix("--filter '%.200s': ", filters->items[i]);
            goto fail;
        }
        filter_free(expression);
        items[where->count + i] = arena_strdup(call->arena, filters->items[i]);
        if (!items[where->count + i]) FAIL_WITH(ERR_MEMORY);
    }
    *where = (ConfigStrings){items, count};
fail:
    return status;
}

static Status run(CommandCall *call)
{
    Status status = STATUS_OK;
    const StatsArguments *arguments = call->options;
    RunConfig config = {0};
    Config *file = NULL;
    DataStats *stats = NULL;
    StrBuf text = {0}, json = {0};
    TRY(data_arguments_load(call, arguments->stage, &config, &file));
    if (arguments->json) TRY(data_output_prepare("--json", arguments->json));
    TRY(add_filters(call, &arguments->filters, &config.data.filter.where));
    TRY(data_stats_collect(&config.data,
                           &(StatsOptions){.resolution = (int)config.train.resolution,
                                           .samples = arguments->samples,
                                           .threads = (int)arguments->threads,
                                           .progress = true},
                           &stats));
    TRY(data_stats_print(stats, &text));
    if (arguments->json) {
        TRY(data_stats_write_json(stats, &json));
        TRY(file_write_atomic(arguments->json, json.data, json.size));
    }
    fputs(text.data, stdout);
    if (data_stats_unreadable(stats) > 0) call->exit_code = status_exit_code(ERR_IO);
fail:
    data_stats_free(stats);
    strbuf_free(&text);
    strbuf_free(&json);
    config_free(file);
    return status;
}

static const ArgSpec options[] = {
    {"stage", ARG_TEXT, offsetof(StatsArguments, stage), "NAME",
     "as this stage of the config has it (default: what stands outside its stages)", 0, 0, NULL},
    {"filter", ARG_TEXTS, offsetof(StatsArguments, filters), "EXPR",
     "another filter expression, such as 'watermark < 0.5'; may be repeated", 0, 0, NULL},
    {"samples", ARG_INT, offsetof(StatsArguments, samples), "N",
     "look at N samples of each source, of shards spread over it (default: all)", 1, 1e12, NULL},
    {"threads", ARG_INT, offsetof(StatsArguments, threads), "N", "threads (default: data.decode_threads)", 1,
     LOADER_MAX_THREADS, NULL},
    {"json", ARG_TEXT, offsetof(StatsArguments, json), "FILE", "write all counts to this file, too", 0, 0, NULL},
};
static const StatsArguments defaults = {0};

const Command command_data_stats = {
    .name = "data stats",
    .summary = "count what the filters keep, without training",
    .usage = DATA_ARGUMENTS " [--filter EXPR ...] [--samples N] [--threads N] [--json FILE]",
    .details =
        "Looks at the fields and captions of all samples, and at the headers of those pictures that the filters keep;\n"
        "prints how many each filter leaves out, by itself and after those before it, how the fields are distributed,\n"
        "and each source's yield. With shards in place of a config (what does not end with .yaml or .yml: paths,\n"
        "globs, braces, URLs, list:FILE) only the filters of --filter count. docs/filters.md describes expressions.\n"
        "Shards that are damaged or cannot be read are reported and passed over; the exit code is then 3.\n",
    .table = COMMAND_TABLE(options),
    .options_size = sizeof(StatsArguments),
    .defaults = &defaults,
    .run = run,
};
