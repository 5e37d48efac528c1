/* An array of a checkpoint in shares: read as if it were whole, in the layout of its strides; and whatever is wrong
 * with its index or its files is refused, never read past. */
#include <unistd.h>

#include "check.h"

#include "base/hdf5_file.h"
#include "model/weight_file.h"
#include "model/weight_shares.h"
#include "temp_dir.h"

/* A convolution of (O,C,KH,KW) = (3,2,2,2), which lies as O,KH,KW,C, and a bias of 5: elements 0 to 28 in memory order,
 * of which share 0 has 10. */
static const char GOOD[] = "{\"format\": 1, \"array\": \"ema\", \"shares\": 2, \"tensors\": {"
                           "\"a.conv\": {\"shape\": [3, 2, 2, 2], \"stride\": [8, 1, 4, 2], "
                           "\"pieces\": [[0, 0, 10], [1, 0, 14]]}, "
                           "\"a.bias\": {\"shape\": [5], \"stride\": [1], \"pieces\": [[1, 14, 5]]}}}";
enum { CONV = 24, BIAS = 5, FIRST_SHARE = 10 };

static void write_share(TempDir *dir, int share, H5Type type, const void *values, int64_t count)
{
    char name[WEIGHT_SHARE_NAME_MAX];
    H5File *file = NULL;
    weight_share_name(name, share, 2);
    OK(h5_create(temp_file(dir, name), &file));
    OK(h5_write(file, "ema", type, 1, &count, values));
    OK(h5_close(file));
}

static void write_shares(TempDir *dir)
{
    float values[CONV + BIAS];
    for (int i = 0; i < CONV + BIAS; i++) values[i] = (float)i;
    write_share(dir, 0, H5_F32, values, FIRST_SHARE);
    write_share(dir, 1, H5_F32, values + FIRST_SHARE, CONV + BIAS - FIRST_SHARE);
}

static const char *write_index(TempDir *dir, const char *text, size_t size)
{
    const char *path = temp_file(dir, "ema" WEIGHT_SHARES_SUFFIX);
    OK(file_write_atomic(path, text, size));
    return path;
}

static void reads_as_whole(void **state)
{
    (void)state;
    TempDir dir;
    WeightFile *file = NULL;
    float values[CONV], part[CONV], want[CONV];
    assert_int_equal(temp_dir_create(&dir), 0);
    write_shares(&dir);
    OK(weight_file_open(write_index(&dir, GOOD, sizeof GOOD - 1), &file));
    assert_int_equal(weight_file_count(file), 2);
    assert_int_equal(weight_file_format(file), WEIGHT_HDF5);
    const WeightTensor *conv = weight_file_find(file, "a.conv"), *bias = weight_file_find(file, "a.bias");
    assert_non_null(conv);
    assert_non_null(bias);
    assert_int_equal(conv->count, CONV);
    assert_null(weight_tensor_floats(conv));
    assert_null(weight_tensor_floats(bias));
    int k = 0;
    for (int o = 0; o < 3; o++)
        for (int c = 0; c < 2; c++)
            for (int y = 0; y < 2; y++)
                for (int x = 0; x < 2; x++) want[k++] = (float)(o * 8 + y * 4 + x * 2 + c);
    weight_tensor_to_f32(conv, 0, CONV, values);
    assert_memory_equal(values, want, sizeof want);
    for (int first = 0; first < CONV; first++)
        for (int count = 0; count <= CONV - first; count++) {
            weight_tensor_to_f32(conv, first, count, part);
            assert_memory_equal(part, want + first, (size_t)count * sizeof *part);
            weight_tensor_copy(conv, first, count, part);
            assert_memory_equal(part, want + first, (size_t)count * sizeof *part);
        }
    weight_tensor_release(conv);
    weight_tensor_to_f32(bias, 1, 4, part);
    for (int i = 0; i < 4; i++) assert_float_equal(part[i], CONV + 1 + i, 0);
    weight_file_close(file);
    temp_dir_remove(&dir);
}

/* In C order, cut in the middle. */
static void reads_plain_pieces(void **state)
{
    (void)state;
    static const char text[] = "{\"format\": 1, \"array\": \"ema\", \"shares\": 2, \"tensors\": {"
                               "\"w\": {\"shape\": [4, 1, 5], \"stride\": [5, 9, 1], "
                               "\"pieces\": [[1, 2, 3], [0, 9, 1], [1, 0, 16]]}}}";
    static const float want[] = {12, 13, 14, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25};
    TempDir dir;
    WeightFile *file = NULL;
    float part[20];
    assert_int_equal(temp_dir_create(&dir), 0);
    write_shares(&dir);
    OK(weight_file_open(write_index(&dir, text, sizeof text - 1), &file));
    const WeightTensor *t = weight_file_get(file, 0);
    for (int first = 0; first < 20; first++)
        for (int count = 0; count <= 20 - first; count++) {
            weight_tensor_to_f32(t, first, count, part);
            assert_memory_equal(part, want + first, (size_t)count * sizeof *part);
        }
    weight_file_close(file);
    temp_dir_remove(&dir);
}

