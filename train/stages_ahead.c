#include "train/stages_ahead.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "data/shard_file.h"
#include "train/frozen_data.h"

/* Files of one kind of one source. */
typedef struct Absent {
    size_t listed, count;
    char first[PATH_MAX]; /* of those that are not there */
} Absent;

static void look_at(const char *path, Absent *absent)
{
    absent->listed++;
    if (shard_kind(path) != SHARD_LOCAL || file_exists(path)) return;
    if (absent->count++ == 0) snprintf(absent->first, sizeof absent->first, "%s", path);
}

static void tell(const Stage *stage, const SourceConfig *source, const char *what, const Absent *absent,
                 const char *remedy)
{
    if (absent->count == 0) return;
    log_warn("stage %s, which comes later: source %s: %zu of %zu %s are not there yet, %s%s; the stage cannot begin "
             "without them%s",
             stage->stage->name, source->name, absent->count, absent->listed, what, absent->first,
             absent->count > 1 ? " and others" : "", remedy);
}

/* The shards themselves (kind -1), or what is precomputed of them. */
static Status look_at_kind(const Stage *stage, const SourceConfig *source, const PrecomputedSpec *spec,
                           const ShardList *list, int kind)
{
    Status status = STATUS_OK;
    char path[PATH_MAX], what[64] = "shards", remedy[sizeof(PrecomputeCommand) + 32] = "";
    PrecomputeCommand command;
    Absent absent = {0};
    if (kind >= 0) snprintf(what, sizeof what, "files of precomputed %s", PRECOMPUTED_KIND_WORDS[kind]);
    for (size_t i = 0; i < list->count; i++) {
        if (kind >= 0) TRY(precomputed_path(spec, (PrecomputedKind)kind, source->name, list->paths[i], path));
        look_at(kind >= 0 ? path : list->paths[i], &absent);
    }
    if (kind >= 0) snprintf(remedy, sizeof remedy, "; `%s` makes them", precomputed_command(spec, command));
    tell(stage, source, what, &absent, remedy);
fail:
    return status;
}

/* Whether the stage in hand, or one between it and stage `end`, reads the source's shards: they are the same then
 * (train/stages_config.c), and there may be many. */
static bool is_read_before(const StageRun *run, size_t end, const char *name)
{
    PrecomputedSpec spec;
    for (size_t i = run->index; i < end; i++) {
        const RunConfig *earlier = &run->stages->items[i].run;
        frozen_spec_sizes(earlier, &spec);
        for (size_t s = 0; frozen_reads_shards(&spec) && s < earlier->data.sources.count; s++)
            if (strcmp(data_config_source(&earlier->data, s)->name, name) == 0) return true;
    }
    return false;
}

static Status look_at_source(const StageRun *run, size_t index, const SourceConfig *source)
{
    Status status = STATUS_OK;
    const Stage *stage = &run->stages->items[index];
    PrecomputedSpec spec;
    ShardList list = {0};
    frozen_spec_sizes(&stage->run, &spec);
    const bool looks = frozen_reads_shards(&spec) && !is_read_before(run, index, source->name);
    if (!looks && !spec.wanted[PRECOMPUTED_LATENTS] && !spec.wanted[PRECOMPUTED_TEXT]) return STATUS_OK;
    if (frozen_list_shards(source, &spec, &list) != STATUS_OK) {
        log_warn("stage %s, which comes later: source %s: %s", stage->stage->name, source->name, status_message());
        goto fail;
    }
    if (looks) TRY(look_at_kind(stage, source, &spec, &list, -1));
    for (int kind = 0; kind < PRECOMPUTED_KINDS; kind++)
        if (spec.wanted[kind]) TRY(look_at_kind(stage, source, &spec, &list, kind));
fail:
    shard_list_free(&list);
    return status;
}

static void look_at_pictures(const Stage *stage)
{
    const PreviewConfig *preview = &stage->run.preview;
    const char *const paths[] = {preview->init, preview->mask};
    static const char *const KEYS[] = {"preview.init", "preview.mask"};
    for (int i = 0; i < 2; i++)
        if (paths[i][0] && !file_exists(paths[i]))
            log_warn("stage %s, which comes later: %s: %s is not there yet", stage->stage->name, KEYS[i], paths[i]);
}

