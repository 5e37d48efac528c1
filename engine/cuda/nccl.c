/* NCCL's communicators do not block: a call that needs the other ranks returns ncclInProgress and is asked about until
 * it has ended, and while the host waits for the device it asks each communicator whether a peer has gone (cuda_wait).
 * A fault gives up all of this rank's communicators, which ends kernels that would wait for ever. Which network, how
 * many channels and the like are NCCL's own choice, by its environment (NCCL_*). */
#include "engine/cuda/nccl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "engine/cuda/collectives.h"
#include "engine/cuda/queue.h"

#ifdef VASILY_NCCL

#include <nccl.h>

_Static_assert(DEVICE_COMM_ID_BYTES == NCCL_UNIQUE_ID_BYTES, "an id is NCCL's");

enum {
    READY_SECONDS = 300, /* thousands of ranks need minutes to find each other */
    CLOSE_SECONDS = 10,
    PAUSE_NANOSECONDS = 50000
};

struct DeviceComm {
    ncclComm_t nccl; /* NULL: given up */
    int rank, ranks;
    DeviceComm *next;
};

static Status nccl_fail(ncclResult_t result, const DeviceComm *comm, const char *file, int line, const char *what)
{
    const char *more = ncclGetLastError(comm ? comm->nccl : NULL);
    char whose[64] = "";
    if (comm) snprintf(whose, sizeof whose, " (rank %d of %d of a communicator)", comm->rank, comm->ranks);
    return status_fail(ERR_COMM, file, line,
                       "NCCL: %s%s: %s%s%s; NCCL_DEBUG=INFO in the environment makes NCCL say what led to it", what,
                       whose, ncclGetErrorString(result), more && more[0] ? ": " : "", more ? more : "");
}
#define FAIL_NCCL(result, comm, what) FAIL_WITH(nccl_fail((result), (comm), __FILE__, __LINE__, (what)))
#define TRY_NCCL(comm, call)                                                                                    \
    do {                                                                                                        \
        const ncclResult_t nccl_result = (call);                                                                \
        if (nccl_result != ncclSuccess && nccl_result != ncclInProgress) FAIL_NCCL(nccl_result, (comm), #call); \
    } while (0)

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void pause_shortly(void)
{
    nanosleep(&(struct timespec){.tv_nsec = PAUSE_NANOSECONDS}, NULL);
}

/* Waits until the communicator has done what the host asked of it; what it queued on the device may still run. */
static Status settle(const DeviceComm *comm, double seconds, const char *what)
{
    Status status = STATUS_OK;
    const double start = now();
    for (;;) {
        ncclResult_t state = ncclSuccess;
        TRY_NCCL(comm, ncclCommGetAsyncError(comm->nccl, &state));
        if (state == ncclSuccess) return STATUS_OK;
        if (state != ncclInProgress) FAIL_NCCL(state, comm, what);
        if (now() - start > seconds)
            FAIL(
                ERR_COMM,
                "NCCL: %s (rank %d of %d of a communicator) has not ended after %.0f seconds; does every rank run, and "
                "does NCCL use the right network (NCCL_SOCKET_IFNAME, NCCL_IB_HCA)? NCCL_DEBUG=INFO makes it say more",
                what, comm->rank, comm->ranks, seconds);
        pause_shortly();
    }
fail:
    return status;
}

static void give_up_all(Cuda *cuda)
{
    for (DeviceComm *comm = cuda->collectives ? cuda->collectives->comms : NULL; comm; comm = comm->next) {
        if (comm->nccl) (void)ncclCommAbort(comm->nccl);
        comm->nccl = NULL;
    }
}

/* Cuda.check */
static Status check(Cuda *cuda)
{
    Status status = STATUS_OK;
    for (const DeviceComm *comm = cuda->collectives->comms; comm; comm = comm->next) {
        ncclResult_t state = ncclSuccess;
        if (!comm->nccl) FAIL(ERR_COMM, "NCCL: the communicators of this rank were given up after a fault");
        TRY_NCCL(comm, ncclCommGetAsyncError(comm->nccl, &state));
        if (state != ncclSuccess && state != ncclInProgress) FAIL_NCCL(state, comm, "a collective");
    }
    return STATUS_OK;
fail:
    give_up_all(cuda);
    return status;
}

static const char *version(void)
{
    static char text[32];
    int code = 0;
    if (ncclGetVersion(&code) != ncclSuccess) return "NCCL";
    snprintf(text, sizeof text, "NCCL %d.%d.%d", code / 10000, code / 100 % 100, code % 100);
    return text;
}

/* ---- opening and closing ---- */

static Status make_id(Backend *backend, uint8_t out[DEVICE_COMM_ID_BYTES])
{
    Status status = STATUS_OK;
    ncclUniqueId id;
    TRY_NCCL(NULL, ncclGetUniqueId(&id));
    memcpy(out, id.internal, DEVICE_COMM_ID_BYTES);
fail:
    return status;
}

static void forget(Cuda *cuda, DeviceComm *comm)
{
    DeviceComm **at = &cuda->collectives->comms;
    while (*at && *at != comm) at = &(*at)->next;
    if (*at) *at = comm->next;
    if (!cuda->collectives->comms) cuda->check = NULL;
    free(comm);
}

static Status open_comm(Backend *backend, const uint8_t id_bytes[DEVICE_COMM_ID_BYTES], int rank, int ranks,
                        DeviceComm **out)
{
    Status status = STATUS_OK;
    Cuda *cuda = cuda_of(backend);
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    ncclUniqueId id;
    DeviceComm *comm = NULL;
    *out = NULL;
    TRY(cuda_collectives_open(cuda));
    comm = mem_alloc_array(1, sizeof *comm);
    if (!comm) FAIL(ERR_MEMORY, "no memory for a communicator");
    *comm = (DeviceComm){.rank = rank, .ranks = ranks};
    memcpy(id.internal, id_bytes, DEVICE_COMM_ID_BYTES);
    config.blocking = 0;
    TRY_NCCL(comm, ncclCommInitRankConfig(&comm->nccl, ranks, id, rank, &config));
    TRY(settle(comm, READY_SECONDS, "opening a communicator"));
    comm->next = cuda->collectives->comms;
    cuda->collectives->comms = comm;
    cuda->check = check;
    *out = comm;
    return STATUS_OK;
fail:
    if (comm && comm->nccl) (void)ncclCommAbort(comm->nccl);
    free(comm);
    return status;
}

/* In the ordinary way where nothing runs any more, within bounds: the other ranks may be gone. */
static Status close_nccl(DeviceComm *comm)
{
    Status status = STATUS_OK;
    TRY_NCCL(comm, ncclCommFinalize(comm->nccl));
    TRY(settle(comm, CLOSE_SECONDS, "closing a communicator"));
    TRY_NCCL(comm, ncclCommDestroy(comm->nccl));
    comm->nccl = NULL;
fail:
    return status;
}

static bool is_idle(const Cuda *cuda)
{
    const bool idle =
        cudaStreamQuery(cuda->stream) == cudaSuccess && cudaStreamQuery(cuda->collectives->stream) == cudaSuccess;
    (void)cudaGetLastError();
    return idle;
}

static void close_comm(Backend *backend, DeviceComm *comm)
{
    StatusRecord before;
    Cuda *cuda = cuda_of(backend);
    if (!comm) return;
    status_save(STATUS_OK, &before); /* what ends the program is not what closing says */
    const double start = now();
    while (comm->nccl && !is_idle(cuda) && now() - start < CLOSE_SECONDS && check(cuda) == STATUS_OK) pause_shortly();
    if (comm->nccl && is_idle(cuda)) (void)close_nccl(comm);
    if (comm->nccl) (void)ncclCommAbort(comm->nccl);
    comm->nccl = NULL;
    (void)status_restore(&before);
    forget(cuda, comm);
}

void cuda_nccl_close(Cuda *cuda)
{
    if (!cuda->collectives) return;
    give_up_all(cuda);
    while (cuda->collectives->comms) forget(cuda, cuda->collectives->comms);
}

/* ---- collectives ---- */

static size_t number_bytes(DeviceNumber type)
{
    return type == DEVICE_F64 ? 8 : type == DEVICE_F32 ? 4 : 2;
}

static ncclDataType_t number_type(DeviceNumber type)
{
    return type == DEVICE_F64 ? ncclFloat64 : type == DEVICE_F32 ? ncclFloat32 : ncclBfloat16;
}

static void *share_of(const DeviceComm *comm, void *data, int64_t count, DeviceNumber type)
{
    return (char *)data + (size_t)(count / comm->ranks) * (size_t)comm->rank * number_bytes(type);
}

/* Before a call; a share is equal for all ranks. */
static Status usable(const DeviceComm *comm, int64_t count, int parts)
{
    Status status = STATUS_OK;
    if (!comm->nccl) FAIL(ERR_COMM, "NCCL: this communicator was given up after a fault");
    if (count < 0 || count % parts != 0)
        FAIL(ERR_INTERNAL, "a collective of %lld elements for %d ranks", (long long)count, comm->ranks);
fail:
    return status;
}

/* After a call: inside a batch its end waits. */
static Status called(Cuda *cuda, const DeviceComm *comm)
{
    return cuda->collectives->batch ? STATUS_OK : settle(comm, READY_SECONDS, "queueing a collective");
}

static Status reduce_scatter(Backend *backend, DeviceComm *comm, void *data, int64_t count, DeviceNumber type)
{
    Status status = STATUS_OK;
    Cuda *cuda = cuda_of(backend);
    TRY(usable(comm, count, comm->ranks));
    TRY_NCCL(comm, ncclReduceScatter(data, share_of(comm, data, count, type), (size_t)(count / comm->ranks),
                                     number_type(type), ncclSum, comm->nccl, cuda->collectives->stream));
    TRY(called(cuda, comm));
fail:
    return status;
}

static Status all_gather(Backend *backend, DeviceComm *comm, void *data, int64_t count, DeviceNumber type)
{
    Status status = STATUS_OK;
    Cuda *cuda = cuda_of(backend);
    TRY(usable(comm, count, comm->ranks));
    TRY_NCCL(comm, ncclAllGather(share_of(comm, data, count, type), data, (size_t)(count / comm->ranks),
                                 number_type(type), comm->nccl, cuda->collectives->stream));
    TRY(called(cuda, comm));
fail:
    return status;
}

static Status all_reduce(Backend *backend, DeviceComm *comm, void *data, int64_t count, DeviceNumber type)
{
    Status status = STATUS_OK;
    Cuda *cuda = cuda_of(backend);
    TRY(usable(comm, count, 1));
    TRY_NCCL(comm, ncclAllReduce(data, data, (size_t)count, number_type(type), ncclSum, comm->nccl,
                                 cuda->collectives->stream));
    TRY(called(cuda, comm));
fail:
    return status;
}

static Status begin_batch(Backend *backend)
{
    Status status = STATUS_OK;
    TRY_NCCL(NULL, ncclGroupStart());
    cuda_of(backend)->collectives->batch = true;
fail:
    return status;
}

static Status end_batch(Backend *backend)
{
    Status status = STATUS_OK;
    CudaCollectives *queue = cuda_of(backend)->collectives;
    queue->batch = false;
    TRY_NCCL(NULL, ncclGroupEnd());
    for (const DeviceComm *comm = queue->comms; comm; comm = comm->next) {
        if (comm->nccl) TRY(settle(comm, READY_SECONDS, "queueing collectives"));
    }
fail:
    return status;
}

static const DeviceCollectives collectives = {.version = version,
                                              .identity = cuda_collectives_identity,
                                              .make_id = make_id,
                                              .open = open_comm,
                                              .close = close_comm,
                                              .reduce_scatter = reduce_scatter,
                                              .all_gather = all_gather,
                                              .all_reduce = all_reduce,
                                              .begin_batch = begin_batch,
                                              .end_batch = end_batch,
                                              .narrow = cuda_collectives_narrow,
                                              .widen = cuda_collectives_widen,
                                              .fork = cuda_collectives_fork,
                                              .mark = cuda_collectives_mark,
                                              .join = cuda_collectives_join,
                                              .marks_reserve = cuda_collectives_marks_reserve,
                                              .exposed_seconds = cuda_collectives_exposed_seconds};

const DeviceCollectives *cuda_nccl_collectives(void)
{
    return &collectives;
}

#else

const DeviceCollectives *cuda_nccl_collectives(void)
{
    return NULL;
}

void cuda_nccl_close(Cuda *cuda)
{
}

#endif
