/* Field spellings, missing and odd values, filters, the config of the room. */
#include "shards.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "data/metadata.h"

static JsonDoc *doc;

static Metadata read(const char *json)
{
    Metadata meta;
    json_free(doc);
    doc = NULL;
    assert_ok(json_parse(json, strlen(json), 1 << 20, &doc));
    metadata_read(json_root(doc), &meta);
    return meta;
}

static void test_spellings(void **state)
{
    (void)state;
    Metadata m =
        read("{\"pwatermark\": 0.25, \"punsafe\": \"0.5\", \"clip_similarity_vitl14\": 0.3, "
             "\"AESTHETIC_SCORE\": 6, \"TEXT\": \"hi\", \"LANGUAGE\": \"en\", \"WIDTH\": 640, \"HEIGHT\": 480}");
    assert_true(m.watermark == 0.25 && m.unsafe == 0.5 && m.similarity == 0.3 && m.aesthetic == 6);
    assert_string_equal(m.caption, "hi");
    assert_string_equal(m.language, "en");
    assert_int_equal(m.width, 640);
    assert_int_equal(m.height, 480);
    m = read("{\"original_width\": 10, \"original_height\": 20, \"width\": 5, \"height\": 5, \"watermark_score\": 0.0, "
             "\"similarity\": 0.1, \"clip_similarity_vitb32\": 0.2, \"caption\": null, \"top_caption\": \"top\"}");
    assert_int_equal(m.width, 10);
    assert_true(m.watermark == 0); /* a value, not a missing one */
    assert_true(m.similarity == 0.1);
    assert_string_equal(m.caption, "top");
    m = read(
        "{\"pwatermark\": NaN, \"similarity\": null, \"punsafe\": Infinity, \"aesthetic\": \"much\", \"caption\": 5, "
        "\"width\": -3, \"height\": 2, \"captions\": []}");
    assert_true(isnan(m.watermark) && isnan(m.similarity) && isnan(m.unsafe) && isnan(m.aesthetic));
    assert_null(m.caption);
    assert_null(m.captions);
    assert_int_equal(m.width, 0);
    m = read("[1]");
    assert_true(isnan(m.watermark));
    metadata_read(NULL, &m);
    assert_true(isnan(m.watermark) && !m.caption && !m.failed);
    assert_true(read("{\"status\": \"failed_to_download\"}").failed);
    assert_false(read("{\"status\": \"success\"}").failed);
    assert_string_equal(read("{\"status\": \"success\"}").status, "success");
    /* captions: by language, or a list */
    assert_non_null(read("{\"captions\": {\"en\": \"a\"}}").captions);
    assert_non_null(read("{\"captions\": [\"a\", \"b\"]}").captions);
    assert_null(read("{\"captions\": {}}").captions);
    assert_null(read("{\"captions\": \"a\"}").captions);
    /* characters, without the blanks around */
    assert_int_equal(read("{\"TEXT\": \"\\u043a\\u043e\\u0442 \\ud83d\\udc22\\n\"}").caption_length, 5);
    assert_int_equal(read("{\"caption\": \" \\t\"}").caption_length, 0);
    assert_int_equal(read("{\"caption\": \"\\ufeffcat\\n\"}").caption_length, 3); /* a byte order mark before it */
    assert_int_equal(read("{\"caption\": \"\"}").caption_length, -1);
    assert_int_equal(read("{\"caption\": \"\\ud83d!\"}").caption_length, 2); /* half a pair is one, too */
    /* numbers as texts: decimal notation and nothing else */
    assert_true(read("{\"pwatermark\": \"+1.5e-1\"}").watermark == 0.15);
    for (int i = 0; i < 7; i++) {
        static const char *const odd[] = {"\"0x1\"", "\" 1\"", "\"1 \"", "\"nan\"", "\"1e\"", "\"1e999\"", "true"};
        char json[100];
        snprintf(json, sizeof json, "{\"pwatermark\": %s}", odd[i]);
        if (!isnan(read(json).watermark)) fail_msg("%s is a number", odd[i]);
    }
    json_free(doc);
    doc = NULL;
}

static SampleReason filter(const char *json, const FilterConfig *config, int64_t side)
{
    char detail[256];
    Metadata m = read(json);
    return metadata_filter(&m, config, side, detail, sizeof detail);
}

