/* Collectives on any number of ranks: `mpirun -n N test_comm N`, or `test_comm 1` without a launcher. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <math.h>
#include <string.h>
#include <cmocka.h>

#include "base/arena.h"
#include "base/bf16.h"
#include "engine/comm.h"

static Comm *comm;
static int expected_world;

/* Numbers of very different size, so that another order of addition gives other bits. */
static float value_of(int rank, int64_t i, uint32_t salt)
{
    uint64_t x = ((uint64_t)(uint32_t)rank << 40) ^ ((uint64_t)salt << 52) ^ (uint64_t)i;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    double unit = (double)(x >> 11) / 9007199254740992.0 - 0.5;
    return (float)ldexp(unit, (int)(x & 15));
}

static void fill(float *data, int64_t count, uint32_t salt)
{
    for (int64_t i = 0; i < count; i++) data[i] = value_of(comm_rank(comm), i, salt);
}

/* The sum in rank order, in fp32. */
static void check_sum(const float *data, int64_t count, uint32_t salt)
{
    for (int64_t i = 0; i < count; i++) {
        float sum = value_of(0, i, salt);
        for (int r = 1; r < comm_world(comm); r++) sum += value_of(r, i, salt);
        if (!(sum == data[i])) {
            fail_msg("element %lld of %lld: %.9g, the sum in rank order is %.9g", (long long)i, (long long)count,
                     (double)data[i], (double)sum);
        }
    }
}

static void test_world(void **state)
{
    assert_int_equal(comm_world(comm), expected_world);
    assert_in_range(comm_rank(comm), 0, expected_world - 1);
    assert_int_equal(comm_local_world(comm), expected_world);
    assert_int_equal(comm_local_rank(comm), comm_rank(comm));
    assert_non_null(strstr(comm_library_version(), "MPI"));
}

static void test_all_reduce_sums_in_rank_order(void **state)
{
    /* Around one rank's slice and one piece of the pipeline, and over several pieces. */
    const int64_t counts[] = {0, 1, 2, 3, 15, 16, 17, 63, 1000, 4097, 65536, 524287, 524288, 524289, 1700001};
    for (size_t k = 0; k < sizeof(counts) / sizeof(counts[0]); k++) {
        int64_t count = counts[k];
        float *data = mem_alloc_aligned((size_t)(count + 2) * sizeof(float));
        data[0] = data[count + 1] = 123.0f; /* not ours to touch */
        fill(data + 1, count, (uint32_t)k);
        CommRequest *request = NULL;
        assert_int_equal(comm_all_reduce_begin(comm, data + 1, count, &request), STATUS_OK);
        assert_non_null(request);
        assert_int_equal(comm_wait(comm, request), STATUS_OK);
        check_sum(data + 1, count, (uint32_t)k);
        assert_true(data[0] == 123.0f && data[count + 1] == 123.0f);
        mem_free_aligned(data);
    }
}

#define BUCKETS 40

static int64_t bucket_size(int k)
{
    return k % 7 == 0 ? 0 : 1 + (int64_t)k * 7919 % 300000;
}

static void test_many_buckets_while_computing(void **state)
{
    float *buckets[BUCKETS];
    CommRequest *requests[BUCKETS];
    volatile double work = 1;
    for (int k = 0; k < BUCKETS; k++) buckets[k] = mem_alloc_aligned((size_t)bucket_size(k) * sizeof(float) + 64);
    for (int round = 0; round < 2; round++) {
        for (int k = 0; k < BUCKETS; k++) {
            fill(buckets[k], bucket_size(k), (uint32_t)(100 * round + k));
            assert_int_equal(comm_all_reduce_begin(comm, buckets[k], bucket_size(k), &requests[k]), STATUS_OK);
            for (int i = 0; i < 20000 * (1 + comm_rank(comm)); i++) work = work * 0.999 + 1e-3;
            /* Blocking calls may come between. */
            double sum = 1;
            if (k == 11) assert_int_equal(comm_all_reduce_f64(comm, &sum, 1, COMM_SUM), STATUS_OK);
            if (k == 11) assert_true(sum == expected_world);
            if (k == 23) assert_int_equal(comm_barrier(comm), STATUS_OK);
        }
        /* Waiting in another order than begun is allowed. */
        for (int k = 0; k < BUCKETS; k++) {
            int j = round ? BUCKETS - 1 - k : k;
            assert_int_equal(comm_wait(comm, requests[j]), STATUS_OK);
            check_sum(buckets[j], bucket_size(j), (uint32_t)(100 * round + j));
        }
    }
    for (int k = 0; k < BUCKETS; k++) mem_free_aligned(buckets[k]);
}

