/* Config, written: a dump reads back to the same values, one value as it is, the schema as a table of keys. */
#include "check.h"

#include <math.h>

#include "config_sample.h"

static Sample sample;
static Config *config;

static Status load(const char *text)
{
    config_free(config);
    config = NULL;
    return config_load("c.yaml", text, &SAMPLE_SCHEMA, NULL, 0, &sample, &config);
}

static int teardown(void **state)
{
    config_free(config);
    config = NULL;
    return 0;
}

static void assert_same(const Sample *a, const Sample *b)
{
    assert_int_equal(a->seed, b->seed);
    assert_string_equal(a->run.dir, b->run.dir);
    assert_int_equal(a->train.steps, b->train.steps);
    assert_int_equal(a->train.batch, b->train.batch);
    assert_int_equal(a->train.fast, b->train.fast);
    assert_int_equal(a->train.precision, b->train.precision);
    assert_memory_equal(&a->optim.lr, &b->optim.lr, sizeof(double));
    assert_memory_equal(&a->optim.decay, &b->optim.decay, sizeof(double));
    assert_int_equal(a->optim.mult.count, b->optim.mult.count);
    assert_memory_equal(a->optim.mult.items, b->optim.mult.items, a->optim.mult.count * sizeof(int64_t));
    assert_int_equal(a->data.languages.count, b->data.languages.count);
    for (size_t i = 0; i < a->data.languages.count; i++)
        assert_string_equal(a->data.languages.items[i], b->data.languages.items[i]);
    assert_int_equal(a->data.names.count, b->data.names.count);
    for (size_t i = 0; i < a->data.names.count; i++) {
        assert_string_equal(a->data.names.keys[i], b->data.names.keys[i]);
        assert_string_equal(a->data.names.values[i], b->data.names.values[i]);
    }
    assert_int_equal(a->data.sources.count, b->data.sources.count);
    for (size_t i = 0; i < a->data.sources.count; i++) {
        const SampleSource *x = (const SampleSource *)a->data.sources.items + i;
        const SampleSource *y = (const SampleSource *)b->data.sources.items + i;
        assert_memory_equal(&x->weight, &y->weight, sizeof(double));
        assert_string_equal(x->name, y->name);
        assert_int_equal(x->filter.side, y->filter.side);
        assert_int_equal(x->shards.count, y->shards.count);
        for (size_t k = 0; k < x->shards.count; k++) assert_string_equal(x->shards.items[k], y->shards.items[k]);
    }
}

static void assert_round_trip(const Sample *values)
{
    StrBuf text = {0}, again = {0};
    Sample back;
    Config *read = NULL;
    assert_ok(config_dump(&SAMPLE_SCHEMA, values, &text));
    Status status = config_load("dump.yaml", text.data, &SAMPLE_SCHEMA, NULL, 0, &back, &read);
    if (status != STATUS_OK) fail_msg("%s\n%s", status_message(), text.data);
    assert_same(values, &back);
    assert_ok(config_dump(&SAMPLE_SCHEMA, &back, &again));
    assert_string_equal(text.data, again.data);
    config_free(read);
    strbuf_free(&text);
    strbuf_free(&again);
}

