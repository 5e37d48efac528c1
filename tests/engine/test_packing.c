/* Weights in the kernels' own formats: kept or made in scratch, and from parameters that lie anywhere, with the same
 * bits. One net has every kind of kernel that packs: convolutions (plain and by Winograd), linear layers, forward and
 * gradient. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/bf16.h"
#include "base/random.h"
#include "engine/executor.h"
#include "engine/memory.h"
#include "engine/ops.h"

enum { SIDE = 16, CHANNELS = 32, SAMPLES = 2, LAYERS = 3 };

static TensorId weight(Graph *g, const char *kind, int layer, Shape shape, ParamLayout layout, bool trainable)
{
    char name[64];
    snprintf(name, sizeof name, "%s%d", kind, layer);
    return graph_param(g, &(Param){.name = name,
                                   .shape = shape,
                                   .layout = layout,
                                   .init = PARAM_INIT_UNIFORM,
                                   .init_scale = 0.1f,
                                   .trainable = trainable});
}

typedef struct Net {
    ParamTable *params;
    Graph *graph;
    TensorId x, y, seed;
} Net;

/* A frozen layer, then trained ones, each a segment of its own. */
static Net net_create(Dtype compute, bool recompute)
{
    Net net = {0};
    assert_int_equal(param_table_create(&net.params), STATUS_OK);
    assert_int_equal(graph_create(net.params, compute, &net.graph), STATUS_OK);
    Graph *g = net.graph;
    const Shape picture = SHAPE4(SAMPLES, SIDE, SIDE, CHANNELS), rows = SHAPE2(SAMPLES * SIDE * SIDE, CHANNELS);
    net.x = graph_input(g, "x", compute, picture, true);
    TensorId x = net.x;
    for (int i = 0; i < LAYERS; i++) {
        const bool trainable = i > 0;
        graph_segment_begin(g);
        const TensorId w = weight(g, "conv", i, SHAPE4(CHANNELS, 3, 3, CHANNELS), PARAM_CONV, trainable);
        const TensorId b = weight(g, "conv_bias", i, SHAPE1(CHANNELS), PARAM_PLAIN, trainable);
        TensorId h = op_activation(g, op_conv2d(g, x, w, b, TENSOR_NONE, conv_same(3)), ACT_SILU);
        const TensorId w1 = weight(g, "linear", i, SHAPE2(CHANNELS, CHANNELS), PARAM_PLAIN, trainable);
        const TensorId b1 = weight(g, "linear_bias", i, SHAPE1(CHANNELS), PARAM_PLAIN, trainable);
        h = op_linear(g, graph_view(g, h, rows), w1, b1, graph_view(g, x, rows), ACT_NONE);
        x = graph_view(g, h, picture);
        graph_segment_end(g);
    }
    net.y = x;
    graph_mark_output(g, net.y);
    net.seed = graph_input(g, "seed", compute, picture, false);
    assert_int_equal(graph_backward(g, net.y, net.seed, recompute), STATUS_OK);
    return net;
}

static void net_free(Net *net)
{
    graph_free(net->graph);
    param_table_free(net->params);
}

/* What a run leaves: the output and all gradients. */
typedef struct Result {
    uint8_t *y;
    float *grads;
    size_t y_bytes, grad_bytes;
    size_t workspace, packed;
} Result;

static void result_free(Result *r)
{
    free(r->y);
    free(r->grads);
}

static void write_normals(Executor *executor, const Graph *g, TensorId id, uint64_t index)
{
    float values[SAMPLES * SIDE * SIDE * CHANNELS];
    Bf16 halves[SAMPLES * SIDE * SIDE * CHANNELS];
    const size_t count = sizeof values / sizeof *values;
    random_normal(4, RANDOM_TEST, index, 0, values, count);
    for (size_t i = 0; i < count; i++) halves[i] = bf16_from_f32(values[i]);
    const bool wide = graph_tensor(g, id)->dtype == DTYPE_F32;
    assert_int_equal(executor_write(executor, id, wide ? (void *)values : (void *)halves,
                                    count * (wide ? sizeof *values : sizeof *halves)),
                     STATUS_OK);
}

/* Two micro-batches, a change of the weights, and one more. `anywhere`: frozen parameters are bound to addresses that
 * are divisible by 4 only. */
