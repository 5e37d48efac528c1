/* vasily bench comm: how fast the ranks exchange, and how well that hides behind computing. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "train/comm_bench.h"
#include "train/command.h"
#include "train/network.h"

enum { SIZES_MOST = 12, ROWS_MOST = SIZES_MOST * COMM_CASES };

static const char *const DEVICES[] = {"cpu", "cuda", NULL};
enum { ON_CPU, ON_CUDA };
static const char *const NAMES[] = {
    [SCALING_REDUCE] = "reduce-scatter", [SCALING_GATHER] = "all-gather", [SCALING_ALL_REDUCE] = "all-reduce"};

typedef struct BenchArguments {
    const char *sizes;
    double seconds;
    int64_t threads;
    int32_t device;
    bool json, alone;
} BenchArguments;

typedef struct Bench {
    Comm *comm;
    Backend *backend;
    CommBench *comms;
    int64_t sizes[SIZES_MOST];
    int size_count;
    CommRow rows[ROWS_MOST];
    int row_count;
    double agreement;
    CommHiding hiding;
} Bench;

/* "64Ki,1Mi,16Mi". Rows are rounded up to whole shares, and MPI counts floats in int. */
static Status parse_sizes(const char *text, int ranks, Bench *bench)
{
    Status status = STATUS_OK;
    const int64_t unit = 16 * (int64_t)sizeof(float) * ranks, limit = (int64_t)INT32_MAX * 4 / unit * unit;
    bool differ = false;
    for (const char *at = text; *at;) {
        char *end = NULL;
        const long long number = strtoll(at, &end, 10);
        int shift = 0;
        if (end != at && end[0] && end[0] != ',' && end[1] == 'i') {
            shift = end[0] == 'K' ? 10 : end[0] == 'M' ? 20 : end[0] == 'G' ? 30 : -1;
            end += 2;
        }
        if (end == at || number < 1 || shift < 0 || (*end && *end != ','))
            FAIL(ERR_USAGE, "--sizes %s: sizes in bytes, or in Ki, Mi or Gi, with commas between: 64Ki,1Mi,16Mi", text);
        if (number > limit >> shift)
            FAIL(ERR_USAGE, "--sizes %s: %.*s is more than MPI sends at once; at most %lldMi", text, (int)(end - at),
                 at, (long long)limit >> 20);
        if (bench->size_count == SIZES_MOST) FAIL(ERR_USAGE, "--sizes %s: more than %d sizes", text, SIZES_MOST);
        bench->sizes[bench->size_count++] = number << shift;
        differ = differ || ((number << shift) - 1) / unit != (bench->sizes[0] - 1) / unit;
        at = *end ? end + 1 : end;
    }
    if (!differ)
        FAIL(ERR_USAGE, "--sizes %s: latency and bandwidth take at least two different sizes, in steps of %lld bytes",
             text, (long long)unit);
fail:
    return status;
}

static int64_t largest(const Bench *bench)
{
    int64_t most = 0;
    for (int i = 0; i < bench->size_count; i++)
        if (bench->sizes[i] > most) most = bench->sizes[i];
    return most;
}

static Status measure(Bench *bench, const BenchArguments *arguments)
{
    Status status = STATUS_OK;
    RunConfig run = {.device = {.name = arguments->device == ON_CUDA ? DEVICE_CUDA : DEVICE_CPU,
                                .threads = arguments->threads,
                                .cache = (char[]){""}}};
    TRY(network_open_backend(&run, bench->comm, &bench->backend));
    if (bench->backend->device && !bench->backend->device->collectives)
        FAIL(ERR_UNSUPPORTED,
             "this build of libvasily_cuda.so has no collectives; build it where NCCL is, or measure the "
             "host's with --device cpu");
    TRY(comm_bench_create(bench->comm, bench->backend, largest(bench), &bench->comms));
    for (int k = 0; k < COMM_CASES; k++)
        for (int i = 0; i < bench->size_count; i++)
            TRY(comm_bench_row(bench->comms, COMM_BENCH_CASES[k], bench->sizes[i], arguments->seconds,
                               &bench->rows[bench->row_count++]));
    TRY(comm_bench_agreement(bench->comms, &bench->agreement));
    if (!arguments->alone) TRY(comm_bench_hiding(bench->comms, largest(bench), &bench->hiding));
fail:
    return status;
}

