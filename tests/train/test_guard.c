/* The guard: medians and spreads against Python's statistics, the losses of a real run without an alarm, what it does
 * about single spikes, lasting changes and numbers that are none, and that its state goes on to the bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <math.h>
#include <string.h>
#include <cmocka.h>

#include "train/guard.h"
#include "train/guard_history.h"
#include "../goldens/guard_goldens.h"

static GuardConfig settings(void)
{
    return (GuardConfig){
        .action = GUARD_SKIP, .window = 200, .loss_z = 8, .grad_norm_z = 8, .warmup = 100, .skips_in_a_row = 10};
}

static Guard *open_guard(const GuardConfig *config)
{
    Guard *guard = NULL;
    assert_int_equal(guard_create(config, 64, 128, &guard), STATUS_OK);
    return guard;
}

/* Step number `done` + 1. */
static GuardVerdict step(Guard *guard, int64_t done, double loss, double norm)
{
    const GuardLimits limits = guard_limits(guard, done);
    return guard_judge(guard, &limits, loss, norm);
}

/* Of a real run, by steps: z as Python computes it, and never an alarm. */
static void test_a_real_run(void **state)
{
    const GuardConfig config = settings();
    Guard *guard = open_guard(&config);
    double highest_loss = -1e9, highest_norm = -1e9;
    size_t checked = 0;
    for (size_t i = 0; i < GUARD_STEPS; i++) {
        const GuardVerdict verdict = step(guard, (int64_t)i, GUARD_RUN[i][0], GUARD_RUN[i][1]);
        if (verdict.loss_over || verdict.norm_over)
            fail_msg("step %zu: a false alarm: z of the loss %g, of the norm %g", i + 1, verdict.loss_z,
                     verdict.norm_z);
        assert_true(isnan(verdict.loss_z) == (i < 100) && isnan(verdict.norm_z) == (i < 100));
        if (i >= 100 && verdict.loss_z > highest_loss) highest_loss = verdict.loss_z;
        if (i >= 100 && verdict.norm_z > highest_norm) highest_norm = verdict.norm_z;
        if (checked == GUARD_CHECKS || GUARD_CHECK[checked].step != (int)i) continue;
        assert_true(fabs(verdict.loss_z - GUARD_CHECK[checked].loss_z) < 1e-9);
        assert_true(fabs(verdict.norm_z - GUARD_CHECK[checked].norm_z) < 1e-9);
        checked++;
    }
    assert_int_equal(checked, GUARD_CHECKS);
    print_message("highest z of %d real steps: loss %.2f, gradient norm %.2f\n", GUARD_STEPS, highest_loss,
                  highest_norm);
    guard_free(guard);
}

