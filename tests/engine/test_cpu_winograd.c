/* Winograd's form of 3x3 convolutions against the direct sum in fp64: odd sizes, paddings, channels that fill no
 * vector, partial blocks of tiles; the same through the ops against the backend with Winograd switched off. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/arena.h"
#include "base/random.h"
#include "engine/cpu/winograd.h"
#include "engine/ops.h"

/* Relative L2 error that is allowed; the direct sum in fp32 has about 3e-7. */
#define TOLERANCE 2e-6

static const WinogradShape SHAPES[] = {
    /* samples, h, w, c, oh, ow, o, pad_top, pad_left */
    {1, 8, 8, 32, 8, 8, 32, 1, 1},    {3, 9, 7, 33, 9, 7, 17, 1, 1}, {2, 16, 16, 48, 16, 16, 40, 1, 1},
    {1, 12, 10, 20, 10, 8, 24, 0, 0}, {2, 5, 6, 8, 7, 8, 64, 2, 2},  {1, 7, 7, 16, 6, 7, 16, 0, 1},
    {5, 16, 16, 32, 16, 16, 32, 1, 1}};

static float *normals(int64_t count, uint64_t seed)
{
    float *data = mem_alloc_aligned((size_t)count * sizeof *data);
    assert_non_null(data);
    random_normal(seed, RANDOM_TEST, 0, 0, data, (size_t)count);
    return data;
}

static double relative_error(const float *data, const double *expected, int64_t count)
{
    double difference = 0, size = 0;
    for (int64_t i = 0; i < count; i++) {
        difference += pow((double)data[i] - expected[i], 2);
        size += pow(expected[i], 2);
    }
    return sqrt(difference / size);
}

/* Calls BODY for every term of the convolution: y[n,oy,ox,o] x[n,iy,ix,c] w[o,k,c], indices yi, xi, wi in the body. */
#define EACH_TERM(s, BODY)                                                                         \
    for (int64_t n = 0; n < (s)->samples; n++)                                                     \
        for (int64_t oy = 0; oy < (s)->oh; oy++)                                                   \
            for (int64_t ox = 0; ox < (s)->ow; ox++)                                               \
                for (int64_t k = 0; k < 9; k++) {                                                  \
                    const int64_t iy = oy - (s)->pad_top + k / 3, ix = ox - (s)->pad_left + k % 3; \
                    if (iy < 0 || iy >= (s)->h || ix < 0 || ix >= (s)->w) continue;                \
                    for (int64_t o = 0; o < (s)->o; o++)                                           \
                        for (int64_t c = 0; c < (s)->c; c++) {                                     \
                            const int64_t yi = ((n * (s)->oh + oy) * (s)->ow + ox) * (s)->o + o;   \
                            const int64_t xi = ((n * (s)->h + iy) * (s)->w + ix) * (s)->c + c;     \
                            const int64_t wi = (o * 9 + k) * (s)->c + c;                           \
                            BODY;                                                                  \
                        }                                                                          \
                }

