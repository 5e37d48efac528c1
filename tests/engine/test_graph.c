/* Graph, backward and plan on small nets: what is shared, what is recomputed, and that none of it changes a bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/random.h"
#include "engine/executor.h"
#include "engine/ops.h"

#define N 2
#define SIDE 6
#define C 32 /* so that parameters fill several buckets, and a bucket several parameters */
#define SHARES 3
#define BLOCKS 4

typedef struct Net {
    ParamTable *params;
    Graph *graph;
    TensorId x, seed, y;
} Net;

static TensorId weight(Graph *g, int block, const char *what, Shape shape)
{
    char name[64];
    snprintf(name, sizeof name, "blocks.%d.%s", block, what);
    return graph_param(g, &(Param){.name = name,
                                   .shape = shape,
                                   .layout = shape.ndim == 4 ? PARAM_CONV : PARAM_PLAIN,
                                   .init = PARAM_INIT_UNIFORM,
                                   .init_scale = 0.3f,
                                   .trainable = true});
}

/* Residual blocks: x + conv(silu(norm(x))), and at the end the sum with the first block's output. */
static void build(Net *net, bool recompute)
{
    assert_int_equal(param_table_create(&net->params), STATUS_OK);
    param_table_pad(net->params, SHARES * UPDATE_NORM_BLOCK);
    assert_int_equal(graph_create(net->params, DTYPE_F32, &net->graph), STATUS_OK);
    Graph *g = net->graph;
    TensorId first = TENSOR_NONE;
    TensorId h = net->x = graph_input(g, "x", DTYPE_F32, SHAPE4(N, SIDE, SIDE, C), true);
    for (int b = 0; b < BLOCKS; b++) {
        graph_segment_begin(g);
        TensorId v = op_group_norm(g, h, weight(g, b, "norm.weight", SHAPE1(C)), weight(g, b, "norm.bias", SHAPE1(C)),
                                   TENSOR_NONE, 4, 1e-5f, ACT_SILU);
        h = op_conv2d(g, v, weight(g, b, "conv.weight", SHAPE4(C, 3, 3, C)), weight(g, b, "conv.bias", SHAPE1(C)), h,
                      conv_same(3));
        graph_segment_end(g);
        if (b == 0) first = h;
    }
    net->y = op_add(g, h, first);
    graph_mark_output(g, net->y);
    net->seed = graph_input(g, "seed", DTYPE_F32, SHAPE4(N, SIDE, SIDE, C), false);
    assert_int_equal(graph_backward(g, net->y, net->seed, recompute), STATUS_OK);
}

typedef struct Result {
    float y[N * SIDE * SIDE * C], dx[N * SIDE * SIDE * C];
    float *grads;
    size_t grad_count, slab_bytes, peak_bytes;
    int32_t order[64], order_count;
    int32_t needed[64], needed_count;
} Result;

typedef struct Watch {
    Result *result;
} Watch;

static Status note_bucket(void *context, int32_t bucket)
{
    Result *result = ((Watch *)context)->result;
    result->order[result->order_count++] = bucket;
    return STATUS_OK;
}

static Status note_weights(void *context, int32_t bucket)
{
    Result *result = ((Watch *)context)->result;
    result->needed[result->needed_count++] = bucket;
    return STATUS_OK;
}

/* No op reads a bucket's weights before needed_by, or writes its gradients after ready_after; some op does so there. */
static void check_bucket_times(const Net *net, const Plan *plan)
{
    for (int32_t b = 0; b < plan->bucket_count; b++) {
        const Bucket *bucket = &plan->buckets[b];
        int32_t first_read = graph_op_count(net->graph), last_write = -1;
        for (int32_t i = 0; i < graph_op_count(net->graph); i++) {
            const Op *op = graph_op(net->graph, i);
            for (int32_t k = 0; k < op->in_count + op->out_count; k++) {
                const TensorId id = k < op->in_count ? op->in[k] : op->out[k - op->in_count];
                if (id == TENSOR_NONE) continue;
                const Tensor *tensor = graph_tensor(net->graph, id);
                if (tensor->kind != TENSOR_PARAM && tensor->kind != TENSOR_PARAM_GRAD) continue;
                const Param *param = param_table_get(net->params, tensor->param);
                if (param->offset >= bucket->offset + bucket->count || param->offset + param->count <= bucket->offset)
                    continue;
                if (tensor->kind == TENSOR_PARAM && i < first_read) first_read = i;
                if (tensor->kind == TENSOR_PARAM_GRAD && i > last_write) last_write = i;
            }
        }
        assert_int_equal(bucket->needed_by, first_read);
        assert_int_equal(bucket->ready_after, last_write);
    }
}

