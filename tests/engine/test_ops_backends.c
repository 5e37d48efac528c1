/* Every op of a backend against ref in F32, on the same inputs, one op at a time: set and add, guard bytes around
 * everything, the same bits twice. The backend and its threads are the arguments; no op of ops.def may lack a case. A
 * third argument names one op or one family of them: the others then serve to give it inputs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/arena.h"
#include "base/bf16.h"
#include "op_cases.h"

enum { SEED = 23 };

static Backend *ref, *backend; /* the oracle and the one under test */
static double worst[OP_COUNT]; /* relative L2 by op, of the running test */
static bool wanted[OP_COUNT];  /* all, or those that the command line names */

/* A tensor's bytes, to put back later. */
typedef struct Saved {
    void *bytes[OP_MAX_OUT];
} Saved;

static void save(const CaseRun *run, const Op *op, Saved *saved)
{
    for (int32_t k = 0; k < op->out_count; k++) {
        saved->bytes[k] = NULL;
        if (op->out[k] == TENSOR_NONE) continue;
        saved->bytes[k] = mem_alloc_array(1, case_bytes(run, op->out[k]));
        assert_non_null(saved->bytes[k]);
        memcpy(saved->bytes[k], case_run_data(run, op->out[k]), case_bytes(run, op->out[k]));
    }
}

static void restore(CaseRun *run, const Op *op, const Saved *saved)
{
    for (int32_t k = 0; k < op->out_count; k++) {
        if (op->out[k] != TENSOR_NONE)
            memcpy(case_run_data(run, op->out[k]), saved->bytes[k], case_bytes(run, op->out[k]));
    }
}

static void release(Saved *saved, const Op *op)
{
    for (int32_t k = 0; k < op->out_count; k++) free(saved->bytes[k]);
}

/* What lies in a tensor before something is added to it, in the tested type: for the caller to free. */
static float *added_to(const CaseRun *tested, TensorId id)
{
    const int64_t count = case_count(tested, id);
    float *values = mem_alloc_array((size_t)count + 1, sizeof values[0]);
    assert_non_null(values);
    random_normal(SEED + 1, RANDOM_TEST, (uint64_t)id, 0, values, (size_t)count);
    if (graph_tensor(tested->c->graph, id)->dtype == DTYPE_BF16)
        for (int64_t i = 0; i < count; i++) values[i] = bf16_to_f32(bf16_from_f32(values[i]));
    return values;
}

/* Garbage where the op must set, the numbers of added_to where it must add. */
static void prepare_outputs(CaseRun *run, const CaseRun *tested, const Op *op, uint32_t accumulate)
{
    for (int32_t k = 0; k < op->out_count; k++) {
        const TensorId out = op->out[k];
        if (out == TENSOR_NONE) continue;
        if (!(accumulate >> k & 1u)) {
            memset(case_run_data(run, out), 0xff, case_bytes(run, out));
            continue;
        }
        float *added = added_to(tested, out);
        for (int64_t i = 0; i < case_count(run, out); i++) case_set(run, out, i, (double)added[i]);
        free(added);
    }
}

static double relative_error(const CaseRun *expected, const CaseRun *tested, TensorId id)
{
    double difference = 0, norm = 0;
    const int64_t count = case_count(expected, id);
    for (int64_t i = 0; i < count; i++) {
        const double e = case_get(expected, id, i), d = case_get(tested, id, i) - e;
        difference += d * d;
        norm += e * e;
    }
    /* Where the true result is zero, or only rounding is left of it, nothing smaller than this is asked. */
    return sqrt(difference) / fmax(sqrt(norm), 1e-5 * sqrt((double)count));
}

static int compare(const char *name, CaseRun *expected, CaseRun *tested, const Op *op, uint32_t accumulate,
                   double tolerance)
{
    int failures = 0;
    for (int32_t k = 0; k < op->out_count; k++) {
        if (op->out[k] == TENSOR_NONE) continue;
        const double error = relative_error(expected, tested, op->out[k]);
        if (!(error <= worst[op->kind])) worst[op->kind] = error;
        if (error <= tolerance) continue;
        print_error("%s: %s output %d, accumulate %x: relative error %.3g\n", name, op_info(op->kind)->name, k,
                    accumulate, error);
        failures++;
    }
    return failures;
}

