/* Filter expressions: grammar, fields, three-valued logic against a naive evaluator, errors with their columns. */
#include "shards.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "data/filter.h"

static FilterVerdict ask(const char *json, const char *expression, const char **missing)
{
    static JsonDoc *doc;
    FilterExpression *filter;
    Metadata meta;
    static char name[200];
    const char *field;
    json_free(doc);
    doc = NULL;
    if (json) assert_ok(json_parse(json, strlen(json), 1 << 20, &doc));
    metadata_read(json ? json_root(doc) : NULL, &meta);
    assert_ok(filter_parse(expression, &filter));
    FilterVerdict verdict = filter_evaluate(filter, &meta, &field);
    snprintf(name, sizeof name, "%s", field ? field : "");
    filter_free(filter);
    json_free(doc);
    doc = NULL;
    if (missing) *missing = name;
    return verdict;
}

static void check(const char *json, const char *expression, FilterVerdict wanted)
{
    static const char *const words[] = {"false", "true", "unknown"};
    FilterVerdict verdict = ask(json, expression, NULL);
    if (verdict != wanted)
        fail_msg("%s of %s is %s, not %s", expression, json ? json : "nothing", words[verdict], words[wanted]);
}

static void test_fields(void **state)
{
    (void)state;
    static const char json[] =
        "{\"pwatermark\": 0.0, \"similarity\": \"0.3\", \"punsafe\": 0.2, \"aesthetic\": 5.5, \"LANGUAGE\": \"ru\", "
        "\"original_width\": 640, \"original_height\": 480, \"caption\": \" \\u043a\\u043e\\u0442 \\ud83d\\udc22\\n\", "
        "\"status\": \"success\", \"NSFW\": \"UNLIKELY\", \"rank\": 12, \"two words\": 1, \"bad\": NaN, \"big\": "
        "Infinity, \"none\": null, \"flag\": true, \"no\": false, \"list\": [1], \"empty\": \"\"}";
    static const char *const hold[] = {"watermark < 0.5",
                                       "watermark == 0",
                                       "similarity >= 0.26",
                                       "unsafe <= .2",
                                       "aesthetic > +5.4",
                                       "width == 640",
                                       "height == 480",
                                       "side == 480",
                                       "aspect > 1.33 and aspect < 1.34",
                                       "pixels == 307200",
                                       "caption_length == 5",
                                       "language == ru",
                                       "language == \"ru\"",
                                       "language in [uk, ru]",
                                       "language not in [en, de]",
                                       "language != en",
                                       "status == success",
                                       "json.NSFW == UNLIKELY",
                                       "json.NSFW != NSFW",
                                       "json.rank in [1, 12, 3e1]",
                                       "json.rank >= -1.5",
                                       "json.\"two words\" == 1",
                                       "json.similarity == \"0.3\"",
                                       "json.similarity == 0.3",
                                       "json.NSFW > NSFW",
                                       "json.NSFW <= UNLIKELY",
                                       "json.empty == \"\"",
                                       "has watermark",
                                       "has json.rank",
                                       "has json.empty",
                                       "has language",
                                       "not has json.none",
                                       "not has json.bad",
                                       "not has json.big",
                                       "has json.flag",
                                       "json.flag == true",
                                       "json.flag == \"true\"",
                                       "json.flag != false",
                                       "json.flag in [true]",
                                       "json.no == false",
                                       "not has json.list",
                                       "not has json.absent",
                                       "not not has status"};
    static const char *const fail[] = {
        "watermark > 0",        "language == RU",       "language in [en]", "language not in [ru]", "json.rank < 12",
        "json.NSFW == UNLIKEL", "json.NSFW < UNLIKELY", "not has side",     "json.flag == false",   "json.no == true"};
    static const char *const unknown[] = {"json.bad < 1",           "json.big > 1",        "json.none == 1",
                                          "json.none == a",         "json.flag == 1",      "json.list == 1",
                                          "json.absent != 1",       "json.rank == twelve", "json.NSFW == 5",
                                          "json.absent not in [a]", "not json.bad < 1"};
    for (size_t i = 0; i < sizeof hold / sizeof hold[0]; i++) check(json, hold[i], FILTER_TRUE);
    for (size_t i = 0; i < sizeof fail / sizeof fail[0]; i++) check(json, fail[i], FILTER_FALSE);
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) check(json, unknown[i], FILTER_UNKNOWN);
    check(NULL, "watermark < 1 or side > 1 or language == en or json.x == 1 or caption_length > 1", FILTER_UNKNOWN);
    check(NULL, "has watermark or has side or has language or has json.x or has caption_length", FILTER_FALSE);
    check("{}", "status == success", FILTER_UNKNOWN);
    check("{\"a-b.c\": 2}", "json.a-b.c == 2", FILTER_TRUE);
    check("{\"q\\\"\\\\\": 2}", "json.\"q\\\"\\\\\" == 2", FILTER_TRUE);
    check("{\"\\u0436\": \"\\u0436\"}", "json.\xd0\xb6 == \xd0\xb6", FILTER_TRUE);
}

