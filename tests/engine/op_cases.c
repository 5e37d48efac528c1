#include "op_cases.h"

#include <math.h>
#include <stdlib.h>

#include "base/arena.h"

/* ---- what builders use ---- */

static TensorId input(CaseGraph *c, const char *name, Shape shape)
{
    return graph_input(c->graph, name, c->dtype, shape, c->use != CASE_FORWARD);
}

static TensorId input_f32(CaseGraph *c, const char *name, Shape shape)
{
    return graph_input(c->graph, name, DTYPE_F32, shape, c->use != CASE_FORWARD);
}

/* A parameter of normals with this deviation. */
static TensorId param(CaseGraph *c, const char *name, Shape shape, double deviation)
{
    const Param p = {.name = name,
                     .shape = shape,
                     .init = PARAM_INIT_NORMAL,
                     .init_scale = (float)deviation,
                     .trainable = c->use != CASE_FORWARD};
    return graph_param(c->graph, &p);
}

static TensorId frozen(CaseGraph *c, const char *name, Shape shape, double deviation)
{
    const Param p = {.name = name, .shape = shape, .init = PARAM_INIT_NORMAL, .init_scale = (float)deviation};
    return graph_param(c->graph, &p);
}

/* Normals that no gradient reaches. */
static TensorId normals(CaseGraph *c, const char *name, Shape shape, uint64_t stream)
{
    const size_t count = (size_t)shape_count(&shape);
    float *values = mem_alloc_array(count, sizeof *values);
    if (!values) return TENSOR_NONE;
    random_normal(7, RANDOM_TEST, stream, 0, values, count);
    const TensorId id = graph_constant(c->graph, name, DTYPE_F32, shape, values);
    free(values);
    return id;
}

static TensorId integers(CaseGraph *c, const char *name, Shape shape, uint64_t below, int32_t first)
{
    int32_t values[1024];
    const int64_t count = shape_count(&shape);
    for (int64_t i = 0; i < count && i < 1024; i++) {
        values[i] = first + (int32_t)random_below(7, RANDOM_TEST, 99, (uint64_t)i, below);
    }
    return graph_constant(c->graph, name, DTYPE_I32, shape, values);
}

/* ---- convolution ---- */

enum { WITH_BIAS = 1, WITH_RESIDUAL = 2, FROZEN_W = 4, FROZEN_X = 8, FROZEN_B = 16 };

/* n h w c | o k stride pad(top=left) pad(bottom=right) flags */
static TensorId build_conv(CaseGraph *c, const int64_t *a)
{
    const int32_t k = (int32_t)a[5], stride = (int32_t)a[6], before = (int32_t)a[7], after = (int32_t)a[8];
    const ConvAttr attr = {k, k, stride, before, before, after, after};
    const double deviation = 1 / sqrt((double)(k * k * a[3]));
    const Shape shape = SHAPE4(a[0], a[1], a[2], a[3]), w_shape = SHAPE4(a[4], k, k, a[3]);
    const TensorId x = a[9] & FROZEN_X ? graph_input(c->graph, "x", c->dtype, shape, false) : input(c, "x", shape);
    const TensorId w = (a[9] & FROZEN_W ? frozen : param)(c, "w", w_shape, deviation);
    const TensorId b = a[9] & WITH_BIAS ? (a[9] & FROZEN_B ? frozen : param)(c, "b", SHAPE1(a[4]), 1) : TENSOR_NONE;
    const int64_t oh = (a[1] + before + after - k) / stride + 1, ow = (a[2] + before + after - k) / stride + 1;
    const TensorId r = a[9] & WITH_RESIDUAL ? input(c, "residual", SHAPE4(a[0], oh, ow, a[4])) : TENSOR_NONE;
    return op_conv2d(c->graph, x, w, b, r, attr);
}

/* A kernel that is not square, with four different paddings. */
static TensorId build_conv_oblong(CaseGraph *c, const int64_t *a)
{
    const TensorId x = input(c, "x", SHAPE4(2, 6, 5, 6));
    const TensorId w = param(c, "w", SHAPE4(5, 2, 3, 6), 0.2);
    return op_conv2d(c->graph, x, w, param(c, "b", SHAPE1(5), 1), TENSOR_NONE, (ConvAttr){2, 3, 1, 1, 0, 0, 2});
}

/* One input and one weight used twice: every gradient has two writers. */
static TensorId build_conv_shared(CaseGraph *c, const int64_t *a)
{
    const TensorId x = input(c, "x", SHAPE4(2, 5, 4, 12)), w = param(c, "w", SHAPE4(12, 3, 3, 12), 0.1);
    const TensorId b = param(c, "b", SHAPE1(12), 1);
    const TensorId y = op_conv2d(c->graph, x, w, b, TENSOR_NONE, conv_same(3));
    const TensorId z = op_conv2d(c->graph, y, w, b, x, conv_same(3));
    return op_conv2d(c->graph, x, w, TENSOR_NONE, z, conv_same(3));
}

/* The first convolution of an inpainting network: the first channels of the picture and of a weight, and then the
 * others added to them. n h w c o first */
static TensorId build_conv_parts(CaseGraph *c, const int64_t *a)
{
    const int64_t channels = a[3], first = a[5], rest = channels - first;
    const TensorId x = input(c, "x", SHAPE4(a[0], a[1], a[2], channels));
    const TensorId w = param(c, "w", SHAPE4(a[4], 3, 3, channels), 1 / sqrt(9 * (double)channels));
    Graph *g = c->graph;
    const TensorId y = op_conv2d(g, op_slice(g, x, 3, 0, first), op_slice(g, w, 3, 0, first),
                                 param(c, "b", SHAPE1(a[4]), 1), TENSOR_NONE, conv_same(3));
    return op_conv2d(g, op_slice(g, x, 3, first, rest), op_slice(g, w, 3, first, rest), TENSOR_NONE, y, conv_same(3));
}

