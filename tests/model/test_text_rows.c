/* model.text_rows: valid. A UNet that is told which rows of text are padding gives what one gives that never had those
 * rows: outputs, gradients of weights and of what stays; and nothing of the hidden rows reaches anything. */
#include "check.h"

#include "base/random.h"
#include "device.h"
#include "engine/executor.h"
#include "engine/param_image.h"
#include "model/sampling_graph.h"
#include "model/training_graph.h"
#include "tiny.h"

enum { BATCH = 2, SIDE = 4, VALID1 = 3, VALID2 = 4, ROWS = TINY_TOKENS };

static ModelConfig model;

typedef struct Run {
    Backend *backend;
    ParamTable *params;
    ParamStore store;
    UnetGraph unet;
    Plan *plan;
    Executor *executor;
    int64_t rows1, rows2;
} Run;

static void fill(float *values, size_t count, uint64_t seed, float scale)
{
    random_normal(seed, RANDOM_TEST, 0, 0, values, count);
    for (size_t i = 0; i < count; i++) values[i] *= scale;
}

/* Every weight random by its name, those that start at zero too; the order of backward need not be the same. */
static void fill_weights(Run *r)
{
    for (int32_t p = 0; p < param_table_size(r->params); p++) {
        const Param *param = param_table_get(r->params, p);
        uint64_t seed = 7;
        for (const char *c = param->name; *c; c++) seed = seed * 31 + (unsigned char)*c;
        fill(param_store_weight(&r->store, p), (size_t)param->count, seed, 0.15f);
    }
}

static Run open_run(const char *device, bool masked, bool recompute)
{
    Run r = {.rows1 = masked ? ROWS : VALID1, .rows2 = masked ? ROWS : VALID2};
    OK(backend_open(device, &(BackendOptions){.threads = 1}, &r.backend));
    OK(param_table_create(&r.params));
    OK(unet_graph_create(r.params,
                         &(UnetGraphOptions){.model = &model,
                                             .batch = BATCH,
                                             .height = SIDE,
                                             .width = SIDE,
                                             .tokens1 = r.rows1,
                                             .tokens2 = r.rows2,
                                             .masked = masked,
                                             .compute = DTYPE_F32,
                                             .backward = true,
                                             .recompute = recompute},
                         &r.unet));
    OK(plan_create(r.unet.graph, r.backend, &(PlanOptions){.reuse = true}, &r.plan));
    OK(param_store_create(r.params, true, &r.store));
    fill_weights(&r);
    OK(param_image_open(&r.store, r.backend, false));
    OK(executor_create(r.plan, &r.store, &r.executor));
    return r;
}

static void close_run(Run *r)
{
    executor_free(r->executor);
    param_store_free(&r->store);
    plan_free(r->plan);
    unet_graph_free(&r->unet);
    param_table_free(r->params);
    backend_close(r->backend);
}

static size_t count_of(const Run *r, TensorId tensor)
{
    return (size_t)shape_count(&graph_tensor(r->unet.graph, tensor)->shape);
}

/* Rows of text, the hidden ones filled with `hidden`. */
static void write_rows(Run *r, TensorId tensor, int64_t rows, int64_t valid, int64_t width, uint64_t seed, float hidden)
{
    size_t row = (size_t)width;
    float *all = mem_alloc_array((size_t)(BATCH * rows) * row, sizeof *all);
    float *kept = mem_alloc_array((size_t)(BATCH * valid) * row, sizeof *kept);
    fill(kept, (size_t)(BATCH * valid) * row, seed, 1);
    for (int64_t n = 0; n < BATCH; n++)
        for (int64_t t = 0; t < rows; t++)
            for (size_t c = 0; c < row; c++)
                all[(size_t)(n * rows + t) * row + c] = t < valid ? kept[(size_t)(n * valid + t) * row + c] : hidden;
    OK(executor_write(r->executor, tensor, all, (size_t)(BATCH * rows) * row * sizeof *all));
    free(all);
    free(kept);
}

static void write_random(Run *r, TensorId tensor, uint64_t seed)
{
    size_t count = count_of(r, tensor);
    float *values = mem_alloc_array(count, sizeof *values);
    fill(values, count, seed, 1);
    OK(executor_write(r->executor, tensor, values, count * sizeof *values));
    free(values);
}

