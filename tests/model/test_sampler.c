/* Whole sampling trajectories against the public pipeline and against formulas from the papers; what the samplers
 * promise beside. */
#include "check.h"

#include "base/random.h"
#include "model/sampler.h"

/* As in make_sampler_goldens.py. */
enum { SIDE = 8, PLACES = SIDE * SIDE, CHANNELS = 4, LATENT = PLACES * CHANNELS, PICTURES = 2 };
static const double CONDITIONS[PICTURES] = {0.3, -0.8};

static Safetensors *golden, *single; /* samplers.safetensors, diffusion.safetensors */
static Diffusion *base;

static int open_all(void **state)
{
    (void)state;
    char path[512];
    snprintf(path, sizeof path, "%s/goldens/samplers.safetensors", TEST_SOURCE_DIR);
    if (safetensors_open(path, &golden) != STATUS_OK) return -1;
    snprintf(path, sizeof path, "%s/goldens/diffusion.safetensors", TEST_SOURCE_DIR);
    if (safetensors_open(path, &single) != STATUS_OK) return -1;
    return diffusion_create(&(DiffusionConfig){1000, 0.0001, 0.02, SCHEDULE_LINEAR}, &base) == STATUS_OK ? 0 : -1;
}

static int close_all(void **state)
{
    (void)state;
    safetensors_close(golden);
    safetensors_close(single);
    diffusion_free(base);
    return 0;
}

/* ---- the goldens' trajectories ---- */

/* The toy network of the goldens on one picture: x (64,4), out (64,8). */
static void toy(const float *x, double t, double y, const float *known, const float *mask, float *out)
{
    for (int p = 0; p < PLACES; p++)
        for (int c = 0; c < CHANNELS; c++) {
            double value = x[p * CHANNELS + c], next = x[p * CHANNELS + (c + 1) % CHANNELS];
            double m = mask == NULL ? 0 : mask[p], i = known == NULL ? 0 : known[p * CHANNELS + c];
            out[p * 2 * CHANNELS + c] =
                (float)tanh(0.7 * value + 0.3 * next + 0.2 * cos(0.01 * t) + 0.5 * y + 0.4 * i * m + 0.3 * m);
            out[p * 2 * CHANNELS + CHANNELS + c] = (float)sin(1.3 * value + 0.003 * t);
        }
}

typedef struct Trajectory {
    const char *name;
    SamplerKind kind;
    int32_t steps;
    double eta, threshold, strength, scale;
    int64_t pictures;
    bool reference, mask;
} Trajectory;