/* By sorting, which guard_history does not. */
static int ascending(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static double median(double *values, int64_t count)
{
    qsort(values, (size_t)count, sizeof *values, ascending);
    return 0.5 * (values[(count - 1) / 2] + values[count / 2]);
}

static void test_history_is_that_of_sorted_windows(void **state)
{
    enum { VALUES = 300, MOST = 41 };
    double series[VALUES], window[MOST];
    for (int i = 0; i < VALUES; i++) series[i] = i % 7 == 3 ? 1 : i % 11 == 0 ? 50 * sin(i) : sin(1.7 * i) + 0.01 * i;
    for (int64_t capacity = 1; capacity <= MOST; capacity += 5) {
        GuardHistory history;
        assert_int_equal(guard_history_create(capacity, &history), STATUS_OK);
        for (int64_t i = 0; i < VALUES; i++) {
            double middle, spread;
            const int64_t count = i + 1 < capacity ? i + 1 : capacity;
            guard_history_add(&history, series[i]);
            guard_history_measure(&history, &middle, &spread);
            memcpy(window, series + i + 1 - count, (size_t)count * sizeof *window);
            const double expected = median(window, count);
            for (int64_t k = 0; k < count; k++) window[k] = fabs(window[k] - expected);
            const double distance = median(window, count);
            assert_true(middle == expected);
            assert_true(fabs(spread - distance * 1.4826022185056018) <= 1e-12 * (1 + spread));
            assert_memory_equal(history.values, series + i + 1 - count, (size_t)count * sizeof *window);
        }
        guard_history_free(&history);
    }
}

static double usual_loss(int64_t i)
{
    return 0.3 * (1 + 0.05 * sin(2.1 * (double)i));
}

static void test_a_spike_stands_out_and_leaves_no_trace(void **state)
{
    const GuardConfig config = settings();
    Guard *guard = open_guard(&config), *other = open_guard(&config);
    for (int64_t i = 0; i < 400; i++) {
        const bool loss = i == 250 || i == 50, norm = i == 300; /* 50 is within the warm-up */
        const GuardVerdict verdict =
            step(guard, i, usual_loss(i) * (loss ? 3 : 1), 2 * usual_loss(i + 1) * (norm ? 5 : 1));
        assert_int_equal(verdict.loss_over, i == 250);
        assert_int_equal(verdict.norm_over, norm);
        assert_int_equal(guard_in_a_row(guard), i == 250 || norm);
        const GuardVerdict plain = step(other, i, usual_loss(i), 2 * usual_loss(i + 1));
        assert_false(plain.loss_over || plain.norm_over);
        /* With the spike among the last 200 the measure is nearly what it would be without. */
        if (i > 300 && fabs(verdict.loss_z - plain.loss_z) > 0.15)
            fail_msg("step %lld: z %g with a spike in the window, %g without", (long long)i, verdict.loss_z,
                     plain.loss_z);
    }
    guard_free(guard);
    guard_free(other);
}

/* What stands out at first is usual after half a window. */
static void test_a_lasting_change_becomes_usual(void **state)
{
    const GuardConfig config = settings();
    Guard *guard = open_guard(&config);
    int64_t over = 0, last = 0;
    for (int64_t i = 0; i < 700; i++) {
        const GuardVerdict verdict = step(guard, i, usual_loss(i) * (i < 300 ? 1 : 4), 1);
        over += verdict.loss_over;
        if (verdict.loss_over) last = i;
    }
    assert_in_range(over, 80, 110);
    assert_in_range(last, 380, 410);
    guard_free(guard);
}

static void test_what_is_no_number(void **state)
{
    const GuardConfig config = settings();
    Guard *guard = open_guard(&config);
    assert_false(step(guard, 0, NAN, 1).loss_over); /* nothing to compare with yet */
    for (int64_t i = 1; i < 200; i++) step(guard, i, usual_loss(i), 1);
    const GuardState before = guard_state(guard);
    const GuardVerdict bad = step(guard, 200, NAN, 1), infinite = step(guard, 201, INFINITY, 1);
    assert_true(bad.loss_over && isnan(bad.loss_z) && infinite.loss_over);
    assert_int_equal(guard_state(guard).loss_count, before.loss_count); /* they are no part of the history */
    assert_false(step(guard, 202, usual_loss(202), 1).loss_over);
    assert_false(step(guard, 203, usual_loss(203), 1.05).norm_over); /* a constant norm has a spread of 1% at least */
    assert_true(step(guard, 204, usual_loss(204), 1.09).norm_over);
    guard_free(guard);
}

static void test_settings(void **state)
{
    GuardConfig config = settings();
    config.loss_z = 0;
    config.window = 20;
    config.warmup = 0;
    Guard *guard = open_guard(&config);
    assert_true(guard_holds(guard) && !guard_waits_for_loss(guard));
    for (int64_t i = 0; i < 10; i++) assert_true(isnan(step(guard, i, 1, 1).norm_z)); /* half a window comes first */
    const GuardVerdict verdict = step(guard, 10, 1e9, 1e9);
    assert_true(verdict.norm_over && !verdict.loss_over && verdict.loss_z > 1000);
    guard_free(guard);
    config.action = GUARD_LOG;
    guard = open_guard(&config);
    assert_false(guard_holds(guard));
    guard_free(guard);
}

/* Through the text of state.json. */
static void test_state_goes_on_to_the_bit(void **state)
{
    const GuardConfig config = settings();
    Guard *a = open_guard(&config), *b = open_guard(&config);
    StrBuf text = {0};
    JsonWriter w;
    JsonDoc *doc = NULL;
    GuardState saved = {0};
    for (int64_t i = 0; i < 250; i++) step(a, i, usual_loss(i), exp(sin(0.3 * (double)i)));
    const GuardState now = guard_state(a);
    json_begin(&w, &text);
    json_object(&w, NULL);
    guard_state_write(&now, &w);
    json_end_object(&w);
    assert_int_equal(json_parse(text.data, text.size, text.size, &doc), STATUS_OK);
    assert_int_equal(guard_state_read("state.json", json_root(doc), &saved), STATUS_OK);
    assert_true(guard_restore(b, &saved));
    for (int64_t i = 250; i < 600; i++) {
        const double loss = usual_loss(i) * (i % 40 == 0 ? 2 : 1), norm = exp(sin(0.3 * (double)i));
        const GuardVerdict x = step(a, i, loss, norm), y = step(b, i, loss, norm);
        assert_memory_equal(&x, &y, sizeof x);
    }
    /* Of another batch nothing is known; a smaller window takes the newest. */
    Guard *other = NULL, *small = NULL;
    GuardConfig short_window = config;
    short_window.window = 50;
    assert_int_equal(guard_create(&config, 64, 256, &other), STATUS_OK);
    assert_int_equal(guard_create(&short_window, 64, 128, &small), STATUS_OK);
    assert_false(guard_restore(other, &saved));
    assert_int_equal(guard_state(other).loss_count, 0);
    assert_true(guard_restore(small, &saved));
    assert_int_equal(guard_state(small).loss_count, 50);
    assert_memory_equal(guard_state(small).loss, saved.loss + 150, 50 * sizeof(double));
    guard_free(other);
    guard_free(small);
    guard_free(a);
    guard_free(b);
    guard_state_free(&saved);
    json_free(doc);
    strbuf_free(&text);
}

static void refuses(const char *text)
{
    JsonDoc *doc = NULL;
    GuardState state = {0};
    assert_int_equal(json_parse(text, strlen(text), strlen(text), &doc), STATUS_OK);
    assert_int_equal(guard_state_read("there/state.json", json_root(doc), &state), ERR_FORMAT);
    assert_non_null(strstr(status_message(), "there/state.json"));
    assert_null(state.loss);
    json_free(doc);
}

static void test_damaged_states_are_refused(void **state)
{
    GuardState empty;
    StrBuf many = {0};
    assert_int_equal(guard_state_read("x", NULL, &empty), STATUS_OK);
    assert_int_equal(empty.loss_count, 0);
    refuses("{\"resolution\": -1, \"global_batch\": 1, \"in_a_row\": 0, \"loss\": [], \"grad_norm\": []}");
    refuses("{\"resolution\": 1, \"global_batch\": 1, \"in_a_row\": 0, \"loss\": 3, \"grad_norm\": []}");
    refuses("{\"resolution\": 1, \"global_batch\": 1, \"in_a_row\": 0, \"loss\": [NaN], \"grad_norm\": []}");
    refuses("{\"resolution\": 1, \"global_batch\": 1, \"in_a_row\": 0, \"loss\": [1.0], \"grad_norm\": [\"x\"]}");
    assert_int_equal(strbuf_printf(&many, "{\"resolution\": 1, \"global_batch\": 1, \"in_a_row\": 0, \"loss\": [1"),
                     STATUS_OK);
    for (int i = 0; i < GUARD_WINDOW_MOST; i++) assert_int_equal(strbuf_printf(&many, ",1"), STATUS_OK);
    assert_int_equal(strbuf_printf(&many, "], \"grad_norm\": []}"), STATUS_OK);
    refuses(many.data);
    strbuf_free(&many);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_real_run),
        cmocka_unit_test(test_history_is_that_of_sorted_windows),
        cmocka_unit_test(test_a_spike_stands_out_and_leaves_no_trace),
        cmocka_unit_test(test_a_lasting_change_becomes_usual),
        cmocka_unit_test(test_what_is_no_number),
        cmocka_unit_test(test_settings),
        cmocka_unit_test(test_state_goes_on_to_the_bit),
        cmocka_unit_test(test_damaged_states_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
