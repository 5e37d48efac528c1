/* ref against numbers that PyTorch computed in float64 (op_numbers.h), so that a formula misread the same way in the
 * forward and in the gradient is found too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>

#include "op_cases.h"
#include "op_numbers.h"

static const double tolerance = 2e-6; /* F32 storage; the loss's schedule is rounded alike on both sides */

static Backend *ref;

static TensorId input(CaseGraph *c, Shape shape)
{
    return graph_input(c->graph, "input", DTYPE_F32, shape, c->use != CASE_FORWARD);
}

static TensorId param(CaseGraph *c, const char *name, Shape shape)
{
    return graph_param(c->graph, &(Param){.name = name, .shape = shape, .trainable = true});
}

static TensorId build_conv(CaseGraph *c, const int64_t *a)
{
    const TensorId x = input(c, SHAPE4(2, 4, 6, 3)), w = param(c, "w", SHAPE4(5, 3, 3, 3));
    return op_conv2d(c->graph, x, w, param(c, "b", SHAPE1(5)), TENSOR_NONE, (ConvAttr){3, 3, 2, 0, 0, 1, 1});
}

static TensorId build_group_norm(CaseGraph *c, const int64_t *a)
{
    const TensorId x = input(c, SHAPE4(2, 2, 3, 6)), scale_shift = input(c, SHAPE2(2, 12));
    const TensorId gamma = param(c, "gamma", SHAPE1(6)), beta = param(c, "beta", SHAPE1(6));
    return op_group_norm(c->graph, x, gamma, beta, scale_shift, 3, 1e-5f, ACT_SILU);
}

static TensorId build_layer_norm(CaseGraph *c, const int64_t *a)
{
    const TensorId x = input(c, SHAPE2(3, 5)), gamma = param(c, "gamma", SHAPE1(5));
    return op_layer_norm(c->graph, x, gamma, param(c, "beta", SHAPE1(5)), 1e-5f);
}

static TensorId build_rms_norm(CaseGraph *c, const int64_t *a)
{
    const TensorId x = op_affine(c->graph, input(c, SHAPE2(3, 5)), 0.01f, 0);
    return op_rms_norm(c->graph, x, param(c, "gamma", SHAPE1(5)), 1e-4f);
}

static TensorId build_attention(CaseGraph *c, const int64_t *a)
{
    const TensorId qkv = input(c, SHAPE3(2, 3, 24));
    return op_attention(c->graph, qkv, input(c, SHAPE3(2, 2, 16)), TENSOR_NONE, 2);
}

static TensorId build_cross_attention(CaseGraph *c, const int64_t *a)
{
    const TensorId q = input(c, SHAPE3(2, 3, 8)), k = input(c, SHAPE3(2, 5, 8)), v = input(c, SHAPE3(2, 5, 8));
    return op_cross_attention(c->graph, q, k, v, TENSOR_NONE, TENSOR_NONE, 2, 0.6f);
}

static TensorId build_attention_masked(CaseGraph *c, const int64_t *a)
{
    static const int32_t mask[8] = {1, 0, 7, 0, 0, 0, 0, 0}; /* anything but 0 shows */
    const TensorId qkv = input(c, SHAPE3(2, 3, 24)), context = input(c, SHAPE3(2, 4, 16));
    return op_attention(c->graph, qkv, context, graph_constant(c->graph, "mask", DTYPE_I32, SHAPE2(2, 4), mask), 2);
}

static TensorId build_cross_attention_masked(CaseGraph *c, const int64_t *a)
{
    static const int32_t mask[10] = {1, 0, 1, 1, 0, 0, 0, 0, 0, 0};
    const TensorId q = input(c, SHAPE3(2, 3, 8)), k = input(c, SHAPE3(2, 5, 8)), v = input(c, SHAPE3(2, 5, 8));
    return op_cross_attention(c->graph, q, k, v, graph_constant(c->graph, "mask", DTYPE_I32, SHAPE2(2, 5), mask),
                              TENSOR_NONE, 2, 0);
}