static void test_nothing_is_allocated_after_the_first_round(void **state)
{
    enum { COUNT = 200000 };
    float *data = mem_alloc_aligned(2 * COUNT * sizeof(float));
    int64_t before = 0;
    double number = 1;
    for (int round = 0; round < 3; round++) {
        CommRequest *requests[2];
        assert_int_equal(comm_all_reduce_begin(comm, data, COUNT, &requests[0]), STATUS_OK);
        assert_int_equal(comm_all_reduce_begin(comm, data + COUNT, COUNT, &requests[1]), STATUS_OK);
        assert_int_equal(comm_wait(comm, requests[0]), STATUS_OK);
        assert_int_equal(comm_wait(comm, requests[1]), STATUS_OK);
        assert_int_equal(comm_all_reduce_f64(comm, &number, 1, COMM_MAX), STATUS_OK);
        if (round == 0) before = mem_allocation_count();
    }
    assert_int_equal(mem_allocation_count(), before);
    mem_free_aligned(data);
}

static void test_f64(void **state)
{
    enum { COUNT = 40001 }; /* over several pieces */
    double *values = calloc(COUNT, sizeof(double));
    int world = comm_world(comm), rank = comm_rank(comm);
    for (int i = 0; i < COUNT; i++) values[i] = value_of(rank, i, 7);
    assert_int_equal(comm_all_reduce_f64(comm, values, COUNT, COMM_SUM), STATUS_OK);
    for (int i = 0; i < COUNT; i++) {
        double sum = value_of(0, i, 7);
        for (int r = 1; r < world; r++) sum += value_of(r, i, 7);
        assert_true(sum == values[i]);
    }
    double least[2] = {rank - 5.0, 3.0 - rank}, most[2] = {rank - 5.0, 3.0 - rank};
    assert_int_equal(comm_all_reduce_f64(comm, least, 2, COMM_MIN), STATUS_OK);
    assert_int_equal(comm_all_reduce_f64(comm, most, 2, COMM_MAX), STATUS_OK);
    assert_true(least[0] == -5 && least[1] == 3.0 - (world - 1));
    assert_true(most[0] == world - 6.0 && most[1] == 3);

    /* A NaN of any rank is everybody's. */
    for (int r = 0; r < world; r++) {
        double low = r == rank ? NAN : 1, high = low, sum = low;
        assert_int_equal(comm_all_reduce_f64(comm, &low, 1, COMM_MIN), STATUS_OK);
        assert_int_equal(comm_all_reduce_f64(comm, &high, 1, COMM_MAX), STATUS_OK);
        assert_int_equal(comm_all_reduce_f64(comm, &sum, 1, COMM_SUM), STATUS_OK);
        assert_true(isnan(low) && isnan(high) && isnan(sum));
    }
    assert_int_equal(comm_all_reduce_f64(comm, NULL, 0, COMM_SUM), STATUS_OK);
    free(values);
}

static unsigned char byte_of(int rank, size_t i)
{
    return (unsigned char)((size_t)rank * 89 + i * 31 + (i >> 8) + (i >> 16));
}

static void test_broadcast(void **state)
{
    const size_t sizes[] = {0, 1, 1000, 4 * 1024 * 1024 + 1, 9000001};
    unsigned char *data = malloc(9000001);
    for (int root = 0; root < comm_world(comm); root++) {
        for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
            for (size_t i = 0; i < sizes[k]; i++) data[i] = byte_of(comm_rank(comm), i);
            assert_int_equal(comm_broadcast(comm, data, sizes[k], root), STATUS_OK);
            for (size_t i = 0; i < sizes[k]; i++) {
                if (data[i] != byte_of(root, i)) fail_msg("byte %zu of %zu from rank %d", i, sizes[k], root);
            }
        }
    }
    free(data);
}

static void test_all_gather(void **state)
{
    const size_t sizes[] = {0, 1, 7, 100000, 3000001};
    size_t world = (size_t)comm_world(comm);
    unsigned char *data = malloc(3000001), *out = malloc(3000001 * world);
    for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
        size_t size = sizes[k];
        for (size_t i = 0; i < size; i++) data[i] = byte_of(comm_rank(comm), i);
        memset(out, 0x55, size * world);
        assert_int_equal(comm_all_gather(comm, data, size, out), STATUS_OK);
        for (size_t i = 0; i < size * world; i++) {
            if (out[i] != byte_of((int)(i / size), i % size)) fail_msg("byte %zu of %zu x %zu", i, world, size);
        }
    }
    free(data);
    free(out);
}

