/* The scaling model against cases that can be worked out by hand, its table of machines and its measurements. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "train/calibration.h"
#include "train/comm_bench.h"
#include "train/scaling.h"
#include "train/scaling_machine.h"

#define MIB ((int64_t)1 << 18) /* elements of a MiB */

static void assert_near(double value, double right)
{
    if (fabs(value - right) > 1e-9 * fmax(1, fabs(right))) fail_msg("%.12g instead of %.12g", value, right);
}

/* One rank a machine unless said otherwise; a MiB a second; a hop takes nothing. */
static ScalingNetwork network_of(double latency, double bytes_per_second)
{
    ScalingNetwork network = {.per_node = 1};
    for (int what = 0; what < SCALING_COLLECTIVES; what++)
        network.local.rate[what] = network.remote.rate[what] = (ScalingRate){latency, bytes_per_second};
    return network;
}

static ScalingMode mode_of(int64_t ranks, bool sharded, bool overlap)
{
    return (ScalingMode){.ranks = ranks, .group = ranks, .sharded = sharded, .overlap = overlap, .wire_bytes = 4};
}

/* Four ops of a second: two forward, two backward; a bucket after each backward op. */
static const double four[] = {1, 1, 1, 1};
static const Bucket two[] = {{.offset = 0, .count = MIB, .ready_after = 3, .needed_by = 0},
                             {.offset = MIB, .count = MIB, .ready_after = 2, .needed_by = 1}};
static ScalingWork work_of_two(void)
{
    return (ScalingWork){.op_seconds = four,
                         .op_count = 4,
                         .buckets = two,
                         .bucket_count = 2,
                         .micro_batches = 1,
                         .update_seconds = 1,
                         .images = 8};
}

static ScalingStep step_of(const ScalingWork *work, const ScalingNetwork *network, ScalingMode mode)
{
    ScalingStep step;
    assert_int_equal(scaling_step(work, network, &mode, &step), STATUS_OK);
    return step;
}

/* ---- collectives ---- */

static void collectives_by_hand(void **state)
{
    (void)state;
    ScalingNetwork n = network_of(0.5, 100);
    /* 4 ranks, one a machine: two hops, 3/4 of the bytes; an all-reduce twice that */
    assert_near(scaling_collective_seconds(&n, SCALING_GATHER, 1, 4, 400), 2 * 0.5 + 400 * 0.75 / 100);
    assert_near(scaling_collective_seconds(&n, SCALING_ALL_REDUCE, 1, 4, 400), 2 * (2 * 0.5 + 400 * 0.75 / 100));
    /* 2 machines of 4: a quarter crosses, by the network's rate */
    n.per_node = 4;
    n.remote.rate[SCALING_REDUCE] = (ScalingRate){2, 10};
    assert_near(scaling_collective_seconds(&n, SCALING_REDUCE, 4, 2, 400),
                2 * 0.5 + 400 * 0.75 / 100 + 2 + 100 * 0.5 / 10);
    /* alone nothing is sent */
    assert_near(scaling_collective_seconds(&n, SCALING_ALL_REDUCE, 1, 1, 400), 0);
}

/* Groups of a machine: reduce-scatter inside, an all-reduce of a share between; unless sharded a gather inside. */
static void groups_by_hand(void **state)
{
    (void)state;
    ScalingNetwork n = network_of(0, 100);
    n.per_node = 4;
    for (int what = 0; what < SCALING_COLLECTIVES; what++) n.remote.rate[what] = (ScalingRate){0, 10};
    const ScalingMode sharded = {.ranks = 8, .group = 4, .sharded = true, .overlap = true, .wire_bytes = 4};
    ScalingMode whole = sharded;
    whole.sharded = false;
    const double inside = 400 * 0.75 / 100, between = 2 * 100 * 0.5 / 10;
    assert_near(scaling_reduce_seconds(&n, &sharded, 400), inside + between);
    assert_near(scaling_reduce_seconds(&n, &whole, 400), inside + between + inside);
    assert_near(scaling_gather_seconds(&n, &sharded, 400), inside);
    /* groups of 2 inside machines of 4: two of them a machine */
    const ScalingMode pairs = {.ranks = 8, .group = 2, .sharded = true, .overlap = true, .wire_bytes = 4};
    assert_near(scaling_reduce_seconds(&n, &pairs, 400), 400 * 0.5 / 100 + 2 * (200 * 0.5 / 100 + 100 * 0.5 / 10));
}

