/* Kandinsky 2.0's autoencoder against the public class, run through the probes: moments, posterior, pictures; its
 * parameter list; what it refuses. */
#include "check.h"

#include "base/file.h"
#include "base/random.h"
#include "device.h"
#include "engine/executor.h"
#include "engine/param_image.h"
#include "golden_unet.h"
#include "model/autoencoder.h"
#include "model/probe_autoencoder.h"
#include "model/sampling_graph.h"
#include "model/training_graph.h"
#include "model/weights.h"
#include "temp_dir.h"
#include "tiny.h"

#define SCALE 0.0512

/* The cases of tests/goldens/make_autoencoder_goldens.py. */
typedef struct Case {
    const char *name;
    int64_t channels, mult[4], levels, res_blocks, latent;
} Case;

static Case cases[] = {
    {"small", 32, {1, 2}, 2, 1, 4},
    {"deep", 32, {1, 3, 2}, 3, 2, 3},
};
enum { CASES = sizeof cases / sizeof *cases };

/* The rest of the model is any that passes the checks. */
static ModelConfig case_model(Case *c)
{
    ModelConfig model = tiny_model();
    model.in_channels = c->latent;
    model.out_channels = 2 * c->latent;
    model.autoencoder = (AutoencoderConfig){.kind = AUTOENCODER_KL,
                                            .factor = 8,
                                            .scale = SCALE,
                                            .channels = c->channels,
                                            .channel_mult = {c->mult, (size_t)c->levels},
                                            .res_blocks = c->res_blocks};
    return model;
}

/* Weights by the goldens' rule, both directions. */
static void make_weights(const ModelConfig *model, const char *path)
{
    ParamTable *table = NULL;
    ParamStore store = {0};
    Graph *graph = NULL;
    OK(param_table_create(&table));
    OK(graph_create(table, DTYPE_F32, &graph));
    autoencoder_declare_params(graph, model, true, true);
    OK(graph_status(graph));
    OK(param_table_layout(table, NULL, 0));
    OK(param_store_create(table, false, &store));
    OK(golden_fill_store(&store));
    OK(weights_save(path, &store, NULL, (WeightsFilter){.frozen = true}, SAFE_F32));
    graph_free(graph);
    param_store_free(&store);
    param_table_free(table);
}

static double relative_error(const Safetensors *ours, const char *our_name, const Safetensors *theirs,
                             const char *their_name)
{
    int64_t count = 0, their_count = 0;
    float *a = read_tensor(ours, our_name, &count), *b = read_tensor(theirs, their_name, &their_count);
    assert_int_equal(count, their_count);
    double error = relative_l2(a, b, count);
    free(a);
    free(b);
    return error;
}

/* The golden without its noise: the latent is then the mean. */
static void copy_pixels(const Safetensors *golden, const char *path)
{
    const SafeTensor *pixels = safetensors_find(golden, "pixels");
    assert_non_null(pixels);
    OK(safetensors_write(path, pixels, 1));
}

static void check_case(Case *c, Backend *backend, Dtype compute, double limit)
{
    TempDir dir = {0};
    char weights[256], result[256], only[256], golden_path[512];
    Safetensors *golden = NULL, *ours = NULL;
    ModelConfig model = case_model(c);
    assert_int_equal(temp_dir_create(&dir), 0);
    snprintf(weights, sizeof weights, "%s", temp_file(&dir, "weights.safetensors"));
    snprintf(result, sizeof result, "%s", temp_file(&dir, "result.safetensors"));
    snprintf(only, sizeof only, "%s", temp_file(&dir, "pixels.safetensors"));
    snprintf(golden_path, sizeof golden_path, "%s/goldens/autoencoder_%s.safetensors", test_folder(), c->name);
    make_weights(&model, weights);
    model.autoencoder.weights = weights;
    OK(safetensors_open(golden_path, &golden));

    OK(probe_vae_encode(&model, backend, compute, golden_path, result, 1));
    OK(safetensors_open(result, &ours));
    double moments = relative_error(ours, "moments", golden, "moments");
    double sampled = relative_error(ours, "latent", golden, "sampled");
    safetensors_close(ours);
    copy_pixels(golden, only);
    OK(probe_vae_encode(&model, backend, compute, only, result, 1));
    OK(safetensors_open(result, &ours));
    double mean = relative_error(ours, "latent", golden, "mean");
    safetensors_close(ours);
    OK(probe_vae_decode(&model, backend, compute, golden_path, result, 1));
    OK(safetensors_open(result, &ours));
    double decoded = relative_error(ours, "pixels", golden, "decoded");
    safetensors_close(ours);
    print_message("%s %s %s: moments %.2e, drawn latent %.2e, mean %.2e, decoded %.2e\n", backend->name,
                  dtype_name(compute), c->name, moments, sampled, mean, decoded);
    assert_true(moments <= limit);
    assert_true(sampled <= limit);
    assert_true(mean <= limit);
    assert_true(decoded <= limit);
    safetensors_close(golden);
    temp_dir_remove(&dir);
}

