#include "train/comm_bench.h"

#include <math.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/file.h"
#include "train/trainer.h"

enum { REPETITIONS_MOST = 1000, AGREEMENT_REPETITIONS = 200, FLIGHT_MOST = 4096 };
/* Communication beside computing must outlast it. */
#define OUTLASTS 1.5

const CommCase COMM_BENCH_CASES[COMM_CASES] = {{SCALING_ALL_REDUCE, COMM_WIRE_F32},
                                               {SCALING_ALL_REDUCE, COMM_WIRE_BF16},
                                               {SCALING_REDUCE, COMM_WIRE_F32},
                                               {SCALING_REDUCE, COMM_WIRE_BF16},
                                               {SCALING_GATHER, COMM_WIRE_F32}};
const char *const COMM_WIRE_WORDS[] = {"f32", "bf16", NULL};

struct CommBench {
    Comm *comm;
    Backend *backend;
    const DeviceCollectives *device; /* NULL: the host's are measured */
    DeviceComm *device_comm;
    int64_t most;           /* elements */
    float *data;            /* zeros, so that no sum overflows however often; the device's, or the host's */
    uint16_t *half;         /* device: what travels as bf16 */
    double *times;          /* (REPETITIONS_MOST) */
    CommRequest **requests; /* (FLIGHT_MOST) */
};

/* ---- set-up ---- */

static Status open_device(CommBench *b)
{
    Status status = STATUS_OK;
    uint8_t id[DEVICE_COMM_ID_BYTES] = {0};
    b->device = b->backend->device->collectives;
    if (comm_rank(b->comm) == 0) TRY(b->device->make_id(b->backend, id));
    TRY(comm_broadcast(b->comm, id, sizeof id, 0));
    TRY(b->device->open(b->backend, id, comm_rank(b->comm), comm_world(b->comm), &b->device_comm));
    b->half = b->backend->alloc(b->backend, (size_t)b->most * sizeof *b->half);
    if (!b->half) FAIL(ERR_MEMORY, "no memory for %lld bytes on the GPU", (long long)b->most * 2);
fail:
    return status;
}

Status comm_bench_create(Comm *comm, Backend *backend, int64_t most, CommBench **out)
{
    Status status = STATUS_OK;
    CommBench *b = mem_alloc_array(1, sizeof *b);
    *out = NULL;
    if (!b) return status_fail(ERR_MEMORY, __FILE__, __LINE__, "out of memory");
    b->comm = comm;
    b->backend = backend;
    b->most = most / (int64_t)sizeof(float) + 16 * (int64_t)comm_world(comm); /* rows are rounded up to whole shares */
    b->times = mem_alloc_array(REPETITIONS_MOST, sizeof *b->times);
    b->requests = mem_alloc_array(FLIGHT_MOST, sizeof *b->requests);
    b->data = backend->alloc(backend, (size_t)b->most * sizeof *b->data);
    if (!b->times || !b->requests || !b->data) FAIL(ERR_MEMORY, "no memory for %lld bytes", (long long)most);
    if (backend->device && backend->device->collectives) TRY(open_device(b));
    *out = b;
    return STATUS_OK;
fail:
    comm_bench_free(b);
    return status;
}

void comm_bench_free(CommBench *b)
{
    if (!b) return;
    if (b->device) b->device->close(b->backend, b->device_comm);
    if (b->half) b->backend->free(b->backend, b->half);
    if (b->data) b->backend->free(b->backend, b->data);
    free(b->times);
    free(b->requests);
    free(b);
}

const char *comm_bench_library(const CommBench *b)
{
    return b->device ? b->device->version() : comm_library_version();
}

/* ---- one collective ---- */

/* Queued on the device. */
static Status begin_on_device(CommBench *b, CommCase of, int64_t count)
{
    Status status = STATUS_OK;
    const bool narrow = of.wire == COMM_WIRE_BF16;
    void *data = narrow ? (void *)b->half : (void *)b->data;
    const DeviceNumber type = narrow ? DEVICE_BF16 : DEVICE_F32;
    if (narrow) TRY(b->device->narrow(b->backend, b->half, b->data, count));
    if (of.what == SCALING_REDUCE) TRY(b->device->reduce_scatter(b->backend, b->device_comm, data, count, type));
    if (of.what == SCALING_GATHER) TRY(b->device->all_gather(b->backend, b->device_comm, data, count, type));
    if (of.what == SCALING_ALL_REDUCE) TRY(b->device->all_reduce(b->backend, b->device_comm, data, count, type));
    if (narrow) TRY(b->device->widen(b->backend, b->data, b->half, count));
fail:
    return status;
}

