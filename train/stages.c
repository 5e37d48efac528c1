#include "train/stages.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/log.h"

/* ---- in state.json ---- */

void stage_place_write(const StagePlace *place, JsonWriter *w)
{
    if (!place->name[0]) return;
    json_object(w, "stage");
    json_string(w, "name", place->name);
    json_int(w, "steps", place->steps);
    json_float(w, "seconds", place->seconds);
    json_array(w, "ended");
    for (int32_t i = 0; i < place->ended_count; i++) {
        json_object(w, NULL);
        json_string(w, "name", place->ended[i].name);
        json_int(w, "step", place->ended[i].step);
        json_float(w, "seconds", place->ended[i].seconds);
        json_end_object(w);
    }
    json_end_array(w);
    json_end_object(w);
}

static bool read_name(const JsonValue *object, char out[STAGE_NAME_MOST + 1])
{
    size_t size = 0;
    const char *text = json_text(json_get(object, "name"), &size);
    if (!text || size == 0 || size > STAGE_NAME_MOST || strlen(text) != size) return false;
    memcpy(out, text, size + 1);
    return true;
}

static bool read_seconds(const JsonValue *object, double *out)
{
    return json_number(json_get(object, "seconds"), out) && isfinite(*out) && *out >= 0;
}

Status stage_place_read(const char *path, const JsonValue *object, int64_t step, StagePlace *out)
{
    Status status = STATUS_OK;
    memset(out, 0, sizeof *out);
    if (!object || json_is_null(object)) return STATUS_OK;
    const JsonValue *ended = json_get(object, "ended");
    const size_t count = json_count(ended);
    int64_t begin = 0;
    if (!read_name(object, out->name) || !read_seconds(object, &out->seconds) || count >= STAGES_MOST)
        FAIL(ERR_FORMAT, "%s: \"stage\" has no name, no seconds or too many stages before it", path);
    for (size_t i = 0; i < count; i++) {
        const JsonValue *item = json_item(ended, i);
        StageEnd *end = &out->ended[out->ended_count++];
        if (!read_name(item, end->name) || !read_seconds(item, &end->seconds) ||
            !json_integer(json_get(item, "step"), &end->step) || end->step < begin || end->step > step)
            FAIL(ERR_FORMAT, "%s: \"stage\": what stands in \"ended\" about stage %zu is not possible", path, i + 1);
        begin = end->step;
    }
    if (!json_integer(json_get(object, "steps"), &out->steps) || out->steps != step - begin)
        FAIL(ERR_FORMAT, "%s: \"stage\": its steps and those of the stages before it are not the %lld done", path,
             (long long)step);
fail:
    return status;
}

/* ---- the stages ---- */

Status stages_open(const RunConfig *run, const Config *config, Stages **out)
{
    Status status = STATUS_OK;
    *out = NULL;
    if (run->stages.count == 0) return STATUS_OK;
    Stages *stages = mem_alloc_array(1, sizeof *stages);
    if (!stages) FAIL(ERR_MEMORY, "out of memory");
    stages->run = run;
    stages->config = config;
    stages->items = mem_alloc_array(run->stages.count, sizeof *stages->items);
    if (!stages->items) FAIL(ERR_MEMORY, "out of memory for the configs of %zu stages", run->stages.count);
    for (; stages->count < run->stages.count; stages->count++) {
        Stage *stage = &stages->items[stages->count];
        stage->stage = run_config_stage(run, stages->count);
        TRY(run_config_load_stage(run, config, stages->count, &stage->run, &stage->config));
    }
    *out = stages;
    return STATUS_OK;
fail:
    stages_free(stages);
    return status;
}

void stages_free(Stages *stages)
{
    if (!stages) return;
    for (size_t i = 0; stages->items && i < stages->count; i++) config_free(stages->items[i].config);
    free(stages->items);
    free(stages);
}

/* ---- which one ---- */

static void append_names(StrBuf *text, const Stages *stages)
{
    for (size_t i = 0; i < stages->count; i++)
        (void)strbuf_printf(text, "%s%s", i ? ", " : "", stages->items[i].stage->name);
}

/* The stages that a run has been through are facts. */
static Status refuse_place(const Stages *stages, const StagePlace *saved, int64_t step)
{
    StrBuf was = {0}, now = {0};
    for (int32_t i = 0; i < saved->ended_count; i++) (void)strbuf_printf(&was, "%s, ", saved->ended[i].name);
    append_names(&now, stages);
    Status status = config_error(stages->config, "stages",
                                 "the checkpoint of step %lld has gone through %s%s, and the config's stages are %s; "
                                 "those that are done or begun keep their names and their order (later ones may change "
                                 "as you like)",
                                 (long long)step, was.data ? was.data : "", saved->name, now.data ? now.data : "");
    strbuf_free(&was);
    strbuf_free(&now);
    return status;
}

static void set_name(char out[STAGE_NAME_MOST + 1], const char *name)
{
    const size_t length = strnlen(name, STAGE_NAME_MOST);
    memmove(out, name, length);
    out[length] = 0;
}

/* The stage is over: the next one begins. */
static void advance(StageRun *run, int64_t step, double seconds)
{
    StagePlace *place = &run->place;
    StageEnd *end = &place->ended[place->ended_count++];
    set_name(end->name, place->name);
    end->step = step;
    end->seconds = seconds;
    run->index++;
    run->begin = step;
    set_name(place->name, run->stages->items[run->index].stage->name);
    place->steps = 0;
    place->seconds = 0;
}

