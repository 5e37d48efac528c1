/* Frozen networks out of weight files: the values, where they lie, what does not fit, and fingerprints. */
#include "check.h"
#include "engine/graph.h"
#include "model/autoencoder.h"
#include "model/frozen_weights.h"
#include "model/training_graph.h"
#include "model/weight_names.h"
#include "model/weights.h"
#include "temp_dir.h"
#include "tiny.h"

typedef struct Store {
    ParamTable *table;
    ParamStore store;
    FrozenWeights *frozen;
} Store;

static ModelConfig kl_model(void)
{
    ModelConfig model = tiny_model();
    static int64_t mult[2] = {1, 2};
    model.autoencoder.kind = AUTOENCODER_KL;
    model.autoencoder.channels = 32;
    model.autoencoder.channel_mult = (ConfigInts){mult, 2};
    model.autoencoder.res_blocks = 1;
    model.autoencoder.weights = "";
    model.text_encoder1.weights = "";
    model.text_encoder2.weights = "";
    return model;
}

static void make_table(Store *s, const ModelConfig *model)
{
    *s = (Store){0};
    OK(param_table_create(&s->table));
    OK(model_declare_params(s->table, model));
    OK(param_table_layout(s->table, NULL, 0));
    OK(param_store_create(s->table, false, &s->store));
}

static void make_store(Store *s, const ModelConfig *model, uint64_t seed)
{
    make_table(s, model);
    OK(frozen_weights_load(model, &s->store, &s->frozen));
    param_store_init(&s->store, seed);
}

static void free_store(Store *s)
{
    param_store_free(&s->store);
    frozen_weights_free(s->frozen);
    param_table_free(s->table);
}

/* One file with all frozen networks, under our own names. */
static void save_frozen(const ModelConfig *model, uint64_t seed, SafeDtype dtype, const char *path)
{
    Store s;
    make_store(&s, model, seed);
    OK(weights_save(path, &s.store, NULL, (WeightsFilter){.frozen = true}, dtype));
    free_store(&s);
}

static void use_file(ModelConfig *model, char *path)
{
    model->autoencoder.weights = model->text_encoder1.weights = model->text_encoder2.weights = path;
}

static void fingerprints(Store *s, uint64_t seed, char out[FROZEN_NETWORK_COUNT][33])
{
    for (int n = 0; n < FROZEN_NETWORK_COUNT; n++)
        OK(frozen_weights_fingerprint(s->frozen, (FrozenNetwork)n, seed, out[n]));
}

static void test_values(void **state)
{
    TempDir dir = {0};
    char path[256];
    ModelConfig model = kl_model(), from_file;
    Store drawn, read;
    int64_t bound = 0, copied = 0;
    assert_int_equal(temp_dir_create(&dir), 0);
    snprintf(path, sizeof path, "%s", temp_file(&dir, "frozen.safetensors"));
    save_frozen(&model, 5, SAFE_F32, path);
    make_store(&drawn, &model, 5);
    from_file = model;
    use_file(&from_file, path);
    make_store(&read, &from_file, 99); /* the seed does not matter to what a file holds */
    for (int32_t p = 0; p < param_table_size(read.table); p++) {
        const Param *param = param_table_get(read.table, p);
        if (param->trainable) continue;
        const float *have = param_store_weight(&read.store, p), *want = param_store_weight(&drawn.store, p);
        assert_true(param_store_is_bound(&read.store, p));
        if (memcmp(have, want, (size_t)param->count * sizeof *have) != 0) fail_msg("%s differs", param->name);
        /* The file is mapped read-only; copies are of convolutions, whose order differs. */
        bool conv = param->layout == PARAM_CONV && param->shape.dim[1] > 1;
        bound += !conv;
        copied += conv;
    }
    assert_true(bound > 50 && copied > 10);

    char a[FROZEN_NETWORK_COUNT][33], b[FROZEN_NETWORK_COUNT][33], c[FROZEN_NETWORK_COUNT][33];
    fingerprints(&drawn, 5, a);
    fingerprints(&drawn, 6, b);
    fingerprints(&read, 5, c);
    for (int n = 0; n < FROZEN_NETWORK_COUNT; n++) {
        assert_int_equal(strlen(a[n]), 32);
        assert_string_not_equal(a[n], b[n]); /* another seed */
        assert_string_not_equal(a[n], c[n]); /* out of a file */
        assert_true(frozen_weights_used(read.frozen, (FrozenNetwork)n));
    }
    free_store(&drawn);
    free_store(&read);
    temp_dir_remove(&dir);
}

