/* The training graph as a whole, and pictures drawn with what it trained. */
#include "check.h"

#include "base/bf16.h"
#include "base/half.h"
#include "base/random.h"
#include "engine/executor.h"
#include "model/autoencoder.h"
#include "model/generate.h"
#include "model/sampling_graph.h"
#include "model/training_graph.h"
#include "tiny.h"

enum { BATCH = 4, PIXELS = TINY_RESOLUTION * TINY_RESOLUTION * 3, LATENT = PIXELS };

static Backend *backend;
static Diffusion *diffusion;
static ModelConfig model;

static int open_all(void **state)
{
    (void)state;
    model = tiny_model();
    OK(backend_open_cpu(&(BackendOptions){.threads = 1}, &backend));
    OK(diffusion_create(&(DiffusionConfig){1000, 0.0001, 0.02, SCHEDULE_LINEAR}, &diffusion));
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    diffusion_free(diffusion);
    backend_close(backend);
    return 0;
}

/* Four samples: flat pictures, two captions, timesteps, indices. */
typedef struct Samples {
    float pixels[BATCH][PIXELS], timesteps[BATCH];
    int32_t tokens[BATCH][TINY_TOKENS], mask[BATCH][TINY_TOKENS], index[BATCH][2];
} Samples;

static Samples samples(void)
{
    Samples s;
    for (int n = 0; n < BATCH; n++) {
        for (int i = 0; i < PIXELS; i++) s.pixels[n][i] = n % 2 ? 0.8f : -0.8f;
        for (int t = 0; t < TINY_TOKENS; t++) {
            s.tokens[n][t] = t < 3 ? 3 + n % 2 + t : 1;
            s.mask[n][t] = t < 3;
        }
        s.timesteps[n] = (float[]){0, 300, 600, 999}[n];
        s.index[n][0] = 100 + n;
        s.index[n][1] = 0;
    }
    return s;
}

typedef struct Trainer {
    ParamTable *params;
    ParamStore store;
    TrainingGraph graph;
    Plan *plan;
    Executor *executor;
    int64_t batch;
} Trainer;

static TrainingGraphOptions options(int64_t batch)
{
    return (TrainingGraphOptions){.model = &model,
                                  .diffusion = diffusion,
                                  .resolution = TINY_RESOLUTION,
                                  .batch = batch,
                                  .seed = 17,
                                  .loss_scale = 1.0f / BATCH,
                                  .backward = true,
                                  .compute = DTYPE_F32};
}

static Trainer trainer_open(TrainingGraphOptions o)
{
    Trainer t = {.batch = o.batch};
    OK(param_table_create(&t.params));
    OK(model_declare_params(t.params, o.model));
    OK(training_graph_create(t.params, &o, &t.graph));
    OK(param_store_create(t.params, true, &t.store));
    param_store_init(&t.store, 5);
    OK(plan_create(t.graph.graph, backend, &(PlanOptions){.reuse = true}, &t.plan));
    OK(executor_create(t.plan, &t.store, &t.executor));
    return t;
}

static void trainer_close(Trainer *t)
{
    executor_free(t->executor);
    plan_free(t->plan);
    training_graph_free(&t->graph);
    param_store_free(&t->store);
    param_table_free(t->params);
}

static void write_common(Trainer *t, const Samples *s, int first)
{
    size_t n = (size_t)t->batch;
    OK(executor_write(t->executor, t->graph.timesteps, s->timesteps + first, n * sizeof(float)));
    OK(executor_write(t->executor, t->graph.sample_index, s->index[first], n * sizeof s->index[0]));
}

static void write_samples(Trainer *t, const Samples *s, int first)
{
    size_t n = (size_t)t->batch;
    write_common(t, s, first);
    OK(executor_write(t->executor, t->graph.pixels, s->pixels[first], n * sizeof s->pixels[0]));
    OK(executor_write(t->executor, t->graph.tokens1, s->tokens[first], n * sizeof s->tokens[0]));
    OK(executor_write(t->executor, t->graph.mask1, s->mask[first], n * sizeof s->mask[0]));
    OK(executor_write(t->executor, t->graph.tokens2, s->tokens[first], n * sizeof s->tokens[0]));
    OK(executor_write(t->executor, t->graph.mask2, s->mask[first], n * sizeof s->mask[0]));
}

