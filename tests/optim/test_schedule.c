/* OneCycle against PyTorch, the EMA's warm-up, and the section `optim:` of the config. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <math.h>
#include <string.h>
#include <cmocka.h>

#include "optim/ema.h"
#include "optim/one_cycle.h"
#include "optim/optim_config.h"
#include "../goldens/optim_goldens.h"

static OptimConfig defaults(void)
{
    OptimConfig optim;
    Config *config = NULL;
    assert_int_equal(config_load("defaults", "{}", &OPTIM_CONFIG_SCHEMA, NULL, 0, &optim, &config), STATUS_OK);
    config_free(config);
    return optim;
}

static void near(double ours, double theirs, double tolerance, const char *what, int total, int step)
{
    if (!(fabs(ours - theirs) <= tolerance * fabs(theirs) + 1e-18)) {
        fail_msg("%s of step %d of %d: %.17g, PyTorch has %.17g", what, step, total, ours, theirs);
    }
}

static void test_defaults_are_the_articles(void **state)
{
    OptimConfig optim = defaults();
    assert_int_equal(optim.total_steps, 0);
    assert_int_equal(optim.schedule, OPTIM_ONE_CYCLE);
    assert_true(optim.max_lr == 1e-4 && optim.pct_start == 0.01);
    assert_true(optim.div_factor == 25 && optim.final_div_factor == 1e4);
    assert_true(optim.cycle_momentum && optim.base_momentum == 0.85 && optim.max_momentum == 0.95);
    assert_true(optim.beta1 == 0.9 && optim.beta2 == 0.999 && optim.eps == 1e-8 && optim.weight_decay == 0.01);
    assert_true(optim.clip_norm == 1 && optim.ema_decay == 0.9999 && optim.ema_warmup);
}

static void test_one_cycle_is_pytorchs(void **state)
{
    OptimConfig optim = defaults();
    for (size_t i = 0; i < sizeof(GOLDEN_SCHEDULES) / sizeof(GOLDEN_SCHEDULES[0]); i++) {
        const GoldenSchedule *golden = &GOLDEN_SCHEDULES[i];
        optim.pct_start = golden->pct_start;
        optim.cycle_momentum = golden->cycle;
        ScheduleValues values = schedule_values(&optim, golden->total, golden->step);
        /* The last rates are differences of numbers 1e4 times as large. */
        near(values.lr, golden->lr, 1e-9, "lr", golden->total, golden->step);
        near(values.beta1, golden->beta1, 1e-13, "beta1", golden->total, golden->step);
    }
}

static void test_steps_outside_get_the_last_values(void **state)
{
    OptimConfig optim = defaults();
    ScheduleValues last = schedule_values(&optim, 100, 99), past = schedule_values(&optim, 100, 5000);
    assert_true(last.lr == past.lr && last.beta1 == past.beta1);
    assert_true(last.lr > 0 && last.lr < 1.1e-4 / 25 / 1e4);
}

static void test_every_length_gives_finite_values(void **state)
{
    OptimConfig optim = defaults();
    const double shares[] = {0, 0.01, 0.25, 0.5, 0.9, 1};
    for (size_t s = 0; s < sizeof(shares) / sizeof(shares[0]); s++) {
        optim.pct_start = shares[s];
        for (int total = 1; total < 60; total++) {
            for (int k = 0; k < total; k++) {
                ScheduleValues values = schedule_values(&optim, total, k);
                assert_true(values.lr > 0 && values.lr <= optim.max_lr * (1 + 1e-12));
                assert_true(values.beta1 > 0.85 - 1e-12 && values.beta1 < 0.95 + 1e-12);
            }
        }
    }
}

static void test_constant(void **state)
{
    OptimConfig optim = defaults();
    optim.schedule = OPTIM_CONSTANT;
    for (int k = 0; k < 100; k += 33) {
        ScheduleValues values = schedule_values(&optim, 100, k);
        assert_true(values.lr == 1e-4 && values.beta1 == 0.9);
    }
}

static void test_ema_warm_up(void **state)
{
    assert_true(ema_decay_at(0.9999, true, 1) == 2.0 / 11.0);
    assert_true(ema_decay_at(0.9999, true, 90) == 0.91);
    assert_true(ema_decay_at(0.9999, true, 1000000) == 0.9999);
    assert_true(ema_decay_at(0.9999, false, 1) == 0.9999);
}

static void refuse(const char *text, const char *word)
{
    OptimConfig optim;
    Config *config = NULL;
    Status status = config_load("bad.yaml", text, &OPTIM_CONFIG_SCHEMA, NULL, 0, &optim, &config);
    if (status == STATUS_OK) status = optim_config_check(&optim, config, "optim");
    config_free(config);
    assert_int_equal(status, ERR_CONFIG);
    if (!strstr(status_message(), word)) fail_msg("\"%s\" does not name %s", status_message(), word);
}

static void test_impossible_values_are_refused(void **state)
{
    refuse("max_lr: -1", "max_lr");
    refuse("pct_start: 1.5", "pct_start");
    refuse("beta2: 1", "beta2");
    refuse("eps: 0", "eps");
    refuse("schedule: cosine", "one_cycle");
    refuse("max_learning_rate: 1", "max_learning_rate");
    refuse("total_steps: -5", "total_steps");
    refuse("base_momentum: 0.96", "base_momentum");
    refuse("{max_lr: 100, weight_decay: 0.5}", "weight_decay");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults_are_the_articles),
        cmocka_unit_test(test_one_cycle_is_pytorchs),
        cmocka_unit_test(test_steps_outside_get_the_last_values),
        cmocka_unit_test(test_every_length_gives_finite_values),
        cmocka_unit_test(test_constant),
        cmocka_unit_test(test_ema_warm_up),
        cmocka_unit_test(test_impossible_values_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