static void check_trajectory(const Trajectory *j)
{
    static float out[PICTURES * 2 * LATENT], uncond[PICTURES * 2 * LATENT];
    char key[96];
    Sampler *sampler = NULL;
    int64_t count = 0;
    SamplerOptions options = {.kind = j->kind,
                              .eta = j->eta,
                              .threshold = j->threshold,
                              .threshold_bound = j->reference ? 3 : 1, /* the public code's is always 1 */
                              .strength = j->strength,
                              .reference = j->reference};
    float *x = read_tensor(golden, "start", NULL), *noise = read_tensor(golden, "noise", NULL);
    float *known = read_tensor(golden, "known", NULL), *mask = read_tensor(golden, "latent_mask", NULL);
    float *all_known = mem_alloc_array(PICTURES * LATENT, sizeof *all_known);
    float *want = read_tensor(golden, j->name, &count);
    for (int n = 0; n < PICTURES; n++) memcpy(all_known + (size_t)n * LATENT, known, LATENT * sizeof *known);
    snprintf(key, sizeof key, "%s.timesteps", j->name);
    int64_t timestep_count = 0;
    float *timesteps = read_tensor(golden, key, &timestep_count);

    OK(sampler_create(base, j->steps, &options, j->pictures, PLACES, CHANNELS, &sampler));
    if (j->mask) sampler_restore(sampler, all_known, mask);
    if (j->strength > 0) sampler_noise_known(sampler, all_known, x, j->pictures * LATENT);
    int32_t evaluations = sampler_evaluations(sampler);
    assert_int_equal(count, (int64_t)(evaluations + 1) * j->pictures * LATENT);
    double worst = relative_l2(x, want, j->pictures * LATENT);
    for (int32_t e = 0; e < evaluations; e++) {
        double t = sampler_model_timestep(sampler, e);
        if (timestep_count == evaluations) assert_true(t == timesteps[e]);
        for (int64_t n = 0; n < j->pictures; n++) {
            const float *shown = j->mask ? known : NULL, *kept = j->mask ? mask : NULL;
            toy(x + n * LATENT, t, CONDITIONS[n], shown, kept, out + n * 2 * LATENT);
            toy(x + n * LATENT, t, 0, shown, kept, uncond + n * 2 * LATENT);
        }
        sampler_guide(out, uncond, j->pictures * PLACES, CHANNELS, (float)j->scale);
        /* The goldens' numbers are in the order of use; their network's first picture may be alone. */
        static float step_noise[PICTURES * LATENT];
        int32_t drawn = sampler_steps(sampler) - 1 - sampler_step_of(sampler, e);
        memcpy(step_noise, noise + (size_t)drawn * PICTURES * LATENT, sizeof step_noise);
        OK(sampler_step(sampler, e, x, out, sampler_wants_noise(sampler) ? step_noise : NULL));
        worst = fmax(worst, relative_l2(x, want + (e + 1) * j->pictures * LATENT, j->pictures * LATENT));
    }
    print_message("%s: worst step off by %.2e\n", j->name, worst);
    if (!(worst < 1e-5)) fail_msg("%s: worst step off by %.2e", j->name, worst);
    sampler_free(sampler);
    float *buffers[] = {x, noise, known, mask, all_known, want, timesteps};
    for (size_t k = 0; k < sizeof buffers / sizeof *buffers; k++) free(buffers[k]);
}

static void test_public_pipeline(void **state)
{
    (void)state;
    static const Trajectory all[] = {
        {"text.ddpm.20.7.0", SAMPLER_DDPM, 20, 0, 0, 0, 7, 2, true, false},
        {"text.ddpm.7.1.0", SAMPLER_DDPM, 7, 0, 42, 0, 1, 2, true, false}, /* its percentile is fixed */
        {"text.ddim.30.7.0", SAMPLER_DDIM, 30, 0, 99.5, 0, 7, 2, true, false},
        {"text.ddim.50.4.0.05", SAMPLER_DDIM, 50, 0.05, 99.5, 0, 4, 2, true, false},
        {"text.ddim.12.1.1", SAMPLER_DDIM, 12, 1, 99.5, 0, 1, 2, true, false},
        {"text.plms.25.7.0", SAMPLER_PLMS, 25, 0, 99.5, 0, 7, 2, true, false},
        {"text.plms.4.3.0", SAMPLER_PLMS, 4, 0, 99.5, 0, 3, 2, true, false},
        {"text.plms.1.3.0", SAMPLER_PLMS, 1, 0, 99.5, 0, 3, 2, true, false},
        {"image.ddpm.20.0.7.0", SAMPLER_DDPM, 20, 0, 99.5, 0.7, 5, 1, true, false},
        {"image.ddpm.10.0.25.0", SAMPLER_DDPM, 10, 0, 99.5, 0.25, 5, 1, true, false},
        {"image.ddim.25.0.7.0.05", SAMPLER_DDIM, 25, 0.05, 99.5, 0.7, 5, 1, true, false},
        {"image.ddim.10.0.5.1", SAMPLER_DDIM, 10, 1, 99.5, 0.5, 5, 1, true, false},
        {"image.plms.20.0.35.0", SAMPLER_PLMS, 20, 0, 99.5, 0.35, 5, 1, true, false},
        {"inpaint.ddpm.15.97.0", SAMPLER_DDPM, 15, 0, 97, 0, 5, 1, true, true},
        {"inpaint.ddim.12.99.5.0.05", SAMPLER_DDIM, 12, 0.05, 99.5, 0, 5, 1, true, true},
        {"inpaint.plms.10.99.5.0", SAMPLER_PLMS, 10, 0, 99.5, 0, 5, 1, true, true},
        /* Alone in its batch and without a mask, a picture's ancestral trajectory is the same in both ways. */
        {"image.ddpm.20.0.7.0", SAMPLER_DDPM, 20, 0, 99.5, 0.7, 5, 1, false, false},
    };
    for (size_t k = 0; k < sizeof all / sizeof *all; k++) check_trajectory(&all[k]);
}