static void run(Trainer *t, bool add, float *terms)
{
    OK(executor_run(t->executor, &(ExecutorRun){.add_gradients = add}));
    OK(executor_read(t->executor, t->graph.loss_terms, terms, (size_t)t->batch * 2 * sizeof *terms));
}

/* At the start the network says 0, so the loss is known: mse = mean noise^2. */
static void test_first_loss(void **state)
{
    (void)state;
    Samples s = samples();
    Trainer t = trainer_open(options(BATCH));
    float terms[BATCH * 2], noise[LATENT];
    write_samples(&t, &s, 0);
    run(&t, false, terms);
    for (int n = 0; n < BATCH; n++) {
        double square = 0;
        random_normal(17, RANDOM_NOISE, (uint64_t)s.index[n][0], 0, noise, LATENT);
        for (int i = 0; i < LATENT; i++) square += (double)noise[i] * noise[i] / LATENT;
        assert_true(fabs(terms[2 * n] - square) < 1e-5);
        assert_true(isfinite(terms[2 * n + 1]) && terms[2 * n + 1] > 0);
    }
    trainer_close(&t);
}

static double gradient_difference(const Trainer *a, const Trainer *b)
{
    return relative_l2(a->store.grads, b->store.grads, param_table_trainable_elements(a->params));
}

/* Two micro-batches, added, are the whole batch; a sample's loss does not depend on its neighbours. */
static void test_micro_batches_add_up(void **state)
{
    (void)state;
    Samples s = samples();
    Trainer whole = trainer_open(options(BATCH)), half = trainer_open(options(BATCH / 2));
    float terms[BATCH * 2], parts[BATCH * 2];
    /* Away from the start, where most gradients are zero. */
    for (int64_t i = 0; i < param_table_trainable_elements(whole.params); i++) {
        float nudge = 0.02f * (random_uniform(3, RANDOM_TEST, 0, (uint64_t)i) - 0.5f);
        whole.store.weights[i] += nudge;
        half.store.weights[i] += nudge;
    }
    write_samples(&whole, &s, 0);
    run(&whole, false, terms);
    write_samples(&half, &s, 0);
    run(&half, false, parts);
    write_samples(&half, &s, BATCH / 2);
    run(&half, true, parts + BATCH);
    assert_true(relative_l2(parts, terms, BATCH * 2) < 1e-6);
    assert_true(gradient_difference(&half, &whole) < 1e-5);
    trainer_close(&half);
    trainer_close(&whole);
}

/* ---- frozen outputs given instead of computed inside ---- */

typedef struct Frozen {
    float *values[4]; /* moments, full_emb1, pooled_emb1, full_emb2 */
    size_t count[4];
} Frozen;

static void read_frozen(Executor *executor, const Graph *graph, TensorId tensor, Frozen *f, int which)
{
    size_t count = (size_t)shape_count(&graph_tensor(graph, tensor)->shape);
    f->values[which] = mem_alloc_array(count, sizeof(float));
    f->count[which] = count;
    OK(executor_read(executor, tensor, f->values[which], count * sizeof(float)));
}