/* ---- shares ---- */

static float rounded(float x, CommWire wire)
{
    return wire == COMM_WIRE_BF16 ? bf16_to_f32(bf16_from_f32(x)) : x;
}

/* The sum as comm.h promises it: in rank order inside each group, the groups' sums in order. */
static float sum_of(int64_t i, uint32_t salt, CommWire wire)
{
    const int group = comm_group(comm);
    float total = 0;
    for (int g = 0; g < comm_world(comm) / group; g++) {
        float sum = rounded(value_of(g * group, i, salt), wire);
        for (int r = 1; r < group; r++) sum += rounded(value_of(g * group + r, i, salt), wire);
        sum = rounded(sum, wire);
        total = g == 0 ? sum : total + sum;
    }
    return rounded(total, wire);
}

static void check_reduce(int64_t count, CommWire wire, bool gather, uint32_t salt)
{
    const int group = comm_group(comm);
    const int64_t share = count / group, own = comm_share(comm) * share;
    float *data = mem_alloc_aligned((size_t)(count + 32) * sizeof(float));
    CommRequest *request = NULL;
    data[15] = data[16 + count] = 123.0f; /* not ours to touch */
    fill(data + 16, count, salt);
    assert_int_equal(comm_reduce_begin(comm, data + 16, count, wire, gather, &request), STATUS_OK);
    assert_int_equal(comm_wait(comm, request), STATUS_OK);
    for (int64_t i = gather ? 0 : own; i < (gather ? count : own + share); i++)
        if (data[16 + i] != sum_of(i, salt, wire))
            fail_msg("element %lld of %lld, groups of %d: %.9g, not %.9g", (long long)i, (long long)count, group,
                     (double)data[16 + i], (double)sum_of(i, salt, wire));
    assert_true(data[15] == 123.0f && data[16 + count] == 123.0f);
    mem_free_aligned(data);
}

static void check_gather(int64_t count)
{
    const int group = comm_group(comm), first = comm_rank(comm) / group * group;
    const int64_t share = count / group;
    float *data = mem_alloc_aligned((size_t)count * sizeof(float) + 64);
    CommRequest *request = NULL;
    fill(data, count, 77);
    assert_int_equal(comm_gather_begin(comm, data, count, &request), STATUS_OK);
    assert_int_equal(comm_wait(comm, request), STATUS_OK);
    for (int64_t i = 0; i < count; i++) assert_true(data[i] == value_of(first + (int)(i / share), i, 77));
    mem_free_aligned(data);
}

/* Around one piece of the pipeline and over several, in every division into groups; other collectives in between. */
static void test_shares(void **state)
{
    const int world = comm_world(comm);
    const int64_t sizes[] = {0, 16, 160, 16 * 1024, 65552, 150 * 1024};
    for (int group = world; group >= 1; group--) {
        if (world % group) {
            assert_int_equal(comm_set_group(comm, group), ERR_CONFIG);
            continue;
        }
        assert_int_equal(comm_set_group(comm, group), STATUS_OK);
        assert_int_equal(comm_group(comm), group);
        assert_int_equal(comm_share(comm), comm_rank(comm) % group);
        for (uint32_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
            check_reduce(sizes[k] * group, COMM_WIRE_F32, true, k);
            check_reduce(sizes[k] * group, COMM_WIRE_F32, false, k);
            check_reduce(sizes[k] * group, COMM_WIRE_BF16, true, k);
            check_reduce(sizes[k] * group, COMM_WIRE_BF16, false, k);
            check_gather(sizes[k] * group);
        }
        assert_int_equal(comm_barrier(comm), STATUS_OK);
    }
    assert_int_equal(comm_set_group(comm, 0), ERR_CONFIG);
    assert_int_equal(comm_set_group(comm, world), STATUS_OK);
}

