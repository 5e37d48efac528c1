/* Parameter tables and stores: names, places, file layouts, first values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/arena.h"
#include "base/hash.h"
#include "base/random.h"
#include "engine/graph.h"
#include "engine/ops.h"
#include "engine/params.h"

static int32_t add(ParamTable *table, const char *name, Shape shape, ParamLayout layout, bool trainable)
{
    int32_t index = -1;
    const Param param = {
        .name = name, .shape = shape, .layout = layout, .init = PARAM_INIT_ZERO, .trainable = trainable};
    assert_int_equal(param_table_add(table, &param, &index), STATUS_OK);
    return index;
}

static void names_are_found_again(void **state)
{
    ParamTable *table;
    char name[64];
    assert_int_equal(param_table_create(&table), STATUS_OK);
    assert_int_equal(param_table_find(table, "absent"), -1);
    for (int32_t i = 0; i < 3000; i++) {
        snprintf(name, sizeof name, "input_blocks.%d.0.weight", i);
        assert_int_equal(add(table, name, SHAPE1(i + 1), PARAM_PLAIN, i % 3 != 0), i);
    }
    memset(name, 'x', sizeof name - 1); /* the table has copies of its own */
    assert_int_equal(param_table_size(table), 3000);
    assert_int_equal(param_table_find(table, "input_blocks.1234.0.weight"), 1234);
    assert_int_equal(param_table_find(table, "input_blocks.3000.0.weight"), -1);
    assert_int_equal(param_table_get(table, 1234)->count, 1235);
    assert_int_equal(add(table, "input_blocks.7.0.weight", SHAPE1(8), PARAM_PLAIN, true), 7);
    param_table_free(table);
    param_table_free(NULL);
}

static void assert_refused(ParamTable *table, Param param, const char *words)
{
    int32_t index;
    param.trainable = true;
    assert_int_not_equal(param_table_add(table, &param, &index), STATUS_OK);
    assert_non_null(strstr(status_message(), words));
}

static void contradictions_are_refused(void **state)
{
    ParamTable *table;
    ParamStore store;
    const int32_t twice[] = {0, 0}, frozen[] = {1}, absent[] = {9};
    assert_int_equal(param_table_create(&table), STATUS_OK);
    add(table, "a", SHAPE2(3, 5), PARAM_PLAIN, true);
    add(table, "b", SHAPE2(3, 5), PARAM_PLAIN, false);
    assert_refused(table, (Param){.name = "a", .shape = SHAPE2(5, 3)}, "3x5");
    assert_refused(table, (Param){.name = "a", .shape = SHAPE2(3, 5), .layout = PARAM_CONV1D}, "a");
    assert_refused(table, (Param){.name = "c", .shape = SHAPE2(0, 5)}, "0x5");
    assert_refused(table, (Param){.name = "c", .shape = SHAPE4(1 << 30, 1 << 30, 1 << 30, 1 << 30)}, "c");
    assert_refused(table, (Param){.name = "c", .shape = SHAPE2(3, 5), .layout = PARAM_CONV}, "O,KH,KW,C");
    assert_refused(table, (Param){.name = "", .shape = SHAPE1(1)}, "name");
    assert_int_equal(param_store_create(table, true, &store), ERR_INTERNAL); /* not laid out */
    assert_int_equal(param_table_layout(table, twice, 2), ERR_INTERNAL);
    assert_int_equal(param_table_layout(table, frozen, 1), ERR_INTERNAL);
    assert_int_equal(param_table_layout(table, absent, 1), ERR_INTERNAL);
    assert_false(param_table_is_laid_out(table));
    assert_int_equal(param_table_layout(table, NULL, 0), STATUS_OK);
    assert_refused(table, (Param){.name = "c", .shape = SHAPE1(1)}, "laid out");
    add(table, "a", SHAPE2(3, 5), PARAM_PLAIN, true); /* known names are welcome */
    param_table_free(table);
}