/* What a file would hold: moments by the encoding graph, states by the text graph, each rounded on the host. */
static Frozen compute_frozen(const Trainer *t, const Samples *s, Dtype compute, FrozenDtype dtype)
{
    Frozen f;
    PictureGraph encode;
    TextGraph text;
    Plan *plan = NULL;
    Executor *executor = NULL;
    OK(encode_graph_create(t->params, &model, BATCH, TINY_RESOLUTION, TINY_RESOLUTION, false, compute, &encode));
    OK(plan_create(encode.graph, backend, &(PlanOptions){.reuse = true}, &plan));
    OK(executor_create(plan, &t->store, &executor));
    OK(executor_write(executor, encode.pixels, s->pixels, sizeof s->pixels));
    OK(executor_run(executor, NULL));
    read_frozen(executor, encode.graph, encode.moments, &f, 0);
    executor_free(executor);
    plan_free(plan);
    picture_graph_free(&encode);

    OK(text_graph_create(t->params, &model, BATCH, compute, &text));
    OK(plan_create(text.graph, backend, &(PlanOptions){.reuse = true}, &plan));
    OK(executor_create(plan, &t->store, &executor));
    OK(executor_write(executor, text.tokens1, s->tokens, sizeof s->tokens));
    OK(executor_write(executor, text.mask1, s->mask, sizeof s->mask));
    OK(executor_write(executor, text.tokens2, s->tokens, sizeof s->tokens));
    OK(executor_write(executor, text.mask2, s->mask, sizeof s->mask));
    OK(executor_run(executor, NULL));
    const TensorId states[3] = {text.full_emb1, text.pooled_emb1, text.full_emb2};
    for (int i = 0; i < 3; i++) read_frozen(executor, text.graph, states[i], &f, 1 + i);
    executor_free(executor);
    plan_free(plan);
    text_graph_free(&text);

    for (int i = 0; i < 4; i++)
        for (size_t k = 0; k < f.count[i] && dtype != FROZEN_F32; k++) {
            float *value = &f.values[i][k];
            *value = dtype == FROZEN_F16 ? half_to_f32(half_from_f32(*value)) : bf16_to_f32(bf16_from_f32(*value));
        }
    return f;
}

static void check_given_equals_inline(Dtype compute, FrozenDtype dtype)
{
    Samples s = samples();
    TrainingGraphOptions o = options(BATCH);
    o.compute = compute;
    o.round_to = dtype;
    Trainer inline_ = trainer_open(o);
    o.moments_given = o.text_given = true;
    Trainer given = trainer_open(o);
    float terms[2][BATCH * 2];
    Frozen f = compute_frozen(&inline_, &s, compute, dtype);

    write_samples(&inline_, &s, 0);
    run(&inline_, false, terms[0]);
    write_common(&given, &s, 0);
    const TrainingGraph *g = &given.graph;
    const TensorId inputs[4] = {g->moments, g->full_emb1, g->pooled_emb1, g->full_emb2};
    for (int i = 0; i < 4; i++) OK(executor_write(given.executor, inputs[i], f.values[i], f.count[i] * sizeof(float)));
    run(&given, false, terms[1]);
    assert_memory_equal(terms[0], terms[1], sizeof terms[0]);
    assert_memory_equal(inline_.store.grads, given.store.grads,
                        (size_t)param_table_trainable_elements(given.params) * sizeof(float));
    for (int i = 0; i < 4; i++) free(f.values[i]);
    trainer_close(&given);
    trainer_close(&inline_);
}

/* The same bits when moments and text states are given instead of computed inside, whatever a file keeps them in. */
static void test_given_inputs_equal_inline(void **state)
{
    (void)state;
    check_given_equals_inline(DTYPE_F32, FROZEN_F32);
    check_given_equals_inline(DTYPE_F32, FROZEN_BF16);
}

/* Kandinsky 2.0's autoencoder at a tiny size: 4 x 4 latents of 4 channels, weights from the seed. */
static ModelConfig kl_model(void)
{
    static int64_t mult[] = {1, 2};
    ModelConfig kl = tiny_model();
    kl.in_channels = 4;
    kl.out_channels = 8;
    kl.autoencoder = (AutoencoderConfig){
        .kind = AUTOENCODER_KL, .factor = 8, .scale = 0.5, .channels = 32, .channel_mult = {mult, 2}, .res_blocks = 1};
    return kl;
}

static void test_given_moments_equal_inline_kl(void **state)
{
    (void)state;
    model = kl_model();
    check_given_equals_inline(DTYPE_F32, FROZEN_F32);
    check_given_equals_inline(DTYPE_F32, FROZEN_F16);
    check_given_equals_inline(DTYPE_F32, FROZEN_BF16);
    if (backend->has_bf16(backend)) check_given_equals_inline(DTYPE_BF16, FROZEN_F16);
    model = tiny_model();
}

