/* Each instruction set's vector kernels against plain double arithmetic, for widths around the vector's length, in both
 * types, and without touching what lies past the end. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/bf16.h"
#include "base/random.h"
#include "engine/cpu/vector.h"

#define MOST 4096
#define GUARD 64

static const VectorKernels *kernels; /* those under test */

/* Memory of up to MOST elements of a type, with guard elements after those in use. */
typedef struct Data {
    Dtype type;
    int64_t count;
    union {
        float f32[MOST + GUARD];
        Bf16 bf16[MOST + GUARD];
    } at;
} Data;

static double get(const Data *d, int64_t i)
{
    return (double)(d->type == DTYPE_F32 ? d->at.f32[i] : bf16_to_f32(d->at.bf16[i]));
}

static void set(Data *d, int64_t i, double value)
{
    if (d->type == DTYPE_F32) {
        d->at.f32[i] = (float)value;
    } else {
        d->at.bf16[i] = bf16_from_f32((float)value);
    }
}

static void fill(Data *d, Dtype type, int64_t count, uint64_t seed, double scale, double shift)
{
    assert_true(count <= MOST);
    d->type = type;
    d->count = count;
    float normals[MOST];
    random_normal(seed, RANDOM_TEST, 0, 0, normals, (size_t)count);
    for (int64_t i = 0; i < count; i++) set(d, i, scale * (double)normals[i] + shift);
    for (int64_t i = count; i < count + GUARD; i++) set(d, i, 77.0);
}

static void check_guard(const Data *d)
{
    for (int64_t i = d->count; i < d->count + GUARD; i++)
        if (get(d, i) != 77.0) fail_msg("%s wrote element %d past the end", kernels->name, (int)(i - d->count));
}

/* `tolerance` is relative to the larger of the expected value and `floor`; BF16 results are rounded on top. */
static void check(const char *what, const Data *d, int64_t i, double expected, double tolerance, double floor)
{
    double size = fabs(expected) > floor ? fabs(expected) : floor, slack = tolerance * size;
    if (d->type == DTYPE_BF16) slack += fabs(expected) / 256 + 1e-30;
    if (!(fabs(get(d, i) - expected) <= slack))
        fail_msg("%s %s element %d: %.9g, not %.9g", kernels->name, what, (int)i, get(d, i), expected);
}

static double act_of(Activation act, double x)
{
    switch (act) {
    case ACT_SILU:
        return x / (1 + exp(-x));
    case ACT_GELU:
        return 0.5 * x * erfc(-x * sqrt(0.5));
    case ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    default:
        return x;
    }
}

static double slope_of(Activation act, double x)
{
    const double h = 1e-5;
    return (act_of(act, x + h) - act_of(act, x - h)) / (2 * h);
}

static Data a, b, c, d, e, before;
static const int64_t WIDTHS[] = {1, 3, 4, 7, 8, 15, 16, 17, 31, 32, 33, 64, 100, 129};
#define EACH(i, array)                   \
    size_t i = 0;                        \
    i < sizeof(array) / sizeof *(array); \
    i++
static const Dtype TYPES[] = {DTYPE_F32, DTYPE_BF16};

/* Runs `body` for every instruction set this processor has. */
static void for_each_isa(void (*body)(void))
{
    for (int i = 0; vector_kernels_available(i); i++) {
        kernels = vector_kernels_available(i);
        body();
    }
}

