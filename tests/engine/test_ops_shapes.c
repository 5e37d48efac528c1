/* Constructors: the shapes they give, what they refuse and how they say so; costs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/ops.h"

static ParamTable *table;
static Graph *g;

static int open_graph(void **state)
{
    if (param_table_create(&table) != STATUS_OK) return 1;
    return graph_create(table, DTYPE_F32, &g) == STATUS_OK ? 0 : 1;
}

static int close_graph(void **state)
{
    graph_free(g);
    param_table_free(table);
    return 0;
}

static TensorId in(const char *name, Shape shape)
{
    return graph_input(g, name, DTYPE_F32, shape, false);
}

static TensorId weight(const char *name, Shape shape)
{
    return graph_param(g, &(Param){.name = name, .shape = shape, .trainable = true});
}

static void assert_shape(TensorId id, Shape shape)
{
    assert_int_equal(graph_status(g), STATUS_OK);
    assert_true(shape_equal(&graph_tensor(g, id)->shape, &shape));
}

static void shapes(void **state)
{
    const TensorId x = in("x", SHAPE4(2, 9, 7, 6)), w = weight("w", SHAPE4(8, 3, 3, 6));
    assert_shape(op_conv2d(g, x, w, TENSOR_NONE, TENSOR_NONE, conv_same(3)), SHAPE4(2, 9, 7, 8));
    assert_shape(op_conv2d(g, x, w, TENSOR_NONE, TENSOR_NONE, (ConvAttr){3, 3, 2, 0, 0, 1, 1}), SHAPE4(2, 4, 3, 8));
    assert_shape(op_conv2d_transposed(g, in("dy", SHAPE4(2, 4, 3, 8)), w, 9, 7, (ConvAttr){3, 3, 2, 0, 0, 1, 1}),
                 SHAPE4(2, 9, 7, 6));
    assert_shape(op_linear(g, x, weight("l", SHAPE2(5, 6)), TENSOR_NONE, TENSOR_NONE, ACT_NONE), SHAPE4(2, 9, 7, 5));
    assert_shape(op_attention(g, in("qkv", SHAPE3(2, 10, 48)), in("context", SHAPE3(2, 3, 32)), TENSOR_NONE, 4),
                 SHAPE3(2, 10, 16));
    assert_shape(op_resample(g, x, RESAMPLE_UP2_NEAREST), SHAPE4(2, 18, 14, 6));
    assert_shape(op_resample(g, in("even", SHAPE4(2, 8, 6, 3)), RESAMPLE_DOWN2_AVERAGE), SHAPE4(2, 4, 3, 3));
    assert_shape(op_concat(g, (TensorId[]){x, x, x}, 3, 3), SHAPE4(2, 9, 7, 18));
    assert_shape(op_slice(g, x, 1, 4, 5), SHAPE4(2, 5, 7, 6));
    assert_shape(op_timestep_embedding(g, in("t", SHAPE1(2)), 10, 10000), SHAPE2(2, 10));
    const TensorId normed =
        op_group_norm(g, x, weight("gamma", SHAPE1(6)), weight("beta", SHAPE1(6)), TENSOR_NONE, 3, 1e-5f, ACT_NONE);
    assert_shape(normed, SHAPE4(2, 9, 7, 6));
    const Op *op = graph_op(g, graph_op_count(g) - 1);
    assert_shape(op->out[1], SHAPE3(2, 3, 2));
    assert_int_equal(graph_tensor(g, op->out[1])->dtype, DTYPE_F32);
    assert_shape(op_rms_norm(g, x, weight("gamma", SHAPE1(6)), 1e-6f), SHAPE4(2, 9, 7, 6));
    assert_shape(op_multiply(g, x, x), SHAPE4(2, 9, 7, 6));
    assert_shape(op_round(g, x, ROUND_F16), SHAPE4(2, 9, 7, 6));
    assert_shape(op_posterior_sample(g, x, TENSOR_NONE, 1), SHAPE4(2, 9, 7, 3));
    assert_shape(op_relative_bias(g, weight("table", SHAPE2(8, 6)), 5, 20), SHAPE3(6, 5, 5));
    const TensorId positions = op_position_ids(g, graph_input(g, "ids", DTYPE_I32, SHAPE2(2, 7), false), 1);
    assert_shape(positions, SHAPE2(2, 7));
    assert_int_equal(graph_tensor(g, positions)->dtype, DTYPE_I32);
}

/* Each refusal in a graph of its own; the message has both words. */
typedef TensorId (*Wrong)(void);

