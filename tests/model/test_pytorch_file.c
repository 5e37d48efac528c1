/* Files of torch.save, made by tests/goldens/make_weight_files.py: every tensor is read to the bit. */
#include "check.h"
#include "model/crc32.h"
#include "model/weight_file.h"
#include "temp_dir.h"

#define FOLDER TEST_SOURCE_DIR "/model/weights/"

/* The reader's tensors are those of the safetensors file beside it: names, types, shapes, bytes. */
static void compare(const char *name, WeightFormat format)
{
    char path[512];
    WeightFile *file = NULL, *expected = NULL;
    snprintf(path, sizeof path, FOLDER "%s.pt", name);
    OK(weight_file_open(path, &file));
    snprintf(path, sizeof path, FOLDER "%s.safetensors", name);
    OK(weight_file_open(path, &expected));
    assert_int_equal(weight_file_format(file), format);
    for (int32_t i = 0; i < weight_file_count(expected); i++) {
        const WeightTensor *want = weight_file_get(expected, i), *have = weight_file_find(file, want->name);
        if (!have) {
            fail_msg("%s: %s is missing", name, want->name);
            return;
        }
        assert_string_equal(safe_dtype_name(have->dtype), safe_dtype_name(want->dtype));
        assert_int_equal(have->ndim, want->ndim);
        for (int32_t d = 0; d < want->ndim; d++) assert_int_equal(have->shape[d], want->shape[d]);
        size_t size = (size_t)want->count * safe_dtype_size(want->dtype);
        uint8_t *bytes = mem_alloc_array(size + 1, 1);
        /* In two pieces, which meet within a row. */
        int64_t half = want->count / 2;
        weight_tensor_copy(have, 0, half, bytes);
        weight_tensor_copy(have, half, want->count - half, bytes + (size_t)half * safe_dtype_size(want->dtype));
        if (size > 0 && memcmp(bytes, want->data, size) != 0) fail_msg("%s: %s has other values", name, want->name);
        float *a = mem_alloc_array((size_t)want->count + 1, sizeof *a);
        float *b = mem_alloc_array((size_t)want->count + 1, sizeof *b);
        weight_tensor_to_f32(have, 0, want->count, a);
        weight_tensor_to_f32(want, 0, want->count, b);
        assert_memory_equal(a, b, (size_t)want->count * sizeof *a);
        weight_tensor_release(have);
        free(a);
        free(b);
        free(bytes);
    }
    for (int32_t i = 0; i < weight_file_count(file); i++)
        if (!weight_file_find(expected, weight_file_get(file, i)->name))
            fail_msg("%s: %s is too many", name, weight_file_get(file, i)->name);
    weight_file_close(file);
    weight_file_close(expected);
}

static void test_zip(void **state)
{
    static const char *const names[] = {"plain",     "views",     "module",   "parameters", "lightning",
                                        "protocol4", "protocol5", "unsigned", "many",       "tensor"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) compare(names[i], WEIGHT_PYTORCH_ZIP);
}

static void test_legacy(void **state)
{
    compare("legacy_plain", WEIGHT_PYTORCH_LEGACY);
    compare("legacy_views", WEIGHT_PYTORCH_LEGACY);
    compare("legacy_lightning", WEIGHT_PYTORCH_LEGACY);
    compare("legacy_protocol4", WEIGHT_PYTORCH_LEGACY); /* its pickles are in frames */
}

static const char *metadata(const WeightFile *file, const char *wanted)
{
    const char *key, *value;
    for (int32_t i = 0; weight_file_metadata(file, i, &key, &value); i++)
        if (strcmp(key, wanted) == 0) return value;
    return NULL;
}

static void test_metadata(void **state)
{
    WeightFile *file = NULL;
    OK(weight_file_open(FOLDER "lightning.pt", &file));
    assert_string_equal(metadata(file, "epoch"), "3");
    assert_string_equal(metadata(file, "pytorch-lightning_version"), "1.4.2");
    assert_non_null(strstr(metadata(file, "passed over"), "__main__.Foreign"));
    assert_non_null(strstr(metadata(file, "passed over"), "torch.device"));
    assert_null(weight_file_find(file, "hyper_parameters"));
    weight_file_close(file);
}

/* A transposed tensor is a view of the same bytes, not a copy; its floats are not in C order. */
static void test_views_are_in_place(void **state)
{
    WeightFile *file = NULL;
    OK(weight_file_open(FOLDER "views.pt", &file));
    const WeightTensor *base = weight_file_find(file, "base"), *transposed = weight_file_find(file, "transposed");
    assert_ptr_equal(base->data, transposed->data);
    assert_non_null(weight_tensor_floats(base));
    assert_null(weight_tensor_floats(transposed));
    assert_ptr_equal(weight_tensor_floats(weight_file_find(file, "rows")), (const float *)base->data + 16);
    weight_file_close(file);
}

