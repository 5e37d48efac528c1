/* Config: what is read, how refusals read, overrides, and parts that differ. What is written: test_config_dump.c. */
#include "check.h"

#include "base/file.h"
#include "config_sample.h"
#include "temp_dir.h"

#define NEEDED "run: {dir: out}\ntrain: {steps: 10}\n"

static Sample sample;
static Config *config;

static Status load(const char *text, const char *override)
{
    config_free(config);
    config = NULL;
    return config_load("c.yaml", text, &SAMPLE_SCHEMA, &override, override ? 1 : 0, &sample, &config);
}

static int teardown(void **state)
{
    config_free(config);
    config = NULL;
    return 0;
}

static void test_reads_everything(void **state)
{
    assert_ok(load("# a comment\n"
                   "seed: -12\n"
                   "run:\n  dir: \"a \\\"b\\\"\"\n"
                   "train:\n  steps: 10k\n  global_batch: 1Ki\n  fast: false\n  precision: bf16\n"
                   "optim: {lr: 2.5e-5, decay: .5, mult: [1, 3]}\n"
                   "data:\n  languages: [ru, \"en\", 'no']\n"
                   "  names: {ru: кот, no: katt, \"a: b\": 7}\n"
                   "  sources:\n"
                   "    - shards: [a.tar]\n"
                   "    - shards:\n        - b.tar\n        - c.tar\n      weight: 2\n      name: 123\n"
                   "      filter:\n        side: 7\n",
                   NULL));
    assert_int_equal(sample.seed, -12);
    assert_string_equal(sample.run.dir, "a \"b\"");
    assert_int_equal(sample.train.steps, 10000);
    assert_int_equal(sample.train.batch, 1024);
    assert_false(sample.train.fast);
    assert_int_equal(sample.train.precision, 1);
    assert_true(sample.optim.lr == 2.5e-5 && sample.optim.decay == 0.5);
    assert_int_equal(sample.optim.mult.count, 2);
    assert_int_equal(sample.optim.mult.items[1], 3);
    assert_int_equal(sample.data.languages.count, 3);
    assert_string_equal(sample.data.languages.items[2], "no");
    assert_int_equal(sample.data.names.count, 3);
    assert_string_equal(sample.data.names.values[0], "кот");
    assert_string_equal(sample.data.names.keys[1], "no");
    assert_string_equal(sample.data.names.keys[2], "a: b");
    assert_string_equal(sample.data.names.values[2], "7");
    assert_int_equal(sample.data.sources.count, 2);
    const SampleSource *sources = sample.data.sources.items;
    assert_string_equal(sources[1].shards.items[1], "c.tar");
    assert_true(sources[0].weight == 1 && sources[1].weight == 2);
    assert_string_equal(sources[0].name, "");
    assert_string_equal(sources[1].name, "123");
    assert_int_equal(sources[0].filter.side, 256);
    assert_int_equal(sources[1].filter.side, 7);
}

static void test_defaults(void **state)
{
    assert_ok(load(NEEDED "optim:\n", NULL)); /* a section with nothing below */
    assert_int_equal(sample.train.batch, 32);
    assert_true(sample.train.fast);
    assert_int_equal(sample.train.precision, 2);
    assert_true(sample.optim.lr == 1e-4);
    assert_int_equal(sample.optim.mult.count, 3);
    assert_int_equal(sample.data.sources.count, 0);
    assert_int_equal(sample.data.languages.count, 0);
}

static void test_from_file(void **state)
{
    temp_write("run.yaml", NEEDED, strlen(NEEDED));
    config_free(config);
    assert_ok(config_load(temp_path("run.yaml"), NULL, &SAMPLE_SCHEMA, NULL, 0, &sample, &config));
    assert_int_equal(sample.train.steps, 10);
    /* With the byte order mark of some editors, and lines that end as theirs do. */
    static const char MARKED[] = "\xef\xbb\xbfrun: {dir: x}\r\ntrain:\r\n  steps: 11\r\n";
    temp_write("run.yaml", MARKED, sizeof MARKED - 1);
    config_free(config);
    assert_ok(config_load(temp_path("run.yaml"), NULL, &SAMPLE_SCHEMA, NULL, 0, &sample, &config));
    assert_int_equal(sample.train.steps, 11);
    assert_fails(load("\xef\xbb\xbfrun: {dir: x}\nsteps: 3\n", NULL), ERR_CONFIG, "c.yaml:2: steps is not a key");
    Config *none = NULL;
    assert_fails(config_load(temp_path("gone.yaml"), NULL, &SAMPLE_SCHEMA, NULL, 0, &sample, &none), ERR_IO,
                 "gone.yaml");
    assert_null(none);
}

