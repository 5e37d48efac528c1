/* test_dnn PROPERTIES: the choice of cuDNN's engines and the cache of plans, for the device that the file PROPERTIES
 * describes; none is needed. Where one is measured on, its handle is made up and its memory is not to be had. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "engine/cuda/cuda.h"
#include "engine/cuda/dnn_cache.h"

static char *properties;
static char folder[] = "/tmp/test_dnn.XXXXXX";

Status cuda_fail(cudaError_t error, const char *file, int line, const char *call)
{
    return status_fail(ERR_UNSUPPORTED, file, line, "%s: %s", call, cudaGetErrorString(error));
}

static Dnn *open_dnn(const char *cache, bool deterministic)
{
    Dnn *dnn = NULL;
    const DnnOptions options = {.properties = properties, .cache = cache, .deterministic = deterministic};
    if (dnn_open(&options, &dnn) != STATUS_OK) fail_msg("%s", status_message());
    return dnn;
}

static const DnnConvSpec conv = {.kind = DNN_CONV,
                                 .type = DTYPE_BF16,
                                 .n = 2,
                                 .h = 16,
                                 .w = 16,
                                 .c = 64,
                                 .oh = 16,
                                 .ow = 16,
                                 .o = 64,
                                 .attr = {3, 3, 1, 1, 1, 1, 1}};

/* The engine as the plan's name has it. */
static void plan_conv(Dnn *dnn, const DnnConvSpec *spec, char engine[64])
{
    DnnPlan *plan = NULL;
    if (dnn_conv_create(dnn, spec, &plan) != STATUS_OK) fail_msg("%s", status_message());
    snprintf(engine, 64, "%s", plan->step[0].engine);
    dnn_plan_free(plan);
}

static cudnnHandle_t made_up(void)
{
    int devices = 0;
    if (cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0) skip();
    return (cudnnHandle_t)(void *)folder;
}

static bool same_device(const char *a, const char *b)
{
    const Hash128 hash[2] = {dnn_device_hash(a), dnn_device_hash(b)};
    return memcmp(&hash[0], &hash[1], sizeof hash[0]) == 0;
}

/* What tells devices apart, and what does not; a description in words that we do not know counts whole. */
static void descriptions_tell_devices_apart(void **state)
{
#define KNOWN "\"deviceVer\":900,\"multiProcessorCount\":132,\"driverVer\":13000,\"cudaDeviceId\":0,"
    static const char h200[] = "{" KNOWN "\"deviceName\":\"NVIDIA H200\",\"smClockRateKHz\":1}";
    assert_true(same_device(h200, "{" KNOWN "\"deviceName\":\"NVIDIA H200\",\"smClockRateKHz\":2}"));
    assert_false(same_device(h200, "{" KNOWN "\"deviceName\":\"NVIDIA H100\",\"smClockRateKHz\":1}"));
    assert_false(same_device("{" KNOWN "\"name\":\"NVIDIA H200\"}", "{" KNOWN "\"name\":\"NVIDIA H100\"}"));
    assert_false(same_device("{\"deviceName\":\"NVIDIA H200\"}", "{\"deviceName\":\"NVIDIA H100\"}"));
    assert_false(same_device("not JSON", "not JSON either"));
#undef KNOWN
}

static void errors_by_kind(void **state)
{
    static const cudnnStatus_t lacks[] = {CUDNN_STATUS_NOT_SUPPORTED, CUDNN_STATUS_NOT_SUPPORTED_SHAPE,
                                          CUDNN_STATUS_NOT_SUPPORTED_PADDING};
    static const cudnnStatus_t fails[] = {
        CUDNN_STATUS_NOT_SUPPORTED_RUNTIME_PREREQUISITE_MISSING, CUDNN_STATUS_NOT_INITIALIZED, CUDNN_STATUS_BAD_PARAM,
        CUDNN_STATUS_INTERNAL_ERROR_COMPILATION_FAILED, CUDNN_STATUS_EXECUTION_FAILED_CUDART};
    for (size_t i = 0; i < sizeof lacks / sizeof lacks[0]; i++)
        assert_int_equal(dnn_fail(lacks[i], __FILE__, __LINE__, "call"), ERR_UNSUPPORTED);
    for (size_t i = 0; i < sizeof fails / sizeof fails[0]; i++)
        assert_int_equal(dnn_fail(fails[i], __FILE__, __LINE__, "call"), ERR_INTERNAL);
}