static Result run(const Net *net, Backend *backend, PlanPack pack, bool anywhere)
{
    Result r = {0};
    ParamStore store, drawn;
    Plan *plan;
    Executor *executor;
    float *values = NULL;
    assert_int_equal(param_store_create(net->params, true, &store), STATUS_OK);
    if (anywhere) {
        const int64_t count = param_table_frozen_elements(net->params);
        values = mem_alloc_aligned((size_t)(count + 1) * sizeof *values);
        assert_non_null(values);
        assert_int_equal(param_store_create(net->params, false, &drawn), STATUS_OK);
        param_store_init(&drawn, 3);
        memcpy(values + 1, drawn.frozen, (size_t)count * sizeof *values);
        for (int32_t p = 0; p < param_table_size(net->params); p++) {
            const Param *param = param_table_get(net->params, p);
            if (!param->trainable) assert_int_equal(param_store_bind(&store, p, values + 1 + param->offset), STATUS_OK);
        }
        param_store_free(&drawn);
    }
    param_store_init(&store, 3);
    assert_int_equal(plan_create(net->graph, backend, &(PlanOptions){.reuse = true, .pack = pack}, &plan), STATUS_OK);
    assert_int_equal(executor_create(plan, &store, &executor), STATUS_OK);
    for (int m = 0; m < 3; m++) {
        write_normals(executor, net->graph, net->x, 10 + (uint64_t)m);
        write_normals(executor, net->graph, net->seed, 20);
        if (m == 2) {
            for (int64_t i = 0; i < param_table_trainable_elements(net->params); i++) store.weights[i] *= 1.25f;
            executor_weights_changed(executor);
        }
        assert_int_equal(executor_run(executor, &(ExecutorRun){.add_gradients = m > 0}), STATUS_OK);
    }
    r.workspace = plan->workspace_bytes;
    r.packed = plan->packed_bytes;
    const Tensor *y = graph_tensor(net->graph, net->y);
    r.y_bytes = (size_t)shape_count(&y->shape) * dtype_size(y->dtype);
    r.grad_bytes = (size_t)param_table_trainable_elements(net->params) * sizeof(float);
    r.y = malloc(r.y_bytes);
    r.grads = malloc(r.grad_bytes);
    assert_true(r.y && r.grads);
    assert_int_equal(executor_read(executor, net->y, r.y, r.y_bytes), STATUS_OK);
    memcpy(r.grads, store.grads, r.grad_bytes);
    executor_free(executor);
    plan_free(plan);
    param_store_free(&store);
    mem_free_aligned(values);
    return r;
}

static void assert_same(const Result *a, const Result *b)
{
    assert_memory_equal(a->y, b->y, a->y_bytes);
    assert_memory_equal(a->grads, b->grads, a->grad_bytes);
}

static void check(Dtype compute, bool recompute, int32_t threads)
{
    Backend *backend;
    Net net = net_create(compute, recompute);
    assert_int_equal(backend_open_cpu(&(BackendOptions){.threads = threads}, &backend), STATUS_OK);
    Result kept = run(&net, backend, PLAN_PACK_KEEP, false);
    Result scratch = run(&net, backend, PLAN_PACK_SCRATCH, false);
    Result kept_anywhere = run(&net, backend, PLAN_PACK_KEEP, true);
    Result scratch_anywhere = run(&net, backend, PLAN_PACK_SCRATCH, true);
    assert_same(&kept, &scratch);
    assert_same(&kept, &kept_anywhere);
    assert_same(&kept, &scratch_anywhere);
    assert_true(kept.packed > 0);
    assert_int_equal(scratch.packed, 0);
    assert_true(scratch.workspace >= kept.workspace && scratch.workspace <= kept.workspace + kept.packed / LAYERS);
    result_free(&kept);
    result_free(&scratch);
    result_free(&kept_anywhere);
    result_free(&scratch_anywhere);
    net_free(&net);
    backend_close(backend);
}

static void kept_and_scratch_give_the_same_bits(void **state)
{
    for (int32_t threads = 1; threads <= 2; threads++) {
        check(DTYPE_F32, false, threads);
        check(DTYPE_BF16, false, threads);
        check(DTYPE_BF16, true, threads);
    }
}

/* Recomputed ops read what the forward op has packed. */
static void recomputation_keeps_no_second_copy(void **state)
{
    Backend *backend;
    size_t packed[2];
    assert_int_equal(backend_open_cpu(&(BackendOptions){.threads = 1}, &backend), STATUS_OK);
    for (int recompute = 0; recompute < 2; recompute++) {
        Net net = net_create(DTYPE_BF16, recompute);
        Result r = run(&net, backend, PLAN_PACK_KEEP, false);
        packed[recompute] = r.packed;
        result_free(&r);
        net_free(&net);
    }
    assert_int_equal(packed[0], packed[1]);
    backend_close(backend);
}

static void packed_weights_are_kept_where_they_fit(void **state)
{
    Backend *backend;
    Plan *plan;
    Net net = net_create(DTYPE_F32, false);
    assert_int_equal(backend_open_cpu(&(BackendOptions){.threads = 1}, &backend), STATUS_OK);
    assert_int_equal(plan_create(net.graph, backend, &(PlanOptions){.reuse = true}, &plan), STATUS_OK);
    const size_t kept = plan_bytes(plan);
    plan_choose_pack(plan, 0, 1);
    assert_int_equal(plan->pack, PLAN_PACK_KEEP);
    assert_int_equal(plan_bytes(plan), kept);
    plan_choose_pack(plan, memory_available(), 1);
    assert_int_equal(plan->pack, PLAN_PACK_SCRATCH);
    assert_int_equal(plan->packed_bytes, 0);
    plan_choose_pack(plan, memory_available() / 2, 3);
    assert_int_equal(plan->pack, PLAN_PACK_SCRATCH);
    plan_set_pack(plan, PLAN_PACK_KEEP);
    assert_int_equal(plan_bytes(plan), kept);
    plan_free(plan);
    net_free(&net);
    backend_close(backend);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kept_and_scratch_give_the_same_bits),
        cmocka_unit_test(recomputation_keeps_no_second_copy),
        cmocka_unit_test(packed_weights_are_kept_where_they_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
