/* Filters as a config has them: errors that name the key, sources' own expressions, missing fields, and that
 * precomputed files know them. */
#include "shards.h"

#include <string.h>

#include "data/filter_set.h"
#include "data/precomputed.h"

/* As a run's config has it. */
static const ConfigField root_fields[] = {
    {.key = "data", .type = CONFIG_SECTION, .offset = 0, .schema = &data_config_schema, .help = ""}};
static const ConfigSchema root_schema = {"root", root_fields, 1, sizeof(DataConfig)};

static void check_config_error(const char *text, const char *place, const char *words)
{
    DataConfig data;
    Config *config;
    assert_ok(config_load("run.yaml", text, &root_schema, NULL, 0, &data, &config));
    assert_int_equal(data_config_check(config, "data", &data), ERR_CONFIG);
    check_message(place);
    check_message(words);
    config_free(config);
}

static void test_errors(void **state)
{
    (void)state;
    DataConfig data;
    Config *config = parse_data_config(&data, "sources: [{name: a, shards: [x], where: [\"side > \"]}]\n");
    assert_int_equal(data_config_check(NULL, "data", &data), ERR_CONFIG);
    check_message("data.sources[0].where[0]: column 8: expected a value, not the end");
    config_free(config);
    config = parse_data_config(&data, "sources: [{name: a, shards: [x]}]\n"
                                      "filter:\n  where:\n    - side > 5\n    - watermrk < 1\n");
    assert_int_equal(data_config_check(NULL, "data", &data), ERR_CONFIG);
    check_message("data.filter.where[1]: column 1: \"watermrk\" is not a field; did you mean watermark?");
    config_free(config);
    /* file and line, where there is a file */
    check_config_error("data:\n  sources: [{name: a, shards: [x]}]\n  filter:\n    where:\n      - side >\n",
                       "run.yaml:5: data.filter.where[0]: column 7", "expected a value");
    check_config_error("data:\n  sources: [{name: a, shards: [x], language: \"\"}]\n  caption_language: rnadom\n",
                       "run.yaml:3: data.caption_language: ", "did you mean random?");
    check_config_error("data:\n  sources:\n    - {name: a, shards: [x]}\n    - name: b\n      shards: [x]\n"
                       "      language: \"random, en\"\n      where: [side > 1]\n",
                       "run.yaml:6: data.sources[1].language: ", "must be the last word");
    check_config_error("data:\n  sources:\n    - name: b\n      shards: [x]\n      where: [\"a\"]\n",
                       "run.yaml:5: data.sources[0].where[0]: column 1", "is not a field");
    check_config_error("data:\n  sources: [{name: a, shards: [x]}]\n  caption_language: \"\"\n", "run.yaml:3",
                       "an empty word");
}

static SampleReason check(const FilterSet *set, int32_t source, const char *json, char detail[256])
{
    JsonDoc *doc;
    Metadata meta;
    detail[0] = 0;
    assert_ok(json_parse(json, strlen(json), 1000, &doc));
    metadata_read(json_root(doc), &meta);
    SampleReason reason = filter_set_check(set, source, &meta, 0, detail, 256);
    json_free(doc);
    return reason;
}