/* What a rank sends, in closed form; and at a byte a second inside machines and between, the collectives' seconds. */
static void traffic_by_hand(void **state)
{
    (void)state;
    const struct {
        int64_t ranks, group;
        bool sharded;
        double wire, bytes; /* for 96 gradients */
    } CASES[] = {
        {8, 8, false, 4, 2 * 7.0 / 8 * 96 * 4},                              /* none: an all-reduce, f32 */
        {8, 8, false, 2, 2 * 7.0 / 8 * 96 * 2},                              /* and bf16 */
        {8, 8, true, 4, 7.0 / 8 * 96 * (4 + 4)},                             /* all: gradients and weights, f32 */
        {8, 8, true, 2, 7.0 / 8 * 96 * (2 + 4)},                             /* weights travel as f32 */
        {8, 4, true, 4, 3.0 / 4 * 96 * (4 + 4) + 2 * 1.0 / 2 * 96 / 4 * 4},  /* node: 2 groups of 4 */
        {8, 4, true, 2, 3.0 / 4 * 96 * (2 + 4) + 2 * 1.0 / 2 * 96 / 4 * 2},  /* and bf16 */
        {12, 4, true, 4, 3.0 / 4 * 96 * (4 + 4) + 2 * 2.0 / 3 * 96 / 4 * 4}, /* node: 3 groups of 4 */
        {8, 1, true, 4, 2 * 7.0 / 8 * 96 * 4},                               /* node, one rank a machine */
        {1, 1, true, 4, 0},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        ScalingNetwork n = network_of(0, 1);
        const ScalingMode mode = {
            .ranks = CASES[i].ranks, .group = CASES[i].group, .sharded = CASES[i].sharded, .wire_bytes = CASES[i].wire};
        n.per_node = 4;
        assert_near(scaling_traffic(&mode, 96), CASES[i].bytes);
        const double seconds = scaling_reduce_seconds(&n, &mode, 96 * CASES[i].wire) +
                               (CASES[i].sharded ? scaling_gather_seconds(&n, &mode, 96 * 4) : 0);
        assert_near(seconds, CASES[i].bytes);
    }
}

/* ---- the time line ---- */

static void one_rank_does_not_communicate(void **state)
{
    (void)state;
    const ScalingNetwork n = network_of(1, 1);
    const ScalingWork work = work_of_two();
    for (int sharded = 0; sharded < 2; sharded++) {
        const ScalingStep step = step_of(&work, &n, mode_of(1, sharded, true));
        assert_near(step.communication + step.exposed_gradients + step.exposed_weights + step.agreement, 0);
        assert_near(step.seconds, 5);
        assert_near(step.images_per_second, 8.0 / 5);
    }
}

static void one_bucket_and_no_computing(void **state)
{
    (void)state;
    const double nothing[] = {0};
    const Bucket bucket = {.count = MIB, .ready_after = 0, .needed_by = 1};
    const ScalingWork work = {
        .op_seconds = nothing, .op_count = 1, .buckets = &bucket, .bucket_count = 1, .micro_batches = 1, .images = 1};
    const ScalingNetwork n = network_of(0, 1 << 20);
    const ScalingStep step = step_of(&work, &n, mode_of(4, false, true));
    assert_near(step.exposed_gradients, 1.5); /* 2 x 3/4 of a MiB */
    assert_near(step.communication, 1.5);
}