/* ---- results ---- */

static void json_rows(const Bench *bench, JsonWriter *w)
{
    json_array(w, "rows");
    for (int i = 0; i < bench->row_count; i++) {
        const CommRow *row = &bench->rows[i];
        json_object(w, NULL);
        json_string(w, "collective", SCALING_COLLECTIVE_WORDS[row->of.what]);
        json_string(w, "wire", COMM_WIRE_WORDS[row->of.wire]);
        json_float(w, "bytes", row->bytes);
        json_float(w, "seconds", row->seconds);
        json_int(w, "repetitions", row->repetitions);
        json_float(w, "algorithm_bytes_per_second", row->bytes / row->seconds);
        json_float(w, "bus_bytes_per_second", row->sent / row->seconds);
        json_end_object(w);
    }
    json_end_array(w);
}

static void json_fits(const Bench *bench, JsonWriter *w)
{
    json_array(w, "fits");
    for (int k = 0; k < COMM_CASES; k++) {
        CommFit fit;
        if (!comm_bench_fit(bench->rows, bench->row_count, COMM_BENCH_CASES[k], &fit)) continue;
        json_object(w, NULL);
        json_string(w, "collective", SCALING_COLLECTIVE_WORDS[COMM_BENCH_CASES[k].what]);
        json_string(w, "wire", COMM_WIRE_WORDS[COMM_BENCH_CASES[k].wire]);
        json_float(w, "latency_seconds", fit.latency);
        json_float(w, "bytes_per_second", fmin(fit.rate, 1e18));
        json_float(w, "worst_error", fit.worst);
        json_end_object(w);
    }
    json_end_array(w);
}

static Status print_json(const Bench *bench)
{
    Status status = STATUS_OK;
    StrBuf text = {0};
    JsonWriter w;
    json_begin(&w, &text);
    json_object(&w, NULL);
    json_string(&w, "device", bench->backend->name);
    json_string(&w, "library", comm_bench_library(bench->comms));
    json_int(&w, "ranks", comm_world(bench->comm));
    json_int(&w, "local_ranks", comm_local_world(bench->comm));
    json_rows(bench, &w);
    json_fits(bench, &w);
    json_float(&w, "agreement_seconds", bench->agreement);
    json_float(&w, "compute_rate", bench->hiding.compute_rate);
    json_float(&w, "comm_rate", bench->hiding.comm_rate);
    json_float(&w, "hidden", bench->hiding.hidden);
    json_float(&w, "slowdown", bench->hiding.slowdown);
    json_end_object(&w);
    TRY(strbuf_append(&text, "\n", 1));
    fputs(text.data, stdout);
fail:
    strbuf_free(&text);
    return status;
}

static void print_table(const Bench *bench)
{
    printf("%s, %d ranks, %d of them on this machine; %s\n\n  %-16s %-5s %12s %12s %14s %14s\n", bench->backend->name,
           comm_world(bench->comm), comm_local_world(bench->comm), comm_bench_library(bench->comms), "collective",
           "wire", "MB", "ms", "algorithm GB/s", "bus GB/s");
    for (int i = 0; i < bench->row_count; i++) {
        const CommRow *row = &bench->rows[i];
        printf("  %-16s %-5s %12.3f %12.3f %14.3f %14.3f\n", NAMES[row->of.what], COMM_WIRE_WORDS[row->of.wire],
               1e-6 * row->bytes, 1e3 * row->seconds, 1e-9 * row->bytes / row->seconds,
               1e-9 * row->sent / row->seconds);
    }
    printf("\nas latency + bytes that a rank sends / bandwidth\n");
    for (int k = 0; k < COMM_CASES; k++) {
        CommFit fit;
        if (!comm_bench_fit(bench->rows, bench->row_count, COMM_BENCH_CASES[k], &fit)) continue;
        printf("  %-16s %-5s %9.1f us + bytes / %.3f GB/s   (rows differ by %.0f%% at most)\n",
               NAMES[COMM_BENCH_CASES[k].what], COMM_WIRE_WORDS[COMM_BENCH_CASES[k].wire], 1e6 * fit.latency,
               1e-9 * fit.rate, 100 * fit.worst);
    }
    printf("\nthe ranks agree in %.1f us (56 bytes of each, on the host)\n", 1e6 * bench->agreement);
    if (bench->hiding.compute_rate > 0)
        printf(
            "beside each other computing goes at %.1f%% of its speed alone, communicating at %.1f%%: %.1f%% hidden\n",
            100 * bench->hiding.compute_rate, 100 * bench->hiding.comm_rate, 100 * bench->hiding.hidden);
}