/* The oracle itself: what it added equals what it sets. `plain`: its outputs when it set them. */
static int check_oracle_adds(const char *name, const CaseRun *expected, const CaseRun *tested, const Op *op,
                             uint32_t accumulate, const Saved *plain)
{
    int failures = 0;
    for (int32_t k = 0; k < op->out_count; k++) {
        const TensorId out = op->out[k];
        double difference = 0;
        if (out == TENSOR_NONE) continue;
        float *added = accumulate >> k & 1u ? added_to(tested, out) : NULL;
        for (int64_t i = 0; i < case_count(expected, out); i++) {
            const double set = (double)((const float *)plain->bytes[k])[i], before = added ? (double)added[i] : 0;
            const double error = fabs(case_get(expected, out, i) - before - set) / (1 + fabs(set));
            if (!(error <= difference)) difference = error;
        }
        free(added);
        if (difference <= 1e-6) continue;
        print_error("%s: ref's %s output %d, accumulate %x: off by %.3g\n", name, op_info(op->kind)->name, k,
                    accumulate, difference);
        failures++;
    }
    return failures;
}

static int run_both(const char *name, CaseRun *expected, CaseRun *tested, int32_t index, uint32_t accumulate,
                    double tolerance)
{
    const Op *op = graph_op(tested->c->graph, index);
    bool guards_hold = false;
    int failures = 0;
    Saved first;
    prepare_outputs(expected, tested, op, accumulate);
    prepare_outputs(tested, tested, op, accumulate);
    assert_int_equal(case_run_op(expected, index, accumulate, &guards_hold), STATUS_OK);
    if (case_run_op(tested, index, accumulate, &guards_hold) != STATUS_OK) {
        print_error("%s: %s: %s\n", name, op_info(op->kind)->name, status_message());
        return 1;
    }
    if (!guards_hold || !case_run_guards_hold(tested)) {
        print_error("%s: %s wrote outside its memory\n", name, op_info(op->kind)->name);
        failures++;
    }
    failures += compare(name, expected, tested, op, accumulate, tolerance);
    save(tested, op, &first);
    prepare_outputs(tested, tested, op, accumulate);
    assert_int_equal(case_run_op(tested, index, accumulate, &guards_hold), STATUS_OK);
    for (int32_t k = 0; k < op->out_count; k++) {
        if (op->out[k] == TENSOR_NONE) continue;
        if (memcmp(first.bytes[k], case_run_data(tested, op->out[k]), case_bytes(tested, op->out[k])) == 0) continue;
        print_error("%s: %s output %d differs between two runs\n", name, op_info(op->kind)->name, k);
        failures++;
    }
    release(&first, op);
    return failures;
}

/* Gives the op under test the oracle's inputs. */
static void copy_inputs(const CaseRun *expected, CaseRun *tested, const Op *op)
{
    for (int32_t k = 0; k < op->in_count; k++) {
        const TensorId in = op->in[k];
        if (in == TENSOR_NONE) continue;
        for (int64_t i = 0; i < case_count(expected, in); i++) case_set(tested, in, i, case_get(expected, in, i));
    }
}

/* The oracle goes on from values that the tested type can hold. */
static void round_outputs(CaseRun *expected, const CaseRun *tested, const Op *op)
{
    for (int32_t k = 0; k < op->out_count; k++) {
        const TensorId out = op->out[k];
        if (out == TENSOR_NONE || graph_tensor(tested->c->graph, out)->dtype != DTYPE_BF16) continue;
        for (int64_t i = 0; i < case_count(expected, out); i++) {
            case_set(expected, out, i, (double)bf16_to_f32(bf16_from_f32((float)case_get(expected, out, i))));
        }
    }
}

static int check_op(const char *name, CaseRun *expected, CaseRun *tested, int32_t index, double tolerance)
{
    const Op *op = graph_op(expected->c->graph, index);
    const uint32_t all = (1u << op->out_count) - 1;
    bool guards_hold = false;
    const uint32_t modes[] = {all, 0x5u & all, 0xau & all};
    Saved before, plain;
    int failures = 0;
    save(expected, op, &before);
    if (wanted[op->kind]) {
        copy_inputs(expected, tested, op);
        failures += run_both(name, expected, tested, index, 0, tolerance);
        save(expected, op, &plain);
        for (int m = 0; m < (op->out_count > 1 ? 3 : 1) && op->is_backward; m++) {
            failures += run_both(name, expected, tested, index, modes[m], tolerance);
            failures += check_oracle_adds(name, expected, tested, op, modes[m], &plain);
        }
        release(&plain, op);
    }
    restore(expected, op, &before);
    assert_int_equal(case_run_op(expected, index, op->accumulate, &guards_hold), STATUS_OK);
    round_outputs(expected, tested, op);
    release(&before, op);
    return failures;
}

