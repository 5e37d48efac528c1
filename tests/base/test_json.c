/* JSON: what is read, what is refused, and that what is written reads back. */
#include "check.h"

#include <float.h>
#include <math.h>

#include "base/json.h"

#define LIMIT 100000

static JsonDoc *parse(const char *text)
{
    JsonDoc *doc;
    assert_ok(json_parse(text, strlen(text), LIMIT, &doc));
    return doc;
}

static void refuse(const char *text, Status code)
{
    JsonDoc *doc;
    Status status = json_parse(text, strlen(text), LIMIT, &doc);
    if (status != code) fail_msg("%s gave %s", text, status_name(status));
    assert_null(doc);
}

static void test_reading(void **state)
{
    JsonDoc *doc = parse(" {\"b\": 1, \"a\": [true, null, \"x\", -2.5e3], \"o\": {\"k\": \"v\"}, \"n\": null}\n");
    const JsonValue *root = json_root(doc), *list = json_get(root, "a");
    const char *key;
    size_t size;
    double number;
    int64_t whole;
    assert_true(json_is_object(root));
    assert_int_equal(json_count(root), 4);
    assert_int_equal(json_count(list), 4);
    json_member(root, 0, &key);
    assert_string_equal(key, "b");
    json_member(root, 2, &key);
    assert_string_equal(key, "o");
    assert_null(json_member(root, 4, &key));
    assert_null(key);
    assert_true(json_integer(json_get(root, "b"), &whole) && whole == 1);
    assert_true(json_is_null(json_item(list, 1)));
    assert_string_equal(json_text(json_item(list, 2), &size), "x");
    assert_int_equal(size, 1);
    assert_true(json_number(json_item(list, 3), &number) && number == -2500);
    assert_string_equal(json_text(json_get(json_get(root, "o"), "k"), NULL), "v");
    assert_null(json_get(root, "absent"));
    assert_null(json_get(list, "absent"));
    assert_null(json_item(list, 4));
    assert_null(json_item(root, 0));
    /* Absent values are accepted everywhere. */
    assert_true(json_is_null(NULL));
    assert_false(json_is_string(NULL) || json_is_number(NULL) || json_is_object(NULL));
    assert_false(json_number(NULL, &number) || json_integer(NULL, &whole));
    assert_null(json_text(NULL, &size));
    assert_int_equal(json_count(NULL), 0);
    assert_null(json_get(NULL, "x"));
    assert_null(json_item(NULL, 0));
    assert_null(json_member(NULL, 0, &key));
    json_free(doc);
    doc = parse("\xef\xbb\xbf{\"a\": 1}"); /* as some editors save it */
    assert_true(json_integer(json_get(json_root(doc), "a"), &whole) && whole == 1);
    json_free(doc);
    refuse("\xef\xbb\xbf\xef\xbb\xbf{}", ERR_FORMAT);
    refuse("\xef\xbb\xbf", ERR_FORMAT);
    json_free(NULL);
}

static double number_of(const char *text)
{
    JsonDoc *doc = parse(text);
    double value = -1;
    assert_true(json_number(json_root(doc), &value));
    json_free(doc);
    return value;
}

static bool integer_of(const char *text, int64_t *out)
{
    JsonDoc *doc = parse(text);
    bool yes = json_integer(json_root(doc), out);
    json_free(doc);
    return yes;
}

static bool is_number(const char *text)
{
    JsonDoc *doc = parse(text);
    double value;
    bool yes = json_number(json_root(doc), &value);
    json_free(doc);
    return yes;
}

static void test_numbers(void **state)
{
    assert_true(isnan(number_of("NaN")));
    assert_true(number_of("Infinity") == INFINITY);
    assert_true(number_of("-Infinity") == -INFINITY);
    assert_true(number_of("0.1") == 0.1);
    assert_true(number_of("5e-324") == 5e-324);
    assert_true(number_of("\"0.26\"") == 0.26);
    assert_true(number_of("18446744073709551615") == 0x1p64);
    assert_true(number_of("-7") == -7);
    assert_false(is_number("\"\""));
    assert_false(is_number("\"0x10\""));
    assert_false(is_number("\" 1\""));
    assert_false(is_number("\"1 \""));
    assert_false(is_number("\"nan\""));
    assert_false(is_number("\"1\\u0000\""));
    assert_false(is_number("true"));
    assert_false(is_number("[1]"));
    int64_t value;
    assert_true(integer_of("9223372036854775806", &value) && value == INT64_MAX - 1);
    assert_true(integer_of("-9223372036854775807", &value) && value == -INT64_MAX);
    assert_true(integer_of("3.0", &value) && value == 3);
    assert_true(integer_of("1e3", &value) && value == 1000);
    assert_false(integer_of("3.5", &value));
    assert_false(integer_of("1e300", &value));
    assert_false(integer_of("NaN", &value));
    assert_false(integer_of("9223372036854775808", &value));
    assert_false(integer_of("99999999999999999999999", &value));
    assert_false(integer_of("-99999999999999999999999", &value));
    assert_false(integer_of("\"3\"", &value));
}