static void test_own_samplers(void **state)
{
    (void)state;
    static const struct {
        const char *word;
        SamplerKind kind;
        double eta;
    } samplers[] = {{"ddpm", SAMPLER_DDPM, 0},
                    {"ddim", SAMPLER_DDIM, 0.05},
                    {"plms", SAMPLER_PLMS, 0},
                    {"dpm++", SAMPLER_DPMPP, 0}};
    for (size_t k = 0; k < sizeof samplers / sizeof *samplers; k++) {
        static const char *const variants[] = {"0.free", "97.free", "97.restored"};
        for (int v = 0; v < 3; v++) {
            char name[64];
            snprintf(name, sizeof name, "own.%s.15.%s", samplers[k].word, variants[v]);
            check_trajectory(
                &(Trajectory){name, samplers[k].kind, 15, samplers[k].eta, v == 0 ? 0 : 97, 0, 5, 2, false, v == 2});
        }
    }
    check_trajectory(&(Trajectory){"own.dpm++.50.0.free", SAMPLER_DPMPP, 50, 0, 0, 0, 5, 2, false, false});
    check_trajectory(&(Trajectory){"own.dpm++.2.0.free", SAMPLER_DPMPP, 2, 0, 0, 0, 5, 2, false, false});
    check_trajectory(&(Trajectory){"own.dpm++.1.0.free", SAMPLER_DPMPP, 1, 0, 0, 0, 5, 2, false, false});
    check_trajectory(&(Trajectory){"own.image.ddim.20.0.3", SAMPLER_DDIM, 20, 0, 97, 0.3, 5, 2, false, false});
}

/* The public code's other implementation, guided diffusion's, without guidance: other shape, other toy. */
static void check_single(const char *name, int32_t steps, SamplerOptions options)
{
    enum { POSITIONS = 16, C = 3, COUNT = PICTURES * POSITIONS * C };
    Sampler *sampler = NULL;
    int64_t count = 0;
    float out[2 * COUNT];
    float *x = read_tensor(single, "start", NULL), *noise = read_tensor(single, "noise", NULL);
    float *want = read_tensor(single, name, &count);
    options.threshold_bound = 1;
    OK(sampler_create(base, steps, &options, PICTURES, POSITIONS, C, &sampler));
    assert_int_equal(count, (int64_t)sampler_steps(sampler) * COUNT);
    double worst = 0;
    for (int32_t e = 0; e < sampler_evaluations(sampler); e++) {
        double t = sampler_model_timestep(sampler, e);
        for (int p = 0; p < PICTURES * POSITIONS; p++)
            for (int c = 0; c < C; c++) {
                double value = x[p * C + c], next = x[p * C + (c + 1) % C];
                out[p * 2 * C + c] = (float)tanh(0.7 * value + 0.3 * next + 0.2 * cos(0.01 * t));
                out[p * 2 * C + C + c] = (float)sin(1.3 * value + 0.003 * t);
            }
        OK(sampler_step(sampler, e, x, out, noise + (size_t)sampler_step_of(sampler, e) * COUNT));
        worst = fmax(worst, relative_l2(x, want + (size_t)e * COUNT, COUNT));
    }
    print_message("%s: worst step off by %.2e\n", name, worst);
    assert_true(worst < 1e-5);
    sampler_free(sampler);
    free(want);
    free(noise);
    free(x);
}