static TensorId wrong_channels(void)
{
    return op_conv2d(g, in("picture", SHAPE4(1, 8, 8, 3)), weight("first.weight", SHAPE4(8, 3, 3, 4)), TENSOR_NONE,
                     TENSOR_NONE, conv_same(3));
}

static TensorId wrong_kernel(void)
{
    return op_conv2d(g, in("picture", SHAPE4(1, 2, 2, 3)), weight("first.weight", SHAPE4(8, 5, 5, 3)), TENSOR_NONE,
                     TENSOR_NONE, (ConvAttr){5, 5, 1, 0, 0, 0, 0});
}

static TensorId wrong_residual(void)
{
    return op_conv2d(g, in("picture", SHAPE4(1, 8, 8, 3)), weight("first.weight", SHAPE4(8, 3, 3, 3)), TENSOR_NONE,
                     in("skip", SHAPE4(1, 8, 8, 3)), conv_same(3));
}

static TensorId wrong_transposed(void)
{
    return op_conv2d_transposed(g, in("small", SHAPE4(1, 4, 4, 8)), weight("first.weight", SHAPE4(8, 3, 3, 3)), 12, 12,
                                (ConvAttr){3, 3, 2, 1, 1, 1, 1});
}

static TensorId missing_operand(void)
{
    return op_linear(g, TENSOR_NONE, weight("proj.weight", SHAPE2(5, 6)), TENSOR_NONE, TENSOR_NONE, ACT_NONE);
}

static TensorId wrong_bias(void)
{
    return op_linear(g, in("x", SHAPE2(4, 6)), weight("proj.weight", SHAPE2(5, 6)), weight("proj.bias", SHAPE1(6)),
                     TENSOR_NONE, ACT_NONE);
}

static TensorId wrong_weight_kind(void)
{
    return op_linear(g, in("x", SHAPE2(4, 6)), in("made", SHAPE2(5, 6)), TENSOR_NONE, TENSOR_NONE, ACT_NONE);
}

static TensorId wrong_dtype(void)
{
    return op_add(g, in("x", SHAPE2(4, 6)), graph_input(g, "y", DTYPE_BF16, SHAPE2(4, 6), false));
}

static TensorId wrong_groups(void)
{
    return op_group_norm(g, in("x", SHAPE4(1, 2, 2, 48)), weight("gamma", SHAPE1(48)), weight("beta", SHAPE1(48)),
                         TENSOR_NONE, 32, 1e-5f, ACT_SILU);
}

static TensorId wrong_heads(void)
{
    return op_attention(g, in("qkv", SHAPE3(1, 4, 40)), TENSOR_NONE, TENSOR_NONE, 3);
}

static TensorId wrong_context(void)
{
    return op_attention(g, in("qkv", SHAPE3(1, 4, 48)), in("text", SHAPE3(1, 4, 48)), TENSOR_NONE, 2);
}

static TensorId wrong_mask(void)
{
    const TensorId x = in("x", SHAPE3(1, 4, 8));
    return op_cross_attention(g, x, x, x, in("mask", SHAPE2(1, 4)), TENSOR_NONE, 2, 0);
}

static TensorId wrong_context_mask(void)
{
    return op_attention(g, in("qkv", SHAPE3(1, 4, 48)), in("text", SHAPE3(1, 4, 32)),
                        graph_input(g, "shown", DTYPE_I32, SHAPE2(1, 5), false), 2);
}