static void layout_follows_the_order_given(void **state)
{
    ParamTable *table;
    ParamStore store;
    const int32_t order[] = {3, 0};
    assert_int_equal(param_table_create(&table), STATUS_OK);
    add(table, "a", SHAPE2(3, 7), PARAM_PLAIN, true);  /* 21 -> 32 */
    add(table, "b", SHAPE1(17), PARAM_PLAIN, false);   /* 17 -> 32 */
    add(table, "c", SHAPE1(16), PARAM_PLAIN, true);    /* 16 */
    add(table, "d", SHAPE1(1), PARAM_PLAIN, true);     /* 1 -> 16 */
    add(table, "e", SHAPE2(2, 2), PARAM_PLAIN, false); /* 4 -> 16 */
    assert_int_equal(param_table_layout(table, order, 2), STATUS_OK);
    assert_int_equal(param_table_layout(table, NULL, 0), STATUS_OK); /* no-op */
    assert_int_equal(param_table_get(table, 3)->offset, 0);
    assert_int_equal(param_table_get(table, 0)->offset, 16);
    assert_int_equal(param_table_get(table, 2)->offset, 48);
    assert_int_equal(param_table_get(table, 1)->offset, 0);
    assert_int_equal(param_table_get(table, 4)->offset, 32);
    assert_int_equal(param_table_trainable_elements(table), 64);
    assert_int_equal(param_table_frozen_elements(table), 48);
    assert_int_equal(param_table_trainable_parameters(table), 38);
    assert_int_equal(param_store_create(table, true, &store), STATUS_OK);
    for (int32_t i = 0; i < 5; i++) {
        assert_int_equal((uintptr_t)param_store_weight(&store, i) % 64, 0);
        if (param_table_get(table, i)->trainable) {
            assert_ptr_equal(param_store_weight(&store, i), store.weights + param_table_get(table, i)->offset);
            assert_ptr_equal(param_store_grad(&store, i), store.grads + param_table_get(table, i)->offset);
        } else {
            assert_ptr_equal(param_store_weight(&store, i), store.frozen + param_table_get(table, i)->offset);
            assert_null(param_store_grad(&store, i));
        }
    }
    for (int64_t e = 0; e < 64; e++) assert_true(store.weights[e] == 0 && store.grads[e] == 0);
    param_store_free(&store);
    assert_int_equal(param_store_create(table, false, &store), STATUS_OK);
    assert_null(store.grads);
    assert_null(param_store_grad(&store, 0));
    param_store_free(&store);
    param_table_free(table);
}

static void convolutions_change_layout_for_files(void **state)
{
    enum { O = 3, KH = 2, KW = 4, CH = 5, COUNT = O * KH * KW * CH };
    ParamTable *table;
    float engine[COUNT], file[COUNT], back[COUNT];
    assert_int_equal(param_table_create(&table), STATUS_OK);
    const Param *conv = param_table_get(table, add(table, "conv", SHAPE4(O, KH, KW, CH), PARAM_CONV, true));
    const Param *conv1d = param_table_get(table, add(table, "conv1d", SHAPE2(6, 4), PARAM_CONV1D, true));
    const Param *plain = param_table_get(table, add(table, "plain", SHAPE2(6, 4), PARAM_PLAIN, true));
    const Shape conv_shape = param_file_shape(conv), conv1d_shape = param_file_shape(conv1d);
    const Shape plain_shape = param_file_shape(plain);
    assert_true(shape_equal(&conv_shape, &SHAPE4(O, CH, KH, KW)));
    assert_true(shape_equal(&conv1d_shape, &SHAPE3(6, 4, 1)));
    assert_true(shape_equal(&plain_shape, &SHAPE2(6, 4)));
    for (int o = 0, e = 0; o < O; o++) {
        for (int h = 0; h < KH; h++) {
            for (int w = 0; w < KW; w++) {
                for (int c = 0; c < CH; c++) engine[e++] = (float)(1000 * o + 100 * h + 10 * w + c);
            }
        }
    }
    param_to_file(conv, engine, file);
    for (int o = 0, e = 0; o < O; o++) {
        for (int c = 0; c < CH; c++) {
            for (int h = 0; h < KH; h++) {
                for (int w = 0; w < KW; w++) assert_true(file[e++] == (float)(1000 * o + 100 * h + 10 * w + c));
            }
        }
    }
    param_from_file(conv, file, back);
    assert_memory_equal(engine, back, sizeof engine);
    param_to_file(conv1d, engine, file);
    assert_memory_equal(engine, file, 24 * sizeof *engine);
    param_from_file(plain, engine, file);
    assert_memory_equal(engine, file, 24 * sizeof *engine);
    param_table_free(table);
}

