/* Every gradient rule and gradient kernel of ref against the forward pass, by directional derivatives in F32. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "op_cases.h"

enum { SEED = 11, DIRECTIONS = 2 };
static const double tolerance = 1e-3;

static Backend *ref;

typedef struct Leaf {
    TensorId id, grad;
    int64_t count;
    float *value, *direction;
} Leaf;

/* Runs ops [0, end) as the graph has them. */
static void run_ops(CaseRun *run, int32_t end)
{
    for (int32_t i = 0; i < end; i++) {
        bool guards_hold = false;
        assert_int_equal(case_run_op(run, i, graph_op(run->c->graph, i)->accumulate, &guards_hold), STATUS_OK);
        assert_true(guards_hold);
    }
}

/* The op that wrote the output of a loss case. */
static const Op *loss_op(const CaseGraph *c)
{
    for (int32_t i = 0; i < graph_op_count(c->graph); i++) {
        if (graph_op(c->graph, i)->out[0] == c->output) return graph_op(c->graph, i);
    }
    return NULL;
}

static double scalar(CaseRun *run)
{
    const CaseGraph *c = run->c;
    const double scale = c->use == CASE_LOSS ? (double)loss_op(c)->attr.diffusion.loss_scale : 1;
    double sum = 0;
    run_ops(run, graph_forward_op_count(c->graph));
    for (int64_t i = 0; i < case_count(run, c->output); i++) {
        sum += case_get(run, c->output, i) * (c->use == CASE_LOSS ? scale : case_get(run, c->seed, i));
    }
    return sum;
}

/* d scalar / d step along the leaves' directions: a five-point stencil, whose error is of fourth order. */
static double measured_slope(CaseRun *run, Leaf *leaves, int32_t count, double step)
{
    static const double offsets[] = {-2, -1, 1, 2}, weights[] = {1.0 / 12, -8.0 / 12, 8.0 / 12, -1.0 / 12};
    double slope = 0;
    for (int p = 0; p < 4; p++) {
        for (int32_t l = 0; l < count; l++) {
            for (int64_t i = 0; i < leaves[l].count; i++) {
                const double value = (double)leaves[l].value[i] + offsets[p] * step * (double)leaves[l].direction[i];
                case_set(run, leaves[l].id, i, value);
            }
        }
        slope += weights[p] * scalar(run) / step;
    }
    for (int32_t l = 0; l < count; l++) {
        for (int64_t i = 0; i < leaves[l].count; i++) case_set(run, leaves[l].id, i, (double)leaves[l].value[i]);
    }
    return slope;
}

/* Draws a direction along which the slope is not small only by chance; returns that slope by the gradients. */
static double draw_direction(CaseRun *run, Leaf *leaves, int32_t count, uint64_t stream)
{
    for (uint64_t attempt = 0;; attempt++) {
        double slope = 0, norm = 0;
        for (int32_t l = 0; l < count; l++) {
            random_normal(SEED + 1 + attempt, RANDOM_TEST, stream << 16 | (uint64_t)leaves[l].id, 0,
                          leaves[l].direction, (size_t)leaves[l].count);
            for (int64_t i = 0; i < leaves[l].count; i++) {
                const double g = case_get(run, leaves[l].grad, i);
                slope += g * (double)leaves[l].direction[i];
                norm += g * g;
            }
        }
        if (norm == 0 || fabs(slope) > 0.3 * sqrt(norm)) return slope;
    }
}

static double worst;
static const char *worst_name;

static int check_direction(const char *name, CaseRun *run, Leaf *leaves, int32_t count, uint64_t stream)
{
    const double expected = draw_direction(run, leaves, count, stream);
    const double slope = measured_slope(run, leaves, count, 2e-2);
    const double error = fabs(slope - expected) / fmax(fabs(expected), 1e-6);
    if (error > worst) worst = error, worst_name = name;
    if (error <= tolerance) return 0;
    print_error("%s: along %s the slope is %.9g, by the gradient %.9g: relative error %.2g\n", name,
                count == 1 ? graph_tensor(run->c->graph, leaves[0].id)->name : "everything", slope, expected, error);
    return 1;
}

static int check_case(const OpCase *op_case, bool *reached)
{
    CaseGraph c;
    CaseRun run;
    Leaf leaves[16] = {{0}};
    int32_t count = 0;
    int failures = 0;
    assert_int_equal(case_open(op_case, DTYPE_F32, &c), STATUS_OK);
    assert_int_equal(case_run_open(&c, ref, SEED, false, &run), STATUS_OK);
    for (int32_t i = 0; i < graph_op_count(c.graph); i++) reached[graph_op(c.graph, i)->kind] = true;
    run_ops(&run, graph_op_count(c.graph));
    assert_true(case_run_guards_hold(&run));
    for (TensorId id = 0; id < graph_tensor_count(c.graph); id++) {
        const Tensor *t = graph_tensor(c.graph, id);
        if (t->view_of != TENSOR_NONE || !t->requires_grad || (t->kind != TENSOR_INPUT && t->kind != TENSOR_PARAM)) {
            continue;
        }
        assert_int_not_equal(t->grad, TENSOR_NONE);
        Leaf *leaf = &leaves[count++];
        *leaf = (Leaf){.id = id, .grad = t->grad, .count = case_count(&run, id)};
        leaf->value = mem_alloc_array((size_t)leaf->count, sizeof(float));
        leaf->direction = mem_alloc_array((size_t)leaf->count, sizeof(float));
        for (int64_t i = 0; i < leaf->count; i++) leaf->value[i] = (float)case_get(&run, id, i);
    }
    assert_true(count > 0);
    for (uint64_t d = 0; d < DIRECTIONS; d++) {
        failures += check_direction(op_case->name, &run, leaves, count, d);
        for (int32_t l = 0; l < count && count > 1; l++) {
            failures += check_direction(op_case->name, &run, &leaves[l], 1, DIRECTIONS + d);
        }
    }
    for (int32_t l = 0; l < count; l++) {
        free(leaves[l].value);
        free(leaves[l].direction);
    }
    case_run_close(&run);
    case_close(&c);
    return failures;
}

static void every_gradient_matches_the_slope(void **state)
{
    bool reached[OP_COUNT] = {false};
    int failures = 0;
    for (int32_t i = 0; i < op_case_count; i++) {
        if (op_cases[i].use == CASE_GRADIENT || op_cases[i].use == CASE_LOSS)
            failures += check_case(&op_cases[i], reached);
    }
    for (int kind = 0; kind < OP_COUNT; kind++) {
        if (op_info((OpKind)kind)->gradient && !reached[kind]) {
            print_error("%s has a gradient rule and no case with a gradient\n", op_info((OpKind)kind)->name);
            failures++;
        }
    }
    print_message("largest relative error %.2g (%s)\n", worst, worst_name);
    assert_int_equal(failures, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_gradient_matches_the_slope)};
    if (backend_open_ref(&(BackendOptions){.threads = 1}, &ref) != STATUS_OK) return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    backend_close(ref);
    return failed;
}
