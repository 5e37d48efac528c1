/* How fast the ranks' collectives are: MPI's between hosts (engine/comm.h), or those between devices
 * (DeviceCollectives). For `vasily bench comm`, and what it writes for the scaling model. All functions are collective.
 *
 * As nccl-tests has it, `bytes` being the data that is reduced or gathered, of all shares together:
 *
 *   algorithm bandwidth  bytes / seconds
 *   bus bandwidth        bytes a rank sends / seconds: 2 (W - 1) / W of the bytes for an all-reduce, (W - 1) / W for a
 *                        reduce-scatter or an all-gather
 * (https://github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md). With bf16 on the wire the bytes are those of
 * the wire, half of the fp32 data. */
#ifndef TRAIN_COMM_BENCH_H
#define TRAIN_COMM_BENCH_H

#include "engine/backend.h"
#include "engine/comm.h"
#include "train/scaling.h"

typedef struct CommCase {
    ScalingCollective what;
    CommWire wire;
} CommCase;
#define COMM_CASES 5
extern const CommCase COMM_BENCH_CASES[COMM_CASES];
extern const char *const COMM_WIRE_WORDS[];

typedef struct CommRow {
    CommCase of;
    double bytes, sent; /* on the wire: of the data; and by each rank */
    double seconds;     /* median of the repetitions, each as long as on the slowest rank */
    int64_t repetitions;
} CommRow;

typedef struct CommFit {
    double latency, rate; /* seconds; bytes per second that a rank sends */
    double worst;         /* largest relative error of a row */
} CommFit;

/* How much of each is done while both run, of what is done alone; and what is gained by it: 1: computing and
 * communicating beside each other cost nothing, 0: as much as one after the other. */
typedef struct CommHiding {
    double compute_rate, comm_rate, hidden;
    double slowdown; /* 1 / compute_rate - 1, at least 0 */
} CommHiding;

typedef struct CommBench CommBench;
/* `backend`: what computes beside; with DeviceCollectives these are measured. Room for `most` bytes of fp32 data. */
Status comm_bench_create(Comm *comm, Backend *backend, int64_t most, CommBench **out);
void comm_bench_free(CommBench *bench); /* NULL is fine */
const char *comm_bench_library(const CommBench *bench);
/* One collective over about `bytes` of fp32 data, repeated for about `seconds`. */
Status comm_bench_row(CommBench *bench, CommCase of, int64_t bytes, double seconds, CommRow *out);
/* Seconds of gathering 64 bytes from every rank to every rank on the host, as the ranks agree on a step. */
Status comm_bench_agreement(CommBench *bench, double *seconds);
/* All-reduces of about `bytes` beside matrix products, which are repeated for about a
 * second; twice. */
Status comm_bench_hiding(CommBench *bench, int64_t bytes, CommHiding *out);
/* Of the rows of one case; false with too few. */
bool comm_bench_fit(const CommRow *rows, int count, CommCase of, CommFit *out);

#endif