static Status begin(CommBench *b, CommCase of, int64_t count, CommRequest **request)
{
    if (b->device) return begin_on_device(b, of, count);
    if (of.what == SCALING_GATHER) return comm_gather_begin(b->comm, b->data, count, request);
    return comm_reduce_begin(b->comm, b->data, count, of.wire, of.what == SCALING_ALL_REDUCE, request);
}

static Status end(CommBench *b, CommRequest *request)
{
    return b->device ? b->backend->device->finish(b->backend) : comm_wait(b->comm, request);
}

static Status time_one(CommBench *b, CommCase of, int64_t count, double *seconds)
{
    Status status = STATUS_OK;
    CommRequest *request = NULL;
    const double start = clock_seconds();
    TRY(begin(b, of, count, &request));
    TRY(end(b, request));
    *seconds = clock_seconds() - start;
fail:
    return status;
}

/* ---- rows ---- */

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int64_t count)
{
    qsort(values, (size_t)count, sizeof *values, by_value);
    return (values[(count - 1) / 2] + values[count / 2]) / 2;
}

Status comm_bench_row(CommBench *b, CommCase of, int64_t bytes, double seconds, CommRow *out)
{
    Status status = STATUS_OK;
    const int64_t unit = 16 * (int64_t)comm_world(b->comm), elements = bytes / (int64_t)sizeof(float);
    int64_t count = (elements + unit - 1) / unit * unit, repetitions;
    const double world = comm_world(b->comm), times = of.what == SCALING_ALL_REDUCE ? 2 : 1;
    double first = 0;
    if (count < unit) count = unit;
    if (count > b->most) FAIL(ERR_INTERNAL, "%lld elements, with room for %lld", (long long)count, (long long)b->most);
    for (int warm = 0; warm < 2; warm++) TRY(time_one(b, of, count, &first));
    TRY(comm_all_reduce_f64(b->comm, &first, 1, COMM_MAX));
    repetitions = (int64_t)fmin(fmax(seconds / first, 3), REPETITIONS_MOST);
    for (int64_t i = 0; i < repetitions; i++) TRY(time_one(b, of, count, &b->times[i]));
    TRY(comm_all_reduce_f64(b->comm, b->times, (int)repetitions, COMM_MAX));
    *out = (CommRow){.of = of, .repetitions = repetitions};
    out->bytes = (double)count * (of.wire == COMM_WIRE_BF16 ? 2 : 4);
    out->sent = times * (world - 1) / world * out->bytes;
    out->seconds = median(b->times, repetitions);
fail:
    return status;
}

Status comm_bench_agreement(CommBench *b, double *seconds)
{
    Status status = STATUS_OK;
    char own[TRAINER_TOLD_BYTES] = {0};
    char *all = mem_alloc_array((size_t)comm_world(b->comm), sizeof own);
    if (!all) FAIL(ERR_MEMORY, "out of memory");
    for (int i = 0; i < AGREEMENT_REPETITIONS; i++) {
        const double start = clock_seconds();
        TRY(comm_all_gather(b->comm, own, sizeof own, all));
        b->times[i] = clock_seconds() - start;
    }
    TRY(comm_all_reduce_f64(b->comm, b->times, AGREEMENT_REPETITIONS, COMM_MAX));
    *seconds = median(b->times, AGREEMENT_REPETITIONS);
fail:
    free(all);
    return status;
}

/* ---- beside computing ---- */

static Status multiply(CommBench *b, double *rate, double *seconds)
{
    Status status = STATUS_OK;
    const double start = clock_seconds();
    TRY(b->backend->matmul_peak(b->backend, b->backend->device ? DTYPE_BF16 : DTYPE_F32, rate));
    *seconds = clock_seconds() - start;
fail:
    return status;
}

