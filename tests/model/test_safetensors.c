/* Weight files: what is written is read back, in every type; what is broken is refused; parameters find their names
 * and layouts. */
#include "check.h"

#include "base/bf16.h"
#include "base/file.h"
#include "base/half.h"
#include "model/weights.h"
#include "temp_dir.h"

static TempDir dir;

static int make_dir(void **state)
{
    (void)state;
    return temp_dir_create(&dir);
}

static int remove_dir(void **state)
{
    (void)state;
    temp_dir_remove(&dir);
    return 0;
}

static void test_round_trip(void **state)
{
    (void)state;
    const float f32[6] = {1, -2, 3.5f, INFINITY, 1e-30f, 0};
    const int64_t i64[2] = {-7, 1234567};
    const uint8_t flags[3] = {1, 0, 1};
    const double f64[1] = {2.5};
    const SafeTensor tensors[] = {
        {.name = "a.b", .dtype = SAFE_F32, .ndim = 2, .shape = {2, 3}, .data = f32},
        {.name = "empty", .dtype = SAFE_F32, .ndim = 1, .shape = {0}, .data = f32},
        {.name = "flags", .dtype = SAFE_BOOL, .ndim = 1, .shape = {3}, .data = flags},
        {.name = "t \"quoted\" \xc3\xa9", .dtype = SAFE_I64, .ndim = 1, .shape = {2}, .data = i64},
        {.name = "scalar", .dtype = SAFE_F64, .ndim = 0, .data = f64},
    };
    const char *path = temp_file(&dir, "round.safetensors");
    Safetensors *file = NULL;
    float values[6];
    OK(safetensors_write(path, tensors, 5));
    OK(safetensors_open(path, &file));
    assert_int_equal(safetensors_count(file), 5);
    const SafeTensor *t = safetensors_find(file, "a.b");
    assert_int_equal(t->ndim, 2);
    assert_int_equal(t->shape[1], 3);
    safetensors_to_f32(t, values);
    assert_memory_equal(values, f32, sizeof f32);
    safetensors_to_f32(safetensors_find(file, "flags"), values);
    assert_true(values[0] == 1 && values[1] == 0);
    safetensors_to_f32(safetensors_find(file, tensors[3].name), values);
    assert_true(values[0] == -7 && values[1] == 1234567);
    safetensors_to_f32(safetensors_find(file, "scalar"), values);
    assert_true(values[0] == 2.5f);
    assert_int_equal(safetensors_find(file, "empty")->count, 0);
    assert_null(safetensors_find(file, "a"));
    safetensors_close(file);

    char *bytes = NULL;
    size_t size = 0;
    OK(file_read(path, 1 << 20, &bytes, &size));
    uint64_t header = 0;
    memcpy(&header, bytes, 8);
    assert_int_equal(header % 8, 0);
    free(bytes);
}

static void test_halves(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) { /* every half survives */
        float value = half_to_f32((uint16_t)h);
        if (isnan(value))
            assert_true(isnan(half_to_f32(half_from_f32(value))));
        else
            assert_int_equal(half_from_f32(value), h);
    }
    assert_true(half_to_f32(0x3c00) == 1.0f && half_to_f32(0xc000) == -2.0f);
    assert_true(half_to_f32(0x0001) == 0x1p-24f && half_to_f32(0x7bff) == 65504.0f);
    assert_int_equal(half_from_f32(65519.996f), 0x7bff);
    assert_int_equal(half_from_f32(65520.0f), 0x7c00);
    assert_int_equal(half_from_f32(0x1p-25f), 0); /* a tie, to even */
    assert_int_equal(half_from_f32(0x1.000002p-25f), 1);
    assert_int_equal(half_from_f32(1.0f + 0x1p-11f), 0x3c00); /* ties to even */
    assert_int_equal(half_from_f32(1.0f + 0x3p-11f), 0x3c02);
    assert_int_equal(half_from_f32(2.0f - 0x1p-12f), 0x4000); /* carries into the exponent */
}

/* A file of this header and so many bytes of data. */
static const char *make_file(const char *header, size_t data_size)
{
    StrBuf buf = {0};
    uint64_t length = strlen(header);
    char zeros[64] = {0};
    OK(strbuf_append(&buf, &length, 8));
    OK(strbuf_append(&buf, header, strlen(header)));
    OK(strbuf_append(&buf, zeros, data_size));
    const char *path = temp_file(&dir, "bad.safetensors");
    OK(file_write_atomic(path, buf.data, buf.size));
    strbuf_free(&buf);
    return path;
}