/* 2 ranks: a bucket's all-reduce sends one MiB. */
static void hidden_and_exposed_by_hand(void **state)
{
    (void)state;
    const ScalingWork work = work_of_two();
    /* A second each: the first beside the last op, the second after it. */
    ScalingNetwork n = network_of(0, 1 << 20);
    assert_near(step_of(&work, &n, mode_of(2, false, true)).exposed_gradients, 1);
    assert_near(step_of(&work, &n, mode_of(2, false, false)).exposed_gradients, 2);
    /* Three seconds each: from second 3 to 9, and computing ends at 4. */
    n = network_of(0, (1 << 20) / 3.0);
    assert_near(step_of(&work, &n, mode_of(2, false, true)).exposed_gradients, 5);
    assert_near(step_of(&work, &n, mode_of(2, false, false)).exposed_gradients, 6);
    /* Two micro-batches send once, in the last one. */
    ScalingWork twice = work;
    twice.micro_batches = 2;
    assert_near(step_of(&twice, &n, mode_of(2, false, true)).exposed_gradients, 5);
    assert_near(step_of(&twice, &n, mode_of(2, false, true)).compute, 8);
    /* half the bytes */
    ScalingMode half = mode_of(2, false, true);
    half.wire_bytes = 2;
    assert_near(step_of(&work, &n, half).exposed_gradients, 2);
}

/* Sharded: gathers of a MiB send half of it; op 0 waits for bucket 0, op 1 for bucket 1. */
static void weights_arrive_before_their_op(void **state)
{
    (void)state;
    const ScalingWork work = work_of_two();
    ScalingNetwork n = network_of(0, (1 << 20) / 4.0); /* two seconds a gather or a reduce-scatter */
    ScalingStep step = step_of(&work, &n, mode_of(2, true, true));
    assert_true(step.exposed_weights > 3 - 1e-9 && step.exposed_weights < 3 + 1e-9); /* until 2, and from 3 to 4 */
    /* backward from 5: sums from 6 to 8 and on to 10, and computing ends at 7 */
    assert_near(step.exposed_gradients, 3);
    assert_near(step.update, 0.5);
    step = step_of(&work, &n, mode_of(2, true, false));
    assert_near(step.exposed_weights, 4);
    assert_near(step.exposed_gradients, 4);
}

static void collectives_slow_computing_down(void **state)
{
    (void)state;
    const ScalingWork work = work_of_two();
    ScalingNetwork n = network_of(0, (1 << 20) / 0.5); /* half a second each */
    n.slowdown = 1;
    /* the last op does a quarter of its work in the first half second, and ends at 4.25 */
    const ScalingStep step = step_of(&work, &n, mode_of(2, false, true));
    assert_near(step.compute, 4.25);
    assert_near(step.exposed_gradients, 0.5);
}

/* ---- what must hold whatever the figures ---- */

enum { OPS = 60, BUCKETS = 9 };
typedef struct Case {
    double seconds[OPS];
    Bucket buckets[BUCKETS];
} Case;

static ScalingWork random_work(uint32_t seed, Case *c)
{
    int64_t offset = 0;
    for (int i = 0; i < OPS; i++) {
        seed = seed * 1664525u + 1013904223u;
        c->seconds[i] = 1e-3 * (1 + (seed >> 20) % 50);
    }
    for (int b = 0; b < BUCKETS; b++) {
        seed = seed * 1664525u + 1013904223u;
        const int64_t count = 4096 * (1 + (seed >> 20) % 64);
        c->buckets[b] = (Bucket){offset, count, 20 + (int32_t)((seed >> 8) % (OPS - 20)), (int32_t)((seed >> 4) % 21)};
        offset += count;
    }
    return (ScalingWork){.op_seconds = c->seconds,
                         .op_count = OPS,
                         .buckets = c->buckets,
                         .bucket_count = BUCKETS,
                         .micro_batches = 1 + seed % 3,
                         .update_seconds = 0.01,
                         .images = 4};
}

static double exposed_of(const ScalingStep *step)
{
    return step->exposed_gradients + step->exposed_weights;
}

static void overlap_and_bandwidth_never_hurt(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed < 200; seed++) {
        Case c;
        const ScalingWork work = random_work(seed, &c);
        const bool sharded = seed & 1;
        double before = INFINITY;
        for (int k = 0; k < 11; k++) {
            const ScalingNetwork n = network_of(1e-5, 1e5 * pow(3, k));
            const ScalingStep on = step_of(&work, &n, mode_of(8, sharded, true));
            const ScalingStep off = step_of(&work, &n, mode_of(8, sharded, false));
            assert_true(on.seconds <= off.seconds * (1 + 1e-12));
            assert_true(on.seconds <= before * (1 + 1e-12));
            assert_near(exposed_of(&off), off.communication);
            assert_near(on.communication, off.communication);
            before = on.seconds;
        }
    }
}