static void check_elementwise(void)
{
    static const Activation ACTS[] = {ACT_NONE, ACT_SILU, ACT_GELU, ACT_GELU_TANH};
    for (EACH(t, TYPES)) {
        for (EACH(w, WIDTHS)) {
            const int64_t n = WIDTHS[w];
            fill(&a, TYPES[t], n, 1, 3, 0);
            fill(&b, TYPES[t], n, 2, 1, 0);
            for (int add = 0; add < 2; add++) {
                fill(&c, TYPES[t], n, 3, 1, 0);
                before = c;
                kernels->add(a.at.f32, b.at.f32, c.at.f32, TYPES[t], n, add);
                for (int64_t i = 0; i < n; i++)
                    check("add", &c, i, get(&a, i) + get(&b, i) + (add ? get(&before, i) : 0), 1e-6, 1);
                check_guard(&c);
                c = before;
                kernels->multiply(a.at.f32, b.at.f32, c.at.f32, TYPES[t], n, add);
                for (int64_t i = 0; i < n; i++)
                    check("multiply", &c, i, get(&a, i) * get(&b, i) + (add ? get(&before, i) : 0), 1e-6, 1);
                check_guard(&c);
                c = before;
                kernels->affine(a.at.f32, c.at.f32, TYPES[t], n, 1.5f, -0.25f, add);
                for (int64_t i = 0; i < n; i++)
                    check("affine", &c, i, 1.5 * get(&a, i) - 0.25 + (add ? get(&before, i) : 0), 1e-6, 1);
                check_guard(&c);
                for (EACH(k, ACTS)) {
                    c = before;
                    kernels->activate_grad(a.at.f32, b.at.f32, c.at.f32, TYPES[t], n, ACTS[k], add);
                    for (int64_t i = 0; i < n; i++)
                        check("activate_grad", &c, i,
                              get(&b, i) * slope_of(ACTS[k], get(&a, i)) + (add ? get(&before, i) : 0), 2e-6, 1);
                    check_guard(&c);
                }
            }
            for (EACH(k, ACTS)) {
                fill(&c, TYPES[t], n, 3, 1, 0);
                kernels->activate(a.at.f32, c.at.f32, TYPES[t], n, ACTS[k]);
                for (int64_t i = 0; i < n; i++) check("activate", &c, i, act_of(ACTS[k], get(&a, i)), 1e-6, 1e-2);
                check_guard(&c);
            }
        }
    }
}

static void elementwise(void **state)
{
    for_each_isa(check_elementwise);
}

static void check_extremes(void)
{
    const float values[] = {0.0f, -0.0f, 100.0f, -100.0f, 1e30f, -1e30f, INFINITY, -INFINITY, NAN, 1e-40f};
    for (EACH(t, TYPES)) {
        for (EACH(v, values)) {
            fill(&a, TYPES[t], 40, 1, 0, (double)values[v]);
            fill(&c, TYPES[t], 40, 3, 1, 0);
            kernels->activate(a.at.f32, c.at.f32, TYPES[t], 40, ACT_SILU);
            for (int64_t i = 0; i < 40; i++) {
                if (values[v] != values[v] || values[v] == -INFINITY) {
                    assert_true(get(&c, i) != get(&c, i)); /* a NaN must not vanish; silu(-inf) = -inf * 0 */
                } else if (isinf(values[v])) {
                    assert_true(isinf(get(&c, i)));
                } else {
                    check("silu", &c, i, act_of(ACT_SILU, get(&a, i)), 1e-6, 1e-30);
                }
            }
        }
    }
}

static void extremes_and_nan(void **state)
{
    for_each_isa(check_extremes);
}

static void check_copies(void)
{
    for (EACH(t, TYPES)) {
        for (EACH(u, TYPES)) {
            for (EACH(w, WIDTHS)) {
                for (int mode = 0; mode < 4; mode++) {
                    const int64_t n = WIDTHS[w], x_pitch = n + 5, y_pitch = n + 2;
                    const float row_scale[3] = {2.0f, -1.0f, 0.5f};
                    CopyRows copy = {.x = a.at.f32,
                                     .y = c.at.f32,
                                     .x_type = TYPES[t],
                                     .y_type = TYPES[u],
                                     .x_pitch = x_pitch,
                                     .y_pitch = y_pitch,
                                     .rows = 3,
                                     .width = n,
                                     .scale = mode & 2 ? 0.25f : 1.0f,
                                     .row_scale = mode & 2 ? row_scale : NULL,
                                     .add = mode & 1};
                    fill(&a, TYPES[t], 3 * x_pitch, 1, 2, 0);
                    fill(&c, TYPES[u], 2 * y_pitch + n, 2, 2, 0);
                    before = c;
                    kernels->copy_rows(&copy);
                    for (int64_t i = 0; i < c.count; i++) {
                        const int64_t r = i / y_pitch, x = i % y_pitch;
                        double expected = get(&before, i);
                        if (x < n) {
                            expected = get(&a, r * x_pitch + x) * (mode & 2 ? 0.25 * (double)row_scale[r] : 1);
                            if (mode & 1) expected += get(&before, i);
                        }
                        check("copy_rows", &c, i, expected, 1e-6, 1);
                    }
                    check_guard(&c);
                }
            }
        }
    }
}

