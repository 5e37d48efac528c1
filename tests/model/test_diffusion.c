/* Schedules, respacing and the loss against the public reference. */
#include "check.h"

#include "base/random.h"
#include "device.h"
#include "engine/executor.h"
#include "engine/ops.h"
#include "engine/param_image.h"
#include "model/diffusion.h"

static Safetensors *golden;

static int open_golden(void **state)
{
    (void)state;
    char path[512];
    snprintf(path, sizeof path, "%s/goldens/diffusion.safetensors", test_folder());
    return safetensors_open(path, &golden) == STATUS_OK ? 0 : -1;
}

static int close_golden(void **state)
{
    (void)state;
    safetensors_close(golden);
    return 0;
}

static Diffusion *linear(int64_t steps)
{
    Diffusion *d = NULL;
    OK(diffusion_create(&(DiffusionConfig){steps, 0.0001, 0.02, SCHEDULE_LINEAR}, &d));
    return d;
}

static Diffusion *spaced(int32_t steps, const char *sections)
{
    Diffusion *base = linear(steps), *d = NULL;
    int32_t *kept = NULL, count = 0;
    OK(diffusion_space_timesteps(steps, sections, &kept, &count));
    OK(diffusion_respace(base, kept, count, &d));
    free(kept);
    diffusion_free(base);
    return d;
}

static double golden_f64(const char *name, int64_t i)
{
    const SafeTensor *t = safetensors_find(golden, name);
    double value;
    assert_non_null(t);
    assert_int_equal(t->dtype, SAFE_F64);
    assert_true(i < t->count);
    memcpy(&value, (const char *)t->data + (size_t)i * sizeof value, sizeof value);
    return value;
}

static void assert_close(double a, double b, double limit)
{
    if (!(fabs(a - b) <= limit * fmax(fabs(b), 1e-3))) fail_msg("%.17g is not %.17g", a, b);
}

static void check_schedule(const char *name, Diffusion *d)
{
    char key[64];
    snprintf(key, sizeof key, "%s.timesteps", name);
    int64_t count = 0;
    float *timesteps = read_tensor(golden, key, &count);
    assert_int_equal(d->steps, count);
    float *table = mem_alloc_array((size_t)count * DIFFUSION_TABLE_COLUMNS, sizeof *table);
    diffusion_table(d, table);
    snprintf(key, sizeof key, "%s.table", name);
    for (int32_t t = 0; t < d->steps; t++) {
        assert_int_equal(d->timestep[t], (int32_t)timesteps[t]);
        const double ours[DIFFUSION_TABLE_COLUMNS] = {sqrt(d->alpha_bar[t]),        sqrt(1 - d->alpha_bar[t]),
                                                      d->posterior_mean_x0[t],      d->posterior_mean_xt[t],
                                                      d->posterior_log_variance[t], log(d->beta[t]),
                                                      sqrt(1 / d->alpha_bar[t]),    sqrt(1 / d->alpha_bar[t] - 1)};
        for (int c = 0; c < DIFFUSION_TABLE_COLUMNS; c++) {
            double want = golden_f64(key, t * DIFFUSION_TABLE_COLUMNS + c);
            assert_close(ours[c], want, 1e-9);
            assert_close(table[t * DIFFUSION_TABLE_COLUMNS + c], want, 1e-6);
        }
    }
    free(table);
    free(timesteps);
    diffusion_free(d);
}

static void test_schedules(void **state)
{
    (void)state;
    check_schedule("full", linear(1000));
    check_schedule("short", linear(250));
    check_schedule("spaced", spaced(1000, "25"));
    check_schedule("sections", spaced(300, "10,15,20"));
    check_schedule("stride", spaced(1000, "ddim30"));
    Diffusion *d = NULL;
    OK(diffusion_create(&(DiffusionConfig){100, 0.0001, 0.02, SCHEDULE_COSINE}, &d));
    for (int32_t t = 0; t < 100; t++) assert_close(d->beta[t], golden_f64("cosine.betas", t), 1e-9);
    diffusion_free(d);
}

static void test_schedule_refusals(void **state)
{
    (void)state;
    Diffusion *d = NULL;
    int32_t *kept = NULL, count = 0;
    FAILS(diffusion_create(&(DiffusionConfig){10, 0.0001, 0.02, SCHEDULE_LINEAR}, &d), ERR_CONFIG, "more than 20");
    FAILS(diffusion_create(&(DiffusionConfig){1000, 0.03, 0.02, SCHEDULE_LINEAR}, &d), ERR_CONFIG, "beta_start");
    FAILS(diffusion_space_timesteps(100, "101", &kept, &count), ERR_USAGE, "101");
    FAILS(diffusion_space_timesteps(100, "60,20", &kept, &count), ERR_USAGE, "section 0");
    FAILS(diffusion_space_timesteps(100, "", &kept, &count), ERR_USAGE, "expected");
    FAILS(diffusion_space_timesteps(100, "10,", &kept, &count), ERR_USAGE, "expected");
    FAILS(diffusion_space_timesteps(100, "ddim0", &kept, &count), ERR_USAGE, "expected");
    assert_null(kept);
}