/* A choice made for a description is none for a device on which times can be taken. */
static void unmeasured_choices_are_not_kept_for_long(void **state)
{
    char engine[64];
    const cudnnHandle_t handle = made_up();
    Dnn *dnn = open_dnn(folder, false);
    plan_conv(dnn, &conv, engine);
    assert_true(strncmp(engine, "A ", 2) == 0);
    plan_conv(dnn, &conv, engine);
    assert_true(strncmp(engine, "kept ", 5) == 0);
    dnn->handle = handle;
    for (int i = 0; i < 2; i++) { /* not kept either: there was no memory to measure on */
        plan_conv(dnn, &conv, engine);
        assert_true(strncmp(engine, "A ", 2) == 0);
    }
    dnn->deterministic = true; /* no times are wanted: in files of their own */
    plan_conv(dnn, &conv, engine);
    assert_true(strncmp(engine, "A ", 2) == 0);
    plan_conv(dnn, &conv, engine);
    assert_true(strncmp(engine, "kept ", 5) == 0);
    dnn->handle = NULL;
    dnn_close(dnn);
}

static void measured_entries_serve_all(void **state)
{
    const Hash128 key = {1, 2};
    DnnEntry entry = {.choice = {.mode = 1, .position = 3, .engine = 41, .compiled = true}}, got;
    for (int measured = 0; measured < 2; measured++) {
        entry.choice.measured = measured != 0;
        dnn_cache_write(folder, key, &entry);
        assert_true(dnn_cache_read(folder, key, false, &got));
        assert_int_equal(got.choice.measured, measured);
        assert_int_equal(got.choice.mode, 1);
        assert_int_equal(got.choice.position, 3);
        assert_int_equal(got.choice.engine, 41);
        assert_true(got.choice.compiled);
        assert_int_equal(dnn_cache_read(folder, key, true, &got), measured);
    }
}

static void gradients_without_counts_or_keys_are_refused(void **state)
{
    Dnn *dnn = open_dnn(NULL, false);
    DnnPlan *plan = NULL;
    DnnAttentionSpec spec = {.n = 2, .heads = 4, .t = 37, .s = 1, .d = 64, .lengths = true};
    assert_int_equal(dnn_attention_create(dnn, &spec, true, &plan), ERR_UNSUPPORTED);
    spec.s = 64;
    spec.lengths = false;
    assert_int_equal(dnn_attention_create(dnn, &spec, true, &plan), ERR_INTERNAL);
    assert_false(dnn_wants_lengths(true, 256, 128));
    assert_true(dnn_wants_lengths(true, 256, 192));
    assert_true(dnn_wants_lengths(true, 1, 128));
    assert_false(dnn_wants_lengths(false, 37, 64));
    dnn_close(dnn);
}

/* Two samples would fit, but the lse (rows in fp32) of the third would lie at 8 mod 16. */
static void slices_are_aligned(void **state)
{
    Dnn *dnn = open_dnn(NULL, true);
    DnnPlan *plan = NULL;
    const int64_t t = 1001, s = 100000, d = 64;
    const DnnAttentionSpec spec = {.n = 8,
                                   .heads = 1,
                                   .t = t,
                                   .s = s,
                                   .d = d,
                                   .scale = 0.125f,
                                   .q_row = d,
                                   .q_head = d,
                                   .q_batch = t * d,
                                   .k_row = d,
                                   .k_head = d,
                                   .k_batch = s * d,
                                   .y_row = d,
                                   .y_head = d,
                                   .y_batch = t * d,
                                   .dq_row = d,
                                   .dq_head = d,
                                   .dq_batch = t * d,
                                   .lengths = true};
    if (dnn_attention_create(dnn, &spec, true, &plan) != STATUS_OK) fail_msg("%s", status_message());
    assert_int_equal(plan->attention.n, 4);
    assert_int_equal(plan->slices, 2);
    dnn_plan_free(plan);
    dnn_close(dnn);
}

static void unaligned_operands_are_refused(void **state)
{
    const cudnnHandle_t handle = made_up();
    Dnn *dnn = open_dnn(NULL, false);
    DnnPlan *plan = NULL;
    static _Alignas(16) char at[32]; /* never read */
    assert_int_equal(dnn_conv_create(dnn, &conv, &plan), STATUS_OK);
    dnn->handle = handle;
    assert_int_equal(dnn_conv_run(plan, &(DnnConvArgs){.x = at + 8, .w = at, .out = at, .workspace = at}),
                     ERR_INTERNAL);
    assert_non_null(strstr(status_message(), "not aligned"));
    dnn->handle = NULL;
    dnn_plan_free(plan);
    dnn_close(dnn);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(descriptions_tell_devices_apart),
                                       cmocka_unit_test(errors_by_kind),
                                       cmocka_unit_test(unmeasured_choices_are_not_kept_for_long),
                                       cmocka_unit_test(measured_entries_serve_all),
                                       cmocka_unit_test(gradients_without_counts_or_keys_are_refused),
                                       cmocka_unit_test(slices_are_aligned),
                                       cmocka_unit_test(unaligned_operands_are_refused)};
    size_t size;
    if (argc != 2 || file_read(argv[1], (size_t)1 << 20, &properties, &size) != STATUS_OK || !mkdtemp(folder)) {
        fprintf(stderr, "usage: test_dnn PROPERTIES\n");
        return 2;
    }
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    (void)file_remove_tree(folder);
    free(properties);
    return failed;
}