static void copies(void **state)
{
    for_each_isa(check_copies);
}

static void check_pool(void)
{
    for (EACH(t, TYPES)) {
        for (EACH(w, WIDTHS)) {
            for (int add = 0; add < 2; add++) {
                const int64_t n = WIDTHS[w], width = 3;
                fill(&a, TYPES[t], 2 * width * n, 1, 1, 0);
                fill(&b, TYPES[t], 2 * width * n, 2, 1, 0);
                fill(&c, TYPES[t], width * n, 3, 1, 0);
                before = c;
                kernels->pool_row(a.at.f32, b.at.f32, c.at.f32, TYPES[t], width, n, 0.25f, add);
                for (int64_t i = 0; i < width * n; i++) {
                    const int64_t at = i / n * 2 * n + i % n;
                    const double sum = get(&a, at) + get(&a, at + n) + get(&b, at) + get(&b, at + n);
                    check("pool_row", &c, i, 0.25 * sum + (add ? get(&before, i) : 0), 1e-6, 1);
                }
                check_guard(&c);
            }
        }
    }
}

static void pooling(void **state)
{
    for_each_isa(check_pool);
}

/* a: x (rows, channels), b: dy; channel parameters from a fixed stream. */
static void check_norms(void)
{
    static float mean[MOST], scale[MOST], shift[MOST], first[MOST], second[MOST], sum[MOST], product[MOST];
    static const Activation ACTS[] = {ACT_NONE, ACT_SILU};
    const int64_t rows = 9;
    for (EACH(t, TYPES)) {
        for (EACH(w, WIDTHS)) {
            const int64_t n = WIDTHS[w];
            random_normal(5, RANDOM_TEST, 1, 0, mean, (size_t)n);
            random_normal(5, RANDOM_TEST, 2, 0, scale, (size_t)n);
            random_normal(5, RANDOM_TEST, 3, 0, shift, (size_t)n);
            random_normal(5, RANDOM_TEST, 4, 0, first, (size_t)n);
            random_normal(5, RANDOM_TEST, 5, 0, second, (size_t)n);
            fill(&a, TYPES[t], rows * n, 1, 1, 1);
            fill(&b, TYPES[t], rows * n, 2, 1, 0);
            for (int64_t i = 0; i < n; i++) sum[i] = product[i] = 1;
            kernels->norm_sums(a.at.f32, TYPES[t], rows, n, mean, sum, product);
            for (int64_t i = 0; i < n; i++) {
                double s = 1, q = 1;
                for (int64_t r = 0; r < rows; r++) {
                    const double x = get(&a, r * n + i) - (double)mean[i];
                    s += x;
                    q += x * x;
                }
                assert_true(fabs((double)sum[i] - s) < 1e-5 * (fabs(s) + 10));
                assert_true(fabs((double)product[i] - q) < 1e-5 * (q + 10));
            }
            for (int64_t i = 0; i < n; i++) sum[i] = 1;
            kernels->column_sums(a.at.f32, TYPES[t], rows, n, sum);
            for (int64_t i = 0; i < n; i++) {
                double s = 1;
                for (int64_t r = 0; r < rows; r++) s += get(&a, r * n + i);
                assert_true(fabs((double)sum[i] - s) < 1e-5 * (fabs(s) + 10));
            }
            for (EACH(k, ACTS)) {
                NormRows norm = {a.at.f32, TYPES[t], rows, n, mean, scale, shift, ACTS[k]};
                fill(&c, TYPES[t], rows * n, 3, 1, 0);
                kernels->norm_apply(&norm, c.at.f32);
                for (int64_t i = 0; i < rows * n; i++) {
                    const double x = get(&a, i) - (double)mean[i % n];
                    check("norm_apply", &c, i, act_of(ACTS[k], x * (double)scale[i % n] + (double)shift[i % n]), 2e-6,
                          1);
                }
                check_guard(&c);
                for (int64_t i = 0; i < n; i++) sum[i] = product[i] = 0;
                kernels->norm_grad_sums(&norm, b.at.f32, sum, product);
                for (int64_t i = 0; i < n; i++) {
                    double s = 0, q = 0;
                    for (int64_t r = 0; r < rows; r++) {
                        const double x = get(&a, r * n + i) - (double)mean[i];
                        const double g =
                            get(&b, r * n + i) * slope_of(ACTS[k], x * (double)scale[i] + (double)shift[i]);
                        s += g;
                        q += g * x;
                    }
                    assert_true(fabs((double)sum[i] - s) < 1e-5 * (fabs(s) + 10));
                    assert_true(fabs((double)product[i] - q) < 1e-5 * (fabs(q) + 10));
                }
                for (int add = 0; add < 2; add++) {
                    fill(&c, TYPES[t], rows * n, 3, 1, 0);
                    before = c;
                    kernels->norm_grad_apply(&norm, b.at.f32, first, second, c.at.f32, add);
                    for (int64_t i = 0; i < rows * n; i++) {
                        const int64_t j = i % n;
                        const double x = get(&a, i) - (double)mean[j];
                        const double g = get(&b, i) * slope_of(ACTS[k], x * (double)scale[j] + (double)shift[j]);
                        check("norm_grad_apply", &c, i,
                              g * (double)scale[j] - (double)first[j] - x * (double)second[j] +
                                  (add ? get(&before, i) : 0),
                              5e-6, 1);
                    }
                    check_guard(&c);
                }
            }
        }
    }
}