static void test_timestep_draw(void **state)
{
    (void)state;
    enum { DRAWS = 20000, BINS = 10, EXPECTED = DRAWS / BINS };
    Diffusion *d = linear(1000);
    int32_t bins[BINS] = {0};
    bool first = false, last = false;
    for (uint64_t i = 0; i < DRAWS; i++) {
        int32_t t = diffusion_draw_timestep(d, 3, i);
        assert_in_range(t, 0, 999);
        assert_int_equal(t, diffusion_draw_timestep(d, 3, i));
        bins[t / 100]++;
        first |= t == 0;
        last |= t == 999;
    }
    assert_true(first && last);
    double chi = 0;
    for (int b = 0; b < BINS; b++) chi += pow(bins[b] - EXPECTED, 2) / EXPECTED;
    assert_true(chi < 27.9); /* 9 degrees of freedom, p = 0.001 */
    assert_true(diffusion_model_timestep(d, 999) == 999.0f);
    assert_true(diffusion_vb_weight(d) == 1.0f);
    diffusion_free(d);
    d = linear(250);
    assert_true(diffusion_model_timestep(d, 100) == 400.0f);
    assert_true(diffusion_vb_weight(d) == 0.25f);
    diffusion_free(d);
}

/* The loss op with our table against the reference's training_losses, terms and gradient. */
static void check_loss(Backend *backend, const char *name, int64_t steps)
{
    enum { N = 6, H = 4, W = 5, C = 3 };
    char key[64];
    ParamTable *params = NULL;
    ParamStore store = {0};
    Graph *g = NULL;
    Plan *plan = NULL;
    Executor *executor = NULL;
    Diffusion *d = linear(steps);
    float *table = mem_alloc_array((size_t)steps * DIFFUSION_TABLE_COLUMNS, sizeof *table);
    float terms[N * 2], grad[N * H * W * 2 * C];
    int64_t count = 0;
    diffusion_table(d, table);
    OK(param_table_create(&params));
    OK(graph_create(params, DTYPE_F32, &g));
    TensorId out = graph_input(g, "out", DTYPE_F32, SHAPE4(N, H, W, 2 * C), true);
    TensorId x0 = graph_input(g, "x0", DTYPE_F32, SHAPE4(N, H, W, C), false);
    TensorId noise = graph_input(g, "noise", DTYPE_F32, SHAPE4(N, H, W, C), false);
    TensorId t = graph_input(g, "t", DTYPE_F32, SHAPE1(N), false);
    TensorId schedule = graph_constant(g, "schedule", DTYPE_F32, SHAPE2(steps, DIFFUSION_TABLE_COLUMNS), table);
    TensorId x_t = op_q_sample(g, x0, noise, t, schedule);
    TensorId loss = op_diffusion_loss(g, out, x0, x_t, noise, t, schedule, 1.0f / 8, diffusion_vb_weight(d));
    graph_mark_output(g, loss);
    OK(graph_backward(g, loss, TENSOR_NONE, false));
    OK(param_table_layout(params, NULL, 0));
    OK(param_store_create(params, true, &store));
    OK(plan_create(g, backend, &(PlanOptions){.reuse = true}, &plan));
    OK(param_image_open(&store, backend, false));
    OK(executor_create(plan, &store, &executor));

    const struct {
        const char *key;
        TensorId tensor;
    } inputs[] = {{"loss.out", out}, {"loss.x0", x0}, {"loss.noise", noise}};
    for (int i = 0; i < 3; i++) {
        float *values = read_tensor(golden, inputs[i].key, &count);
        OK(executor_write(executor, inputs[i].tensor, values, (size_t)count * sizeof *values));
        free(values);
    }
    snprintf(key, sizeof key, "%s.timesteps", name);
    float *timesteps = read_tensor(golden, key, &count);
    OK(executor_write(executor, t, timesteps, (size_t)count * sizeof *timesteps));
    OK(executor_run(executor, NULL));
    OK(executor_read(executor, loss, terms, sizeof terms));
    OK(executor_read(executor, graph_tensor(g, out)->grad, grad, sizeof grad));

    snprintf(key, sizeof key, "%s.terms", name);
    for (int i = 0; i < N * 2; i++) assert_close(terms[i], golden_f64(key, i), 1e-5);
    snprintf(key, sizeof key, "%s.grad", name);
    float *want = read_tensor(golden, key, &count);
    assert_int_equal(count, N * H * W * 2 * C);
    for (int n = 0; n < N; n++) { /* each sample by itself: their sizes differ by orders */
        double error = relative_l2(grad + n * H * W * 2 * C, want + n * H * W * 2 * C, H * W * 2 * C);
        if (!(error < 1e-5)) fail_msg("%s %s: gradient of sample %d is off by %.2e", backend->name, name, n, error);
    }
    free(want);
    free(timesteps);
    free(table);
    executor_free(executor);
    plan_free(plan);
    graph_free(g);
    param_store_free(&store);
    param_table_free(params);
    diffusion_free(d);
}

static void check_losses(Backend *backend)
{
    check_loss(backend, "loss", 1000);
    check_loss(backend, "loss250", 250);
    backend_close(backend);
}

static void test_loss(void **state)
{
    (void)state;
    Backend *backend = NULL;
    OK(backend_open_ref(&(BackendOptions){.threads = 1}, &backend));
    check_losses(backend);
    OK(test_device_open(&(BackendOptions){.threads = 1}, &backend));
    check_losses(backend);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schedules),
        cmocka_unit_test(test_schedule_refusals),
        cmocka_unit_test(test_timestep_draw),
        cmocka_unit_test(test_loss),
    };
    return cmocka_run_group_tests(tests, open_golden, close_golden);
}
