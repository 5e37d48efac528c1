/* Stages without a run: what the config may say, which stage a checkpoint lies in, and what state.json keeps of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train/checkpoint.h"
#include "train/run_config.h"
#include "train/stages.h"

#define assert_ok(call)                                                       \
    do {                                                                      \
        if ((call) != STATUS_OK) fail_msg("%s: %s", #call, status_message()); \
    } while (0)
#define assert_fails(call, code, words)                                                                 \
    do {                                                                                                \
        assert_int_equal(call, code);                                                                   \
        if (!strstr(status_message(), words)) fail_msg("\"%s\" lacks \"%s\"", status_message(), words); \
    } while (0)

static const char TEXT[] =
    "run: {dir: r}\n"
    "train: {resolution: 64, global_batch: 8, micro_batch: 2}\n"
    "data:\n"
    "  sources: [{name: a, shards: [a.tar]}, {name: b, shards: [b.tar]}]\n"
    "  lanes: 8\n"
    "stages:\n"
    "  - name: small\n"
    "    steps: 30\n"
    "  - name: large\n"
    "    steps: 20\n"
    "    train: {resolution: 128, global_batch: 4}\n"
    "    data: {filter: {watermark_max: 0.2}, sources: [{name: b, shards: [b.tar], weight: 3}]}\n"
    "    frozen: {dtype: bf16}\n"
    "    preview: {every: 7}\n"
    "  - name: clean\n"
    "    steps: 10\n";

typedef struct Loaded {
    RunConfig run;
    Config *config;
    Stages *stages;
} Loaded;

static Status load(Loaded *l, const char *const *overrides)
{
    size_t count = 0;
    while (overrides[count]) count++;
    memset(l, 0, sizeof *l);
    return run_config_load("c.yaml", TEXT, overrides, count, &l->run, &l->config);
}
#define LOAD(l, ...) load(l, (const char *const[]){__VA_ARGS__, NULL})

static void open_stages(Loaded *l, const char *override)
{
    assert_ok(load(l, (const char *const[]){override, NULL}));
    assert_ok(stages_open(&l->run, l->config, &l->stages));
}

static void unload(Loaded *l)
{
    stages_free(l->stages);
    config_free(l->config);
}

static void each_stage_has_its_config(void **state)
{
    (void)state;
    Loaded l;
    open_stages(&l, NULL);
    assert_int_equal(l.stages->count, 3);
    assert_int_equal(l.run.train.steps, 60);
    assert_int_equal(l.run.optim.total_steps, 60);
    const RunConfig *small = &l.stages->items[0].run, *large = &l.stages->items[1].run,
                    *clean = &l.stages->items[2].run;
    assert_int_equal(small->train.resolution, 64);
    assert_int_equal(large->train.resolution, 128);
    assert_int_equal(clean->train.resolution, 64); /* a stage changes the config, not the stage before it */
    assert_int_equal(large->train.global_batch, 4);
    assert_int_equal(large->train.micro_batch, 2);
    assert_int_equal(large->train.steps, 60);
    assert_int_equal(large->optim.total_steps, 60);
    assert_int_equal(large->data.sources.count, 1);
    assert_true(data_config_source(&large->data, 0)->weight == 3);
    assert_true(large->data.filter.watermark_max == 0.2 && large->data.filter.similarity_min == 0.26);
    assert_int_equal(large->preview.every, 7);
    assert_int_equal(large->preview.steps, 50);
    assert_int_equal(large->stages.count, 0);
    unload(&l);
    open_stages(&l, "train.resolution=192");
    assert_int_equal(l.stages->items[0].run.train.resolution, 192);
    assert_int_equal(l.stages->items[1].run.train.resolution, 128);
    unload(&l);
    open_stages(&l, "stages[1].train.resolution=256");
    assert_int_equal(l.stages->items[0].run.train.resolution, 64);
    assert_int_equal(l.stages->items[1].run.train.resolution, 256);
    unload(&l);
}

static void the_dump_loads_again(void **state)
{
    (void)state;
    Loaded l, again;
    StrBuf text = {0}, twice = {0};
    open_stages(&l, NULL);
    assert_ok(config_dump(&RUN_CONFIG_SCHEMA, &l.run, &text));
    memset(&again, 0, sizeof again);
    assert_ok(run_config_load("dump", text.data, NULL, 0, &again.run, &again.config));
    assert_ok(config_dump(&RUN_CONFIG_SCHEMA, &again.run, &twice));
    assert_string_equal(text.data, twice.data);
    assert_ok(stages_open(&again.run, again.config, &again.stages));
    for (size_t i = 0; i < 3; i++) {
        StrBuf one = {0}, other = {0};
        assert_ok(config_dump(&RUN_CONFIG_SCHEMA, &l.stages->items[i].run, &one));
        assert_ok(config_dump(&RUN_CONFIG_SCHEMA, &again.stages->items[i].run, &other));
        assert_string_equal(one.data, other.data);
        strbuf_free(&one);
        strbuf_free(&other);
    }
    strbuf_free(&text);
    strbuf_free(&twice);
    unload(&again);
    unload(&l);
}