typedef struct Refusal {
    const char *text, *override, *words;
    Status code;
} Refusal;

static void check_refusals(const Refusal *refusals, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const Refusal *r = &refusals[i];
        Status status = load(r->text, r->override);
        if (status != (r->code ? r->code : ERR_CONFIG))
            fail_msg("%s / %s: gave %s", r->text, r->override ? r->override : "", status_name(status));
        if (!strstr(status_message(), r->words)) fail_msg("said: %s\nwithout: %s", status_message(), r->words);
        assert_null(config);
    }
}

#define REFUSALS(list) check_refusals(list, sizeof(list) / sizeof(list)[0])

static void test_refuses_values(void **state)
{
    static const Refusal R[] = {
        {"run: {dir: x}\ntrain:\n  steps: abc\n", NULL, "c.yaml:3: train.steps wants a whole number such as", 0},
        {"run: {dir: x}\ntrain:\n  steps: abc\n", NULL, "found abc", 0},
        {"run: {dir: x}\ntrain:\n  steps: \"10\"\n", NULL, "found the text \"10\"", 0},
        {"run: {dir: x}\ntrain:\n  steps: 0\n", NULL, "c.yaml:3: train.steps is 0, must be between 1 and 1000000000",
         0},
        {"run: {dir: x}\ntrain:\n  steps: 1.5\n", NULL, "found 1.5", 0},
        {"run: {dir: x}\ntrain:\n  steps: 99999999999999999999\n", NULL, "train.steps", 0},
        {"run: {dir: x}\ntrain:\n  steps: 9223372036854775807G\n", NULL, "train.steps", 0},
        {"run: {dir: x}\ntrain:\n  steps: 0x10\n", NULL, "found 0x10", 0},
        {"run: {dir: x}\ntrain:\n  steps:\n", NULL,
         "c.yaml:3: train.steps wants a whole number such as 8, 10k or 4Mi, found nothing", 0},
        {"run: {dir: x}\ntrain:\n  steps:\n\n    abc\n", NULL, "c.yaml:3: train.steps", 0}, /* where the key stands */
        {"run: {dir: x}\ntrain:\n  steps: [1]\n", NULL, "found a list", 0},
        {"run: {dir: x}\ntrain: 7\n", NULL, "c.yaml:2: train wants a section", 0},
        {NEEDED "optim: {lr: nan}\n", NULL, "c.yaml:3: optim.lr wants a number such as 0.1 or 1e-4, found nan", 0},
        {NEEDED "optim: {lr: .inf}\n", NULL, "found .inf", 0},
        {NEEDED "optim: {lr: 1e999}\n", NULL, "found 1e999", 0},
        {NEEDED "optim: {lr: 2}\n", NULL, "optim.lr is 2, must be between 0 and 1", 0},
        {NEEDED "optim:\n  mult: [1,\n    9]\n", NULL, "c.yaml:5: optim.mult[1] is 9, must be between 1 and 8", 0},
        {NEEDED "optim:\n  mult: 1,2\n", NULL, "optim.mult wants a list of whole numbers such as [1, 2, 4], found 1,2",
         0},
        {"run: {dir: x}\ntrain:\n  steps: 1\n  fast: yes\n", NULL,
         "c.yaml:4: train.fast wants true or false, found yes", 0},
        {"run: {dir: x}\ntrain:\n  steps: 1\n  precision: bf61\n", NULL,
         "train.precision cannot be bf61; did you mean bf16? There are: fp32, bf16, auto", 0},
        {"run: {dir: [x]}\ntrain: {steps: 1}\n", NULL, "c.yaml:1: run.dir wants a text", 0},
        {"run: {dir: ~}\ntrain: {steps: 1}\n", NULL, "found nothing", 0},
        {NEEDED "data:\n  sources:\n    - shards: [a]\n      weight: -1\n", NULL,
         "c.yaml:6: data.sources[0].weight is -1", 0},
        {NEEDED "data:\n  sources:\n    - shards: [a]\n      filter: {side: 0}\n", NULL,
         "data.sources[0].filter.side is 0, must be at least 1", 0},
        {NEEDED "data:\n  sources: {shards: [a]}\n", NULL, "c.yaml:4: data.sources wants a list of sections", 0},
        {NEEDED "data:\n  languages: ru\n", NULL, "data.languages wants a list of texts", 0},
        {NEEDED "data:\n  names: ru\n", NULL, "c.yaml:4: data.names wants texts under keys", 0},
        {NEEDED "data:\n  names:\n    ru: [кот]\n", NULL, "c.yaml:5: data.names.ru wants a text", 0},
        {NEEDED "data:\n  names: {ru: a, en: b, ru: c}\n", NULL, "the key ru is written twice", 0},
        {"run: {dir: x}\ntrain: {steps: 1, part: most}\n", NULL,
         "train.part wants a whole number such as 8, 10k or 4Mi, or auto, or all, found most", 0},
        {"run: {dir: x}\ntrain: {steps: 1, part: -1}\n", NULL, "train.part is -1, must be between 0 and 1024", 0},
        {"run: {dir: x}\ntrain: {steps: auto}\n", NULL, "train.steps wants a whole number", 0},
    };
    REFUSALS(R);
}

