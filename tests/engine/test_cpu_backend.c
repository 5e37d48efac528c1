/* What the CPU backend promises as a whole: work is shared out completely and the same way each time, failures of
 * threads arrive, threads come from the options or the environment, the matrix product's rate can be measured. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/cpu/cpu.h"
#include "engine/cpu/onednn.h"

static Backend *open_with(int32_t threads)
{
    Backend *backend = NULL;
    assert_int_equal(backend_open_cpu(&(BackendOptions){.threads = threads}, &backend), STATUS_OK);
    return backend;
}

static void shares_cover_everything_once(void **state)
{
    for (int64_t count = 0; count < 40; count++) {
        for (int64_t parts = 1; parts < 9; parts++) {
            int64_t next = 0;
            for (int64_t part = 0; part < parts; part++) {
                int64_t begin, end;
                cpu_share(count, parts, part, &begin, &end);
                assert_int_equal(begin, next);
                assert_true(end - begin == count / parts || end - begin == count / parts + 1);
                next = end;
            }
            assert_int_equal(next, count);
        }
    }
}

typedef struct Marks {
    int32_t by[100]; /* 1 + the thread that had the item */
    int64_t fail_at;
} Marks;

static Status mark(void *context, int64_t begin, int64_t end, int32_t thread)
{
    Marks *marks = context;
    for (int64_t i = begin; i < end; i++) {
        if (marks->by[i] != 0) return status_fail(ERR_INTERNAL, __FILE__, __LINE__, "item %d twice", (int)i);
        marks->by[i] = 1 + thread;
        if (i == marks->fail_at) return status_fail(ERR_NUMERIC, __FILE__, __LINE__, "item %d", (int)i);
    }
    return STATUS_OK;
}

static void parallel_runs_all_and_reports_failures(void **state)
{
    Backend *backend = open_with(3);
    const Cpu *cpu = cpu_of(backend);
    Marks first = {.fail_at = -1}, second = {.fail_at = -1}, failing = {.fail_at = 99}, serial = {.fail_at = -1};
    assert_int_equal(cpu_parallel(cpu, 100, 1, mark, &first), STATUS_OK);
    assert_int_equal(cpu_parallel(cpu, 100, 1, mark, &second), STATUS_OK);
    for (int i = 0; i < 100; i++) assert_int_equal(first.by[i], i < 34 ? 1 : i < 67 ? 2 : 3);
    assert_memory_equal(&first, &second, sizeof first);
    assert_int_equal(cpu_parallel(cpu, 100, 1, mark, &failing), ERR_NUMERIC);
    assert_string_equal(status_message(), "item 99");
    assert_int_equal(cpu_parallel(cpu, 100, 101, mark, &serial), STATUS_OK);
    for (int i = 0; i < 100; i++) assert_int_equal(serial.by[i], 1);
    backend_close(backend);
}

static void threads_come_from_options_then_environment(void **state)
{
    assert_int_equal(setenv("OMP_NUM_THREADS", "3", 1), 0);
    Backend *told = open_with(5), *by_environment = open_with(0);
    assert_int_equal(told->threads, 5);
    assert_int_equal(by_environment->threads, 3);
    assert_int_equal(setenv("OMP_NUM_THREADS", "many", 1), 0);
    Backend *by_affinity = open_with(0);
    assert_true(by_affinity->threads >= 1);
    assert_int_equal(unsetenv("OMP_NUM_THREADS"), 0);
    backend_close(told);
    backend_close(by_environment);
    backend_close(by_affinity);
}

static void describes_itself_and_its_speed(void **state)
{
    Backend *backend = open_with(1);
    char text[256];
    double rate = 0;
    backend_describe(backend, text, sizeof text);
    assert_non_null(strstr(text, "oneDNN"));
    assert_non_null(strstr(text, "1 thread,"));
    assert_int_equal(backend->matmul_peak(backend, DTYPE_F32, &rate), STATUS_OK);
    assert_true(rate > 1e8);
    if (!backend->has_bf16(backend)) {
        assert_int_equal(backend->matmul_peak(backend, DTYPE_BF16, &rate), ERR_UNSUPPORTED);
    }
    backend_close(backend);
}

/* Lanes of one primitive run at the same time, each with operands of its own. */
typedef struct Products {
    DnnPrimitive *primitive;
    float *a, *b, *c;
    void *scratchpad;
    size_t scratchpad_bytes;
} Products;

enum { SIDE = 40 };

static Status multiply(void *context, int64_t begin, int64_t end, int32_t thread)
{
    Status status = STATUS_OK;
    const Products *p = context;
    for (int64_t i = begin; i < end; i++) {
        DnnArgs args = {.lane = thread,
                        .src = p->a + i * SIDE * SIDE,
                        .weights = p->b + i * SIDE * SIDE,
                        .dst = p->c + i * SIDE * SIDE,
                        .scratchpad = (char *)p->scratchpad + (size_t)thread * p->scratchpad_bytes};
        TRY(dnn_run(p->primitive, &args));
    }
fail:
    return status;
}

static void lanes_do_not_disturb_each_other(void **state)
{
    enum { COUNT = 64, THREADS = 4 };
    Backend *backend = open_with(THREADS);
    const Cpu *cpu = cpu_of(backend);
    const DnnTensor square = {DNN_F32, 2, {SIDE, SIDE}, {SIDE, 1}};
    const DnnSpec spec = {.kind = DNN_MATMUL, .src = square, .weights = square, .dst = square, .lanes = THREADS};
    Products p = {0};
    cpu_use_one_thread();
    assert_int_equal(dnn_create(&spec, &p.primitive), STATUS_OK);
    p.scratchpad_bytes = (dnn_scratchpad_bytes(p.primitive) + 127) / 64 * 64;
    p.scratchpad = backend->alloc(backend, THREADS * p.scratchpad_bytes);
    const size_t bytes = COUNT * SIDE * SIDE * sizeof(float);
    p.a = backend->alloc(backend, bytes);
    p.b = backend->alloc(backend, bytes);
    p.c = backend->alloc(backend, bytes);
    for (int i = 0; i < COUNT * SIDE * SIDE; i++) {
        p.a[i] = (float)(i % 7 - 3);
        p.b[i] = (float)(i % 5 - 2);
    }
    assert_int_equal(cpu_parallel(cpu, COUNT, 1, multiply, &p), STATUS_OK);
    for (int i = 0; i < COUNT; i++) {
        for (int at = 0; at < SIDE * SIDE; at += 37) {
            float sum = 0; /* exact in fp32 */
            for (int k = 0; k < SIDE; k++)
                sum += p.a[(i * SIDE + at / SIDE) * SIDE + k] * p.b[(i * SIDE + k) * SIDE + at % SIDE];
            assert_true(p.c[i * SIDE * SIDE + at] == sum);
        }
    }
    dnn_free(p.primitive);
    backend->free(backend, p.a);
    backend->free(backend, p.b);
    backend->free(backend, p.c);
    backend->free(backend, p.scratchpad);
    backend_close(backend);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares_cover_everything_once),
        cmocka_unit_test(parallel_runs_all_and_reports_failures),
        cmocka_unit_test(threads_come_from_options_then_environment),
        cmocka_unit_test(describes_itself_and_its_speed),
        cmocka_unit_test(lanes_do_not_disturb_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
