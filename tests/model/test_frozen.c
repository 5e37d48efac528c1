/* The patch autoencoder loses nothing it should keep. */
#include "check.h"

#include "base/random.h"
#include "engine/executor.h"
#include "model/autoencoder.h"
#include "model/sampling_graph.h"
#include "model/training_graph.h"
#include "tiny.h"

#define PI 3.14159265358979323846

static Backend *backend;
static ParamTable *params;
static ParamStore store;

static int open_all(void **state)
{
    (void)state;
    ModelConfig model = tiny_model();
    OK(backend_open_cpu(&(BackendOptions){.threads = 1}, &backend));
    OK(param_table_create(&params));
    OK(model_declare_params(params, &model));
    OK(param_table_layout(params, NULL, 0));
    OK(param_store_create(params, false, &store));
    param_store_init(&store, 11);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    param_store_free(&store);
    param_table_free(params);
    backend_close(backend);
    return 0;
}

/* Runs a picture graph once. */
static void run_picture(PictureGraph *graph, TensorId in, const float *values, TensorId out, float *result)
{
    Plan *plan = NULL;
    Executor *executor = NULL;
    size_t in_count = (size_t)shape_count(&graph_tensor(graph->graph, in)->shape);
    size_t out_count = (size_t)shape_count(&graph_tensor(graph->graph, out)->shape);
    OK(plan_create(graph->graph, backend, &(PlanOptions){.reuse = true}, &plan));
    OK(executor_create(plan, &store, &executor));
    OK(executor_write(executor, in, values, in_count * sizeof *values));
    OK(executor_run(executor, NULL));
    OK(executor_read(executor, out, result, out_count * sizeof *result));
    executor_free(executor);
    plan_free(plan);
    picture_graph_free(graph);
}

static void encode(const ModelConfig *model, int64_t resolution, const float *pixels, float *latent)
{
    PictureGraph graph;
    OK(encode_graph_create(params, model, 1, resolution, resolution, false, DTYPE_F32, &graph));
    run_picture(&graph, graph.pixels, pixels, graph.latent, latent);
}

static void decode(const ModelConfig *model, int64_t resolution, const float *latent, float *pixels)
{
    PictureGraph graph;
    OK(decode_graph_create(params, model, 1, resolution, resolution, DTYPE_F32, &graph));
    run_picture(&graph, graph.latent, latent, graph.pixels, pixels);
}

static ModelConfig patch_model(int64_t factor, int64_t channels, double scale, double whiten)
{
    ModelConfig model = tiny_model();
    model.in_channels = channels;
    model.out_channels = 2 * channels;
    model.autoencoder = (AutoencoderConfig){
        .kind = AUTOENCODER_PATCH, .factor = factor, .latent_channels = channels, .scale = scale, .whiten = whiten};
    return model;
}

static void test_patch_is_orthonormal(void **state)
{
    (void)state;
    enum { F = 4, ALL = 3 * F * F };
    static float w[ALL * ALL];
    ModelConfig model = patch_model(F, ALL, 1, 0);
    OK(autoencoder_patch_weights(&model.autoencoder, ALL, true, w));
    for (int a = 0; a < ALL; a++)
        for (int b = 0; b <= a; b++) {
            double dot = 0;
            for (int i = 0; i < ALL; i++) dot += (double)w[a * ALL + i] * w[b * ALL + i];
            assert_true(fabs(dot - (a == b)) < 1e-6);
        }
}

/* The kept order: luma along JPEG's zig-zag, chroma coefficient z with luma coefficient 4z. */
static void test_patch_order(void **state)
{
    (void)state;
    enum { F = 4, ALL = 3 * F * F };
    static const int ZIGZAG[F * F][2] = {{0, 0}, {0, 1}, {1, 0}, {2, 0}, {1, 1}, {0, 2}, {0, 3}, {1, 2},
                                         {2, 1}, {3, 0}, {3, 1}, {2, 2}, {1, 3}, {2, 3}, {3, 2}, {3, 3}};
    static float w[ALL * ALL];
    const double colours[3][3] = {{sqrt(1 / 3.0), sqrt(1 / 3.0), sqrt(1 / 3.0)},
                                  {sqrt(0.5), 0, -sqrt(0.5)},
                                  {sqrt(1 / 6.0), -2 * sqrt(1 / 6.0), sqrt(1 / 6.0)}};
    ModelConfig model = patch_model(F, ALL, 1, 0);
    OK(autoencoder_patch_weights(&model.autoencoder, ALL, true, w));
    int k = 0;
    for (int rank = 0; rank < 4 * F * F; rank++)
        for (int colour = 0; colour < 3; colour++) {
            if (colour == 0 ? rank >= F * F : rank % 4 != 0) continue;
            const int *uv = ZIGZAG[colour == 0 ? rank : rank / 4];
            double dot = 0;
            for (int i = 0; i < ALL; i++) {
                int row = i / 3 / F, column = i / 3 % F;
                double y = cos(PI * (2 * row + 1) * uv[0] / (2 * F)) * sqrt((uv[0] == 0 ? 1.0 : 2.0) / F);
                double x = cos(PI * (2 * column + 1) * uv[1] / (2 * F)) * sqrt((uv[1] == 0 ? 1.0 : 2.0) / F);
                dot += w[k * ALL + i] * colours[colour][i % 3] * x * y;
            }
            if (!(fabs(dot - 1) < 1e-5)) fail_msg("latent %d is not colour %d, (%d,%d)", k, colour, uv[0], uv[1]);
            k++;
        }
    assert_int_equal(k, ALL);
}

