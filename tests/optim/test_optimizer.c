/* AdamW + OneCycle + clipping + EMA against PyTorch, and what must not depend on threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <math.h>
#include <string.h>
#include <cmocka.h>

#include "base/arena.h"
#include "optim/adamw.h"
#include "optim/grad_norm.h"
#include "optim/optimizer.h"
#include "../goldens/optim_goldens.h"

typedef struct Toy {
    ParamTable *table;
    ParamStore store;
    Optimizer *optimizer;
    int64_t count;
} Toy;

static OptimConfig article(void)
{
    return (OptimConfig){.max_lr = 1e-2,
                         .pct_start = 0.25,
                         .div_factor = 25,
                         .final_div_factor = 1e4,
                         .cycle_momentum = true,
                         .base_momentum = 0.85,
                         .max_momentum = 0.95,
                         .beta1 = 0.9,
                         .beta2 = 0.999,
                         .eps = 1e-8,
                         .weight_decay = 0.01,
                         .clip_norm = 1,
                         .ema_decay = 0.9999,
                         .ema_warmup = true};
}

/* One parameter of `count` elements with weights cos(i). */
static Toy toy_open(const OptimConfig *config, int64_t total, int64_t count, int threads)
{
    Toy toy = {.count = count};
    Param param = {.name = "w", .shape = SHAPE1(count), .trainable = true, .count = count};
    int32_t index = -1;
    assert_int_equal(param_table_create(&toy.table), STATUS_OK);
    assert_int_equal(param_table_add(toy.table, &param, &index), STATUS_OK);
    assert_int_equal(param_table_layout(toy.table, NULL, 0), STATUS_OK);
    assert_int_equal(param_store_create(toy.table, true, &toy.store), STATUS_OK);
    for (int64_t i = 0; i < count; i++) toy.store.weights[i] = (float)cos((double)i);
    assert_int_equal(optimizer_create(config, total, &toy.store, NULL, threads, NULL, &toy.optimizer), STATUS_OK);
    return toy;
}

static void toy_close(Toy *toy)
{
    optimizer_free(toy->optimizer);
    param_store_free(&toy->store);
    param_table_free(toy->table);
}

/* The gradient of make_optim_goldens.py, times `times` (what grad_scale = 1 / times takes back). */
static void toy_grads(Toy *toy, int step, double times)
{
    for (int64_t i = 0; i < toy->count; i++) {
        double a = 0.1 + (double)(i % 7) / 5, b = sin(3.0 * (double)i);
        double g = a * (toy->store.weights[i] - b) + 0.5 * sin(0.37 * step + (double)i);
        toy->store.grads[i] = (float)(times * g);
    }
}

static OptimizerReport toy_step(Toy *toy, int step, double scale)
{
    OptimizerReport report;
    assert_int_equal(optimizer_step(toy->optimizer, step, scale, &report), STATUS_OK);
    return report;
}

static double relative_l2(const float *ours, const double *theirs, int count)
{
    double difference = 0, norm = 0;
    for (int i = 0; i < count; i++) {
        difference += (ours[i] - theirs[i]) * (ours[i] - theirs[i]);
        norm += theirs[i] * theirs[i];
    }
    return sqrt(difference / norm);
}

static void test_a_thousand_steps_are_pytorchs(void **state)
{
    double worst = 0;
    for (size_t i = 0; i < sizeof(GOLDEN_TOYS) / sizeof(GOLDEN_TOYS[0]);) {
        const GoldenToy *first = &GOLDEN_TOYS[i];
        OptimConfig config = article();
        config.max_lr = first->max_lr;
        config.pct_start = first->pct_start;
        config.cycle_momentum = first->cycle;
        config.clip_norm = first->clip;
        config.ema_decay = first->ema_decay;
        config.ema_warmup = first->ema_warmup;
        Toy toy = toy_open(&config, first->total, GOLDEN_COUNT, 1);
        for (int k = 0; k < first->total; k++) {
            toy_grads(&toy, k, 4);
            OptimizerReport report = toy_step(&toy, k, 0.25);
            const GoldenToy *golden = &GOLDEN_TOYS[i];
            if (k + 1 != golden->step) continue;
            double weights = relative_l2(toy.store.weights, golden->weights, GOLDEN_COUNT);
            double ema = relative_l2(optimizer_ema(toy.optimizer), golden->ema, GOLDEN_COUNT);
            double norm = fabs(report.grad_norm / golden->norm - 1);
            if (weights > worst) worst = weights;
            if (weights > 1e-5 || ema > 1e-5 || norm > 1e-5) {
                fail_msg("after %d of %d steps: weights differ by %g, ema by %g, norm by %g", golden->step,
                         first->total, weights, ema, norm);
            }
            i++;
            if (golden->step == first->total) break;
        }
        toy_close(&toy);
    }
    print_message("largest relative difference of the weights: %.2g\n", worst);
}

#define MANY 100003