/* Where the link is fast only the last sum is exposed; where it is slow all but what runs beside the rest of backward.
 */
static void bound_by_computing_or_by_the_link(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed < 100; seed++) {
        Case c;
        const ScalingWork work = random_work(seed, &c);
        ScalingNetwork n = network_of(0, 1e12);
        ScalingStep step = step_of(&work, &n, mode_of(8, false, true));
        assert_true(step.exposed_gradients < 1e-5);
        n = network_of(0, 1e3);
        step = step_of(&work, &n, mode_of(8, false, true));
        double all = 0, beside = 0;
        int32_t first = OPS;
        for (int i = 0; i < OPS; i++) all += c.seconds[i];
        for (int b = 0; b < BUCKETS; b++)
            if (c.buckets[b].ready_after < first) first = c.buckets[b].ready_after;
        for (int i = first + 1; i < OPS; i++) beside += c.seconds[i];
        assert_near(step.exposed_gradients, step.communication - beside);
        assert_near(step.compute, all * (double)work.micro_batches);
    }
}

/* ---- fitting ---- */

static void fit_finds_latency_and_rate(void **state)
{
    (void)state;
    double amount[6], seconds[6], latency, rate, worst;
    for (int i = 0; i < 6; i++) {
        amount[i] = 1000 * pow(10, i);
        seconds[i] = 3e-4 + amount[i] / 2e8;
    }
    assert_true(scaling_fit(amount, seconds, 6, &latency, &rate, &worst));
    assert_true(fabs(latency / 3e-4 - 1) < 1e-6 && fabs(rate / 2e8 - 1) < 1e-6 && worst < 1e-6);
    for (int i = 0; i < 6; i++) seconds[i] *= i % 2 ? 1.1 : 0.9;
    assert_true(scaling_fit(amount, seconds, 6, &latency, &rate, &worst));
    assert_true(fabs(latency / 3e-4 - 1) < 0.15 && fabs(rate / 2e8 - 1) < 0.15 && worst < 0.2);
    /* nothing that is negative comes out */
    for (int i = 0; i < 6; i++) seconds[i] = i < 3 ? 1e-9 : amount[i] / 2e8;
    assert_true(scaling_fit(amount, seconds, 6, &latency, &rate, &worst));
    assert_true(latency >= 0 && rate > 0);
    assert_false(scaling_fit(amount, seconds, 1, &latency, &rate, &worst));
    assert_false(scaling_fit((double[]){5, 5}, seconds, 2, &latency, &rate, &worst));
}

static void rows_of_a_case_are_fitted_alone(void **state)
{
    (void)state;
    CommRow rows[6];
    CommFit fit;
    for (int i = 0; i < 6; i++)
        rows[i] = (CommRow){.of = {i % 2 ? SCALING_GATHER : SCALING_REDUCE, COMM_WIRE_F32},
                            .sent = 1000.0 * (i + 1),
                            .seconds = 1000.0 * (i + 1) / (i % 2 ? 1e6 : 5e6)};
    assert_true(comm_bench_fit(rows, 6, (CommCase){SCALING_GATHER, COMM_WIRE_F32}, &fit));
    assert_true(fabs(fit.rate / 1e6 - 1) < 1e-6);
    assert_false(comm_bench_fit(rows, 6, (CommCase){SCALING_GATHER, COMM_WIRE_BF16}, &fit));
}

/* ---- files ---- */

static const char *write_file(const char *text)
{
    static char path[64];
    snprintf(path, sizeof path, "/tmp/vasily-scaling-%d", (int)getpid());
    assert_int_equal(file_write_atomic(path, text, strlen(text)), STATUS_OK);
    return path;
}

static Status read_text(const char *text, Arena *arena, Calibration *out)
{
    const char *path = write_file(text);
    const Status status = calibration_read(&path, 1, arena, out);
    unlink(path);
    return status;
}

