/* The placement of tensors: nothing that lives together overlaps, whatever the lifetimes, and little room is lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/random.h"
#include "engine/placement.h"

#define COUNT 300
#define OPS 100

static void random_lifetimes(Lifetime *lifetimes, uint64_t trial)
{
    for (uint64_t i = 0; i < COUNT; i++) {
        uint64_t at = trial * COUNT + i;
        int32_t first = (int32_t)random_below(1, RANDOM_TEST, at, 0, OPS) - 1;
        int32_t length = (int32_t)random_below(1, RANDOM_TEST, at, 1, 12);
        lifetimes[i] = (Lifetime){.first = first,
                                  .last = first + length < OPS ? first + length : OPS - 1,
                                  .bytes = (int64_t)random_below(1, RANDOM_TEST, at, 2, 5000)};
    }
}

static void assert_no_overlap(const Lifetime *lifetimes, int64_t slab)
{
    for (int i = 0; i < COUNT; i++) {
        if (lifetimes[i].bytes == 0) continue;
        assert_int_equal(lifetimes[i].offset % PLACEMENT_ALIGN, 0);
        assert_true(lifetimes[i].offset >= 0 && lifetimes[i].offset + lifetimes[i].bytes <= slab);
        for (int k = 0; k < i; k++) {
            if (lifetimes[k].bytes == 0) continue;
            int together = lifetimes[i].first <= lifetimes[k].last && lifetimes[k].first <= lifetimes[i].last;
            int apart = lifetimes[i].offset + lifetimes[i].bytes <= lifetimes[k].offset ||
                        lifetimes[k].offset + lifetimes[k].bytes <= lifetimes[i].offset;
            assert_true(!together || apart);
        }
    }
}

static void test_random_lifetimes(void **state)
{
    static Lifetime lifetimes[COUNT];
    for (uint64_t trial = 0; trial < 20; trial++) {
        int64_t slab = 0, peak = 0;
        random_lifetimes(lifetimes, trial);
        assert_int_equal(placement_peak_live(lifetimes, COUNT, OPS, &peak), STATUS_OK);
        assert_int_equal(placement_solve(lifetimes, COUNT, 1, &slab), STATUS_OK);
        assert_no_overlap(lifetimes, slab);
        assert_true(slab >= peak);
        assert_true(slab <= peak + peak / 4);
    }
}

static void test_without_reuse_nothing_is_shared(void **state)
{
    static Lifetime lifetimes[COUNT];
    int64_t slab = 0, sum = 0;
    random_lifetimes(lifetimes, 99);
    assert_int_equal(placement_solve(lifetimes, COUNT, 0, &slab), STATUS_OK);
    for (int i = 0; i < COUNT; i++) {
        lifetimes[i].first = -1;
        lifetimes[i].last = OPS - 1;
        sum += (lifetimes[i].bytes + PLACEMENT_ALIGN - 1) / PLACEMENT_ALIGN * PLACEMENT_ALIGN;
    }
    assert_no_overlap(lifetimes, slab);
    assert_int_equal(slab, sum);
}

static void test_a_chain_needs_two_places(void **state)
{
    Lifetime chain[10];
    int64_t slab = 0;
    for (int i = 0; i < 10; i++) chain[i] = (Lifetime){.bytes = 640, .first = i, .last = i + 1};
    assert_int_equal(placement_solve(chain, 10, 1, &slab), STATUS_OK);
    assert_int_equal(slab, 2 * 640);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_lifetimes),
        cmocka_unit_test(test_without_reuse_nothing_is_shared),
        cmocka_unit_test(test_a_chain_needs_two_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
