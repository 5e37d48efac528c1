/* Groups of parameters: AdamW's against PyTorch's param groups, what is held keeps its bits, resuming, divisions into
 * spans, and what is said about patterns that cannot be right. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <math.h>
#include <string.h>
#include <cmocka.h>

#include "base/arena.h"
#include "optim/optimizer.h"
#include "optim/param_groups.h"
#include "../goldens/param_group_goldens.h"

enum { PARTS = 4 };

static const struct {
    const char *name;
    int64_t count;
} PART[PARTS] = {
    {"input_blocks.0.0.weight", 21}, {"middle.encoder_kv.weight", 37}, {"middle.norm.bias", 5}, {"out.2.weight", 50}};

static OptimGroup GROUPS[] = {{"input_blocks.*", 0, 1}, {"*.encoder_kv.*", 0.1, 20}, {"out.[0-9].weigh?", 3, 0}};

static OptimConfig settings(void)
{
    return (OptimConfig){.max_lr = 1e-2,
                         .pct_start = 0.25,
                         .div_factor = 25,
                         .final_div_factor = 1e4,
                         .cycle_momentum = true,
                         .base_momentum = 0.85,
                         .max_momentum = 0.95,
                         .beta2 = 0.999,
                         .eps = 1e-8,
                         .weight_decay = 0.05,
                         .clip_norm = 0.7,
                         .ema_decay = 0.99,
                         .groups = {GROUPS, sizeof GROUPS / sizeof *GROUPS}};
}

typedef struct Net {
    ParamTable *table;
    ParamStore store;
    Optimizer *optimizer;
    const Param *part[PARTS];
} Net;

static ParamTable *make_table(void)
{
    ParamTable *table = NULL;
    int32_t index;
    assert_int_equal(param_table_create(&table), STATUS_OK);
    for (int k = 0; k < PARTS; k++)
        assert_int_equal(
            param_table_add(table, &(Param){.name = PART[k].name, .shape = SHAPE1(PART[k].count), .trainable = true},
                            &index),
            STATUS_OK);
    return table;
}

/* In the order 3, 1, 0, 2, so that the places are not those of the table. */
static Net net_open(const OptimConfig *config)
{
    static const int32_t order[] = {3, 1, 0, 2};
    Net net = {.table = make_table()};
    assert_int_equal(param_table_layout(net.table, order, PARTS), STATUS_OK);
    assert_int_equal(param_store_create(net.table, true, &net.store), STATUS_OK);
    int64_t at = 0;
    for (int k = 0; k < PARTS; k++) {
        net.part[k] = param_table_get(net.table, k);
        for (int64_t i = 0; i < PART[k].count; i++)
            net.store.weights[net.part[k]->offset + i] = (float)cos((double)(at + i));
        at += PART[k].count;
    }
    assert_int_equal(optimizer_create(config, GROUP_TOTAL, &net.store, NULL, 2, NULL, &net.optimizer), STATUS_OK);
    return net;
}

static void net_close(Net *net)
{
    optimizer_free(net->optimizer);
    param_store_free(&net->store);
    param_table_free(net->table);
}

/* The gradient of make_param_group_goldens.py; none of the first part. */
static OptimizerReport net_step(Net *net, int step)
{
    OptimizerReport report;
    int64_t at = PART[0].count;
    for (int k = 1; k < PARTS; k++) {
        for (int64_t i = 0; i < PART[k].count; i++, at++) {
            const int64_t to = net->part[k]->offset + i;
            const double a = 0.1 + (double)(at % 7) / 5, b = sin(3.0 * (double)at);
            net->store.grads[to] =
                (float)(a * ((double)net->store.weights[to] - b) + 0.5 * sin(0.37 * step + (double)at));
        }
    }
    assert_int_equal(optimizer_step(net->optimizer, step, 1, &report), STATUS_OK);
    return report;
}

/* Of the elements in the order of the parts; each part's largest difference against its largest value. */
static double worst_difference(const Net *net, const float *flat, const double *golden)
{
    double worst = 0;
    int64_t at = 0;
    for (int k = 0; k < PARTS; k++) {
        double difference = 0, largest = 0;
        for (int64_t i = 0; i < PART[k].count; i++, at++) {
            difference = fmax(difference, fabs((double)flat[net->part[k]->offset + i] - golden[at]));
            largest = fmax(largest, fabs(golden[at]));
        }
        worst = fmax(worst, difference / largest);
    }
    return worst;
}