/* One sample's clean latent through a graph whose moments are given. */
static void read_latent(int64_t batch, int32_t first_index, const float *moments, size_t count, float *latent)
{
    TrainingGraphOptions o = options(batch);
    Samples s = samples();
    o.moments_given = true;
    o.backward = false;
    ParamTable *params = NULL;
    Trainer t = {.batch = batch};
    OK(param_table_create(&params));
    OK(model_declare_params(params, &model));
    OK(training_graph_create(params, &o, &t.graph));
    graph_mark_output(t.graph.graph, t.graph.x0);
    OK(param_table_layout(params, NULL, 0));
    t.params = params;
    OK(param_store_create(params, false, &t.store));
    param_store_init(&t.store, 5);
    OK(plan_create(t.graph.graph, backend, &(PlanOptions){.reuse = true}, &t.plan));
    OK(executor_create(t.plan, &t.store, &t.executor));
    for (int64_t n = 0; n < batch; n++) s.index[n][0] = first_index + (int32_t)n;
    write_common(&t, &s, 0);
    size_t rows = (size_t)batch * sizeof s.tokens[0];
    OK(executor_write(t.executor, t.graph.moments, moments, (size_t)batch * count * sizeof *moments));
    OK(executor_write(t.executor, t.graph.tokens1, s.tokens, rows));
    OK(executor_write(t.executor, t.graph.mask1, s.mask, rows));
    OK(executor_write(t.executor, t.graph.tokens2, s.tokens, rows));
    OK(executor_write(t.executor, t.graph.mask2, s.mask, rows));
    OK(executor_run(t.executor, NULL));
    OK(executor_read(t.executor, t.graph.x0, latent, (size_t)batch * count / 2 * sizeof *latent));
    trainer_close(&t);
}

/* The posterior's noise is a function of seed and sample alone: stream RANDOM_POSTERIOR, whatever the batch. */
static void test_posterior_noise(void **state)
{
    (void)state;
    enum { POSITIONS = 16, COUNT = POSITIONS * 8, HALF = COUNT / 2 };
    model = kl_model();
    float moments[2 * COUNT], pair[2 * HALF], single[HALF], noise[HALF];
    random_normal(3, RANDOM_TEST, 0, 0, moments, 2 * COUNT);
    read_latent(2, 40, moments, COUNT, pair);
    read_latent(1, 41, moments + COUNT, COUNT, single);
    assert_memory_equal(single, pair + HALF, sizeof single);
    for (int n = 0; n < 2; n++) {
        random_normal(17, RANDOM_POSTERIOR, 40 + (uint64_t)n, 0, noise, HALF);
        for (int p = 0; p < POSITIONS; p++)
            for (int c = 0; c < 4; c++) {
                const float *at = moments + n * COUNT + p * 8;
                double want = 0.5 * (at[c] + exp(at[4 + c] / 2.0) * noise[p * 4 + c]);
                assert_true(fabs(pair[n * HALF + p * 4 + c] - want) < 1e-5);
            }
    }
    model = tiny_model();
}

/* A table for drawing has the decoder and the text encoders even where training computes neither; it is the same table
 * without, but for those. */
static void test_drawing_declares_the_decoder(void **state)
{
    (void)state;
    static const char DECODER[] = "autoencoder.decoder.conv_in.weight",
                      ENCODER[] = "autoencoder.encoder.conv_in.weight";
    model = kl_model();
    for (int drawing = 0; drawing < 2; drawing++) {
        ParamTable *table = NULL;
        TrainingGraph graph = {0};
        TrainingGraphOptions o = options(1);
        o.moments_given = o.text_given = true;
        o.drawing = drawing;
        OK(param_table_create(&table));
        OK(training_graph_create(table, &o, &graph));
        assert_int_equal(param_table_find(table, DECODER) >= 0, drawing);
        assert_int_equal(param_table_find(table, ENCODER) >= 0, false);
        assert_int_equal(param_table_frozen_elements(table) > 0, drawing);
        training_graph_free(&graph);
        param_table_free(table);
    }
    model = tiny_model();
}