static void check_shape(Backend *backend, const WinogradShape *s)
{
    const int64_t x_count = s->samples * s->h * s->w * s->c, y_count = s->samples * s->oh * s->ow * s->o;
    const int64_t w_count = s->o * 9 * s->c;
    float *x = normals(x_count, 1), *y = normals(y_count, 2), *w = normals(w_count, 3), *bias = normals(s->o, 4);
    float *dx = normals(x_count, 5), *dw = normals(w_count, 6), *residual = normals(y_count, 7);
    double *want_y = calloc((size_t)y_count, sizeof *want_y), *want_dx = calloc((size_t)x_count, sizeof *want_dx);
    double *want_dw = calloc((size_t)w_count, sizeof *want_dw);
    assert_true(want_y && want_dx && want_dw);
    for (int64_t i = 0; i < y_count; i++) want_y[i] = (double)residual[i] + (double)bias[i % s->o];
    for (int64_t i = 0; i < x_count; i++) want_dx[i] = (double)dx[i];
    for (int64_t i = 0; i < w_count; i++) want_dw[i] = (double)dw[i];
    /* y serves as the result's gradient before the forward pass overwrites it. */
    EACH_TERM(s, want_y[yi] += (double)x[xi] * (double)w[wi])
    EACH_TERM(s, want_dx[xi] += (double)y[yi] * (double)w[wi])
    EACH_TERM(s, want_dw[wi] += (double)y[yi] * (double)x[xi])

    for (WinogradKind kind = WINOGRAD_WEIGHT_GRADIENT + 1; kind-- > WINOGRAD_FORWARD;) {
        Winograd *plan = NULL;
        assert_int_equal(winograd_create(cpu_of(backend), kind, s, &plan), STATUS_OK);
        void *workspace = backend->alloc(backend, winograd_workspace_bytes(plan));
        void *packed = backend->alloc(backend, winograd_packed_bytes(plan) + 64);
        memset(workspace, 0xff, winograd_workspace_bytes(plan)); /* NaNs */
        if (kind == WINOGRAD_WEIGHT_GRADIENT) {
            assert_int_equal(winograd_run_weights(plan, x, y, dw, true, workspace), STATUS_OK);
            assert_true(relative_error(dw, want_dw, w_count) < TOLERANCE);
        } else {
            assert_int_equal(winograd_pack(plan, w, packed, workspace), STATUS_OK);
            if (kind == WINOGRAD_INPUT_GRADIENT) {
                assert_int_equal(winograd_run(plan, y, packed, NULL, dx, dx, workspace), STATUS_OK);
                assert_true(relative_error(dx, want_dx, x_count) < TOLERANCE);
            } else {
                assert_int_equal(winograd_run(plan, x, packed, bias, residual, y, workspace), STATUS_OK);
                assert_true(relative_error(y, want_y, y_count) < TOLERANCE);
            }
        }
        backend->free(backend, packed);
        backend->free(backend, workspace);
        winograd_free(plan);
    }
    float *const floats[] = {x, y, w, bias, dx, dw, residual};
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++) mem_free_aligned(floats[i]);
    free(want_y);
    free(want_dx);
    free(want_dw);
}

static void equals_the_direct_sum(void **state)
{
    for (int32_t threads = 1; threads <= 3; threads++) {
        Backend *backend = NULL;
        assert_int_equal(backend_open_cpu(&(BackendOptions){.threads = threads}, &backend), STATUS_OK);
        for (size_t i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++) check_shape(backend, &SHAPES[i]);
        backend_close(backend);
    }
}

static void is_chosen_where_it_pays(void **state)
{
    Backend *backend = NULL;
    assert_int_equal(backend_open_cpu(&(BackendOptions){.threads = 2}, &backend), STATUS_OK);
    const WinogradShape good = {32, 32, 32, 64, 32, 32, 64, 1, 1}, few_channels = {32, 32, 32, 4, 32, 32, 64, 1, 1};
    const WinogradShape few_tiles = {1, 4, 4, 64, 4, 4, 64, 1, 1}, huge = {32, 32, 32, 1536, 32, 32, 1536, 1, 1};
    for (WinogradKind kind = WINOGRAD_FORWARD; kind <= WINOGRAD_WEIGHT_GRADIENT; kind++) {
        assert_true(winograd_suits(cpu_of(backend), kind, &good));
        assert_false(winograd_suits(cpu_of(backend), kind, &few_channels));
        assert_false(winograd_suits(cpu_of(backend), kind, &few_tiles));
        assert_false(winograd_suits(cpu_of(backend), kind, &huge));
    }
    backend_close(backend);
}

/* A convolution with bias and residual and its gradients, run op by op. */
typedef struct Outcome {
    float *tensor[OP_MAX_OUT * 8];
    int64_t count[OP_MAX_OUT * 8];
    int32_t tensors, by_winograd;
} Outcome;

static void run_op(Backend *backend, const Graph *graph, const Op *op, float **memory, Outcome *out)
{
    const Kernel *kernel = backend->kernel[op->kind];
    Prepared prepared = {0};
    assert_int_equal(kernel->prepare(backend, graph, op, &prepared), STATUS_OK);
    KernelCall call = {.graph = graph, .op = op, .state = prepared.state, .accumulate = op->accumulate};
    call.workspace = backend->alloc(backend, prepared.workspace_bytes + 64);
    call.packed = backend->alloc(backend, prepared.packed_bytes + 64);
    for (int32_t k = 0; k < op->in_count; k++) call.in[k] = op->in[k] == TENSOR_NONE ? NULL : memory[op->in[k]];
    for (int32_t k = 0; k < op->out_count; k++) call.out[k] = op->out[k] == TENSOR_NONE ? NULL : memory[op->out[k]];
    if (prepared.packed_bytes > 0) assert_int_equal(kernel->pack(&call), STATUS_OK);
    assert_int_equal(kernel->run(&call), STATUS_OK);
    if (prepared.detail && strncmp(prepared.detail, "winograd", 8) == 0) out->by_winograd++;
    for (int32_t k = 0; k < op->out_count; k++) {
        if (op->out[k] == TENSOR_NONE) continue;
        const int64_t count = shape_count(&graph_tensor(graph, op->out[k])->shape);
        float *copy = malloc((size_t)count * sizeof *copy);
        assert_non_null(copy);
        memcpy(copy, call.out[k], (size_t)count * sizeof *copy);
        out->tensor[out->tensors] = copy;
        out->count[out->tensors++] = count;
    }
    backend->free(backend, call.workspace);
    backend->free(backend, call.packed);
    if (kernel->release) kernel->release(prepared.state);
}