static void mistakes_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *override, *words;
    } CASES[] = {
        {"stages[0].steps=0", "stages[0].steps: stage small has no length; write steps: N or days: N"},
        {"stages[0].days=2", "stages[0].days: stage small has steps and days; leave one of them out"},
        {"stages[1].name=small", "stages[1].name: two stages are called small"},
        {"stages[1].name=a/b", "stages[1].name: a name has 1 to 64 letters"},
        {"stages[1].name=.b", "stages[1].name: a name has"},
        {"stages[1].name=", "stages[1].name"},
        {"train.steps=61", "train.steps: 61, but the steps of the 3 stages add up to 60; leave it out"},
        {"stages[1].train.steps=3", "stages[1].train.steps cannot be written here, only in train"},
        {"stages[1].data.lanes=4", "stages[1].data.lanes cannot be written here, only in data"},
        {"stages[1].train.log_evry=1",
         "stages[1].train.log_evry is not a key; there are: global_batch, micro_batch, resolution, recompute, "
         "bucket_bytes"},
        {"stages[1].data.lane=4", "stages[1].data.lane is not a key; there are: sources, shuffle_block, "},
        {"stages[1].data.tokenizer1.model=x", "stages[1].data.tokenizer1 cannot be written here"},
        {"stages[1].optim.max_lr=1", "stages[1].optim is not a key here, but optim is"},
        {"stages[1].train.resolution=100", "stage large: train.resolution"},
        {"stages[1].train.resolution=abc", "stages[1].train.resolution wants a whole number"},
        {"stages[1].preview.steps=2000", "stage large: preview.steps"},
        {"stages[1].data.sources=[{name: b, shards: [c.tar]}]",
         "stage large: data.sources[0].shards: source b has other shards than in stage small"},
        {"stages[2].data.shuffle_block=7",
         "stage clean: data.shuffle_block: source a would have another order than in stage small"},
        {"stages[2].data.shuffle_mix=7", "stage clean: data.shuffle_mix"},
        {"stages[2]={name: d, days: 3}", "optim.total_steps (default): 0 stands for the steps of all stages"},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        Loaded l;
        assert_fails(LOAD(&l, CASES[i].override), ERR_CONFIG, CASES[i].words);
    }
    Loaded l;
    assert_ok(LOAD(&l, "train.steps=60")); /* what a dump writes */
    size_t at;
    assert_fails(run_config_find_stage(&l.run, "huge", &at), ERR_USAGE, "no stage huge; the config has: small, large");
    assert_ok(run_config_find_stage(&l.run, "clean", &at));
    assert_int_equal(at, 2);
    unload(&l);
    /* another order is fine where no place in it is carried over */
    assert_ok(LOAD(&l, "stages[1].data={shuffle_block: 7, sources: [{name: c, shards: [c.tar]}]}"));
    unload(&l);
    assert_ok(LOAD(&l, "stages=[]"));
    assert_int_equal(l.run.train.steps, 500000);
    assert_fails(run_config_find_stage(&l.run, "huge", &at), ERR_USAGE, "the config has no stages");
    unload(&l);
}