typedef struct Moments {
    double mean, deviation, least, most;
} Moments;

static Moments moments(const float *w, int64_t count)
{
    Moments m = {0, 0, INFINITY, -INFINITY};
    for (int64_t i = 0; i < count; i++) {
        m.mean += (double)w[i] / (double)count;
        m.least = fmin(m.least, (double)w[i]);
        m.most = fmax(m.most, (double)w[i]);
    }
    for (int64_t i = 0; i < count; i++) m.deviation += pow((double)w[i] - m.mean, 2) / (double)count;
    m.deviation = sqrt(m.deviation);
    return m;
}

static void first_values_follow_their_rules(void **state)
{
    ParamTable *table;
    ParamStore a, b;
    int32_t index;
    const int64_t count = 40001;
    const Param params[] = {
        {.name = "zero", .init = PARAM_INIT_ZERO, .trainable = true},
        {.name = "one", .init = PARAM_INIT_ONE, .trainable = true},
        {.name = "uniform", .init = PARAM_INIT_UNIFORM, .init_scale = 0.25f, .trainable = true},
        {.name = "uniform2", .init = PARAM_INIT_UNIFORM, .init_scale = 0.25f, .trainable = false},
        {.name = "normal", .init = PARAM_INIT_NORMAL, .init_scale = 0.5f, .trainable = true},
    };
    assert_int_equal(param_table_create(&table), STATUS_OK);
    for (int i = 0; i < 5; i++) {
        Param p = params[i];
        p.shape = SHAPE1(count);
        assert_int_equal(param_table_add(table, &p, &index), STATUS_OK);
    }
    assert_int_equal(param_table_layout(table, NULL, 0), STATUS_OK);
    assert_int_equal(param_store_create(table, true, &a), STATUS_OK);
    assert_int_equal(param_store_create(table, true, &b), STATUS_OK);
    param_store_init(&a, 5);
    Moments m = moments(param_store_weight(&a, 0), count);
    assert_true(m.least == 0 && m.most == 0);
    m = moments(param_store_weight(&a, 1), count);
    assert_true(m.least == 1 && m.most == 1);
    for (int32_t i = 2; i <= 3; i++) {
        m = moments(param_store_weight(&a, i), count);
        assert_true(fabs(m.mean) < 0.003 && fabs(m.deviation - 0.25 / sqrt(3)) < 0.002);
        assert_true(m.least >= -0.25 && m.least < -0.2499 && m.most <= 0.25 && m.most > 0.2499);
    }
    m = moments(param_store_weight(&a, 4), count);
    assert_true(fabs(m.mean) < 0.01 && fabs(m.deviation - 0.5) < 0.01 && m.most > 1.5 && m.most < 3);
    assert_memory_not_equal(param_store_weight(&a, 2), param_store_weight(&a, 3), 64); /* the name tells them apart */
    param_store_init(&b, 5);
    assert_memory_equal(a.weights, b.weights, (size_t)param_table_trainable_elements(table) * sizeof(float));
    assert_memory_equal(a.frozen, b.frozen, (size_t)param_table_frozen_elements(table) * sizeof(float));
    param_store_init(&b, 6);
    assert_memory_not_equal(param_store_weight(&a, 4), param_store_weight(&b, 4), 64);
    param_store_free(&a);
    param_store_free(&b);
    param_table_free(table);
}

/* Wide and tall matrices, larger than what is drawn at once. */
static void identities_are_ones_on_the_diagonal(void **state)
{
    const Shape shapes[] = {SHAPE2(700, 900), SHAPE2(900, 700), SHAPE2(3, 3)};
    (void)state;
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        ParamTable *table;
        ParamStore store;
        int32_t index;
        const Param p = {.name = "w", .shape = shapes[s], .init = PARAM_INIT_IDENTITY, .init_scale = 0.5f};
        assert_int_equal(param_table_create(&table), STATUS_OK);
        assert_int_equal(param_table_add(table, &p, &index), STATUS_OK);
        assert_int_equal(param_table_layout(table, NULL, 0), STATUS_OK);
        assert_int_equal(param_store_create(table, false, &store), STATUS_OK);
        param_store_init(&store, 1);
        const float *w = param_store_weight(&store, index);
        for (int64_t o = 0; o < shapes[s].dim[0]; o++)
            for (int64_t c = 0; c < shapes[s].dim[1]; c++)
                assert_true(w[o * shapes[s].dim[1] + c] == (o == c ? 0.5f : 0.0f));
        param_store_free(&store);
        param_table_free(table);
    }
}