static void test_broken_files(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t data_size;
        const char *words;
    } CASES[] = {
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 7, "outside"},
        {"{\"a\\u0000b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "u0000"},
        {"{\"a\\u001b[2J\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "'a?[2J'"},
        {"{\"a\\u009b2J\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "control characters"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 9, "nobody"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "nobody"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8, "shape and type"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8, "outside"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8,8]}}", 8, "outside"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":{}}}", 8, "outside"},
        {"{\"a\":{\"dtype\":\"F31\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "F31"},
        {"{\"a\":{\"dtype\":4,\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "type"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8, "impossible"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2.5],\"data_offsets\":[0,8]}}", 8, "impossible"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0, "impossible"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4, "dimensions"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":{},\"data_offsets\":[0,4]}}", 4, "dimensions"},
        {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "dimensions"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
         4, "overlap"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
         4, "twice"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"shape\":[1]}}", 4, "twice"},
        {"[1]", 0, "not a JSON object"},
        {"{\"a\":3}", 0, "not an object"},
        {"{\"a\":", 0, "header"},
        {"{\"__metadata__\":[]}", 0, "__metadata__ is not an object"},
        {"{\"__metadata__\":{\"format\":3}}", 0, "'format' is not a text"},
        {"{\"\xff\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "header"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[0,4611686018427387904,4],\"data_offsets\":[0,0]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[9223372036854775807],\"data_offsets\":[0,9223372036854775807]}}",
         0, "outside"},
    };
    Safetensors *file = NULL;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        FAILS(safetensors_open(make_file(CASES[i].header, CASES[i].data_size), &file), ERR_FORMAT, CASES[i].words);
        assert_non_null(strstr(status_message(), "bad.safetensors"));
    }
    FAILS(safetensors_open(
              make_file("{\"a\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}",
                        0),
              &file),
          ERR_LIMIT, "deep");
    OK(safetensors_open(make_file("{\"__metadata__\":{\"format\":\"pt\"}}", 0), &file));
    assert_int_equal(safetensors_count(file), 0);
    const char *key = NULL, *value = NULL;
    assert_true(safetensors_metadata(file, 0, &key, &value));
    assert_string_equal(key, "format");
    assert_string_equal(value, "pt");
    assert_false(safetensors_metadata(file, 1, &key, &value));
    safetensors_close(file);

    const char *path = temp_file(&dir, "short");
    uint64_t huge = (uint64_t)1 << 60;
    OK(file_write_atomic(path, "1234567", 7));
    FAILS(safetensors_open(path, &file), ERR_FORMAT, "not a safetensors file");
    OK(file_write_atomic(path, &huge, 8));
    FAILS(safetensors_open(path, &file), ERR_FORMAT, "is it a safetensors file");
    huge = 1000;
    OK(file_write_atomic(path, &huge, 8));
    FAILS(safetensors_open(path, &file), ERR_FORMAT, "complete");
    FAILS(safetensors_open(temp_file(&dir, "absent"), &file), ERR_IO, "absent");
}

/* Every prefix of a good file is refused; no flipped bit of the header leads outside the file. */
static void test_truncation_and_noise(void **state)
{
    (void)state;
    const float data[4] = {1, 2, 3, 4};
    const SafeTensor tensors[] = {{.name = "a", .dtype = SAFE_F32, .ndim = 1, .shape = {2}, .data = data},
                                  {.name = "b", .dtype = SAFE_F32, .ndim = 1, .shape = {2}, .data = data + 2}};
    char path[256], *bytes = NULL;
    size_t size = 0;
    Safetensors *file = NULL;
    snprintf(path, sizeof path, "%s", temp_file(&dir, "noise.safetensors"));
    OK(safetensors_write(path, tensors, 2));
    OK(file_read(path, 1 << 20, &bytes, &size));
    for (size_t cut = 0; cut < size; cut++)
        assert_int_not_equal(safetensors_open_memory("cut", bytes, cut, &file), STATUS_OK);
    for (size_t at = 0; at < size - sizeof data; at++)
        for (int bit = 0; bit < 8; bit++) {
            bytes[at] = (char)(bytes[at] ^ 1 << bit);
            if (safetensors_open_memory("changed", bytes, size, &file) == STATUS_OK) {
                /* A changed name, or a type of the same size. */
                for (int32_t i = 0; i < safetensors_count(file); i++) {
                    float values[8];
                    assert_true(safetensors_get(file, i)->count <= 8);
                    safetensors_to_f32(safetensors_get(file, i), values);
                }
                safetensors_close(file);
            }
            bytes[at] = (char)(bytes[at] ^ 1 << bit);
        }
    free(bytes);
}

static void test_writer_leaves_no_half(void **state)
{
    (void)state;
    const SafeTensor declared = {.name = "a", .dtype = SAFE_F32, .ndim = 1, .shape = {2}};
    SafetensorsWriter *writer = NULL;
    char path[256];
    snprintf(path, sizeof path, "%s", temp_file(&dir, "half.safetensors"));
    OK(safetensors_writer_create(path, &declared, 1, &writer));
    assert_false(file_exists(path));
    FAILS(safetensors_writer_finish(writer), ERR_INTERNAL, "declared");
    assert_false(file_exists(path));
    OK(safetensors_writer_create(path, &declared, 1, &writer));
    safetensors_writer_abort(writer);
    char **names = NULL;
    size_t count = 0;
    OK(file_list(dir.path, &names, &count));
    for (size_t i = 0; i < count; i++) assert_null(strstr(names[i], "half.safetensors"));
    file_free_list(names, count);
    FAILS(safetensors_writer_create("/nonexistent/x", &declared, 1, &writer), ERR_IO, "/nonexistent/x");
}