static void test_guided_diffusion(void **state)
{
    (void)state;
    check_single("ddpm.plain", 25, (SamplerOptions){.kind = SAMPLER_DDPM});
    check_single("ddpm.threshold", 25, (SamplerOptions){.kind = SAMPLER_DDPM, .threshold = 99.5});
    check_single("ddim.plain.0.0", 25, (SamplerOptions){.kind = SAMPLER_DDIM});
    check_single("ddim.plain.0.7", 25, (SamplerOptions){.kind = SAMPLER_DDIM, .eta = 0.7});
    check_single("ddim.threshold.0.0", 25, (SamplerOptions){.kind = SAMPLER_DDIM, .threshold = 99.5});
    check_single("ddim.threshold.0.7", 25, (SamplerOptions){.kind = SAMPLER_DDIM, .eta = 0.7, .threshold = 99.5});
    check_single("ddim.reference", 30,
                 (SamplerOptions){.kind = SAMPLER_DDIM, .eta = 0.7, .threshold = 99.5, .reference = true});
}

/* ---- what samplers promise ---- */

static SamplerOptions plain(SamplerKind kind)
{
    return (SamplerOptions){.kind = kind, .threshold_bound = 1};
}

static void refuses(int32_t steps, SamplerOptions options, const char *words)
{
    Sampler *sampler = NULL;
    FAILS(sampler_create(base, steps, &options, 1, PLACES, CHANNELS, &sampler), ERR_USAGE, words);
    assert_null(sampler);
}

static void test_refusals(void **state)
{
    (void)state;
    SamplerOptions o = plain(SAMPLER_DDPM);
    for (SamplerKind kind = 0; kind < SAMPLER_KINDS; kind++) {
        refuses(1001, plain(kind), "1000");
        refuses(0, plain(kind), "take 1 to");
    }
    o.threshold = 101;
    refuses(10, o, "percentile");
    o = plain(SAMPLER_DDIM);
    o.eta = NAN;
    refuses(10, o, "eta");
    o.eta = 1.5;
    refuses(10, o, "eta");
    o = plain(SAMPLER_PLMS);
    o.eta = 0.05;
    refuses(10, o, "plms takes no eta");
    o = plain(SAMPLER_DPMPP);
    o.reference = true;
    refuses(10, o, "not among the public");
    const double strengths[] = {-0.1, 1, 1.5, NAN};
    for (int k = 0; k < 4; k++) {
        o = plain(SAMPLER_DDIM);
        o.strength = strengths[k];
        refuses(10, o, "strength");
    }
    for (int reference = 0; reference < 2; reference++) {
        o = plain(SAMPLER_DDIM);
        o.strength = 0.9999;
        o.reference = reference;
        refuses(10, o, "leaves none of 10 steps");
    }
}

/* Decimals are meant as they are written: 10 (1 - 0.9) is one step, though in floating point it is less. The public
 * code takes it as it comes. */
static void test_strength_in_decimals(void **state)
{
    (void)state;
    static const struct {
        int32_t steps;
        double strength;
        int32_t ours, reference;
    } cases[] = {{10, 0.9, 1, 0},  {20, 0.9, 2, 1},    {100, 0.9, 10, 9}, {10, 0.8, 2, 1},    {10, 0.7, 3, 3},
                 {10, 0.85, 1, 1}, {50, 0.25, 37, 37}, {10, 0.89, 1, 1},  {1000, 0.999, 1, 1}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++)
        for (int reference = 0; reference < 2; reference++) {
            const int32_t want = reference ? cases[k].reference : cases[k].ours;
            SamplerOptions o = plain(SAMPLER_DDPM);
            Sampler *sampler = NULL;
            o.strength = cases[k].strength;
            o.reference = reference;
            if (want == 0) {
                refuses(cases[k].steps, o, "leaves none");
                continue;
            }
            OK(sampler_create(base, cases[k].steps, &o, 1, 1, 1, &sampler));
            assert_int_equal(sampler_steps(sampler), want);
            sampler_free(sampler);
        }
}

/* Every count of steps visits as many different timesteps, up to the last one, in every sampler; and one alone works.
 */