static void run(bool recompute, bool reuse, int runs, Result *result)
{
    Net net = {0};
    Plan *plan = NULL;
    Backend *backend = NULL;
    Executor *executor = NULL;
    ParamStore store = {0};
    static float x[N * SIDE * SIDE * C], seed[N * SIDE * SIDE * C];
    memset(result, 0, sizeof *result);
    build(&net, recompute);
    assert_int_equal(backend_open_ref(&(BackendOptions){.threads = 1}, &backend), STATUS_OK);
    assert_int_equal(
        plan_create(net.graph, backend, &(PlanOptions){.reuse = reuse, .bucket_bytes = 4096, .shares = SHARES}, &plan),
        STATUS_OK);
    assert_int_equal(param_store_create(net.params, true, &store), STATUS_OK);
    param_store_init(&store, 7);
    assert_int_equal(executor_create(plan, &store, &executor), STATUS_OK);
    random_normal(1, RANDOM_TEST, 0, 0, x, sizeof x / sizeof *x);
    random_normal(1, RANDOM_TEST, 1, 0, seed, sizeof seed / sizeof *seed);
    Watch watch = {result};
    for (int k = 0; k < runs; k++) {
        assert_int_equal(executor_write(executor, net.x, x, sizeof x), STATUS_OK);
        assert_int_equal(executor_write(executor, net.seed, seed, sizeof seed), STATUS_OK);
        result->order_count = result->needed_count = 0;
        ExecutorRun how = {
            .add_gradients = k > 0, .on_bucket = note_bucket, .on_weights = note_weights, .context = &watch};
        int64_t before = mem_allocation_count();
        assert_int_equal(executor_run(executor, &how), STATUS_OK);
        assert_int_equal(mem_allocation_count(), before);
    }
    assert_int_equal(executor_read(executor, net.y, result->y, sizeof result->y), STATUS_OK);
    assert_int_equal(executor_read(executor, graph_tensor(net.graph, net.x)->grad, result->dx, sizeof result->dx),
                     STATUS_OK);
    result->grad_count = (size_t)param_table_trainable_elements(net.params);
    result->grads = malloc(result->grad_count * sizeof(float));
    memcpy(result->grads, store.grads, result->grad_count * sizeof(float));
    result->slab_bytes = plan->slab_bytes;
    result->peak_bytes = plan->peak_live_bytes;

    /* Buckets tile the flat buffer, in the order in which backward finishes them; each has whole blocks for each share.
     */
    int64_t next = 0;
    assert_int_equal(result->order_count, plan->bucket_count);
    assert_int_equal(result->needed_count, plan->bucket_count);
    assert_true(plan->bucket_count > 2);
    for (int32_t b = 0; b < plan->bucket_count; b++) {
        const Bucket *bucket = &plan->buckets[b];
        assert_int_equal(bucket->offset, next);
        assert_int_equal(bucket->count % (SHARES * UPDATE_NORM_BLOCK), 0);
        assert_int_equal(result->order[b], b);
        if (b > 0) {
            assert_true(plan->buckets[result->needed[b]].needed_by >= plan->buckets[result->needed[b - 1]].needed_by);
            assert_true(bucket->ready_after >= plan->buckets[b - 1].ready_after);
        }
        next += bucket->count;
    }
    check_bucket_times(&net, plan);
    assert_int_equal(next, (int64_t)result->grad_count);

    executor_free(executor);
    plan_free(plan);
    backend_close(backend);
    param_store_free(&store);
    graph_free(net.graph);
    param_table_free(net.params);
}

static void assert_same(const Result *a, const Result *b)
{
    assert_memory_equal(a->y, b->y, sizeof a->y);
    assert_memory_equal(a->dx, b->dx, sizeof a->dx);
    assert_int_equal(a->grad_count, b->grad_count);
    assert_memory_equal(a->grads, b->grads, a->grad_count * sizeof(float));
}

static void test_reuse_changes_no_bit(void **state)
{
    static Result with, without;
    run(false, true, 1, &with);
    run(false, false, 1, &without);
    assert_same(&with, &without);
    assert_true(with.slab_bytes < without.slab_bytes);
    assert_true(with.slab_bytes >= with.peak_bytes);
    free(with.grads);
    free(without.grads);
}

static void test_recomputation_changes_no_bit_and_saves_memory(void **state)
{
    static Result kept, recomputed;
    run(false, true, 1, &kept);
    run(true, true, 1, &recomputed);
    assert_same(&kept, &recomputed);
    assert_true(recomputed.slab_bytes < kept.slab_bytes);
    free(kept.grads);
    free(recomputed.grads);
}