#define FITS(rate)                                                                                               \
    "\"fits\": [{\"collective\": \"reduce\", \"wire\": \"f32\", \"latency_seconds\": 0.001, "                    \
    "\"bytes_per_second\": " rate                                                                                \
    "}, {\"collective\": \"gather\", \"wire\": \"f32\", \"latency_seconds\": 0.001, \"bytes_per_second\": 2e6}," \
    "{\"collective\": \"all_reduce\", \"wire\": \"f32\", \"latency_seconds\": 0.008, \"bytes_per_second\": 3e6}]}"

/* Times are averaged: latencies and seconds a byte, of each kind of link by itself. */
static void several_measurements_count_by_their_mean(void **state)
{
    (void)state;
    CalibrationComm comms[3] = {{.ranks = 2, .local_ranks = 1, .slowdown = 0.1},
                                {.ranks = 2, .local_ranks = 2, .slowdown = 0.2},
                                {.ranks = 2, .local_ranks = 1, .slowdown = 0.6}};
    const double latency[3] = {1e-3, 5e-3, 3e-3}, rate[3] = {1e6, 7e6, 4e6};
    ScalingNetwork n = {.slowdown = 9};
    for (int i = 0; i < 3; i++)
        for (int what = 0; what < SCALING_COLLECTIVES; what++) {
            comms[i].fit[what][0].there = true;
            comms[i].fit[what][0].latency = latency[i];
            comms[i].fit[what][0].bytes_per_second = rate[i];
        }
    assert_int_equal(calibration_network(&(Calibration){.comms = comms, .comm_count = 3}, false, &n), STATUS_OK);
    assert_true(fabs(n.remote.rate[SCALING_GATHER].latency - 2e-3) < 1e-12);
    assert_true(fabs(n.remote.rate[SCALING_GATHER].bytes_per_second - 1.6e6) < 1e-3);
    assert_true(fabs(n.local.rate[SCALING_GATHER].latency - 5e-3) < 1e-12);
    assert_true(fabs(n.local.rate[SCALING_GATHER].bytes_per_second - 7e6) < 1e-3);
    assert_true(fabs(n.slowdown - 0.3) < 1e-12);
}

static void ranks_of_a_machine_are_those_measured_on_one(void **state)
{
    (void)state;
    CalibrationComm comms[] = {{.ranks = 4, .local_ranks = 1},
                               {.ranks = 8, .local_ranks = 8},
                               {.ranks = 2, .local_ranks = 2},
                               {.ranks = 16, .local_ranks = 1}};
    assert_int_equal(calibration_per_node(&(Calibration){.comms = comms, .comm_count = 4}), 8);
    assert_int_equal(calibration_per_node(&(Calibration){.comms = comms + 1, .comm_count = 1}), 8);
    assert_int_equal(calibration_per_node(&(Calibration){.comms = comms, .comm_count = 1}), 1);
    assert_int_equal(calibration_per_node(&(Calibration){0}), 0);
}

static void measurements_are_read(void **state)
{
    (void)state;
    Arena *arena;
    Calibration c;
    ScalingNetwork n = {0};
    assert_int_equal(arena_create(&arena), STATUS_OK);
    assert_int_equal(read_text("{\"ranks\": 4, \"local_ranks\": 1, \"slowdown\": 0.25, " FITS("1e6"), arena, &c),
                     STATUS_OK);
    assert_int_equal(calibration_network(&c, false, &n), STATUS_OK);
    assert_near(n.remote.rate[SCALING_REDUCE].latency, 0.0005); /* of two hops */
    assert_near(n.remote.rate[SCALING_ALL_REDUCE].latency, 0.002);
    assert_near(n.remote.rate[SCALING_GATHER].bytes_per_second, 2e6);
    assert_near(n.slowdown, 0.25);
    assert_near(n.local.rate[SCALING_REDUCE].bytes_per_second, 0);
    assert_int_equal(calibration_network(&c, true, &n), ERR_FORMAT); /* bf16 was not measured */
    assert_non_null(strstr(status_message(), "bf16"));
    arena_free(arena);
}

