/* The text encoders against Hugging Face transformers (tests/goldens/make_text_goldens.py), on every backend and in
 * both precisions; and drawn from the seed: rows say which caption they are of, and do not look at padding. */
#include "check.h"

#include "device.h"
#include "engine/executor.h"
#include "engine/param_image.h"
#include "model/mt5.h"
#include "model/probe_text.h"
#include "model/sampling_graph.h"
#include "model/training_graph.h"
#include "model/xlmr_clip.h"
#include "temp_dir.h"
#include "tiny.h"

static Backend *backend;
static ParamTable *params;
static ParamStore store;

/* ---- goldens ---- */

enum { GOLDEN_N = 5, GOLDEN_ROWS = 13 };

/* As XLMR and MT5 in the script. */
static const ModelConfig GOLDEN_MODEL = {
    .text1_dim = 27,
    .pooled_dim = 11,
    .text2_dim = 21,
    .max_tokens = GOLDEN_ROWS,
    .text_encoder1 = {.vocab = 61, .layers = 3, .heads = 3, .feed_forward = 41, .positions = 19},
    .text_encoder2 =
        {.vocab = 53, .layers = 3, .heads = 5, .head_channels = 7, .feed_forward = 29, .buckets = 8, .max_distance = 7},
};

typedef struct Golden {
    const char *file, *prefix;
    bool xlmr;
    double f32, bf16; /* limits of relative L2 */
} Golden;

static const Golden GOLDEN_XLMR = {"text_xlmr.safetensors", XLMR_PREFIX, true, 1e-5, 2e-2};
static const Golden GOLDEN_MT5 = {"text_mt5.safetensors", MT5_PREFIX, false, 1e-5, 2e-2};

static Status golden_open(const Golden *golden, Safetensors **out)
{
    char path[512];
    snprintf(path, sizeof path, "%s/goldens/%s", test_folder(), golden->file);
    return safetensors_open(path, out);
}

/* Every parameter from the file, under the name after the prefix; every tensor of the file is used. */
static void fill_store(const Golden *golden, const Safetensors *file, const ParamStore *filled)
{
    int32_t size = param_table_size(filled->table);
    for (int32_t p = 0; p < size; p++) {
        const Param *param = param_table_get(filled->table, p);
        assert_memory_equal(param->name, golden->prefix, strlen(golden->prefix));
        int64_t count = 0;
        float *values = read_tensor(file, param->name + strlen(golden->prefix), &count);
        assert_int_equal(count, param->count);
        memcpy(param_store_weight(filled, p), values, (size_t)count * sizeof *values);
        free(values);
    }
    assert_int_equal(safetensors_count(file), size + (golden->xlmr ? 4 : 3));
}

static void write_ids(Executor *executor, TensorId tensor, const Safetensors *file, const char *name)
{
    const SafeTensor *t = safetensors_find(file, name);
    assert_non_null(t);
    assert_int_equal(t->dtype, SAFE_I32);
    assert_int_equal(t->count, GOLDEN_N * GOLDEN_ROWS);
    int32_t ids[GOLDEN_N * GOLDEN_ROWS];
    memcpy(ids, t->data, sizeof ids);
    OK(executor_write(executor, tensor, ids, sizeof ids));
}

static double error_of(Executor *executor, TensorId tensor, const Safetensors *file, const char *name)
{
    int64_t count = 0;
    float *want = read_tensor(file, name, &count);
    float *got = mem_alloc_array((size_t)count, sizeof *got);
    assert_non_null(got);
    OK(executor_read(executor, tensor, got, (size_t)count * sizeof *got));
    double error = relative_l2(got, want, count);
    free(want);
    free(got);
    return error;
}

