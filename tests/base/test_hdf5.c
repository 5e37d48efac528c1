/* HDF5 files: values and shapes come back, wrong files and wrong questions are refused, a full disk is an error and
 * nothing worse. */
#include "check.h"

#include <fcntl.h>
#include <hdf5.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/hdf5_file.h"
#include "temp_dir.h"

static void test_round_trip(void **state)
{
    static const H5Type TYPES[] = {H5_F32, H5_F64, H5_I32, H5_I64, H5_U8, H5_BF16_BITS, H5_F16_BITS};
    static const size_t SIZES[] = {4, 8, 4, 8, 1, 2, 2};
    const char *path = temp_path("all.h5");
    unsigned char data[24 * 8], back[24 * 8];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (unsigned char)(i * 7 + 1);
    H5File *file;
    char name[64];
    assert_ok(h5_create(path, &file));
    for (size_t t = 0; t < 7; t++) {
        snprintf(name, sizeof name, "group/%zu/values", t);
        assert_ok(h5_write(file, name, TYPES[t], 3, (int64_t[]){2, 3, 4}, data));
    }
    assert_ok(h5_write(file, "scalar", H5_I64, 0, NULL, data));
    assert_ok(h5_write(file, "empty", H5_F32, 2, (int64_t[]){0, 5}, NULL));
    assert_ok(h5_close(file));
    assert_ok(h5_open(path, &file));
    H5Type type;
    int ndim;
    int64_t dims[H5_MAX_DIMS];
    for (size_t t = 0; t < 7; t++) {
        snprintf(name, sizeof name, "group/%zu/values", t);
        assert_ok(h5_shape(file, name, &type, &ndim, dims));
        assert_int_equal(type, TYPES[t]);
        assert_int_equal(ndim, 3);
        assert_true(dims[0] == 2 && dims[1] == 3 && dims[2] == 4);
        memset(back, 0, sizeof back);
        assert_ok(h5_read(file, name, TYPES[t], 24, back));
        assert_memory_equal(back, data, 24 * SIZES[t]);
    }
    assert_ok(h5_shape(file, "scalar", &type, &ndim, dims));
    assert_int_equal(ndim, 0);
    assert_ok(h5_read(file, "scalar", H5_I64, 1, back));
    assert_memory_equal(back, data, 8);
    assert_ok(h5_shape(file, "empty", &type, &ndim, dims));
    assert_true(ndim == 2 && dims[0] == 0 && dims[1] == 5);
    assert_ok(h5_read(file, "empty", H5_F32, 0, NULL));

    char **names;
    size_t count;
    assert_ok(h5_list(file, &names, &count));
    assert_int_equal(count, 9);
    assert_string_equal(names[0], "empty");
    assert_string_equal(names[1], "group/0/values");
    assert_string_equal(names[8], "scalar");
    file_free_list(names, count);

    /* Wrong questions. */
    assert_fails(h5_shape(file, "absent", &type, &ndim, dims), ERR_FORMAT, "all.h5: has no dataset absent");
    assert_fails(h5_shape(file, "group/absent/x", &type, &ndim, dims), ERR_FORMAT, "has no dataset group/absent/x");
    assert_fails(h5_shape(file, "group", &type, &ndim, dims), ERR_FORMAT, "group");
    assert_fails(h5_shape(file, "", &type, &ndim, dims), ERR_FORMAT, "cannot be the name");
    assert_fails(h5_shape(file, "/scalar", &type, &ndim, dims), ERR_FORMAT, "cannot be the name");
    assert_fails(h5_read(file, "scalar", H5_I32, 1, back), ERR_FORMAT, "scalar is int64, wanted int32");
    assert_fails(h5_read(file, "group/5/values", H5_F16_BITS, 24, back), ERR_FORMAT, "is bfloat16, wanted float16");
    assert_fails(h5_read(file, "group/0/values", H5_F32, 23, back), ERR_FORMAT, "has 24 elements, wanted 23");
    assert_fails(h5_write(file, "more", H5_F32, 0, NULL, data), ERR_IO, "more");
    (void)h5_close(file);
    assert_ok(h5_close(NULL));
}