static void check_backend(Status (*open)(const BackendOptions *, Backend **), Dtype compute, double limit)
{
    Backend *backend = NULL;
    OK(open(&(BackendOptions){.threads = 1}, &backend));
    if (compute == DTYPE_BF16 && !backend->has_bf16(backend)) {
        backend_close(backend);
        skip();
    }
    for (int c = 0; c < CASES; c++) check_case(&cases[c], backend, compute, limit);
    backend_close(backend);
}

static void test_golden_ref(void **state)
{
    (void)state;
    check_backend(backend_open_ref, DTYPE_F32, 1e-5);
}

static void test_golden_device(void **state)
{
    (void)state;
    check_backend(test_device_open, DTYPE_F32, 1e-5);
}

static void test_golden_device_bf16(void **state)
{
    (void)state;
    check_backend(test_device_open, DTYPE_BF16, 2e-2);
}

/* Every parameter of the published network, by name and shape, and that it is frozen; without allocating any. */
static void test_full_size_parameters(void **state)
{
    (void)state;
    ModelConfig model;
    Config *config = NULL;
    ParamTable *table = NULL;
    Graph *graph = NULL;
    char path[512], *text = NULL, name[256], shape[96], ours[96];
    size_t size = 0;
    int64_t total = 0;
    int32_t listed = 0;
    OK(config_load("kl", "autoencoder: {kind: kl}", &MODEL_CONFIG_SCHEMA, NULL, 0, &model, &config));
    OK(model_config_check(&model, config));
    assert_int_equal(model_latent_factor(&model), 8);
    assert_int_equal(model_moment_channels(&model), 8);
    assert_true(autoencoder_latent_bound(&model) == 1);
    OK(param_table_create(&table));
    OK(graph_create(table, DTYPE_F32, &graph));
    autoencoder_declare_params(graph, &model, true, true);
    OK(graph_status(graph));
    snprintf(path, sizeof path, "%s/goldens/autoencoder_full_params.txt", test_folder());
    OK(file_read(path, 1 << 20, &text, &size));
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n"), listed++) {
        assert_int_equal(sscanf(line, "%255s %95s", name, shape), 2);
        int32_t index = param_table_find(table, name);
        if (index < 0) fail_msg("parameter %s is missing", name);
        Shape file_shape = param_file_shape(param_table_get(table, index));
        shape_format(&file_shape, ours, sizeof ours);
        assert_string_equal(ours, shape);
        assert_false(param_table_get(table, index)->trainable);
        total += param_table_get(table, index)->count;
    }
    assert_int_equal(listed, param_table_size(table));
    assert_int_equal(listed, 248);
    assert_int_equal(total, 83653863);
    free(text);
    graph_free(graph);
    param_table_free(table);
    config_free(config);
}

/* Latents of given moments, 1 x 1 x 2 positions of one channel: scale (mean + exp(clamp(log variance) / 2) noise). */
static void draw(const float moments[4], const float *noise, float out[2])
{
    static Case one = {"one", 32, {1}, 1, 1, 1};
    ModelConfig model = case_model(&one);
    ParamTable *table = NULL;
    ParamStore store = {0};
    Graph *graph = NULL;
    Plan *plan = NULL;
    Executor *executor = NULL;
    Backend *backend = NULL;
    OK(test_device_open(&(BackendOptions){.threads = 1}, &backend));
    OK(param_table_create(&table));
    OK(graph_create(table, DTYPE_F32, &graph));
    TensorId m = graph_input(graph, "moments", DTYPE_F32, SHAPE4(1, 1, 2, 2), false), n = TENSOR_NONE;
    if (noise != NULL) n = graph_input(graph, "noise", DTYPE_F32, SHAPE4(1, 1, 2, 1), false);
    TensorId latent = autoencoder_latent(graph, &model, m, n);
    graph_mark_output(graph, latent);
    OK(graph_status(graph));
    OK(param_table_layout(table, NULL, 0));
    OK(param_store_create(table, false, &store));
    OK(plan_create(graph, backend, &(PlanOptions){.reuse = true}, &plan));
    OK(param_image_open(&store, backend, false));
    OK(executor_create(plan, &store, &executor));
    OK(executor_write(executor, m, moments, 4 * sizeof *moments));
    if (noise != NULL) OK(executor_write(executor, n, noise, 2 * sizeof *noise));
    OK(executor_run(executor, NULL));
    OK(executor_read(executor, latent, out, 2 * sizeof *out));
    executor_free(executor);
    plan_free(plan);
    param_store_free(&store);
    graph_free(graph);
    param_table_free(table);
    backend_close(backend);
}

static void assert_close(double have, double want)
{
    if (!(fabs(have - want) <= 1e-6 * fabs(want) + 1e-12)) fail_msg("%.9g where %.9g is right", have, want);
}