/* dy (n,h,w,o) -> (n,height,width,c): n h w o | c k stride pad height width */
static TensorId build_conv_transposed(CaseGraph *c, const int64_t *a)
{
    const int32_t k = (int32_t)a[5], stride = (int32_t)a[6], pad = (int32_t)a[7];
    return op_conv2d_transposed(c->graph, input(c, "dy", SHAPE4(a[0], a[1], a[2], a[3])),
                                frozen(c, "w", SHAPE4(a[3], k, k, a[4]), 0.2), a[8], a[9],
                                (ConvAttr){k, k, stride, pad, pad, pad, pad});
}

/* ---- linear ---- */

/* ndim d0 d1 d2 d3 | o flags act */
static TensorId build_linear(CaseGraph *c, const int64_t *a)
{
    Shape shape = {(int32_t)a[0], {a[1], a[2], a[3], a[4]}};
    for (int32_t i = shape.ndim; i < SHAPE_MAX_DIMS; i++) shape.dim[i] = 0;
    const int64_t channels = shape_last(&shape);
    const TensorId x = a[6] & FROZEN_X ? graph_input(c->graph, "x", c->dtype, shape, false) : input(c, "x", shape);
    const Shape w_shape = SHAPE2(a[5], channels);
    const TensorId w = (a[6] & FROZEN_W ? frozen : param)(c, "w", w_shape, 1 / sqrt((double)channels));
    const TensorId b = a[6] & WITH_BIAS ? (a[6] & FROZEN_B ? frozen : param)(c, "b", SHAPE1(a[5]), 1) : TENSOR_NONE;
    shape.dim[shape.ndim - 1] = a[5];
    const TensorId r = a[6] & WITH_RESIDUAL ? input(c, "residual", shape) : TENSOR_NONE;
    return op_linear(c->graph, x, w, b, r, (Activation)a[7]);
}

/* ---- norms ---- */

enum { WITH_SCALE_SHIFT = 1, SEQUENCE = 2, NORM_X = 4, NORM_GAMMA = 8, NORM_BETA = 16, NORM_SHIFT = 32 };

/* An input that wants a gradient unless `fixed`. */
static TensorId input_or_fixed(CaseGraph *c, const char *name, Shape shape, bool fixed)
{
    return fixed ? graph_input(c->graph, name, c->dtype, shape, false) : input(c, name, shape);
}

/* n h w c | groups act flags; NORM_ flags: without its gradient */
static TensorId build_group_norm(CaseGraph *c, const int64_t *a)
{
    const Shape shape = a[6] & SEQUENCE ? SHAPE3(a[0], a[1] * a[2], a[3]) : SHAPE4(a[0], a[1], a[2], a[3]);
    const TensorId x = op_affine(c->graph, input_or_fixed(c, "x", shape, a[6] & NORM_X), 1.5f, 0.7f);
    const TensorId ss = a[6] & WITH_SCALE_SHIFT
                            ? input_or_fixed(c, "scale_shift", SHAPE2(a[0], 2 * a[3]), a[6] & NORM_SHIFT)
                            : TENSOR_NONE;
    return op_group_norm(c->graph, x, (a[6] & NORM_GAMMA ? frozen : param)(c, "gamma", SHAPE1(a[3]), 1),
                         (a[6] & NORM_BETA ? frozen : param)(c, "beta", SHAPE1(a[3]), 0.5), ss, (int32_t)a[4], 1e-5f,
                         (Activation)a[5]);
}

/* ndim d0 d1 d2 d3 | flags: NORM_, without its gradient */
static TensorId build_layer_norm(CaseGraph *c, const int64_t *a)
{
    Shape shape = {(int32_t)a[0], {a[1], a[2], a[3], a[4]}};
    const int64_t channels = shape_last(&shape);
    return op_layer_norm(c->graph, input_or_fixed(c, "x", shape, a[5] & NORM_X),
                         (a[5] & NORM_GAMMA ? frozen : param)(c, "gamma", SHAPE1(channels), 1),
                         (a[5] & NORM_BETA ? frozen : param)(c, "beta", SHAPE1(channels), 0.5), 1e-5f);
}

/* The same without beta: an affine of small values before it, so that eps counts. */
static TensorId build_rms_norm(CaseGraph *c, const int64_t *a)
{
    Shape shape = {(int32_t)a[0], {a[1], a[2], a[3], a[4]}};
    const TensorId x = op_affine(c->graph, input(c, "x", shape), 0.01f, 0);
    return op_rms_norm(c->graph, x, param(c, "gamma", SHAPE1(shape_last(&shape)), 1), 1e-4f);
}

/* ---- attention ---- */

/* Which of S keys each sample sees: a pattern, all of them, and none in the last sample when there are several. */
static TensorId key_mask(CaseGraph *c, int64_t n, int64_t s)
{
    int32_t values[2048] = {0};
    for (int64_t i = 0; i < n * s && i < 2048; i++) {
        const int64_t sample = i / s;
        values[i] = (n == 1 || sample < n - 1) && (sample % 2 == 1 || i % 3 != 1) ? 1 + (int32_t)(i % 2) : 0;
    }
    return graph_constant(c->graph, "mask", DTYPE_I32, SHAPE2(n, s), values);
}

enum { ATTENTION_QKV = 1, ATTENTION_CONTEXT = 2 };

/* n t heads d s masked | flags: without its gradient */
static TensorId build_attention(CaseGraph *c, const int64_t *a)
{
    const int64_t width = a[2] * a[3];
    const TensorId context =
        a[4] > 0 ? input_or_fixed(c, "context", SHAPE3(a[0], a[4], 2 * width), a[6] & ATTENTION_CONTEXT) : TENSOR_NONE;
    const TensorId mask = a[5] ? key_mask(c, a[0], a[4]) : TENSOR_NONE;
    return op_attention(c->graph, input_or_fixed(c, "qkv", SHAPE3(a[0], a[1], 3 * width), a[6] & ATTENTION_QKV),
                        context, mask, (int32_t)a[2]);
}