/* Words that stand for a number are read, written and explained as words. */
static void test_number_words(void **state)
{
    StrBuf text = {0};
    assert_ok(load("run: {dir: x}\ntrain: {steps: 1, part: all}\n", NULL));
    assert_int_equal(sample.train.part, -2);
    assert_ok(load("run: {dir: x}\ntrain: {steps: 1, part: 7}\n", "train.part=auto"));
    assert_int_equal(sample.train.part, -1);
    assert_ok(config_dump(&SAMPLE_SCHEMA, &sample, &text));
    assert_non_null(strstr(text.data, "  part: auto\n"));
    assert_ok(load(text.data, NULL));
    assert_int_equal(sample.train.part, -1);
    strbuf_free(&text);
    assert_ok(config_describe(&SAMPLE_SCHEMA, &text));
    assert_non_null(strstr(text.data, "train.part: whole number or auto or all, 0 to 1024, default 0\n"));
    strbuf_free(&text);
}

static void test_refuses_keys(void **state)
{
    static const Refusal R[] = {
        {"run: {dir: x}\ntrain:\n  step: 5\n", NULL,
         "c.yaml:3: train.step is not a key; did you mean steps? There are: steps, global_batch, part, fast, precision",
         0},
        {"run: {dir: x}\ntrain:\n  setps: 5\n", NULL, "did you mean steps?", 0},
        {"run: {dir: x}\ntrain:\n  batch: 5\n", NULL, "did you mean global_batch?", 0},
        {"run: {dir: x}\ntrain:\n  steps: 5\n  zzzzz: 1\n", NULL,
         "c.yaml:4: train.zzzzz is not a key; there are: steps", 0},
        {NEEDED "lr: 5\n", NULL, "c.yaml:3: lr is not a key here, but optim.lr is", 0},
        {"train: {steps: 1}\n", NULL,
         "run.dir is missing and has no default; write it, such as dir: \"abc\" (folder of the run)", 0},
        {"run:\ntrain: {steps: 1}\n", NULL, "c.yaml:1: run.dir is missing", 0},
        {NEEDED "data:\n  sources:\n    - shards: [a]\n    - weight: 2\n", NULL,
         "c.yaml:6: data.sources[1].shards is missing", 0},
        {"run: {dir: x}\nrun: {dir: y}\n", NULL, "c.yaml:2: the key run is written twice, first in line 1", 0},
        {"run:\n  dir: x\n\n  dir: y\n", NULL, "c.yaml:4: the key dir is written twice, first in line 2", 0},
    };
    REFUSALS(R);
}