static void test_threads_do_not_change_a_bit(void **state)
{
    OptimConfig config = article();
    Toy one = toy_open(&config, 10, MANY, 1), two = toy_open(&config, 10, MANY, 2),
        five = toy_open(&config, 10, MANY, 5);
    Toy *toys[] = {&one, &two, &five};
    OptimizerReport reports[3];
    for (int k = 0; k < 5; k++) {
        for (int i = 0; i < 3; i++) {
            toy_grads(toys[i], k, 1);
            reports[i] = toy_step(toys[i], k, 1);
        }
    }
    for (int i = 1; i < 3; i++) {
        size_t bytes = MANY * sizeof(float);
        assert_memory_equal(one.store.weights, toys[i]->store.weights, bytes);
        assert_memory_equal(optimizer_m(one.optimizer), optimizer_m(toys[i]->optimizer), bytes);
        assert_memory_equal(optimizer_v(one.optimizer), optimizer_v(toys[i]->optimizer), bytes);
        assert_memory_equal(optimizer_ema(one.optimizer), optimizer_ema(toys[i]->optimizer), bytes);
        assert_true(reports[0].grad_norm == reports[i].grad_norm);
    }
    for (int i = 0; i < 3; i++) toy_close(toys[i]);
}

/* A shard that starts on a block boundary gives the very block sums of the whole. */
static void test_block_sums_are_those_of_shards(void **state)
{
    float *grads = mem_alloc_aligned(MANY * sizeof(float));
    int64_t blocks = update_norm_block_count(MANY), split = 11;
    assert_int_equal(blocks, MANY / 4096 + 1);
    double *whole = calloc((size_t)blocks, sizeof(double)), *parts = calloc((size_t)blocks, sizeof(double));
    for (int i = 0; i < MANY; i++) grads[i] = (float)(sin(1.7 * i) * exp(8 * cos(0.3 * i)));
    grad_norm_blocks(grads, MANY, 2, whole);
    grad_norm_blocks(grads, split * UPDATE_NORM_BLOCK, 3, parts);
    grad_norm_blocks(grads + split * UPDATE_NORM_BLOCK, MANY - split * UPDATE_NORM_BLOCK, 1, parts + split);
    assert_memory_equal(whole, parts, (size_t)blocks * sizeof(double));
    long double exact = 0;
    for (int i = 0; i < MANY; i++) exact += (long double)grads[i] * grads[i];
    assert_true(fabs(grad_norm_sum(whole, blocks) / (double)exact - 1) < 1e-13);
    assert_int_equal(update_norm_block_count(0), 0);
    assert_true(grad_norm_sum(whole, 0) == 0);
    free(whole);
    free(parts);
    mem_free_aligned(grads);
}

static void test_clipping(void **state)
{
    assert_true(grad_clip_factor(123, 0) == 1);
    assert_true(grad_clip_factor(0.5, 1) == 1);
    assert_true(grad_clip_factor(0, 1) == 1);
    assert_true(fabs(grad_clip_factor(4, 1) - 0.25) < 1e-6);

    /* Clipping by c equals giving gradients that are c times as large. */
    OptimConfig clipped = article(), off = article();
    clipped.clip_norm = 0.5;
    off.clip_norm = 0;
    Toy a = toy_open(&clipped, 10, 1000, 1), b = toy_open(&off, 10, 1000, 1);
    toy_grads(&a, 0, 1);
    toy_grads(&b, 0, 1);
    OptimizerReport report = toy_step(&a, 0, 1);
    assert_true(report.grad_norm > 1 && fabs(report.clip * report.grad_norm - 0.5) < 1e-5);
    assert_true(toy_step(&b, 0, report.clip).clip == 1);
    assert_memory_equal(a.store.weights, b.store.weights, 1000 * sizeof(float));
    toy_close(&a);
    toy_close(&b);
}

static void test_a_bad_gradient_changes_nothing(void **state)
{
    const float bad[] = {NAN, INFINITY, -INFINITY};
    OptimConfig config = article();
    for (int i = 0; i < 3; i++) {
        Toy a = toy_open(&config, 10, MANY, 2), b = toy_open(&config, 10, MANY, 2);
        toy_grads(&a, 0, 1);
        toy_grads(&b, 0, 1);
        toy_step(&a, 0, 1);
        toy_step(&b, 0, 1);
        a.store.grads[MANY - 1 - i * 7] = bad[i];
        OptimizerReport report = toy_step(&a, 1, 1);
        assert_true(report.skipped && !isfinite(report.grad_norm));
        assert_memory_equal(a.store.weights, b.store.weights, MANY * sizeof(float));
        assert_memory_equal(optimizer_m(a.optimizer), optimizer_m(b.optimizer), MANY * sizeof(float));
        assert_memory_equal(optimizer_v(a.optimizer), optimizer_v(b.optimizer), MANY * sizeof(float));
        assert_memory_equal(optimizer_ema(a.optimizer), optimizer_ema(b.optimizer), MANY * sizeof(float));
        assert_int_equal(optimizer_state(a.optimizer).t, 1);
        assert_int_equal(optimizer_state(a.optimizer).skipped, 1);

        /* It goes on as if that step had not been, but with the next values of the schedule. */
        toy_grads(&a, 2, 1);
        toy_grads(&b, 2, 1);
        OptimizerReport next = toy_step(&a, 2, 1), same = toy_step(&b, 2, 1);
        assert_true(!next.skipped && next.lr == same.lr && next.lr != report.lr);
        assert_memory_equal(a.store.weights, b.store.weights, MANY * sizeof(float));
        toy_close(&a);
        toy_close(&b);
    }
}