/* Whoever draws an element, it is the one that its place in the parameter says: several pieces and threads here. */
static void first_values_depend_on_their_place_alone(void **state)
{
    enum { COUNT = 1500007 };
    ParamTable *table;
    ParamStore store;
    const char *const threads[] = {"1", "3", "7"};
    const uint64_t uniform_key = hash_string64("uniform"), normal_key = hash_string64("normal");
    int32_t uniform, normal;
    assert_int_equal(param_table_create(&table), STATUS_OK);
    Param p = {.name = "uniform", .shape = SHAPE1(COUNT), .init = PARAM_INIT_UNIFORM, .init_scale = 0.3f};
    assert_int_equal(param_table_add(table, &p, &uniform), STATUS_OK);
    p = (Param){
        .name = "normal", .shape = SHAPE1(COUNT), .init = PARAM_INIT_NORMAL, .init_scale = 0.3f, .trainable = true};
    assert_int_equal(param_table_add(table, &p, &normal), STATUS_OK);
    assert_int_equal(param_table_layout(table, NULL, 0), STATUS_OK);
    const char *told = getenv("OMP_NUM_THREADS");
    char *before = told ? strdup(told) : NULL;
    for (size_t k = 0; k < sizeof threads / sizeof *threads; k++) {
        assert_int_equal(setenv("OMP_NUM_THREADS", threads[k], 1), 0);
        assert_int_equal(param_store_create(table, true, &store), STATUS_OK);
        param_store_init(&store, 12);
        const float *u = param_store_weight(&store, uniform), *w = param_store_weight(&store, normal);
        for (int64_t e = 0; e < COUNT; e++) {
            float drawn = random_uniform(12, RANDOM_INIT, uniform_key, (uint64_t)e);
            assert_true(u[e] == (2 * drawn - 1) * 0.3f);
            if (e % 101 != 0 && e < COUNT - 5) continue; /* one by one is slow */
            random_normal(12, RANDOM_INIT, normal_key, (uint64_t)e, &drawn, 1);
            assert_true(w[e] == drawn * 0.3f);
        }
        param_store_free(&store);
    }
    if (before) {
        assert_int_equal(setenv("OMP_NUM_THREADS", before, 1), 0);
    } else {
        assert_int_equal(unsetenv("OMP_NUM_THREADS"), 0);
    }
    free(before);
    param_table_free(table);
}

/* Pages of [from, from + bytes) that are in memory. */
static int64_t resident_pages(const void *from, size_t bytes)
{
    static unsigned char pages[4096];
    int64_t count = 0;
    assert_true((bytes + 4095) / 4096 <= sizeof pages);
    union {
        const void *in;
        void *out;
    } at = {from};
    assert_int_equal(mincore(at.out, bytes, pages), 0);
    for (size_t i = 0; i < (bytes + 4095) / 4096; i++) count += pages[i] & 1;
    return count;
}