static void test_refuses_yaml(void **state)
{
    static const Refusal R[] = {
        {"run: &a {dir: x}\n", NULL, "c.yaml:1: YAML anchors (&a)", 0},
        {"seed: 1\nrun: *a\n", NULL,
         "c.yaml:2: YAML aliases (*a) are not used here; a text that begins with * needs quotes", 0},
        {"seed: !!int 1\n", NULL, "c.yaml:1: YAML tags", 0},
        {"? [a]\n: b\n", NULL, "c.yaml:1: a key must be a word", 0},
        {"*a : b\n", NULL, "YAML aliases", 0},
        {"- 1\n- 2\n", NULL, "the config wants a section", 0},
        {"just text", NULL, "the config wants a section", 0},
        {"seed: 1\n---\nseed: 2\n", NULL, "c.yaml:2: a second document begins here", 0},
        {"seed: 1\nrun: {dir: x\n", NULL, "c.yaml:3: not valid YAML", 0},
        {"seed: 1\nrun:\n\tdir: x\n", NULL, "c.yaml:3: not valid YAML", 0},
        {"seed: 1\nrun:\n\tdir: x\n", NULL, "tabs cannot indent", 0},
        {"seed: 1\n dir: x\n", NULL, "c.yaml:2: not valid YAML", 0},
        {"seed: \"a\\0b\"\n", NULL, "c.yaml:1: a text may not contain a NUL", 0},
        {"seed: \xff\xfe\n", NULL, "c.yaml: not a text in UTF-8", 0},
        {"a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: 1}}}}}}}}}}}}}}}}}}\n", NULL,
         "nested more than 16 deep", ERR_LIMIT},
    };
    REFUSALS(R);
}

static void test_limits(void **state)
{
    /* Too many values; too many keys must not take long; a hundred thousand brackets. */
    StrBuf text = {0};
    assert_ok(strbuf_printf(&text, "a: ["));
    for (int i = 0; i < 100001; i++) assert_ok(strbuf_append(&text, "1,", 2));
    assert_ok(strbuf_append(&text, "1]", 2));
    assert_fails(load(text.data, NULL), ERR_LIMIT, "more than 100000 values");
    text.size = 0;
    for (int i = 0; i < 99000; i++) assert_ok(strbuf_printf(&text, "k%d: 1\n", i));
    assert_fails(load(text.data, NULL), ERR_CONFIG, "c.yaml:1: k0 is not a key");
    text.size = 0;
    for (int i = 0; i < 100000; i++) assert_ok(strbuf_append(&text, "[", 1));
    assert_fails(load(text.data, NULL), ERR_LIMIT, "nested more than 16");
    text.size = 0;
    for (int i = 0; i < 2 << 20; i++) assert_ok(strbuf_append(&text, "#\n ", 3));
    assert_fails(load(text.data, NULL), ERR_LIMIT, "a config has at most 4194304");
    temp_write("big.yaml", text.data, text.size);
    Config *none;
    assert_fails(config_load(temp_path("big.yaml"), NULL, &SAMPLE_SCHEMA, NULL, 0, &sample, &none), ERR_LIMIT,
                 "big.yaml");
    strbuf_free(&text);
}

static const SampleSource *sources(void)
{
    return sample.data.sources.items;
}

static void test_overrides(void **state)
{
    static const char TEXT[] = NEEDED "data:\n  sources:\n    - shards: [a]\n    - shards: [b]\n";
    assert_ok(load(TEXT, "train.steps=2k"));
    assert_int_equal(sample.train.steps, 2000);
    assert_ok(load(TEXT, "seed=5"));
    assert_int_equal(sample.seed, 5);
    assert_ok(load(TEXT, "optim.mult=[4, 4]"));
    assert_int_equal(sample.optim.mult.count, 2);
    assert_ok(load(TEXT, "data.sources[1].weight=2"));
    assert_true(sources()[1].weight == 2 && sources()[0].weight == 1);
    assert_ok(load(TEXT, "data.sources[0].shards=[x.tar, y.tar]"));
    assert_string_equal(sources()[0].shards.items[1], "y.tar");
    assert_ok(load(TEXT, "data.sources[0].shards[0]=z.tar"));
    assert_string_equal(sources()[0].shards.items[0], "z.tar");
    assert_ok(load(TEXT, "data.sources[2].shards=[new]"));
    assert_int_equal(sample.data.sources.count, 3);
    assert_ok(load(NEEDED, "data.sources[0].shards=[first]"));
    assert_int_equal(sample.data.sources.count, 1);
    assert_ok(load(TEXT, "data.sources=[]"));
    assert_int_equal(sample.data.sources.count, 0);
    assert_ok(load(NEEDED, "optim={lr: 0.5, decay: 1}"));
    assert_true(sample.optim.lr == 0.5 && sample.optim.decay == 1);
    /* Texts that are not YAML, or are another thing in it. */
    static const char *const TEXTS[] = {"*.tar", "{00..07}", "{00..07}.tar", "a: b", "@x",   "%d",   "a=b",      "[x",
                                        "1e5",   "# x",      "true",         "&a",   "!x y", "a\tb", "\xd0\x9f", "'"};
    for (size_t i = 0; i < sizeof TEXTS / sizeof TEXTS[0]; i++) {
        char override[64];
        snprintf(override, sizeof override, "run.dir=%s", TEXTS[i]);
        assert_ok(load(TEXT, override));
        assert_string_equal(sample.run.dir, TEXTS[i]);
    }
    assert_ok(load(TEXT, "run.dir=\"quoted # text\""));
    assert_string_equal(sample.run.dir, "quoted # text");
    assert_ok(load(TEXT, "run.dir=\"\""));
    assert_string_equal(sample.run.dir, "");
    /* The later wins. */
    const char *two[] = {"seed=1", "seed=2"};
    config_free(config);
    assert_ok(config_load("c.yaml", NEEDED, &SAMPLE_SCHEMA, two, 2, &sample, &config));
    assert_int_equal(sample.seed, 2);
}