enum { WITH_MASK = 1, WITH_KEY_BIAS = 2, UNSCALED = 4, ONE_TENSOR = 8, FIXED_Q = 16, FIXED_K = 32, FIXED_V = 64 };

/* n t s heads d flags; FIXED_: without its gradient */
static TensorId build_cross_attention(CaseGraph *c, const int64_t *a)
{
    const int64_t n = a[0], t = a[1], s = a[2], width = a[3] * a[4];
    TensorId mask = TENSOR_NONE, bias = TENSOR_NONE;
    if (a[5] & WITH_MASK) mask = key_mask(c, n, s);
    if (a[5] & WITH_KEY_BIAS) bias = normals(c, "bias", SHAPE3(a[3], t, s), 1);
    const Shape keys = SHAPE3(n, s, width);
    const TensorId q = input_or_fixed(c, "q", SHAPE3(n, t, width), a[5] & FIXED_Q);
    const TensorId k = a[5] & ONE_TENSOR ? q : input_or_fixed(c, "k", keys, a[5] & FIXED_K);
    const TensorId v = a[5] & ONE_TENSOR ? q : input_or_fixed(c, "v", keys, a[5] & FIXED_V);
    return op_cross_attention(c->graph, q, k, v, mask, bias, (int32_t)a[3], a[5] & UNSCALED ? 1.0f : 0.0f);
}

/* ---- elementwise ---- */

/* d0 d1 d2 act */
static TensorId build_activation(CaseGraph *c, const int64_t *a)
{
    return op_activation(c->graph, op_affine(c->graph, input(c, "x", SHAPE3(a[0], a[1], a[2])), 2, 0.5f),
                         (Activation)a[3]);
}

/* The sum's gradient passes to both; `x` has three readers. */
static TensorId build_add(CaseGraph *c, const int64_t *a)
{
    const TensorId x = input(c, "x", SHAPE3(a[0], a[1], a[2])), y = input(c, "y", SHAPE3(a[0], a[1], a[2]));
    const TensorId sum = op_add(c->graph, x, y);
    return op_add(c->graph, op_activation(c->graph, x, ACT_SILU), op_add(c->graph, sum, x));
}

/* Products of two, and of one with itself: three writers of x's gradient. */
static TensorId build_multiply(CaseGraph *c, const int64_t *a)
{
    const TensorId x = input(c, "x", SHAPE3(a[0], a[1], a[2])), y = input(c, "y", SHAPE3(a[0], a[1], a[2]));
    return op_multiply(c->graph, op_multiply(c->graph, x, x), op_activation(c->graph, y, ACT_GELU));
}

static TensorId build_affine(CaseGraph *c, const int64_t *a)
{
    const TensorId x = input(c, "x", SHAPE3(a[0], a[1], a[2]));
    return op_add(c->graph, op_affine(c->graph, x, -1.25f, 3), op_affine(c->graph, x, 0.5f, 0));
}

/* To F32 and back, the value being used in both types. */
static TensorId build_cast(CaseGraph *c, const int64_t *a)
{
    const TensorId x = input(c, "x", SHAPE3(a[0], a[1], a[2]));
    const TensorId wide = op_activation(c->graph, op_cast(c->graph, x, DTYPE_F32), ACT_SILU);
    return op_add(c->graph, op_cast(c->graph, wide, c->dtype), op_activation(c->graph, x, ACT_GELU));
}

/* d0 d1 d2 to power: values up to about 4 times two to this power */
static TensorId build_round(CaseGraph *c, const int64_t *a)
{
    const TensorId x = input_f32(c, "x", SHAPE3(a[0], a[1], a[2]));
    return op_round(c->graph, op_affine(c->graph, x, (float)ldexp(1, (int)a[4]), 0), (RoundTo)a[3]);
}

/* ---- resample, concat, slice ---- */

/* n h w c mode */
static TensorId build_resample(CaseGraph *c, const int64_t *a)
{
    const TensorId x = input(c, "x", SHAPE4(a[0], a[1], a[2], a[3]));
    const TensorId y = op_resample(c->graph, x, (ResampleMode)a[4]);
    const TensorId z = op_resample(c->graph, x, (ResampleMode)a[4]); /* two writers of the gradient */
    return op_add(c->graph, y, op_activation(c->graph, z, ACT_SILU));
}

/* n h w c | axis parts: part i is 1 + 2 i longer along the axis; part 0 is used again by itself */
static TensorId build_concat(CaseGraph *c, const int64_t *a)
{
    static const char *const names[] = {"part0", "part1", "part2", "part3"};
    TensorId parts[4] = {TENSOR_NONE, TENSOR_NONE, TENSOR_NONE, TENSOR_NONE};
    for (int64_t i = 0; i < a[5]; i++) {
        Shape shape = SHAPE4(a[0], a[1], a[2], a[3]);
        shape.dim[a[4]] += i == 0 ? 0 : 1 + 2 * i;
        parts[i] = input(c, names[i], shape);
    }
    const TensorId again = op_activation(c->graph, parts[0], ACT_SILU);
    const TensorId all = op_concat(c->graph, parts, (int32_t)a[5], (int32_t)a[4]);
    return op_concat(c->graph, (TensorId[]){all, again}, 2, (int32_t)a[4]);
}

/* d0 d1 d2 d3 | axis begin length second_begin: two overlapping slices of one input */
static TensorId build_slice(CaseGraph *c, const int64_t *a)
{
    const TensorId x = input(c, "x", SHAPE4(a[0], a[1], a[2], a[3]));
    const TensorId one = op_slice(c->graph, x, (int32_t)a[4], a[5], a[6]);
    const TensorId two = op_slice(c->graph, x, (int32_t)a[4], a[7], a[6]);
    return op_add(c->graph, op_activation(c->graph, one, ACT_SILU), two);
}

/* ---- embedding ---- */