static bool has_wanted(const Graph *graph)
{
    for (int32_t i = 0; i < graph_op_count(graph); i++) {
        if (wanted[graph_op(graph, i)->kind]) return true;
    }
    return false;
}

static int check_case(const OpCase *op_case, Dtype dtype, double tolerance, int *reached)
{
    CaseGraph plain, c;
    CaseRun expected, tested;
    int failures = 0;
    assert_int_equal(case_open(op_case, DTYPE_F32, &plain), STATUS_OK);
    assert_int_equal(case_open(op_case, dtype, &c), STATUS_OK);
    assert_int_equal(graph_op_count(plain.graph), graph_op_count(c.graph));
    assert_int_equal(graph_tensor_count(plain.graph), graph_tensor_count(c.graph));
    if (!has_wanted(plain.graph)) goto done;
    assert_int_equal(case_run_open(&plain, ref, SEED, dtype == DTYPE_BF16, &expected), STATUS_OK);
    if (case_run_open(&c, backend, SEED, dtype == DTYPE_BF16, &tested) != STATUS_OK) {
        print_error("%s: %s\n", op_case->name, status_message());
        failures++;
    } else {
        for (int32_t i = 0; i < graph_op_count(c.graph); i++) {
            reached[graph_op(c.graph, i)->kind]++;
            failures += check_op(op_case->name, &expected, &tested, i, tolerance);
        }
        case_run_close(&tested);
    }
    case_run_close(&expected);
done:
    case_close(&plain);
    case_close(&c);
    return failures;
}

static void check_all(Dtype dtype, double tolerance)
{
    int reached[OP_COUNT] = {0};
    int failures = 0;
    memset(worst, 0, sizeof worst);
    for (int32_t i = 0; i < op_case_count; i++) failures += check_case(&op_cases[i], dtype, tolerance, reached);
    for (int kind = 0; kind < OP_COUNT; kind++) {
        const char *name = op_info((OpKind)kind)->name;
        if (!wanted[kind]) continue;
        if (reached[kind] < 2) {
            print_error("%s is reached %d times by op_cases.c; add cases\n", name, reached[kind]);
            failures++;
        }
        print_message("%-22s %-5s largest relative error %.2g\n", name, dtype_name(dtype), worst[kind]);
    }
    assert_int_equal(failures, 0);
}

static void f32_equals_ref(void **state)
{
    check_all(DTYPE_F32, 1e-5);
}

static void bf16_equals_ref(void **state)
{
    check_all(DTYPE_BF16, 1e-2);
}

/* All where there is no name; false where no op or family has it. */
static bool want(const char *name)
{
    bool any = false;
    const char *const families[OP_COUNT] = {
#define OP(NAME, family) [OP_##NAME] = #family,
#include "engine/ops.def"
#undef OP
    };
    for (int kind = 0; kind < OP_COUNT; kind++) {
        wanted[kind] =
            !name || strcasecmp(name, families[kind]) == 0 || strcasecmp(name, op_info((OpKind)kind)->name) == 0;
        any = any || wanted[kind];
    }
    return any;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(f32_equals_ref), cmocka_unit_test(bf16_equals_ref)};
    if (argc < 3 || argc > 4 || !want(argc == 4 ? argv[3] : NULL)) {
        fprintf(stderr, "usage: test_ops_backends ref|cpu|cuda THREADS [OP|FAMILY]\n");
        return 2;
    }
    const BackendOptions options = {.threads = (int32_t)strtol(argv[2], NULL, 10)};
    if (backend_open_ref(&options, &ref) != STATUS_OK || backend_open(argv[1], &options, &backend) != STATUS_OK) {
        fprintf(stderr, "%s\n", status_message());
        return 1;
    }
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    backend_close(backend);
    backend_close(ref);
    return failed;
}
