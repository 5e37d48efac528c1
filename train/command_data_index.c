/* vasily data index: notes where every sample lies, before training. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "data/loader.h"
#include "data/shard_file.h"
#include "data/shard_index.h"
#include "train/data_arguments.h"

#define TROUBLES_SHOWN 20

typedef struct IndexArguments {
    const char *stage;
    const char *list, *index_folder;
    int64_t threads;
    bool force, once;
} IndexArguments;

/* FILE with {source} replaced. */
static Status list_path(const char *pattern, const char *source, StrBuf *out)
{
    Status status = STATUS_OK;
    const char *hole = strstr(pattern, "{source}");
    out->size = 0;
    if (!hole) return strbuf_append(out, pattern, strlen(pattern));
    if (strchr(source, '/')) FAIL(ERR_USAGE, "--list: the name of source %.100s cannot be part of a file's", source);
    TRY(strbuf_printf(out, "%.*s%s%s", (int)(hole - pattern), pattern, source, hole + strlen("{source}")));
fail:
    return status;
}

static Status check_list(const char *pattern, size_t sources)
{
    Status status = STATUS_OK;
    if (pattern && sources > 1 && !strstr(pattern, "{source}"))
        FAIL(ERR_USAGE,
             "--list %.200s: there are %zu sources, and each has a list of its own; write {source} in the "
             "file's name",
             pattern, sources);
fail:
    return status;
}

/* Found out before hours of work. */
static Status prepare_lists(const DataConfig *config, const char *pattern)
{
    Status status = STATUS_OK;
    StrBuf path = {0};
    TRY(check_list(pattern, config->sources.count));
    for (size_t s = 0; pattern && s < config->sources.count; s++) {
        TRY(list_path(pattern, data_config_source(config, s)->name, &path));
        TRY(data_output_prepare("--list", path.data));
    }
fail:
    strbuf_free(&path);
    return status;
}

static Status write_lists(const ShardIndexReport *report, const char *pattern)
{
    Status status = STATUS_OK;
    StrBuf path = {0}, text = {0};
    for (size_t s = 0; s < report->source_count; s++) {
        text.size = 0;
        TRY(list_path(pattern, report->sources[s].name, &path));
        TRY(shard_index_list(&report->sources[s], path.data, &text));
        TRY(file_write_atomic(path.data, text.data, text.size));
    }
fail:
    strbuf_free(&path);
    strbuf_free(&text);
    return status;
}

static void show_troubles(const ShardIndexReport *report)
{
    int64_t shown = 0;
    for (size_t s = 0; s < report->source_count; s++)
        for (size_t i = 0; i < report->sources[s].list.count; i++) {
            const ShardIndexResult *result = &report->sources[s].results[i];
            if (result->trouble && ++shown <= TROUBLES_SHOWN)
                log_warn("%s: %s", shard_index_state_name(result->state), result->trouble);
        }
    if (shown > TROUBLES_SHOWN) log_warn("and %" PRId64 " more", shown - TROUBLES_SHOWN);
}

/* What the lists tell that is not so: a run would believe them. */
static void show_differences(const ShardIndexReport *report)
{
    int64_t shown = 0;
    char shard[SHARD_NAME_MAX];
    for (size_t s = 0; s < report->source_count; s++)
        for (size_t i = 0; i < report->sources[s].list.count; i++) {
            const ShardIndexResult *result = &report->sources[s].results[i];
            const ShardNote told = shard_list_note(&report->sources[s].list, i);
            bool samples = told.samples >= 0 && told.samples != result->samples;
            bool bytes = told.bytes >= 0 && result->bytes >= 0 && told.bytes != result->bytes;
            if (result->state == SHARD_DAMAGED || result->state == SHARD_UNREADABLE || (!samples && !bytes)) continue;
            if (++shown > TROUBLES_SHOWN) continue;
            shard_show(report->sources[s].list.paths[i], shard, sizeof shard);
            if (samples)
                log_warn("%s: the list says %" PRId64 " samples, there are %" PRId64, shard, told.samples,
                         result->samples);
            else
                log_warn("%s: the list says %" PRId64 " bytes, there are %" PRId64, shard, told.bytes, result->bytes);
        }
    if (shown > TROUBLES_SHOWN) log_warn("and %" PRId64 " more that the list tells wrongly", shown - TROUBLES_SHOWN);
    if (shown > 0) log_warn("a run would believe the list: make it anew with --list");
}

typedef struct Sum {
    int64_t states[SHARD_INDEX_STATES], samples, bytes, new_bytes;
} Sum;

static Sum sum_of(const ShardIndexSource *source)
{
    Sum sum = {0};
    for (size_t i = 0; i < source->list.count; i++) {
        const ShardIndexResult *result = &source->results[i];
        int64_t bytes = result->bytes > 0 ? result->bytes : 0;
        bool lost = result->state == SHARD_DAMAGED || result->state == SHARD_UNREADABLE;
        sum.states[result->state]++;
        sum.samples += lost ? 0 : result->samples;
        sum.bytes += bytes;
        sum.new_bytes += result->state == SHARD_HAD_INDEX ? 0 : bytes;
    }
    return sum;
}

