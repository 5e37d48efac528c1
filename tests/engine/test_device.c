/* A device's memory and queue, seen through engine/: images of parameters, recordings, sending beside what computes.
 * The backend is the one that VASILY_CUDA_LIBRARY names, or the CUDA backend of a machine with a GPU. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bf16.h"
#include "base/random.h"
#include "engine/executor.h"
#include "engine/ops.h"
#include "engine/param_image.h"
#include "engine/recorder.h"
#include "engine/weight_hash.h"

static Backend *backend;

static void ok(Status status)
{
    if (status != STATUS_OK) fail_msg("%s", status_message());
}

/* A table with odd sizes, trained and frozen, and a store of normals over it. */
typedef struct Store {
    ParamTable *table;
    ParamStore store;
} Store;

static void store_open(Store *out)
{
    const Param params[] = {
        {.name = "a", .shape = SHAPE2(37, 5), .init = PARAM_INIT_NORMAL, .init_scale = 1, .trainable = true},
        {.name = "b", .shape = SHAPE1(1), .init = PARAM_INIT_NORMAL, .init_scale = 1, .trainable = true},
        {.name = "c", .shape = SHAPE1(333), .init = PARAM_INIT_NORMAL, .init_scale = 2}};
    *out = (Store){0};
    ok(param_table_create(&out->table));
    for (size_t i = 0; i < sizeof params / sizeof params[0]; i++) {
        int32_t index;
        ok(param_table_add(out->table, &params[i], &index));
    }
    ok(param_table_layout(out->table, NULL, 0));
    ok(param_store_create(out->table, true, &out->store));
    param_store_init(&out->store, 5);
}

static void store_close(Store *s)
{
    param_store_free(&s->store);
    param_table_free(s->table);
}

static void image_holds_the_weights(void **state)
{
    Store s;
    store_open(&s);
    ok(param_image_open(&s.store, backend, true));
    const ParamImage *image = s.store.image;
    const int64_t trained = param_table_trainable_elements(s.table), frozen = param_table_frozen_elements(s.table);
    float *read = calloc((size_t)(trained + frozen), sizeof *read);
    uint16_t *halves = calloc((size_t)(trained + frozen), sizeof *halves);
    ok(backend->download(backend, read, image->frozen, (size_t)frozen * sizeof *read));
    ok(backend->download(backend, halves, image->half_frozen, (size_t)frozen * sizeof *halves));
    for (int64_t i = 0; i < 333; i++) {
        assert_true(read[i] == s.store.frozen[i]);
        assert_int_equal(halves[i], bf16_from_f32(s.store.frozen[i]));
    }

    /* Weights that change on the host get there, and come back. */
    for (int64_t i = 0; i < trained; i++) s.store.weights[i] += 1;
    ok(param_image_upload(&s.store));
    ok(backend->download(backend, halves, image->half_weights, (size_t)trained * sizeof *halves));
    for (int64_t i = 0; i < trained; i++) {
        assert_int_equal(halves[i], bf16_from_f32(s.store.weights[i]));
        read[i] = s.store.weights[i];
        s.store.weights[i] = 0;
    }
    ok(param_image_download_weights(&s.store));
    assert_memory_equal(read, s.store.weights, (size_t)trained * sizeof *read);

    /* Gradients begin as zeros and come back as the device left them. */
    s.store.grads[0] = 7;
    ok(param_image_download_grads(&s.store));
    assert_true(s.store.grads[0] == 0);
    ok(backend->device->copy(backend, image->grads, image->weights, (size_t)trained * sizeof *read));
    ok(param_image_download_grads(&s.store));
    assert_memory_equal(read, s.store.grads, (size_t)trained * sizeof *read);
    assert_int_equal(param_image_open(&s.store, backend, false), ERR_INTERNAL); /* once only */
    free(read);
    free(halves);
    store_close(&s);
}

static void host_backends_need_no_image(void **state)
{
    Store s;
    Backend *ref;
    store_open(&s);
    ok(backend_open_ref(NULL, &ref));
    ok(param_image_open(&s.store, ref, true));
    assert_null(s.store.image);
    ok(param_image_upload(&s.store));
    ok(param_image_download_weights(&s.store));
    backend_close(ref);
    store_close(&s);
}