static void norms(void **state)
{
    for_each_isa(check_norms);
}

static void check_layer_norm(void)
{
    static float gamma[MOST], beta[MOST], dgamma[MOST], dbeta[MOST], stats[2 * 9];
    const int64_t rows = 9;
    for (EACH(t, TYPES)) {
        for (EACH(w, WIDTHS)) {
            const int64_t n = WIDTHS[w];
            random_normal(5, RANDOM_TEST, 1, 0, gamma, (size_t)n);
            random_normal(5, RANDOM_TEST, 2, 0, beta, (size_t)n);
            fill(&a, TYPES[t], rows * n, 1, 1, 2);
            fill(&b, TYPES[t], rows * n, 2, 1, 0);
            fill(&c, TYPES[t], rows * n, 3, 1, 0);
            fill(&d, TYPES[t], rows * n, 4, 1, 0);
            before = d;
            LayerNormRows norm = {a.at.f32, TYPES[t], rows, n, gamma, beta, 1e-2f, stats};
            kernels->layer_norm(&norm, c.at.f32);
            for (int64_t i = 0; i < n; i++) dgamma[i] = dbeta[i] = 0;
            kernels->layer_norm_grad(&norm, b.at.f32, d.at.f32, true, dgamma, dbeta);
            for (int64_t r = 0; r < rows; r++) {
                double mean = 0, variance = 0, u_mean = 0, product = 0;
                for (int64_t i = 0; i < n; i++) mean += get(&a, r * n + i) / (double)n;
                for (int64_t i = 0; i < n; i++) variance += pow(get(&a, r * n + i) - mean, 2) / (double)n;
                const double rstd = 1 / sqrt(variance + (double)1e-2f);
                for (int64_t i = 0; i < n; i++) {
                    const double xhat = (get(&a, r * n + i) - mean) * rstd, u = get(&b, r * n + i) * (double)gamma[i];
                    check("layer_norm", &c, r * n + i, xhat * (double)gamma[i] + (double)beta[i], 1e-5, 1);
                    u_mean += u / (double)n;
                    product += u * xhat / (double)n;
                    dgamma[i] -= (float)(get(&b, r * n + i) * xhat);
                    dbeta[i] -= (float)get(&b, r * n + i);
                }
                for (int64_t i = 0; i < n; i++) {
                    const double xhat = (get(&a, r * n + i) - mean) * rstd, u = get(&b, r * n + i) * (double)gamma[i];
                    check("layer_norm_grad", &d, r * n + i,
                          rstd * (u - u_mean - xhat * product) + get(&before, r * n + i), 2e-5, 10);
                }
            }
            for (int64_t i = 0; i < n; i++) assert_true(fabsf(dgamma[i]) < 1e-4f && fabsf(dbeta[i]) < 1e-4f);
            check_guard(&c);
            check_guard(&d);
        }
    }
}