static void broken_measurements_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } BAD[] = {
        {"{\"ranks\": 4, \"local_ranks\": 2, \"slowdown\": 0, " FITS("1e6"), "cannot be told apart"},
        {"{\"ranks\": 1, \"local_ranks\": 1, \"slowdown\": 0, " FITS("1e6"), "on one rank"},
        {"{\"ranks\": 2, \"local_ranks\": 2, " FITS("1e6"), "\"slowdown\""},
        {"{\"ranks\": 2, \"local_ranks\": 2, \"slowdown\": 0, " FITS("0"), "is 0"},
        {"{\"ranks\": 2, \"local_ranks\": 2, \"slowdown\": 0, " FITS("-1"), "\"bytes_per_second\""},
        {"{\"ranks\": 2, \"ranks\": 2, \"local_ranks\": 2, \"slowdown\": 0, " FITS("1"), "twice"},
        {"{\"ranks\": 2.5, \"local_ranks\": 2, \"slowdown\": 0, " FITS("1"), "whole number"},
        {"{\"ops\": [], \"parameters\": 5, \"batch\": 3, \"micro_batch\": 2, \"step_seconds\": 1}",
         "micro-batches of 2"},
        {"{\"ops\": [{\"op\": \"conv2d\"}], \"parameters\": 5, \"batch\": 2, \"micro_batch\": 2, \"step_seconds\": 1}",
         "\"seconds\""},
        {"{\"ops\": [], \"parameters\": 5, \"batch\": 2, \"micro_batch\": 2, \"step_seconds\": NaN}",
         "\"step_seconds\""},
        {"{}", "neither"},
        {"{\"fits\"", "vasily-scaling"},
    };
    Arena *arena;
    Calibration c;
    assert_int_equal(arena_create(&arena), STATUS_OK);
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        assert_int_equal(read_text(BAD[i].text, arena, &c), ERR_FORMAT);
        if (!strstr(status_message(), BAD[i].message)) fail_msg("case %zu: %s", i, status_message());
    }
    arena_free(arena);
}

static void machines_are_read_strictly(void **state)
{
    (void)state;
    ScalingMachines machines;
    ScalingMachine machine;
    Config *config;
    const char *path = write_file("machines:\n  - name: a\n    flops: 1.0e12\n    memory_bytes: 2.0e9\n"
                                  "    memory_rate: 1.0e11\n    link_rate: 1.0e10\n    network_rate: 1.0e9\n");
    assert_int_equal(scaling_machines_load(path, &machines, &config), STATUS_OK);
    assert_int_equal(scaling_machines_find(&machines, "a", &machine), STATUS_OK);
    assert_near(machine.link_rate, 1e10);
    assert_int_equal(scaling_machines_find(&machines, "b", &machine), ERR_USAGE);
    config_free(config);
    path = write_file("machines:\n  - name: a\n    flops: 1.0e12\n    memory_rates: 1.0e11\n");
    assert_int_equal(scaling_machines_load(path, &machines, &config), ERR_CONFIG);
    assert_non_null(strstr(status_message(), "memory_rate"));
    config_free(config);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(collectives_by_hand),
        cmocka_unit_test(groups_by_hand),
        cmocka_unit_test(traffic_by_hand),
        cmocka_unit_test(one_rank_does_not_communicate),
        cmocka_unit_test(one_bucket_and_no_computing),
        cmocka_unit_test(hidden_and_exposed_by_hand),
        cmocka_unit_test(weights_arrive_before_their_op),
        cmocka_unit_test(collectives_slow_computing_down),
        cmocka_unit_test(overlap_and_bandwidth_never_hurt),
        cmocka_unit_test(bound_by_computing_or_by_the_link),
        cmocka_unit_test(fit_finds_latency_and_rate),
        cmocka_unit_test(rows_of_a_case_are_fitted_alone),
        cmocka_unit_test(several_measurements_count_by_their_mean),
        cmocka_unit_test(ranks_of_a_machine_are_those_measured_on_one),
        cmocka_unit_test(measurements_are_read),
        cmocka_unit_test(broken_measurements_are_named),
        cmocka_unit_test(machines_are_read_strictly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