/* `flights` collectives one behind the other, all over the same zeros; with `beside` while matrices are multiplied. */
static Status fly(CommBench *b, CommCase of, int64_t count, int64_t flights, bool beside, double *rate,
                  double *multiplied, double *seconds)
{
    Status status = STATUS_OK;
    TRY(comm_barrier(b->comm));
    const double start = clock_seconds();
    for (int64_t i = 0; i < flights; i++) TRY(begin(b, of, count, &b->requests[i]));
    if (beside) TRY(multiply(b, rate, multiplied));
    for (int64_t i = 0; i < (b->device ? 1 : flights); i++) TRY(end(b, b->requests[i]));
    *seconds = clock_seconds() - start;
fail:
    return status;
}

/* What is left of the communication after the last product goes on as fast as alone. */
static CommHiding compare(double rate, double alone, double beside_rate, double beside, double both)
{
    const double after = both > beside ? both - beside : 0, done = alone > after ? alone - after : 0;
    CommHiding h = {.compute_rate = fmin(beside_rate / rate, 1), .comm_rate = fmin(done / fmin(beside, both), 1)};
    h.hidden = fmax(h.compute_rate + h.comm_rate - 1, 0);
    h.slowdown = h.compute_rate > 0 ? 1 / h.compute_rate - 1 : 0;
    return h;
}

Status comm_bench_hiding(CommBench *b, int64_t bytes, CommHiding *out)
{
    Status status = STATUS_OK;
    enum { ROUNDS = 2 }; /* the best of which counts: what else runs on the machine only makes it slower */
    const CommCase of = {SCALING_ALL_REDUCE, COMM_WIRE_F32};
    const int64_t unit = 16 * (int64_t)comm_world(b->comm);
    const int64_t count = bytes / (int64_t)sizeof(float) / unit * unit;
    double rate = 0, multiplied = 0, one = 0, alone = INFINITY, unused;
    double beside_rate[ROUNDS], beside[ROUNDS], both[ROUNDS];
    *out = (CommHiding){0};
    if (!b->backend->matmul_peak || count < unit) return STATUS_OK;
    TRY(comm_barrier(b->comm));
    TRY(multiply(b, &rate, &multiplied));
    TRY(fly(b, of, count, 4, false, &unused, &unused, &one));
    double most[2] = {multiplied, one / 4};
    TRY(comm_all_reduce_f64(b->comm, most, 2, COMM_MAX));
    const int64_t flights = (int64_t)fmin(ceil(OUTLASTS * most[0] / most[1]) + 1, FLIGHT_MOST);
    for (int round = 0; round < ROUNDS; round++) {
        double seconds, again;
        TRY(fly(b, of, count, flights, false, &unused, &unused, &seconds));
        TRY(fly(b, of, count, flights, true, &beside_rate[round], &beside[round], &both[round]));
        TRY(multiply(b, &again, &multiplied));
        alone = fmin(alone, seconds);
        rate = fmax(rate, again);
    }
    for (int round = 0; round < ROUNDS; round++) {
        const CommHiding h = compare(rate, alone, beside_rate[round], beside[round], both[round]);
        if (round == 0 || h.compute_rate + h.comm_rate > out->compute_rate + out->comm_rate) *out = h;
    }
    double rates[] = {out->compute_rate, out->comm_rate, out->hidden, -out->slowdown}; /* of the slowest rank */
    TRY(comm_all_reduce_f64(b->comm, rates, 4, COMM_MIN));
    *out = (CommHiding){rates[0], rates[1], rates[2], -rates[3]};
fail:
    return status;
}

/* ---- fitting ---- */

bool comm_bench_fit(const CommRow *rows, int count, CommCase of, CommFit *out)
{
    enum { MOST = 64 };
    double sent[MOST], seconds[MOST];
    int used = 0;
    for (int i = 0; i < count && used < MOST; i++) {
        if (rows[i].of.what != of.what || rows[i].of.wire != of.wire) continue;
        sent[used] = rows[i].sent;
        seconds[used++] = rows[i].seconds;
    }
    return scaling_fit(sent, seconds, used, &out->latency, &out->rate, &out->worst);
}