/* Sign descent is crude but quick: a few steps on one batch must lower its loss. */
static void test_gradients_lower_the_loss(void **state)
{
    (void)state;
    Samples s = samples();
    Trainer t = trainer_open(options(BATCH));
    float terms[BATCH * 2];
    double first = 0, last = 0;
    write_samples(&t, &s, 0);
    for (int step = 0; step < 30; step++) {
        write_samples(&t, &s, 0);
        run(&t, false, terms);
        last = 0;
        for (int i = 0; i < BATCH * 2; i++) last += terms[i];
        if (step == 0) first = last;
        for (int64_t i = 0; i < param_table_trainable_elements(t.params); i++) {
            float g = t.store.grads[i];
            t.store.weights[i] -= 1e-3f * (float)((g > 0) - (g < 0));
        }
        executor_weights_changed(t.executor);
    }
    print_message("loss %.4f to %.4f\n", first, last);
    assert_true(last < 0.7 * first);
    trainer_close(&t);
}

/* A process of 250 steps tells the network four times the timestep: the embedding then equals 1000 steps' own. */
static void test_short_process(void **state)
{
    (void)state;
    Diffusion *quarter = NULL;
    OK(diffusion_create(&(DiffusionConfig){250, 0.0001, 0.02, SCHEDULE_LINEAR}, &quarter));
    TrainingGraphOptions o = options(1);
    o.diffusion = quarter;
    Trainer t = trainer_open(o);
    Samples s = samples();
    float terms[2];
    bool found = false;
    s.timesteps[0] = 249;
    write_samples(&t, &s, 0);
    run(&t, false, terms);
    assert_true(terms[0] > 0.5f && terms[0] < 2.0f);
    for (int32_t i = 0; i < graph_forward_op_count(t.graph.graph); i++) {
        const Op *op = graph_op(t.graph.graph, i);
        found |= op->kind == OP_AFFINE && op->in[0] == t.graph.timesteps && op->attr.elementwise.scale == 4.0f;
    }
    assert_true(found);
    trainer_close(&t);
    diffusion_free(quarter);
}

static void test_refusals(void **state)
{
    (void)state;
    ParamTable *params = NULL;
    TrainingGraph graph;
    TrainingGraphOptions o = options(1);
    ModelConfig odd = model;
    odd.in_channels = 20;
    OK(param_table_create(&params));
    o.resolution = 10;
    FAILS(training_graph_create(params, &o, &graph), ERR_CONFIG, "multiple of 4");
    o.resolution = 8;
    o.model = &odd;
    FAILS(training_graph_create(params, &o, &graph), ERR_CONFIG, "25 for inpainting");
    param_table_free(params);
}

/* ---- drawing pictures ---- */

static Generator *open_generator(Trainer *t, int64_t batch, SamplerKind kind, float scale)
{
    Generator *g = NULL;
    GeneratorOptions o = {.model = &model,
                          .diffusion = diffusion,
                          .height = TINY_RESOLUTION,
                          .width = TINY_RESOLUTION,
                          .batch = batch,
                          .steps = 5,
                          .scale = scale,
                          .sampler = {.kind = kind,
                                      .eta = kind == SAMPLER_DDIM ? 0.3 : 0,
                                      .threshold = 99.5,
                                      .threshold_bound = autoencoder_latent_bound(&model)},
                          .compute = DTYPE_F32};
    OK(generator_create(t->params, &t->store, backend, &o, &g));
    return g;
}

static void count_steps(void *context, int32_t done, int32_t total)
{
    int32_t *calls = context;
    assert_int_equal(done, ++*calls);
    assert_true(total == 5 || total == 6); /* plms takes one more */
}