static void test_groups_are_pytorchs(void **state)
{
    const OptimConfig config = settings();
    double worst = 0;
    Net net = net_open(&config);
    int step = 0;
    for (size_t i = 0; i < sizeof GOLDEN_GROUPS / sizeof *GOLDEN_GROUPS; i++) {
        const GoldenGroups *golden = &GOLDEN_GROUPS[i];
        OptimizerReport report = {0};
        for (; step < golden->step; step++) report = net_step(&net, step);
        const double weights = worst_difference(&net, net.store.weights, golden->weights);
        const double ema = worst_difference(&net, optimizer_ema(net.optimizer), golden->ema);
        const double norm = fabs(report.grad_norm / golden->norm - 1);
        worst = fmax(worst, fmax(weights, ema));
        if (weights > 1e-5 || ema > 1e-5 || norm > 1e-5)
            fail_msg("after %d steps: weights differ by %g, averages by %g, norms by %g", step, weights, ema, norm);
    }
    print_message("largest relative difference of weights and averages: %.2g\n", worst);
    net_close(&net);
}

/* Moments that are there from before, too; and the average goes towards the weights. */
static void test_held_bits_stay(void **state)
{
    const OptimConfig config = settings();
    Net net = net_open(&config);
    const int64_t at = net.part[0]->offset, count = PART[0].count;
    float weights[21], m[21], v[21];
    for (int64_t i = 0; i < count; i++) {
        optimizer_m(net.optimizer)[at + i] = (float)sin((double)i);
        optimizer_v(net.optimizer)[at + i] = (float)(1 + i);
        optimizer_ema(net.optimizer)[at + i] = 2;
        net.store.weights[at + i] = i % 2 ? -0.0F : 1e30F; /* bits that arithmetic would change */
    }
    memcpy(weights, net.store.weights + at, sizeof weights);
    memcpy(m, optimizer_m(net.optimizer) + at, sizeof m);
    memcpy(v, optimizer_v(net.optimizer) + at, sizeof v);
    for (int k = 0; k < 5; k++) net_step(&net, k);
    assert_memory_equal(weights, net.store.weights + at, sizeof weights);
    assert_memory_equal(m, optimizer_m(net.optimizer) + at, sizeof m);
    assert_memory_equal(v, optimizer_v(net.optimizer) + at, sizeof v);
    assert_true(fabs((double)optimizer_ema(net.optimizer)[at + 1] - 2 * pow(0.99, 5)) < 1e-6);
    net_close(&net);
}

static void test_groups_that_change_nothing_change_no_bit(void **state)
{
    OptimGroup one = {"*", 1, 1};
    OptimConfig with = settings(), without = settings();
    with.groups = (ConfigList){&one, 1};
    without.groups = (ConfigList){0};
    Net a = net_open(&with), b = net_open(&without);
    const size_t bytes = (size_t)optimizer_elements(a.optimizer) * sizeof(float);
    for (int k = 0; k < 10; k++) {
        net_step(&a, k);
        net_step(&b, k);
    }
    assert_memory_equal(a.store.weights, b.store.weights, bytes);
    assert_memory_equal(optimizer_ema(a.optimizer), optimizer_ema(b.optimizer), bytes);
    net_close(&a);
    net_close(&b);
}

static void test_state_carries_over(void **state)
{
    const OptimConfig config = settings();
    Net a = net_open(&config), b = net_open(&config);
    const size_t bytes = (size_t)optimizer_elements(a.optimizer) * sizeof(float);
    for (int k = 0; k < 7; k++) net_step(&a, k);
    memcpy(b.store.weights, a.store.weights, bytes);
    memcpy(optimizer_m(b.optimizer), optimizer_m(a.optimizer), bytes);
    memcpy(optimizer_v(b.optimizer), optimizer_v(a.optimizer), bytes);
    memcpy(optimizer_ema(b.optimizer), optimizer_ema(a.optimizer), bytes);
    optimizer_set_state(b.optimizer, optimizer_state(a.optimizer));
    for (int k = 7; k < 14; k++) {
        net_step(&a, k);
        net_step(&b, k);
    }
    assert_memory_equal(a.store.weights, b.store.weights, bytes);
    assert_memory_equal(optimizer_ema(a.optimizer), optimizer_ema(b.optimizer), bytes);
    net_close(&a);
    net_close(&b);
}

