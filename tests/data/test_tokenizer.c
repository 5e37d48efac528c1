/* The layouts of ids, special tokens in captions, cutting, padding, and refusals; the ids of Hugging Face's tokenizers.
 */
#include "shards.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
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

/* Special tokens that a caption spells out; what stands between them is encoded on its own. */
static void test_special_tokens(void **state)
{
    (void)state;
    Tokenizer *tokenizer;
    assert_ok(tokenizer_open(MODELS "fairseq.model", TOKENIZER_XLMR, T, &tokenizer));
    const int32_t all[] = {0, 0, 1, 2, 3, 401, 2};
    expect(tokenizer, "<s><pad></s><unk><mask>", all, 7, 1);
    const int32_t between[] = {0, 4, 55, 27, 101, 49, 101, 55, 2, 4, 235, 42, 79, 25, 2};
    expect(tokenizer, "grinning</s>face", between, 15, 1);
    tokenizer_free(tokenizer);
    assert_ok(tokenizer_open(MODELS "fairseq.model", TOKENIZER_XLMR, 4, &tokenizer));
    int32_t ids[4], mask[4];
    assert_ok(tokenizer_encode(tokenizer, "<pad><unk><mask>", 16, ids, mask)); /* cut between special tokens */
    assert_memory_equal(ids, ((int32_t[]){0, 1, 3, 2}), sizeof ids);
    assert_memory_equal(mask, ((int32_t[]){1, 1, 1, 1}), sizeof mask);
    tokenizer_free(tokenizer);
}

/* Rows of captions.json with the ids that transformers gives (tests/goldens/parity_tokenizers.py). */
static void check_captions(const char *model, TokenizerStyle style, const char *key, int least)
{
    size_t size, text_size;
    Tokenizer *tokenizer;
    JsonDoc *doc;
    char *file = NULL;
    assert_ok(file_read(MODELS "captions.json", 1 << 20, &file, &size));
    assert_ok(json_parse(file, size, size, &doc));
    assert_ok(tokenizer_open(model, style, T, &tokenizer));
    int checked = 0;
    for (size_t row = 0; row < json_count(json_root(doc)); row++) {
        const JsonValue *caption = json_item(json_root(doc), row), *wanted = json_get(caption, key);
        if (json_is_null(wanted)) continue;
        int32_t ids[T], mask[T];
        const char *text = json_text(json_get(caption, "text"), &text_size);
        assert_non_null(text);
        assert_ok(tokenizer_encode(tokenizer, text, text_size, ids, mask));
        for (size_t i = 0; i < T; i++) {
            int64_t id = style == TOKENIZER_XLMR ? 1 : 0; /* padding where the file's row ends */
            if (i < json_count(wanted)) assert_true(json_integer(json_item(wanted, i), &id));
            if (ids[i] != id)
                fail_msg("%s: caption %zu, \"%s\": id %zu is %d instead of %d", key, row, text, i, ids[i], (int)id);
            assert_int_equal(mask[i], i < json_count(wanted));
        }
        checked++;
    }
    assert_true(checked >= least);
    tokenizer_free(tokenizer);
    json_free(doc);
    free(file);
}

static void test_ids_of_transformers(void **state)
{
    (void)state;
    check_captions(MODELS "xlmr.model", TOKENIZER_XLMR, "xlmr", 250);
    check_captions(MODELS "mt5_bytes.model", TOKENIZER_MT5_BYTES, "mt5-bytes", 250);
    check_captions(MODELS "mt5_bytes.model", TOKENIZER_MT5, "mt5", 140);
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_xlmr),
                                       cmocka_unit_test(test_mt5),
                                       cmocka_unit_test(test_cutting),
                                       cmocka_unit_test(test_special_tokens),
                                       cmocka_unit_test(test_ids_of_transformers),
                                       cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
