/* Files: limits, atomic writes, failures that name the path and leave nothing behind. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/file.h"
#include "temp_dir.h"

static void test_read(void **state)
{
    char *data;
    size_t size;
    temp_write("a", "hello\0world", 11);
    assert_ok(file_read(temp_path("a"), 11, &data, &size));
    assert_int_equal(size, 11);
    assert_memory_equal(data, "hello\0world", 12);
    free(data);
    assert_fails(file_read(temp_path("a"), 10, &data, &size), ERR_LIMIT, "/a: 11 bytes");
    assert_null(data);
    temp_write("empty", "", 0);
    assert_ok(file_read(temp_path("empty"), 0, &data, &size));
    assert_int_equal(size, 0);
    assert_string_equal(data, "");
    free(data);
    assert_fails(file_read(temp_path("absent"), 10, &data, &size), ERR_IO, "/absent: cannot open");
    assert_fails(file_read(temp_path("."), 10, &data, &size), ERR_IO, "is a folder");
    /* A file whose size the system does not tell. */
    assert_ok(file_read("/proc/self/status", 1 << 20, &data, &size));
    assert_non_null(strstr(data, "Name:"));
    free(data);
    assert_fails(file_read("/dev/zero", 100000, &data, &size), ERR_LIMIT, "/dev/zero");
}

static void test_map(void **state)
{
    FileMap map;
    temp_write("m", "mapped", 6);
    assert_ok(file_map(temp_path("m"), &map));
    assert_int_equal(map.size, 6);
    assert_memory_equal(map.data, "mapped", 6);
    file_unmap(&map);
    file_unmap(&map);
    temp_write("none", "", 0);
    assert_ok(file_map(temp_path("none"), &map));
    assert_int_equal(map.size, 0);
    file_unmap(&map);
    assert_fails(file_map(temp_path("nowhere"), &map), ERR_IO, "nowhere");
    assert_fails(file_map(temp_path("."), &map), ERR_IO, "not a regular file");
}

static size_t files_in(const char *path)
{
    char **names;
    size_t count;
    assert_ok(file_list(path, &names, &count));
    file_free_list(names, count);
    return count;
}

static void test_write_atomic(void **state)
{
    char *data;
    size_t size;
    assert_ok(file_make_dirs(temp_path("atomic")));
    assert_ok(file_write_atomic(temp_path("atomic/x"), "one", 3));
    assert_ok(file_write_atomic(temp_path("atomic/x"), "second", 6));
    assert_ok(file_read(temp_path("atomic/x"), 100, &data, &size));
    assert_string_equal(data, "second");
    free(data);
    assert_int_equal(files_in(temp_path("atomic")), 1);
    assert_fails(file_write_atomic(temp_path("no/such/folder"), "x", 1), ERR_IO, "no/such/folder");
}

/* A write that fails halfway, as on a full disk: the old file stays, the temporary one goes. */
static void test_write_fails(void **state)
{
    struct rlimit before, small;
    char *data;
    size_t size;
    assert_ok(file_make_dirs(temp_path("limited")));
    assert_ok(file_write_atomic(temp_path("limited/x"), "old", 3));
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    small = before;
    small.rlim_cur = 1000;
    setrlimit(RLIMIT_FSIZE, &small);
    char block[5000] = {1};
    Status status = file_write_atomic(temp_path("limited/x"), block, sizeof block);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(status, ERR_IO);
    assert_non_null(strstr(status_message(), "limited/x: cannot write"));
    assert_int_equal(files_in(temp_path("limited")), 1);
    assert_ok(file_read(temp_path("limited/x"), 100, &data, &size));
    assert_string_equal(data, "old");
    free(data);
    /* The words of a full disk. */
    assert_fails(file_append_line("/dev/full", "x"), ERR_IO, "/dev/full: cannot write: no space left");
}

static void test_append(void **state)
{
    char *data;
    size_t size;
    assert_ok(file_append_line(temp_path("log"), "one"));
    assert_ok(file_append_line(temp_path("log"), "two\n"));
    assert_ok(file_append_line(temp_path("log"), ""));
    assert_ok(file_read(temp_path("log"), 100, &data, &size));
    assert_string_equal(data, "one\ntwo\n\n");
    free(data);
}

static void test_folders(void **state)
{
    assert_ok(file_make_dirs(temp_path("d/e/f")));
    assert_ok(file_make_dirs(temp_path("d/e/f/")));
    assert_true(file_is_dir(temp_path("d/e/f")));
    assert_ok(file_make_dirs("/"));
    temp_write("d/file", "x", 1);
    assert_fails(file_make_dirs(temp_path("d/file/g")), ERR_IO, "d/file");
    temp_write("d/e/2", "22", 2);
    temp_write("d/e/1", "1", 1);
    char **names;
    size_t count;
    assert_ok(file_list(temp_path("d/e"), &names, &count));
    assert_int_equal(count, 3);
    assert_string_equal(names[0], "1");
    assert_string_equal(names[1], "2");
    assert_string_equal(names[2], "f");
    file_free_list(names, count);
    assert_fails(file_list(temp_path("zz"), &names, &count), ERR_IO, "zz");
    int64_t bytes;
    assert_ok(file_size(temp_path("d/e/2"), &bytes));
    assert_int_equal(bytes, 2);
    assert_ok(file_free_space(temp_path("d"), &bytes));
    assert_true(bytes > 0);
    assert_ok(file_sync(temp_path("d")));

    assert_ok(file_rename(temp_path("d/e"), temp_path("d/moved")));
    assert_false(file_exists(temp_path("d/e")));
    assert_fails(file_rename(temp_path("d/e"), temp_path("d/x")), ERR_IO, "d/e");

    /* Removing does not follow links. */
    assert_ok(file_make_dirs(temp_path("kept")));
    temp_write("kept/precious", "x", 1);
    assert_int_equal(symlink(temp_path("kept"), temp_path("d/moved/link")), 0);
    assert_int_equal(symlink("nowhere", temp_path("d/moved/dangling")), 0);
    assert_ok(file_remove_tree(temp_path("d")));
    assert_false(file_exists(temp_path("d")));
    assert_true(file_exists(temp_path("kept/precious")));
    assert_ok(file_remove_tree(temp_path("d")));
}

