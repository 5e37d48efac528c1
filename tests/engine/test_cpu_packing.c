/* Our reorders of weights against oneDNN's own, bit for bit: whatever layouts the library picks for these shapes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <stdatomic.h>
#include <string.h>

#include "base/arena.h"
#include "base/random.h"
#include "engine/cpu/packing.h"

static atomic_int calls; /* of our own kernels */
static VectorKernels counted;

static void count_along(const float *x, int64_t pitch, uint16_t *y, const int64_t at[16])
{
    calls++;
    vector_kernels()->pack_pairs_along(x, pitch, y, at);
}

static void count_across(const float *x, int64_t pitch, int64_t pairs, uint16_t *y, int64_t y_pitch)
{
    calls++;
    vector_kernels()->pack_pairs_across(x, pitch, pairs, y, y_pitch);
}

static void count_square(const float *x, float *y, int64_t pitch, bool add)
{
    calls++;
    vector_kernels()->unpack_square(x, y, pitch, add);
}

static Cpu cpu_with(int32_t threads)
{
    counted = *vector_kernels();
    if (counted.pack_pairs_along) {
        counted.pack_pairs_along = count_along;
        counted.pack_pairs_across = count_across;
        counted.unpack_square = count_square;
    }
    return (Cpu){.threads = threads, .bf16 = dnn_has_bf16(), .vector = &counted};
}

/* A convolution of a small picture: in and out channels, side of the kernel. */
static DnnSpec convolution(DnnKind kind, int64_t in, int64_t out, int64_t k)
{
    const int64_t side = 5;
    const DnnType type = DNN_BF16;
    return (DnnSpec){.kind = kind,
                     .src = {type, 4, {1, in, side, side}, {side * side * in, 1, side * in, in}},
                     .weights = {kind == DNN_CONV_BACKWARD_WEIGHTS ? DNN_F32 : type,
                                 4,
                                 {out, in, k, k},
                                 {k * k * in, 1, k * in, in}},
                     .dst = {type, 4, {1, out, side, side}, {side * side * out, 1, side * out, out}},
                     .pack_weights = true,
                     .stride = 1,
                     .pad_top = k / 2,
                     .pad_left = k / 2,
                     .pad_bottom = k / 2,
                     .pad_right = k / 2};
}

/* rows x `in` times weights that lie as (out,in), or as they are multiplied, (in,out). */
static DnnSpec product(int64_t rows, int64_t in, int64_t out, bool transposed)
{
    return (DnnSpec){.kind = DNN_MATMUL,
                     .src = {DNN_BF16, 2, {rows, in}, {in, 1}},
                     .weights = {DNN_BF16, 2, {in, out}, {transposed ? 1 : out, transposed ? in : 1}},
                     .dst = {DNN_BF16, 2, {rows, out}, {out, 1}},
                     .pack_weights = true};
}

static int64_t weight_count(const DnnSpec *spec)
{
    int64_t count = 1;
    for (int32_t d = 0; d < spec->weights.ndim; d++) count *= spec->weights.dim[d];
    return count;
}

/* Normals with what rounding must mind: ties, infinities, a number that rounds to infinity. */
static float *make_values(int64_t count)
{
    float *values = mem_alloc_aligned((size_t)count * sizeof *values);
    assert_non_null(values);
    random_normal(3, RANDOM_TEST, 8, 0, values, (size_t)count);
    const float special[] = {INFINITY, -INFINITY, 0.0f, -0.0f, 3.4e38f, 1.00390625f, 1.01171875f, -1.00390625f};
    for (int64_t i = 0; i < count; i += 97) values[i] = special[i / 97 % 8];
    return values;
}

static void check(const DnnSpec *spec, int32_t threads)
{
    const Cpu cpu = cpu_with(threads);
    const int64_t count = weight_count(spec);
    DnnPrimitive *primitive;
    cpu_use_threads(&cpu);
    assert_int_equal(dnn_create(spec, &primitive), STATUS_OK);
    const size_t packed_bytes = dnn_packed_bytes(primitive);
    if (packed_bytes == 0) { /* the library reads plain weights */
        dnn_free(primitive);
        return;
    }
    float *values = make_values((int64_t)(packed_bytes / 2) > count ? (int64_t)(packed_bytes / 2) : count);
    void *scratchpad = mem_alloc_aligned(dnn_scratchpad_bytes(primitive) + 64);
    uint8_t *mine = mem_alloc_aligned(packed_bytes), *theirs = mem_alloc_aligned(packed_bytes);
    float *plain = mem_alloc_aligned((size_t)count * sizeof *plain);
    float *their_plain = mem_alloc_aligned((size_t)count * sizeof *plain);
    if (!scratchpad || !mine || !theirs || !plain || !their_plain) {
        fail_msg("out of memory");
        return;
    }
    calls = 0;
    if (spec->kind != DNN_CONV_BACKWARD_WEIGHTS) {
        memset(mine, 0xff, packed_bytes);
        assert_int_equal(cpu_pack(&cpu, primitive, values, mine, scratchpad), STATUS_OK);
        assert_int_equal(dnn_pack(primitive, values, theirs, scratchpad), STATUS_OK);
        assert_memory_equal(mine, theirs, packed_bytes);
    } else {
        memcpy(mine, values, packed_bytes);
        for (int add = 0; add < 2; add++) { /* first set, then added to what is there */
            assert_int_equal(cpu_unpack(&cpu, primitive, mine, plain, add, scratchpad), STATUS_OK);
            assert_int_equal(dnn_unpack(primitive, mine, their_plain, add, scratchpad), STATUS_OK);
            for (int64_t i = 0; i < count; i++)
                assert_true(plain[i] == their_plain[i] || (isnan(plain[i]) && isnan(their_plain[i])));
        }
    }
    mem_free_aligned(values);
    mem_free_aligned(scratchpad);
    mem_free_aligned(mine);
    mem_free_aligned(theirs);
    mem_free_aligned(plain);
    mem_free_aligned(their_plain);
    dnn_free(primitive);
}

static void ours_are_the_librarys(void **state)
{
    if (!dnn_has_bf16()) {
        print_message("SKIPPED: this processor, or DNNL_MAX_CPU_ISA, has no bf16\n");
        return;
    }
    static const int64_t channels[][2] = {{64, 128}, {96, 64}, {384, 32}, {4, 64}, {64, 8}, {48, 80}, {33, 7}};
    int ours = 0;
    for (int32_t threads = 1; threads <= 3; threads += 2) {
        for (size_t i = 0; i < sizeof channels / sizeof *channels; i++) {
            const int64_t in = channels[i][0], out = channels[i][1];
            const DnnKind kinds[] = {DNN_CONV_FORWARD, DNN_CONV_BACKWARD_DATA, DNN_CONV_BACKWARD_WEIGHTS};
            for (int k = 1; k <= 3; k += 2)
                for (size_t kind = 0; kind < 3; kind++) {
                    const DnnSpec spec = convolution(kinds[kind], in, out, k);
                    check(&spec, threads);
                    ours += calls > 0;
                }
            for (int transposed = 0; transposed < 2; transposed++) {
                const DnnSpec spec = product(40, in, out, transposed);
                check(&spec, threads);
                ours += calls > 0;
            }
        }
    }
    /* Else the layouts that the library picks are others than those that we know, and nothing was tested. */
    if (vector_kernels()->pack_pairs_along) assert_true(ours > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(ours_are_the_librarys)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
