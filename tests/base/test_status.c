/* The error trail, and the log's lines. */
#include "check.h"

#include <pthread.h>
#include <unistd.h>

#include "base/log.h"
#include "temp_dir.h"

static Status inner(int value)
{
    Status status = STATUS_OK;
    if (value < 0) FAIL(ERR_FORMAT, "file.bin: %d is negative", value);
fail:
    return status;
}

static Status outer(int value)
{
    Status status = STATUS_OK;
    TRY(inner(value));
fail:
    return status;
}

static Status end_of_input(void)
{
    Status status = STATUS_OK;
    TRY(STATUS_END);
fail:
    return status;
}

/* Text, number, text, number, ... as a pattern's # stand for numbers; the numbers. */
static void assert_matches(const char *text, const char *pattern, long *numbers)
{
    for (; *pattern; pattern++) {
        if (*pattern == '#') {
            char *end;
            *numbers++ = strtol(text, &end, 10);
            assert_ptr_not_equal(end, text);
            text = end;
        } else
            assert_int_equal(*text++, *pattern);
    }
}

static void test_trail(void **state)
{
    assert_int_equal(outer(1), STATUS_OK);
    assert_int_equal(outer(-3), ERR_FORMAT);
    assert_string_equal(status_message(), "file.bin: -3 is negative");
    long lines[2];
    assert_matches(status_trail(), "base/test_status.c:#\nbase/test_status.c:#\n", lines);
    assert_true(lines[1] > lines[0]);
    /* The end of input is no failure: it leaves the record alone. */
    char *trail = strdup(status_trail());
    assert_int_equal(end_of_input(), STATUS_END);
    assert_string_equal(status_trail(), trail);
    free(trail);
    assert_string_equal(status_message(), "file.bin: -3 is negative");
}

static void test_prefix(void **state)
{
    outer(-1);
    status_prefix("shard %d: ", 7);
    assert_string_equal(status_message(), "shard 7: file.bin: -1 is negative");
    /* A message made from the last one. */
    assert_int_equal(status_fail(ERR_IO, "a.c", 1, "again: %s", status_message()), ERR_IO);
    assert_string_equal(status_message(), "again: shard 7: file.bin: -1 is negative");
}

static void test_long_messages(void **state)
{
    char *text = malloc(3 * STATUS_MESSAGE_MAX);
    for (int i = 0; i < STATUS_MESSAGE_MAX; i++) memcpy(text + 3 * (size_t)i, "\xe2\x82\xac", 3);
    text[3 * STATUS_MESSAGE_MAX - 3] = '\0';
    status_fail(ERR_IO, "a.c", 1, "%s", text);
    size_t length = strlen(status_message());
    assert_true(length < STATUS_MESSAGE_MAX && length > STATUS_MESSAGE_MAX - 8);
    assert_string_equal(status_message() + length - 3, "...");
    assert_int_equal((length - 3) % 3, 0); /* whole characters */
    status_prefix("%s", "before: ");
    assert_memory_equal(status_message(), "before: ", 8);
    assert_true(strlen(status_message()) < STATUS_MESSAGE_MAX);
    for (int i = 0; i < 1000; i++) status_trace(ERR_IO, "some/long/folder/name.c", i);
    assert_memory_equal(status_trail(), "a.c:1\nname.c", 6);
    assert_true(strlen(status_trail()) < 1024);
    free(text);
}

static void *fail_in_thread(void *record)
{
    status_save(outer(-9), record);
    return NULL;
}

static void test_threads(void **state)
{
    StatusRecord *record = malloc(sizeof *record);
    outer(-1);
    pthread_t thread;
    pthread_create(&thread, NULL, fail_in_thread, record);
    pthread_join(thread, NULL);
    assert_string_equal(status_message(), "file.bin: -1 is negative");
    assert_int_equal(status_restore(record), ERR_FORMAT);
    assert_string_equal(status_message(), "file.bin: -9 is negative");
    assert_non_null(strstr(status_trail(), "test_status.c"));
    free(record);
}

static void test_codes(void **state)
{
    for (int s = 0; s < STATUS_COUNT; s++) {
        assert_string_not_equal(status_name((Status)s), "unknown");
        if (s != STATUS_OK && s != STATUS_END) assert_int_not_equal(status_exit_code((Status)s), 0);
    }
    assert_int_equal(status_exit_code(ERR_CONFIG), 2);
    assert_int_equal(status_exit_code(ERR_LIMIT), 3);
    assert_int_equal(status_exit_code(ERR_MEMORY), 4);
    assert_int_equal(status_exit_code(ERR_NUMERIC), 5);
    assert_int_equal(status_exit_code(ERR_MISMATCH), 6);
    assert_int_equal(status_exit_code(ERR_INTERRUPTED), 75);
    assert_int_equal(status_exit_code(ERR_INTERNAL), 70);
}

/* --- the log --- */

static void *log_many(void *argument)
{
    for (int i = 0; i < 200; i++) log_info("thread %d line %d end", *(int *)argument, i);
    return NULL;
}

/* What the log writes while `body` runs, as a text. */
static char *captured(void (*body)(void))
{
    fflush(stderr);
    FILE *file = tmpfile();
    int saved = dup(STDERR_FILENO);
    dup2(fileno(file), STDERR_FILENO);
    body();
    dup2(saved, STDERR_FILENO);
    close(saved);
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    char *text = calloc(1, (size_t)size + 1);
    assert_int_equal(fread(text, 1, (size_t)size, file), size);
    fclose(file);
    return text;
}

static void write_levels(void)
{
    log_configure(LOG_INFO, 0, 1);
    log_debug("hidden");
    log_info("shown %d", 1);
    log_live_line("a live line"); /* no terminal: nothing */
    log_warn("with a line end\n");
    log_configure(LOG_DEBUG, 3, 4);
    log_info("rank 3 does not say this");
    log_error("rank 3 says this");
    char *big = malloc(20001);
    memset(big, 'x', 20000);
    big[20000] = '\0';
    log_error("%s", big);
    free(big);
    log_configure(LOG_INFO, 0, 1);
}

static void test_log_levels(void **state)
{
    char *text = captured(write_levels);
    int lines = 0;
    for (const char *p = text; *p; p++) lines += *p == '\n';
    assert_int_equal(lines, 4);
    assert_null(strstr(text, "hidden"));
    assert_null(strstr(text, "live"));
    assert_null(strchr(text, '\033'));
    assert_non_null(strstr(text, "info  shown 1\n"));
    assert_non_null(strstr(text, "warn  with a line end\n"));
    assert_non_null(strstr(text, "error [3] rank 3 says this\n"));
    long time[3];
    assert_matches(text, "#:#:# info  shown", time);
    assert_true(time[0] < 24 && time[1] < 60 && time[2] < 61);
    free(text);
}

static void write_from_threads(void)
{
    pthread_t threads[4];
    int names[4] = {0, 1, 2, 3};
    for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, log_many, &names[i]);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
}

static void test_log_threads(void **state)
{
    char *text = captured(write_from_threads);
    int seen[4] = {0};
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        long found[5]; /* the time, the thread, its line */
        assert_matches(line, "#:#:# info  thread # line # end", found);
        assert_true(found[3] >= 0 && found[3] < 4);
        assert_int_equal(seen[found[3]]++, found[4]);
    }
    for (int i = 0; i < 4; i++) assert_int_equal(seen[i], 200);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trail),       cmocka_unit_test(test_prefix), cmocka_unit_test(test_long_messages),
        cmocka_unit_test(test_threads),     cmocka_unit_test(test_codes),  cmocka_unit_test(test_log_levels),
        cmocka_unit_test(test_log_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
