/* The generator: sizes, a picture to start from, inpainting's input and what it keeps. */
#include "check.h"

#include "base/random.h"
#include "engine/executor.h"
#include "model/generate.h"
#include "model/sampling_graph.h"
#include "model/training_graph.h"
#include "tiny.h"

enum { CHANNELS = 12, BATCH = 2 }; /* of tiny_model's latent; its size unit is 4 pixels, 2 latents */

static Backend *backend;
static Diffusion *diffusion;
static const int32_t TOKENS[BATCH * TINY_TOKENS] = {0, 9, 7, 2, 1, 1, 0, 12, 2, 1, 1, 1};
static const int32_t MASK[BATCH * TINY_TOKENS] = {1, 1, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0};
static const GeneratorTokens prompts = {TOKENS, MASK, TOKENS, MASK}, empty = {TOKENS + TINY_TOKENS, MASK + TINY_TOKENS,
                                                                              TOKENS + TINY_TOKENS, MASK + TINY_TOKENS};

static int open_all(void **state)
{
    (void)state;
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

/* A model with weights everywhere, also where training starts from zero. */
typedef struct Painter {
    ModelConfig model;
    ParamTable *params;
    ParamStore store;
} Painter;

static void painter_open(Painter *p, bool inpainting)
{
    *p = (Painter){.model = tiny_model()};
    if (inpainting) p->model.in_channels = 2 * CHANNELS + 1;
    OK(param_table_create(&p->params));
    OK(model_declare_params(p->params, &p->model));
    OK(param_table_layout(p->params, NULL, 0));
    OK(param_store_create(p->params, false, &p->store));
    param_store_init(&p->store, 11);
    for (int64_t i = 0; i < param_table_trainable_elements(p->params); i++)
        p->store.weights[i] += 0.05f * (random_uniform(3, RANDOM_TEST, 0, (uint64_t)i) - 0.5f);
}

static void painter_close(Painter *p)
{
    param_store_free(&p->store);
    param_table_free(p->params);
}

static GeneratorOptions options_of(const Painter *p, int64_t height, int64_t width, SamplerKind kind)
{
    return (GeneratorOptions){.model = &p->model,
                              .diffusion = diffusion,
                              .height = height,
                              .width = width,
                              .batch = BATCH,
                              .steps = 4,
                              .scale = 3,
                              .sampler = {.kind = kind, .threshold = 99.5, .threshold_bound = 2},
                              .compute = DTYPE_F32};
}

static Generator *open_generator(Painter *p, const GeneratorOptions *o)
{
    Generator *g = NULL;
    OK(generator_create(p->params, &p->store, backend, o, &g));
    return g;
}

static const uint64_t pictures[BATCH] = {7, 8};

static void draw(Generator *g, float *pixels)
{
    OK(generator_run(g, &prompts, &empty, 1, pictures, pixels, NULL, NULL));
}

/* Kandinsky 2.0's unit is 64 pixels: an autoencoder of 8 and four levels. */
static void test_sizes(void **state)
{
    (void)state;
    static int64_t mult[] = {1, 2, 3, 4};
    ModelConfig model = tiny_model();
    assert_int_equal(generator_size_unit(&model), 4);
    model.channel_mult = (ConfigInts){mult, 4};
    model.autoencoder.factor = 8;
    assert_int_equal(generator_size_unit(&model), 64);
    /* As the public code: a side is rounded up to a multiple of 64. */
    for (int64_t side = 8; side <= 1024; side += 8)
        assert_int_equal(generator_drawn_size(&model, side), (side / 64 + (side % 64 != 0)) * 64);
    OK(generator_check_size(&model, 520, 8));
    FAILS(generator_check_size(&model, 512, 500), ERR_USAGE, "multiples of 8; the nearest is 504x512");
    FAILS(generator_check_size(&model, 4, 512), ERR_USAGE, "the nearest is 512x8");
    FAILS(generator_check_size(&model, 0, 512), ERR_USAGE, "sides of 1 to 32768");
    FAILS(generator_check_size(&model, 32776, 512), ERR_USAGE, "sides of 1 to 32768");
}

/* A size between two units is the larger one's picture, cropped. */
static void test_crop(void **state)
{
    (void)state;
    enum { H = 6, W = 14, WHOLE_H = 8, WHOLE_W = 16 };
    static float part[BATCH][H][W][3], whole[BATCH][WHOLE_H][WHOLE_W][3];
    int64_t h = 0, w = 0;
    Painter p;
    painter_open(&p, false);
    GeneratorOptions small = options_of(&p, H, W, SAMPLER_DDIM), large = options_of(&p, WHOLE_H, WHOLE_W, SAMPLER_DDIM);
    Generator *a = open_generator(&p, &small), *b = open_generator(&p, &large);
    draw(a, &part[0][0][0][0]);
    draw(b, &whole[0][0][0][0]);
    generator_latents(a, &h, &w);
    assert_int_equal(h, WHOLE_H / 2);
    assert_int_equal(w, WHOLE_W / 2);
    for (int n = 0; n < BATCH; n++)
        for (int y = 0; y < H; y++) assert_memory_equal(part[n][y], whole[n][y], sizeof part[n][y]);
    generator_free(a);
    generator_free(b);
    painter_close(&p);
}

static void fill_picture(float *pixels, float *mask, int64_t height, int64_t width)
{
    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < width; x++) {
            for (int64_t c = 0; c < 3; c++)
                pixels[(y * width + x) * 3 + c] = (float)(0.8 * sin(0.5 * (double)(x + 2 * y) + (double)c));
            mask[y * width + x] = x < width / 2 ? 1 : 0;
        }
}

