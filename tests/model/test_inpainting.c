/* Inpainting: a training step against PyTorch's numbers, training and sampling giving the network the same, and a
 * network widened by zeros computing what the narrow one does to the bit. */
#include "check.h"

#include "base/random.h"
#include "device.h"
#include "engine/executor.h"
#include "engine/param_image.h"
#include "golden_unet.h"
#include "model/autoencoder.h"
#include "model/generate.h"
#include "model/sampling_graph.h"
#include "model/training_graph.h"
#include "model/weights.h"
#include "temp_dir.h"
#include "tiny.h"

static const WeightsFilter TRAINED = {.trainable = true};

/* A graph made runnable over a store of its own. */
typedef struct Net {
    ParamTable *params;
    ParamStore store;
    Plan *plan;
    Executor *executor;
} Net;

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static void net_start(Net *net, const Graph *graph, Backend *backend)
{
    OK(plan_create(graph, backend, &(PlanOptions){.reuse = true}, &net->plan));
    OK(param_image_open(&net->store, backend, plan_reads_halves(net->plan)));
    OK(executor_create(net->plan, &net->store, &net->executor));
}

static void net_close(Net *net)
{
    executor_free(net->executor);
    plan_free(net->plan);
    param_store_free(&net->store);
    param_table_free(net->params);
}

static void write_tensor(Executor *e, TensorId id, const Safetensors *file, const char *name)
{
    int64_t count = 0;
    float *values = read_tensor(file, name, &count);
    OK(executor_write(e, id, values, (size_t)count * sizeof *values));
    free(values);
}

static double error_of(Executor *e, TensorId id, const Safetensors *file, const char *name)
{
    int64_t count = 0;
    float *want = read_tensor(file, name, &count), *got = mem_alloc_array((size_t)count, sizeof *got);
    assert_non_null(got);
    OK(executor_read(e, id, got, (size_t)count * sizeof *got));
    const double error = relative_l2(got, want, count);
    free(want);
    free(got);
    return error;
}

/* ---- against PyTorch ---- */

enum { GOLDEN_SAMPLES = 3, GOLDEN_RESOLUTION = 16, GOLDEN_ROWS = 6 };
#define GOLDEN_FIRST UINT64_C(5000000000)

/* As tests/goldens/make_inpainting_goldens.py has it; latents are given, so the autoencoder is any of 4 channels. */
static ModelConfig golden_model(void)
{
    static int64_t mult[] = {1, 2}, attention[] = {2};
    return (ModelConfig){
        .in_channels = 9,
        .out_channels = 8,
        .channels = 32,
        .channel_mult = {mult, 2},
        .res_blocks = 1,
        .attention_levels = {attention, 1},
        .head_channels = 16,
        .context_dim = 24,
        .text1_dim = 32,
        .pooled_dim = 20,
        .text2_dim = 16,
        .text2_heads = 2,
        .max_tokens = GOLDEN_ROWS,
        .autoencoder = {.kind = AUTOENCODER_PATCH, .factor = 2, .scale = 1, .latent_channels = 4},
        .text_encoder1 = {.vocab = 8, .layers = 1, .heads = 2, .feed_forward = 8, .positions = GOLDEN_ROWS + 2},
        .text_encoder2 = {.vocab = 8,
                          .layers = 1,
                          .heads = 1,
                          .head_channels = 8,
                          .feed_forward = 8,
                          .buckets = 8,
                          .max_distance = 4},
    };
}

/* The largest error of a weight's gradient, each held against its own size, and where that is next to nothing against
 * what it would have if all weights were alike (tests/model/test_unet.c tells why). */