static void bound_parameters_are_read_where_they_are(void **state)
{
    enum { COUNT = 1 << 22 }; /* 16 MB */
    ParamTable *table;
    ParamStore store, plain;
    float *values = mem_alloc_aligned((COUNT + 1) * sizeof *values);
    assert_non_null(values);
    assert_int_equal(param_table_create(&table), STATUS_OK);
    const int32_t trained = add(table, "trained", SHAPE1(5), PARAM_PLAIN, true);
    const int32_t free_one = add(table, "free", SHAPE1(5), PARAM_PLAIN, false);
    int32_t large;
    const Param p = {.name = "large", .shape = SHAPE1(COUNT), .init = PARAM_INIT_NORMAL, .init_scale = 1};
    assert_int_equal(param_table_add(table, &p, &large), STATUS_OK);
    assert_int_equal(param_table_layout(table, NULL, 0), STATUS_OK);
    assert_int_equal(param_store_create(table, true, &store), STATUS_OK);
    assert_int_equal(param_store_create(table, true, &plain), STATUS_OK);
    const float *own = param_store_weight(&store, large);

    assert_int_equal(param_store_bind(&store, trained, values), ERR_INTERNAL);
    assert_non_null(strstr(status_message(), "trained"));
    assert_int_equal(param_store_bind(&store, large, (const float *)(const void *)((char *)values + 2)), ERR_INTERNAL);
    assert_int_equal(param_store_bind(&store, large, NULL), ERR_INTERNAL);
    assert_int_equal(param_store_bind(&store, 3, values), ERR_INTERNAL);
    assert_int_equal(param_store_bind(&store, -1, values), ERR_INTERNAL);
    assert_false(param_store_is_bound(&store, large));
    assert_int_equal(param_store_bind(&store, large, values + 1), STATUS_OK); /* 4 bytes past a cache line */
    assert_true(param_store_is_bound(&store, large));
    assert_ptr_equal(param_store_weight(&store, large), values + 1);
    assert_ptr_equal(param_store_weight(&store, free_one), store.frozen);

    param_store_init(&store, 5);
    param_store_init(&plain, 5);
    for (int64_t i = 0; i <= COUNT; i++) assert_true(values[i] == 0);
    assert_memory_equal(param_store_weight(&store, trained), param_store_weight(&plain, trained), 5 * sizeof(float));
    /* The first page holds the parameter before it, too; a huge page may come with it. */
    const char *beyond = (const char *)own + ((size_t)2 << 20);
    const char *page = beyond - (uintptr_t)beyond % 4096;
    assert_int_equal(resident_pages(page, (COUNT - (1 << 20)) * sizeof(float)), 0);
    page = (const char *)(void *)param_store_weight(&plain, large) + ((size_t)2 << 20);
    assert_true(resident_pages(page - (uintptr_t)page % 4096, (COUNT - (1 << 20)) * sizeof(float)) > 0);
    param_store_free(&plain);
    param_store_free(&store);
    param_table_free(table);
    mem_free_aligned(values);
}

/* A net of one convolution for pictures of this side. */
static Graph *small_net(ParamTable *table, int64_t side)
{
    Graph *g;
    assert_int_equal(graph_create(table, DTYPE_F32, &g), STATUS_OK);
    const TensorId x = graph_input(g, "x", DTYPE_F32, SHAPE4(1, side, side, 3), false);
    const TensorId w = graph_param(
        g, &(Param){.name = "conv.weight", .shape = SHAPE4(4, 3, 3, 3), .layout = PARAM_CONV, .trainable = true});
    const TensorId b = graph_param(g, &(Param){.name = "conv.bias", .shape = SHAPE1(4), .trainable = true});
    op_conv2d(g, x, w, b, TENSOR_NONE, conv_same(3));
    assert_int_equal(graph_status(g), STATUS_OK);
    return g;
}

static void graphs_share_a_table(void **state)
{
    ParamTable *table;
    assert_int_equal(param_table_create(&table), STATUS_OK);
    Graph *small = small_net(table, 4);
    assert_int_equal(param_table_layout(table, NULL, 0), STATUS_OK);
    Graph *large = small_net(table, 8); /* adds nothing, so the layout stands */
    assert_int_equal(param_table_size(table), 2);
    assert_int_equal(graph_tensor(small, 1)->param, graph_tensor(large, 1)->param);
    graph_free(small);
    graph_free(large);
    param_table_free(table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_found_again),
        cmocka_unit_test(contradictions_are_refused),
        cmocka_unit_test(layout_follows_the_order_given),
        cmocka_unit_test(convolutions_change_layout_for_files),
        cmocka_unit_test(first_values_follow_their_rules),
        cmocka_unit_test(identities_are_ones_on_the_diagonal),
        cmocka_unit_test(first_values_depend_on_their_place_alone),
        cmocka_unit_test(bound_parameters_are_read_where_they_are),
        cmocka_unit_test(graphs_share_a_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