/* Known latents come out bit for bit with every sampler, from a model that is shown the mask and from one that is not;
 * without a mask none do. Nothing is allocated while drawing. */
static void test_inpainting_keeps(void **state)
{
    (void)state;
    enum { H = 12, W = 16, PLACES = H * W / 4 };
    static float pixels[H * W * 3], mask[H * W], out[BATCH * H * W * 3];
    fill_picture(pixels, mask, H, W);
    for (int inpainting = 0; inpainting < 2; inpainting++)
        for (SamplerKind kind = 0; kind < SAMPLER_KINDS; kind++) {
            Painter p;
            int64_t h = 0, w = 0;
            painter_open(&p, inpainting);
            GeneratorOptions o = options_of(&p, H, W, kind);
            o.encoder = true;
            Generator *g = open_generator(&p, &o);
            OK(generator_use_picture(g, pixels, mask));
            draw(g, out);
            int64_t allocations = mem_allocation_count();
            draw(g, out);
            assert_int_equal(mem_allocation_count(), allocations);
            const float *x = generator_latents(g, &h, &w), *known = generator_known(g), *keep = generator_known_mask(g);
            assert_int_equal(h * w, PLACES);
            int64_t kept = 0;
            for (int64_t n = 0; n < BATCH; n++)
                for (int64_t k = 0; k < PLACES; k++) {
                    const float *at = x + (n * PLACES + k) * CHANNELS;
                    bool same = true;
                    for (int64_t c = 0; c < CHANNELS; c++) same &= at[c] == known[k * CHANNELS + c];
                    assert_true(same == (keep[k] == 1));
                    kept += same;
                }
            /* The left half but for the column beside the hole. */
            assert_int_equal(kept, BATCH * h * (w / 2 - 1));
            OK(generator_use_picture(g, NULL, NULL));
            assert_null(generator_known(g));
            draw(g, out);
            assert_memory_not_equal(x, known, CHANNELS * sizeof *x);
            generator_free(g);
            painter_close(&p);
        }
}

static void run_graph(const Painter *p, const Graph *graph, Plan **plan, Executor **executor)
{
    OK(plan_create(graph, backend, &(PlanOptions){.reuse = true}, plan));
    OK(executor_create(*plan, &p->store, executor));
}

/* One evaluation by hand with [x | known * mask | mask], mask 1 = keep, as the public code's inpainting model takes it:
 * the generator's single ddim step is what follows from it. Without a mask known and mask are 0. */