static void check_golden(const Golden *golden, Backend *on, Dtype compute)
{
    Safetensors *file;
    ParamTable *table;
    ParamStore weights;
    Graph *graph;
    Plan *plan;
    Executor *executor;
    XlmrStates out = {TENSOR_NONE, TENSOR_NONE};
    OK(golden_open(golden, &file));
    OK(param_table_create(&table));
    OK(graph_create(table, compute, &graph));
    TensorId tokens = graph_input(graph, "tokens", DTYPE_I32, SHAPE2(GOLDEN_N, GOLDEN_ROWS), false);
    TensorId mask = graph_input(graph, "mask", DTYPE_I32, SHAPE2(GOLDEN_N, GOLDEN_ROWS), false);
    if (golden->xlmr) {
        out = xlmr_clip_forward(graph, &GOLDEN_MODEL, tokens, mask);
        graph_mark_output(graph, out.pooled);
    } else {
        out.states = mt5_forward(graph, &GOLDEN_MODEL, tokens, mask);
    }
    graph_mark_output(graph, out.states);
    OK(graph_status(graph));
    OK(param_table_layout(table, NULL, 0));
    OK(param_store_create(table, false, &weights));
    fill_store(golden, file, &weights);
    OK(plan_create(graph, on, &(PlanOptions){.reuse = true}, &plan));
    OK(param_image_open(&weights, on, false));
    OK(executor_create(plan, &weights, &executor));
    write_ids(executor, tokens, file, "tokens");
    write_ids(executor, mask, file, "mask");
    OK(executor_run(executor, NULL));
    double limit = compute == DTYPE_F32 ? golden->f32 : golden->bf16;
    double states = error_of(executor, out.states, file, "states"), pooled = 0;
    if (golden->xlmr) pooled = error_of(executor, out.pooled, file, "pooled");
    print_message("%s in %s: states %.2e, pooled %.2e\n", golden->prefix, dtype_name(compute), states, pooled);
    assert_true(states <= limit);
    assert_true(pooled <= limit);
    executor_free(executor);
    plan_free(plan);
    param_store_free(&weights);
    graph_free(graph);
    param_table_free(table);
    safetensors_close(file);
}

static void check_goldens(Status (*open_backend)(const BackendOptions *, Backend **))
{
    Backend *on;
    OK(open_backend(&(BackendOptions){.threads = 1}, &on));
    for (int bf16 = 0; bf16 < 2; bf16++) {
        Dtype compute = bf16 ? DTYPE_BF16 : DTYPE_F32;
        check_golden(&GOLDEN_XLMR, on, compute);
        check_golden(&GOLDEN_MT5, on, compute);
    }
    backend_close(on);
}

static void test_goldens_ref(void **state)
{
    (void)state;
    check_goldens(backend_open_ref);
}

static void test_goldens_device(void **state)
{
    (void)state;
    check_goldens(test_device_open);
}

/* ---- probes ---- */

static TempDir dir;

/* A golden's tensors without what goes in and comes out, as a weight file. */
static void write_weights(const Safetensors *golden, const char *path)
{
    SafeTensor tensors[80];
    int32_t count = 0;
    for (int32_t i = 0; i < safetensors_count(golden); i++) {
        const SafeTensor *t = safetensors_get(golden, i);
        if (strchr(t->name, '.') == NULL) continue;
        assert_true(count < 80);
        tensors[count++] = *t;
    }
    OK(safetensors_write(path, tensors, count));
}

typedef Status (*ProbeFunction)(const ModelConfig *, Backend *, Dtype, const char *, const char *, uint64_t);

static void check_probe(const Golden *golden, ProbeFunction probe, const char *tokens_name, const char *mask_name)
{
    Safetensors *file, *result;
    ModelConfig model = tiny_model();
    char weights[256], in[256], out[256];
    OK(golden_open(golden, &file));
    snprintf(weights, sizeof weights, "%s", temp_file(&dir, "weights.safetensors"));
    snprintf(in, sizeof in, "%s", temp_file(&dir, "in.safetensors"));
    snprintf(out, sizeof out, "%s", temp_file(&dir, "out.safetensors"));
    write_weights(file, weights);
    SafeTensor inputs[2] = {*safetensors_find(file, "tokens"), *safetensors_find(file, "mask")};
    inputs[0].name = tokens_name;
    inputs[1].name = mask_name;
    OK(safetensors_write(in, inputs, 2));
    model.text1_dim = GOLDEN_MODEL.text1_dim;
    model.pooled_dim = GOLDEN_MODEL.pooled_dim;
    model.text2_dim = GOLDEN_MODEL.text2_dim;
    model.text2_heads = 3;
    model.text_encoder1 = GOLDEN_MODEL.text_encoder1;
    model.text_encoder2 = GOLDEN_MODEL.text_encoder2;
    model.text_encoder1.weights = golden->xlmr ? weights : "";
    model.text_encoder2.weights = golden->xlmr ? "" : weights;
    OK(probe(&model, backend, DTYPE_F32, in, out, 1));
    OK(safetensors_open(out, &result));
    assert_int_equal(safetensors_count(result), golden->xlmr ? 2 : 1);
    for (int i = 0; i < safetensors_count(result); i++) {
        const char *name = golden->xlmr && i == 1 ? "pooled" : "states";
        int64_t count = 0, want_count = 0;
        float *got = read_tensor(result, name, &count), *want = read_tensor(file, name, &want_count);
        assert_int_equal(count, want_count);
        assert_true(relative_l2(got, want, count) <= 1e-5);
        free(got);
        free(want);
    }
    safetensors_close(result);
    safetensors_close(file);
}

