/* Philox against Random123's known answers; distributions; permutations. */
#include "check.h"

#include <math.h>

#include "base/random.h"

static void check_philox(const uint32_t key[2], const uint32_t counter[4], const uint32_t expected[4])
{
    uint32_t out[4];
    philox4x32(key, counter, out);
    for (int i = 0; i < 4; i++) assert_int_equal(out[i], expected[i]);
}

/* From kat_vectors of Random123 (philox4x32 10). */
static void test_known_answers(void **state)
{
    check_philox((uint32_t[]){0, 0}, (uint32_t[]){0, 0, 0, 0},
                 (uint32_t[]){0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
    check_philox((uint32_t[]){~0u, ~0u}, (uint32_t[]){~0u, ~0u, ~0u, ~0u},
                 (uint32_t[]){0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
    check_philox((uint32_t[]){0xa4093822, 0x299f31d0}, (uint32_t[]){0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
                 (uint32_t[]){0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

/* The counter's layout is a promise: checkpoints and other programs rely on it. */
static void test_counter_layout(void **state)
{
    uint64_t seed = UINT64_C(0x1122334455667788), index = UINT64_C(0x99aabbccddeeff00);
    uint64_t element = UINT64_C(0x0000012345678912) * 4 + 3;
    uint32_t out[4];
    philox4x32((uint32_t[]){0x55667788, 0x11223344},
               (uint32_t[]){0x45678912, 0x00000123 | (uint32_t)RANDOM_NOISE << 24, 0xddeeff00, 0x99aabbcc}, out);
    assert_int_equal(random_u32(seed, RANDOM_NOISE, index, element), out[3]);
    assert_int_equal(random_u32(seed, RANDOM_NOISE, index, element - 2), out[1]);
}

static void test_uniform(void **state)
{
    double sum = 0;
    for (uint64_t i = 0; i < 100000; i++) {
        float u = random_uniform(5, RANDOM_TEST, 0, i);
        assert_true(u >= 0 && u < 1);
        sum += (double)u;
    }
    assert_true(fabs(sum / 100000 - 0.5) < 0.005);
}

static void test_many_uniforms(void **state)
{
    float out[203];
    const uint64_t firsts[] = {0, 1, 2, 3, 61, 1000003, UINT64_C(0x3ffffffff) - 20};
    for (size_t k = 0; k < sizeof firsts / sizeof *firsts; k++)
        for (size_t count = 0; count <= 203; count += 29) {
            for (size_t i = 0; i < 203; i++) out[i] = 2;
            random_uniforms(9, RANDOM_TEST, UINT64_C(1) << 40, firsts[k], out, count);
            for (size_t i = 0; i < 203; i++)
                assert_true(out[i] ==
                            (i < count ? random_uniform(9, RANDOM_TEST, UINT64_C(1) << 40, firsts[k] + i) : 2));
        }
}

static void test_below(void **state)
{
    int counts[7] = {0};
    for (uint64_t i = 0; i < 70000; i++) {
        uint64_t x = random_below(5, RANDOM_TEST, i, 0, 7);
        assert_true(x < 7);
        counts[x]++;
    }
    for (int i = 0; i < 7; i++) assert_true(abs(counts[i] - 10000) < 400);
    assert_int_equal(random_below(5, RANDOM_TEST, 1, 1, 1), 0);
    /* Large ranges reach the low bits, small ones agree with the element's word. */
    uint64_t all = random_below(5, RANDOM_TEST, 3, 6, UINT64_MAX);
    assert_int_equal(all >> 32, random_u32(5, RANDOM_TEST, 3, 6));
    assert_true((uint32_t)all - random_u32(5, RANDOM_TEST, 3, 6) + 1 > 2);
    uint32_t seen = 0;
    for (uint64_t i = 0; i < 64; i++) seen |= (uint32_t)random_below(5, RANDOM_TEST, i, 0, UINT64_C(1) << 63);
    assert_int_equal(seen, UINT32_MAX);
}

static void test_normal_values(void **state)
{
    enum { COUNT = 40000 };
    static float out[COUNT];
    random_normal(11, RANDOM_NOISE, 77, 0, out, COUNT);
    double worst = 0, sum = 0, square = 0, cube = 0, fourth = 0;
    for (uint64_t e = 0; e < COUNT; e += 2) {
        /* Box-Muller in double, from the documented words; the uniform number is a float. */
        uint32_t a = random_u32(11, RANDOM_NOISE, 77, e), b = random_u32(11, RANDOM_NOISE, 77, e + 1);
        double radius = sqrt(-2 * log((double)((float)(a >> 1) + 0.5f) / 0x1p31));
        double angle = 2 * 3.14159265358979323846 * (double)b / 0x1p32;
        double error = fmax(fabs((double)out[e] - radius * cos(angle)), fabs((double)out[e + 1] - radius * sin(angle)));
        worst = fmax(worst, error);
    }
    assert_true(worst < 2e-6);
    for (int e = 0; e < COUNT; e++) {
        double x = (double)out[e];
        sum += x;
        square += x * x;
        cube += x * x * x;
        fourth += x * x * x * x;
    }
    assert_true(fabs(sum / COUNT) < 0.02);
    assert_true(fabs(square / COUNT - 1) < 0.03);
    assert_true(fabs(cube / COUNT) < 0.1);
    assert_true(fabs(fourth / COUNT - 3) < 0.2);
}

static void test_normal_alignment(void **state)
{
    float all[400], part[400];
    random_normal(3, RANDOM_NOISE, 9, 0, all, 400);
    for (uint64_t first = 0; first < 80; first++) {
        for (size_t count = 0; count < 140; count += 7) {
            random_normal(3, RANDOM_NOISE, 9, first, part, count);
            assert_memory_equal(part, all + first, count * sizeof(float));
        }
    }
    /* Across the 32-bit boundary of the block counter. */
    uint64_t high = (UINT64_C(1) << 34) - 20;
    random_normal(3, RANDOM_NOISE, 9, high, all, 100);
    random_normal(3, RANDOM_NOISE, 9, high + 30, part, 70);
    assert_memory_equal(part, all + 30, 70 * sizeof(float));
}

static void test_permute_small(void **state)
{
    for (uint64_t n = 1; n <= 300; n++) {
        bool seen[300] = {false};
        for (uint64_t i = 0; i < n; i++) {
            uint64_t x = random_permute(1, RANDOM_TEST, n, n, i);
            assert_true(x < n && !seen[x]);
            seen[x] = true;
        }
    }
}

static void test_permute_large(void **state)
{
    enum { N = 100003 };
    static bool seen[N];
    int fixed = 0;
    for (uint64_t i = 0; i < N; i++) {
        uint64_t x = random_permute(1, RANDOM_SHARD_ORDER, 4, N, i);
        assert_true(x < N && !seen[x]);
        seen[x] = true;
        fixed += x == i;
    }
    assert_true(fixed < 10);
    static const uint64_t LARGE[] = {UINT64_C(1) << 40, (UINT64_C(1) << 63) + 12345, UINT64_MAX};
    for (int k = 0; k < 3; k++) {
        uint64_t last = 0;
        for (uint64_t i = 0; i < 1000; i++) {
            uint64_t x = random_permute(1, RANDOM_SHARD_ORDER, 4, LARGE[k], i);
            assert_true(x < LARGE[k] && (i == 0 || x != last));
            last = x;
        }
    }
}

/* All orders of 2, 3 and 4 items come about equally often: chi-square below its 0.1% quantile. */
static void test_permute_fair(void **state)
{
    static const double LIMIT[] = {0, 0, 10.83, 20.5, 49.7}; /* 1, 5, 23 degrees of freedom */
    for (uint64_t n = 2; n <= 4; n++) {
        int counts[256] = {0}, orders = n == 2 ? 2 : n == 3 ? 6 : 24, trials = orders * 500;
        for (int seed = 0; seed < trials; seed++) {
            unsigned code = 0;
            for (uint64_t i = 0; i < n; i++)
                code = code * 4 + (unsigned)random_permute((uint64_t)seed, RANDOM_SHARD_ORDER, 0, n, i);
            counts[code % 256]++;
        }
        double chi = 0;
        int found = 0;
        for (int c = 0; c < 256; c++) {
            if (!counts[c]) continue;
            found++;
            chi += (counts[c] - 500.0) * (counts[c] - 500.0) / 500.0;
        }
        assert_int_equal(found, orders);
        if (chi > LIMIT[n]) fail_msg("n = %d: chi-square %g", (int)n, chi);
    }
}

static void test_independence(void **state)
{
    /* Different seeds, purposes and indexes give different words. */
    uint32_t base = random_u32(1, RANDOM_NOISE, 2, 3);
    assert_int_not_equal(base, random_u32(2, RANDOM_NOISE, 2, 3));
    assert_int_not_equal(base, random_u32(1, RANDOM_MASK, 2, 3));
    assert_int_not_equal(base, random_u32(1, RANDOM_NOISE, 3, 3));
    assert_int_not_equal(base, random_u32(1, RANDOM_NOISE, 2, 4));
    assert_int_not_equal(base, random_u32(1 + (UINT64_C(1) << 32), RANDOM_NOISE, 2, 3));
    assert_int_not_equal(base, random_u32(1, RANDOM_NOISE, 2 + (UINT64_C(1) << 32), 3));
    assert_int_not_equal(base, random_u32(1, RANDOM_NOISE, 2, 3 + (UINT64_C(1) << 34)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_counter_layout),
        cmocka_unit_test(test_uniform),
        cmocka_unit_test(test_many_uniforms),
        cmocka_unit_test(test_below),
        cmocka_unit_test(test_normal_values),
        cmocka_unit_test(test_normal_alignment),
        cmocka_unit_test(test_permute_small),
        cmocka_unit_test(test_permute_large),
        cmocka_unit_test(test_permute_fair),
        cmocka_unit_test(test_independence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