/* ---- parameters ---- */

static ParamStore make_store(ParamTable **table, const char *extra)
{
    int32_t index;
    ParamStore store = {0};
    OK(param_table_create(table));
    const Param params[] = {
        {.name = "conv.weight", .shape = SHAPE4(2, 3, 3, 4), .layout = PARAM_CONV, .trainable = true},
        {.name = "qkv.weight", .shape = SHAPE2(6, 2), .layout = PARAM_CONV1D, .trainable = true},
        {.name = "frozen.table", .shape = SHAPE2(5, 2), .layout = PARAM_PLAIN},
    };
    for (int i = 0; i < 3; i++) OK(param_table_add(*table, &params[i], &index));
    if (extra != NULL)
        OK(param_table_add(*table, &(Param){.name = extra, .shape = SHAPE1(3), .trainable = true}, &index));
    OK(param_table_layout(*table, NULL, 0));
    OK(param_store_create(*table, false, &store));
    return store;
}

static void test_weights(void **state)
{
    (void)state;
    ParamTable *table = NULL, *wider = NULL;
    ParamStore store = make_store(&table, NULL);
    const WeightsFilter all = {true, true}, trainable = {true, false};
    char path[256];
    Safetensors *file = NULL;
    snprintf(path, sizeof path, "%s", temp_file(&dir, "weights.safetensors"));
    for (int32_t p = 0; p < 3; p++)
        for (int64_t e = 0; e < param_table_get(table, p)->count; e++)
            param_store_weight(&store, p)[e] = (float)(100 * p + e);
    OK(weights_save(path, &store, NULL, all, SAFE_F32));

    OK(safetensors_open(path, &file)); /* O,KH,KW,C in memory, O,C,KH,KW in the file */
    const SafeTensor *conv = safetensors_find(file, "conv.weight");
    assert_int_equal(conv->ndim, 4);
    assert_int_equal(conv->shape[1], 4);
    assert_int_equal(conv->shape[3], 3);
    float values[72];
    safetensors_to_f32(conv, values);
    for (int o = 0; o < 2; o++)
        for (int c = 0; c < 4; c++)
            for (int k = 0; k < 9; k++) assert_true(values[(o * 4 + c) * 9 + k] == (float)((o * 9 + k) * 4 + c));
    assert_int_equal(safetensors_find(file, "qkv.weight")->ndim, 3);
    safetensors_close(file);

    for (int32_t p = 0; p < 3; p++)
        memset(param_store_weight(&store, p), 0, (size_t)param_table_get(table, p)->count * sizeof(float));
    OK(weights_load(path, &store, WEIGHTS_UNET, true));
    for (int32_t p = 0; p < 3 && param_table_get(table, p)->trainable; p++)
        for (int64_t e = 0; e < param_table_get(table, p)->count; e++)
            assert_true(param_store_weight(&store, p)[e] == (float)(100 * p + e));

    OK(weights_save(path, &store, NULL, trainable, SAFE_BF16)); /* whole numbers below 256 survive */
    OK(weights_load(path, &store, WEIGHTS_UNET, false));
    assert_true(param_store_weight(&store, 1)[11] == 111.0f);
    OK(weights_save(path, &store, NULL, trainable, SAFE_F16));
    OK(weights_load(path, &store, WEIGHTS_UNET, false));
    assert_true(param_store_weight(&store, 0)[71] == 71.0f);

    OK(weights_save(path, &store, NULL, all, SAFE_F32));
    FAILS(weights_load(path, &store, WEIGHTS_UNET, false), ERR_MISMATCH, "1 unknown [frozen.table");
    OK(weights_load(path, &store, WEIGHTS_UNET, true));
    ParamStore more = make_store(&wider, "bias");
    FAILS(weights_load(path, &more, WEIGHTS_UNET, true), ERR_MISMATCH, "1 missing [bias (3)]");
    const float three[3] = {0};
    OK(safetensors_write(
        path, &(SafeTensor){.name = "bias", .dtype = SAFE_F32, .ndim = 2, .shape = {3, 1}, .data = three}, 1));
    FAILS(weights_load(path, &more, WEIGHTS_UNET, false), ERR_MISMATCH, "bias (3,1), wanted (3)");
    /* A table of whole numbers is no weight. */
    const int32_t whole[3] = {0};
    OK(safetensors_write(path, &(SafeTensor){.name = "bias", .dtype = SAFE_I32, .ndim = 1, .shape = {3}, .data = whole},
                         1));
    FAILS(weights_load(path, &more, WEIGHTS_UNET, false), ERR_MISMATCH,
          "bias (3) I32, wanted (3) F32, F16, BF16 or F64");
    param_store_free(&more);
    param_table_free(wider);
    param_store_free(&store);
    param_table_free(table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_halves),
        cmocka_unit_test(test_broken_files),
        cmocka_unit_test(test_truncation_and_noise),
        cmocka_unit_test(test_writer_leaves_no_half),
        cmocka_unit_test(test_weights),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