static void check_input(Painter *p, const float *pixels, const float *mask)
{
    enum { H = 8, W = 8, h = H / 2, w = W / 2, PLACES = h * w, IN = 2 * CHANNELS + 1 };
    static float drawn[BATCH * H * W * 3], input[BATCH * PLACES * IN], out[BATCH * PLACES * 2 * CHANNELS];
    static float full1[BATCH * TINY_TOKENS * 32], pooled1[BATCH * 20], full2[BATCH * TINY_TOKENS * 16];
    float x[PLACES * CHANNELS], timesteps[BATCH] = {999, 999};
    GeneratorOptions o = options_of(p, H, W, SAMPLER_DDIM);
    o.encoder = true;
    o.steps = 1;
    o.scale = 1;
    o.sampler.threshold = 0;
    Generator *g = open_generator(p, &o);
    static float ones[H * W];
    for (int k = 0; k < H * W; k++) ones[k] = 1;
    OK(generator_use_picture(g, pixels, ones)); /* which leaves nothing behind */
    OK(generator_use_picture(g, pixels, mask));
    draw(g, drawn);
    const float *result = generator_latents(g, NULL, NULL), *known = generator_known(g);
    const float *keep = mask == NULL ? NULL : generator_known_mask(g);

    TextGraph text;
    UnetGraph unet;
    Plan *plan = NULL;
    Executor *e = NULL;
    OK(text_graph_create(p->params, &p->model, BATCH, DTYPE_F32, &text));
    run_graph(p, text.graph, &plan, &e);
    OK(executor_write(e, text.tokens1, TOKENS, sizeof TOKENS));
    OK(executor_write(e, text.mask1, MASK, sizeof MASK));
    OK(executor_write(e, text.tokens2, TOKENS, sizeof TOKENS));
    OK(executor_write(e, text.mask2, MASK, sizeof MASK));
    OK(executor_run(e, NULL));
    OK(executor_read(e, text.full_emb1, full1, sizeof full1));
    OK(executor_read(e, text.pooled_emb1, pooled1, sizeof pooled1));
    OK(executor_read(e, text.full_emb2, full2, sizeof full2));
    executor_free(e);
    plan_free(plan);
    text_graph_free(&text);

    double bar = diffusion->alpha_bar[0]; /* a single step visits the first timestep */
    timesteps[0] = timesteps[1] = 0;
    for (int n = 0; n < BATCH; n++) {
        sampler_start_noise(1, pictures[n], x, PLACES * CHANNELS);
        for (int k = 0; k < PLACES; k++)
            for (int c = 0; c < IN; c++) {
                float m = keep == NULL ? 0 : keep[k];
                input[(n * PLACES + k) * IN + c] = c < CHANNELS       ? x[k * CHANNELS + c]
                                                   : c < 2 * CHANNELS ? known[k * CHANNELS + c - CHANNELS] * m
                                                                      : m;
            }
    }
    UnetGraphOptions u = {.model = &p->model,
                          .batch = BATCH,
                          .height = h,
                          .width = w,
                          .tokens1 = TINY_TOKENS,
                          .tokens2 = TINY_TOKENS,
                          .compute = DTYPE_F32};
    OK(unet_graph_create(p->params, &u, &unet));
    run_graph(p, unet.graph, &plan, &e);
    OK(executor_write(e, unet.x, input, sizeof input));
    OK(executor_write(e, unet.timesteps, timesteps, sizeof timesteps));
    OK(executor_write(e, unet.full_emb1, full1, sizeof full1));
    OK(executor_write(e, unet.pooled_emb1, pooled1, sizeof pooled1));
    OK(executor_write(e, unet.full_emb2, full2, sizeof full2));
    OK(executor_run(e, NULL));
    OK(executor_read(e, unet.out, out, sizeof out));
    executor_free(e);
    plan_free(plan);
    unet_graph_free(&unet);
    for (int n = 0; n < BATCH; n++)
        for (int k = 0; k < PLACES; k++)
            for (int c = 0; c < CHANNELS; c++) {
                double eps = out[(n * PLACES + k) * 2 * CHANNELS + c], from = input[(n * PLACES + k) * IN + c];
                double want = (from - sqrt(1 - bar) * eps) / sqrt(bar);
                if (keep != NULL && keep[k] == 1) want = known[k * CHANNELS + c];
                double got = result[(n * PLACES + k) * CHANNELS + c];
                if (!(fabs(got - want) < 1e-4)) fail_msg("latent %d of place %d is %g, not %g", c, k, got, want);
            }
    generator_free(g);
}

static void test_inpainting_input(void **state)
{
    (void)state;
    static float pixels[8 * 8 * 3], mask[8 * 8];
    Painter p;
    fill_picture(pixels, mask, 8, 8);
    painter_open(&p, true);
    check_input(&p, pixels, mask);
    check_input(&p, pixels, NULL);
    painter_close(&p);
}

/* The more of the picture stays, the nearer to it: with strength near 1, its latents come back. */
static void test_strength(void **state)
{
    (void)state;
    enum { H = 8, W = 8, COUNT = H * W / 4 * CHANNELS };
    static float pixels[H * W * 3], mask[H * W], out[BATCH * H * W * 3];
    double before = 1e9;
    Painter p;
    fill_picture(pixels, mask, H, W);
    painter_open(&p, false);
    const double strengths[] = {0.1, 0.5, 0.9, 0.98};
    for (int k = 0; k < 4; k++) {
        GeneratorOptions o = options_of(&p, H, W, SAMPLER_DDIM);
        o.encoder = true;
        o.steps = 50;
        o.sampler.threshold = 0;
        o.sampler.strength = strengths[k];
        Generator *g = open_generator(&p, &o);
        FAILS(generator_run(g, &prompts, &empty, 1, pictures, out, NULL, NULL), ERR_INTERNAL, "needs a picture");
        OK(generator_use_picture(g, pixels, NULL));
        draw(g, out);
        double difference = relative_l2(generator_latents(g, NULL, NULL), generator_known(g), COUNT);
        assert_true(difference < before);
        before = difference;
        generator_free(g);
    }
    print_message("strength 0.98: latents off by %.3f\n", before);
    assert_true(before < 0.1);
    painter_close(&p);
}

static void test_refusals(void **state)
{
    (void)state;
    Generator *g = NULL;
    float nothing = 0;
    Painter p;
    painter_open(&p, false);
    GeneratorOptions o = options_of(&p, 8, 9, SAMPLER_DDIM);
    FAILS(generator_create(p.params, &p.store, backend, &o, &g), ERR_USAGE, "multiples of 2");
    o = options_of(&p, 8, 8, SAMPLER_DDIM);
    o.batch = 0;
    FAILS(generator_create(p.params, &p.store, backend, &o, &g), ERR_USAGE, "take 1 to 4096");
    o.batch = 1;
    g = open_generator(&p, &o);
    FAILS(generator_use_picture(g, &nothing, NULL), ERR_INTERNAL, "without an encoder");
    generator_free(g);
    painter_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_crop),
        cmocka_unit_test(test_inpainting_keeps),
        cmocka_unit_test(test_inpainting_input),
        cmocka_unit_test(test_strength),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
