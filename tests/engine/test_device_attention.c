/* Attention in bf16 where engines have gone wrong: all scores far below zero, so that e to the power of minus lse is
 * infinite and whatever is not hidden beyond the last key or row turns gradients into NaN; few keys in sight; numbers
 * of rows and keys that do not fill tiles. On the backend that the argument names, against ref in fp32. Workspaces hold
 * NaN before each run (op_cases.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/bf16.h"
#include "op_cases.h"

enum { SEED = 31, SAMPLES = 3, HEADS = 2, WIDTH = 64, KEYS_MAX = 1000 };
/* q is SHIFT and k -SHIFT, each more or less NOISE: scores of -SHIFT^2 WIDTH / sqrt(WIDTH) = -128, more or less 2. */
static const float SHIFT = 4, NOISE = 0.4f;

static Backend *ref, *backend;

/* ---- cases ---- */

enum { NO_MASK, MOST, FEW };

/* MOST: two of three. FEW: three keys of the first sample, all but one of the second. None of the last in both. */
static TensorId key_mask(CaseGraph *c, int64_t s, int64_t pattern)
{
    int32_t values[SAMPLES * KEYS_MAX] = {0};
    if (pattern == NO_MASK) return TENSOR_NONE;
    for (int64_t i = 0; i < (SAMPLES - 1) * s; i++)
        values[i] = pattern == MOST ? i % 3 != 1 : i < s ? i % s > s - 4 : i != s;
    return graph_constant(c->graph, "mask", DTYPE_I32, SHAPE2(SAMPLES, s), values);
}

static TensorId input(CaseGraph *c, const char *name, int64_t rows, int64_t parts)
{
    return graph_input(c->graph, name, c->dtype, SHAPE3(SAMPLES, rows, parts * HEADS * WIDTH), true);
}

/* t s pattern */
static TensorId build_cross_attention(CaseGraph *c, const int64_t *a)
{
    return op_cross_attention(c->graph, input(c, "q", a[0], 1), input(c, "k", a[1], 1), input(c, "v", a[1], 1),
                              key_mask(c, a[1], a[2]), TENSOR_NONE, HEADS, 0);
}

/* rows, rows of context, pattern */
static TensorId build_attention(CaseGraph *c, const int64_t *a)
{
    const TensorId context = a[1] > 0 ? input(c, "kv", a[1], 2) : TENSOR_NONE;
    return op_attention(c->graph, input(c, "qkv", a[0], 3), context, a[1] > 0 ? key_mask(c, a[1], a[2]) : TENSOR_NONE,
                        HEADS);
}

/* ---- a case on both backends ---- */

/* The name says what is interleaved in a row of a head. */
static void set_input(CaseRun *expected, CaseRun *tested, TensorId id)
{
    const char *parts = graph_tensor(expected->c->graph, id)->name;
    if (strcmp(parts, "seed") == 0) return;
    const int64_t count = (int64_t)strlen(parts);
    for (int64_t i = 0; i < case_count(expected, id); i++) {
        const char part = parts[i / WIDTH % count];
        const float noise = (float)case_get(expected, id, i);
        const float value = part == 'v' ? noise : NOISE * noise + (part == 'q' ? SHIFT : -SHIFT);
        case_set(expected, id, i, (double)bf16_to_f32(bf16_from_f32(value)));
        case_set(tested, id, i, case_get(expected, id, i));
    }
}

/* The tested type's values, for both to go on with. */
static void round_output(CaseRun *expected, CaseRun *tested, TensorId id)
{
    const bool half = graph_tensor(tested->c->graph, id)->dtype == DTYPE_BF16;
    for (int64_t i = 0; i < case_count(expected, id); i++) {
        const float value = (float)case_get(expected, id, i);
        case_set(expected, id, i, (double)(half ? bf16_to_f32(bf16_from_f32(value)) : value));
        case_set(tested, id, i, case_get(expected, id, i));
    }
}

static bool is_near(const char *name, const CaseRun *expected, const CaseRun *tested, const Op *op, int32_t k)
{
    /* ds is rounded to bf16 before it meets k, whose large common part must then cancel. */
    const double tolerance = op->is_backward ? 5e-2 : 1e-2;
    double difference = 0, norm = 0;
    for (int64_t i = 0; i < case_count(expected, op->out[k]); i++) {
        const double e = case_get(expected, op->out[k], i), d = case_get(tested, op->out[k], i) - e;
        difference += d * d;
        norm += e * e;
    }
    const double error = sqrt(difference / norm); /* NaN where any element is */
    if (!(error <= tolerance)) print_error("%s: %s output %d: off by %.3g\n", name, op_info(op->kind)->name, k, error);
    return error <= tolerance;
}