static void test_strings(void **state)
{
    size_t size;
    JsonDoc *doc = parse("[\"\\ud83d\\ude00\", \"a\\u0000b\", \"\\u00e9\\n\\\"\", \"\xd0\x9f\"]");
    assert_string_equal(json_text(json_item(json_root(doc), 0), &size), "\xf0\x9f\x98\x80");
    assert_int_equal(size, 4);
    assert_memory_equal(json_text(json_item(json_root(doc), 1), &size), "a\0b", 4);
    assert_int_equal(size, 3);
    assert_string_equal(json_text(json_item(json_root(doc), 2), &size), "\xc3\xa9\n\"");
    assert_string_equal(json_text(json_item(json_root(doc), 3), &size), "\xd0\x9f");
    json_free(doc);
    /* A lone surrogate is no character: whatever comes out must be UTF-8. */
    JsonDoc *lone;
    static const char *const LONE[] = {"\"\\ud83d\"", "\"\\ude00x\"", "\"\\ud83d\\u0041\"", "\"\\ud83dx\""};
    for (int i = 0; i < 4; i++) {
        if (json_parse(LONE[i], strlen(LONE[i]), LIMIT, &lone) != STATUS_OK) continue;
        const char *text = json_text(json_root(lone), &size);
        assert_true(utf8_valid(text, size));
        json_free(lone);
    }
}

static void test_refused(void **state)
{
    static const char *const BROKEN[] = {"",
                                         " \n",
                                         "{",
                                         "[1,2",
                                         "[1,]",
                                         "{\"a\":1,}",
                                         "{\"a\" 1}",
                                         "{a:1}",
                                         "{'a':1}",
                                         "[1] x",
                                         "{} {}",
                                         "nul",
                                         "nan",
                                         "tru",
                                         "\"abc",
                                         "\"a\nb\"",
                                         "[1 2]",
                                         "01x",
                                         "/* c */ 1",
                                         "\"\\x\"",
                                         "\"\\u12\"",
                                         "]",
                                         ",",
                                         "\xff",
                                         "\"\xc0\x80\"",
                                         "\"\xed\xa0\x80\"",
                                         "-",
                                         "1 2",
                                         "{\"a\":}",
                                         "infinity"};
    for (size_t i = 0; i < sizeof BROKEN / sizeof BROKEN[0]; i++) refuse(BROKEN[i], ERR_FORMAT);
    JsonDoc *doc;
    assert_int_equal(json_parse("\"a\0b\"", 5, LIMIT, &doc), ERR_FORMAT);
    assert_int_equal(json_parse("1\0", 2, LIMIT, &doc), ERR_FORMAT);
    assert_fails(json_parse("[1, 2]", 6, 5, &doc), ERR_LIMIT, "6 bytes");
}

static void test_depth(void **state)
{
    char text[200];
    for (int depth = 1; depth < 60; depth++) {
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        JsonDoc *doc;
        Status status = json_parse(text, 2 * (size_t)depth, LIMIT, &doc);
        assert_int_equal(status, depth <= 32 ? STATUS_OK : ERR_LIMIT);
        json_free(doc);
    }
}

static void test_duplicates(void **state)
{
    JsonDoc *doc = parse("{\"a\": {\"x\": \"1:2\\\":\"}, \"b\": [{}, {\"a\": 1}]}");
    assert_false(json_has_duplicate_keys(doc));
    json_free(doc);
    doc = parse("{\"a\": 1, \"b\": {\"c\": 2, \"c\": 3}}");
    assert_true(json_has_duplicate_keys(doc));
    json_free(doc);
    doc = parse("{\"a\": {\"x\": 1}, \"a\": {\"x\": 1, \"y\": 2}}");
    assert_true(json_has_duplicate_keys(doc));
    json_free(doc);
}