/* n t d v with_positions */
static TensorId build_embedding(CaseGraph *c, const int64_t *a)
{
    const TensorId ids = integers(c, "ids", SHAPE2(a[0], a[1]), (uint64_t)a[3] + 4, -2); /* some lie outside */
    const TensorId positions = a[4] ? frozen(c, "positions", SHAPE2(a[1] + 3, a[2]), 1) : TENSOR_NONE;
    return op_embedding(c->graph, ids, frozen(c, "table", SHAPE2(a[3], a[2]), 1), positions, c->dtype);
}

/* n t d: the mask of the last sample is empty when there are several */
static TensorId build_masked_mean(CaseGraph *c, const int64_t *a)
{
    int32_t mask[256] = {0};
    for (int64_t i = 0; i < a[0] * a[1] && i < 256; i++) mask[i] = (a[0] == 1 || i < (a[0] - 1) * a[1]) && i % 4 != 2;
    return op_masked_mean(c->graph, input(c, "x", SHAPE3(a[0], a[1], a[2])),
                          graph_constant(c->graph, "mask", DTYPE_I32, SHAPE2(a[0], a[1]), mask));
}

/* n t padding_id: the ids of the last sample are all padding when there are several */
static TensorId build_position_ids(CaseGraph *c, const int64_t *a)
{
    int32_t values[256];
    const int32_t padding = (int32_t)a[2];
    for (int64_t i = 0; i < a[0] * a[1] && i < 256; i++) {
        const bool pads = (a[0] > 1 && i >= (a[0] - 1) * a[1]) || i % 5 == 3;
        values[i] = pads ? padding : padding + 1 + (int32_t)i * 3;
    }
    const TensorId ids = graph_constant(c->graph, "ids", DTYPE_I32, SHAPE2(a[0], a[1]), values);
    return op_embedding(c->graph, op_position_ids(c->graph, ids, padding),
                        frozen(c, "table", SHAPE2(a[1] + padding + 1, 8), 1), TENSOR_NONE, c->dtype);
}

/* rows buckets heads max_distance */
static TensorId build_relative_bias(CaseGraph *c, const int64_t *a)
{
    return op_relative_bias(c->graph, frozen(c, "table", SHAPE2(a[1], a[2]), 1), a[0], (int32_t)a[3]);
}

/* ---- diffusion ---- */

enum { STEPS = 1000 };

/* The schedule table of linear betas (Ho et al. 2020, eqs. 4, 7). */
static TensorId schedule(CaseGraph *c)
{
    static float table[STEPS][8];
    double bar = 1;
    for (int t = 0; t < STEPS; t++) {
        const double beta = 1e-4 + (0.02 - 1e-4) * t / (STEPS - 1), before = bar;
        bar *= 1 - beta;
        const double variance = beta * (1 - before) / (1 - bar);
        const double row[8] = {sqrt(bar),
                               sqrt(1 - bar),
                               beta * sqrt(before) / (1 - bar),
                               (1 - before) * sqrt(1 - beta) / (1 - bar),
                               t > 0 ? log(variance) : 0,
                               log(beta),
                               sqrt(1 / bar),
                               sqrt(1 / bar - 1)};
        for (int k = 0; k < 8; k++) table[t][k] = (float)row[k];
    }
    table[0][4] = table[1][4]; /* the first variance is 0: clipped to the second */
    return graph_constant(c->graph, "table", DTYPE_F32, SHAPE2(STEPS, 8), table);
}

/* Time steps of up to 5 samples: the first and last, and one that is not an integer. */
static TensorId steps(CaseGraph *c, int64_t n)
{
    static const float t[] = {0, 999, 499.6f, 1, 0};
    return graph_constant(c->graph, "t", DTYPE_F32, SHAPE1(n), t);
}

/* n channels */
static TensorId build_timestep_embedding(CaseGraph *c, const int64_t *a)
{
    return op_timestep_embedding(c->graph, steps(c, a[0]), a[1], 10000);
}

/* n h w c */
static TensorId build_noise(CaseGraph *c, const int64_t *a)
{
    static const int32_t index[] = {0, 0, -1, 0, 5, 3, 0, -1};
    return op_noise(c->graph, graph_constant(c->graph, "index", DTYPE_I32, SHAPE2(a[0], 2), index),
                    SHAPE4(a[0], a[1], a[2], a[3]), 12345678901ull, RANDOM_NOISE);
}

static TensorId build_q_sample(CaseGraph *c, const int64_t *a)
{
    const Shape shape = SHAPE4(a[0], a[1], a[2], a[3]);
    return op_q_sample(c->graph, normals(c, "x0", shape, 1), normals(c, "noise", shape, 2), steps(c, a[0]),
                       schedule(c));
}

/* keep: zeros, ones and what lies between. n h w c */
static TensorId build_inpaint_input(CaseGraph *c, const int64_t *a)
{
    const Shape shape = SHAPE4(a[0], a[1], a[2], a[3]), places = SHAPE3(a[0], a[1], a[2]);
    const size_t count = (size_t)shape_count(&places);
    float *values = mem_alloc_array(count, sizeof *values);
    if (!values) return TENSOR_NONE;
    for (size_t i = 0; i < count; i++) values[i] = 0.5f * (float)(i % 3);
    const TensorId keep = graph_constant(c->graph, "keep", DTYPE_F32, places, values);
    free(values);
    return op_inpaint_input(c->graph, input_f32(c, "x_t", shape), input_f32(c, "x0", shape), keep);
}

/* Pictures in [-1, 1], a third of them at an end, where the bins are open. */
static TensorId pictures(CaseGraph *c, Shape shape)
{
    const size_t count = (size_t)shape_count(&shape);
    float *values = mem_alloc_array(count, sizeof *values);
    if (!values) return TENSOR_NONE;
    random_normal(7, RANDOM_TEST, 3, 0, values, count);
    for (size_t i = 0; i < count; i++) values[i] = fmaxf(-1, fminf(1, values[i]));
    const TensorId id = graph_constant(c->graph, "x0", DTYPE_F32, shape, values);
    free(values);
    return id;
}