static Outcome run_convolution(const char *winograd)
{
    enum { N = 2, SIDE = 24, C = 32, O = 48, MOST_TENSORS = 64 };
    Outcome out = {0};
    Backend *backend = NULL;
    ParamTable *params = NULL;
    Graph *graph = NULL;
    float *memory[MOST_TENSORS] = {NULL};
    assert_int_equal(setenv("VASILY_WINOGRAD", winograd, 1), 0);
    assert_int_equal(backend_open_cpu(&(BackendOptions){.threads = 2}, &backend), STATUS_OK);
    assert_int_equal(unsetenv("VASILY_WINOGRAD"), 0);
    assert_int_equal(param_table_create(&params), STATUS_OK);
    assert_int_equal(graph_create(params, DTYPE_F32, &graph), STATUS_OK);
    const TensorId x = graph_input(graph, "x", DTYPE_F32, SHAPE4(N, SIDE, SIDE, C), true);
    const TensorId residual = graph_input(graph, "residual", DTYPE_F32, SHAPE4(N, SIDE, SIDE, O), true);
    const TensorId seed = graph_input(graph, "seed", DTYPE_F32, SHAPE4(N, SIDE, SIDE, O), false);
    const Param weight = {.name = "w", .shape = SHAPE4(O, 3, 3, C), .layout = PARAM_CONV, .trainable = true};
    const Param shift = {.name = "b", .shape = SHAPE1(O), .trainable = true};
    const TensorId w = graph_param(graph, &weight), b = graph_param(graph, &shift);
    const TensorId y = op_conv2d(graph, x, w, b, residual, conv_same(3));
    assert_int_equal(graph_backward(graph, y, seed, false), STATUS_OK);
    assert_true(graph_tensor_count(graph) <= MOST_TENSORS);
    for (TensorId t = 0; t < graph_tensor_count(graph); t++)
        memory[t] = normals(shape_count(&graph_tensor(graph, t)->shape), 10 + (uint64_t)t);
    for (int32_t i = 0; i < graph_op_count(graph); i++) {
        const OpKind kind = graph_op(graph, i)->kind;
        if (kind == OP_CONV2D || kind == OP_CONV2D_GRAD_X || kind == OP_CONV2D_GRAD_W)
            run_op(backend, graph, graph_op(graph, i), memory, &out);
    }
    for (size_t t = 0; t < MOST_TENSORS; t++) mem_free_aligned(memory[t]);
    graph_free(graph);
    param_table_free(params);
    backend_close(backend);
    return out;
}

static void ops_agree_with_and_without(void **state)
{
    Outcome with = run_convolution("1"), without = run_convolution("0");
    assert_int_equal(with.by_winograd, 3);
    assert_int_equal(without.by_winograd, 0);
    assert_int_equal(with.tensors, 4); /* y, dw, db, dx */
    assert_int_equal(without.tensors, 4);
    for (int32_t i = 0; i < with.tensors; i++) {
        double *expected = malloc((size_t)with.count[i] * sizeof *expected);
        assert_non_null(expected);
        assert_int_equal(with.count[i], without.count[i]);
        for (int64_t e = 0; e < with.count[i]; e++) expected[e] = (double)without.tensor[i][e];
        assert_true(relative_error(with.tensor[i], expected, with.count[i]) < TOLERANCE);
        free(expected);
        free(with.tensor[i]);
        free(without.tensor[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_direct_sum),
        cmocka_unit_test(is_chosen_where_it_pays),
        cmocka_unit_test(ops_agree_with_and_without),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