/* What `vasily config` and `vasily plan` ask of every stage. */
static void training_refuses_a_stage(void **state)
{
    (void)state;
    static const char *const CASES[][2] = {
        {"stages[1].data.caption_language=rnadom", "stage large: data.caption_language"},
        {"stages[1].data.sources=[{name: c, shards: [\"s/{00..0x}.tar\"]}]", "stage large: data.sources[0].shards"},
        {"stages[2].data.filter.where=[widht > 3]", "stage clean: data.filter.where[0]"},
        {"stages[1].frozen={latents: precomputed}", "stage large: data.augment.flip"},
        {"stages[2].train.micro_batch=5", "stage clean: train.micro_batch: 5 does not divide"},
        {"data.tokenizer2.max_tokens=9", "stage small: data.tokenizer2.max_tokens: 9 differs from model.max_tokens"},
    };
    static const char *const TOKENIZERS[] = {"data.tokenizer1.model=a.model", "data.tokenizer2.model=a.model",
                                             "data.augment.flip=0.5"};
    Loaded l;
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        assert_ok(LOAD(&l, TOKENIZERS[0], TOKENIZERS[1], TOKENIZERS[2], CASES[i][0]));
        assert_fails(run_config_check_trainable(&l.run, l.config, true), ERR_CONFIG, CASES[i][1]);
        unload(&l);
    }
    assert_ok(LOAD(&l, TOKENIZERS[0], TOKENIZERS[1], TOKENIZERS[2], "stages[2].train.micro_batch=5"));
    assert_ok(run_config_check_trainable(&l.run, l.config, false));
    unload(&l);
    /* what no stage trains with is as wrong as it likes */
    assert_ok(LOAD(&l, TOKENIZERS[0], TOKENIZERS[1], "stages=[{name: a, steps: 1, data: {caption_language: first}}]",
                   "data.caption_language=rnadom"));
    assert_ok(run_config_check_trainable(&l.run, l.config, true));
    unload(&l);
}

static void days_need_a_schedule(void **state)
{
    (void)state;
    Loaded l;
    assert_ok(LOAD(&l, "stages[2]={name: d, days: 3}", "optim.total_steps=200"));
    assert_int_equal(l.run.train.steps, 200);
    unload(&l);
    assert_ok(LOAD(&l, "stages[2]={name: d, days: 3}", "optim.total_steps=200", "train.steps=150"));
    assert_int_equal(l.run.train.steps, 150);
    unload(&l);
}

static StagePlace place_of(const char *name, int64_t steps, double seconds)
{
    StagePlace place = {.steps = steps, .seconds = seconds};
    snprintf(place.name, sizeof place.name, "%s", name);
    return place;
}

static void add_end(StagePlace *place, const char *name, int64_t step)
{
    StageEnd *end = &place->ended[place->ended_count++];
    snprintf(end->name, sizeof end->name, "%s", name);
    end->step = step;
    end->seconds = 5;
}

static void a_run_goes_through_its_stages(void **state)
{
    (void)state;
    Loaded l;
    StageRun run;
    open_stages(&l, NULL);
    assert_ok(stages_enter(l.stages, NULL, 0, true, &run));
    assert_string_equal(stage_run_name(&run), "small");
    assert_int_equal(stage_run_last_step(&run, 60), 30);
    assert_false(stage_run_is_over(&run, 29));
    assert_true(stage_run_is_over(&run, 30));
    assert_true(stage_run_has_next(&run, 30, 60));
    run.seconds = 12.5;

    StagePlace middle = stage_run_place(&run, 17), end = stage_run_place(&run, 30);
    assert_ok(stages_enter(l.stages, &middle, 17, true, &run));
    assert_string_equal(stage_run_name(&run), "small");
    assert_true(run.seconds == 12.5);
    assert_ok(stages_enter(l.stages, &end, 30, true, &run));
    stage_run_go_on(&run, 30);
    assert_string_equal(stage_run_name(&run), "large");
    assert_int_equal(run.begin, 30);
    assert_int_equal(stage_run_last_step(&run, 60), 50);
    assert_true(run.seconds == 0);

    StagePlace later = stage_run_place(&run, 41);
    assert_int_equal(later.steps, 11);
    assert_int_equal(later.ended_count, 1);
    assert_int_equal(later.ended[0].step, 30);
    assert_true(later.ended[0].seconds == 12.5);
    end = stage_run_place(&run, 50);
    assert_ok(stages_enter(l.stages, &end, 50, true, &run));
    stage_run_go_on(&run, 50);
    end = stage_run_place(&run, 60);
    assert_string_equal(end.name, "clean");
    assert_ok(stages_enter(l.stages, &end, 60, true, &run));
    stage_run_go_on(&run, 60);
    assert_string_equal(stage_run_name(&run), "clean"); /* nothing comes after it */
    assert_true(stage_run_is_over(&run, 60));
    assert_false(stage_run_has_next(&run, 60, 60));
    char text[256];
    stage_run_describe(&run, text, sizeof text);
    assert_string_equal(text,
                        "stage clean begins, 3 of 3: 64 pixels, batches of 8; stage large has ended after 20 steps");
    unload(&l);
}