/* GOOD with one text for another. */
static void refuse(TempDir *dir, const char *from, const char *to, Status want, const char *words)
{
    char text[2 * sizeof GOOD];
    WeightFile *file = NULL;
    const char *at = strstr(GOOD, from);
    assert_non_null(at);
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - GOOD), GOOD, to, at + strlen(from));
    FAILS(weight_file_open(write_index(dir, text, strlen(text)), &file), want, words);
}

static void refuses_indices(void **state)
{
    (void)state;
    TempDir dir;
    assert_int_equal(temp_dir_create(&dir), 0);
    write_shares(&dir);
    refuse(&dir, "\"format\": 1", "\"format\": 2", ERR_UNSUPPORTED, "format");
    refuse(&dir, "\"array\": \"ema\"", "\"array\": \"../ema\"", ERR_FORMAT, "does not name its array");
    refuse(&dir, "\"shares\": 2", "\"shares\": 99999999", ERR_FORMAT, "shares");
    refuse(&dir, "\"shares\": 2", "\"shares\": 1", ERR_IO, "share-0000-of-0001.h5");
    refuse(&dir, "[1, 0, 14]", "[2, 0, 14]", ERR_FORMAT, "share 2 of 2");
    refuse(&dir, "[1, 0, 14]", "[-1, 0, 14]", ERR_FORMAT, "share -1 of 2");
    refuse(&dir, "[1, 0, 14]", "[1, 6, 14]", ERR_FORMAT, "reaches beyond");
    refuse(&dir, "[1, 0, 14]", "[1, 9223372036854775807, 14]", ERR_FORMAT, "reaches beyond");
    refuse(&dir, "[1, 0, 14]", "[1, -1, 14]", ERR_FORMAT, "reaches beyond");
    refuse(&dir, "[1, 0, 14]", "[1, 0, 15]", ERR_FORMAT, "reaches beyond");
    refuse(&dir, "[1, 0, 14]", "[1, 0, 0]", ERR_FORMAT, "reaches beyond");
    refuse(&dir, "[1, 0, 14]", "[1, 0, 13]", ERR_FORMAT, "24 elements, its pieces have 23");
    refuse(&dir, "[8, 1, 4, 2]", "[8, 1, 4, 3]", ERR_FORMAT, "gaps");
    refuse(&dir, "[8, 1, 4, 2]", "[8, 1, 2, 2]", ERR_FORMAT, "gaps");
    refuse(&dir, "[8, 1, 4, 2]", "[8, 1, 4]", ERR_FORMAT, "strides");
    refuse(&dir, "[3, 2, 2, 2]", "[3, 2, 0, 2]", ERR_FORMAT, "shape");
    refuse(&dir, "[3, 2, 2, 2]", "[3037000500, 3037000500, 2, 2]", ERR_FORMAT, "impossible shape");
    refuse(&dir, "\"a.bias\"", "\"a.conv\"", ERR_FORMAT, "twice");
    temp_dir_remove(&dir);
}

static void refuses_files(void **state)
{
    (void)state;
    static const double wide[CONV] = {0};
    TempDir dir;
    WeightFile *file = NULL;
    char name[WEIGHT_SHARE_NAME_MAX];
    assert_int_equal(temp_dir_create(&dir), 0);
    write_shares(&dir);
    weight_share_name(name, 1, 2);
    assert_int_equal(truncate(temp_file(&dir, name), 300), 0);
    assert_int_not_equal(weight_file_open(write_index(&dir, GOOD, sizeof GOOD - 1), &file), STATUS_OK);
    assert_int_equal(remove(temp_file(&dir, name)), 0);
    FAILS(weight_file_open(write_index(&dir, GOOD, sizeof GOOD - 1), &file), ERR_IO, name);
    write_share(&dir, 1, H5_F64, wide, CONV);
    FAILS(weight_file_open(write_index(&dir, GOOD, sizeof GOOD - 1), &file), ERR_FORMAT, "another type");
    temp_dir_remove(&dir);
}

/* Every cut and every flipped byte is refused or read, never past what is there. */
static void bears_damage(void **state)
{
    (void)state;
    TempDir dir;
    float values[CONV];
    assert_int_equal(temp_dir_create(&dir), 0);
    write_shares(&dir);
    for (size_t i = 0; i < 2 * (sizeof GOOD - 1); i++) {
        char text[sizeof GOOD];
        const size_t at = i / 2;
        WeightFile *file = NULL;
        memcpy(text, GOOD, sizeof GOOD);
        text[at] ^= 0x13;
        if (weight_file_open(write_index(&dir, text, i % 2 ? at : sizeof GOOD - 1), &file) != STATUS_OK) continue;
        for (int32_t k = 0; k < weight_file_count(file); k++) {
            const WeightTensor *t = weight_file_get(file, k);
            weight_tensor_to_f32(t, 0, t->count < CONV ? t->count : CONV, values);
        }
        weight_file_close(file);
    }
    temp_dir_remove(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_as_whole), cmocka_unit_test(reads_plain_pieces), cmocka_unit_test(refuses_indices),
        cmocka_unit_test(refuses_files),  cmocka_unit_test(bears_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