static void test_dump(void **state)
{
    char *strings[] = {"plain",
                       "",
                       " lead",
                       "trail ",
                       "a: b",
                       "a #b",
                       "- x",
                       "*x",
                       "&x",
                       "!x",
                       "true",
                       "null",
                       "~",
                       "123",
                       "1e5",
                       "0x1f",
                       "\"quoted\"",
                       "'single'",
                       "back\\slash",
                       "line\nbreak\n",
                       "\n",
                       "tab\t",
                       "\r\n",
                       "\x01\x1f\x7f",
                       "\xc2\x85",
                       "\xe2\x80\xa8 \xe2\x80\xa9",
                       "\xef\xbb\xbfx",
                       "\xef\xbf\xbe",
                       "\xd0\x9f\xd1\x80\xd0\xb8",
                       "\xf0\x9f\x98\x80",
                       "{a, b}",
                       "[x]",
                       "%x",
                       "@x",
                       "`",
                       "a,b",
                       "?",
                       "? x",
                       ":",
                       "---",
                       "...",
                       "a  b",
                       "yes",
                       "No",
                       ".5",
                       ".inf",
                       "=",
                       "<<",
                       "|",
                       ">",
                       "{00..07}.tar",
                       "/a/b-c_d.tar"};
    size_t count = sizeof strings / sizeof strings[0];
    double doubles[] = {0.1, 1.0 / 3, 5e-324, 0, -0.0, 1e300, 123456789.0, 1e22, 1};
    int64_t ints[] = {1, 2, 8};
    SampleSource items[9];
    for (size_t i = 0; i < 9; i++)
        items[i] = (SampleSource){
            {strings, i == 4 ? count : i % 3}, fabs(doubles[i]) > 1e6 ? 2 : doubles[i], strings[i], {1 + (int64_t)i}};
    Sample values = {.seed = INT64_MIN,
                     .run = {strings[0]},
                     .train = {7, 9, -1, true, 0},
                     .optim = {0.25, 0, {ints, 3}},
                     .data.filter.side = 256};
    for (size_t i = 0; i < 9; i++) {
        values.optim.decay = doubles[i];
        assert_round_trip(&values);
    }
    for (size_t i = 0; i < count; i++) {
        values.run.dir = strings[i];
        assert_round_trip(&values);
    }
    values.seed = INT64_MAX;
    values.optim.mult.count = 0;
    values.data.languages = (ConfigStrings){strings, count};
    values.data.names = (ConfigPairs){strings, strings, count};
    values.data.sources = (ConfigList){items, 9};
    items[4].weight = 1;
    for (size_t i = 0; i < 9; i++) items[i].weight = fabs(items[i].weight);
    assert_round_trip(&values);

    StrBuf text = {0};
    assert_ok(load("run: {dir: out}\ntrain: {steps: 10}\ndata: {sources: [{shards: [a.tar, b c]}]}\n"));
    assert_ok(config_dump(&SAMPLE_SCHEMA, &sample, &text));
    assert_string_equal(text.data, "seed: 0\nrun:\n  dir: out\ntrain:\n  steps: 10\n  global_batch: 32\n  part: 0\n"
                                   "  fast: true\n"
                                   "  precision: auto\noptim:\n  lr: 0.0001\n  decay: 0.0\n  mult: [1, 2, 4]\ndata:\n"
                                   "  sources:\n    - shards: [a.tar, \"b c\"]\n      weight: 1.0\n      name: \"\"\n"
                                   "      filter:\n        side: 256\n  languages: []\n  names: {}\n"
                                   "  filter:\n    side: 256\nparts: []\n");
    strbuf_free(&text);
}

static void assert_value(const char *key, const char *expected)
{
    StrBuf text = {0};
    assert_ok(config_dump_value(&SAMPLE_SCHEMA, &sample, key, &text));
    assert_string_equal(text.data, expected);
    strbuf_free(&text);
}

static void assert_no_value(const char *key, const char *why)
{
    StrBuf text = {0};
    assert_int_equal(config_dump_value(&SAMPLE_SCHEMA, &sample, key, &text), ERR_USAGE);
    assert_non_null(strstr(status_message(), why));
    strbuf_free(&text);
}

static void test_value(void **state)
{
    assert_ok(load("run: {dir: \"a \\\"b\\\"\\\\c\\td\"}\ntrain: {steps: 10, part: all, precision: bf16}\n"
                   "data: {sources: [{shards: [a.tar]}], languages: [ru, \"e n\"]}\n"));
    assert_value("run.dir", "a \"b\"\\c\td");
    assert_value("train.steps", "10");
    assert_value("train.part", "all");
    assert_value("train.precision", "bf16");
    assert_value("train.fast", "true");
    assert_value("optim.lr", "0.0001");
    assert_value("optim.mult", "[1, 2, 4]");
    assert_value("data.languages", "[ru, \"e n\"]");
    assert_no_value("train", "train: is a section; name one of its keys, as in train.steps");
    assert_no_value("data.sources", "data.sources: has lines of its own");
    assert_no_value("data.sources.shards", "data.sources has no keys below it that could be named");
    assert_no_value("seed.x", "seed has no keys below it");
    assert_no_value("train.stpes", "train.stpes: the config has no such key; did you mean train.steps?");
    assert_no_value("", "the config has no such key");
    assert_no_value("run.", "run.: the config has no such key");
    assert_no_value("qqqqqqqqqqq.dir", "qqqqqqqqqqq.dir: the config has no such key");
}

static void test_describe(void **state)
{
    StrBuf text = {0};
    assert_ok(config_describe(&SAMPLE_SCHEMA, &text));
    assert_non_null(strstr(text.data, "train.steps: whole number, 1 to 1000000000, required\n    optimizer steps\n"));
    assert_non_null(strstr(text.data, "train.precision: word fp32 | bf16 | auto, default auto\n"));
    assert_non_null(strstr(text.data, "data.sources[].filter.side: whole number, at least 1, default 256\n"));
    assert_non_null(strstr(text.data, "data.sources[].name: text, default \"\"\n"));
    assert_non_null(
        strstr(text.data, "parts[].train: of this section's keys those that differ: global_batch, part, fast\n"));
    assert_non_null(strstr(
        text.data, "parts[].data: of this section's keys those that differ: sources, languages, names, filter\n"));
    strbuf_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_dump, teardown),
        cmocka_unit_test_teardown(test_value, teardown),
        cmocka_unit_test_teardown(test_describe, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