static void test_refuses_overrides(void **state)
{
    static const Refusal R[] = {
        {NEEDED, "train.steps=abc", "command line: train.steps=abc: train.steps wants a whole number", 0},
        {NEEDED, "train.steps=0", "command line: train.steps=0: train.steps is 0, must be", 0},
        {NEEDED, "train.stepz=5", "command line: train.stepz=5: train.stepz is not a key; did you mean steps?", 0},
        {NEEDED, "trian.steps=5", "command line: trian.steps=5: trian is not a key; did you mean train?", 0},
        {NEEDED, "optim={lr: x}", "command line: optim={lr: x}: optim.lr wants", 0},
        {NEEDED, "train.steps", "command line: train.steps: an override is written key.path=value", 0},
        {NEEDED, "=5", "an override is written", 0},
        {NEEDED, "train..steps=5", "a key is written a.b or a.b[0].c", 0},
        {NEEDED, ".seed=5", "a key is written", 0},
        {NEEDED, "[0]=5", "a key is written", 0},
        {NEEDED, "data.sources[x].weight=1", "a key is written", 0},
        {NEEDED, "data.sources[1].weight=1", "data.sources has 0 items, the next to add is [0]", 0},
        {NEEDED, "data.sources[0].weight=1", "data.sources[0].shards is missing", 0},
        {NEEDED, "train[0]=1", "command line: train[0]=1: train is not a list", 0},
        {NEEDED, "train.steps.x=1", "train.steps is not a section", 0},
        /* Meant as a list or a section: why it is none. */
        {NEEDED, "data.sources=[{shards: [a], weight: 0, weight: 1}]",
         "data.sources wants a list of sections, each begun with \"- \", but what is written cannot be read: the key "
         "weight is written twice; keep one of them",
         0},
        {NEEDED, "data.sources=[{shards: [a]]", "cannot be read: not valid YAML: did not find expected ',' or '}'", 0},
        {NEEDED, "data.sources=[{shards: *.tar}]", "a text that begins with * or & needs quotes", 0},
        {NEEDED, "data.sources=[{shards: *tar}]", "YAML aliases (*tar) are not used here", 0},
        {NEEDED, "optim={lr: 0.5", "optim wants a section, lines of \"key: value\" indented below it, but what", 0},
        {NEEDED, "data.names={ru: a, ru: b}", "the key ru is written twice; keep one of them", 0},
        {NEEDED, "optim.mult=[1, 2", "optim.mult wants a list of whole numbers such as [1, 2, 4], but what", 0},
        {NEEDED, "optim.mult=*", "such as [1, 2, 4], found *", 0},
        {NEEDED, "run.dir=", "command line: run.dir=: run.dir wants a text such as \"abc\", found nothing", 0},
        {NEEDED, "run.dir=\xff", "not valid UTF-8", 0},
        {NEEDED, "a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a=1", "nested more than 16 deep", ERR_LIMIT},
        {NEEDED, "data.sources[99999999999999999999].weight=1", "a key is written", 0},
    };
    REFUSALS(R);
    const char *two[] = {"data.sources=[{shards: [a]]", "data.sources[0].weight=1"};
    Config *none;
    assert_fails(config_load("c.yaml", NEEDED, &SAMPLE_SCHEMA, two, 2, &sample, &none), ERR_CONFIG,
                 "data.sources is not a list; what was written there cannot be read: not valid YAML");
}