static double worst_gradient(const Net *net, const Safetensors *golden, const char **worst_name)
{
    const int32_t params = param_table_size(net->params);
    double all = 0, worst = 0;
    int64_t total = 0;
    char name[256];
    float *file = NULL;
    for (int32_t p = 0; p < params; p++) {
        const Param *param = param_table_get(net->params, p);
        if (!param->trainable) continue;
        snprintf(name, sizeof name, "norm.%s", param->name);
        float *size = read_tensor(golden, name, NULL);
        all += (double)size[0] * size[0];
        total += param->count;
        free(size);
    }
    for (int32_t p = 0; p < params; p++) {
        const Param *param = param_table_get(net->params, p);
        if (!param->trainable) continue;
        double sketch[GOLDEN_BUCKETS], difference = 0;
        int64_t buckets = 0;
        snprintf(name, sizeof name, "norm.%s", param->name);
        float *size = read_tensor(golden, name, NULL);
        snprintf(name, sizeof name, "sketch.%s", param->name);
        float *want = read_tensor(golden, name, &buckets);
        file = mem_alloc_array((size_t)param->count, sizeof *file);
        assert_non_null(file);
        param_to_file(param, param_store_grad(&net->store, p), file);
        golden_sketch(param->name, file, param->count, sketch);
        for (int64_t b = 0; b < buckets; b++) difference += (sketch[b] - want[b]) * (sketch[b] - want[b]);
        const double least = 1e-3 * sqrt(all) * sqrt((double)param->count / (double)total);
        const double error = sqrt(difference) / (size[0] < 1e-10 * sqrt(all) ? 1e-3 * sqrt(all) : fmax(size[0], least));
        if (!(error <= worst)) {
            worst = error;
            *worst_name = param->name;
        }
        free(size);
        free(want);
        free(file);
    }
    return worst;
}

static void download_gradients(const Net *net, Backend *backend)
{
    if (net->store.image)
        OK(backend->download(backend, net->store.grads, net->store.image->grads,
                             (size_t)param_table_trainable_elements(net->params) * sizeof(float)));
}

static void check_golden(Backend *backend, Dtype compute, double limit, double gradient_limit)
{
    const ModelConfig model = golden_model();
    Net net = {0};
    TrainingGraph t;
    Diffusion *diffusion = NULL;
    Safetensors *golden = NULL;
    char path[512];
    const char *worst_name = "?";
    int32_t index[GOLDEN_SAMPLES][2];
    snprintf(path, sizeof path, "%s/goldens/inpainting_training.safetensors", test_folder());
    OK(safetensors_open(path, &golden));
    OK(diffusion_create(&(DiffusionConfig){1000, 0.0001, 0.02, SCHEDULE_LINEAR}, &diffusion));
    OK(param_table_create(&net.params));
    OK(training_graph_create(net.params,
                             &(TrainingGraphOptions){.model = &model,
                                                     .diffusion = diffusion,
                                                     .resolution = GOLDEN_RESOLUTION,
                                                     .batch = GOLDEN_SAMPLES,
                                                     .seed = 17,
                                                     .loss_scale = 0.25f,
                                                     .moments_given = true,
                                                     .text_given = true,
                                                     .backward = true,
                                                     .compute = compute},
                             &t));
    graph_mark_output(t.graph, t.x);
    graph_mark_output(t.graph, t.noise);
    OK(param_store_create(net.params, true, &net.store));
    OK(golden_fill_store(&net.store));
    net_start(&net, t.graph, backend);
    for (int i = 0; i < GOLDEN_SAMPLES; i++) {
        index[i][0] = (int32_t)(uint32_t)(GOLDEN_FIRST + (uint64_t)i);
        index[i][1] = (int32_t)((GOLDEN_FIRST + (uint64_t)i) >> 32);
    }
    write_tensor(net.executor, t.moments, golden, "x0");
    write_tensor(net.executor, t.keep, golden, "keep");
    write_tensor(net.executor, t.timesteps, golden, "timesteps");
    write_tensor(net.executor, t.full_emb1, golden, "full_emb1");
    write_tensor(net.executor, t.pooled_emb1, golden, "pooled_emb1");
    write_tensor(net.executor, t.full_emb2, golden, "full_emb2");
    OK(executor_write(net.executor, t.sample_index, index, sizeof index));
    OK(executor_run(net.executor, NULL));
    download_gradients(&net, backend);
    const double noise = error_of(net.executor, t.noise, golden, "noise"), x = error_of(net.executor, t.x, golden, "x");
    const double terms = error_of(net.executor, t.loss_terms, golden, "terms");
    const double gradient = worst_gradient(&net, golden, &worst_name);
    print_message("%s %s: noise %.1e, input %.1e, loss %.1e, worst gradient %.1e (%s)\n", backend->name,
                  dtype_name(compute), noise, x, terms, gradient, worst_name);
    assert_true(noise < 1e-6);
    assert_true(x < 1e-6);
    assert_true(terms < limit);
    assert_true(gradient < gradient_limit);
    net_close(&net);
    training_graph_free(&t);
    diffusion_free(diffusion);
    safetensors_close(golden);
}