static void test_filters(void **state)
{
    (void)state;
    FilterConfig c = {.watermark_max = 0.5, .unsafe_max = 1.01, .similarity_min = 0.26, .missing = MISSING_PASS};
    assert_int_equal(filter("{}", &c, 256), SAMPLE_ACCEPTED);
    assert_int_equal(filter("{\"pwatermark\": 0.0}", &c, 0), SAMPLE_ACCEPTED);
    assert_int_equal(filter("{\"pwatermark\": 0.49}", &c, 0), SAMPLE_ACCEPTED);
    assert_int_equal(filter("{\"pwatermark\": 0.5}", &c, 0), SAMPLE_WATERMARK);
    assert_int_equal(filter("{\"pwatermark\": NaN}", &c, 0), SAMPLE_ACCEPTED);
    assert_int_equal(filter("{\"similarity\": 0.26}", &c, 0), SAMPLE_ACCEPTED);
    assert_int_equal(filter("{\"similarity\": 0.25}", &c, 0), SAMPLE_SIMILARITY);
    assert_int_equal(filter("{\"punsafe\": 1.0}", &c, 0), SAMPLE_ACCEPTED);
    assert_int_equal(filter("{\"width\": 256, \"height\": 255}", &c, 256), SAMPLE_SMALL);
    assert_int_equal(filter("{\"width\": 256, \"height\": 256}", &c, 256), SAMPLE_ACCEPTED);
    assert_int_equal(filter("{\"status\": \"failed\"}", &c, 256), SAMPLE_NOT_DOWNLOADED);
    for (int r = 0; r < METADATA_RULES; r++) { /* what each says of itself */
        static const char *const texts[] = {"downloaded", "watermark < 0.5", NULL, "similarity >= 0.26",
                                            NULL,         "side >= 64"};
        Metadata none = read("{}"),
                 all = read("{\"status\": \"x\", \"pwatermark\": 0, \"similarity\": 0, \"punsafe\": 0, "
                            "\"aesthetic\": 0, \"width\": 1, \"height\": 1}");
        StrBuf text = {0};
        assert_int_equal(metadata_rule_asked((MetadataRule)r, &c, 64), texts[r] != NULL);
        assert_ok(metadata_rule_format((MetadataRule)r, &c, 64, &text));
        if (texts[r]) assert_string_equal(text.data, texts[r]);
        assert_true(metadata_rule_lacks((MetadataRule)r, &none) && !metadata_rule_lacks((MetadataRule)r, &all));
        strbuf_free(&text);
    }
    assert_false(metadata_rule_asked(RULE_SIDE, &c, 0));
    c.missing = MISSING_DROP;
    assert_int_equal(filter("{\"pwatermark\": 0.1}", &c, 0), SAMPLE_MISSING_FIELD);
    assert_int_equal(filter("{\"pwatermark\": 0.1, \"similarity\": 0.3}", &c, 0), SAMPLE_ACCEPTED);
    c.unsafe_max = 0.2;
    c.aesthetic_min = 5;
    c.missing = MISSING_PASS;
    assert_int_equal(filter("{\"punsafe\": 0.2}", &c, 0), SAMPLE_UNSAFE);
    assert_int_equal(filter("{\"aesthetic\": 4.9}", &c, 0), SAMPLE_AESTHETIC);
    json_free(doc);
    doc = NULL;
}

static void test_config(void **state)
{
    (void)state;
    DataConfig data;
    Config *config = parse_data_config(&data, "sources:\n  - name: a\n    shards: [x.tar]\n");
    assert_int_equal(data.lanes, 48);
    assert_true(data.text_dropout == 0.1 && data.filter.watermark_max == 0.5 && data.filter.similarity_min == 0.26);
    assert_int_equal(data.filter.min_side, -1);
    assert_int_equal(data.limits.picture_pixels, 64 << 20);
    assert_int_equal(data.limits.member_bytes, 256 << 20);
    assert_int_equal(data.tokenizer1.style, TOKENIZER_XLMR);
    assert_int_equal(data.tokenizer2.style, TOKENIZER_MT5);
    assert_int_equal(data.tokenizer2.max_tokens, 77);
    assert_ok(data_config_check(config, "data", &data));
    config_free(config);

    config = parse_data_config(&data, "lanes: 8\n");
    assert_int_equal(data_config_check(NULL, "data", &data), ERR_CONFIG);
    check_message("no source");
    config_free(config);
    config = parse_data_config(&data, "sources:\n  - {name: a, shards: [x]}\n  - {name: a, shards: [y]}\n");
    assert_int_equal(data_config_check(NULL, "data", &data), ERR_CONFIG);
    check_message("two sources are called a");
    config_free(config);
    config = parse_data_config(&data, "sources: [{name: a, shards: [x], weight: 0}]\n");
    assert_int_equal(data_config_check(NULL, "data", &data), ERR_CONFIG);
    check_message("positive weight");
    config_free(config);
    config = parse_data_config(&data, "sources: [{name: a, shards: []}]\n");
    assert_int_equal(data_config_check(NULL, "data", &data), ERR_CONFIG);
    check_message("no shards");
    config_free(config);
}

static void test_counts(void **state)
{
    (void)state;
    BadSamples bad = {0};
    StrBuf text = {0};
    for (int r = 0; r < SAMPLE_REASON_COUNT; r++) assert_non_null(sample_reason_name((SampleReason)r));
    assert_ok(bad_samples_format(&bad, &text));
    assert_string_equal(text.data, "none");
    for (int i = 0; i < 50; i++) bad_samples_add(&bad, SAMPLE_BAD_PNG, "s", "k", "d");
    assert_ok(bad_samples_check(&bad, 0.1)); /* fewer than 100 were seen */
    for (int i = 0; i < 450; i++) bad_samples_add(&bad, i % 2 ? SAMPLE_ACCEPTED : SAMPLE_WATERMARK, "s", "k", "d");
    assert_int_equal(bad_samples_seen(&bad), 500);
    assert_int_equal(bad_samples_broken(&bad), 50);
    assert_ok(bad_samples_check(&bad, 0.1)); /* exactly the share */
    bad_samples_add(&bad, SAMPLE_NO_CAPTION, "s", "k", "d");
    assert_int_equal(bad_samples_check(&bad, 0.1), ERR_FORMAT);
    check_message("bad_png 50");
    check_message("no_caption 1");
    check_message("data.max_bad_share");
    strbuf_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_spellings), cmocka_unit_test(test_filters),
                                       cmocka_unit_test(test_config), cmocka_unit_test(test_counts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