/* Datasets written in pieces are found in the file where h5_locate says, byte for byte. */
static void test_rows(void **state)
{
    const char *path = temp_path("rows.h5");
    uint16_t data[7][3], back[7][3];
    for (int i = 0; i < 21; i++) data[i / 3][i % 3] = (uint16_t)(i * 1000 + 1);
    H5File *file;
    assert_ok(h5_create(path, &file));
    assert_ok(h5_declare(file, "a/halves", H5_F16_BITS, 2, (int64_t[]){7, 3}));
    assert_ok(h5_declare(file, "none", H5_I64, 2, (int64_t[]){0, 3}));
    assert_ok(h5_write_rows(file, "a/halves", 4, 3, data[4]));
    assert_ok(h5_write_rows(file, "a/halves", 0, 4, data[0]));
    assert_ok(h5_write_rows(file, "none", 0, 0, NULL));
    assert_ok(h5_declare(file, "forgotten", H5_F32, 1, (int64_t[]){5}));
    assert_ok(h5_close(file));

    int64_t dims[2] = {-1, 3}, offset;
    assert_ok(h5_open(path, &file));
    assert_ok(h5_read(file, "a/halves", H5_F16_BITS, 21, back));
    assert_memory_equal(back, data, sizeof data);
    assert_ok(h5_locate(file, "a/halves", H5_F16_BITS, 2, dims, &offset));
    assert_int_equal(dims[0], 7);
    int fd = open(path, O_RDONLY);
    memset(back, 0, sizeof back);
    assert_int_equal(pread(fd, back, sizeof back, offset), sizeof back);
    close(fd);
    assert_memory_equal(back, data, sizeof data);
    dims[0] = -1;
    assert_ok(h5_locate(file, "none", H5_I64, 2, dims, &offset));
    assert_int_equal(dims[0], 0);
    dims[0] = 8;
    assert_fails(h5_locate(file, "a/halves", H5_F16_BITS, 2, dims, &offset), ERR_FORMAT, "is 7, wanted 8");
    assert_fails(h5_locate(file, "a/halves", H5_BF16_BITS, 2, dims, &offset), ERR_FORMAT, "another type");
    dims[0] = 5;
    assert_fails(h5_locate(file, "forgotten", H5_F32, 1, dims, &offset), ERR_FORMAT, "was not written");
    assert_ok(h5_close(file));

    /* Of another maker: in chunks, or in the other byte order. */
    hid_t id = H5Fcreate(temp_path("other.h5"), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hid_t space = H5Screate_simple(1, (hsize_t[]){4}, NULL), list = H5Pcreate(H5P_DATASET_CREATE);
    hid_t big = H5Dcreate2(id, "big", H5T_STD_I32BE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Pset_chunk(list, 1, (hsize_t[]){2});
    hid_t chunks = H5Dcreate2(id, "chunks", H5T_STD_I32LE, space, H5P_DEFAULT, list, H5P_DEFAULT);
    H5Dwrite(big, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, (int32_t[]){1, 2, 3, 4});
    H5Dwrite(chunks, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, (int32_t[]){1, 2, 3, 4});
    H5Dclose(big);
    H5Dclose(chunks);
    H5Pclose(list);
    H5Sclose(space);
    H5Fclose(id);
    dims[0] = 4;
    assert_ok(h5_open(temp_path("other.h5"), &file));
    assert_fails(h5_locate(file, "big", H5_I32, 1, dims, &offset), ERR_FORMAT, "not little-endian");
    assert_fails(h5_locate(file, "chunks", H5_I32, 1, dims, &offset), ERR_FORMAT, "not contiguous");
    assert_ok(h5_close(file));
}

/* The same arrays make the same bytes whenever they are written: a hash of the file says whether they differ. */
static void test_same_bytes(void **state)
{
    char *data[2];
    size_t size[2];
    for (int i = 0; i < 2; i++) {
        const char *path = temp_path(i ? "again.h5" : "once.h5");
        H5File *file;
        assert_ok(h5_create(path, &file));
        assert_ok(h5_write(file, "group/sub/x", H5_F32, 1, (int64_t[]){2}, (float[]){1, 2}));
        assert_ok(h5_write(file, "bits", H5_BF16_BITS, 1, (int64_t[]){2}, (uint16_t[]){1, 2}));
        assert_ok(h5_write_text(file, "config", "text", 4));
        assert_ok(h5_close(file));
        assert_ok(file_read(path, 1 << 20, &data[i], &size[i]));
        if (i == 0) usleep(1100000); /* times are kept in seconds */
    }
    assert_int_equal(size[0], size[1]);
    assert_memory_equal(data[0], data[1], size[0]);
    free(data[0]);
    free(data[1]);
}

static void test_refuses_shapes(void **state)
{
    H5File *file;
    int64_t nine[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    assert_ok(h5_create(temp_path("shapes.h5"), &file));
    assert_fails(h5_write(file, "x", H5_F32, 2, (int64_t[]){INT64_C(1) << 32, INT64_C(1) << 32}, NULL), ERR_LIMIT, "x");
    assert_fails(h5_write(file, "x", H5_F64, 1, (int64_t[]){INT64_C(1) << 61}, NULL), ERR_LIMIT, "x");
    assert_fails(h5_write(file, "x", H5_F32, 1, (int64_t[]){-1}, NULL), ERR_LIMIT, "x");
    assert_fails(h5_write(file, "x", H5_F32, 9, nine, NULL), ERR_LIMIT, "9 dimensions");
    assert_int_equal(h5_close(file), ERR_LIMIT); /* closing repeats the first failure */
}

static void test_texts(void **state)
{
    /* Attributes above 64 KiB are stored in another way inside. */
    static const size_t SIZES[] = {0, 1, 5, 65000, 66000, 1000000};
    const char *path = temp_path("text.h5");
    char *text = malloc(1000000), *back;
    size_t size;
    for (size_t i = 0; i < 1000000; i++) text[i] = (char)(i % 251);
    H5File *file;
    char name[32];
    assert_ok(h5_create(path, &file));
    for (size_t i = 0; i < 6; i++) {
        snprintf(name, sizeof name, "text %zu", i);
        assert_ok(h5_write_text(file, name, text, SIZES[i]));
    }
    assert_ok(h5_close(file));
    assert_ok(h5_open(path, &file));
    for (size_t i = 0; i < 6; i++) {
        snprintf(name, sizeof name, "text %zu", i);
        assert_ok(h5_read_text(file, name, &back, &size));
        assert_int_equal(size, SIZES[i]);
        assert_memory_equal(back, text, size);
        assert_int_equal(back[size], 0);
        free(back);
    }
    assert_fails(h5_read_text(file, "absent", &back, &size), ERR_FORMAT, "has no text absent");
    assert_ok(h5_close(file));
    free(text);
}

static void test_refuses_files(void **state)
{
    H5File *file;
    const char *path = temp_path("exists.h5");
    assert_ok(h5_create(path, &file));
    assert_ok(h5_write(file, "x", H5_F32, 1, (int64_t[]){2}, (float[]){1, 2}));
    assert_ok(h5_close(file));
    assert_fails(h5_create(path, &file), ERR_IO, "exists already");
    assert_null(file);
    assert_fails(h5_open(temp_path("gone.h5"), &file), ERR_IO, "gone.h5: cannot open");
    assert_fails(h5_create(temp_path("no/folder.h5"), &file), ERR_IO, "no/folder.h5: cannot create");
    temp_write("text.bin", "hello", 5);
    assert_fails(h5_open(temp_path("text.bin"), &file), ERR_FORMAT, "not an HDF5 file");
    temp_write("empty.bin", "", 0);
    assert_fails(h5_open(temp_path("empty.bin"), &file), ERR_FORMAT, "not an HDF5 file (0 bytes)");

    /* Cut short, and with each of its bytes changed: an error or the right values, never a crash. */
    char *data;
    size_t size;
    assert_ok(file_read(path, 1 << 20, &data, &size));
    for (size_t cut = 8; cut < size; cut += 16) {
        temp_write("cut.h5", data, cut);
        if (h5_open(temp_path("cut.h5"), &file) == STATUS_OK) {
            float x[2];
            assert_int_not_equal(h5_read(file, "x", H5_F32, 2, x), STATUS_OK);
            (void)h5_close(file);
        }
    }
    free(data);
}

static void test_foreign(void **state)
{
    /* What others may put into a file: links elsewhere, types and layouts that are none of ours. */
    const char *path = temp_path("foreign.h5");
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    hid_t id = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hsize_t extent[1] = {4};
    hid_t space = H5Screate_simple(1, extent, NULL), layout = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_external(layout, "/etc/passwd", 0, 16);
    H5Dclose(H5Dcreate2(id, "outside", H5T_NATIVE_FLOAT, space, H5P_DEFAULT, layout, H5P_DEFAULT));
    H5Dclose(H5Dcreate2(id, "plain16", H5T_NATIVE_UINT16, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Dclose(H5Dcreate2(id, "good", H5T_NATIVE_FLOAT, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Dclose(H5Dcreate2(id, "big_endian", H5T_STD_I32BE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Lcreate_external("/tmp/other.h5", "x", id, "elsewhere", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_soft("/good", id, "soft", H5P_DEFAULT, H5P_DEFAULT);
    H5Gclose(H5Gcreate2(id, "g", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Lcreate_hard(id, "/", id, "g/loop", H5P_DEFAULT, H5P_DEFAULT);
    H5Sclose(space);
    H5Pclose(layout);
    H5Fclose(id);
    H5File *file;
    H5Type type;
    int ndim;
    int64_t dims[H5_MAX_DIMS];
    assert_ok(h5_open(path, &file));
    assert_fails(h5_shape(file, "outside", &type, &ndim, dims), ERR_FORMAT, "lies in other files");
    assert_fails(h5_shape(file, "elsewhere", &type, &ndim, dims), ERR_FORMAT, "is a link elsewhere");
    assert_fails(h5_shape(file, "soft", &type, &ndim, dims), ERR_FORMAT, "is a link elsewhere");
    assert_fails(h5_shape(file, "plain16", &type, &ndim, dims), ERR_FORMAT, "has a type that is none of");
    assert_ok(h5_shape(file, "good", &type, &ndim, dims));
    assert_ok(h5_shape(file, "big_endian", &type, &ndim, dims));
    assert_int_equal(type, H5_I32);
    char **names;
    size_t count;
    assert_fails(h5_list(file, &names, &count), ERR_LIMIT, "too deep");
    assert_ok(h5_close(file));
}

/* --- a disk that fills up: a limit on the size of files, in a process of its own --- */

static bool is_open_anywhere(const char *path)
{
    char link[64], target[600];
    for (int fd = 0; fd < 100; fd++) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, target, sizeof target - 1);
        if (n <= 0) continue;
        target[n] = '\0';
        if (strncmp(target, path, strlen(path)) == 0) return true;
    }
    return false;
}

/* The library loses a few hundred bytes when a write fails; only LeakSanitizer, where it is linked in, minds. */
void __lsan_disable(void) __attribute__((weak));

/* 0: as promised; else a number that names what was not. `restore`: the limit is gone when the file is closed. */
static int fill_disk(const char *path, const char *second, rlim_t limit, bool restore)
{
    static float data[30000];
    int64_t dims[2] = {100, 300};
    struct rlimit before, small;
    H5File *file;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    small = before;
    small.rlim_cur = limit;
    setrlimit(RLIMIT_FSIZE, &small);
    Status status = h5_create(path, &file);
    if (status == STATUS_OK) {
        char name[32];
        for (int i = 0; i < 10 && status == STATUS_OK; i++) {
            snprintf(name, sizeof name, "layer/%d", i);
            status = h5_write(file, name, H5_F32, 2, dims, data);
        }
        if (status == STATUS_OK) status = h5_write_text(file, "config", (const char *)data, 100000);
        bool failed_before = status != STATUS_OK;
        if (restore) setrlimit(RLIMIT_FSIZE, &before);
        Status closed = h5_close(file);
        if (failed_before && closed == STATUS_OK) return 1;
        if (closed != STATUS_OK && (closed != ERR_IO || !strstr(status_message(), path))) return 2;
        if (closed == STATUS_OK && limit < 1200000) return 3;
        if (is_open_anywhere(path)) return 4;
    }
    setrlimit(RLIMIT_FSIZE, &before);
    if (unlink(path) != 0) return 5;
    /* And the library still works: the next checkpoint. */
    if (h5_create(second, &file) != STATUS_OK || h5_write(file, "x", H5_F32, 2, dims, data) != STATUS_OK ||
        h5_close(file) != STATUS_OK || unlink(second) != 0)
        return 6;
    return 0;
}

static void test_full_disk(void **state)
{
    static const rlim_t LIMITS[] = {0,      1,      48,      96,      200,     1000,    2048,    3000,   119000,
                                    125000, 600000, 1199000, 1201000, 1203000, 1210000, 1299000, 1500000};
    const char *first = temp_path("full.h5"), *second = temp_path("second.h5");
    for (size_t i = 0; i < sizeof LIMITS / sizeof LIMITS[0]; i++) {
        for (int restore = 0; restore < 2; restore++) {
            fflush(NULL);
            pid_t child = fork();
            if (child == 0) {
                if (__lsan_disable) __lsan_disable();
                int result = fill_disk(first, second, LIMITS[i], restore);
                /* Through exit(3) rather than _exit(2): the library's clean-up must not abort. */
                exit(result);
            }
            int result = -1;
            assert_true(child > 0 && waitpid(child, &result, 0) == child);
            if (!WIFEXITED(result) || WEXITSTATUS(result) != 0)
                fail_msg("limit %ld: child ended with %d, signal %d", (long)LIMITS[i], WEXITSTATUS(result),
                         WTERMSIG(result));
            (void)unlink(first);
            (void)unlink(second);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full_disk), /* first: its processes then begin with an untouched library */
        cmocka_unit_test(test_round_trip),     cmocka_unit_test(test_rows),  cmocka_unit_test(test_same_bytes),
        cmocka_unit_test(test_refuses_shapes), cmocka_unit_test(test_texts), cmocka_unit_test(test_refuses_files),
        cmocka_unit_test(test_foreign),
    };
    return cmocka_run_group_tests(tests, temp_dir_setup, temp_dir_teardown);
}