static void test_golden(void **state)
{
    (void)state;
    Backend *backend = NULL;
    OK(backend_open_ref(&(BackendOptions){.threads = 1}, &backend));
    check_golden(backend, DTYPE_F32, 1e-5, 1e-4);
    backend_close(backend);
    OK(test_device_open(&(BackendOptions){.threads = 1}, &backend));
    check_golden(backend, DTYPE_F32, 1e-5, 1e-4);
    /* The gradient that is worst is of a bias whose own is small: 0.14 on the emulated device. */
    if (backend->has_bf16(backend)) check_golden(backend, DTYPE_BF16, 2e-2, 2e-1);
    backend_close(backend);
}

/* ---- training and sampling ---- */

enum {
    SIDE = TINY_RESOLUTION / 2,
    PLACES = SIDE * SIDE,
    C = 12,
    IN = 2 * C + 1,
    PIXELS = TINY_RESOLUTION * TINY_RESOLUTION
};

/* The generator's known latents and mask of a picture whose left half is kept, white in the mask. */
static void sampling_gives(const ModelConfig *model, const Diffusion *diffusion, Backend *backend, const float *pixels,
                           const float *mask, float known[PLACES * C], float keep[PLACES])
{
    Net net = {0};
    Generator *g = NULL;
    GeneratorOptions o = {.model = model,
                          .diffusion = diffusion,
                          .height = TINY_RESOLUTION,
                          .width = TINY_RESOLUTION,
                          .batch = 1,
                          .steps = 2,
                          .scale = 1,
                          .sampler = {.kind = SAMPLER_DDIM, .threshold_bound = autoencoder_latent_bound(model)},
                          .compute = DTYPE_F32,
                          .encoder = true};
    OK(param_table_create(&net.params));
    OK(model_declare_params(net.params, model));
    OK(param_table_layout(net.params, NULL, 0));
    OK(param_store_create(net.params, false, &net.store));
    param_store_init(&net.store, 5);
    OK(generator_create(net.params, &net.store, backend, &o, &g));
    OK(generator_use_picture(g, pixels, mask));
    memcpy(known, generator_known(g), PLACES * C * sizeof *known);
    memcpy(keep, generator_known_mask(g), PLACES * sizeof *keep);
    generator_free(g);
    net_close(&net);
}

/* What the training graph gives the network for that picture and that mask of latents. */
static void training_gives(const ModelConfig *model, const Diffusion *diffusion, Backend *backend, const float *pixels,
                           const float *keep, float x[PLACES * IN], float x_t[PLACES * C])
{
    Net net = {0};
    TrainingGraph t;
    const int32_t tokens[TINY_TOKENS] = {0, 7, 2, 1, 1, 1}, mask[TINY_TOKENS] = {1, 1, 1}, index[2] = {77, 0};
    const float timestep = 600;
    OK(param_table_create(&net.params));
    OK(training_graph_create(net.params,
                             &(TrainingGraphOptions){.model = model,
                                                     .diffusion = diffusion,
                                                     .resolution = TINY_RESOLUTION,
                                                     .batch = 1,
                                                     .seed = 3,
                                                     .loss_scale = 1,
                                                     .compute = DTYPE_F32},
                             &t));
    graph_mark_output(t.graph, t.x);
    graph_mark_output(t.graph, t.x_t);
    OK(param_table_layout(net.params, NULL, 0));
    OK(param_store_create(net.params, false, &net.store));
    param_store_init(&net.store, 5);
    net_start(&net, t.graph, backend);
    OK(executor_write(net.executor, t.pixels, pixels, PIXELS * 3 * sizeof *pixels));
    OK(executor_write(net.executor, t.keep, keep, PLACES * sizeof *keep));
    OK(executor_write(net.executor, t.timesteps, &timestep, sizeof timestep));
    OK(executor_write(net.executor, t.sample_index, index, sizeof index));
    OK(executor_write(net.executor, t.tokens1, tokens, sizeof tokens));
    OK(executor_write(net.executor, t.mask1, mask, sizeof mask));
    OK(executor_write(net.executor, t.tokens2, tokens, sizeof tokens));
    OK(executor_write(net.executor, t.mask2, mask, sizeof mask));
    OK(executor_run(net.executor, NULL));
    OK(executor_read(net.executor, t.x, x, PLACES * IN * sizeof *x));
    OK(executor_read(net.executor, t.x_t, x_t, PLACES * C * sizeof *x_t));
    net_close(&net);
    training_graph_free(&t);
}