/* Members by position must not cost the square of their number. */
static void test_many_members(void **state)
{
    StrBuf text = {0};
    JsonWriter w;
    json_begin(&w, &text);
    json_object(&w, NULL);
    for (int i = 0; i < 50000; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", i);
        json_int(&w, key, i);
    }
    json_end_object(&w);
    JsonDoc *doc;
    assert_ok(json_parse(text.data, text.size, text.size, &doc));
    assert_int_equal(json_count(json_root(doc)), 50000);
    for (size_t i = 0; i < 50000; i++) {
        const char *key;
        int64_t value;
        assert_true(json_integer(json_member(json_root(doc), i, &key), &value));
        assert_int_equal(value, i);
        assert_int_equal(strtol(key + 1, NULL, 10), i);
    }
    json_free(doc);
    strbuf_free(&text);
}

static void test_writer(void **state)
{
    StrBuf text = {0};
    JsonWriter w;
    json_begin(&w, &text);
    json_object(&w, NULL);
    json_int(&w, "step", -5);
    json_float(&w, "loss", 0.1);
    json_float(&w, "bad", NAN);
    json_float(&w, "big", INFINITY);
    json_bool(&w, "ok", true);
    json_array(&w, "list");
    json_float(&w, NULL, 3);
    json_string(&w, NULL, "q\"\\\n\t\x01\x7f");
    json_object(&w, NULL);
    json_end_object(&w);
    json_end_array(&w);
    json_string(&w, "utf8", "\xd0\x9f\xff\xf0\x9f\x98\x80\xf0\x9f");
    json_end_object(&w);
    assert_string_equal(text.data,
                        "{\"step\": -5, \"loss\": 0.1, \"bad\": null, \"big\": null, \"ok\": true, \"list\": [3.0, "
                        "\"q\\\"\\\\\\n\\t\\u0001\\u007f\", {}], "
                        "\"utf8\": \"\xd0\x9f\xef\xbf\xbd\xf0\x9f\x98\x80\xef\xbf\xbd\xef\xbf\xbd\"}");
    JsonDoc *doc;
    assert_ok(json_parse(text.data, text.size, LIMIT, &doc));
    assert_string_equal(json_text(json_item(json_get(json_root(doc), "list"), 1), NULL), "q\"\\\n\t\x01\x7f");
    json_free(doc);
    strbuf_free(&text);
}

static void test_float_format(void **state)
{
    static const double VALUES[] = {
        0,      -0.0,       1,    0.1,      1e-4,  1.0 / 3,      DBL_MAX, DBL_MIN,
        5e-324, 0x1p53 + 2, 1e22, 123456.0, 1e100, (double)0.1f, -2.5e-7, 9007199254740993.0};
    char text[40];
    for (size_t i = 0; i < sizeof VALUES / sizeof VALUES[0]; i++) {
        float_format(VALUES[i], text);
        double back = strtod(text, NULL);
        assert_memory_equal(&back, &VALUES[i], sizeof back);
        assert_non_null(strpbrk(text, ".e"));
    }
    float_format(0.1, text);
    assert_string_equal(text, "0.1");
    float_format(1e-4, text);
    assert_string_equal(text, "0.0001");
    uint64_t bits = 88172645463325252u;
    for (int i = 0; i < 20000; i++) {
        bits ^= bits << 13, bits ^= bits >> 7, bits ^= bits << 17;
        double value, back;
        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value)) continue;
        float_format(value, text);
        back = strtod(text, NULL);
        assert_memory_equal(&back, &value, sizeof back);
    }
}

static void test_utf8(void **state)
{
    assert_true(utf8_valid("", 0));
    assert_true(utf8_valid("\xf4\x8f\xbf\xbf", 4));
    assert_true(utf8_valid("\xed\x9f\xbf\xee\x80\x80", 6));
    assert_false(utf8_valid("a\0b", 3));
    assert_false(utf8_valid("\xf4\x90\x80\x80", 4)); /* above U+10FFFF */
    assert_false(utf8_valid("\xe0\x80\x80", 3));     /* overlong */
    assert_false(utf8_valid("\xc1\xbf", 2));
    assert_false(utf8_valid("\xed\xbf\xbf", 3)); /* surrogate */
    assert_false(utf8_valid("\x80", 1));
    assert_false(utf8_valid("\xe2\x82", 2)); /* cut short */
    assert_false(utf8_valid("\xf8\x88\x80\x80\x80", 5));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reading),      cmocka_unit_test(test_numbers), cmocka_unit_test(test_strings),
        cmocka_unit_test(test_refused),      cmocka_unit_test(test_depth),   cmocka_unit_test(test_duplicates),
        cmocka_unit_test(test_many_members), cmocka_unit_test(test_writer),  cmocka_unit_test(test_float_format),
        cmocka_unit_test(test_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