enum { VARIANCE_ONLY = 1 };

/* n h w c with_noise: log variances around both clamps */
static TensorId build_posterior_sample(CaseGraph *c, const int64_t *a)
{
    const Shape shape = SHAPE4(a[0], a[1], a[2], a[3]);
    const TensorId spread = op_affine(c->graph, input_f32(c, "spread", shape), 15, -5);
    const TensorId moments = op_concat(c->graph, (TensorId[]){input_f32(c, "mean", shape), spread}, 2, 3);
    return op_posterior_sample(c->graph, moments, a[4] ? input_f32(c, "noise", shape) : TENSOR_NONE, 0.0512f);
}

/* n h w c | flags, vb_weight in thousandths */
static TensorId build_loss(CaseGraph *c, const int64_t *a)
{
    const Shape shape = SHAPE4(a[0], a[1], a[2], a[3]), doubled = SHAPE4(a[0], a[1], a[2], 2 * a[3]);
    const TensorId x0 = pictures(c, shape), noise = normals(c, "noise", shape, 2), t = steps(c, a[0]);
    const TensorId table = schedule(c), x_t = op_q_sample(c->graph, x0, noise, t, table);
    TensorId out;
    if (a[4] & VARIANCE_ONLY) {
        out = op_concat(c->graph, (TensorId[]){normals(c, "eps", shape, 4), input_f32(c, "v", shape)}, 2, 3);
    } else {
        out = input_f32(c, "out", doubled);
    }
    return op_diffusion_loss(c->graph, out, x0, x_t, noise, t, table, 0.25f, (float)a[5] * 1e-3f);
}