static void test_micro_batches_add_gradients(void **state)
{
    static Result once, twice;
    run(false, true, 1, &once);
    run(false, true, 2, &twice);
    for (size_t i = 0; i < once.grad_count; i++) assert_float_equal(twice.grads[i], 2 * once.grads[i], 1e-5);
    free(once.grads);
    free(twice.grads);
}

/* An output read by two ops, both passing their gradient through: shared storage must not be counted twice. */
static void test_gradient_of_a_diamond(void **state)
{
    ParamTable *params = NULL;
    Graph *g = NULL;
    Plan *plan = NULL;
    Backend *backend = NULL;
    Executor *executor = NULL;
    ParamStore store = {0};
    assert_int_equal(param_table_create(&params), STATUS_OK);
    assert_int_equal(graph_create(params, DTYPE_F32, &g), STATUS_OK);
    TensorId x = graph_input(g, "x", DTYPE_F32, SHAPE2(1, 4), true);
    TensorId a = op_affine(g, x, 2, 0);         /* 2x */
    TensorId b = op_add(g, a, a);               /* 4x */
    TensorId c = op_add(g, op_add(g, a, b), b); /* 10x */
    TensorId seed = graph_input(g, "seed", DTYPE_F32, SHAPE2(1, 4), false);
    graph_mark_output(g, c);
    assert_int_equal(graph_backward(g, c, seed, false), STATUS_OK);
    assert_int_equal(backend_open_ref(&(BackendOptions){.threads = 1}, &backend), STATUS_OK);
    assert_int_equal(plan_create(g, backend, &(PlanOptions){.reuse = true}, &plan), STATUS_OK);
    assert_int_equal(param_store_create(params, true, &store), STATUS_OK);
    assert_int_equal(executor_create(plan, &store, &executor), STATUS_OK);
    const float in[4] = {1, 2, 3, 4}, ones[4] = {1, 1, 1, 1};
    float y[4], dx[4];
    assert_int_equal(executor_write(executor, x, in, sizeof in), STATUS_OK);
    assert_int_equal(executor_write(executor, seed, ones, sizeof ones), STATUS_OK);
    assert_int_equal(executor_run(executor, NULL), STATUS_OK);
    assert_int_equal(executor_read(executor, c, y, sizeof y), STATUS_OK);
    assert_int_equal(executor_read(executor, graph_tensor(g, x)->grad, dx, sizeof dx), STATUS_OK);
    for (int i = 0; i < 4; i++) {
        assert_float_equal(y[i], 10 * in[i], 1e-6);
        assert_float_equal(dx[i], 10, 1e-6);
    }
    executor_free(executor);
    plan_free(plan);
    backend_close(backend);
    param_store_free(&store);
    graph_free(g);
    param_table_free(params);
}

/* A backend without a kernel is refused when planned, by the op's name. */
static void test_missing_kernel_is_named(void **state)
{
    Net net = {0};
    Backend *backend = NULL;
    Plan *plan = NULL;
    build(&net, false);
    assert_int_equal(backend_open_ref(&(BackendOptions){.threads = 1}, &backend), STATUS_OK);
    backend->kernel[OP_GROUP_NORM_GRAD] = NULL;
    assert_int_equal(plan_create(net.graph, backend, &(PlanOptions){.reuse = true}, &plan), ERR_UNSUPPORTED);
    assert_non_null(strstr(status_message(), op_info(OP_GROUP_NORM_GRAD)->name));
    backend_close(backend);
    graph_free(net.graph);
    param_table_free(net.params);
}

static void test_wrong_shapes_are_kept_as_the_first_failure(void **state)
{
    ParamTable *params = NULL;
    Graph *g = NULL;
    assert_int_equal(param_table_create(&params), STATUS_OK);
    assert_int_equal(graph_create(params, DTYPE_F32, &g), STATUS_OK);
    TensorId x = graph_input(g, "x", DTYPE_F32, SHAPE2(2, 3), false);
    TensorId y = graph_input(g, "y", DTYPE_F32, SHAPE2(2, 4), false);
    TensorId bad = op_add(g, x, y);
    op_activation(g, bad, ACT_SILU);
    assert_int_not_equal(graph_status(g), STATUS_OK);
    assert_non_null(strstr(status_message(), "2x3"));
    assert_non_null(strstr(status_message(), "2x4"));
    graph_free(g);
    param_table_free(params);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reuse_changes_no_bit),
        cmocka_unit_test(test_recomputation_changes_no_bit_and_saves_memory),
        cmocka_unit_test(test_micro_batches_add_gradients),
        cmocka_unit_test(test_gradient_of_a_diamond),
        cmocka_unit_test(test_missing_kernel_is_named),
        cmocka_unit_test(test_wrong_shapes_are_kept_as_the_first_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