static TensorId build_masked_attention(CaseGraph *c, const int64_t *a)
{
    static const int32_t mask[10] = {1, 0, 1, 1, 0, 0, 0, 0, 0, 0};
    const TensorId q = input(c, SHAPE3(2, 3, 8)), k = input(c, SHAPE3(2, 5, 8)), v = input(c, SHAPE3(2, 5, 8));
    const TensorId bias = input(c, SHAPE3(2, 3, 5));
    return op_cross_attention(c->graph, q, k, v, graph_constant(c->graph, "mask", DTYPE_I32, SHAPE2(2, 5), mask), bias,
                              2, 0);
}

static TensorId build_activation(CaseGraph *c, const int64_t *a)
{
    return op_activation(c->graph, input(c, SHAPE2(2, 8)), (Activation)a[0]);
}

static float wave(int k, int64_t i)
{
    return (float)(1.3 * sin(0.9 * (double)i * (1 + 0.13 * k) + k));
}

static TensorId build_multiply(CaseGraph *c, const int64_t *a)
{
    const TensorId x = input(c, SHAPE2(2, 8)), y = input(c, SHAPE2(2, 8));
    return op_multiply(c->graph, op_multiply(c->graph, x, y), x);
}

static TensorId build_round(CaseGraph *c, const int64_t *a)
{
    float values[200];
    for (int i = 0; i < 200; i++) values[i] = ldexpf(wave(0, i), i % 50 - 28);
    return op_round(c->graph, graph_constant(c->graph, "x", DTYPE_F32, SHAPE1(200), values), (RoundTo)a[0]);
}

static TensorId build_position_ids(CaseGraph *c, const int64_t *a)
{
    static const int32_t ids[21] = {5, 1, 7, 7, 1, 1, 9, 1, 1, 1, 1, 1, 1, 1, 0, 2, 3, 4, 5, 6, 1};
    return op_position_ids(c->graph, graph_constant(c->graph, "ids", DTYPE_I32, SHAPE2(3, 7), ids), 1);
}

/* rows buckets max_distance: the table holds each bucket's own number, and 1000 more for the second head */
static TensorId build_relative_bias(CaseGraph *c, const int64_t *a)
{
    float table[64];
    for (int64_t i = 0; i < 2 * a[1]; i++) table[i] = (float)(i >> 1) + (i & 1 ? 1000.0f : 0.0f);
    const TensorId id = graph_constant(c->graph, "table", DTYPE_F32, SHAPE2(a[1], 2), table);
    return op_relative_bias(c->graph, id, a[0], (int32_t)a[2]);
}

static TensorId build_posterior_sample(CaseGraph *c, const int64_t *a)
{
    float values[96];
    for (int i = 0; i < 96; i++) values[i] = i % 8 < 4 ? wave(0, i) : wave(0, i) * 30 - 5;
    const TensorId moments = graph_constant(c->graph, "moments", DTYPE_F32, SHAPE4(2, 2, 3, 8), values);
    for (int i = 0; i < 48; i++) values[i] = wave(1, i);
    const TensorId noise = graph_constant(c->graph, "noise", DTYPE_F32, SHAPE4(2, 2, 3, 4), values);
    return op_posterior_sample(c->graph, moments, a[0] ? noise : TENSOR_NONE, 0.0512f);
}

static TensorId schedule(CaseGraph *c)
{
    static float table[1000][8];
    double bar = 1;
    for (int t = 0; t < 1000; t++) {
        const double beta = 1e-4 + (0.02 - 1e-4) * t / 999, before = bar;
        bar *= 1 - beta;
        const double variance = beta * (1 - before) / (1 - bar);
        const double row[8] = {sqrt(bar),
                               sqrt(1 - bar),
                               beta * sqrt(before) / (1 - bar),
                               (1 - before) * sqrt(1 - beta) / (1 - bar),
                               log(variance),
                               log(beta),
                               sqrt(1 / bar),
                               sqrt(1 / bar - 1)};
        for (int k = 0; k < 8; k++) table[t][k] = (float)row[k];
    }
    table[0][4] = table[1][4]; /* the first variance is 0: clipped to the second */
    return graph_constant(c->graph, "table", DTYPE_F32, SHAPE2(1000, 8), table);
}