static void check_rms_norm(void)
{
    static float gamma[MOST];
    const int64_t rows = 9;
    for (EACH(t, TYPES)) {
        for (EACH(w, WIDTHS)) {
            const int64_t n = WIDTHS[w];
            random_normal(5, RANDOM_TEST, 1, 0, gamma, (size_t)n);
            fill(&a, TYPES[t], rows * n, 1, 1, 2);
            fill(&c, TYPES[t], rows * n, 3, 1, 0);
            kernels->rms_norm(
                &(LayerNormRows){
                    .x = a.at.f32, .type = TYPES[t], .rows = rows, .channels = n, .gamma = gamma, .eps = 1e-2f},
                c.at.f32);
            for (int64_t i = 0; i < rows * n; i++) {
                double square = 0;
                for (int64_t k = 0; k < n; k++) square += pow(get(&a, i / n * n + k), 2) / (double)n;
                check("rms_norm", &c, i, get(&a, i) / sqrt(square + (double)1e-2f) * (double)gamma[i % n], 1e-5, 1);
            }
            check_guard(&c);
        }
    }
}

static void rms_norms(void **state)
{
    for_each_isa(check_rms_norm);
}

/* The number with these bits in half precision; 65536 in place of the infinity. */
static float half_value(int bits)
{
    const int exponent = bits >> 10, fraction = bits & 0x3ff;
    return ldexpf((float)(exponent > 0 ? fraction + 1024 : fraction), (exponent > 0 ? exponent : 1) - 25);
}

/* Every finite half, what lies half way to the next one, and the floats beside that. */
static void check_rounding_to_half(void)
{
    for (int bits = 0; bits < 0x7c00; bits++) {
        const float low = half_value(bits), next = half_value(bits + 1), middle = (low + next) / 2;
        const float high = next > 65504 ? INFINITY : next;
        const float x[4] = {low, nextafterf(middle, 0), middle, nextafterf(middle, INFINITY)};
        const float expected[4] = {low, low, bits % 2 == 0 ? low : high, high};
        float in[40], out[40];
        for (int i = 0; i < 40; i++) in[i] = i % 8 < 4 ? x[i % 4] : -x[i % 4];
        kernels->round_to(in, out, 40, ROUND_F16);
        for (int i = 0; i < 40; i++) {
            const float want = i % 8 < 4 ? expected[i % 4] : -expected[i % 4];
            if (out[i] != want || signbit(out[i]) != signbit(in[i]))
                fail_msg("%s: %.9g to half precision: %.9g, not %.9g", kernels->name, (double)in[i], (double)out[i],
                         (double)want);
        }
    }
    float special[5] = {NAN, -INFINITY, INFINITY, 3e38f, -1e-40f};
    kernels->round_to(special, special, 5, ROUND_F16);
    assert_true(isnan(special[0]) && special[1] == -INFINITY && special[2] == INFINITY && special[3] == INFINITY);
    assert_true(special[4] == 0 && signbit(special[4]));
}

static void check_rounding_to_bf16(void)
{
    for (EACH(w, WIDTHS)) {
        const int64_t n = WIDTHS[w];
        fill(&a, DTYPE_F32, n, 1, 3, 0);
        fill(&c, DTYPE_F32, n, 3, 1, 0);
        kernels->round_to(a.at.f32, c.at.f32, n, ROUND_BF16);
        for (int64_t i = 0; i < n; i++) assert_true(c.at.f32[i] == bf16_to_f32(bf16_from_f32(a.at.f32[i])));
        check_guard(&c);
        kernels->round_to(a.at.f32, c.at.f32, n, ROUND_F16);
        check_guard(&c);
    }
}

static void rounding(void **state)
{
    for_each_isa(check_rounding_to_half);
    for_each_isa(check_rounding_to_bf16);
}

static void layer_norms(void **state)
{
    for_each_isa(check_layer_norm);
}