static TensorId mask_without_context(void)
{
    return op_attention(g, in("qkv", SHAPE3(1, 4, 48)), TENSOR_NONE,
                        graph_input(g, "shown", DTYPE_I32, SHAPE2(1, 4), false), 2);
}

static TensorId wrong_gamma(void)
{
    return op_rms_norm(g, in("x", SHAPE2(4, 6)), weight("norm.weight", SHAPE1(5)), 1e-6f);
}

static TensorId wrong_factor(void)
{
    return op_multiply(g, in("x", SHAPE2(4, 6)), in("gate", SHAPE2(6, 4)));
}

static TensorId wrong_rounding(void)
{
    return op_round(g, graph_input(g, "states", DTYPE_BF16, SHAPE2(4, 6), false), ROUND_F16);
}

static TensorId wrong_moments(void)
{
    return op_posterior_sample(g, in("moments", SHAPE4(1, 4, 4, 7)), TENSOR_NONE, 1);
}

static TensorId wrong_noise(void)
{
    return op_posterior_sample(g, in("moments", SHAPE4(1, 4, 4, 8)), in("noise", SHAPE4(1, 4, 4, 8)), 1);
}

static TensorId wrong_keep(void)
{
    const TensorId x = in("x", SHAPE4(1, 4, 4, 3));
    return op_inpaint_input(g, x, x, in("keep", SHAPE3(1, 4, 3)));
}

static TensorId wrong_padding(void)
{
    return op_position_ids(g, graph_input(g, "ids", DTYPE_I32, SHAPE2(2, 7), false), -1);
}

static TensorId wrong_buckets(void)
{
    return op_relative_bias(g, weight("bias.weight", SHAPE2(32, 6)), 77, 8);
}

static TensorId wrong_half(void)
{
    return op_resample(g, in("odd", SHAPE4(1, 3, 4, 2)), RESAMPLE_DOWN2_AVERAGE);
}

static TensorId wrong_concat(void)
{
    return op_concat(g, (TensorId[]){in("a", SHAPE3(1, 4, 8)), in("b", SHAPE3(1, 5, 8))}, 2, 2);
}

static TensorId wrong_slice(void)
{
    return op_slice(g, in("a", SHAPE3(1, 4, 8)), 2, 5, INT64_MAX);
}

static TensorId wrong_positions(void)
{
    const TensorId ids = graph_input(g, "ids", DTYPE_I32, SHAPE2(1, 9), false);
    return op_embedding(g, ids, weight("tokens", SHAPE2(10, 4)), weight("positions", SHAPE2(8, 4)), DTYPE_F32);
}

static TensorId wrong_embedding(void)
{
    return op_timestep_embedding(g, in("t", SHAPE1(2)), 7, 10000);
}

static TensorId wrong_loss(void)
{
    const TensorId x = in("x", SHAPE4(1, 4, 4, 3));
    return op_diffusion_loss(g, in("eps", SHAPE4(1, 4, 4, 3)), x, x, x, in("t", SHAPE1(1)), in("table", SHAPE2(9, 8)),
                             1, 1);
}