static void test_patch_round_trip(void **state)
{
    (void)state;
    enum { R = 16 };
    static float pixels[R * R * 3], latent[R * R * 3], back[R * R * 3];
    random_normal(1, RANDOM_TEST, 0, 0, pixels, R * R * 3);
    const struct {
        int64_t factor;
        double scale, whiten;
    } cases[] = {{1, 1, 0}, {2, 0.5, 0}, {4, 1, 1}, {8, 3, 0.5}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t f = cases[i].factor;
        ModelConfig model = patch_model(f, 3 * f * f, cases[i].scale, cases[i].whiten);
        encode(&model, R, pixels, latent);
        decode(&model, R, latent, back);
        assert_true(relative_l2(back, pixels, R * R * 3) < 1e-5);
        if (cases[i].whiten > 0) continue;
        double in = 0, out = 0; /* lengths are kept, times the scale */
        for (int k = 0; k < R * R * 3; k++) {
            in += (double)pixels[k] * pixels[k];
            out += (double)latent[k] * latent[k];
        }
        assert_true(fabs(sqrt(out / in) / cases[i].scale - 1) < 1e-5);
    }
}

/* Few channels keep what is smooth: even colours exactly, a slow ramp better than dropping it. */
static void test_patch_keeps_the_lowest(void **state)
{
    (void)state;
    enum { R = 16, F = 4, KEPT = 5 };
    static float pixels[R * R * 3], latent[R * R * KEPT], back[R * R * 3];
    ModelConfig model = patch_model(F, KEPT, 0.25, 0);
    for (int i = 0; i < R * R * 3; i++) pixels[i] = (float[]){0.75f, -0.5f, 0.25f}[i % 3];
    encode(&model, R, pixels, latent);
    decode(&model, R, latent, back);
    assert_true(relative_l2(back, pixels, R * R * 3) < 1e-5);
    for (int y = 0; y < R; y++) /* both luma ramps are among the first five */
        for (int i = 0; i < R * 3; i++) pixels[y * R * 3 + i] = (float)cos(PI * (y % F + 0.5) / F);
    encode(&model, R, pixels, latent);
    decode(&model, R, latent, back);
    assert_true(relative_l2(back, pixels, R * R * 3) < 1e-5);
    for (int y = 0; y < R; y++)
        for (int i = 0; i < R * 3; i++) pixels[y * R * 3 + i] = (float)cos(PI * (i / 3 % F + 0.5) / F);
    encode(&model, R, pixels, latent);
    decode(&model, R, latent, back);
    assert_true(relative_l2(back, pixels, R * R * 3) < 1e-5);
}

static void test_latent_bound(void **state)
{
    (void)state;
    enum { R = 8 };
    static float pixels[R * R * 3], latent[R * R * 3];
    ModelConfig model = patch_model(4, 48, 0.3, 0), plain = tiny_model();
    for (int i = 0; i < R * R * 3; i++) pixels[i] = 1;
    encode(&model, R, pixels, latent);
    assert_true(fabs(latent[0] - autoencoder_latent_bound(&model)) < 1e-5);
    assert_true(fabs(latent[1]) < 1e-6);
    plain.in_channels = 3;
    plain.out_channels = 6;
    plain.autoencoder.kind = AUTOENCODER_NONE;
    encode(&plain, R, pixels, latent);
    assert_true(latent[5] == 0.5f && autoencoder_latent_bound(&plain) == 0.5);
    decode(&plain, R, latent, pixels);
    assert_true(pixels[5] == 1.0f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patch_is_orthonormal), cmocka_unit_test(test_patch_order),
        cmocka_unit_test(test_patch_round_trip),     cmocka_unit_test(test_patch_keeps_the_lowest),
        cmocka_unit_test(test_latent_bound),

    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