/* y = x * scale twice over, as a graph of two ops: what a recording must replay with new inputs. */
typedef struct Doubling {
    ParamTable *params;
    Graph *graph;
    ParamStore store;
    TensorId x, y;
    Plan *plan;
    Executor *executor;
    int calls;
} Doubling;

static void doubling_open(Doubling *d)
{
    *d = (Doubling){0};
    ok(param_table_create(&d->params));
    ok(graph_create(d->params, DTYPE_F32, &d->graph));
    d->x = graph_input(d->graph, "x", DTYPE_F32, SHAPE1(100), false);
    d->y = op_affine(d->graph, op_affine(d->graph, d->x, 2, 0), 2, 1);
    graph_mark_output(d->graph, d->y);
    ok(param_table_layout(d->params, NULL, 0));
    ok(param_store_create(d->params, false, &d->store));
    ok(param_image_open(&d->store, backend, false));
    ok(plan_create(d->graph, backend, &(PlanOptions){.reuse = true}, &d->plan));
    ok(executor_create(d->plan, &d->store, &d->executor));
}

static void doubling_close(Doubling *d)
{
    executor_free(d->executor);
    plan_free(d->plan);
    param_store_free(&d->store);
    graph_free(d->graph);
    param_table_free(d->params);
}

static Status doubling_work(void *context)
{
    Doubling *d = context;
    d->calls++;
    return executor_run(d->executor, NULL);
}

static void doubling_check(Doubling *d, Recorder *recorder, float value)
{
    float x[100], y[100];
    for (int i = 0; i < 100; i++) x[i] = value + (float)i;
    ok(executor_write(d->executor, d->x, x, sizeof x));
    ok(recorder_run(recorder, 0, doubling_work, d));
    ok(executor_read(d->executor, d->y, y, sizeof y));
    for (int i = 0; i < 100; i++) assert_true(y[i] == 4 * x[i] + 1);
}

static void recordings_replay(void **state)
{
    Doubling d;
    Recorder *recorder;
    doubling_open(&d);
    ok(recorder_create(backend, true, &recorder));
    for (int k = 0; k < 4; k++) doubling_check(&d, recorder, (float)(10 * k));
    assert_int_equal(d.calls, 2); /* once for real, once noted */
    recorder_free(recorder);
    ok(recorder_create(backend, false, &recorder));
    for (int k = 0; k < 4; k++) doubling_check(&d, recorder, (float)(10 * k));
    assert_int_equal(d.calls, 6);
    recorder_free(recorder);
    doubling_close(&d);
}

static Status work_that_fails_once(void *context)
{
    int *calls = context;
    return (*calls)++ == 1 ? status_fail(ERR_NUMERIC, __FILE__, __LINE__, "planted") : STATUS_OK;
}

static Status work_that_fails(void *context)
{
    return status_fail(ERR_NUMERIC, __FILE__, __LINE__, "planted");
}

/* Work that was done and cannot be noted goes on being done; work that fails is a failure. */
static void what_cannot_be_recorded_is_done(void **state)
{
    Recorder *recorder;
    Doubling d;
    int calls = 0;
    ok(recorder_create(backend, true, &recorder));
    ok(recorder_run(recorder, 1, work_that_fails_once, &calls));
    assert_int_equal(calls, 2);
    ok(recorder_run(recorder, 1, work_that_fails_once, &calls));
    assert_int_equal(calls, 3);
    assert_int_equal(recorder_run(recorder, 2, work_that_fails, NULL), ERR_NUMERIC);
    assert_string_equal(status_message(), "planted");
    recorder_free(recorder);
    /* and the queue is as it was before */
    doubling_open(&d);
    ok(recorder_create(backend, true, &recorder));
    doubling_check(&d, recorder, 3);
    recorder_free(recorder);
    doubling_close(&d);
}