static TensorId build_diffusion_loss(CaseGraph *c, const int64_t *a)
{
    static const float t[4] = {0, 1, 700, 999};
    float x0[48], noise[48];
    for (int i = 0; i < 48; i++) x0[i] = fmaxf(-1, fminf(1, wave(1, i))), noise[i] = wave(2, i);
    const Shape shape = SHAPE4(4, 2, 2, 3);
    const TensorId out = input(c, SHAPE4(4, 2, 2, 6)), table = schedule(c);
    const TensorId ox0 = graph_constant(c->graph, "x0", DTYPE_F32, shape, x0);
    const TensorId onoise = graph_constant(c->graph, "noise", DTYPE_F32, shape, noise);
    const TensorId ot = graph_constant(c->graph, "t", DTYPE_F32, SHAPE1(4), t);
    const TensorId x_t = op_q_sample(c->graph, ox0, onoise, ot, table);
    return op_diffusion_loss(c->graph, out, ox0, x_t, onoise, ot, table, 0.25f, 0.75f);
}

static TensorId build_timestep_embedding(CaseGraph *c, const int64_t *a)
{
    static const float t[3] = {0, 3, 999};
    const TensorId id = graph_constant(c->graph, "t", DTYPE_F32, SHAPE1(3), t);
    return op_timestep_embedding(c->graph, id, 8, 10000);
}

static void compare(const CaseRun *run, TensorId id, const char *what, const double *expected, size_t count)
{
    double difference = 0, norm = 0;
    assert_int_equal(case_count(run, id), count);
    for (size_t i = 0; i < count; i++) {
        difference += pow(case_get(run, id, (int64_t)i) - expected[i], 2);
        norm += expected[i] * expected[i];
    }
    if (!(sqrt(difference / norm) <= tolerance)) fail_msg("%s: relative error %.3g", what, sqrt(difference / norm));
}

/* Leaves, in the order in which they were made (the seed after them), get wave 0, 1, ... */
static void open_and_run(const OpCase *op_case, CaseGraph *c, CaseRun *run)
{
    int leaf = 0;
    assert_int_equal(case_open(op_case, DTYPE_F32, c), STATUS_OK);
    assert_int_equal(case_run_open(c, ref, 0, false, run), STATUS_OK);
    for (TensorId id = 0; id < graph_tensor_count(c->graph); id++) {
        const Tensor *t = graph_tensor(c->graph, id);
        if (t->view_of != TENSOR_NONE || (t->kind != TENSOR_INPUT && t->kind != TENSOR_PARAM)) continue;
        for (int64_t i = 0; i < case_count(run, id); i++) case_set(run, id, i, (double)wave(leaf, i));
        leaf++;
    }
    for (int32_t i = 0; i < graph_op_count(c->graph); i++) {
        bool guards_hold;
        assert_int_equal(case_run_op(run, i, graph_op(c->graph, i)->accumulate, &guards_hold), STATUS_OK);
    }
}

/* The gradient of the leaf with this number. */
static TensorId leaf_gradient(const CaseGraph *c, int wanted)
{
    for (TensorId id = 0, leaf = 0; id < graph_tensor_count(c->graph); id++) {
        const Tensor *t = graph_tensor(c->graph, id);
        if (t->view_of != TENSOR_NONE || (t->kind != TENSOR_INPUT && t->kind != TENSOR_PARAM)) continue;
        if (leaf++ == wanted) return t->grad;
    }
    return TENSOR_NONE;
}

