/* The hash that ranks compare weights by: its formula, and that parts add up however they are cut. */
#include "engine/weight_hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { WORDS = 300001 };
static uint32_t words[WORDS];

static void fill(void)
{
    for (int i = 0; i < WORDS; i++) words[i] = (uint32_t)weight_hash_mix((uint64_t)i);
}

/* The first numbers of SplitMix64 from seed 0, as its authors' program prints them. */
static void test_mix(void **state)
{
    (void)state;
    assert_true(weight_hash_mix(0) == 0xe220a8397b1dcdafu);
    assert_true(weight_hash_mix(0x9e3779b97f4a7c15u) == 0x6e789e6aa1b965f4u);
}

static void test_formula(void **state)
{
    (void)state;
    const uint32_t some[3] = {7, 0, 0xffffffffu};
    uint64_t sum = weight_hash_mix(0x500000007u) + weight_hash_mix(0x600000000u) + weight_hash_mix(0x7ffffffffu);
    assert_true(weight_hash(some, 3, 5, 1) == sum);
    assert_true(weight_hash(some, 0, 5, 4) == 0);
}

static void test_parts(void **state)
{
    (void)state;
    fill();
    const uint64_t whole = weight_hash(words, WORDS, 0, 1);
    for (int threads = 0; threads < 9; threads++) assert_true(weight_hash(words, WORDS, 0, threads) == whole);
    for (int cut = 0; cut <= WORDS; cut += 99991)
        assert_true(weight_hash(words, cut, 0, 2) + weight_hash(words + cut, WORDS - cut, (uint64_t)cut, 2) == whole);
}

/* Every bit of a word, and two words that changed places. */
static void test_changes(void **state)
{
    (void)state;
    fill();
    const uint64_t whole = weight_hash(words, WORDS, 0, 2);
    for (int bit = 0; bit < 32; bit++) {
        words[WORDS - 1] ^= 1u << bit;
        assert_true(weight_hash(words, WORDS, 0, 2) != whole);
        words[WORDS - 1] ^= 1u << bit;
    }
    const uint32_t kept = words[0];
    words[0] = words[1];
    words[1] = kept;
    assert_true(weight_hash(words, WORDS, 0, 2) != whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mix),
        cmocka_unit_test(test_formula),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
