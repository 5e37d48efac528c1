/* The two layouts of ids, cutting, padding, and refusals. */
#include "shards.h"

#include <string.h>

#include "data/tokenizer.h"

#define MODELS TEST_SOURCE_DIR "/data/tokenizers/"
#define T 77

static void expect(const Tokenizer *tokenizer, const char *text, const int32_t *wanted, int count, int32_t pad)
{
    int32_t ids[T], mask[T];
    assert_ok(tokenizer_encode(tokenizer, text, strlen(text), ids, mask));
    for (int i = 0; i < T; i++) {
        assert_int_equal(ids[i], i < count ? wanted[i] : pad);
        assert_int_equal(mask[i], i < count);
    }
}

static void test_xlmr(void **state)
{
    (void)state;
    Tokenizer *tokenizer;
    assert_ok(tokenizer_open(MODELS "fairseq.model", TOKENIZER_XLMR, T, &tokenizer));
    assert_int_equal(tokenizer_max_tokens(tokenizer), T);
    assert_int_equal(tokenizer_vocabulary(tokenizer), 402); /* as 250000 pieces make 250002 rows */
    const int32_t face[] = {0, 4, 55, 27, 101, 49, 101, 55, 4, 235, 42, 79, 25, 2};
    expect(tokenizer, "grinning face", face, 14, 1);
    const int32_t unknown[] = {0, 162, 47, 4, 324, 4, 3, 2}; /* the chess piece is <unk>, 3 in fairseq's ids */
    expect(tokenizer, "кот 猫 ♞", unknown, 8, 1);
    const int32_t empty[] = {0, 2};
    expect(tokenizer, "", empty, 2, 1);
    tokenizer_free(tokenizer);

    assert_ok(tokenizer_open(MODELS "laid_out.model", TOKENIZER_XLMR, T, &tokenizer)); /* the same ids without offset */
    assert_int_equal(tokenizer_vocabulary(tokenizer), 400);
    expect(tokenizer, "grinning face", face, 14, 1);
    expect(tokenizer, "кот 猫 ♞", unknown, 8, 1);
    tokenizer_free(tokenizer);
}

static void test_mt5(void **state)
{
    (void)state;
    Tokenizer *tokenizer;
    assert_ok(tokenizer_open(MODELS "mt5.model", TOKENIZER_MT5, T, &tokenizer));
    assert_int_equal(tokenizer_vocabulary(tokenizer), 400);
    const int32_t face[] = {3, 54, 26, 100, 48, 100, 54, 3, 234, 41, 78, 24, 1};
    expect(tokenizer, "grinning face", face, 13, 0);
    const int32_t unknown[] = {161, 46, 3, 323, 3, 2, 1};
    expect(tokenizer, "кот 猫 ♞", unknown, 7, 0);
    const int32_t empty[] = {1};
    expect(tokenizer, "", empty, 1, 0);
    tokenizer_free(tokenizer);
}

static void test_cutting(void **state)
{
    (void)state;
    Tokenizer *tokenizer;
    int32_t ids[T], mask[T];
    char text[1000] = "";
    for (int i = 0; i < 100; i++) strcat(text, "face ");
    assert_ok(tokenizer_open(MODELS "fairseq.model", TOKENIZER_XLMR, T, &tokenizer));
    assert_ok(tokenizer_encode(tokenizer, text, strlen(text), ids, mask));
    assert_int_equal(ids[0], 0);
    assert_int_equal(ids[T - 1], 2);
    for (int i = 0; i < T; i++) assert_int_equal(mask[i], 1);
    for (int i = 1; i < T - 1; i++) assert_true(ids[i] > 2);
    tokenizer_free(tokenizer);
    assert_ok(tokenizer_open(MODELS "mt5.model", TOKENIZER_MT5, 5, &tokenizer));
    assert_ok(tokenizer_encode(tokenizer, text, strlen(text), ids, mask));
    assert_int_equal(ids[4], 1);
    assert_true(ids[3] > 2);
    tokenizer_free(tokenizer);
}

static void test_refusals(void **state)
{
    (void)state;
    Tokenizer *tokenizer;
    int32_t ids[T], mask[T];
    assert_int_equal(tokenizer_open(MODELS "absent.model", TOKENIZER_MT5, T, &tokenizer), ERR_IO);
    check_message("absent.model");
    assert_null(tokenizer);
    assert_int_equal(tokenizer_open(MODELS "README.md", TOKENIZER_MT5, T, &tokenizer), ERR_IO);
    assert_int_equal(tokenizer_open(MODELS "mt5.model", TOKENIZER_MT5, 2, &tokenizer), ERR_CONFIG);
    assert_ok(tokenizer_open(MODELS "mt5.model", TOKENIZER_MT5, T, &tokenizer));
    assert_int_equal(tokenizer_encode(tokenizer, "\xff\xfe", 2, ids, mask), ERR_FORMAT);
    tokenizer_free(tokenizer);
    tokenizer_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_xlmr), cmocka_unit_test(test_mt5),
                                       cmocka_unit_test(test_cutting), cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
