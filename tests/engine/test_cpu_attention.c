/* Heads so wide, with keys so many, that the CPU backend takes them in larger blocks: too much for the reference
 * kernels, so some rows are held against the formula. And which ops the backend leaves to the reference. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>

#include "op_cases.h"

enum { QUERIES = 300, KEYS = 4100, WIDTH = 256 }; /* one block of 256 queries and one of 44; two threads: smaller */

static TensorId build(CaseGraph *c, const int64_t *a)
{
    const TensorId q = graph_input(c->graph, "q", c->dtype, SHAPE3(1, QUERIES, WIDTH), false);
    const TensorId k = graph_input(c->graph, "k", c->dtype, SHAPE3(1, KEYS, WIDTH), false);
    const TensorId v = graph_input(c->graph, "v", c->dtype, SHAPE3(1, KEYS, WIDTH), false);
    static int32_t mask[KEYS];
    for (int32_t i = 0; i < KEYS; i++) mask[i] = i % 7 != 2;
    const TensorId m = a[0] ? graph_constant(c->graph, "mask", DTYPE_I32, SHAPE2(1, KEYS), mask) : TENSOR_NONE;
    return op_cross_attention(c->graph, q, k, v, m, TENSOR_NONE, 1, 0);
}

/* Relative distance of row t of the output from softmax(q k^T / sqrt(d)) v. */
static double row_error(const CaseRun *run, const Op *op, int64_t t, bool masked)
{
    static double p[KEYS];
    double sum = 0, difference = 0, norm = 0;
    for (int64_t s = 0; s < KEYS; s++) {
        double dot = 0;
        for (int64_t i = 0; i < WIDTH; i++)
            dot += case_get(run, op->in[0], t * WIDTH + i) * case_get(run, op->in[1], s * WIDTH + i);
        p[s] = masked && s % 7 == 2 ? 0 : exp(dot / 16);
        sum += p[s];
    }
    for (int64_t i = 0; i < WIDTH; i++) {
        double y = 0;
        for (int64_t s = 0; s < KEYS; s++) y += p[s] / sum * case_get(run, op->in[2], s * WIDTH + i);
        difference += pow(case_get(run, op->out[0], t * WIDTH + i) - y, 2);
        norm += y * y;
    }
    const double lse = case_get(run, op->out[1], t) - log(sum);
    return fmax(sqrt(difference / norm), fabs(lse));
}

static void check(int32_t threads, Dtype dtype, bool masked, double tolerance)
{
    static const int64_t rows[] = {0, 31, 255, 256, QUERIES - 1};
    const OpCase op_case = {"wide head", CASE_FORWARD, build, {masked}};
    Backend *backend = NULL;
    CaseGraph c;
    CaseRun run;
    bool guards_hold = false;
    assert_int_equal(backend_open_cpu(&(BackendOptions){.threads = threads}, &backend), STATUS_OK);
    assert_int_equal(case_open(&op_case, dtype, &c), STATUS_OK);
    assert_int_equal(case_run_open(&c, backend, 5, dtype == DTYPE_BF16, &run), STATUS_OK);
    assert_int_equal(case_run_op(&run, 0, 0, &guards_hold), STATUS_OK);
    assert_true(guards_hold && case_run_guards_hold(&run));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const double error = row_error(&run, graph_op(c.graph, 0), rows[i], masked);
        if (!(error <= tolerance)) fail_msg("%d threads, row %d: relative error %.3g", threads, (int)rows[i], error);
    }
    case_run_close(&run);
    case_close(&c);
    backend_close(backend);
}

static void wide_heads(void **state)
{
    check(1, DTYPE_F32, false, 1e-5);
    check(2, DTYPE_F32, true, 1e-5);
    check(2, DTYPE_BF16, true, 1e-2);
}

static void little_is_left_to_the_reference(void **state)
{
    Backend *backend = NULL;
    assert_int_equal(backend_open_cpu(&(BackendOptions){.threads = 1}, &backend), STATUS_OK);
    for (int kind = 0; kind < OP_COUNT; kind++) {
        const bool left = kind == OP_TIMESTEP_EMBEDDING || kind == OP_POSITION_IDS;
        if ((backend->kernel[kind] == ref_kernels()[kind]) != left) fail_msg("%s", op_info((OpKind)kind)->name);
    }
    backend_close(backend);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wide_heads),
        cmocka_unit_test(little_is_left_to_the_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