/* An update is left out above the limit, and where it is refused; the norm is told. */
static void test_limits_of_the_norm(void **state)
{
    const OptimConfig config = settings();
    Net a = net_open(&config), b = net_open(&config);
    const size_t bytes = (size_t)optimizer_elements(a.optimizer) * sizeof(float);
    const double norm = net_step(&a, 0).grad_norm;
    net_step(&b, 0);
    optimizer_limit_norm(a.optimizer, norm / 100);
    OptimizerReport report = net_step(&a, 1);
    assert_int_equal(report.skipped, UPDATE_OVER_LIMIT);
    assert_true(report.grad_norm > norm / 100);
    assert_int_equal(optimizer_state(a.optimizer).skipped, 1);
    assert_int_equal(optimizer_state(a.optimizer).t, 1);
    optimizer_limit_norm(a.optimizer, report.grad_norm); /* not above it */
    assert_int_equal(optimizer_begin_step(a.optimizer, 2, 1), STATUS_OK);
    assert_int_equal(optimizer_refuse_update(a.optimizer), STATUS_OK);
    assert_int_equal(optimizer_queue_update(a.optimizer), STATUS_OK);
    optimizer_end_step(a.optimizer, &report);
    assert_int_equal(report.skipped, UPDATE_OVER_LIMIT);
    assert_memory_equal(a.store.weights, b.store.weights, bytes);
    assert_memory_equal(optimizer_m(a.optimizer), optimizer_m(b.optimizer), bytes);
    assert_memory_equal(optimizer_v(a.optimizer), optimizer_v(b.optimizer), bytes);
    assert_memory_equal(optimizer_ema(a.optimizer), optimizer_ema(b.optimizer), bytes);
    /* A refusal is of one step alone. */
    optimizer_limit_norm(a.optimizer, INFINITY);
    assert_int_equal(net_step(&a, 3).skipped, UPDATE_DONE);
    assert_int_equal(net_step(&b, 3).skipped, UPDATE_DONE);
    assert_memory_equal(a.store.weights, b.store.weights, bytes);
    net_close(&a);
    net_close(&b);
}

/* ---- patterns ---- */

static Status check(const OptimGroup *groups, size_t count)
{
    OptimConfig config = settings();
    union {
        const OptimGroup *in;
        void *out;
    } items = {groups};
    config.groups = (ConfigList){items.out, count};
    ParamTable *table = make_table();
    OptimConfig read;
    Config *file = NULL;
    assert_int_equal(config_load("test.yaml", "{}", &OPTIM_CONFIG_SCHEMA, NULL, 0, &read, &file), STATUS_OK);
    const Status status = param_groups_check(&config, table, file, "optim");
    config_free(file);
    param_table_free(table);
    return status;
}

static void refuses(const OptimGroup *groups, size_t count, const char *key, const char *text)
{
    assert_int_equal(check(groups, count), ERR_CONFIG);
    if (!strstr(status_message(), key) || !strstr(status_message(), text))
        fail_msg("neither \"%s\" nor \"%s\" in: %s", key, text, status_message());
}

static void test_patterns(void **state)
{
    const OptimConfig config = settings();
    assert_int_equal(check(GROUPS, 3), STATUS_OK);
    assert_int_equal(param_group_of(&config, "middle.encoder_kv.weight"), 2);
    assert_int_equal(param_group_of(&config, "out.2.weight"), 3);
    assert_int_equal(param_group_of(&config, "out.2.weight.more"), 0);
    refuses((OptimGroup[]){{"input_block.*", 0, 1}}, 1, "optim.groups[0].match",
            "the nearest names are input_blocks.0.0.weight");
    refuses((OptimGroup[]){{"*.encoder_kw.*", 0, 1}}, 1, "optim.groups[0].match", "middle.encoder_kv.weight");
    refuses((OptimGroup[]){{"out", 0, 1}}, 1, "optim.groups[0].match", "* stands for any text");
    refuses((OptimGroup[]){{"*", 0.5, 1}, {"out.*", 0, 1}}, 2, "optim.groups[1].match", "put this one before");
    refuses((OptimGroup[]){{"*", 0, 1}}, 1, "optim.groups", "nothing would be trained");
    OptimGroup many[UPDATE_GROUPS_MAX];
    for (int k = 0; k < UPDATE_GROUPS_MAX; k++) many[k] = (OptimGroup){"*", 1, 1};
    refuses(many, UPDATE_GROUPS_MAX, "optim.groups", "at most 63");
}

static void test_segments_follow_the_places(void **state)
{
    const OptimConfig config = settings();
    const Net net = net_open(&config);
    UpdateSegment *segments;
    int32_t count;
    assert_int_equal(param_groups_segments(&config, net.table, &segments, &count), STATUS_OK);
    assert_int_equal(count, 4); /* out, encoder_kv, input_blocks, norm: each starts at a multiple of 16 */
    const int64_t ends[] = {64, 112, 144, 160};
    const int32_t groups[] = {3, 2, 1, 0};
    for (int32_t k = 0; k < count; k++) {
        assert_int_equal(segments[k].end, ends[k]);
        assert_int_equal(segments[k].group, groups[k]);
    }
    free(segments);
    Net closing = net;
    net_close(&closing);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_groups_are_pytorchs),
        cmocka_unit_test(test_held_bits_stay),
        cmocka_unit_test(test_groups_that_change_nothing_change_no_bit),
        cmocka_unit_test(test_state_carries_over),
        cmocka_unit_test(test_limits_of_the_norm),
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_segments_follow_the_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