/* The left half of the picture is white in the mask, so it is kept: there the network sees its latents and a 1, in
 * training as in sampling, to the bit; on the right it sees 0 and 0. The channels are x_t, what is known, the mask; so
 * a polarity that is flipped, an order that is changed or a latent scaled otherwise in either of the two fails here.
 * (test_generate holds that the generator gives its network what generator_known and generator_known_mask say.) */
static void test_training_sees_what_sampling_shows(void **state)
{
    (void)state;
    static float pixels[PIXELS * 3], mask[PIXELS], known[PLACES * C], keep[PLACES], x[PLACES * IN], x_t[PLACES * C];
    ModelConfig model = tiny_model();
    Backend *backend = NULL;
    Diffusion *diffusion = NULL;
    model.in_channels = IN;
    OK(backend_open_cpu(&(BackendOptions){.threads = 1}, &backend));
    OK(diffusion_create(&(DiffusionConfig){1000, 0.0001, 0.02, SCHEDULE_LINEAR}, &diffusion));
    for (uint64_t k = 0; k < 3 * PIXELS; k++) pixels[k] = 2 * random_uniform(9, RANDOM_TEST, 1, k) - 1;
    for (int i = 0; i < PIXELS; i++) mask[i] = i % TINY_RESOLUTION < TINY_RESOLUTION / 2 ? 1 : 0;
    sampling_gives(&model, diffusion, backend, pixels, mask, known, keep);
    training_gives(&model, diffusion, backend, pixels, keep, x, x_t);
    int kept = 0;
    for (int p = 0; p < PLACES; p++) {
        const float *at = x + p * IN;
        const float here = p % SIDE < SIDE / 2 - 1 ? 1 : 0; /* but for the column beside the hole */
        assert_true(keep[p] == here);
        assert_memory_equal(at, x_t + p * C, C * sizeof *at);
        if (here > 0) assert_memory_equal(at + C, known + p * C, C * sizeof *at);
        for (int c = 0; c < C && here == 0; c++) assert_true(at[C + c] == 0);
        assert_true(at[2 * C] == here);
        kept += here > 0;
    }
    assert_int_equal(kept, SIDE * (SIDE / 2 - 1));
    diffusion_free(diffusion);
    backend_close(backend);
}

/* ---- widening ---- */

typedef struct Shown {
    int64_t batch, height, width, c;
    float *x, *hint; /* (batch,height,width,c), (batch,height,width,c + 1) */
} Shown;

/* The UNet's output (batch,height,width,2c); the network's input with the hint where it takes one. */
static void run_unet(Net *net, UnetGraph *unet, const ModelConfig *m, const Shown *s, float *out)
{
    const size_t places = (size_t)(s->batch * s->height * s->width), c = (size_t)s->c, in = (size_t)m->in_channels;
    const size_t rows1 = (size_t)(s->batch * 3 * m->text1_dim), pooled = (size_t)(s->batch * m->pooled_dim);
    const size_t rows2 = (size_t)(s->batch * 5 * m->text2_dim);
    float *values = mem_alloc_array(places * in + rows1 + pooled + rows2, sizeof *values);
    assert_non_null(values);
    for (size_t p = 0; p < places; p++) {
        memcpy(values + p * in, s->x + p * c, c * sizeof *values);
        if (in > c) memcpy(values + p * in + c, s->hint + p * (c + 1), (c + 1) * sizeof *values);
    }
    OK(executor_write(net->executor, unet->x, values, places * in * sizeof *values));
    for (int64_t n = 0; n < s->batch; n++) values[n] = (float)(37 + 400 * n);
    OK(executor_write(net->executor, unet->timesteps, values, (size_t)s->batch * sizeof *values));
    random_normal(4, RANDOM_TEST, 1, 0, values, rows1);
    OK(executor_write(net->executor, unet->full_emb1, values, rows1 * sizeof *values));
    random_normal(4, RANDOM_TEST, 2, 0, values, pooled);
    OK(executor_write(net->executor, unet->pooled_emb1, values, pooled * sizeof *values));
    random_normal(4, RANDOM_TEST, 3, 0, values, rows2);
    OK(executor_write(net->executor, unet->full_emb2, values, rows2 * sizeof *values));
    OK(executor_run(net->executor, NULL));
    OK(executor_read(net->executor, unet->out, out, places * 2 * c * sizeof *out));
    free(values);
}