/* The C library's, with another process that is faster: what is about to be removed is gone by then. */
static int faster_at = -1; /* the folder that goes on the N-th call from now; -1: none */

int unlinkat(int folder, const char *name, int flags)
{
    const int done = (int)syscall(SYS_unlinkat, folder, name, flags), error = errno;
    if (done != 0 && faster_at-- == 0) assert_int_equal(syscall(SYS_unlinkat, folder, name, AT_REMOVEDIR), 0);
    errno = error;
    return done;
}

static void test_removed_by_two(void **state)
{
    assert_ok(file_make_dirs(temp_path("two/inner")));
    faster_at = 1; /* the inner one, once it was seen to be a folder */
    assert_ok(file_remove_tree(temp_path("two")));
    assert_true(faster_at < 0);
    assert_false(file_exists(temp_path("two")));
    assert_ok(file_make_dirs(temp_path("two")));
    faster_at = 0;
    assert_ok(file_remove_tree(temp_path("two")));
    assert_true(faster_at < 0);
    assert_false(file_exists(temp_path("two")));
    faster_at = -1;
}

/* What is there already stays as it is, whatever its name. */
static void test_temporary_dir(void **state)
{
    char first[PATH_MAX], second[PATH_MAX], taken[PATH_MAX], name[64];
    unsigned number;
    assert_ok(file_make_temporary_dir(temp_path("t/deep/made//"), first, sizeof first));
    assert_true(file_is_dir(first));
    const char *begin = temp_path("t/deep/made.tmp-");
    assert_int_equal(strncmp(first, begin, strlen(begin)), 0);
    /* The name that would come next is somebody else's. */
    assert_int_equal(sscanf(strrchr(first, '-') + 1, "%u", &number), 1);
    snprintf(name, sizeof name, "t/deep/other.tmp-%ld-%u", (long)getpid(), number + 1);
    assert_ok(file_make_dirs(temp_path(name)));
    snprintf(taken, sizeof taken, "%s", temp_path(name));
    assert_ok(file_make_temporary_dir(temp_path("t/deep/other"), second, sizeof second));
    assert_string_not_equal(second, taken);
    assert_true(file_is_dir(second));
    assert_fails(file_make_temporary_dir(temp_path("t/deep/other"), second, 8), ERR_LIMIT, "too long");
    assert_ok(file_remove_tree(temp_path("t")));
}

static void test_paths(void **state)
{
    char path[16];
    assert_ok(path_join(path, sizeof path, "a/b", "c"));
    assert_string_equal(path, "a/b/c");
    assert_ok(path_join(path, sizeof path, "a/", "c"));
    assert_string_equal(path, "a/c");
    assert_ok(path_join(path, sizeof path, "", "c"));
    assert_string_equal(path, "c");
    assert_ok(path_join(path, sizeof path, "1234567", "1234567"));
    assert_fails(path_join(path, sizeof path, "12345678", "1234567"), ERR_LIMIT, "too long");
    assert_true(clock_seconds() > 0);
}

/* Threads that write the same file at the same time: each write succeeds, and the file is one of them, whole. */
static void *write_again_and_again(void *argument)
{
    static const char text[2][4] = {"aaa", "bbb"};
    int failed = 0;
    for (int i = 0; i < 100; i++) failed += file_write_atomic(argument, text[i % 2], 3) != STATUS_OK;
    return failed ? argument : NULL;
}

static void test_write_together(void **state)
{
    (void)state;
    char path[600], *data;
    size_t size;
    pthread_t threads[4];
    assert_ok(file_make_dirs(temp_path("together")));
    snprintf(path, sizeof path, "%s", temp_path("together/x"));
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&threads[i], NULL, write_again_and_again, path), 0);
    for (int i = 0; i < 4; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    assert_ok(file_read(path, 10, &data, &size));
    assert_true(strcmp(data, "aaa") == 0 || strcmp(data, "bbb") == 0);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read),           cmocka_unit_test(test_map),
        cmocka_unit_test(test_write_atomic),   cmocka_unit_test(test_write_fails),
        cmocka_unit_test(test_append),         cmocka_unit_test(test_folders),
        cmocka_unit_test(test_paths),          cmocka_unit_test(test_temporary_dir),
        cmocka_unit_test(test_write_together), cmocka_unit_test(test_removed_by_two),
    };
    return cmocka_run_group_tests(tests, temp_dir_setup, temp_dir_teardown);
}