static float *run(Run *r, float hidden)
{
    const UnetGraph *u = &r->unet;
    write_random(r, u->x, 1);
    write_random(r, u->pooled_emb1, 2);
    write_random(r, u->grad_out, 3);
    OK(executor_write(r->executor, u->timesteps, (float[BATCH]){3, 700}, sizeof(float[BATCH])));
    write_rows(r, u->full_emb1, r->rows1, VALID1, model.text1_dim, 4, hidden);
    write_rows(r, u->full_emb2, r->rows2, VALID2, model.text2_dim, 5, hidden);
    if (u->text_mask != TENSOR_NONE) {
        int32_t mask[BATCH][2 * ROWS], mask2[BATCH][ROWS];
        for (int n = 0; n < BATCH; n++)
            for (int t = 0; t < ROWS; t++) {
                mask[n][t] = t < VALID1;
                mask[n][ROWS + t] = mask2[n][t] = t < VALID2;
            }
        OK(executor_write(r->executor, u->text_mask, mask, sizeof mask));
        OK(executor_write(r->executor, u->mask2, mask2, sizeof mask2));
    }
    OK(executor_run(r->executor, NULL));
    OK(param_image_download_grads(&r->store));
    float *out = mem_alloc_array(count_of(r, u->out), sizeof *out);
    OK(executor_read(r->executor, u->out, out, count_of(r, u->out) * sizeof *out));
    return out;
}

static float *gradient(Run *r, TensorId input)
{
    TensorId grad = graph_tensor(r->unet.graph, input)->grad;
    assert_int_not_equal(grad, TENSOR_NONE);
    float *values = mem_alloc_array(count_of(r, grad), sizeof *values);
    OK(executor_read(r->executor, grad, values, count_of(r, grad) * sizeof *values));
    return values;
}

/* The rows that stay have the gradients they have without the hidden ones, whose own are 0. */
static void compare_rows(Run *masked, TensorId masked_input, Run *cut, TensorId cut_input, int64_t valid, int64_t width)
{
    float *a = gradient(masked, masked_input), *b = gradient(cut, cut_input);
    double difference = 0, size = 0;
    for (int64_t n = 0; n < BATCH; n++)
        for (int64_t t = 0; t < ROWS; t++)
            for (int64_t c = 0; c < width; c++) {
                float got = a[(n * ROWS + t) * width + c];
                if (t >= valid) {
                    assert_true(got == 0);
                    continue;
                }
                float wanted = b[(n * valid + t) * width + c];
                difference += (double)(got - wanted) * (got - wanted);
                size += (double)wanted * wanted;
            }
    assert_true(size > 0 && sqrt(difference / size) < 1e-5);
    free(a);
    free(b);
}

static void check_device(const char *device, bool recompute)
{
    Run masked = open_run(device, true, recompute), cut = open_run(device, false, false);
    float *with = run(&masked, 1), *without = run(&cut, 0);
    int64_t count = (int64_t)count_of(&cut, cut.unet.out);
    assert_true(relative_l2(with, without, count) < 1e-5);
    compare_rows(&masked, masked.unet.full_emb1, &cut, cut.unet.full_emb1, VALID1, model.text1_dim);
    compare_rows(&masked, masked.unet.full_emb2, &cut, cut.unet.full_emb2, VALID2, model.text2_dim);
    for (int32_t p = 0; p < param_table_size(cut.params); p++) {
        const Param *param = param_table_get(cut.params, p);
        int32_t other = param_table_find(masked.params, param->name);
        const float *a = param_store_grad(&masked.store, other), *b = param_store_grad(&cut.store, p);
        double size = 0, difference = 0;
        for (int64_t i = 0; i < param->count; i++) {
            size += (double)b[i] * b[i];
            difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        }
        if (difference > 1e-9 * size + 1e-10) fail_msg("%s: the gradient of %s differs", device, param->name);
    }
    float *other = run(&masked, -55); /* to the bit: what is hidden is not even multiplied by 0 */
    assert_memory_equal(with, other, (size_t)count * sizeof *with);
    free(with);
    free(without);
    free(other);
    close_run(&masked);
    close_run(&cut);
}

static void test_hidden_rows(void **state)
{
    (void)state;
    model = tiny_model();
    check_device("ref", false);
    check_device(test_device_name(), false);
    check_device(test_device_name(), true);
}

/* The training graph takes the masks as inputs where the config hides rows, with text given and inline. */
static void test_training_graph(void **state)
{
    (void)state;
    Diffusion *diffusion;
    model = tiny_model();
    OK(diffusion_create(&(DiffusionConfig){1000, 0.0001, 0.02, SCHEDULE_LINEAR}, &diffusion));
    for (int given = 0; given < 2; given++)
        for (int valid = 0; valid < 2; valid++) {
            ParamTable *params;
            TrainingGraph graph;
            model.text_rows = valid ? TEXT_ROWS_VALID : TEXT_ROWS_PADDED;
            OK(param_table_create(&params));
            OK(training_graph_create(params,
                                     &(TrainingGraphOptions){.model = &model,
                                                             .diffusion = diffusion,
                                                             .resolution = TINY_RESOLUTION,
                                                             .batch = BATCH,
                                                             .loss_scale = 1,
                                                             .text_given = given,
                                                             .backward = true,
                                                             .compute = DTYPE_F32},
                                     &graph));
            assert_true((graph.text_mask != TENSOR_NONE) == valid);
            assert_true((graph.mask2 != TENSOR_NONE) == (valid || !given));
            training_graph_free(&graph);
            param_table_free(params);
        }
    diffusion_free(diffusion);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_hidden_rows), cmocka_unit_test(test_training_graph)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