static void test_timesteps(void **state)
{
    (void)state;
    const int32_t counts[] = {1, 2, 3, 10, 32, 50, 333, 999, 1000};
    for (SamplerKind kind = 0; kind < SAMPLER_KINDS; kind++)
        for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
            Sampler *sampler = NULL;
            SamplerOptions o = plain(kind);
            OK(sampler_create(base, counts[k], &o, 1, 1, 1, &sampler));
            assert_int_equal(sampler_steps(sampler), counts[k]);
            assert_int_equal(sampler_step_of(sampler, sampler_evaluations(sampler) - 1), 0);
            if (counts[k] > 1) assert_true(sampler_model_timestep(sampler, 0) == 999);
            float before = 1000;
            for (int32_t e = 0; e < sampler_evaluations(sampler); e++) {
                float t = sampler_model_timestep(sampler, e);
                bool again = kind == SAMPLER_PLMS && (e == 2 || counts[k] == 1); /* its second looked ahead */
                assert_true(t < before || again);
                before = t;
            }
            sampler_free(sampler);
        }
    /* The public ddim and plms would read beyond their tables here: the timestep after the last is left out. */
    SamplerOptions o = plain(SAMPLER_PLMS);
    o.reference = true;
    Sampler *sampler = NULL;
    OK(sampler_create(base, 1000, &o, 1, 1, 1, &sampler));
    assert_int_equal(sampler_steps(sampler), 999);
    sampler_free(sampler);
}

static void test_not_finite(void **state)
{
    (void)state;
    for (SamplerKind kind = 0; kind < SAMPLER_KINDS; kind++) {
        float x[LATENT] = {0}, out[2 * LATENT] = {0}, noise[LATENT] = {0};
        Sampler *sampler = NULL;
        SamplerOptions o = plain(kind);
        OK(sampler_create(base, 1, &o, 1, PLACES, CHANNELS, &sampler));
        OK(sampler_step(sampler, 0, x, out, noise));
        out[0] = NAN;
        FAILS(sampler_step(sampler, 0, x, out, noise), ERR_NUMERIC, "not finite");
        sampler_free(sampler);
    }
}

/* Known latents come out bit for bit, from any sampler, whatever the network says; the rest does not. And the second
 * trajectory of a sampler is as the first. */
static void test_known_latents_are_kept(void **state)
{
    (void)state;
    static float known[PICTURES * LATENT], x[PICTURES * LATENT], first[PICTURES * LATENT], out[PICTURES * 2 * LATENT];
    static float noise[PICTURES * LATENT];
    float mask[PLACES];
    random_normal(5, RANDOM_TEST, 0, 0, known, PICTURES * LATENT);
    for (int p = 0; p < PLACES; p++) mask[p] = p % 3 == 0 ? 0 : 1;
    for (SamplerKind kind = 0; kind < SAMPLER_KINDS; kind++)
        for (int32_t steps = 1; steps <= 9; steps += 4) {
            Sampler *sampler = NULL;
            SamplerOptions o = plain(kind);
            o.threshold = 90;
            o.eta = kind == SAMPLER_DDIM ? 1 : 0;
            OK(sampler_create(base, steps, &o, PICTURES, PLACES, CHANNELS, &sampler));
            sampler_restore(sampler, known, mask);
            for (int round = 0; round < 2; round++) {
                random_normal(6, RANDOM_TEST, 0, 0, x, PICTURES * LATENT);
                for (int32_t e = 0; e < sampler_evaluations(sampler); e++) {
                    random_normal(7, RANDOM_TEST, (uint64_t)e, 0, out, PICTURES * 2 * LATENT);
                    random_normal(8, RANDOM_TEST, (uint64_t)e, 0, noise, PICTURES * LATENT);
                    OK(sampler_step(sampler, e, x, out, noise));
                }
                for (int k = 0; k < PICTURES * LATENT; k++)
                    assert_true((x[k] == known[k]) == (mask[k / CHANNELS % PLACES] == 1));
                if (round == 0) memcpy(first, x, sizeof x);
                assert_memory_equal(first, x, sizeof x);
            }
            sampler_free(sampler);
        }
}