static Status run(CommandCall *call)
{
    Status status = STATUS_OK;
    const BenchArguments *arguments = call->options;
    Bench *bench = arena_alloc(call->arena, sizeof *bench);
    if (!bench) return ERR_MEMORY;
    bench->comm = call->comm;
    if (call->positional.count) FAIL(ERR_USAGE, "vasily bench comm takes no arguments but options");
    TRY(parse_sizes(arguments->sizes, comm_world(call->comm), bench));
    if (comm_world(call->comm) < 2)
        FAIL(ERR_USAGE, "one rank communicates with nobody; start it by launch/mpirun 2 vasily bench comm, or mpirun");
    TRY(measure(bench, arguments));
    if (comm_rank(call->comm) == 0) {
        if (arguments->json)
            TRY(print_json(bench));
        else
            print_table(bench);
    }
fail:
    if (status != STATUS_OK) comm_stop(call->comm); /* before the buffers go that data may still travel through */
    comm_bench_free(bench->comms);
    if (bench->backend) backend_close(bench->backend);
    return status;
}

static const ArgSpec options[] = {
    {"sizes", ARG_TEXT, offsetof(BenchArguments, sizes), "LIST",
     "at least two sizes of fp32 data in bytes, Ki, Mi or Gi, with commas between (default 64Ki,1Mi,8Mi,64Mi)", 0, 0,
     NULL},
    {"seconds", ARG_FLOAT, offsetof(BenchArguments, seconds), "S", "for each size of each collective (default 0.5)", 0,
     1e4, NULL},
    {"threads", ARG_INT, offsetof(BenchArguments, threads), "N",
     "that compute beside (default: this rank's share of the processors)", 0, 4096, NULL},
    {"device", ARG_WORD, offsetof(BenchArguments, device), "cpu|cuda",
     "whose collectives: the host's, through MPI (default), or the GPUs'", 0, 0, DEVICES},
    {"alone", ARG_FLAG, offsetof(BenchArguments, alone), NULL,
     "without what runs beside computing, which takes long; predictions from it slow nothing down", 0, 0, NULL},
    {"json", ARG_FLAG, offsetof(BenchArguments, json), NULL, "one JSON object instead of the table", 0, 0, NULL},
};
static const BenchArguments defaults = {.sizes = "64Ki,1Mi,8Mi,64Mi", .seconds = 0.5, .device = ON_CPU};

const Command command_bench_comm = {
    .name = "bench comm",
    .summary = "time the collectives between ranks",
    .usage = "[--sizes LIST] [--device cpu|cuda] [--alone] [--json]",
    .details =
        "Under mpirun, on all ranks. A table of size, time, algorithm bandwidth (size / time) and bus bandwidth (what\n"
        "a rank sends / time: 2 (W - 1) / W of the size for an all-reduce, (W - 1) / W for a reduce-scatter or an\n"
        "all-gather; nccl-tests' convention), and how well collectives run beside matrix products. --json is what\n"
        "`vasily plan --calibration FILE` takes: measure all ranks of one machine, and one rank on each of several.\n",
    .table = COMMAND_TABLE(options),
    .options_size = sizeof(BenchArguments),
    .defaults = &defaults,
    .parallel = true,
    .run = run,
};