const OpCase op_cases[] = {
    {"conv 3x3", CASE_GRADIENT, build_conv, {2, 7, 5, 3, 8, 3, 1, 1, 1, WITH_BIAS}},
    {"conv 3x3 residual", CASE_GRADIENT, build_conv, {1, 8, 8, 36, 20, 3, 1, 1, 1, WITH_BIAS | WITH_RESIDUAL}},
    {"conv 1x1 no bias", CASE_GRADIENT, build_conv, {3, 5, 9, 4, 96, 1, 1, 0, 0, 0}},
    {"conv 5x5", CASE_GRADIENT, build_conv, {1, 9, 6, 16, 32, 5, 1, 2, 2, WITH_BIAS}},
    {"conv 3x3 stride 2 pad (0,1,0,1)", CASE_GRADIENT, build_conv, {2, 8, 8, 12, 24, 3, 2, 0, 1, WITH_BIAS}},
    {"conv 3x3 stride 2", CASE_GRADIENT, build_conv, {2, 8, 7, 32, 32, 3, 2, 1, 1, WITH_BIAS}},
    {"conv 2x2 stride 2", CASE_GRADIENT, build_conv, {1, 8, 7, 3, 9, 2, 2, 0, 0, WITH_RESIDUAL}},
    {"conv bias alone trained",
     CASE_GRADIENT,
     build_conv,
     {2, 4, 4, 5, 6, 3, 1, 1, 1, WITH_BIAS | FROZEN_W | FROZEN_X}},
    {"conv all frozen", CASE_GRADIENT, build_conv, {2, 4, 4, 5, 6, 3, 1, 1, 1, WITH_BIAS | FROZEN_W | FROZEN_B}},
    {"conv bias frozen", CASE_GRADIENT, build_conv, {2, 6, 5, 16, 8, 3, 1, 1, 1, WITH_BIAS | WITH_RESIDUAL | FROZEN_B}},
    {"conv first of a network", CASE_GRADIENT, build_conv, {2, 6, 6, 9, 16, 3, 1, 1, 1, WITH_BIAS | FROZEN_X}},
    {"conv in parts", CASE_GRADIENT, build_conv_parts, {2, 6, 5, 9, 16, 4}},
    {"conv in parts, wide", CASE_GRADIENT, build_conv_parts, {1, 4, 4, 49, 64, 24}},
    {"conv wide", CASE_GRADIENT, build_conv, {2, 4, 4, 64, 64, 3, 1, 1, 1, WITH_BIAS | WITH_RESIDUAL}},
    {"conv oblong", CASE_GRADIENT, build_conv_oblong, {0}},
    {"conv shared", CASE_GRADIENT, build_conv_shared, {0}},
    {"conv of the first level", CASE_GRADIENT, build_conv, {1, 2, 2, 384, 32, 3, 1, 1, 1, WITH_BIAS | WITH_RESIDUAL}},
    {"conv forward only", CASE_FORWARD, build_conv, {1, 5, 5, 7, 4, 3, 1, 1, 1, WITH_BIAS | WITH_RESIDUAL}},
    {"conv transposed", CASE_FORWARD, build_conv_transposed, {2, 5, 4, 6, 5, 3, 2, 1, 9, 8}},
    {"conv transposed 1x1", CASE_FORWARD, build_conv_transposed, {1, 4, 4, 16, 16, 1, 1, 0, 4, 4}},
    {"linear", CASE_GRADIENT, build_linear, {3, 2, 7, 36, 0, 20, WITH_BIAS}},
    {"linear to one", CASE_GRADIENT, build_linear, {2, 5, 3, 0, 0, 1, 0}},
    {"linear residual", CASE_GRADIENT, build_linear, {2, 1, 17, 0, 0, 33, WITH_BIAS | WITH_RESIDUAL}},
    {"linear silu trained", CASE_GRADIENT, build_linear, {2, 6, 24, 0, 0, 40, WITH_BIAS | WITH_RESIDUAL, ACT_SILU}},
    {"linear of one row", CASE_GRADIENT, build_linear, {1, 12, 0, 0, 0, 8, WITH_BIAS}},
    {"linear wide", CASE_GRADIENT, build_linear, {2, 2, 1536, 0, 0, 96, WITH_BIAS | WITH_RESIDUAL}},
    {"linear of pictures", CASE_GRADIENT, build_linear, {4, 2, 3, 5, 96, 64, WITH_BIAS | WITH_RESIDUAL}},
    {"linear tokens", CASE_GRADIENT, build_linear, {3, 2, 77, 80, 0, 48, WITH_BIAS}},
    {"linear bias alone trained", CASE_GRADIENT, build_linear, {2, 4, 6, 0, 0, 5, WITH_BIAS | FROZEN_W | FROZEN_X}},
    {"linear all frozen", CASE_GRADIENT, build_linear, {2, 4, 6, 0, 0, 5, WITH_BIAS | FROZEN_W | FROZEN_B}},
    {"linear bias frozen", CASE_GRADIENT, build_linear, {2, 4, 24, 0, 0, 16, WITH_BIAS | WITH_RESIDUAL | FROZEN_B}},
    {"linear fused silu", CASE_FORWARD, build_linear, {2, 9, 32, 0, 0, 64, WITH_BIAS, ACT_SILU}},
    {"linear fused gelu", CASE_FORWARD, build_linear, {3, 2, 5, 20, 0, 36, WITH_BIAS, ACT_GELU}},
    {"linear fused gelu tanh", CASE_FORWARD, build_linear, {2, 7, 31, 0, 0, 17, WITH_RESIDUAL, ACT_GELU_TANH}},
    {"group_norm silu", CASE_GRADIENT, build_group_norm, {2, 5, 3, 36, 4, ACT_SILU, 0}},
    {"group_norm scale shift silu", CASE_GRADIENT, build_group_norm, {1, 4, 4, 96, 4, ACT_SILU, WITH_SCALE_SHIFT}},
    {"group_norm scale shift", CASE_GRADIENT, build_group_norm, {3, 2, 3, 64, 32, ACT_NONE, WITH_SCALE_SHIFT}},
    {"group_norm one position", CASE_GRADIENT, build_group_norm, {3, 1, 1, 24, 2, ACT_NONE, 0}},
    {"group_norm sequence", CASE_GRADIENT, build_group_norm, {2, 7, 1, 32, 32, ACT_NONE, SEQUENCE}},
    {"group_norm one group", CASE_GRADIENT, build_group_norm, {2, 3, 5, 7, 1, ACT_SILU, WITH_SCALE_SHIFT}},
    {"group_norm 16x16", CASE_GRADIENT, build_group_norm, {2, 16, 16, 32, 8, ACT_SILU, WITH_SCALE_SHIFT}},
    {"group_norm of the widest level",
     CASE_GRADIENT,
     build_group_norm,
     {1, 3, 5, 1536, 32, ACT_SILU, WITH_SCALE_SHIFT}},
    {"group_norm of the first level", CASE_GRADIENT, build_group_norm, {2, 9, 7, 384, 32, ACT_SILU, 0}},
    {"group_norm of many positions", CASE_GRADIENT, build_group_norm, {1, 65, 63, 32, 4, ACT_SILU, WITH_SCALE_SHIFT}},
    {"group_norm frozen",
     CASE_GRADIENT,
     build_group_norm,
     {2, 4, 3, 24, 4, ACT_SILU, WITH_SCALE_SHIFT | NORM_GAMMA | NORM_BETA}},
    {"group_norm gamma alone",
     CASE_GRADIENT,
     build_group_norm,
     {2, 4, 3, 24, 4, ACT_SILU, WITH_SCALE_SHIFT | NORM_X | NORM_BETA | NORM_SHIFT}},
    {"group_norm beta alone", CASE_GRADIENT, build_group_norm, {1, 16, 16, 32, 8, ACT_NONE, NORM_X | NORM_GAMMA}},
    {"group_norm shift alone",
     CASE_GRADIENT,
     build_group_norm,
     {2, 4, 3, 24, 4, ACT_SILU, WITH_SCALE_SHIFT | NORM_X | NORM_GAMMA | NORM_BETA}},
    {"layer_norm frozen", CASE_GRADIENT, build_layer_norm, {3, 3, 5, 20, 0, NORM_GAMMA | NORM_BETA}},
    {"layer_norm gamma alone", CASE_GRADIENT, build_layer_norm, {3, 2, 7, 64, 0, NORM_X | NORM_BETA}},
    {"layer_norm beta alone", CASE_GRADIENT, build_layer_norm, {3, 2, 7, 20, 0, NORM_X | NORM_GAMMA}},
    {"layer_norm", CASE_GRADIENT, build_layer_norm, {3, 3, 5, 20}},
    {"layer_norm wide", CASE_GRADIENT, build_layer_norm, {3, 1, 3, 1536}},
    {"layer_norm one row", CASE_GRADIENT, build_layer_norm, {2, 1, 33}},
    {"layer_norm 4 dimensions", CASE_GRADIENT, build_layer_norm, {4, 2, 2, 3, 7}},
    {"layer_norm tokens", CASE_GRADIENT, build_layer_norm, {3, 2, 77, 80}},
    {"rms_norm", CASE_FORWARD, build_rms_norm, {3, 3, 5, 20}},
    {"rms_norm one row", CASE_FORWARD, build_rms_norm, {2, 1, 33}},
    {"rms_norm of one channel", CASE_FORWARD, build_rms_norm, {2, 4, 1}},
    {"rms_norm tokens", CASE_FORWARD, build_rms_norm, {3, 2, 77, 512}},
    {"attention", CASE_GRADIENT, build_attention, {2, 9, 3, 8, 5}},
    {"attention without context", CASE_GRADIENT, build_attention, {1, 16, 2, 64, 0}},
    {"attention head of 80", CASE_GRADIENT, build_attention, {2, 7, 1, 80, 3}},
    {"attention much text", CASE_GRADIENT, build_attention, {1, 33, 4, 16, 77}},
    {"attention head of 24", CASE_GRADIENT, build_attention, {1, 64, 1, 24, 1}},
    {"attention of the widest level", CASE_GRADIENT, build_attention, {1, 5, 24, 64, 7}},
    {"attention of many rows", CASE_GRADIENT, build_attention, {1, 130, 1, 40, 20}},
    {"attention of one row to itself", CASE_GRADIENT, build_attention, {2, 1, 2, 16, 0}},
    {"attention masked", CASE_GRADIENT, build_attention, {3, 9, 3, 8, 5, 1}},
    {"attention masked, one row", CASE_GRADIENT, build_attention, {2, 1, 2, 16, 1, 1}},
    {"attention masked, many rows", CASE_GRADIENT, build_attention, {2, 130, 1, 40, 77, 1}},
    {"attention masked, head of 64", CASE_GRADIENT, build_attention, {1, 16, 2, 64, 20, 1}},
    {"attention masked, head of 136", CASE_GRADIENT, build_attention, {2, 5, 1, 136, 3, 1}},
    {"attention masked, head of 7", CASE_GRADIENT, build_attention, {1, 3, 2, 7, 5, 1}},
    {"attention masked, many heads", CASE_GRADIENT, build_attention, {1, 3, 40, 8, 5, 1}},
    {"attention context alone", CASE_GRADIENT, build_attention, {2, 9, 3, 8, 5, 0, ATTENTION_QKV}},
    {"attention context frozen", CASE_GRADIENT, build_attention, {2, 9, 3, 8, 5, 0, ATTENTION_CONTEXT}},
    {"attention masked, context alone", CASE_GRADIENT, build_attention, {2, 16, 2, 64, 20, 1, ATTENTION_QKV}},
    {"attention masked, context frozen", CASE_GRADIENT, build_attention, {2, 16, 2, 64, 20, 1, ATTENTION_CONTEXT}},
    {"cross_attention many keys, mask", CASE_GRADIENT, build_cross_attention, {1, 9, 1500, 2, 8, WITH_MASK}},
    {"cross_attention one query", CASE_GRADIENT, build_cross_attention, {2, 1, 7, 8, 64, 0}},
    {"cross_attention", CASE_GRADIENT, build_cross_attention, {2, 5, 3, 2, 40, 0}},
    {"cross_attention unscaled", CASE_GRADIENT, build_cross_attention, {1, 6, 9, 3, 8, UNSCALED}},
    {"cross_attention mask", CASE_GRADIENT, build_cross_attention, {3, 7, 7, 2, 16, WITH_MASK}},
    {"cross_attention one query, mask", CASE_GRADIENT, build_cross_attention, {3, 1, 77, 2, 24, WITH_MASK}},
    {"cross_attention few keys, mask", CASE_GRADIENT, build_cross_attention, {2, 6, 3, 1, 40, WITH_MASK | UNSCALED}},
    {"cross_attention q alone", CASE_GRADIENT, build_cross_attention, {2, 5, 3, 2, 16, FIXED_K | FIXED_V}},
    {"cross_attention k alone", CASE_GRADIENT, build_cross_attention, {2, 1, 7, 2, 16, WITH_MASK | FIXED_Q | FIXED_V}},
    {"cross_attention v alone", CASE_GRADIENT, build_cross_attention, {2, 5, 7, 2, 40, FIXED_Q | FIXED_K}},
    {"cross_attention wide head", CASE_GRADIENT, build_cross_attention, {1, 37, 37, 1, 320, 0}},
    {"cross_attention of many rows", CASE_FORWARD, build_cross_attention, {1, 270, 70, 1, 264, 0}},
    {"cross_attention one tensor", CASE_FORWARD, build_cross_attention, {2, 9, 9, 4, 10, WITH_MASK | ONE_TENSOR}},
    {"cross_attention bias", CASE_FORWARD, build_cross_attention, {2, 5, 5, 3, 64, WITH_KEY_BIAS | UNSCALED}},
    {"cross_attention mask and bias",
     CASE_FORWARD,
     build_cross_attention,
     {2, 20, 20, 2, 12, WITH_MASK | WITH_KEY_BIAS}},
    {"activation silu", CASE_GRADIENT, build_activation, {3, 7, 5, ACT_SILU}},
    {"activation gelu", CASE_GRADIENT, build_activation, {1, 10, 103, ACT_GELU}},
    {"activation gelu tanh", CASE_GRADIENT, build_activation, {2, 1, 64, ACT_GELU_TANH}},
    {"activation of several blocks", CASE_GRADIENT, build_activation, {1, 20, 413, ACT_SILU}},
    {"add", CASE_GRADIENT, build_add, {3, 5, 7}},
    {"add one element", CASE_GRADIENT, build_add, {1, 1, 1}},
    {"multiply", CASE_GRADIENT, build_multiply, {3, 5, 7}},
    {"multiply one element", CASE_GRADIENT, build_multiply, {1, 1, 1}},
    {"multiply long", CASE_GRADIENT, build_multiply, {1, 1, 1000}},
    {"affine", CASE_GRADIENT, build_affine, {2, 3, 11}},
    {"affine long", CASE_GRADIENT, build_affine, {1, 1, 1000}},
    {"cast", CASE_GRADIENT, build_cast, {2, 3, 37}},
    {"cast long", CASE_GRADIENT, build_cast, {1, 32, 32}},
    {"round to f16", CASE_FORWARD, build_round, {3, 5, 67, ROUND_F16, 0}},
    {"round to f16, subnormal", CASE_FORWARD, build_round, {1, 1, 1000, ROUND_F16, -16}},
    {"round to bf16", CASE_FORWARD, build_round, {2, 3, 11, ROUND_BF16, 3}},
    {"resample up", CASE_GRADIENT, build_resample, {2, 3, 5, 7, RESAMPLE_UP2_NEAREST}},
    {"resample up wide", CASE_GRADIENT, build_resample, {1, 4, 4, 96, RESAMPLE_UP2_NEAREST}},
    {"resample down", CASE_GRADIENT, build_resample, {2, 6, 10, 7, RESAMPLE_DOWN2_AVERAGE}},
    {"resample down wide", CASE_GRADIENT, build_resample, {2, 4, 6, 40, RESAMPLE_DOWN2_AVERAGE}},
    {"resample of the widest level", CASE_GRADIENT, build_resample, {1, 3, 1, 1536, RESAMPLE_UP2_NEAREST}},
    {"resample down to one", CASE_GRADIENT, build_resample, {3, 2, 2, 36, RESAMPLE_DOWN2_AVERAGE}},
    {"concat channels", CASE_GRADIENT, build_concat, {2, 3, 3, 20, 3, 2}},
    {"concat channels of three", CASE_GRADIENT, build_concat, {1, 4, 4, 96, 3, 3}},
    {"concat channels of the widest level", CASE_GRADIENT, build_concat, {1, 3, 3, 1536, 3, 2}},
    {"concat rows", CASE_GRADIENT, build_concat, {2, 3, 4, 5, 1, 3}},
    {"concat rows wide", CASE_GRADIENT, build_concat, {2, 3, 2, 16, 1, 4}},
    {"concat columns", CASE_GRADIENT, build_concat, {2, 3, 4, 5, 2, 2}},
    {"concat batch", CASE_GRADIENT, build_concat, {1, 2, 3, 7, 0, 4}},
    {"slice channels", CASE_GRADIENT, build_slice, {2, 3, 2, 11, 3, 2, 5, 6}},
    {"slice channels wide", CASE_GRADIENT, build_slice, {2, 3, 5, 64, 3, 8, 32, 24}},
    {"slice rows", CASE_GRADIENT, build_slice, {2, 7, 2, 4, 1, 0, 3, 4}},
    {"slice batch", CASE_GRADIENT, build_slice, {5, 2, 2, 3, 0, 1, 2, 2}},
    {"slice columns", CASE_GRADIENT, build_slice, {2, 2, 9, 16, 2, 8, 1, 0}},
    {"embedding", CASE_FORWARD, build_embedding, {3, 7, 20, 50, 1}},
    {"embedding without positions", CASE_FORWARD, build_embedding, {1, 5, 64, 11, 0}},
    {"masked_mean", CASE_FORWARD, build_masked_mean, {3, 7, 20}},
    {"masked_mean one sample", CASE_FORWARD, build_masked_mean, {1, 77, 64}},
    {"position_ids", CASE_FORWARD, build_position_ids, {3, 7, 1}},
    {"position_ids of 77", CASE_FORWARD, build_position_ids, {1, 77, 0}},
    {"position_ids, one row", CASE_FORWARD, build_position_ids, {2, 1, 4}},
    {"relative_bias", CASE_FORWARD, build_relative_bias, {77, 32, 6, 128}},
    {"relative_bias, one row", CASE_FORWARD, build_relative_bias, {1, 32, 2, 128}},
    {"relative_bias, few buckets", CASE_FORWARD, build_relative_bias, {21, 4, 3, 9}},
    {"timestep_embedding", CASE_FORWARD, build_timestep_embedding, {4, 64}},
    {"timestep_embedding of 6", CASE_FORWARD, build_timestep_embedding, {1, 6}},
    {"noise", CASE_FORWARD, build_noise, {4, 3, 5, 3}},
    {"noise of one", CASE_FORWARD, build_noise, {1, 8, 8, 4}},
    {"posterior_sample", CASE_FORWARD, build_posterior_sample, {3, 3, 5, 4, 1}},
    {"posterior_sample, one", CASE_FORWARD, build_posterior_sample, {1, 1, 1, 1, 1}},
    {"posterior_sample without noise", CASE_FORWARD, build_posterior_sample, {2, 4, 4, 3, 0}},
    {"q_sample", CASE_FORWARD, build_q_sample, {4, 3, 5, 3}},
    {"q_sample of one", CASE_FORWARD, build_q_sample, {1, 8, 8, 4}},
    {"inpaint_input", CASE_FORWARD, build_inpaint_input, {2, 3, 5, 4}},
    {"inpaint_input of a whole block", CASE_FORWARD, build_inpaint_input, {3, 16, 16, 24}},
    {"loss", CASE_LOSS_FROZEN, build_loss, {5, 3, 5, 4, 0, 1000}},
    {"loss of one, t = 0", CASE_LOSS_FROZEN, build_loss, {1, 8, 8, 3, 0, 500}},
    {"loss of several parts", CASE_LOSS_FROZEN, build_loss, {3, 33, 16, 4, 0, 1000}},
    {"loss, mean squared error", CASE_LOSS, build_loss, {3, 4, 4, 4, 0, 0}},
    {"loss, variational bound", CASE_LOSS, build_loss, {4, 4, 4, 3, VARIANCE_ONLY, 1000}},
    {"loss, variational bound at t = 0", CASE_LOSS, build_loss, {1, 7, 5, 3, VARIANCE_ONLY, 1000}},
};
const int32_t op_case_count = (int32_t)(sizeof op_cases / sizeof *op_cases);

/* ---- building ---- */

Status case_open(const OpCase *op_case, Dtype dtype, CaseGraph *out)
{
    Status status = STATUS_OK;
    *out = (CaseGraph){.dtype = dtype, .use = op_case->use, .seed = TENSOR_NONE};
    TRY(param_table_create(&out->params));
    TRY(graph_create(out->params, dtype, &out->graph));
    out->output = op_case->build(out, op_case->args);
    TRY(graph_status(out->graph));
    graph_mark_output(out->graph, out->output);
    if (op_case->use == CASE_GRADIENT) {
        const Tensor *y = graph_tensor(out->graph, out->output);
        out->seed = graph_input(out->graph, "seed", y->dtype, y->shape, false);
    }
    if (op_case->use != CASE_FORWARD) TRY(graph_backward(out->graph, out->output, out->seed, false));
    TRY(param_table_layout(out->params, NULL, 0));
    return STATUS_OK;
fail:
    case_close(out);
    return status;
}

void case_close(CaseGraph *c)
{
    graph_free(c->graph);
    param_table_free(c->params);
    *c = (CaseGraph){0};
}