static void test_whole_module(void **state)
{
    WeightFile *file = NULL;
    FAILS(weight_file_open(FOLDER "whole_module.pt", &file), ERR_FORMAT, "torch.nn.modules.container.Sequential");
    assert_non_null(strstr(status_message(), "state_dict()"));
    FAILS(weight_file_open(FOLDER "negated.pt", &file), ERR_UNSUPPORTED, "lazily negated");
}

/* A folder in parts, as Hugging Face saves large models. */
static void test_parts(void **state)
{
    TempDir dir = {0};
    char part[300], index[300];
    WeightFile *file = NULL;
    float a[3] = {1, 2, 3}, b[2] = {4, 5};
    assert_int_equal(temp_dir_create(&dir), 0);
    SafeTensor one = {.name = "a", .dtype = SAFE_F32, .ndim = 1, .shape = {3}, .count = 3, .data = a};
    SafeTensor two = {.name = "b", .dtype = SAFE_F32, .ndim = 1, .shape = {2}, .count = 2, .data = b};
    snprintf(part, sizeof part, "%s/one.safetensors", dir.path);
    OK(safetensors_write(part, &one, 1));
    snprintf(part, sizeof part, "%s/two.safetensors", dir.path);
    OK(safetensors_write(part, &two, 1));
    snprintf(index, sizeof index, "%s/model.safetensors.index.json", dir.path);
    static const char good[] = "{\"weight_map\": {\"a\": \"one.safetensors\", \"b\": \"two.safetensors\"}}";
    OK(file_write_atomic(index, good, sizeof good - 1));
    OK(weight_file_open(dir.path, &file));
    assert_int_equal(weight_file_count(file), 2);
    assert_int_equal(weight_file_find(file, "b")->count, 2);
    weight_file_close(file);

    static const char missing[] = "{\"weight_map\": {\"a\": \"one.safetensors\", \"c\": \"two.safetensors\"}}";
    OK(file_write_atomic(index, missing, sizeof missing - 1));
    FAILS(weight_file_open(index, &file), ERR_FORMAT, "'c' is in none");
    static const char outside[] = "{\"weight_map\": {\"a\": \"../one.safetensors\"}}";
    OK(file_write_atomic(index, outside, sizeof outside - 1));
    FAILS(weight_file_open(dir.path, &file), ERR_FORMAT, "same folder");
    temp_dir_remove(&dir);
}

/* One bit of one value: read as it is, found out by its checksum. */
static void test_damage(void **state)
{
    TempDir dir = {0};
    WeightFile *file = NULL;
    char *bytes = NULL;
    size_t size;
    assert_int_equal(crc32_add(crc32_add(0, "12345", 5), "6789", 4), 0xcbf43926); /* the standard's check value */
    assert_int_equal(temp_dir_create(&dir), 0);
    OK(weight_file_open(FOLDER "plain.pt", &file));
    OK(weight_file_verify(file));
    weight_file_close(file);
    OK(file_read(FOLDER "views.pt", 1 << 20, &bytes, &size));
    OK(file_write_atomic(temp_file(&dir, "views.pt"), bytes, size));
    OK(weight_file_open(dir.file, &file));
    OK(weight_file_verify(file));
    float first = weight_tensor_floats(weight_file_find(file, "base"))[5];
    weight_file_close(file);
    char *value = memmem(bytes, size, &first, sizeof first);
    assert_non_null(value);
    value[1] ^= 4;
    OK(file_write_atomic(dir.file, bytes, size));
    OK(weight_file_open(dir.file, &file));
    FAILS(weight_file_verify(file), ERR_FORMAT, "views/data/0 is damaged");
    weight_file_close(file);
    free(bytes);
    temp_dir_remove(&dir);
}

static void test_mistaken_files(void **state)
{
    static const struct {
        const char *bytes, *words;
    } cases[] = {
        {"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"},
        {"<!DOCTYPE html>", "web page"},
        {"PK\x03\x04 and then nothing", "is it complete"},
        {"short", "neither safetensors"},
        {"{\"architectures\": []}", "a JSON file"},
        {"\x1f\x8b\x08 and the rest", "gunzip"},
        {"GGUF and the rest", "neither safetensors"},
        {"\x80\x02" /* of pickle.dump */
         "cos\nsystem\nU\x04true\x85R.",
         "os.system"},
    };
    TempDir dir = {0};
    WeightFile *file = NULL;
    assert_int_equal(temp_dir_create(&dir), 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        OK(file_write_atomic(temp_file(&dir, "x.pt"), cases[i].bytes, strlen(cases[i].bytes)));
        FAILS(weight_file_open(dir.file, &file), ERR_FORMAT, cases[i].words);
    }
    FAILS(weight_file_open(dir.path, &file), ERR_IO, "a folder without");
    temp_dir_remove(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zip),
        cmocka_unit_test(test_legacy),
        cmocka_unit_test(test_metadata),
        cmocka_unit_test(test_views_are_in_place),
        cmocka_unit_test(test_whole_module),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_mistaken_files),
        cmocka_unit_test(test_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
