#include "train/stages_config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "train/run_config.h"

#define FIELD_COUNT(fields) (sizeof(fields) / sizeof((fields)[0]))
#define AT(name) offsetof(StageConfig, name)

static const char *const TRAIN_KEYS[] = {"resolution", "global_batch", "micro_batch",
                                         "recompute",  "bucket_bytes", NULL};
/* Not the lanes, which fix the order of samples, and not the tokenizers, which belong to the networks. */
static const char *const DATA_KEYS[] = {"sources",          "shuffle_block", "shuffle_mix",    "mixture",
                                        "caption_language", "text_dropout",  "decode_threads", "prefetch_batches",
                                        "max_bad_share",    "write_index",   "scaled_decode",  "filter",
                                        "augment",          "read",          "limits",         NULL};

static const ConfigField FIELDS[] = {
    {"name", CONFIG_STRING, AT(name), NULL, 0, 0, NULL, NULL,
     "what this stage is called in the log and in checkpoints"},
    {"steps", CONFIG_INT, AT(steps), "0", 0, 1e12, NULL, NULL, "of this stage; 0: days says how long it is"},
    {"days", CONFIG_FLOAT, AT(days), "0", 0, 36500, NULL, NULL,
     "of wall time trained in this stage, over all starts; it ends with the step in which they are over; 0: steps says "
     "how long it is"},
    {"train", CONFIG_PATCH, AT(train), NULL, 0, 0, TRAIN_KEYS, &TRAIN_CONFIG_SCHEMA,
     "what differs in this stage; what is not written is as in train"},
    {"data", CONFIG_PATCH, AT(data), NULL, 0, 0, DATA_KEYS, &data_config_schema,
     "likewise; sources replace those of data. One of the same name goes on where it stood"},
    {"frozen", CONFIG_PATCH, AT(frozen), NULL, 0, 0, NULL, &FROZEN_CONFIG_SCHEMA, "likewise"},
    {"preview", CONFIG_PATCH, AT(preview), NULL, 0, 0, NULL, &PREVIEW_CONFIG_SCHEMA, "likewise"},
};
const ConfigSchema STAGE_CONFIG_SCHEMA = {"stage", FIELDS, FIELD_COUNT(FIELDS), sizeof(StageConfig)};

/* ---- names and lengths ---- */