/* A checkpoint of a run without stages: where its steps say. */
static Status count_off(StageRun *run, int64_t step, bool root)
{
    Status status = STATUS_OK;
    const Stages *stages = run->stages;
    set_name(run->place.name, stages->items[0].stage->name);
    for (;;) {
        const StageConfig *stage = stages->items[run->index].stage;
        if (stage->days > 0 && step > run->begin)
            FAIL_WITH(config_error(stages->config, "stages",
                                   "the checkpoint of step %lld is of a run without stages, and nothing tells whether "
                                   "the days of stage %s are over; give it steps",
                                   (long long)step, stage->name));
        if (stage->days > 0 || step - run->begin < stage->steps || run->index + 1 == stages->count) break;
        advance(run, run->begin + stage->steps, 0);
    }
    run->place.steps = step - run->begin;
    if (root)
        log_warn("the checkpoint of step %lld is of a run without stages: by its steps it lies in stage %s, with %lld "
                 "steps done in it",
                 (long long)step, run->place.name, (long long)run->place.steps);
fail:
    return status;
}

static Status match(StageRun *run, const StagePlace *saved, int64_t step)
{
    Status status = STATUS_OK;
    const Stages *stages = run->stages;
    const size_t index = (size_t)saved->ended_count;
    if (index >= stages->count || strcmp(stages->items[index].stage->name, saved->name) != 0)
        FAIL_WITH(refuse_place(stages, saved, step));
    for (size_t i = 0; i < index; i++)
        if (strcmp(stages->items[i].stage->name, saved->ended[i].name) != 0)
            FAIL_WITH(refuse_place(stages, saved, step));
    run->place = *saved;
    run->index = index;
    run->begin = step - saved->steps;
fail:
    return status;
}

static bool is_over(const StageRun *run, int64_t step, double seconds)
{
    const StageConfig *stage = run->stages->items[run->index].stage;
    return stage->steps > 0 ? step - run->begin >= stage->steps : seconds >= stage->days * SECONDS_OF_DAY;
}

Status stages_enter(const Stages *stages, const StagePlace *saved, int64_t step, bool root, StageRun *out)
{
    Status status = STATUS_OK;
    memset(out, 0, sizeof *out);
    out->stages = stages;
    if (!stages) {
        if (saved && saved->name[0] && root)
            log_warn("the checkpoint of step %lld lies in stage %s, and the config has no stages: going on as it says",
                     (long long)step, saved->name);
        return STATUS_OK;
    }
    if (!saved)
        set_name(out->place.name, stages->items[0].stage->name);
    else if (!saved->name[0])
        TRY(count_off(out, step, root));
    else
        TRY(match(out, saved, step));
    out->seconds = out->place.seconds;
fail:
    return status;
}

void stage_run_go_on(StageRun *run, int64_t step)
{
    if (!stage_run_is_over(run, step) || run->index + 1 >= run->stages->count) return;
    advance(run, step, run->seconds);
    run->seconds = 0;
}

/* ---- while it trains ---- */

const Stage *stage_run_now(const StageRun *run)
{
    return run->stages ? &run->stages->items[run->index] : NULL;
}

const char *stage_run_name(const StageRun *run)
{
    return run->stages ? run->place.name : NULL;
}

int64_t stage_run_last_step(const StageRun *run, int64_t steps)
{
    const Stage *now = stage_run_now(run);
    if (!now) return steps;
    if (now->stage->days > 0) return steps;
    const int64_t last = run->begin + now->stage->steps;
    return run_config_has_days(run->stages->run) && steps < last ? steps : last;
}

int64_t stage_run_total_steps(const StageRun *run, int64_t step, int64_t steps)
{
    const Stage *now = stage_run_now(run);
    if (!now) return steps;
    const bool over = stage_run_is_over(run, step);
    if (!over && now->stage->days > 0) return steps;
    int64_t total = over ? step : run->begin + now->stage->steps;
    for (size_t i = run->index + 1; i < run->stages->count; i++) {
        const StageConfig *later = run->stages->items[i].stage;
        if (later->days > 0) return steps;
        total += later->steps;
    }
    return run_config_has_days(run->stages->run) && steps < total ? steps : total;
}

bool stage_run_is_over(const StageRun *run, int64_t step)
{
    return run->stages && is_over(run, step, run->seconds);
}

bool stage_run_has_next(const StageRun *run, int64_t step, int64_t steps)
{
    if (!run->stages || run->index + 1 >= run->stages->count) return false;
    return !run_config_has_days(run->stages->run) || step < steps;
}

StagePlace stage_run_place(const StageRun *run, int64_t step)
{
    StagePlace place = run->place;
    if (!run->stages) return place;
    place.steps = step - run->begin;
    place.seconds = run->seconds;
    return place;
}

void stage_run_describe(const StageRun *run, char *out, size_t capacity)
{
    const StagePlace *place = &run->place;
    const RunConfig *config = &stage_run_now(run)->run;
    int length = snprintf(out, capacity, "stage %s begins, %zu of %zu: %lld pixels, batches of %lld", place->name,
                          run->index + 1, run->stages->count, (long long)config->train.resolution,
                          (long long)config->train.global_batch);
    if (place->ended_count == 0 || length < 0 || (size_t)length >= capacity) return;
    const StageEnd *last = &place->ended[place->ended_count - 1];
    const int64_t before = place->ended_count > 1 ? place->ended[place->ended_count - 2].step : 0;
    snprintf(out + length, capacity - (size_t)length, "; stage %s has ended after %lld steps", last->name,
             (long long)(last->step - before));
}