static void test_precedence(void **state)
{
    (void)state;
    const char *missing;
    check("{\"a\": 1, \"b\": 0, \"c\": 0}", "json.a == 1 or json.b == 1 and json.c == 1", FILTER_TRUE);
    check("{\"a\": 1, \"b\": 0, \"c\": 0}", "(json.a == 1 or json.b == 1) and json.c == 1", FILTER_FALSE);
    check("{\"a\": 1, \"b\": 1}", "not json.a == 1 or json.b == 1", FILTER_TRUE);
    check("{\"a\": 1, \"b\": 1}", "not (json.a == 1 or json.b == 1)", FILTER_FALSE);
    /* the field that made it unknown, not one that did not matter */
    assert_int_equal(ask("{\"b\": 1}", "(json.a == 1 or json.b == 1) and json.c == 1", &missing), FILTER_UNKNOWN);
    assert_string_equal(missing, "json.c");
    assert_int_equal(ask("{}", "not (json.a == 1 and watermark < 1)", &missing), FILTER_UNKNOWN);
    assert_string_equal(missing, "json.a");
    assert_int_equal(ask("{\"a\": 1}", "not (json.a == 1 and watermark < 1)", &missing), FILTER_UNKNOWN);
    assert_string_equal(missing, "watermark");
    assert_int_equal(ask("{\"a\": 2}", "json.a == 1 and watermark < 1", &missing), FILTER_FALSE);
    assert_string_equal(missing, "");
}

/* ---- the logic, against truth tables ---- */

enum { ATOMS = 3, NODES = 24 };

typedef struct Tree {
    char op; /* 'a' and, 'o' or, 'n' not, 'h' has, '=' comparison */
    int atom, left, right;
} Tree;

static Tree trees[NODES];
static int tree_count;

static uint64_t draw(uint64_t *counter, uint64_t n)
{
    return random_below(7, RANDOM_TEST, ++*counter, 0, n);
}

static int grow(uint64_t *counter, int depth)
{
    int at = tree_count++;
    uint64_t kind = depth == 0 || tree_count + 4 > NODES ? 3 : draw(counter, 5);
    Tree tree = {.atom = (int)draw(counter, ATOMS)};
    tree.op = "aon=="[kind];
    if (tree.op == '=' && draw(counter, 6) == 0) tree.op = 'h';
    if (kind < 3) tree.left = grow(counter, depth - 1);
    if (kind < 2) tree.right = grow(counter, depth - 1);
    trees[at] = tree;
    return at;
}

/* With no more brackets than the grammar needs, now and then some more. `level`: 0 in or, 1 in and, 2 in not. */
static void print_tree(int at, int level, uint64_t *counter, StrBuf *out)
{
    const Tree *tree = &trees[at];
    int own = tree->op == 'o' ? 0 : tree->op == 'a' ? 1 : 2;
    bool brackets = own < level || draw(counter, 8) == 0;
    if (brackets) assert_ok(strbuf_printf(out, "("));
    if (tree->op == 'n') {
        assert_ok(strbuf_printf(out, "not "));
        print_tree(tree->left, 2, counter, out);
    } else if (tree->op == 'h' || tree->op == '=') {
        assert_ok(strbuf_printf(out, tree->op == 'h' ? "has json.%c" : "json.%c == 1", 'x' + tree->atom));
    } else {
        print_tree(tree->left, own, counter, out);
        assert_ok(strbuf_printf(out, tree->op == 'a' ? " and " : "  or\n"));
        print_tree(tree->right, own, counter, out);
    }
    if (brackets) assert_ok(strbuf_printf(out, ")"));
}