static bool is_name(const char *name)
{
    static const char TAKEN[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
    const size_t length = strlen(name);
    return length > 0 && length <= STAGE_NAME_MOST && name[0] != '.' && strspn(name, TAKEN) == length;
}

static Status check_name(const RunConfig *run, const Config *config, size_t i)
{
    Status status = STATUS_OK;
    char key[64];
    const char *name = run_config_stage(run, i)->name;
    snprintf(key, sizeof key, "stages[%zu].name", i);
    if (!is_name(name))
        FAIL_WITH(config_error(config, key,
                               "a name has 1 to %d letters, digits, '-', '_' or '.', and does not begin with '.': it "
                               "stands in the names of files",
                               STAGE_NAME_MOST));
    for (size_t j = 0; j < i; j++)
        if (strcmp(run_config_stage(run, j)->name, name) == 0)
            FAIL_WITH(config_error(config, key, "two stages are called %s; each needs a name of its own", name));
fail:
    return status;
}

static Status check_length(const RunConfig *run, const Config *config, size_t i)
{
    Status status = STATUS_OK;
    char key[64];
    const StageConfig *stage = run_config_stage(run, i);
    snprintf(key, sizeof key, "stages[%zu].%s", i, stage->steps > 0 ? "days" : "steps");
    if (stage->steps > 0 && stage->days > 0)
        FAIL_WITH(config_error(config, key, "stage %s has steps and days; leave one of them out", stage->name));
    if (stage->steps == 0 && !(stage->days > 0))
        FAIL_WITH(config_error(config, key, "stage %s has no length; write steps: N or days: N", stage->name));
fail:
    return status;
}

bool run_config_has_days(const RunConfig *run)
{
    for (size_t i = 0; i < run->stages.count; i++)
        if (run_config_stage(run, i)->days > 0) return true;
    return false;
}

static Status resolve_steps(RunConfig *run, const Config *config)
{
    Status status = STATUS_OK;
    const bool written = config_is_written(config, "train.steps");
    int64_t sum = 0;
    for (size_t i = 0; i < run->stages.count; i++) sum += run_config_stage(run, i)->steps;
    if (run_config_has_days(run)) {
        if (run->optim.total_steps == 0)
            FAIL_WITH(config_error(config, "optim.total_steps",
                                   "0 stands for the steps of all stages, and one that is given in days does not tell "
                                   "them; write how many steps the schedule shall have"));
        if (!written) run->train.steps = run->optim.total_steps;
        return STATUS_OK;
    }
    if (written && run->train.steps != sum)
        FAIL_WITH(config_error(config, "train.steps",
                               "%lld, but the steps of the %zu stages add up to %lld; leave it out, or change a stage",
                               (long long)run->train.steps, run->stages.count, (long long)sum));
    run->train.steps = sum;
fail:
    return status;
}

Status stages_config_check(RunConfig *run, const Config *config)
{
    Status status = STATUS_OK;
    if (run->stages.count == 0) return STATUS_OK;
    if (run->stages.count > STAGES_MOST)
        FAIL_WITH(
            config_error(config, "stages", "%zu stages, at most %d are possible", run->stages.count, STAGES_MOST));
    for (size_t i = 0; i < run->stages.count; i++) {
        TRY(check_name(run, config, i));
        TRY(check_length(run, config, i));
    }
    TRY(resolve_steps(run, config));
fail:
    return status;
}

/* ---- each by itself ---- */

static bool are_equal(const ConfigStrings *a, const ConfigStrings *b)
{
    if (a->count != b->count) return false;
    for (size_t i = 0; i < a->count; i++)
        if (strcmp(a->items[i], b->items[i]) != 0) return false;
    return true;
}

/* A source's place in its shards goes from stage to stage by its name, so its order must be the same in all of them:
 * better known now than when the second stage begins. */
static Status check_source(const RunConfig *run, const Config *config, size_t s, const RunConfig *earlier,
                           const char *earlier_name)
{
    Status status = STATUS_OK;
    char key[64];
    const SourceConfig *source = data_config_source(&run->data, s);
    static const char remedy[] = "a source goes on where it stood; give it another name to start it anew";
    for (size_t e = 0; e < earlier->data.sources.count; e++) {
        const SourceConfig *other = data_config_source(&earlier->data, e);
        if (strcmp(source->name, other->name) != 0) continue;
        snprintf(key, sizeof key, "data.sources[%zu].shards", s);
        if (!are_equal(&source->shards, &other->shards))
            FAIL_WITH(config_error(config, key, "source %s has other shards than in stage %s; %s", source->name,
                                   earlier_name, remedy));
        const bool block = run->data.shuffle_block != earlier->data.shuffle_block;
        if (block || run->data.shuffle_mix != earlier->data.shuffle_mix)
            FAIL_WITH(config_error(config, block ? "data.shuffle_block" : "data.shuffle_mix",
                                   "source %s would have another order than in stage %s; %s", source->name,
                                   earlier_name, remedy));
    }
fail:
    return status;
}

Status stages_config_check_each(const RunConfig *run, const Config *config)
{
    Status status = STATUS_OK;
    const size_t count = run->stages.count;
    RunConfig *runs = mem_alloc_array(count + 1, sizeof *runs);
    Config **configs = mem_alloc_array(count + 1, sizeof *configs);
    if (!runs || !configs) FAIL(ERR_MEMORY, "out of memory for the configs of %zu stages", count);
    for (size_t i = 0; i < count; i++) {
        TRY(run_config_load_stage(run, config, i, &runs[i], &configs[i]));
        for (size_t s = 0; s < runs[i].data.sources.count; s++)
            for (size_t j = 0; j < i; j++)
                TRY(check_source(&runs[i], configs[i], s, &runs[j], run_config_stage(run, j)->name));
    }
fail:
    for (size_t i = 0; configs && i < count; i++) config_free(configs[i]);
    free(configs);
    free(runs);
    return status;
}

Status run_config_load_stage(const RunConfig *run, const Config *config, size_t i, RunConfig *out, Config **stage)
{
    Status status = STATUS_OK;
    char label[STAGE_NAME_MOST + 16];
    snprintf(label, sizeof label, "stage %s: ", run_config_stage(run, i)->name);
    TRY(config_variant(config, "stages", i, label, out, stage));
    snprintf(out->stage, sizeof out->stage, "%s", run_config_stage(run, i)->name);
    out->train.steps = run->train.steps;
    out->optim.total_steps = run->optim.total_steps;
    TRY(run_config_check(out, *stage));
    return STATUS_OK;
fail:
    config_free(*stage);
    *stage = NULL;
    return status;
}

Status run_config_find_stage(const RunConfig *run, const char *name, size_t *out)
{
    Status status = STATUS_OK;
    StrBuf names = {0};
    for (size_t i = 0; i < run->stages.count; i++) {
        *out = i;
        if (strcmp(run_config_stage(run, i)->name, name) == 0) goto fail;
        TRY(strbuf_printf(&names, "%s%s", i ? ", " : "", run_config_stage(run, i)->name));
    }
    if (run->stages.count == 0) FAIL(ERR_USAGE, "there is no stage %s: the config has no stages", name);
    FAIL(ERR_USAGE, "there is no stage %s; the config has: %s", name, names.data);
fail:
    strbuf_free(&names);
    return status;
}

Status run_config_load_one(const char *path, const char *const *overrides, size_t override_count, const char *stage,
                           RunConfig *out, Config **config)
{
    Status status = STATUS_OK;
    RunConfig run;
    Config *whole = NULL;
    size_t i;
    *config = NULL;
    TRY(run_config_load(path, NULL, overrides, override_count, &run, &whole));
    if (!stage) {
        if (run.stages.count > 0)
            log_info("%s has stages; this is about what stands outside them: --stage NAME takes one of them (%s ...)",
                     path, run_config_stage(&run, 0)->name);
        *out = run;
        *config = whole;
        return STATUS_OK;
    }
    TRY(run_config_find_stage(&run, stage, &i));
    TRY(run_config_load_stage(&run, whole, i, out, config));
fail:
    config_free(whole);
    return status;
}
