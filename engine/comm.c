/* The front of the collectives: arguments, the pool of requests, and a world of one. */
#include "engine/comm.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/bf16.h"
#include "engine/comm_internal.h"
#include "engine/flight_record.h"

struct Comm {
    CommWorld at;
    CommMpi *mpi; /* NULL: a world of one */
    pthread_mutex_t lock;
    CommRequest *free_requests; /* guarded by lock, like the two below */
    double exposed_seconds;
    int group; /* ranks of one */
    FlightRecord *flight;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

Status comm_open(Comm **out)
{
    Status status = STATUS_OK;
    *out = NULL;
    Comm *comm = mem_alloc_array(1, sizeof(*comm));
    if (!comm) return status_fail(ERR_MEMORY, __FILE__, __LINE__, "no memory for the communicator");
    pthread_mutex_init(&comm->lock, NULL);
    comm->at = (CommWorld){.rank = 0, .world = 1, .local_rank = 0, .local_world = 1};
    TRY(flight_record_create(&comm->flight));
    if (comm_mpi_is_launched()) TRY(comm_mpi_open(&comm->mpi, &comm->at));
    comm->group = comm->at.world;
    *out = comm;
    return STATUS_OK;
fail:
    comm_close(comm);
    return status;
}

void comm_close(Comm *comm)
{
    if (!comm) return;
    comm_mpi_close(comm->mpi, flight_record_begin(comm->flight, &(FlightWhat){.kind = "end", .ranks = comm->at.world}));
    flight_record_free(comm->flight);
    while (comm->free_requests) {
        CommRequest *request = comm->free_requests;
        comm->free_requests = request->next;
        free(request);
    }
    pthread_mutex_destroy(&comm->lock);
    free(comm);
}

int comm_rank(const Comm *comm)
{
    return comm->at.rank;
}

int comm_world(const Comm *comm)
{
    return comm->at.world;
}

int comm_local_rank(const Comm *comm)
{
    return comm->at.local_rank;
}

int comm_local_world(const Comm *comm)
{
    return comm->at.local_world;
}

/* ---- the flight record ---- */

FlightRecord *comm_flight_record(Comm *comm)
{
    return comm->flight;
}

void comm_note_step(Comm *comm, int64_t step, const char *activity)
{
    flight_record_note(comm->flight, step, activity);
}

static FlightWhat describe(const Comm *comm, const CommRequest *request)
{
    static const struct {
        const char *kind, *unit;
    } WORDS[] = {
        [COMM_KIND_ALL_REDUCE] = {"sum", "floats"},
        [COMM_KIND_ALL_REDUCE_F64] = {"reduction", "doubles"},
        [COMM_KIND_BROADCAST] = {"broadcast", "bytes"},
        [COMM_KIND_ALL_GATHER] = {"gathering", "bytes a rank"},
        [COMM_KIND_REDUCE] = {"sum in shares", "floats"},
        [COMM_KIND_GATHER] = {"gathering of shares", "floats"},
        [COMM_KIND_SET_GROUP] = {"making groups", NULL},
        [COMM_KIND_BARRIER] = {"barrier", NULL},
        [COMM_KIND_CLOSE] = {"end", NULL},
    };
    return (FlightWhat){.kind = WORDS[request->kind].kind,
                        .unit = WORDS[request->kind].unit,
                        .count = request->count,
                        .ranks = request->kind == COMM_KIND_GATHER ? comm->group : comm->at.world};
}

/* ---- requests ---- */

/* Requests are kept and used again, so that a training loop allocates them in its first step only. */
static CommRequest *request_get(Comm *comm)
{
    pthread_mutex_lock(&comm->lock);
    CommRequest *request = comm->free_requests;
    if (request) comm->free_requests = request->next;
    pthread_mutex_unlock(&comm->lock);
    return request ? request : mem_alloc_array(1, sizeof(*request));
}

static void request_put(Comm *comm, CommRequest *request)
{
    pthread_mutex_lock(&comm->lock);
    request->next = comm->free_requests;
    comm->free_requests = request;
    pthread_mutex_unlock(&comm->lock);
}

static Status begin(Comm *comm, CommRequest what, CommRequest **out)
{
    *out = NULL;
    CommRequest *request = request_get(comm);
    if (!request) {
        status_fail(ERR_MEMORY, __FILE__, __LINE__, "no memory for a collective");
        return ERR_MEMORY;
    }
    *request = what;
    const FlightWhat flight = describe(comm, request);
    request->flight = comm->flight;
    request->number = flight_record_begin(comm->flight, &flight);
    if (comm->mpi) {
        comm_mpi_submit(comm->mpi, request);
    } else if (what.kind == COMM_KIND_ALL_GATHER && what.count > 0) {
        memmove(what.output, what.input, (size_t)what.count);
    }
    if (!comm->mpi) flight_record_end(comm->flight, request->number, false);
    *out = request;
    return STATUS_OK;
}

static Status finish(Comm *comm, CommRequest *request)
{
    Status status = comm->mpi ? comm_mpi_wait(comm->mpi, request) : STATUS_OK;
    request_put(comm, request);
    return status;
}

static Status run(Comm *comm, CommRequest what)
{
    Status status = STATUS_OK;
    CommRequest *request = NULL;
    TRY(begin(comm, what, &request));
    TRY(finish(comm, request));
    return STATUS_OK;
fail:
    return status;
}

Status comm_all_reduce_begin(Comm *comm, float *data, int64_t count, CommRequest **request)
{
    *request = NULL;
    if (count < 0 || count > INT32_MAX || (!data && count > 0)) {
        return status_fail(ERR_INTERNAL, __FILE__, __LINE__, "all-reduce of %lld floats", (long long)count);
    }
    return begin(comm, (CommRequest){.kind = COMM_KIND_ALL_REDUCE, .input = data, .output = data, .count = count},
                 request);
}

Status comm_wait(Comm *comm, CommRequest *request)
{
    if (!request) return status_fail(ERR_INTERNAL, __FILE__, __LINE__, "wait for no request");
    double start = now();
    Status status = finish(comm, request);
    double seconds = now() - start;
    pthread_mutex_lock(&comm->lock);
    comm->exposed_seconds += seconds;
    pthread_mutex_unlock(&comm->lock);
    return status;
}

double comm_exposed_seconds(const Comm *comm)
{
    Comm *mutable = (Comm *)comm; /* the lock is not part of what the caller sees as constant */
    pthread_mutex_lock(&mutable->lock);
    double seconds = mutable->exposed_seconds;
    pthread_mutex_unlock(&mutable->lock);
    return seconds;
}

Status comm_all_reduce_f64(Comm *comm, double *values, int count, CommReduce how)
{
    if (count < 0 || (!values && count > 0) || how < COMM_SUM || how > COMM_MAX) {
        return status_fail(ERR_INTERNAL, __FILE__, __LINE__, "all-reduce of %d doubles, kind %d", count, (int)how);
    }
    return run(comm,
               (CommRequest){
                   .kind = COMM_KIND_ALL_REDUCE_F64, .input = values, .output = values, .count = count, .detail = how});
}

/* ---- shares ---- */

Status comm_set_group(Comm *comm, int group)
{
    Status status = STATUS_OK;
    if (group < 1 || comm->at.world % group)
        FAIL(ERR_CONFIG, "groups of %d ranks, of %d; parallel.group must divide them", group, comm->at.world);
    TRY(run(comm, (CommRequest){.kind = COMM_KIND_SET_GROUP, .count = group}));
    comm->group = group;
fail:
    return status;
}

int comm_group(const Comm *comm)
{
    return comm->group;
}

int comm_share(const Comm *comm)
{
    return comm->at.rank % comm->group;
}

/* MPI counts places in int. */
static Status check_shares(const Comm *comm, const float *data, int64_t count)
{
    Status status = STATUS_OK;
    if (count < 0 || count % (16 * (int64_t)comm->group) || (!data && count > 0))
        FAIL(ERR_INTERNAL, "shares of %lld floats among %d ranks", (long long)count, comm->group);
    if (count > INT32_MAX) FAIL(ERR_LIMIT, "%lld floats at once; lower train.bucket_bytes", (long long)count);
fail:
    return status;
}

/* What a world of one does to its data. */
static void round_alone(float *data, int64_t count)
{
    for (int64_t i = 0; i < count; i++) data[i] = bf16_to_f32(bf16_from_f32(data[i]));
}

Status comm_reduce_begin(Comm *comm, float *data, int64_t count, CommWire wire, bool gather, CommRequest **request)
{
    Status status = STATUS_OK;
    *request = NULL;
    TRY(check_shares(comm, data, count));
    if (!comm->mpi && wire == COMM_WIRE_BF16) round_alone(data, count);
    TRY(begin(
        comm,
        (CommRequest){.kind = COMM_KIND_REDUCE,
                      .input = data,
                      .output = data,
                      .count = count,
                      .detail = (wire == COMM_WIRE_BF16 ? COMM_REDUCE_BF16 : 0) | (gather ? COMM_REDUCE_GATHER : 0)},
        request));
fail:
    return status;
}

Status comm_gather_begin(Comm *comm, float *data, int64_t count, CommRequest **request)
{
    Status status = STATUS_OK;
    *request = NULL;
    TRY(check_shares(comm, data, count));
    TRY(begin(comm, (CommRequest){.kind = COMM_KIND_GATHER, .input = data, .output = data, .count = count}, request));
fail:
    return status;
}

Status comm_broadcast(Comm *comm, void *data, size_t bytes, int root)
{
    if (bytes > INT64_MAX || (!data && bytes > 0) || root < 0 || root >= comm->at.world) {
        return status_fail(ERR_INTERNAL, __FILE__, __LINE__, "broadcast of %zu bytes from rank %d of %d", bytes, root,
                           comm->at.world);
    }
    return run(
        comm, (CommRequest){
                  .kind = COMM_KIND_BROADCAST, .input = data, .output = data, .count = (int64_t)bytes, .detail = root});
}

Status comm_all_gather(Comm *comm, const void *data, size_t bytes, void *out)
{
    size_t total = 0;
    if (!mem_mul_size(bytes, (size_t)comm->at.world, &total) || total > INT64_MAX || ((!data || !out) && bytes > 0)) {
        return status_fail(ERR_INTERNAL, __FILE__, __LINE__, "all-gather of %zu bytes from %d ranks", bytes,
                           comm->at.world);
    }
    return run(comm,
               (CommRequest){.kind = COMM_KIND_ALL_GATHER, .input = data, .output = out, .count = (int64_t)bytes});
}

Status comm_barrier(Comm *comm)
{
    return run(comm, (CommRequest){.kind = COMM_KIND_BARRIER});
}

void comm_stop(Comm *comm)
{
    if (comm->mpi) comm_mpi_stop(comm->mpi);
}

void comm_abort(Comm *comm, int code)
{
    fflush(NULL);
    if (comm && comm->mpi) comm_mpi_abort(comm->mpi, code);
    _exit(code);
}