/* Kleene (1952): 0 false, 1 unknown, 2 true; and is the least, or the greatest, not the mirror image. */
static int kleene(int at, const int values[ATOMS])
{
    const Tree *tree = &trees[at];
    if (tree->op == '=') return values[tree->atom];
    if (tree->op == 'h') return values[tree->atom] == 1 ? 0 : 2;
    int left = kleene(tree->left, values);
    if (tree->op == 'n') return 2 - left;
    int right = kleene(tree->right, values);
    return tree->op == 'a' ? (left < right ? left : right) : (left > right ? left : right);
}

static void test_logic(void **state)
{
    (void)state;
    static const char *const written[] = {"0", "null", "1"};
    static const FilterVerdict verdicts[] = {FILTER_FALSE, FILTER_UNKNOWN, FILTER_TRUE};
    Metadata metas[27];
    JsonDoc *docs[27];
    int values[27][ATOMS];
    uint64_t counter = 0;
    for (int m = 0; m < 27; m++) {
        char json[100];
        for (int a = 0, rest = m; a < ATOMS; a++, rest /= 3) values[m][a] = rest % 3;
        snprintf(json, sizeof json, "{\"x\": %s, \"y\": %s, \"z\": %s}", written[values[m][0]], written[values[m][1]],
                 written[values[m][2]]);
        assert_ok(json_parse(json, strlen(json), 1000, &docs[m]));
        metadata_read(json_root(docs[m]), &metas[m]);
    }
    for (int round = 0; round < 4000; round++) {
        StrBuf text = {0};
        FilterExpression *filter;
        tree_count = 0;
        int root = grow(&counter, 4);
        print_tree(root, 0, &counter, &text);
        assert_ok(filter_parse(text.data, &filter));
        for (int m = 0; m < 27; m++) {
            const char *missing;
            FilterVerdict verdict = filter_evaluate(filter, &metas[m], &missing);
            if (verdict != verdicts[kleene(root, values[m])])
                fail_msg("%s with %d %d %d is %d", text.data, values[m][0], values[m][1], values[m][2], (int)verdict);
            if ((verdict == FILTER_UNKNOWN) != (missing != NULL)) fail_msg("%s: missing", text.data);
            if (missing && values[m][missing[5] - 'x'] != 1) fail_msg("%s: %s is there", text.data, missing);
        }
        filter_free(filter);
        strbuf_free(&text);
    }
    for (int m = 0; m < 27; m++) json_free(docs[m]);
}

/* ---- errors ---- */

static void check_error(const char *text, int column, const char *words)
{
    FilterExpression *filter;
    char place[40];
    Status status = filter_parse(text, &filter);
    if (status != ERR_CONFIG || filter) fail_msg("%s was read", text);
    snprintf(place, sizeof place, "column %d: ", column);
    if (column > 0 && strncmp(status_message(), place, strlen(place)) != 0)
        fail_msg("%s: %s, not column %d", text, status_message(), column);
    check_message(words);
}