/* A file of halves: converted; the fingerprint is of the values, so it is that of the same values in f32. */
static void test_other_types(void **state)
{
    TempDir dir = {0};
    char half[256], wide[256];
    ModelConfig model = kl_model(), a = model, b = model;
    Store narrow, widened;
    char x[FROZEN_NETWORK_COUNT][33], y[FROZEN_NETWORK_COUNT][33];
    assert_int_equal(temp_dir_create(&dir), 0);
    snprintf(half, sizeof half, "%s", temp_file(&dir, "half.safetensors"));
    snprintf(wide, sizeof wide, "%s", temp_file(&dir, "wide.safetensors"));
    save_frozen(&model, 5, SAFE_F16, half);
    use_file(&a, half);
    make_store(&narrow, &a, 0);
    OK(weights_save(wide, &narrow.store, NULL, (WeightsFilter){.frozen = true}, SAFE_F32));
    use_file(&b, wide);
    make_store(&widened, &b, 0);
    for (int32_t p = 0; p < param_table_size(narrow.table); p++) {
        const Param *param = param_table_get(narrow.table, p);
        if (!param->trainable)
            assert_memory_equal(param_store_weight(&narrow.store, p), param_store_weight(&widened.store, p),
                                (size_t)param->count * sizeof(float));
    }
    fingerprints(&narrow, 0, x);
    fingerprints(&widened, 1, y);
    for (int n = 0; n < FROZEN_NETWORK_COUNT; n++) assert_string_equal(x[n], y[n]);
    free_store(&narrow);
    free_store(&widened);
    temp_dir_remove(&dir);
}

/* A table with the encoder alone takes its part of the file; the fingerprint is of the whole network all the same. */
static void test_part_of_a_network(void **state)
{
    TempDir dir = {0};
    char path[256], whole[33], part[33];
    ModelConfig model = kl_model();
    Store all, encoder = {0};
    Graph *graph = NULL;
    assert_int_equal(temp_dir_create(&dir), 0);
    snprintf(path, sizeof path, "%s", temp_file(&dir, "frozen.safetensors"));
    save_frozen(&model, 5, SAFE_F32, path);
    use_file(&model, path);
    make_store(&all, &model, 0);
    OK(param_table_create(&encoder.table));
    OK(graph_create(encoder.table, DTYPE_F32, &graph));
    autoencoder_declare_params(graph, &model, true, false);
    OK(graph_status(graph));
    graph_free(graph);
    OK(param_table_layout(encoder.table, NULL, 0));
    OK(param_store_create(encoder.table, false, &encoder.store));
    OK(frozen_weights_load(&model, &encoder.store, &encoder.frozen));
    assert_true(param_table_size(encoder.table) > 0 && param_table_size(encoder.table) < param_table_size(all.table));
    assert_true(frozen_weights_used(encoder.frozen, FROZEN_AUTOENCODER));
    assert_false(frozen_weights_used(encoder.frozen, FROZEN_TEXT1));
    OK(frozen_weights_fingerprint(all.frozen, FROZEN_AUTOENCODER, 0, whole));
    OK(frozen_weights_fingerprint(encoder.frozen, FROZEN_AUTOENCODER, 0, part));
    assert_string_equal(whole, part);
    OK(frozen_weights_fingerprint(all.frozen, FROZEN_TEXT2, 0, whole));
    OK(frozen_weights_fingerprint(encoder.frozen, FROZEN_TEXT2, 0, part));
    assert_string_equal(whole, part);
    free_store(&encoder);
    free_store(&all);
    temp_dir_remove(&dir);
}

/* Copies a file, leaving out, adding or reshaping a tensor. */
static void spoil(const char *from, const char *to, const char *drop, const char *add, const char *reshape)
{
    Safetensors *file = NULL;
    static const float extra[2] = {1, 2};
    OK(safetensors_open(from, &file));
    int32_t count = 0;
    SafeTensor *tensors = mem_alloc_array((size_t)safetensors_count(file) + 1, sizeof *tensors);
    for (int32_t i = 0; i < safetensors_count(file); i++) {
        SafeTensor t = *safetensors_get(file, i);
        if (drop && strcmp(t.name, drop) == 0) continue;
        if (reshape && strcmp(t.name, reshape) == 0) {
            t.shape[t.ndim++] = 1;
        }
        tensors[count++] = t;
    }
    if (add) {
        tensors[count] =
            (SafeTensor){.name = add, .dtype = SAFE_F32, .ndim = 1, .shape = {2}, .count = 2, .data = extra};
        count++;
    }
    OK(safetensors_write(to, tensors, count));
    free(tensors);
    safetensors_close(file);
}