#define BEGIN(build, use, ...)                                  \
    CaseGraph c;                                                \
    CaseRun run;                                                \
    const OpCase op_case = {#build, use, build, {__VA_ARGS__}}; \
    open_and_run(&op_case, &c, &run)
#define COMPARE(id, numbers) compare(&run, id, #numbers, numbers, sizeof numbers / sizeof *numbers)
#define END               \
    case_run_close(&run); \
    case_close(&c)

static void conv(void **state)
{
    BEGIN(build_conv, CASE_GRADIENT, 0);
    COMPARE(c.output, conv_y);
    COMPARE(leaf_gradient(&c, 0), conv_grad0);
    COMPARE(leaf_gradient(&c, 1), conv_grad1);
    COMPARE(leaf_gradient(&c, 2), conv_grad2);
    END;
}

static void group_norm(void **state)
{
    BEGIN(build_group_norm, CASE_GRADIENT, 0);
    COMPARE(c.output, group_norm_y);
    COMPARE(leaf_gradient(&c, 0), group_norm_grad0);
    COMPARE(leaf_gradient(&c, 1), group_norm_grad1);
    COMPARE(leaf_gradient(&c, 2), group_norm_grad2);
    COMPARE(leaf_gradient(&c, 3), group_norm_grad3);
    END;
}

static void layer_norm(void **state)
{
    BEGIN(build_layer_norm, CASE_GRADIENT, 0);
    COMPARE(c.output, layer_norm_y);
    COMPARE(leaf_gradient(&c, 0), layer_norm_grad0);
    COMPARE(leaf_gradient(&c, 1), layer_norm_grad1);
    COMPARE(leaf_gradient(&c, 2), layer_norm_grad2);
    END;
}

static void rms_norm(void **state)
{
    BEGIN(build_rms_norm, CASE_FORWARD, 0);
    COMPARE(c.output, rms_norm_y);
    END;
}

static void attention(void **state)
{
    BEGIN(build_attention, CASE_GRADIENT, 0);
    COMPARE(c.output, attention_y);
    COMPARE(graph_op(c.graph, 0)->out[1], attention_lse);
    COMPARE(leaf_gradient(&c, 0), attention_grad0);
    COMPARE(leaf_gradient(&c, 1), attention_grad1);
    END;
}

static void cross_attention(void **state)
{
    BEGIN(build_cross_attention, CASE_GRADIENT, 0);
    COMPARE(c.output, cross_attention_y);
    COMPARE(leaf_gradient(&c, 0), cross_attention_grad0);
    COMPARE(leaf_gradient(&c, 1), cross_attention_grad1);
    COMPARE(leaf_gradient(&c, 2), cross_attention_grad2);
    END;
}

static void attention_masked(void **state)
{
    BEGIN(build_attention_masked, CASE_GRADIENT, 0);
    COMPARE(c.output, attention_masked_y);
    COMPARE(leaf_gradient(&c, 0), attention_masked_grad0);
    COMPARE(leaf_gradient(&c, 1), attention_masked_grad1);
    END;
}

static void cross_attention_masked(void **state)
{
    BEGIN(build_cross_attention_masked, CASE_GRADIENT, 0);
    COMPARE(c.output, cross_attention_masked_y);
    COMPARE(leaf_gradient(&c, 0), cross_attention_masked_grad0);
    COMPARE(leaf_gradient(&c, 1), cross_attention_masked_grad1);
    COMPARE(leaf_gradient(&c, 2), cross_attention_masked_grad2);
    END;
}

static void masked_attention(void **state)
{
    BEGIN(build_masked_attention, CASE_FORWARD, 0);
    COMPARE(c.output, masked_attention_y);
    END;
}

static void silu(void **state)
{
    BEGIN(build_activation, CASE_GRADIENT, ACT_SILU);
    COMPARE(c.output, silu_y);
    COMPARE(leaf_gradient(&c, 0), silu_grad0);
    END;
}

static void gelu(void **state)
{
    BEGIN(build_activation, CASE_GRADIENT, ACT_GELU);
    COMPARE(c.output, gelu_y);
    COMPARE(leaf_gradient(&c, 0), gelu_grad0);
    END;
}

static void gelu_tanh(void **state)
{
    BEGIN(build_activation, CASE_GRADIENT, ACT_GELU_TANH);
    COMPARE(c.output, gelu_tanh_y);
    COMPARE(leaf_gradient(&c, 0), gelu_tanh_grad0);
    END;
}

static void multiply(void **state)
{
    BEGIN(build_multiply, CASE_GRADIENT, 0);
    COMPARE(c.output, multiply_y);
    COMPARE(leaf_gradient(&c, 0), multiply_grad0);
    COMPARE(leaf_gradient(&c, 1), multiply_grad1);
    END;
}

/* Exactly; the numbers have 1e30 where an infinity belongs. */
static void check_rounding(RoundTo to, const double expected[200])
{
    BEGIN(build_round, CASE_FORWARD, to);
    for (int64_t i = 0; i < 200; i++) {
        const double got = case_get(&run, c.output, i);
        const double wanted = fabs(expected[i]) < 1e29 ? expected[i] : copysign(INFINITY, expected[i]);
        if (got != wanted && fabs(got - wanted) > 1e-9 * fabs(wanted))
            fail_msg("%lld: %.9g, expected %.9g", (long long)i, got, wanted);
    }
    END;
}

static void rounding(void **state)
{
    check_rounding(ROUND_F16, round_f16);
    check_rounding(ROUND_BF16, round_bf16);
}

static void position_ids(void **state)
{
    BEGIN(build_position_ids, CASE_FORWARD, 0);
    for (int64_t i = 0; i < 21; i++) assert_true(case_get(&run, c.output, i) == position_ids_y[i]);
    END;
}

static void check_relative_bias(int64_t rows, int64_t buckets, int64_t max_distance, const double *expected)
{
    BEGIN(build_relative_bias, CASE_FORWARD, rows, buckets, max_distance);
    for (int64_t i = 0; i < 2 * rows * rows; i++) {
        const int64_t head = i / rows / rows, distance = i % rows - i / rows % rows;
        const double wanted = expected[distance + rows - 1] + 1000 * (double)head;
        if (case_get(&run, c.output, i) != wanted)
            fail_msg("%lld buckets, distance %lld: %g, expected %g", (long long)buckets, (long long)distance,
                     case_get(&run, c.output, i), wanted);
    }
    END;
}

static void relative_bias(void **state)
{
    check_relative_bias(150, 32, 128, relative_buckets_32);
    check_relative_bias(30, 6, 20, relative_buckets_6);
}

static void posterior_sample(void **state)
{
    BEGIN(build_posterior_sample, CASE_FORWARD, 1);
    COMPARE(c.output, posterior_sample_y);
    END;
}

static void posterior_mean(void **state)
{
    BEGIN(build_posterior_sample, CASE_FORWARD, 0);
    COMPARE(c.output, posterior_mean_y);
    END;
}

static void diffusion_loss(void **state)
{
    BEGIN(build_diffusion_loss, CASE_LOSS_FROZEN, 0);
    COMPARE(c.output, diffusion_loss_y);
    COMPARE(leaf_gradient(&c, 0), diffusion_loss_grad0);
    END;
}

static void timestep_embedding(void **state)
{
    BEGIN(build_timestep_embedding, CASE_FORWARD, 0);
    COMPARE(c.output, timestep_embedding_y);
    END;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conv),
        cmocka_unit_test(group_norm),
        cmocka_unit_test(layer_norm),
        cmocka_unit_test(rms_norm),
        cmocka_unit_test(attention),
        cmocka_unit_test(attention_masked),
        cmocka_unit_test(cross_attention_masked),
        cmocka_unit_test(cross_attention),
        cmocka_unit_test(masked_attention),
        cmocka_unit_test(silu),
        cmocka_unit_test(gelu),
        cmocka_unit_test(gelu_tanh),
        cmocka_unit_test(multiply),
        cmocka_unit_test(rounding),
        cmocka_unit_test(position_ids),
        cmocka_unit_test(relative_bias),
        cmocka_unit_test(posterior_sample),
        cmocka_unit_test(posterior_mean),
        cmocka_unit_test(diffusion_loss),
        cmocka_unit_test(timestep_embedding),
    };
    if (backend_open_ref(&(BackendOptions){.threads = 1}, &ref) != STATUS_OK) return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    backend_close(ref);
    return failed;
}