static void test_errors(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int column;
        const char *words;
    } cases[] = {
        {"", 0, "an empty filter expression"},
        {"  ", 0, "an empty filter expression"},
        {"watermrk < 0.5", 1, "\"watermrk\" is not a field; did you mean watermark?"},
        {"watermark < 0.5 and sidee > 3", 21, "did you mean side?"},
        {"qqqqqqqq < 1", 1, "they are watermark, similarity"},
        {"watermark", 10, "expected < <= > >= == != or in after watermark, not the end"},
        {"watermark <", 12, "expected a value, not the end"},
        {"watermark < high", 13, "watermark is a number, and \"high\" is none"},
        {"watermark < \"0.5\"", 13, "watermark is a number"},
        {"language == 5", 13, "language is a text, and \"5\" is a number; quote it"},
        {"watermark = 0.5", 11, "write == for"},
        {"watermark < 0.5 && side > 3", 17, "write and"},
        {"side > 3 || side < 2", 10, "write or"},
        {"!has side", 1, "write not"},
        {"language == 'ru'", 13, "double quotes"},
        {"language == \"ru", 13, "this quote is not closed"},
        {"language == \"r\\u\"", 15, "only \\\" and \\\\"},
        {"0.5 > watermark", 1, "expected a field"},
        {"watermark < 0.5 similarity > 1", 17, "expected and, or or the end, not \"similarity\""},
        {"(watermark < 0.5", 17, "expected and, or or ), not the end"},
        {"watermark < 0.5)", 16, "expected and, or or the end, not \")\""},
        {"watermark < 0.5 and", 20, "expected a field"},
        {"and", 1, "expected a field"},
        {"language in ru", 13, "expected a list such as [ru, uk]"},
        {"language in []", 14, "expected a value"},
        {"language in [ru uk]", 17, "expected , or ]"},
        {"language in [ru, 5]", 18, "language is a text"},
        {"json.x in [ru, 5]", 16, "\"5\" is a number, unlike the values before it"},
        {"json.x in [5, ru]", 15, "\"ru\" is a text, unlike"},
        {"language not [ru]", 14, "expected in after not"},
        {"language == and", 13, "quote it if it is a text"},
        {"watermark < 1e999", 13, "\"1e999\" is not a number"},
        {"watermark < 0x10", 13, "is not a number"},
        {"watermark < 1.2.3", 13, "is not a number"},
        {"watermark < -", 13, "is not a number"},
        {"json. == 1", 1, "json. needs the name"},
        {"json.\"\" == 1", 1, "json. needs the name"},
        {"has 5", 5, "expected a field"},
        {"watermark < 0.5 ; side > 2", 17, "\";\" is none of"},
        {"language == \xd0\xb6\xd0\xb6 or sude > 1", 19, "did you mean side?"}, /* columns are characters */
        {"language == \"\xff\"", 0, "not valid UTF-8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_error(cases[i].text, cases[i].column, cases[i].words);
}

/* `count` times `piece`, between `before` and `after`. */
static char *repeat(const char *before, const char *piece, int count, const char *after)
{
    StrBuf text = {0};
    assert_ok(strbuf_printf(&text, "%s", before));
    for (int i = 0; i < count; i++) assert_ok(strbuf_printf(&text, "%s", piece));
    assert_ok(strbuf_printf(&text, "%s", after));
    return text.data;
}

static void test_limits(void **state)
{
    (void)state;
    FilterExpression *filter;
    char *texts[] = {repeat("", "not ", 63, "side > 1"),        repeat("", "not ", 64, "side > 1"),
                     repeat("", "side>1 or ", 255, "side > 1"), repeat("", "side>1 or ", 256, "side > 1"),
                     repeat("side > 1", " ", 4088, ""),         repeat("side > 1", " ", 4089, ""),
                     repeat("language in [x", ",y", 2000, "]"), repeat("", "(", 4000, "")};
    const char *words[] = {NULL, "column 257: more than 64 levels", NULL, "more than 256 comparisons",
                           NULL, "4097 bytes, at most 4096",        NULL, "more than 64 levels"};
    for (int i = 0; i < 8; i++) {
        if (words[i]) {
            check_error(texts[i], 0, words[i]);
        } else {
            assert_ok(filter_parse(texts[i], &filter));
            filter_free(filter);
        }
        free(texts[i]);
    }
    filter_free(NULL);
    assert_ok(filter_parse("side > 1 or not (language == caption_length and caption_length in [3])", &filter));
    assert_true(filter_asks_caption_length(filter));
    filter_free(filter);
    assert_ok(filter_parse("json.caption_length > 3", &filter));
    assert_false(filter_asks_caption_length(filter));
    filter_free(filter);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_fields), cmocka_unit_test(test_precedence),
                                       cmocka_unit_test(test_logic), cmocka_unit_test(test_errors),
                                       cmocka_unit_test(test_limits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