static int check(const OpCase *op_case)
{
    CaseGraph plain, c;
    CaseRun expected, tested;
    bool guards_hold = false;
    int failures = 0;
    assert_int_equal(case_open(op_case, DTYPE_F32, &plain), STATUS_OK);
    assert_int_equal(case_open(op_case, DTYPE_BF16, &c), STATUS_OK);
    assert_int_equal(case_run_open(&plain, ref, SEED, true, &expected), STATUS_OK);
    assert_int_equal(case_run_open(&c, backend, SEED, true, &tested), STATUS_OK);
    for (TensorId id = 0; id < graph_tensor_count(c.graph); id++) {
        if (graph_tensor(c.graph, id)->kind == TENSOR_INPUT) set_input(&expected, &tested, id);
    }
    for (int32_t i = 0; i < graph_op_count(c.graph); i++) {
        const Op *op = graph_op(c.graph, i);
        assert_int_equal(case_run_op(&expected, i, op->accumulate, &guards_hold), STATUS_OK);
        if (case_run_op(&tested, i, op->accumulate, &guards_hold) != STATUS_OK) fail_msg("%s", status_message());
        for (int32_t k = 0; k < op->out_count; k++) {
            if (op->out[k] == TENSOR_NONE) continue;
            failures += !is_near(op_case->name, &expected, &tested, op, k);
            round_output(&expected, &tested, op->out[k]);
        }
        failures += !guards_hold || !case_run_guards_hold(&tested);
        /* That the first sample's are that low is what this test is about. */
        if (!op->is_backward) assert_true(case_get(&expected, op->out[1], 0) < -95);
    }
    case_run_close(&expected);
    case_run_close(&tested);
    case_close(&plain);
    case_close(&c);
    return failures;
}

static void check_all(const char *what, TensorId (*build)(CaseGraph *, const int64_t *), const int64_t (*args)[3],
                      size_t count)
{
    static const char *const patterns[] = {"", ", most in sight", ", few in sight"};
    int failures = 0;
    for (size_t i = 0; i < count; i++) {
        char name[96];
        const int64_t *a = args[i];
        snprintf(name, sizeof name, "%s of %lld rows and %lld keys%s", what, (long long)a[0], (long long)a[1],
                 patterns[a[2]]);
        failures += check(&(OpCase){name, CASE_GRADIENT, build, {a[0], a[1], a[2]}});
    }
    assert_int_equal(failures, 0);
}

static void cross_attention_equals_ref(void **state)
{
    static const int64_t rows[] = {1, 37, 64}, keys[] = {64, 192, 320, KEYS_MAX};
    int64_t args[3 * 4 * 3][3];
    for (int i = 0; i < 3 * 4 * 3; i++) {
        args[i][0] = rows[i / 3 % 3];
        args[i][1] = keys[i / 9];
        args[i][2] = i % 3;
    }
    check_all("cross-attention", build_cross_attention, args, sizeof args / sizeof args[0]);
}

static void attention_equals_ref(void **state)
{
    static const int64_t args[][3] = {{37, 0, NO_MASK},  {64, 0, NO_MASK},  {192, 0, NO_MASK},
                                      {128, 0, NO_MASK}, {64, 77, NO_MASK}, {128, 128, NO_MASK},
                                      {37, 300, MOST},   {64, 320, FEW},    {1, 64, FEW}};
    check_all("attention", build_attention, args, sizeof args / sizeof args[0]);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(cross_attention_equals_ref),
                                       cmocka_unit_test(attention_equals_ref)};
    const BackendOptions options = {.threads = 1};
    if (argc != 2) {
        fprintf(stderr, "usage: test_device_attention ref|cpu|cuda\n");
        return 2;
    }
    if (backend_open_ref(&options, &ref) != STATUS_OK || backend_open(argv[1], &options, &backend) != STATUS_OK) {
        fprintf(stderr, "%s\n", status_message());
        return 1;
    }
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    backend_close(backend);
    backend_close(ref);
    return failed;
}