static void refusals(void **state)
{
    static const struct {
        Wrong build;
        const char *words[2];
    } cases[] = {
        {wrong_channels, {"'first.weight' has shape 8x3x3x4", "expected 8x3x3x3"}},
        {wrong_kernel, {"5x5", "'picture'"}},
        {wrong_residual, {"residual 'skip'", "expected 1x8x8x8"}},
        {wrong_transposed, {"'small' has shape 1x4x4x8", "expected 1x6x6x8"}},
        {missing_operand, {"op_linear", "x is missing"}},
        {wrong_bias, {"'proj.bias' has shape 6", "expected 5"}},
        {wrong_weight_kind, {"'made'", "parameters or constants"}},
        {wrong_dtype, {"'y' is bf16", "'x' is f32"}},
        {wrong_keep, {"'keep' has shape 1x4x3", "expected 1x4x4"}},
        {wrong_groups, {"48 channels of 'x'", "32 groups"}},
        {wrong_heads, {"'qkv'", "3 heads"}},
        {wrong_context, {"'text' has shape 1x4x48", "expected 1x4x32"}},
        {wrong_mask, {"'mask' is f32", "i32"}},
        {wrong_context_mask, {"'shown' has shape 1x5", "expected 1x4"}},
        {mask_without_context, {"'shown'", "without a context"}},
        {wrong_gamma, {"'norm.weight' has shape 5", "expected 6"}},
        {wrong_factor, {"'gate' has shape 6x4", "expected 4x6"}},
        {wrong_rounding, {"'states' is bf16", "f32"}},
        {wrong_moments, {"7 channels", "'moments'"}},
        {wrong_noise, {"'noise' has shape 1x4x4x8", "expected 1x4x4x4"}},
        {wrong_padding, {"padding id -1", "7 tokens"}},
        {wrong_buckets, {"32 buckets", "max_distance 8"}},
        {wrong_half, {"'odd' is 3x4", "even"}},
        {wrong_concat, {"'b' has shape 1x5x8", "expected 1x4x8"}},
        {wrong_slice, {"'a' of shape 1x4x8", "axis 2"}},
        {wrong_positions, {"9 tokens", "'positions' has 8"}},
        {wrong_embedding, {"7 channels", "even"}},
        {wrong_loss, {"'eps' has shape 1x4x4x3", "expected 1x4x4x6"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        close_graph(NULL);
        assert_int_equal(open_graph(NULL), 0);
        assert_int_equal(cases[i].build(), TENSOR_NONE);
        assert_int_equal(graph_status(g), ERR_INTERNAL);
        for (int k = 0; k < 2; k++) {
            if (!strstr(status_message(), cases[i].words[k])) {
                fail_msg("case %zu: no '%s' in: %s", i, cases[i].words[k], status_message());
            }
        }
        /* The first failure stays, and later constructors do nothing. */
        assert_int_equal(op_add(g, in("p", SHAPE1(1)), in("q", SHAPE1(2))), TENSOR_NONE);
        assert_int_equal(graph_status(g), ERR_INTERNAL);
        assert_non_null(strstr(status_message(), cases[i].words[0]));
    }
}

static OpCost cost_of(OpKind kind)
{
    for (int32_t i = 0; i < graph_op_count(g); i++) {
        if (graph_op(g, i)->kind == kind) return op_info(kind)->cost(g, graph_op(g, i));
    }
    fail_msg("no such op");
    return (OpCost){0, 0};
}

static void costs(void **state)
{
    const TensorId x = graph_input(g, "x", DTYPE_F32, SHAPE4(2, 6, 5, 7), true);
    TensorId y = op_conv2d(g, x, weight("w", SHAPE4(24, 3, 3, 7)), weight("b", SHAPE1(24)), TENSOR_NONE, conv_same(3));
    const double conv = 2.0 * (2 * 6 * 5 * 24) * (3 * 3 * 7), x_bytes = 4.0 * (2 * 6 * 5 * 7);
    const double y_bytes = 4.0 * (2 * 6 * 5 * 24), w_bytes = 4.0 * (24 * 9 * 7);
    y = graph_view(g, y, SHAPE3(2, 30, 24));
    const TensorId context = graph_input(g, "context", DTYPE_F32, SHAPE3(2, 4, 16), true);
    y = op_attention(g, y, context, TENSOR_NONE, 2);
    const double attention = 2.0 * 2 * 2 * 30 * 34 * 4; /* one of the matmuls */
    y = op_linear(g, y, weight("l", SHAPE2(5, 8)), TENSOR_NONE, TENSOR_NONE, ACT_NONE);
    const double linear = 2.0 * (2 * 30) * 5 * 8;
    assert_int_equal(graph_backward(g, y, graph_input(g, "seed", DTYPE_F32, SHAPE3(2, 30, 5), false), false),
                     STATUS_OK);
    assert_float_equal(cost_of(OP_CONV2D).flops, conv, 0);
    assert_float_equal(cost_of(OP_CONV2D_GRAD_X).flops, conv, 0);
    assert_float_equal(cost_of(OP_CONV2D_GRAD_W).flops, conv, 0);
    assert_float_equal(cost_of(OP_CONV2D).bytes, x_bytes + w_bytes + 4 * 24 + y_bytes, 0);
    assert_float_equal(cost_of(OP_CONV2D_GRAD_X).bytes, x_bytes + w_bytes + y_bytes, 0);
    assert_float_equal(cost_of(OP_LINEAR).flops, linear, 0);
    assert_float_equal(cost_of(OP_LINEAR_GRAD_X).flops, linear, 0);
    assert_float_equal(cost_of(OP_LINEAR_GRAD_W).flops, linear, 0);
    assert_float_equal(cost_of(OP_ATTENTION).flops, 2 * attention, 0);
    assert_float_equal(cost_of(OP_ATTENTION_GRAD).flops, 5 * attention, 0);
    /* Weights come before inputs, so that their bucket is complete the earlier. */
    OpKind order[2] = {OP_COUNT, OP_COUNT};
    for (int32_t i = 0, k = 0; i < graph_op_count(g) && k < 2; i++) {
        const OpKind kind = graph_op(g, i)->kind;
        if (kind == OP_CONV2D_GRAD_W || kind == OP_CONV2D_GRAD_X) order[k++] = kind;
    }
    assert_int_equal(order[0], OP_CONV2D_GRAD_W);
    assert_int_equal(order[1], OP_CONV2D_GRAD_X);
}

/* A trained linear keeps the value before its activation; a frozen one fuses. */
/* Masks and the ops without products: traffic alone. */
static void costs_in_bytes(void **state)
{
    const TensorId x = in("x", SHAPE4(2, 3, 4, 8)), mask = graph_input(g, "mask", DTYPE_I32, SHAPE2(2, 5), false);
    const double bytes = 4.0 * 2 * 3 * 4 * 8;
    op_rms_norm(g, x, weight("gamma", SHAPE1(8)), 1e-6f);
    op_multiply(g, x, x);
    op_round(g, x, ROUND_BF16);
    op_posterior_sample(g, x, in("noise", SHAPE4(2, 3, 4, 4)), 1);
    op_position_ids(g, mask, 1);
    op_relative_bias(g, weight("table", SHAPE2(8, 6)), 5, 20);
    op_attention(g, in("qkv", SHAPE3(2, 7, 48)), in("context", SHAPE3(2, 5, 32)), mask, 4);
    assert_int_equal(graph_status(g), STATUS_OK);
    assert_float_equal(cost_of(OP_RMS_NORM).bytes, 2 * bytes + 4 * 8, 0);
    assert_float_equal(cost_of(OP_MULTIPLY).bytes, 3 * bytes, 0);
    assert_float_equal(cost_of(OP_ROUND).bytes, 2 * bytes, 0);
    assert_float_equal(cost_of(OP_POSTERIOR_SAMPLE).bytes, 2 * bytes, 0);
    assert_float_equal(cost_of(OP_POSITION_IDS).bytes, 4.0 * 2 * 10, 0);
    assert_float_equal(cost_of(OP_RELATIVE_BIAS).bytes, 4.0 * (8 * 6 + 6 * 5 * 5), 0);
    assert_float_equal(cost_of(OP_ATTENTION).flops, 2.0 * 2 * 2 * 7 * 12 * 16, 0);
    assert_float_equal(cost_of(OP_ATTENTION).bytes, 4.0 * (2 * 7 * 48 + 2 * 5 * 32 + 2 * 5 + 2 * 7 * 16 + 2 * 4 * 7),
                       0);
    assert_float_equal(cost_of(OP_ROUND).flops, 0, 0);
}

static void linear_splits_where_it_is_trained(void **state)
{
    const TensorId x = in("x", SHAPE2(3, 4)), r = in("r", SHAPE2(3, 5));
    op_linear(g, x, weight("w", SHAPE2(5, 4)), TENSOR_NONE, r, ACT_SILU);
    assert_int_equal(graph_op_count(g), 3);
    assert_int_equal(graph_op(g, 0)->attr.linear.act, ACT_NONE);
    assert_int_equal(graph_op(g, 0)->in[3], TENSOR_NONE);
    assert_int_equal(graph_op(g, 1)->kind, OP_ACTIVATION);
    assert_int_equal(graph_op(g, 2)->kind, OP_ADD);
    const TensorId frozen = graph_param(g, &(Param){.name = "frozen", .shape = SHAPE2(5, 4)});
    op_linear(g, x, frozen, TENSOR_NONE, r, ACT_SILU);
    assert_int_equal(graph_op_count(g), 4);
    assert_int_equal(graph_op(g, 3)->attr.linear.act, ACT_SILU);
}

static void unsupported_gradients_are_errors(void **state)
{
    const TensorId q = graph_input(g, "q", DTYPE_F32, SHAPE3(1, 2, 4), true), k = in("k", SHAPE3(1, 3, 4));
    const TensorId v = in("v", SHAPE3(1, 3, 4)), bias = in("bias", SHAPE3(1, 2, 3));
    const TensorId y = op_cross_attention(g, q, k, v, TENSOR_NONE, bias, 1, 0);
    const TensorId seed = in("seed", SHAPE3(1, 2, 4));
    assert_int_equal(graph_backward(g, y, seed, false), ERR_UNSUPPORTED);
    assert_non_null(strstr(status_message(), "bias"));
}

/* Ops of the frozen networks: a gradient that would have to pass them is refused by name. */
static void ops_without_gradients_say_so(void **state)
{
    static const char *const names[] = {"rms_norm", "round", "posterior_sample"};
    for (int i = 0; i < 3; i++) {
        close_graph(NULL);
        assert_int_equal(open_graph(NULL), 0);
        const TensorId x = graph_input(g, "x", DTYPE_F32, SHAPE4(1, 2, 2, 4), true);
        const TensorId y = i == 0   ? op_rms_norm(g, x, weight("gamma", SHAPE1(4)), 1e-6f)
                           : i == 1 ? op_round(g, x, ROUND_F16)
                                    : op_posterior_sample(g, x, TENSOR_NONE, 1);
        const TensorId seed = graph_input(g, "seed", DTYPE_F32, graph_tensor(g, y)->shape, false);
        assert_int_equal(graph_backward(g, y, seed, false), ERR_INTERNAL);
        assert_non_null(strstr(status_message(), names[i]));
    }
}

static void names_differ(void **state)
{
    for (int a = 0; a < OP_COUNT; a++) {
        assert_non_null(op_info((OpKind)a)->cost);
        for (int b = 0; b < a; b++) assert_string_not_equal(op_info((OpKind)a)->name, op_info((OpKind)b)->name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(shapes, open_graph, close_graph),
        cmocka_unit_test_setup_teardown(refusals, open_graph, close_graph),
        cmocka_unit_test_setup_teardown(costs, open_graph, close_graph),
        cmocka_unit_test_setup_teardown(costs_in_bytes, open_graph, close_graph),
        cmocka_unit_test_setup_teardown(linear_splits_where_it_is_trained, open_graph, close_graph),
        cmocka_unit_test_setup_teardown(unsupported_gradients_are_errors, open_graph, close_graph),
        cmocka_unit_test_setup_teardown(ops_without_gradients_say_so, open_graph, close_graph),
        cmocka_unit_test(names_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