Status stages_look_ahead(const StageRun *run)
{
    Status status = STATUS_OK;
    for (size_t i = run->index + 1; run->stages && i < run->stages->count; i++) {
        const Stage *stage = &run->stages->items[i];
        for (size_t s = 0; s < stage->run.data.sources.count; s++)
            TRY(look_at_source(run, i, data_config_source(&stage->run.data, s)));
        look_at_pictures(stage);
    }
fail:
    return status;
}

Status stages_look_ahead_memory(const StageRun *run, Backend *backend, int ranks, int sharing)
{
    Status status = STATUS_OK;
    const NetworkSurroundings around = {.ranks = ranks, .sharing = sharing, .training = true};
    for (size_t i = run->index + 1; run->stages && i < run->stages->count; i++) {
        const Stage *stage = &run->stages->items[i];
        RunConfig config = stage->run;
        TRY(run_config_check_ranks(&config, stage->config, ranks, sharing));
        if (config.train.micro_batch == MICRO_BATCH_AUTO) config.train.micro_batch = 1;
        const Status checked = network_check_memory(&config, backend, NETWORK_PIXELS, &around, true);
        if (checked == ERR_MEMORY) {
            log_warn("stage %s, which comes later: %s", stage->stage->name, status_message());
        } else if (checked) {
            status_prefix("stage %s, which comes later: ", stage->stage->name);
            TRY(checked);
        }
    }
fail:
    return status;
}

/* ---- where a run with days ends ---- */

static bool may_be_cut(const StageRun *run)
{
    return run->stages && run_config_has_days(run->stages->run);
}

const char *stages_key_of_end(const StageRun *run)
{
    return config_is_written(run->stages->config, "train.steps") ? "train.steps" : "optim.total_steps";
}

/* The step with which stage i ends at the earliest: of days nobody knows more than that they take one. */
static int64_t earliest_end(const StageRun *run, size_t i, int64_t begin, int64_t step)
{
    const StageConfig *stage = run->stages->items[i].stage;
    if (i == run->index && stage_run_is_over(run, step)) return step;
    if (i == run->index && stage->days > 0) return step + 1;
    return begin + (stage->days > 0 ? 1 : stage->steps);
}

void stages_look_ahead_end(const StageRun *run, int64_t step, int64_t steps)
{
    int64_t begin = run->begin, end;
    if (!may_be_cut(run) || step >= steps) return;
    for (size_t i = run->index; i < run->stages->count; i++, begin = end) {
        const StageConfig *stage = run->stages->items[i].stage;
        const char *key = stages_key_of_end(run);
        char most[64] = "no step";
        end = earliest_end(run, i, begin, step);
        if (end <= steps) continue;
        if (begin < steps)
            snprintf(most, sizeof most, "at most %lld of its %lld steps", (long long)(steps - begin),
                     (long long)stage->steps);
        log_warn("stage %s can have %s: the run ends with step %lld, as %s says, and the stages before it take %lld "
                 "steps at least; raise %s",
                 stage->name, most, (long long)steps, key, (long long)begin, key);
    }
}

/* Of the stage in hand; nothing where it is over. */
static void describe_cut(const StageRun *run, int64_t step, StrBuf *text)
{
    const StageConfig *stage = run->stages->items[run->index].stage;
    if (stage_run_is_over(run, step)) return;
    if (step == run->begin)
        (void)strbuf_printf(text, "stage %s has had no step", stage->name);
    else if (stage->days > 0)
        (void)strbuf_printf(text, "stage %s has had %.2g of its %.15g days", stage->name, run->seconds / SECONDS_OF_DAY,
                            stage->days);
    else
        (void)strbuf_printf(text, "stage %s has had %lld of its %lld steps", stage->name,
                            (long long)(step - run->begin), (long long)stage->steps);
}

void stages_tell_left_out(const StageRun *run, int64_t step, int64_t steps)
{
    StrBuf text = {0};
    if (!may_be_cut(run) || step < steps) return;
    const bool last = run->index + 1 == run->stages->count;
    if (last && run->stages->items[run->index].stage->days > 0) return;
    describe_cut(run, step, &text);
    for (size_t i = run->index + 1; i < run->stages->count; i++)
        (void)strbuf_printf(&text, "%sstage %s has had no step", text.size ? ", " : "",
                            run->stages->items[i].stage->name);
    const char *key = stages_key_of_end(run);
    if (text.size)
        log_warn("the run ends with step %lld, as %s says: %s; with a higher %s, --resume auto goes on",
                 (long long)steps, key, text.data, key);
    strbuf_free(&text);
}