static void test_config_error(void **state)
{
    assert_ok(
        load("run: {dir: x}\ntrain:\n  steps: 10\ndata:\n  sources:\n    - shards: [a]\n      weight: 3\n", "seed=4"));
    assert_int_equal(config_error(config, "train.steps", "must be even, is %d", 7), ERR_CONFIG);
    assert_string_equal(status_message(), "c.yaml:3: train.steps: must be even, is 7");
    config_error(config, "data.sources[0].weight", "too much");
    assert_string_equal(status_message(), "c.yaml:7: data.sources[0].weight: too much");
    config_error(config, "seed", "bad");
    assert_string_equal(status_message(), "command line: seed=4: seed: bad");
    config_error(config, "optim.lr", "bad");
    assert_string_equal(status_message(), "c.yaml: optim.lr (default): bad");
    config_error(config, "data.sources[3].x", "bad");
    assert_string_equal(status_message(), "c.yaml: data.sources[3].x (default): bad");
}

/* ---- parts that differ ---- */

#define PARTS                                                           \
    NEEDED "data:\n"                                                    \
           "  languages: [ru, en]\n"                                    \
           "  sources: [{shards: [a.tar]}, {shards: [b.tar]}]\n"        \
           "parts:\n"                                                   \
           "  - name: one\n"                                            \
           "  - name: two\n"                                            \
           "    train: {part: auto}\n"                                  \
           "    data:\n"                                                \
           "      sources: [{shards: [\"{0..7}.tar\"], name: \"1\"}]\n" \
           "      filter:\n"                                            \
           "        side: 9\n"                                          \
           "  - name: three\n"                                          \
           "    train:\n"                                               \
           "    data: {filter: {}}\n"

static Status load_variant(size_t i, const char *label, Sample *out, Config **variant)
{
    return config_variant(config, "parts", i, label, out, variant);
}

static void test_variants(void **state)
{
    Sample one, two;
    Config *first, *second;
    assert_ok(load(PARTS, "train.global_batch=5"));
    assert_int_equal(sample.parts.count, 3);
    assert_true(config_is_written(config, "train.global_batch") && config_is_written(config, "parts[1].data.filter"));
    assert_false(config_is_written(config, "train.fast") || config_is_written(config, "parts[0].data"));
    assert_ok(load_variant(0, "", &one, &first));
    assert_ok(load_variant(1, "part two: ", &two, &second));
    config_free(config); /* variants do not need it */
    config = NULL;
    assert_int_equal(one.parts.count, 0);
    assert_int_equal(one.train.batch, 5);
    assert_int_equal(two.train.batch, 5);
    assert_int_equal(one.train.part, 0);
    assert_int_equal(two.train.part, -1);
    assert_int_equal(one.data.filter.side, 256);
    assert_int_equal(two.data.filter.side, 9);
    assert_int_equal(one.data.sources.count, 2);
    assert_int_equal(two.data.sources.count, 1); /* a list replaces */
    assert_string_equal(((SampleSource *)two.data.sources.items)->shards.items[0], "{0..7}.tar");
    assert_int_equal(two.data.languages.count, 2);
    assert_int_equal(two.train.steps, 10);
    assert_fails(config_error(second, "data.filter.side", "x"), ERR_CONFIG, "c.yaml:13: part two: data.filter.side: x");
    assert_fails(config_error(second, "train.global_batch", "x"), ERR_CONFIG,
                 "command line: train.global_batch=5: part two: train.global_batch: x");
    config_free(first);
    config_free(second);
}

/* An override outside a part holds for those that do not say otherwise; one inside for that part alone. */
static void test_variant_overrides(void **state)
{
    Sample two, three;
    Config *second, *third;
    assert_ok(load(PARTS, "data.filter.side=20"));
    assert_ok(load_variant(1, "", &two, &second));
    assert_ok(load_variant(2, "", &three, &third));
    assert_int_equal(two.data.filter.side, 9);
    assert_int_equal(three.data.filter.side, 20);
    config_free(second);
    config_free(third);
    assert_ok(load(PARTS, "parts[2].train.global_batch=7"));
    assert_ok(load_variant(1, "", &two, &second));
    assert_ok(load_variant(2, "", &three, &third));
    assert_int_equal(two.train.batch, 32);
    assert_int_equal(three.train.batch, 7);
    config_free(third);
    assert_fails(load_variant(3, "", &three, &third), ERR_INTERNAL, "parts[3]");
    config_free(second);
}