static void test_posterior(void **state)
{
    (void)state;
    const float moments[4] = {1.5f, -0.8f, -2.0f, 0.6f}, beyond[4] = {1.0f, 50.0f, 1.0f, -200.0f};
    const float noise[2] = {0.7f, -1.3f}, loud[2] = {1.0f, 1e6f};
    float out[2];
    draw(moments, noise, out);
    assert_close(out[0], SCALE * (1.5 + exp(-0.4) * 0.7f));
    assert_close(out[1], SCALE * (-2.0 - exp(0.3) * 1.3f));
    draw(moments, NULL, out);
    assert_close(out[0], SCALE * 1.5);
    assert_close(out[1], SCALE * -2.0);
    draw(beyond, loud, out); /* log variances end at 20 and -30 */
    assert_close(out[0], SCALE * (1 + exp(10)));
    assert_close(out[1], SCALE * (1 + exp(-15) * 1e6));
}

/* Without weights: drawn from the seed, finite, the same for the same seed; encoding is not constant. */
static void test_seeded(void **state)
{
    (void)state;
    TempDir dir = {0};
    char in[256], out[3][256];
    Backend *backend = NULL;
    ModelConfig model = case_model(&cases[0]);
    assert_int_equal(temp_dir_create(&dir), 0);
    snprintf(in, sizeof in, "%s/goldens/autoencoder_small.safetensors", test_folder());
    OK(test_device_open(&(BackendOptions){.threads = 1}, &backend));
    float *moments[3];
    int64_t count = 0;
    for (int i = 0; i < 3; i++) {
        Safetensors *file = NULL;
        char name[16];
        snprintf(name, sizeof name, "out%d", i);
        snprintf(out[i], sizeof out[i], "%s", temp_file(&dir, name));
        OK(probe_vae_encode(&model, backend, DTYPE_F32, in, out[i], i == 2 ? 8 : 7));
        OK(safetensors_open(out[i], &file));
        moments[i] = read_tensor(file, "moments", &count);
        safetensors_close(file);
    }
    double spread = 0;
    for (int64_t i = 0; i < count; i++) spread += fabs(moments[0][i] - moments[0][count - 1 - i]);
    assert_true(isfinite(spread) && spread / (double)count > 1e-3);
    assert_memory_equal(moments[0], moments[1], (size_t)count * sizeof(float));
    assert_true(relative_l2(moments[2], moments[0], count) > 1e-2);
    for (int i = 0; i < 3; i++) free(moments[i]);
    backend_close(backend);
    temp_dir_remove(&dir);
}

static void test_refusals(void **state)
{
    (void)state;
    TempDir dir = {0};
    char in[256], out[256], golden[512];
    float values[3 * 6 * 4] = {0};
    Backend *backend = NULL;
    ModelConfig model = case_model(&cases[1]); /* factor 4 */
    assert_int_equal(temp_dir_create(&dir), 0);
    snprintf(in, sizeof in, "%s", temp_file(&dir, "in.safetensors"));
    snprintf(out, sizeof out, "%s", temp_file(&dir, "out.safetensors"));
    snprintf(golden, sizeof golden, "%s/goldens/autoencoder_deep.safetensors", test_folder());
    OK(test_device_open(&(BackendOptions){.threads = 1}, &backend));
    SafeTensor odd = {.name = "pixels", .dtype = SAFE_F32, .ndim = 4, .shape = {1, 3, 6, 4}, .data = values};
    odd.count = 3 * 6 * 4;
    OK(safetensors_write(in, &odd, 1));
    FAILS(probe_vae_encode(&model, backend, DTYPE_F32, in, out, 1), ERR_USAGE, "multiples of 4 pixels");
    FAILS(probe_vae_decode(&model, backend, DTYPE_F32, in, out, 1), ERR_FORMAT, "'latent' is missing");
    odd.shape[1] = 6;
    odd.shape[2] = 3;
    OK(safetensors_write(in, &odd, 1));
    FAILS(probe_vae_encode(&model, backend, DTYPE_F32, in, out, 1), ERR_FORMAT, "6 along dimension 1");
    assert_false(file_exists(out));

    /* Weights of another network: each misfit by name. */
    ModelConfig other = case_model(&cases[0]);
    char weights[256];
    snprintf(weights, sizeof weights, "%s", temp_file(&dir, "weights.safetensors"));
    make_weights(&other, weights);
    model.autoencoder.weights = weights;
    FAILS(probe_vae_encode(&model, backend, DTYPE_F32, golden, out, 1), ERR_MISMATCH, "encoder.down");
    backend_close(backend);
    temp_dir_remove(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full_size_parameters),
        cmocka_unit_test(test_posterior),
        cmocka_unit_test(test_golden_ref),
        cmocka_unit_test(test_golden_device),
        cmocka_unit_test(test_golden_device_bf16),
        cmocka_unit_test(test_seeded),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