static void open_unet(Net *net, UnetGraph *unet, const ModelConfig *m, const Shown *s, Dtype compute)
{
    *net = (Net){0};
    UnetGraphOptions o = {.model = m,
                          .batch = s->batch,
                          .height = s->height,
                          .width = s->width,
                          .tokens1 = 3,
                          .tokens2 = 5,
                          .compute = compute};
    OK(param_table_create(&net->params));
    OK(unet_graph_create(net->params, &o, unet));
    OK(param_table_layout(net->params, NULL, 0));
    OK(param_store_create(net->params, false, &net->store));
}

static Shown shown(const ModelConfig *narrow, int64_t batch, int64_t height, int64_t width)
{
    Shown s = {.batch = batch, .height = height, .width = width, .c = narrow->in_channels};
    const size_t places = (size_t)(batch * height * width), c = (size_t)s.c;
    s.x = mem_alloc_array(places * c, sizeof *s.x);
    s.hint = mem_alloc_array(places * (c + 1), sizeof *s.hint);
    assert_non_null(s.x);
    assert_non_null(s.hint);
    random_normal(6, RANDOM_TEST, 0, 0, s.x, places * c);
    return s;
}

/* Known latents and masks of several kinds; the last are far from what pictures have. */
static void fill_hint(Shown *s, int which)
{
    const size_t places = (size_t)(s->batch * s->height * s->width), c = (size_t)s->c;
    random_normal(6, RANDOM_TEST, 1 + (uint64_t)which, 0, s->hint, places * (c + 1));
    for (size_t p = 0; p < places; p++) {
        const float keep = which == 0 ? 0 : which == 1 ? 1 : p % 3 < 2;
        for (size_t k = 0; k < c; k++) s->hint[p * (c + 1) + k] *= which == 3 ? 1e30f * keep : keep;
        s->hint[p * (c + 1) + c] = keep;
    }
}

/* A network of 2C + 1 channels out of the file of one of C: whatever it is shown, its output is the old one's to the
 * bit. A weight that is not 0 shows that the hint does reach it. */
static void check_widening(Backend *backend, Dtype compute, const ModelConfig *narrow, int64_t batch, int64_t height,
                           int64_t width)
{
    TempDir dir = {0};
    ModelConfig wide = *narrow;
    Net old, new;
    UnetGraph old_unet, new_unet;
    Shown s = shown(narrow, batch, height, width);
    const int64_t count = batch * height * width * narrow->out_channels;
    float *want = mem_alloc_array((size_t)count, sizeof *want), *got = mem_alloc_array((size_t)count, sizeof *got);
    int64_t from = -1, to = -1;
    wide.in_channels = 2 * narrow->in_channels + 1;
    assert_int_equal(temp_dir_create(&dir), 0);
    const char *path = temp_file(&dir, "narrow.safetensors");
    open_unet(&old, &old_unet, narrow, &s, compute);
    OK(golden_fill_store(&old.store));
    OK(weights_save(path, &old.store, NULL, TRAINED, SAFE_F32));
    net_start(&old, old_unet.graph, backend);
    fill_hint(&s, 0);
    run_unet(&old, &old_unet, narrow, &s, want);

    open_unet(&new, &new_unet, &wide, &s, compute);
    param_store_init(&new.store, 8); /* and so not 0 by chance */
    OK(weights_load_unet(path, &new.store, &from, &to));
    assert_int_equal(from, narrow->in_channels);
    assert_int_equal(to, wide.in_channels);
    net_start(&new, new_unet.graph, backend);
    for (int which = 0; which < 4; which++) {
        fill_hint(&s, which);
        memset(got, 0xff, (size_t)count * sizeof *got);
        run_unet(&new, &new_unet, &wide, &s, got);
        for (int64_t k = 0; k < count; k++)
            if (bits_of(got[k]) != bits_of(want[k]))
                fail_msg("%s %s, hint %d: output %lld is %.9g and was %.9g", backend->name, dtype_name(compute), which,
                         (long long)k, (double)got[k], (double)want[k]);
    }
    const int32_t first = param_table_find(new.params, "input_blocks.0.0.weight");
    param_store_weight(&new.store, first)[wide.in_channels - 1] = 0.5f; /* of the mask */
    OK(param_image_upload(&new.store));
    executor_weights_changed(new.executor);
    fill_hint(&s, 2);
    run_unet(&new, &new_unet, &wide, &s, got);
    assert_memory_not_equal(got, want, (size_t)count * sizeof *got);

    net_close(&new);
    net_close(&old);
    unet_graph_free(&new_unet);
    unet_graph_free(&old_unet);
    free(want);
    free(got);
    free(s.x);
    free(s.hint);
    temp_dir_remove(&dir);
}