static void test_sources(void **state)
{
    (void)state;
    DataConfig data;
    FilterSet *set;
    char detail[256];
    Config *config =
        parse_data_config(&data, "sources:\n  - {name: a, shards: [x], language: fr}\n"
                                 "  - {name: b, shards: [x], where: [\"aspect <= 2\", caption_length > 1]}\n"
                                 "filter: {where: [\"json.x < 5\"], similarity_min: 0.2}\n");
    assert_ok(filter_set_create(NULL, "data", &data, &set));
    assert_int_equal(filter_set_count(set, 0), 1);
    assert_int_equal(filter_set_count(set, 1), 3);
    assert_string_equal(filter_set_item(set, 1, 0)->text, "json.x < 5");
    assert_string_equal(filter_set_item(set, 1, 1)->text, "aspect <= 2");
    assert_false(filter_set_asks_caption_length(set, 0));
    assert_true(filter_set_asks_caption_length(set, 1));
    assert_int_equal(filter_set_captions(set, 0)->count, 1);
    assert_int_equal(filter_set_captions(set, 1)->end, CAPTION_END_RANDOM);
    assert_int_equal(check(set, 0, "{\"x\": 4}", detail), SAMPLE_ACCEPTED);
    assert_int_equal(check(set, 0, "{\"x\": 5}", detail), SAMPLE_WHERE);
    assert_string_equal(detail, "not json.x < 5");
    assert_int_equal(check(set, 0, "{\"x\": 5, \"similarity\": 0.1}", detail),
                     SAMPLE_SIMILARITY); /* thresholds first */
    assert_int_equal(check(set, 0, "{\"width\": 9, \"height\": 3}", detail), SAMPLE_ACCEPTED);
    assert_int_equal(check(set, 1, "{\"width\": 9, \"height\": 3}", detail), SAMPLE_WHERE);
    assert_string_equal(detail, "not aspect <= 2");
    data.filter.missing = MISSING_DROP;
    assert_int_equal(
        check(set, 1, "{\"x\": 1, \"watermark_score\": 0, \"similarity\": 1, \"caption\": \"abc\"}", detail),
        SAMPLE_MISSING_FIELD);
    assert_string_equal(detail, "no aspect, which is asked for by aspect <= 2");
    assert_true(sample_reason_is_filter(SAMPLE_WHERE) && !sample_reason_is_broken(SAMPLE_WHERE));
    assert_string_equal(sample_reason_name(SAMPLE_WHERE), "filtered");
    assert_int_equal(SAMPLE_WHERE, 20); /* what precomputed files keep */
    assert_int_equal(SAMPLE_NOT_DOWNLOADED, 19);
    filter_set_free(set);
    config_free(config);
}

/* The facts of the first source under the given lines of config. */
static void check_facts(const char *lines, const char *filter, const char *language)
{
    DataConfig data;
    PrecomputedFacts facts = {0};
    Config *config = parse_data_config(&data, "%s", lines);
    assert_ok(precomputed_facts_of_data(&data, data_config_source(&data, 0), 64, &facts));
    assert_string_equal(facts.items[0].key, "data.filter");
    assert_string_equal(facts.items[0].value, filter);
    assert_string_equal(facts.items[2].key, "data.caption_language");
    assert_string_equal(facts.items[2].value, language);
    precomputed_facts_free(&facts);
    config_free(config);
}

static void test_facts(void **state)
{
    (void)state;
#define OLD "watermark_max 0.5, unsafe_max 1.01, similarity_min 0.26, aesthetic_min 0.0, min_side 64, missing pass"
    StrBuf lines = {0}, hash = {0};
    check_facts("sources: [{name: a, shards: [x]}]\n", OLD, "random"); /* as before there were expressions */
    check_facts("sources: [{name: a, shards: [x]}]\ncaption_language: fr\n", OLD, "fr");
    check_facts("sources: [{name: a, shards: [x], language: \"ru,en\"}]\ncaption_language: fr\n", OLD, "ru, en");
    check_facts("sources: [{name: a, shards: [x], where: [\"side > 1\"]}]\nfilter: {where: [has side, aspect < 2]}\n",
                OLD ", where has side; aspect < 2; side > 1", "random");
    /* long ones are told apart by a hash */
    for (int k = 0; k < 2; k++) {
        DataConfig data;
        PrecomputedFacts facts = {0};
        lines.size = 0;
        assert_ok(strbuf_printf(&lines, "sources: [{name: a, shards: [x]}]\nfilter:\n  where:\n"));
        for (int i = 0; i < 60; i++) assert_ok(strbuf_printf(&lines, "    - aspect < %d\n", i + (i == 59 ? k : 0)));
        Config *config = parse_data_config(&data, "%s", lines.data);
        assert_ok(precomputed_facts_of_data(&data, data_config_source(&data, 0), 64, &facts));
        assert_non_null(strstr(facts.items[0].value, "missing pass, where 60 expressions with the hash "));
        if (k) assert_string_not_equal(facts.items[0].value, hash.data);
        assert_ok(strbuf_printf(&hash, "%s", facts.items[0].value));
        precomputed_facts_free(&facts);
        config_free(config);
    }
    strbuf_free(&lines);
    strbuf_free(&hash);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_errors), cmocka_unit_test(test_sources),
                                       cmocka_unit_test(test_facts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
