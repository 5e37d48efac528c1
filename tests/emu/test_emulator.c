/* The emulated device finds what it is there to find: planted_run makes one mistake a process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#ifdef __SANITIZE_ADDRESS__
static const bool with_asan = true;
#else
static const bool with_asan = false;
#endif

static const char *const schedules[] = {"forward", "reverse", "random"};
static char said[1 << 16]; /* what the last run printed */

/* Exit status, 128 + signal where one ended it. */
static int run(const char *settings, const char *what)
{
    char command[1024];
    /* What these runs leave allocated is no matter. */
    assert_true(snprintf(command, sizeof command, "ASAN_OPTIONS=detect_leaks=0 %s %s %s 2>&1", settings, PLANTED_RUN,
                         what) < (int)sizeof command);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t size = 0, got;
    while ((got = fread(said + size, 1, sizeof said - 1 - size, pipe)) > 0) size += got;
    said[size] = '\0';
    const int status = pclose(pipe);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void says(const char *words)
{
    if (strstr(said, words)) return;
    print_error("expected: %s\nsaid: %s\n", words, said);
    fail();
}

static void fails_with(const char *what, const char *words)
{
    assert_int_not_equal(run("", what), 0);
    says(words);
}

static int wrong_schedules(const char *what)
{
    int wrong = 0;
    for (int i = 0; i < 3; i++) {
        char settings[64];
        snprintf(settings, sizeof settings, "VASILY_EMU_SCHEDULE=%s", schedules[i]);
        assert_int_equal(run(settings, what), 0);
        wrong += strcmp(said, "wrong\n") == 0;
    }
    return wrong;
}

static void right_kernels_are_right(void **state)
{
    assert_int_equal(wrong_schedules("nothing"), 0);
    says("right");
}

static void a_missing_barrier_shows(void **state)
{
    assert_true(wrong_schedules("missing_barrier") > 0);
}

static void shared_memory_starts_as_nan(void **state)
{
    assert_int_equal(wrong_schedules("stale_shared"), 3);
}

static void divergent_barriers_are_reported(void **state)
{
    fails_with("divergent", "row_sums<PLANTED_DIVERGENT>");
    says("divergent barrier");
    says("planted.cu:");
    fails_with("lonely", "divergent barrier");
    says("__syncwarp");
}

static void shuffles_of_ended_lanes_are_reported(void **state)
{
    fails_with("ended_lane", "a shuffle reads a lane");
}

static void bad_launches_are_reported(void **state)
{
    assert_int_equal(run("", "bad_launch"), 0);
    says("launch of fill <<<");
    says("cudaErrorInvalidConfiguration\ncudaErrorInvalidConfiguration\ncudaSuccess\ncudaErrorInvalidConfiguration\n");
    says("dynamic shared memory");
}

static void overruns_of_global_memory(void **state)
{
    if (with_asan) {
        fails_with("global_overrun", "AddressSanitizer");
        says("planted.cu:");
    } else {
        fails_with("global_overrun", "memory behind an allocation was written to");
    }
}

static void overruns_of_shared_memory(void **state)
{
    if (!with_asan) skip();
    fails_with("static_overrun", "planted.cu:");
    says("AddressSanitizer");
    fails_with("dynamic_overrun", "AddressSanitizer");
    says("planted.cu:");
}

static void host_and_device_memory_are_apart(void **state)
{
    fails_with("host_pointer", "argument 0 of fill is");
    const int status = run("", "host_touch");
    assert_true(with_asan ? status != 0 && strstr(said, "SEGV") != NULL : status == 128 + SIGSEGV);
    assert_int_equal(run("", "wrong_kind"), 0);
    says("cudaErrorInvalidValue\n");
}

static void memory_is_counted(void **state)
{
    assert_int_equal(run("VASILY_EMU_MEMORY=10000", "memory"), 0);
    assert_string_equal(said, "10000 10000\nfresh\n6000 10000\ncudaErrorMemoryAllocation 1\n10000 10000\n");
}

static void recordings_keep_arguments_and_read_memory(void **state)
{
    for (int lazy = 0; lazy < 3; lazy++) {
        char settings[64];
        snprintf(settings, sizeof settings, "VASILY_EMU_LAZY=%d", lazy);
        assert_int_equal(run(settings, "recording"), 0);
        assert_string_equal(said, "nothing 21 31\n");
    }
}

static void mistakes_while_recording(void **state)
{
    assert_int_equal(run("", "capture_mistakes"), 0);
    says("cudaErrorStreamCaptureUnsupported cudaErrorStreamCaptureInvalidated\n");
    says("cudaErrorStreamCaptureUnjoined\ncudaSuccess\n");
}

static void missing_waits_show_when_work_is_late(void **state)
{
    run("VASILY_EMU_LAZY=1", "send_early");
    assert_string_equal(said, "wrong\n");
    run("VASILY_EMU_LAZY=1", "send");
    assert_string_equal(said, "right\n");
    run("VASILY_EMU_LAZY=2", "send_again_early");
    assert_string_equal(said, "wrong\n");
    for (int lazy = 0; lazy < 3; lazy++) {
        char settings[64];
        snprintf(settings, sizeof settings, "VASILY_EMU_LAZY=%d", lazy);
        run(settings, "send_again");
        assert_string_equal(said, "right\n");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(right_kernels_are_right),
        cmocka_unit_test(a_missing_barrier_shows),
        cmocka_unit_test(shared_memory_starts_as_nan),
        cmocka_unit_test(divergent_barriers_are_reported),
        cmocka_unit_test(shuffles_of_ended_lanes_are_reported),
        cmocka_unit_test(bad_launches_are_reported),
        cmocka_unit_test(overruns_of_global_memory),
        cmocka_unit_test(overruns_of_shared_memory),
        cmocka_unit_test(host_and_device_memory_are_apart),
        cmocka_unit_test(memory_is_counted),
        cmocka_unit_test(recordings_keep_arguments_and_read_memory),
        cmocka_unit_test(mistakes_while_recording),
        cmocka_unit_test(missing_waits_show_when_work_is_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