static void days_end_a_stage(void **state)
{
    (void)state;
    Loaded l;
    StageRun run;
    assert_ok(LOAD(&l, "stages[1]={name: large, days: 2}", "optim.total_steps=200"));
    assert_ok(stages_open(&l.run, l.config, &l.stages));
    StagePlace place = place_of("large", 70, 2 * 86400 - 1);
    add_end(&place, "small", 30);
    assert_ok(stages_enter(l.stages, &place, 100, true, &run));
    assert_string_equal(stage_run_name(&run), "large");
    assert_int_equal(stage_run_last_step(&run, 200), 200);
    assert_false(stage_run_is_over(&run, 150));
    run.seconds += 2;
    assert_true(stage_run_is_over(&run, 150));
    assert_true(stage_run_has_next(&run, 150, 200));
    assert_false(stage_run_has_next(&run, 200, 200)); /* the schedule is over, too */
    place = stage_run_place(&run, 150);
    assert_ok(stages_enter(l.stages, &place, 150, true, &run));
    stage_run_go_on(&run, 150);
    assert_string_equal(stage_run_name(&run), "clean");
    assert_int_equal(run.begin, 150);
    assert_int_equal(stage_run_last_step(&run, 200), 160);
    assert_int_equal(stage_run_last_step(&run, 155), 155);
    unload(&l);
}

/* Stages that are done count as they were; the one in hand ends where the config says now, or is over at once. */
static void the_total_is_what_was_and_what_comes(void **state)
{
    (void)state;
    Loaded l;
    StageRun run;
    StagePlace place = place_of("large", 8, 0);
    add_end(&place, "small", 4);
    open_stages(&l, NULL);
    assert_ok(stages_enter(l.stages, NULL, 0, true, &run));
    assert_int_equal(stage_run_total_steps(&run, 0, 60), 60);
    assert_ok(stages_enter(l.stages, &place, 12, true, &run)); /* small has ended with 4 steps, and has 30 now */
    assert_int_equal(stage_run_total_steps(&run, 12, 60), 4 + 20 + 10);
    assert_int_equal(stage_run_total_steps(&run, 24, 60), 4 + 20 + 10);
    unload(&l);
    open_stages(&l, "stages[1].steps=2");
    assert_ok(stages_enter(l.stages, &place, 12, true, &run));
    assert_int_equal(stage_run_total_steps(&run, 12, 42), 12 + 10);
    stage_run_go_on(&run, 12);
    assert_int_equal(stage_run_total_steps(&run, 12, 42), 12 + 10);
    assert_int_equal(stage_run_total_steps(&run, 13, 42), 12 + 10);
    unload(&l);
    assert_ok(LOAD(&l, "stages[1]={name: large, days: 2}", "optim.total_steps=200"));
    assert_ok(stages_open(&l.run, l.config, &l.stages));
    assert_ok(stages_enter(l.stages, &place, 12, true, &run));
    assert_int_equal(stage_run_total_steps(&run, 12, 200), 200);
    run.seconds = 2 * 86400;
    assert_int_equal(stage_run_total_steps(&run, 12, 200), 12 + 10);
    assert_int_equal(stage_run_total_steps(&run, 12, 20), 20);
    unload(&l);
    assert_ok(stages_enter(NULL, NULL, 0, true, &run));
    assert_int_equal(stage_run_total_steps(&run, 7, 60), 60);
}

static void checkpoints_of_other_stages(void **state)
{
    (void)state;
    Loaded l;
    StageRun run;
    StagePlace place = place_of("medium", 3, 0);
    add_end(&place, "small", 30);
    open_stages(&l, NULL);
    assert_fails(stages_enter(l.stages, &place, 33, true, &run), ERR_CONFIG,
                 "stages: the checkpoint of step 33 has gone through small, medium, and the config's stages are small, "
                 "large, clean");
    place = place_of("small", 3, 0);
    add_end(&place, "large", 30);
    assert_fails(stages_enter(l.stages, &place, 33, true, &run), ERR_CONFIG, "large, small");
    place = place_of("x", 3, 0);
    for (int i = 0; i < 3; i++) add_end(&place, l.stages->items[i].stage->name, 10 * i);
    assert_fails(stages_enter(l.stages, &place, 23, true, &run), ERR_CONFIG, "small, large, clean, x");

    /* of a run without stages: by the steps */
    place = place_of("", 0, 0);
    assert_ok(stages_enter(l.stages, &place, 30, false, &run));
    assert_string_equal(stage_run_name(&run), "large");
    assert_int_equal(run.place.steps, 0);
    assert_ok(stages_enter(l.stages, &place, 49, false, &run));
    assert_string_equal(stage_run_name(&run), "large");
    assert_int_equal(run.begin, 30);
    assert_ok(stages_enter(l.stages, &place, 99, false, &run));
    assert_string_equal(stage_run_name(&run), "clean");
    assert_true(stage_run_is_over(&run, 99));
    unload(&l);
    assert_ok(LOAD(&l, "stages[1]={name: large, days: 2}", "optim.total_steps=200"));
    assert_ok(stages_open(&l.run, l.config, &l.stages));
    assert_ok(stages_enter(l.stages, &place, 30, false, &run));
    assert_fails(stages_enter(l.stages, &place, 31, false, &run), ERR_CONFIG, "the days of stage large");
    unload(&l);

    /* no stages at all */
    assert_ok(stages_enter(NULL, NULL, 0, true, &run));
    assert_null(stage_run_name(&run));
    assert_int_equal(stage_run_last_step(&run, 60), 60);
    assert_false(stage_run_is_over(&run, 60) || stage_run_has_next(&run, 60, 60));
    assert_int_equal(stage_run_place(&run, 60).name[0], 0);
}