/* Sums that are gathered and sums that are not, and gathers, all begun before any is waited for. */
static void test_mixed_collectives_keep_their_order(void **state)
{
    enum { MANY = 24 };
    const int world = comm_world(comm);
    const int64_t count = 40000 / 16 * 16 * world;
    const int group = world % 2 == 0 ? 2 : world;
    float *data[MANY];
    CommRequest *requests[MANY];
    assert_int_equal(comm_set_group(comm, group), STATUS_OK);
    for (int k = 0; k < MANY; k++) {
        data[k] = mem_alloc_aligned((size_t)count * sizeof(float));
        fill(data[k], count, (uint32_t)k);
        if (k % 4 == 3)
            assert_int_equal(comm_gather_begin(comm, data[k], count, &requests[k]), STATUS_OK);
        else if (k % 4 == 2)
            assert_int_equal(comm_all_reduce_begin(comm, data[k], count, &requests[k]), STATUS_OK);
        else
            assert_int_equal(comm_reduce_begin(comm, data[k], count, COMM_WIRE_F32, k % 4 == 1, &requests[k]),
                             STATUS_OK);
    }
    for (int k = MANY - 1; k >= 0; k--) assert_int_equal(comm_wait(comm, requests[k]), STATUS_OK);
    for (int k = 0; k < MANY; k++) {
        const int64_t share = count / group, own = comm_share(comm) * share;
        const int first = comm_rank(comm) / group * group;
        if (k % 4 == 2) check_sum(data[k], count, (uint32_t)k);
        for (int64_t i = 0; i < count && k % 4 == 3; i++)
            assert_true(data[k][i] == value_of(first + (int)(i / share), i, (uint32_t)k));
        for (int64_t i = 0; i < count && k % 4 == 1; i++)
            assert_true(data[k][i] == sum_of(i, (uint32_t)k, COMM_WIRE_F32));
        for (int64_t i = own; i < own + share && k % 4 == 0; i++)
            assert_true(data[k][i] == sum_of(i, (uint32_t)k, COMM_WIRE_F32));
        mem_free_aligned(data[k]);
    }
    assert_int_equal(comm_set_group(comm, world), STATUS_OK);
}

static void test_waiting_is_counted(void **state)
{
    enum { COUNT = 1000000 };
    float *data = mem_alloc_aligned(COUNT * sizeof(float));
    CommRequest *request = NULL;
    double before = comm_exposed_seconds(comm);
    assert_int_equal(comm_all_reduce_begin(comm, data, COUNT, &request), STATUS_OK);
    assert_true(comm_exposed_seconds(comm) == before);
    assert_int_equal(comm_wait(comm, request), STATUS_OK);
    assert_true(comm_exposed_seconds(comm) > before);
    mem_free_aligned(data);
}

static void test_impossible_requests_are_refused(void **state)
{
    CommRequest *request = NULL;
    float one = 1;
    assert_int_equal(comm_all_reduce_begin(comm, NULL, 5, &request), ERR_INTERNAL);
    assert_int_equal(comm_all_reduce_begin(comm, &one, -1, &request), ERR_INTERNAL);
    assert_null(request);
    assert_int_equal(comm_reduce_begin(comm, &one, 15, COMM_WIRE_F32, true, &request), ERR_INTERNAL);
    assert_int_equal(comm_gather_begin(comm, &one, -16 * comm_world(comm), &request), ERR_INTERNAL);
    assert_int_equal(comm_gather_begin(comm, NULL, 16 * comm_world(comm), &request), ERR_INTERNAL);
    assert_null(request);
    assert_int_equal(comm_broadcast(comm, &one, 4, comm_world(comm)), ERR_INTERNAL);
    assert_int_equal(comm_broadcast(comm, &one, 4, -1), ERR_INTERNAL);
    assert_int_equal(comm_all_gather(comm, &one, SIZE_MAX, &one), ERR_INTERNAL);
    assert_int_equal(comm_wait(comm, NULL), ERR_INTERNAL);
}

int main(int argc, char **argv)
{
    expected_world = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 1;
    if (comm_open(&comm) != STATUS_OK) {
        fprintf(stderr, "%s\n", status_message());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_world),
        cmocka_unit_test(test_all_reduce_sums_in_rank_order),
        cmocka_unit_test(test_many_buckets_while_computing),
        cmocka_unit_test(test_nothing_is_allocated_after_the_first_round),
        cmocka_unit_test(test_f64),
        cmocka_unit_test(test_broadcast),
        cmocka_unit_test(test_all_gather),
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_mixed_collectives_keep_their_order),
        cmocka_unit_test(test_waiting_is_counted),
        cmocka_unit_test(test_impossible_requests_are_refused),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    /* A rank that failed has lost step with the others: end them all. */
    if (failed) comm_abort(comm, 1);
    comm_close(comm);
    comm_close(NULL);
    return 0;
}