static void test_widened_is_the_same(void **state)
{
    (void)state;
    Backend *backend = NULL;
    OK(backend_open_ref(&(BackendOptions){.threads = 1}, &backend));
    check_widening(backend, DTYPE_F32, &GOLDEN_UNET_MODELS[0], 2, 6, 4);
    check_widening(backend, DTYPE_BF16, &GOLDEN_UNET_MODELS[0], 1, 4, 4);
    backend_close(backend);
    OK(test_device_open(&(BackendOptions){.threads = 2}, &backend));
    for (Dtype compute = DTYPE_F32; compute <= DTYPE_BF16; compute++) {
        check_widening(backend, compute, &GOLDEN_UNET_MODELS[0], 2, 8, 8);
        check_widening(backend, compute, &GOLDEN_UNET_MODELS[0], 3, 16, 16);
        check_widening(backend, compute, &GOLDEN_UNET_MODELS[1], 1, 8, 12);
    }
    ModelConfig tiny = tiny_model(); /* 12 and 25 channels */
    check_widening(backend, DTYPE_F32, &tiny, 2, 4, 4);
    backend_close(backend);
}

/* Nothing but the first convolution grows, and only from C to 2C + 1; an inpainting network's file is taken as it is.
 */
static void test_what_is_widened(void **state)
{
    (void)state;
    TempDir dir = {0};
    ModelConfig narrow = tiny_model(), wide = narrow, other = narrow;
    Shown s = {.batch = 1, .height = 4, .width = 4, .c = 12};
    Net nets[3];
    UnetGraph graphs[3];
    char path[3][256];
    int64_t from, to;
    wide.in_channels = 25;
    other.channels = 64;
    const ModelConfig *models[3] = {&narrow, &wide, &other};
    assert_int_equal(temp_dir_create(&dir), 0);
    for (int k = 0; k < 3; k++) {
        open_unet(&nets[k], &graphs[k], models[k], &s, DTYPE_F32);
        OK(golden_fill_store(&nets[k].store));
        snprintf(path[k], sizeof path[k], "%s", temp_file(&dir, (const char *[]){"narrow", "wide", "other"}[k]));
        OK(weights_save(path[k], &nets[k].store, NULL, TRAINED, SAFE_F32));
    }
    const size_t bytes = (size_t)param_table_trainable_elements(nets[1].params) * sizeof(float);
    float *before = mem_alloc_array(bytes, 1);
    memcpy(before, nets[1].store.weights, bytes);
    param_store_init(&nets[1].store, 3);
    OK(weights_load_unet(path[1], &nets[1].store, &from, &to));
    assert_int_equal(to, 0);
    assert_memory_equal(nets[1].store.weights, before, bytes);
    OK(weights_load_unet(path[0], &nets[0].store, &from, &to));
    assert_int_equal(to, 0);

    FAILS(weights_load_unet(path[1], &nets[0].store, &from, &to), ERR_MISMATCH,
          "input_blocks.0.0.weight (32,25,3,3), wanted (32,12,3,3)");
    FAILS(weights_load_unet(path[2], &nets[1].store, &from, &to), ERR_MISMATCH, "159 of another shape or type");
    FAILS(weights_load(path[0], &nets[1].store, WEIGHTS_UNET, false), ERR_MISMATCH,
          "1 of another shape or type [input");
    for (int k = 0; k < 3; k++) {
        unet_graph_free(&graphs[k]);
        net_close(&nets[k]);
    }
    free(before);
    temp_dir_remove(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_training_sees_what_sampling_shows),
        cmocka_unit_test(test_widened_is_the_same),
        cmocka_unit_test(test_what_is_widened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