static void print_line(const char *name, size_t shards, const Sum *sum)
{
    printf("%-16s %8zu %9" PRId64 " %9" PRId64 " %9" PRId64 " %8" PRId64 " %11" PRId64 " %12" PRId64 " %10.2f\n", name,
           shards, sum->states[SHARD_INDEXED], sum->states[SHARD_HAD_INDEX], sum->states[SHARD_NO_INDEX],
           sum->states[SHARD_DAMAGED], sum->states[SHARD_UNREADABLE], sum->samples, (double)sum->bytes * 1e-9);
}

/* How many shards were passed over. */
static int64_t print_report(const ShardIndexReport *report)
{
    Sum all = {0};
    size_t shards = 0;
    printf("%-16s %8s %9s %9s %9s %8s %11s %12s %10s\n", "source", "shards", "indexed", "had one", "no index",
           "damaged", "unreadable", "samples", "GB");
    for (size_t s = 0; s < report->source_count; s++) {
        Sum sum = sum_of(&report->sources[s]);
        print_line(report->sources[s].name, report->sources[s].list.count, &sum);
        for (int k = 0; k < SHARD_INDEX_STATES; k++) all.states[k] += sum.states[k];
        all.samples += sum.samples;
        all.bytes += sum.bytes;
        all.new_bytes += sum.new_bytes;
        shards += report->sources[s].list.count;
    }
    if (report->source_count > 1) print_line("all", shards, &all);
    printf("%.2f s", report->seconds);
    if (all.states[SHARD_INDEXED] > 0 && report->seconds > 0)
        printf(", %.0f MB/s of the shards without an index", (double)all.new_bytes * 1e-6 / report->seconds);
    printf("\n");
    return all.states[SHARD_DAMAGED] + all.states[SHARD_UNREADABLE];
}

static Status run(CommandCall *call)
{
    Status status = STATUS_OK;
    const IndexArguments *arguments = call->options;
    RunConfig config = {0};
    Config *file = NULL;
    ShardIndexReport *report = NULL;
    TRY(data_arguments_load(call, arguments->stage, &config, &file));
    TRY(prepare_lists(&config.data, arguments->list));
    if (arguments->index_folder) {
        config.data.read.index_folder = arena_strdup(call->arena, arguments->index_folder);
        if (!config.data.read.index_folder) FAIL_WITH(ERR_MEMORY);
    }
    int threads = arguments->threads > 0 ? (int)arguments->threads : loader_threads(&config.data);
    TRY(shard_index_all(&(ShardIndexOptions){.config = &config.data,
                                             .threads = threads,
                                             .force = arguments->force,
                                             .once = arguments->once,
                                             .progress = log_is_terminal() != 0},
                        &report));
    show_troubles(report);
    show_differences(report);
    int64_t lost = print_report(report);
    if (arguments->list) TRY(write_lists(report, arguments->list));
    if (lost > 0) call->exit_code = status_exit_code(ERR_FORMAT);
fail:
    shard_index_free(report);
    config_free(file);
    return status;
}

static const ArgSpec options[] = {
    {"stage", ARG_TEXT, offsetof(IndexArguments, stage), "NAME",
     "as this stage of the config has it (default: what stands outside its stages)", 0, 0, NULL},
    {"list", ARG_TEXT, offsetof(IndexArguments, list), "FILE",
     "write the shards, their samples and bytes, for data.sources[].shards: [list:FILE]; {source} in FILE is the "
     "source's name",
     0, 0, NULL},
    {"index-folder", ARG_TEXT, offsetof(IndexArguments, index_folder), "DIR",
     "in place of data.read.index_folder (default: beside each shard)", 0, 0, NULL},
    {"threads", ARG_INT, offsetof(IndexArguments, threads), "N", "shards read at once (default: data.decode_threads)",
     1, LOADER_MAX_THREADS, NULL},
    {"force", ARG_FLAG, offsetof(IndexArguments, force), NULL, "index shards that have an index, too", 0, 0, NULL},
    {"once", ARG_FLAG, offsetof(IndexArguments, once), NULL,
     "http (not https): believe the first transfer of each chunk, instead of two that bring the same", 0, 0, NULL},
};
static const IndexArguments defaults = {0};

const Command command_data_index = {
    .name = "data index",
    .summary = "note where every sample of the shards lies",
    .usage = DATA_ARGUMENTS " [--list FILE] [--index-folder DIR] [--threads N] [--force] [--once]",
    .details =
        "Writes the index file of every shard that has none: NAME.tar.idx beside it, or in the index folder, which\n"
        "shards behind http need; with their index their checksums are kept. Of files here only the headers are read.\n"
        "Shards that are damaged or cannot be read are reported and passed over; the exit code is then 3.\n"
        "A list made by --list spares a run looking at the shards when it starts. docs/shards.md says more.\n",
    .table = COMMAND_TABLE(options),
    .options_size = sizeof(IndexArguments),
    .defaults = &defaults,
    .run = run,
};