static void test_probes(void **state)
{
    (void)state;
    check_probe(&GOLDEN_XLMR, probe_xlmr_clip, "tokens", "mask");
    check_probe(&GOLDEN_MT5, probe_mt5, "input_ids", "attention_mask");
}

/* A probe of tiny_model on one row of tokens and a mask. */
static Status probe_row(ProbeFunction probe, const int64_t *tokens, int64_t count, const float *mask,
                        SafeDtype mask_type)
{
    ModelConfig model = tiny_model();
    char in[256], out[256];
    SafeTensor inputs[2] = {
        {.name = "tokens", .dtype = SAFE_I64, .ndim = 2, .shape = {1, count}, .count = count, .data = tokens},
        {.name = "mask", .dtype = mask_type, .ndim = 2, .shape = {1, count}, .count = count, .data = mask}};
    snprintf(in, sizeof in, "%s", temp_file(&dir, "in.safetensors"));
    snprintf(out, sizeof out, "%s", temp_file(&dir, "out.safetensors"));
    OK(safetensors_write(in, inputs, mask == NULL ? 1 : 2));
    return probe(&model, backend, DTYPE_F32, in, out, 1);
}

static void test_probe_refusals(void **state)
{
    (void)state;
    const int64_t fine[] = {0, 5, 2}, beyond[] = {0, 50, 2}, negative[] = {0, -1, 2}, many[TINY_TOKENS + 1] = {0};
    const float ones[] = {1, 1, 1};
    OK(probe_row(probe_xlmr_clip, fine, 3, NULL, SAFE_F32)); /* no mask: all count */
    FAILS(probe_row(probe_xlmr_clip, beyond, 3, NULL, SAFE_F32), ERR_FORMAT,
          "element 1 of tensor 'tokens' is 50; 0 to 49");
    FAILS(probe_row(probe_mt5, negative, 3, NULL, SAFE_F32), ERR_FORMAT, "is -1; 0 to 39");
    FAILS(probe_row(probe_mt5, fine, 3, ones, SAFE_F32), ERR_FORMAT, "'mask' is not of an integer type");
    FAILS(probe_row(probe_xlmr_clip, many, TINY_TOKENS + 1, NULL, SAFE_F32), ERR_FORMAT,
          "7 tokens a row; the positions allow 6");
}

/* ---- drawn from the seed ---- */

static int open_all(void **state)
{
    (void)state;
    ModelConfig model = tiny_model();
    if (temp_dir_create(&dir) != 0) return -1;
    OK(test_device_open(&(BackendOptions){.threads = 1}, &backend));
    OK(param_table_create(&params));
    OK(model_declare_params(params, &model));
    OK(param_table_layout(params, NULL, 0));
    OK(param_store_create(params, false, &store));
    param_store_init(&store, 11);
    OK(param_image_open(&store, backend, false));
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    param_store_free(&store);
    param_table_free(params);
    backend_close(backend);
    temp_dir_remove(&dir);
    return 0;
}

enum { N = 3, FULL1 = N * TINY_TOKENS * 32, FULL2 = N * TINY_TOKENS * 16, POOLED = N * 20 };

typedef struct States {
    float full1[FULL1], pooled1[POOLED], full2[FULL2];
} States;