/* More steps come nearer to the exact solution, dpm++ soonest. The data is one Gaussian per element, so that the
 * network is known: eps = sigma (x - alpha mu) / (alpha^2 s^2 + sigma^2), and x0 = mu + s x_T (nearly, for x_T is). */
static double gaussian_error(SamplerKind kind, int32_t steps)
{
    static const double mean[CHANNELS] = {0.3, -0.5, 0, 0.9}, spread[CHANNELS] = {0.5, 0.2, 1, 0.1};
    float x[LATENT], start[LATENT], out[2 * LATENT] = {0}, want[LATENT];
    Sampler *sampler = NULL;
    SamplerOptions o = plain(kind);
    OK(sampler_create(base, steps, &o, 1, PLACES, CHANNELS, &sampler));
    random_normal(4, RANDOM_TEST, 0, 0, start, LATENT);
    memcpy(x, start, sizeof x);
    for (int32_t e = 0; e < sampler_evaluations(sampler); e++) {
        double bar = base->alpha_bar[(int)sampler_model_timestep(sampler, e)], alpha = sqrt(bar), sigma = sqrt(1 - bar);
        for (int k = 0; k < LATENT; k++) {
            double m = mean[k % CHANNELS], s = spread[k % CHANNELS];
            out[k / CHANNELS * 2 * CHANNELS + k % CHANNELS] =
                (float)(sigma * (x[k] - alpha * m) / (bar * s * s + sigma * sigma));
        }
        OK(sampler_step(sampler, e, x, out, NULL));
    }
    double last = base->alpha_bar[999];
    for (int k = 0; k < LATENT; k++) {
        double m = mean[k % CHANNELS], s = spread[k % CHANNELS];
        want[k] = (float)(m + s * (start[k] - sqrt(last) * m) / sqrt(last * s * s + 1 - last));
    }
    sampler_free(sampler);
    return relative_l2(x, want, LATENT);
}

static void test_convergence(void **state)
{
    (void)state;
    double ddim = gaussian_error(SAMPLER_DDIM, 20), plms = gaussian_error(SAMPLER_PLMS, 20);
    double dpm = gaussian_error(SAMPLER_DPMPP, 20), more = gaussian_error(SAMPLER_DPMPP, 40);
    print_message("error at 20 steps: ddim %.4f, plms %.4f, dpm++ %.4f; dpm++ at 40: %.4f\n", ddim, plms, dpm, more);
    assert_true(plms < ddim && dpm < ddim / 4);
    assert_true(more < dpm / 2.5); /* second order, down to what the last step leaves */
}

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

static void test_percentile(void **state)
{
    (void)state;
    const double percentiles[] = {0, 12.5, 50, 99, 99.5, 100};
    for (int64_t count = 1; count < 400; count = count * 2 + 1)
        for (size_t k = 0; k < sizeof percentiles / sizeof *percentiles; k++) {
            float values[800], sorted[800];
            random_normal(9, RANDOM_TEST, (uint64_t)count, 0, values, (size_t)count);
            if (k % 2 == 0) /* many equal ones */
                for (int64_t i = 0; i < count; i++) values[i] = roundf(values[i]);
            memcpy(sorted, values, sizeof sorted);
            qsort(sorted, (size_t)count, sizeof *sorted, ascending);
            double at = percentiles[k] / 100 * (double)(count - 1);
            int64_t low = (int64_t)at, high = low + 1 < count ? low + 1 : low;
            double want = sorted[low] + (sorted[high] - (double)sorted[low]) * (at - (double)low);
            assert_true(fabs(sampler_percentile(values, count, percentiles[k]) - want) < 1e-6);
        }
}