static Status read_place(const char *json, int64_t step, StagePlace *out)
{
    JsonDoc *doc;
    Status status = json_parse(json, strlen(json), 1 << 20, &doc);
    if (status == STATUS_OK) status = stage_place_read("s.json", json_get(json_root(doc), "stage"), step, out);
    json_free(doc);
    return status;
}

static void state_keeps_the_place(void **state)
{
    (void)state;
    StrBuf text = {0};
    JsonWriter w;
    StagePlace place = place_of("large", 11, 0.1), back = {0};
    add_end(&place, "small", 30);
    json_begin(&w, &text);
    json_object(&w, NULL);
    stage_place_write(&place, &w);
    json_end_object(&w);
    assert_ok(read_place(text.data, 41, &back));
    assert_string_equal(back.name, "large");
    assert_true(back.steps == 11 && back.seconds == 0.1 && back.ended_count == 1);
    assert_string_equal(back.ended[0].name, "small");
    assert_true(back.ended[0].step == 30 && back.ended[0].seconds == 5);
    strbuf_free(&text);

    assert_ok(read_place("{}", 41, &back)); /* earlier versions, and runs without stages */
    assert_int_equal(back.name[0], 0);
    static const char *const BAD[] = {
        "{\"stage\": 3}",
        "{\"stage\": {\"name\": \"\", \"steps\": 41, \"seconds\": 0, \"ended\": []}}",
        "{\"stage\": {\"name\": \"a\", \"steps\": 40, \"seconds\": 0, \"ended\": []}}",
        "{\"stage\": {\"name\": \"a\", \"steps\": 41, \"seconds\": -1, \"ended\": []}}",
        "{\"stage\": {\"name\": \"a\", \"steps\": 41, \"seconds\": NaN, \"ended\": []}}",
        "{\"stage\": {\"name\": \"a\", \"steps\": -1, \"seconds\": 1, \"ended\": [{\"name\": \"b\", \"step\": 42, "
        "\"seconds\": 1}]}}",
        "{\"stage\": {\"name\": \"a\", \"steps\": 1, \"seconds\": 1, \"ended\": [{\"name\": \"b\", \"step\": -4, "
        "\"seconds\": 1}]}}",
        "{\"stage\": {\"name\": \"a\", \"steps\": 11, \"seconds\": 1, \"ended\": [7]}}",
        "{\"stage\": {\"name\": \"a\\u0000b\", \"steps\": 41, \"seconds\": 0, \"ended\": []}}",
    };
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++)
        assert_fails(read_place(BAD[i], 41, &back), ERR_FORMAT, "s.json: \"stage\"");

    StrBuf many = {0};
    assert_ok(strbuf_printf(&many, "{\"stage\": {\"name\": \"a\", \"steps\": 41, \"seconds\": 0, \"ended\": ["));
    for (int i = 0; i < STAGES_MOST; i++)
        assert_ok(strbuf_printf(&many, "%s{\"name\": \"b\", \"step\": 0, \"seconds\": 0}", i ? "," : ""));
    assert_ok(strbuf_printf(&many, "]}}"));
    assert_fails(read_place(many.data, 41, &back), ERR_FORMAT, "too many");
    strbuf_free(&many);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_stage_has_its_config),
        cmocka_unit_test(the_dump_loads_again),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(training_refuses_a_stage),
        cmocka_unit_test(days_need_a_schedule),
        cmocka_unit_test(a_run_goes_through_its_stages),
        cmocka_unit_test(days_end_a_stage),
        cmocka_unit_test(the_total_is_what_was_and_what_comes),
        cmocka_unit_test(checkpoints_of_other_stages),
        cmocka_unit_test(state_keeps_the_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