/* Sends beside the computation arrive before what is queued after `sent`, and do not overwrite what is still read. */
static void sends_are_ordered(void **state)
{
    enum { COUNT = 1000, ROUNDS = 5 };
    const DeviceOps *device = backend->device;
    float *host = device->host_alloc(backend, COUNT * sizeof *host);
    float *fetched = device->host_alloc(backend, ROUNDS * COUNT * sizeof *fetched);
    float *staging = backend->alloc(backend, COUNT * sizeof *staging);
    float *place = backend->alloc(backend, COUNT * sizeof *place);
    assert_non_null(host);
    assert_non_null(fetched);
    for (int round = 0; round < ROUNDS; round++) {
        ok(device->sent_wait(backend));
        for (int i = 0; i < COUNT; i++) host[i] = (float)(1000 * round + i);
        ok(device->send(backend, staging, host, COUNT * sizeof *host));
        ok(device->sent(backend));
        ok(device->copy(backend, place, staging, COUNT * sizeof *place));
        ok(device->consumed(backend));
        ok(device->fetch(backend, fetched + round * COUNT, place, COUNT * sizeof *place));
    }
    ok(device->finish(backend));
    for (int i = 0; i < ROUNDS * COUNT; i++) assert_true(fetched[i] == (float)i);
    backend->free(backend, staging);
    backend->free(backend, place);
    device->host_free(backend, host);
    device->host_free(backend, fetched);
}

static void memory_is_counted(void **state)
{
    int64_t before, total, after;
    ok(backend->device->memory(backend, &before, &total));
    assert_true(before > 0 && before <= total);
    void *block = backend->alloc(backend, 8 << 20);
    assert_non_null(block);
    ok(backend->device->memory(backend, &after, &total));
    assert_true(after <= before - (8 << 20));
    assert_true(backend->device->reserve > 0);
    assert_int_equal(backend_memory_available(backend), after - backend->device->reserve);
    backend->free(backend, block);
    assert_null(backend->alloc(backend, (size_t)total + (1 << 20))); /* no failure that sticks */
    ok(backend->device->finish(backend));
}

static void times_come_from_marks(void **state)
{
    Doubling d;
    double seconds[2] = {0}, x[50] = {0};
    doubling_open(&d);
    ok(executor_write(d.executor, d.x, x, sizeof x));
    ok(executor_run(d.executor, &(ExecutorRun){.op_seconds = seconds}));
    assert_true(seconds[0] >= 0 && seconds[0] < 60 && seconds[1] >= 0 && seconds[1] < 60);
    doubling_close(&d);
}

/* Parts add up to the whole, and the sum is that of engine/weight_hash.h, written down once more. */
static void hashes_are_sums_over_words(void **state)
{
    enum { COUNT = 300001, FIRST = 77 };
    uint32_t *words = malloc(COUNT * sizeof *words);
    uint64_t expected = 0, got[3] = {0}, changed = 0;
    for (int64_t i = 0; i < COUNT; i++) {
        words[i] = (uint32_t)(i * 2654435761u);
        expected += weight_hash_mix((FIRST + (uint64_t)i) << 32 | words[i]);
    }
    uint32_t *there = backend->alloc(backend, COUNT * sizeof *there);
    uint64_t *out = backend->alloc(backend, sizeof got);
    ok(backend->upload(backend, there, words, COUNT * sizeof *words));
    ok(backend->device->hash(backend, there, COUNT, FIRST, &out[0]));
    ok(backend->device->hash(backend, there, 1000, FIRST, &out[1]));
    ok(backend->device->hash(backend, there + 1000, COUNT - 1000, FIRST + 1000, &out[2]));
    ok(backend->download(backend, got, out, sizeof got));
    assert_true(got[0] == expected);
    assert_true(got[1] + got[2] == expected);
    words[COUNT / 2] ^= 1u << 20;
    ok(backend->upload(backend, there, words, COUNT * sizeof *words));
    ok(backend->device->hash(backend, there, COUNT, FIRST, out));
    ok(backend->download(backend, &changed, out, sizeof changed));
    assert_true(changed != expected);
    ok(backend->device->hash(backend, there, 0, FIRST, out));
    ok(backend->download(backend, &changed, out, sizeof changed));
    assert_true(changed == 0);
    backend->free(backend, there);
    backend->free(backend, out);
    free(words);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(image_holds_the_weights), cmocka_unit_test(host_backends_need_no_image),
        cmocka_unit_test(recordings_replay),       cmocka_unit_test(what_cannot_be_recorded_is_done),
        cmocka_unit_test(sends_are_ordered),       cmocka_unit_test(memory_is_counted),
        cmocka_unit_test(times_come_from_marks),   cmocka_unit_test(hashes_are_sums_over_words)};
    if (backend_open("cuda", &(BackendOptions){0}, &backend) != STATUS_OK) {
        fprintf(stderr, "%s\n", status_message());
        return 1;
    }
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    backend_close(backend);
    return failed;
}