static void run_text(Dtype compute, const int32_t *tokens, const int32_t *mask, States *out)
{
    ModelConfig model = tiny_model();
    TextGraph graph;
    Plan *plan = NULL;
    Executor *executor = NULL;
    size_t bytes = N * TINY_TOKENS * sizeof *tokens;
    OK(text_graph_create(params, &model, N, compute, &graph));
    OK(plan_create(graph.graph, backend, &(PlanOptions){.reuse = true}, &plan));
    OK(executor_create(plan, &store, &executor));
    OK(executor_write(executor, graph.tokens1, tokens, bytes));
    OK(executor_write(executor, graph.mask1, mask, bytes));
    OK(executor_write(executor, graph.tokens2, tokens, bytes));
    OK(executor_write(executor, graph.mask2, mask, bytes));
    OK(executor_run(executor, NULL));
    OK(executor_read(executor, graph.full_emb1, out->full1, sizeof out->full1));
    OK(executor_read(executor, graph.pooled_emb1, out->pooled1, sizeof out->pooled1));
    OK(executor_read(executor, graph.full_emb2, out->full2, sizeof out->full2));
    executor_free(executor);
    plan_free(plan);
    text_graph_free(&graph);
}

static const int32_t MASK[N * TINY_TOKENS] = {1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 0};

static void test_text_states(void **state)
{
    (void)state;
    static States a, b;
    /* Captions 0 and 1 differ in one word, caption 2 is caption 0 with other padding. */
    int32_t tokens[N * TINY_TOKENS] = {0, 7, 8, 2, 1, 1, 0, 7, 9, 2, 1, 1, 0, 7, 8, 2, 30, 31};
    run_text(DTYPE_F32, tokens, MASK, &a);
    run_text(DTYPE_F32, tokens, MASK, &b);
    assert_memory_equal(&a, &b, sizeof a);

    int64_t caption = TINY_TOKENS * 32;
    for (int row = 0; row < TINY_TOKENS; row++) /* every row says which caption it is of */
        assert_true(relative_l2(a.full1 + row * 32, a.full1 + caption + row * 32, 32) > 0.05);
    assert_true(relative_l2(a.pooled1, a.pooled1 + 20, 20) > 0.05);
    assert_true(relative_l2(a.full2, a.full2 + TINY_TOKENS * 16, 16) > 0.05);
    assert_memory_equal(a.full1, a.full1 + 2 * caption, 4 * 32 * sizeof(float)); /* real rows do not see padding */
    assert_memory_equal(a.pooled1, a.pooled1 + 40, 20 * sizeof(float));

    double sum = 0, square = 0;
    for (int i = 0; i < FULL1; i++) {
        sum += a.full1[i];
        square += (double)a.full1[i] * a.full1[i];
    }
    assert_true(fabs(sum / FULL1) < 1e-5 && fabs(square / FULL1 - 1) < 1e-3); /* unit variance */
}

static void test_text_is_of_the_seed(void **state)
{
    (void)state;
    static States a, b;
    int32_t tokens[N * TINY_TOKENS] = {0, 7, 8, 2, 1, 1, 0, 7, 9, 2, 1, 1, 0, 7, 8, 2, 30, 31};
    run_text(DTYPE_F32, tokens, MASK, &a);
    param_store_init(&store, 12);
    OK(param_image_upload(&store));
    run_text(DTYPE_F32, tokens, MASK, &b);
    assert_true(relative_l2(a.full1, b.full1, FULL1) > 0.5);
    param_store_init(&store, 11);
    OK(param_image_upload(&store));
    run_text(DTYPE_F32, tokens, MASK, &b);
    assert_memory_equal(&a, &b, sizeof a);
    run_text(DTYPE_BF16, tokens, MASK, &b);
    assert_true(relative_l2(b.full1, a.full1, FULL1) < 2e-2);
    assert_true(relative_l2(b.pooled1, a.pooled1, POOLED) < 2e-2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_goldens_ref), cmocka_unit_test(test_goldens_device),
        cmocka_unit_test(test_probes),      cmocka_unit_test(test_probe_refusals),
        cmocka_unit_test(test_text_states), cmocka_unit_test(test_text_is_of_the_seed),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