static void test_generator(void **state)
{
    (void)state;
    Samples s = samples();
    Trainer t = trainer_open(options(1));
    for (int64_t i = 0; i < param_table_trainable_elements(t.params); i++)
        t.store.weights[i] += 0.05f * (random_uniform(3, RANDOM_TEST, 0, (uint64_t)i) - 0.5f);
    const int32_t empty_tokens[TINY_TOKENS] = {0, 2, 1, 1, 1, 1}, empty_mask[TINY_TOKENS] = {1, 1};
    const GeneratorTokens empty = {empty_tokens, empty_mask, empty_tokens, empty_mask};
    static float two[2 * PIXELS], one[PIXELS], other[2 * PIXELS];
    const uint64_t pictures[2] = {7, 8};
    for (SamplerKind kind = SAMPLER_DDPM; kind < SAMPLER_KINDS; kind++) {
        Generator *pair = open_generator(&t, 2, kind, 4), *single = open_generator(&t, 1, kind, 4);
        const GeneratorTokens prompts = {s.tokens[0], s.mask[0], s.tokens[0], s.mask[0]};
        const GeneratorTokens second = {s.tokens[1], s.mask[1], s.tokens[1], s.mask[1]};
        int32_t calls = 0;
        OK(generator_run(pair, &prompts, &empty, 1, pictures, two, count_steps, &calls));
        assert_int_equal(calls, kind == SAMPLER_PLMS ? 6 : 5);
        for (int i = 0; i < 2 * PIXELS; i++) assert_true(two[i] >= -1 && two[i] <= 1);
        /* A picture is of its seed, number and caption, not of its batch. */
        OK(generator_run(single, &second, &empty, 1, pictures + 1, one, NULL, NULL));
        assert_true(relative_l2(one, two + PIXELS, PIXELS) < 1e-4);
        OK(generator_run(pair, &prompts, &empty, 1, pictures, other, NULL, NULL));
        assert_memory_equal(other, two, sizeof two);
        OK(generator_run(pair, &prompts, &empty, 2, pictures, other, NULL, NULL));
        assert_true(relative_l2(other, two, PIXELS) > 1e-2);
        generator_free(single);
        generator_free(pair);
    }
    trainer_close(&t);
}

/* Guidance by 1 is no guidance; other weights make other pictures, and the store's own come back. */
static void test_generator_weights_and_scale(void **state)
{
    (void)state;
    Samples s = samples();
    Trainer t = trainer_open(options(1));
    int64_t count = param_table_trainable_elements(t.params);
    float *other = mem_alloc_aligned((size_t)count * sizeof *other);
    for (int64_t i = 0; i < count; i++) {
        t.store.weights[i] += 0.05f * (random_uniform(3, RANDOM_TEST, 0, (uint64_t)i) - 0.5f);
        other[i] = 0.9f * t.store.weights[i];
    }
    const int32_t empty_tokens[TINY_TOKENS] = {0, 2, 1, 1, 1, 1}, empty_mask[TINY_TOKENS] = {1, 1};
    const GeneratorTokens empty = {empty_tokens, empty_mask, empty_tokens, empty_mask};
    const GeneratorTokens prompt = {s.tokens[0], s.mask[0], s.tokens[0], s.mask[0]};
    const uint64_t picture = 3;
    static float a[PIXELS], b[PIXELS], c[PIXELS];
    Generator *plain = open_generator(&t, 1, SAMPLER_DDIM, 1.0f);
    Generator *nearly = open_generator(&t, 1, SAMPLER_DDIM, 1.0f + 1e-6f);
    OK(generator_run(plain, &prompt, &empty, 1, &picture, a, NULL, NULL));
    OK(generator_run(nearly, &prompt, &empty, 1, &picture, b, NULL, NULL));
    assert_true(relative_l2(b, a, PIXELS) < 1e-4);
    generator_use_weights(plain, other);
    OK(generator_run(plain, &prompt, &empty, 1, &picture, c, NULL, NULL));
    assert_true(relative_l2(c, a, PIXELS) > 1e-3);
    generator_use_weights(plain, NULL);
    OK(generator_run(plain, &prompt, &empty, 1, &picture, c, NULL, NULL));
    assert_memory_equal(c, a, sizeof a);
    for (int64_t i = 0; i < count; i++) t.store.weights[i] = NAN;
    generator_use_weights(plain, NULL);
    FAILS(generator_run(plain, &prompt, &empty, 1, &picture, c, NULL, NULL), ERR_NUMERIC, "not finite");
    generator_free(nearly);
    generator_free(plain);
    mem_free_aligned(other);
    trainer_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_loss),
        cmocka_unit_test(test_micro_batches_add_up),
        cmocka_unit_test(test_given_inputs_equal_inline),
        cmocka_unit_test(test_given_moments_equal_inline_kl),
        cmocka_unit_test(test_posterior_noise),
        cmocka_unit_test(test_drawing_declares_the_decoder),
        cmocka_unit_test(test_gradients_lower_the_loss),
        cmocka_unit_test(test_short_process),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_generator),
        cmocka_unit_test(test_generator_weights_and_scale),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