static void test_refuses_parts(void **state)
{
    assert_fails(load(PARTS, "parts[1].train.steps=3"), ERR_CONFIG,
                 "parts[1].train.steps cannot be written here, only in train; there are: global_batch, part, fast");
    assert_fails(load(PARTS, "parts[1].train.fsat=true"), ERR_CONFIG,
                 "parts[1].train.fsat is not a key; did you mean fast? There are: global_batch, part, fast");
    assert_null(strstr(status_message(), "precision"));
    assert_fails(load(PARTS, "parts[1].train.stesp=3"), ERR_CONFIG, /* not steps, which cannot be written here */
                 "parts[1].train.stesp is not a key; there are: global_batch, part, fast");
    assert_fails(load(PARTS, "parts[0].optim.lr=1"), ERR_CONFIG, "parts[0].optim is not a key here, but optim is");
    assert_fails(load(PARTS, "parts[1].train.global_batch=0"), ERR_CONFIG, "parts[1].train.global_batch is 0");
    assert_fails(load(PARTS, "parts[1].data.filter.side=x"), ERR_CONFIG, "parts[1].data.filter.side wants a whole");
    assert_fails(load(PARTS, "parts[1].data.filter=x"), ERR_CONFIG, "parts[1].data.filter wants a section");
    assert_fails(load(PARTS, "parts[1].data=[1]"), ERR_CONFIG, "parts[1].data wants a section");
    assert_fails(load(PARTS, "parts[1].data.sources=[{name: a}]"), ERR_CONFIG,
                 "parts[1].data.sources[0].shards is missing");
}

static void test_dump_parts(void **state)
{
    StrBuf text = {0}, again = {0};
    assert_ok(load(PARTS, "parts[0].data.languages=[\"*x\"]"));
    assert_ok(config_dump(&SAMPLE_SCHEMA, &sample, &text));
    const char *parts = strstr(text.data, "parts:\n");
    assert_non_null(parts);
    assert_string_equal(parts, "parts:\n"
                               "  - name: one\n"
                               "    data:\n"
                               "      languages: [\"*x\"]\n"
                               "  - name: two\n"
                               "    train:\n"
                               "      part: auto\n"
                               "    data:\n"
                               "      sources:\n"
                               "        - shards: [\"{0..7}.tar\"]\n"
                               "          weight: 1.0\n"
                               "          name: \"1\"\n"
                               "          filter:\n"
                               "            side: 256\n"
                               "      filter:\n"
                               "        side: 9\n"
                               "  - name: three\n");
    assert_ok(load(text.data, NULL));
    assert_ok(config_dump(&SAMPLE_SCHEMA, &sample, &again));
    assert_string_equal(again.data, text.data);
    strbuf_free(&text);
    strbuf_free(&again);
}

static void test_bad_schema(void **state)
{
    static const ConfigField FIELDS[] = {{.key = "n", .type = CONFIG_INT, .default_text = "x"}};
    static const ConfigSchema SCHEMA = {"bad", FIELDS, 1, sizeof(int64_t)};
    int64_t value;
    Config *none;
    assert_fails(config_load("c.yaml", "", &SCHEMA, NULL, 0, &value, &none), ERR_INTERNAL, "the default of n wants");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_reads_everything, teardown),
        cmocka_unit_test_teardown(test_defaults, teardown),
        cmocka_unit_test_teardown(test_from_file, teardown),
        cmocka_unit_test_teardown(test_refuses_values, teardown),
        cmocka_unit_test_teardown(test_refuses_keys, teardown),
        cmocka_unit_test_teardown(test_refuses_yaml, teardown),
        cmocka_unit_test_teardown(test_limits, teardown),
        cmocka_unit_test_teardown(test_overrides, teardown),
        cmocka_unit_test_teardown(test_refuses_overrides, teardown),
        cmocka_unit_test_teardown(test_config_error, teardown),
        cmocka_unit_test_teardown(test_number_words, teardown),
        cmocka_unit_test_teardown(test_variants, teardown),
        cmocka_unit_test_teardown(test_variant_overrides, teardown),
        cmocka_unit_test_teardown(test_refuses_parts, teardown),
        cmocka_unit_test_teardown(test_dump_parts, teardown),
        cmocka_unit_test_teardown(test_bad_schema, teardown),
    };
    return cmocka_run_group_tests(tests, temp_dir_setup, temp_dir_teardown);
}
