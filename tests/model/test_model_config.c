/* The config sections: defaults, and refusals that name the key and say what would be right. */
#include "check.h"

#include "model/model_config.h"

typedef struct Root {
    ModelConfig model;
    DiffusionConfig diffusion;
} Root;

static const ConfigField FIELDS[] = {
    {.key = "model", .type = CONFIG_SECTION, .offset = offsetof(Root, model), .schema = &MODEL_CONFIG_SCHEMA},
    {.key = "diffusion",
     .type = CONFIG_SECTION,
     .offset = offsetof(Root, diffusion),
     .schema = &DIFFUSION_CONFIG_SCHEMA},
};
static const ConfigSchema SCHEMA = {"root", FIELDS, 2, sizeof(Root)};

static Status check(const char *text, int64_t resolution)
{
    Status status = STATUS_OK;
    Root root;
    Config *config = NULL;
    TRY(config_load("test.yaml", text, &SCHEMA, NULL, 0, &root, &config));
    TRY(model_config_check(&root.model, config));
    TRY(model_config_check_resolution(&root.model, config, "data.resolution", resolution));
    TRY(diffusion_config_check(&root.diffusion, config));
fail:
    config_free(config);
    return status;
}

static void test_defaults_are_kandinsky(void **state)
{
    (void)state;
    Root root;
    Config *config = NULL;
    OK(config_load("test.yaml", "{}", &SCHEMA, NULL, 0, &root, &config));
    OK(model_config_check(&root.model, config));
    OK(model_config_check_resolution(&root.model, config, "data.resolution", 512));
    OK(diffusion_config_check(&root.diffusion, config));
    assert_int_equal(root.model.channels, 384);
    assert_int_equal(root.model.channel_mult.count, 4);
    assert_int_equal(model_latent_channels(&root.model), 4);
    assert_int_equal(model_latent_size(&root.model, 512), 64);
    assert_true(model_has_attention(&root.model, 4));
    assert_false(model_has_attention(&root.model, 1));
    assert_int_equal(root.diffusion.steps, 1000);
    assert_true(root.diffusion.beta_end == 0.02);
    config_free(config);
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *text, *words;
    } CASES[] = {
        {"model: {channels: 48}", "model.channels"},
        {"model: {channels: 48}", "32 groups"},
        {"model:\n  channels: 48", "test.yaml:2"},
        {"model: {head_channels: 100}", "model.head_channels"},
        {"model: {channels: 32, channel_mult: [1, 3], attention_levels: [1], head_channels: 64}", "level 0"},
        {"model: {channels: 32, channel_mult: [1, 3], attention_levels: [], head_channels: 64}", "middle block"},
        {"model: {attention_levels: [3]}", "powers of two"},
        {"model: {attention_levels: [16]}", "1 to 8"},
        {"model: {channel_mult: []}", "model.channel_mult"},
        {"model: {out_channels: 7}", "odd"},
        {"model: {out_channels: 10}", "model.in_channels"},
        {"model: {out_channels: 10, autoencoder: {latent_channels: 4}}", "model.out_channels"},
        {"model: {in_channels: 5}", "9 for inpainting"},
        {"model: {text2_heads: 7}", "model.text2_heads"},
        {"model: {text_encoder1: {heads: 7}}", "model.text_encoder1.heads"},
        {"model: {text_encoder1: {positions: 78}}", "at least 79"},
        {"model: {text_encoder1: {kind: seeded}}", "kind"},
        {"model: {text_encoder2: {buckets: 6}}", "model.text_encoder2.buckets"},
        {"model: {text_encoder2: {max_distance: 8}}", "model.text_encoder2.max_distance"},
        {"model: {autoencoder: {kind: none}}", "3 colours"},
        {"model: {autoencoder: {factor: 1}}", "only 3 coefficients"},
        {"model: {autoencoder: {kind: vae}}", "patch"},
        {"model: {autoencoder: {weights: vae.ckpt}}", "kind kl"},
        {"model: {autoencoder: {kind: kl, channels: 48}}", "32 groups"},
        {"model: {autoencoder: {kind: kl, channels: 16, channel_mult: [2, 2, 2, 2]}}", "32 groups"},
        {"model: {autoencoder: {kind: kl, channel_mult: []}}", "model.autoencoder.channel_mult"},
        {"model: {autoencoder: {kind: kl, channel_mult: [1, 1, 1, 1, 1, 1, 1, 1]}}", "1 to 7"},
        {"model: {autoencoder: {kind: kl, factor: 4}}", "make it 8"},
        {"diffusion: {beta_start: 0.5}", "diffusion.beta_start"},
        {"diffusion: {steps: 20}", "diffusion.steps"},
        {"diffusion: {schedule: cosin}", "cosine"},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        FAILS(check(CASES[i].text, 512), ERR_CONFIG, CASES[i].words);
        assert_non_null(strstr(status_message(), "test.yaml"));
    }
    FAILS(check("{}", 500), ERR_CONFIG, "448 would do");
    FAILS(check("{}", 500), ERR_CONFIG, "data.resolution");
    FAILS(check("{}", 0), ERR_CONFIG, "64 would do");
}

static void test_possible(void **state)
{
    (void)state;
    OK(check("model: {in_channels: 9}", 256));
    OK(check("model: {autoencoder: {kind: kl, scale: 0.0512, weights: vae.ckpt}}", 256));
    OK(check("model: {autoencoder: {kind: kl, channel_mult: [1, 2]}}", 48)); /* factor 2, 4 levels */
    FAILS(check("model: {autoencoder: {kind: kl, channel_mult: [1, 2]}}", 56), ERR_CONFIG, "48 would do");
    OK(check("model: {autoencoder: {kind: kl, channel_mult: [1, 2], factor: 2}}", 48));
    OK(check("model: {in_channels: 3, out_channels: 6, autoencoder: {kind: none}}", 64));
    OK(check("model: {in_channels: 12, out_channels: 24, autoencoder: {factor: 2}}", 64));
    OK(check("model: {channels: 64, channel_mult: [1, 2, 4], attention_levels: [2, 4], res_blocks: 2}", 256));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults_are_kandinsky),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_possible),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