static void test_state_carries_over(void **state)
{
    OptimConfig config = article();
    Toy a = toy_open(&config, 20, 5000, 1), b = toy_open(&config, 20, 5000, 1);
    size_t bytes = 5000 * sizeof(float);
    for (int k = 0; k < 7; k++) {
        toy_grads(&a, k, 1);
        toy_step(&a, k, 1);
    }
    assert_true(optimizer_elements(a.optimizer) >= 5000);
    memcpy(b.store.weights, a.store.weights, bytes);
    memcpy(optimizer_m(b.optimizer), optimizer_m(a.optimizer), bytes);
    memcpy(optimizer_v(b.optimizer), optimizer_v(a.optimizer), bytes);
    memcpy(optimizer_ema(b.optimizer), optimizer_ema(a.optimizer), bytes);
    optimizer_set_state(b.optimizer, optimizer_state(a.optimizer));
    for (int k = 7; k < 14; k++) {
        toy_grads(&a, k, 1);
        toy_grads(&b, k, 1);
        toy_step(&a, k, 1);
        toy_step(&b, k, 1);
    }
    assert_memory_equal(a.store.weights, b.store.weights, bytes);
    assert_memory_equal(optimizer_ema(a.optimizer), optimizer_ema(b.optimizer), bytes);
    assert_int_equal(optimizer_state(b.optimizer).t, 14);
    toy_close(&a);
    toy_close(&b);
}

static void test_steps_do_not_allocate(void **state)
{
    OptimConfig config = article();
    Toy toy = toy_open(&config, 10, 5000, 2);
    toy_grads(&toy, 0, 1);
    int64_t before = mem_allocation_count();
    for (int k = 0; k < 3; k++) toy_step(&toy, k, 1);
    assert_int_equal(mem_allocation_count(), before);
    toy_close(&toy);
}

static void test_without_ema(void **state)
{
    OptimConfig config = article(), with = article();
    config.ema_decay = 0;
    Toy a = toy_open(&config, 10, 333, 1), b = toy_open(&with, 10, 333, 1);
    assert_null(optimizer_ema(a.optimizer));
    assert_int_equal(optimizer_restart_ema(a.optimizer), STATUS_OK);
    for (int k = 0; k < 3; k++) {
        toy_grads(&a, k, 1);
        toy_grads(&b, k, 1);
        toy_step(&a, k, 1);
        toy_step(&b, k, 1);
    }
    assert_memory_equal(a.store.weights, b.store.weights, 333 * sizeof(float));
    assert_int_equal(optimizer_bytes(&with, 333, 1) - optimizer_bytes(&config, 333, 1), 333 * 4);
    toy_close(&a);
    toy_close(&b);
}

static void test_ema_starts_at_the_weights(void **state)
{
    OptimConfig config = article();
    Toy toy = toy_open(&config, 10, 100, 1);
    assert_memory_equal(optimizer_ema(toy.optimizer), toy.store.weights, 100 * sizeof(float));
    for (int i = 0; i < 100; i++) toy.store.weights[i] = (float)i;
    assert_int_equal(optimizer_restart_ema(toy.optimizer), STATUS_OK);
    assert_memory_equal(optimizer_ema(toy.optimizer), toy.store.weights, 100 * sizeof(float));
    toy_close(&toy);
}

static void test_impossible_requests_are_refused(void **state)
{
    OptimConfig config = article();
    Toy toy = toy_open(&config, 10, 100, 1);
    Optimizer *optimizer = NULL;
    OptimizerReport report;
    ParamStore without = toy.store;
    without.grads = NULL;
    assert_int_equal(optimizer_create(&config, 0, &toy.store, NULL, 1, NULL, &optimizer), ERR_CONFIG);
    assert_int_equal(optimizer_create(&config, 10, &toy.store, NULL, 0, NULL, &optimizer), ERR_INTERNAL);
    assert_int_equal(optimizer_create(&config, 10, &without, NULL, 1, NULL, &optimizer), ERR_INTERNAL);
    assert_int_equal(optimizer_step(toy.optimizer, 0, NAN, &report), ERR_INTERNAL);
    assert_null(optimizer);
    optimizer_free(NULL);
    toy_close(&toy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_thousand_steps_are_pytorchs),  cmocka_unit_test(test_threads_do_not_change_a_bit),
        cmocka_unit_test(test_block_sums_are_those_of_shards), cmocka_unit_test(test_clipping),
        cmocka_unit_test(test_a_bad_gradient_changes_nothing), cmocka_unit_test(test_state_carries_over),
        cmocka_unit_test(test_steps_do_not_allocate),          cmocka_unit_test(test_without_ema),
        cmocka_unit_test(test_ema_starts_at_the_weights),      cmocka_unit_test(test_impossible_requests_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