/* a: scores (F32), b: dp (F32), c: p, d: ds */
static void check_softmax(void)
{
    static float bias[MOST];
    static int32_t mask[MOST];
    const float scale = 0.5f;
    for (EACH(t, TYPES)) {
        for (EACH(w, WIDTHS)) {
            const int64_t n = WIDTHS[w];
            for (int mode = 0; mode < 5; mode++) { /* bits: bias, mask of the first part; 4: everything hidden */
                const bool hidden = mode == 4;
                const int64_t masked = hidden ? n : n - n / 3;
                random_normal(5, RANDOM_TEST, 1, 0, bias, (size_t)n);
                for (int64_t i = 0; i < n; i++) mask[i] = !hidden && i % 3 != 1;
                fill(&a, DTYPE_F32, n, 1, 4, 0);
                before = a;
                fill(&c, TYPES[t], n, 3, 1, 0);
                const ScoreRow row = {.scores = a.at.f32,
                                      .keys = n,
                                      .scale = scale,
                                      .bias = mode & 1 ? bias : NULL,
                                      .mask = mode & 2 || hidden ? mask : NULL,
                                      .masked = masked,
                                      .p = c.at.f32,
                                      .p_type = TYPES[t]};
                float sum, lse;
                kernels->softmax_row(&row, &sum, &lse);
                double most = -INFINITY, total = 0;
                for (int64_t i = 0; i < n; i++) {
                    const double s = get(&before, i) * (double)scale + (mode & 1 ? (double)bias[i] : 0);
                    set(&before, i, row.mask && i < masked && !mask[i] ? -INFINITY : s);
                    most = fmax(most, get(&before, i));
                }
                for (int64_t i = 0; i < n; i++) total += hidden ? 0 : exp(get(&before, i) - most);
                for (int64_t i = 0; i < n; i++)
                    check("softmax_row", &c, i, hidden ? 0 : exp(get(&before, i) - most), 2e-6, 1e-3);
                assert_true(fabs((double)sum - total) <= 2e-6 * total);
                assert_true(fabs((double)lse - (hidden ? 0 : most + log(total))) < 1e-5);
                check_guard(&c);
            }
            for (int mode = 0; mode < 2; mode++) { /* without a mask, and with */
                fill(&a, DTYPE_F32, n, 1, 4, 0);
                fill(&b, DTYPE_F32, n, 2, 1, 0);
                fill(&c, TYPES[t], n, 3, 1, 0);
                fill(&d, TYPES[t], n, 4, 1, 0);
                before = a;
                const ScoreRow row = {.scores = a.at.f32,
                                      .keys = n,
                                      .scale = scale,
                                      .mask = mode ? mask : NULL,
                                      .masked = n - n / 3,
                                      .p = c.at.f32,
                                      .p_type = TYPES[t]};
                for (int64_t i = 0; i < n; i++) mask[i] = i % 3 != 1;
                kernels->softmax_grad_row(&row, 5.0f, b.at.f32, 0.5f, d.at.f32);
                for (int64_t i = 0; i < n; i++) {
                    const bool hidden = row.mask && i < row.masked && !mask[i];
                    const double p = hidden ? 0 : exp(get(&before, i) * (double)scale - 5);
                    check("softmax_grad_row p", &c, i, p, 3e-6, 1e-3);
                    check("softmax_grad_row ds", &d, i, p * (get(&b, i) - 0.5) * (double)scale, 3e-6, 1e-3);
                }
                check_guard(&c);
                check_guard(&d);
            }
            fill(&e, TYPES[t], n, 6, 1, 0);
            double dot = 0;
            for (int64_t i = 0; i < n; i++) dot += get(&d, i) * get(&e, i);
            assert_true(fabs((double)kernels->dot(d.at.f32, e.at.f32, TYPES[t], n) - dot) < 1e-5);
        }
    }
}

static void softmax(void **state)
{
    for_each_isa(check_softmax);
}

static void environment_picks_the_kernels(void **state)
{
    assert_int_equal(setenv("VASILY_ISA", "sse2", 1), 0);
    assert_string_equal(vector_kernels()->name, "sse2");
    assert_int_equal(unsetenv("VASILY_ISA"), 0);
    int best = 0;
    while (vector_kernels_available(best + 1)) best++;
    assert_ptr_equal(vector_kernels(), vector_kernels_available(best));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elementwise), cmocka_unit_test(extremes_and_nan),
        cmocka_unit_test(copies),      cmocka_unit_test(pooling),
        cmocka_unit_test(norms),       cmocka_unit_test(layer_norms),
        cmocka_unit_test(softmax),     cmocka_unit_test(environment_picks_the_kernels),
        cmocka_unit_test(rms_norms),   cmocka_unit_test(rounding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