static void test_misfits(void **state)
{
    TempDir dir = {0};
    char good[256], bad[256];
    ModelConfig model = kl_model(), spoiled;
    Store s;
    assert_int_equal(temp_dir_create(&dir), 0);
    snprintf(good, sizeof good, "%s", temp_file(&dir, "good.safetensors"));
    snprintf(bad, sizeof bad, "%s", temp_file(&dir, "bad.safetensors"));
    save_frozen(&model, 5, SAFE_F32, good);
    spoil(good, bad, "text_encoder2.encoder.final_layer_norm.weight", "text_encoder2.encoder.block.7.odd",
          "text_encoder2.shared.weight");
    spoiled = model;
    spoiled.text_encoder2.weights = bad;
    make_table(&s, &spoiled);
    FAILS(frozen_weights_load(&spoiled, &s.store, &s.frozen), ERR_MISMATCH, "model.text_encoder2.weights");
    assert_non_null(strstr(status_message(), "1 missing [encoder.final_layer_norm.weight"));
    assert_non_null(strstr(status_message(), "1 of another shape or type [shared.weight"));
    assert_non_null(strstr(status_message(), "1 unknown [text_encoder2.encoder.block.7.odd"));
    spoiled.text_encoder2.weights = "absent.bin";
    FAILS(frozen_weights_load(&spoiled, &s.store, &s.frozen), ERR_IO, "absent.bin");
    free_store(&s);
    temp_dir_remove(&dir);
}

/* Published names: what stands around the weights, and what the network does not use. */
static void test_published_names(void **state)
{
    TempDir dir = {0};
    char path[256];
    ModelConfig model = kl_model();
    Store s;
    WeightFile *file = NULL;
    WeightMatch match;
    static const float values[1 << 19];
    static const struct {
        WeightKind kind;
        const char *around, *unused;
    } cases[] = {
        {WEIGHTS_VAE, "state_dict.", "state_dict.loss.discriminator.main.0.weight"},
        {WEIGHTS_VAE, "state_dict.first_stage_model.", "state_dict.model.diffusion_model.out.2.bias"},
        {WEIGHTS_XLMR_CLIP, "", "transformer.embeddings.position_ids"},
        {WEIGHTS_MT5, "", "decoder.block.0.layer.0.SelfAttention.q.weight"},
        {WEIGHTS_MT5, "", "encoder.embed_tokens.weight"},
        {WEIGHTS_UNET, "state_dict.module.", "optimizer_states.0.state.0.exp_avg"},
        {WEIGHTS_UNET, "", NULL},
    };
    assert_int_equal(temp_dir_create(&dir), 0);
    snprintf(path, sizeof path, "%s", temp_file(&dir, "names.safetensors"));
    make_table(&s, &model);
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        SafeTensor *tensors = mem_alloc_array((size_t)param_table_size(s.table) + 1, sizeof *tensors);
        char(*names)[256] = mem_alloc_array((size_t)param_table_size(s.table) + 1, sizeof *names);
        int32_t count = 0;
        for (int32_t p = 0; p < param_table_size(s.table); p++) {
            const Param *param = param_table_get(s.table, p);
            if (!weight_kind_has(cases[c].kind, param)) continue;
            const Shape shape = param_file_shape(param);
            snprintf(names[count], sizeof names[count], "%s%s", cases[c].around,
                     weight_published_name(cases[c].kind, param));
            tensors[count] = (SafeTensor){
                .name = names[count], .dtype = SAFE_F32, .ndim = shape.ndim, .count = param->count, .data = values};
            memcpy(tensors[count].shape, shape.dim, sizeof shape.dim);
            assert_true((size_t)param->count <= sizeof values / sizeof *values);
            count++;
        }
        assert_true(count > 0);
        const int32_t wanted = count;
        if (cases[c].unused) {
            tensors[count] = (SafeTensor){
                .name = cases[c].unused, .dtype = SAFE_F32, .ndim = 1, .shape = {3}, .count = 3, .data = values};
            count++;
        }
        OK(safetensors_write(path, tensors, count));
        OK(weight_file_open(path, &file));
        OK(weight_match(file, s.table, cases[c].kind, &match));
        OK(weight_match_check(&match, path, cases[c].kind, false, ""));
        assert_int_equal(match.found, wanted);
        assert_int_equal(match.ignored_count, count - wanted);
        assert_string_equal(match.inside, cases[c].around);
        weight_match_free(&match);
        weight_file_close(file);
        free(names);
        free(tensors);
    }
    free_store(&s);
    temp_dir_remove(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_other_types),
        cmocka_unit_test(test_part_of_a_network),
        cmocka_unit_test(test_misfits),
        cmocka_unit_test(test_published_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