/* Thresholding is each picture's own, and clips to the bound, in every sampler. */
static void test_threshold_per_picture(void **state)
{
    (void)state;
    for (SamplerKind kind = 0; kind < SAMPLER_KINDS; kind++) {
        Sampler *sampler = NULL;
        SamplerOptions options = {.kind = kind, .threshold = 100, .threshold_bound = 2};
        static float x[2 * LATENT], out[4 * LATENT], noise[2 * LATENT];
        OK(sampler_create(base, 1, &options, 2, PLACES, CHANNELS, &sampler));
        float scale = (float)sqrt(sampler_start_alpha_bar(sampler));
        for (int i = 0; i < LATENT; i++) {
            x[i] = scale * (i == 0 ? 10 : 1);                /* the largest x0 is 10: everything shrinks by 5 */
            x[LATENT + i] = scale * (i == 0 ? -1.5f : 0.5f); /* within the bound: left alone */
        }
        for (int32_t e = 0; e < sampler_evaluations(sampler); e++) OK(sampler_step(sampler, e, x, out, noise));
        assert_true(fabsf(x[0] - 2) < 1e-5f); /* a single step gives x0 itself */
        assert_true(fabsf(x[1] - 0.2f) < 1e-5f);
        assert_true(fabsf(x[LATENT] + 1.5f) < 1e-5f);
        assert_true(fabsf(x[LATENT + 1] - 0.5f) < 1e-5f);
        sampler_free(sampler);
    }
}

static void test_guidance_and_noise(void **state)
{
    (void)state;
    float cond[4] = {1, 2, 30, 40}, uncond[4] = {0.5f, 4, 50, 60}, a[10], b[10], c[10];
    sampler_guide(cond, uncond, 1, 2, 7);
    assert_true(cond[0] == 4.0f && cond[1] == -10.0f && cond[2] == 30.0f && cond[3] == 40.0f);
    sampler_step_noise(1, 5, 3, a, 10);
    sampler_step_noise(1, 5, 3 + 1024, b, 10);
    sampler_step_noise(1, 6, 3, c, 10);
    assert_memory_not_equal(a, b, sizeof a);
    assert_memory_not_equal(a, c, sizeof a);
    sampler_start_noise(1, 5, a, 10);
    sampler_start_noise(2, 5, b, 10);
    assert_memory_not_equal(a, b, sizeof a);
}

/* The mask against the public code's; white (1) is kept. */
static void test_latent_mask(void **state)
{
    (void)state;
    int64_t count = 0;
    float *pixels = read_tensor(golden, "mask", NULL), *want = read_tensor(golden, "latent_mask", &count);
    float scratch[PLACES], latent[PLACES];
    assert_int_equal(count, PLACES);
    sampler_latent_mask(pixels, 64, 64, SIDE, SIDE, scratch, latent);
    assert_memory_equal(latent, want, sizeof latent);
    assert_true(latent[3 * SIDE] == 1 && latent[3 * SIDE + 3] == 0);
    /* Not square, and a speck that no latent's upper left pixel sees. */
    static float wide[16 * 32];
    for (int k = 0; k < 16 * 32; k++) wide[k] = 1;
    wide[3 * 32 + 3] = 0;
    sampler_latent_mask(wide, 16, 32, 2, 4, scratch, latent);
    for (int k = 0; k < 8; k++) assert_true(latent[k] == 1);
    wide[8 * 32 + 8] = 0; /* latent (1,1): spreads to (0,1), (1,0), (0,0), (1,2), not to (0,2) */
    const float spread[8] = {0, 0, 1, 1, 0, 0, 0, 1};
    sampler_latent_mask(wide, 16, 32, 2, 4, scratch, latent);
    assert_memory_equal(latent, spread, sizeof spread);
    free(pixels);
    free(want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_public_pipeline),
        cmocka_unit_test(test_own_samplers),
        cmocka_unit_test(test_guided_diffusion),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_strength_in_decimals),
        cmocka_unit_test(test_timesteps),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_known_latents_are_kept),
        cmocka_unit_test(test_convergence),
        cmocka_unit_test(test_percentile),
        cmocka_unit_test(test_threshold_per_picture),
        cmocka_unit_test(test_guidance_and_noise),
        cmocka_unit_test(test_latent_mask),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
