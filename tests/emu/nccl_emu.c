/* NCCL without devices: communicators between the processes of one machine. Work is queued on the emulated streams, and
 * noted where they are being captured; when it runs, it waits for the other ranks.
 *
 * Sums are made in fp32 (or fp64) in the order of ranks; bf16 is rounded once, at the end, as where switches add
 * (NVLS). Real rings round after every addition, and add in another order. What really hangs or corrupts memory is an
 * error here: ranks that call different collectives, and calls while an earlier one is still in progress.
 *
 * Communicators that do not block (config.blocking = 0) queue nothing before they were asked about twice, so that a
 * caller who does not ask is found. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emu.h"
#include "nccl_room.h"

enum { PENDING_MOST = 1024 };

typedef struct Job {
    ncclComm_t comm;
    RoomCall call;
    const void *send;
    void *receive;
    cudaStream_t stream;
} Job;

struct ncclComm {
    Room *room;
    int rank, ranks;
    bool blocks, ready;
    int asked;            /* since something is pending */
    uint64_t calls;       /* queued so far; counted where they run, since recordings repeat them */
    _Atomic int32_t fate; /* ncclResult_t of what ran */
    Job pending[PENDING_MOST];
    int pending_count;
};

static _Thread_local char last_error[512];
static int group_depth;
static Job grouped[PENDING_MOST];
static int grouped_count;

static ncclResult_t complain(ncclResult_t result, const char *why)
{
    snprintf(last_error, sizeof last_error, "emulated: %s", why);
    return result;
}

/* ---- numbers ---- */

static size_t size_of(int32_t type)
{
    return type == ncclFloat64 ? 8 : type == ncclFloat32 ? 4 : 2;
}

static float widen(uint16_t half)
{
    const uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint16_t narrow(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((bits >> 16) | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16); /* to nearest, ties to even */
}

/* out[i] = the sum over ranks of element `first` + i of their slots. */
static void sum(ncclComm_t comm, int32_t type, size_t first, size_t count, void *out)
{
    for (size_t i = 0; i < count; i++) {
        float total = 0;
        double precise = 0;
        for (int k = 0; k < comm->ranks; k++) {
            const unsigned char *slot = room_slot(comm->room, k);
            if (type == ncclFloat64) {
                const double x = ((const double *)(const void *)slot)[first + i];
                precise = k == 0 ? x : precise + x;
                continue;
            }
            const float x = type == ncclFloat32 ? ((const float *)(const void *)slot)[first + i]
                                                : widen(((const uint16_t *)(const void *)slot)[first + i]);
            total = k == 0 ? x : total + x;
        }
        if (type == ncclFloat64)
            ((double *)out)[i] = precise;
        else if (type == ncclFloat32)
            ((float *)out)[i] = total;
        else
            ((uint16_t *)out)[i] = narrow(total);
    }
}

/* ---- when it is run ---- */

/* Elements [start, start + count) of each share. */
static void put(const Job *job, size_t start, size_t count)
{
    const size_t size = size_of(job->call.type), share = (size_t)job->call.count;
    unsigned char *slot = room_slot(job->comm->room, job->comm->rank);
    const unsigned char *send = job->send;
    const int parts = job->call.kind == ROOM_REDUCE_SCATTER ? job->comm->ranks : 1;
    for (int k = 0; k < parts; k++)
        memcpy(slot + (size_t)k * count * size, send + ((size_t)k * share + start) * size, count * size);
}

static void take(const Job *job, size_t start, size_t count)
{
    const size_t size = size_of(job->call.type), share = (size_t)job->call.count;
    unsigned char *receive = job->receive;
    ncclComm_t comm = job->comm;
    if (job->call.kind == ROOM_ALL_GATHER) {
        for (int k = 0; k < comm->ranks; k++)
            memcpy(receive + ((size_t)k * share + start) * size, room_slot(comm->room, k), count * size);
        return;
    }
    const size_t first = job->call.kind == ROOM_REDUCE_SCATTER ? (size_t)comm->rank * count : 0;
    sum(comm, job->call.type, first, count, receive + start * size);
}

static ncclResult_t exchange(Job *job)
{
    ncclComm_t comm = job->comm;
    const size_t share = (size_t)job->call.count, parts = job->call.kind == ROOM_REDUCE_SCATTER ? comm->ranks : 1;
    const size_t most = ROOM_SLOT_BYTES / size_of(job->call.type) / parts;
    size_t start = 0;
    job->call.number = ++comm->calls;
    do {
        const size_t count = share - start < most ? share - start : most;
        ncclResult_t result = room_begin(comm->room);
        if (result != ncclSuccess) return result;
        put(job, start, count);
        result = room_meet(comm->room, &job->call);
        if (result != ncclSuccess) return result;
        take(job, start, count);
        room_end(comm->room);
        start += count;
    } while (start < share);
    return ncclSuccess;
}

static void run(void *closure)
{
    Job *job = closure;
    ncclComm_t comm = job->comm;
    if (atomic_load(&comm->fate) != ncclSuccess) return; /* a device would hang; the host asks */
    const ncclResult_t result = exchange(job);
    if (result == ncclSuccess) return;
    room_break(comm->room);
    atomic_store(&comm->fate, (int32_t)result);
}

/* ---- when it is queued ---- */

static ncclResult_t queue(const Job *job)
{
    return emu_enqueue(job->stream, run, job, sizeof *job) == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}

static ncclResult_t submit(const Job *job)
{
    ncclComm_t comm = job->comm;
    if (comm->blocks) return queue(job);
    if (comm->pending_count == PENDING_MOST) return complain(ncclInternalError, "too many collectives at once");
    comm->pending[comm->pending_count++] = *job;
    comm->asked = 0;
    return ncclInProgress;
}

static bool held(const void *memory, size_t bytes)
{
    return bytes == 0 || (emu_is_device(memory) && emu_range_holds(memory, bytes));
}

static ncclResult_t call(RoomKind kind, const void *send, void *receive, size_t count, ncclDataType_t type,
                         ncclComm_t comm, cudaStream_t stream)
{
    const Job job = {.comm = comm,
                     .call = {.kind = kind, .type = type, .count = count},
                     .send = send,
                     .receive = receive,
                     .stream = stream};
    if (!comm || (type != ncclFloat32 && type != ncclFloat64 && type != ncclBfloat16))
        return complain(ncclInvalidArgument, "no communicator, or a type that is not emulated");
    if (!comm->ready || comm->pending_count > 0)
        return complain(ncclInvalidUsage, "a call while an earlier one is in progress: ask ncclCommGetAsyncError");
    const size_t parts = (size_t)comm->ranks, bytes = count * size_of(type);
    if (count > SIZE_MAX / 16 / parts || !held(send, kind == ROOM_REDUCE_SCATTER ? bytes * parts : bytes) ||
        !held(receive, kind == ROOM_ALL_GATHER ? bytes * parts : bytes))
        return complain(ncclInvalidArgument, "a buffer is not inside one allocation of the device");
    if (atomic_load(&comm->fate) != ncclSuccess) return (ncclResult_t)atomic_load(&comm->fate);
    if (group_depth == 0) return submit(&job);
    if (grouped_count == PENDING_MOST) return complain(ncclInternalError, "too many collectives in a group");
    grouped[grouped_count++] = job;
    return ncclSuccess;
}

ncclResult_t ncclReduceScatter(const void *send, void *receive, size_t receive_count, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream)
{
    return call(ROOM_REDUCE_SCATTER, send, receive, receive_count, type, comm, stream);
}

ncclResult_t ncclAllGather(const void *send, void *receive, size_t send_count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream)
{
    return call(ROOM_ALL_GATHER, send, receive, send_count, type, comm, stream);
}

ncclResult_t ncclAllReduce(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream)
{
    return call(ROOM_ALL_REDUCE, send, receive, count, type, comm, stream);
}

ncclResult_t ncclGroupStart(void)
{
    group_depth++;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void)
{
    ncclResult_t worst = ncclSuccess;
    if (group_depth == 0) return complain(ncclInvalidUsage, "a group ends that has not begun");
    if (--group_depth > 0) return ncclSuccess;
    for (int i = 0; i < grouped_count; i++) {
        const ncclResult_t result = submit(&grouped[i]);
        if (result != ncclSuccess && (worst == ncclSuccess || worst == ncclInProgress)) worst = result;
    }
    grouped_count = 0;
    return worst;
}

/* ---- communicators ---- */

ncclResult_t ncclGetVersion(int *version)
{
    *version = NCCL_VERSION(NCCL_MAJOR, NCCL_MINOR, NCCL_PATCH);
    return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    memset(id, 0, sizeof *id);
    room_name(id->internal);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *out, int ranks, ncclUniqueId id, int rank, ncclConfig_t *config)
{
    *out = NULL;
    id.internal[NCCL_UNIQUE_ID_BYTES - 1] = '\0';
    if (config && config->magic != 0xcafebeef) return complain(ncclInvalidArgument, "a config that is none");
    ncclComm_t comm = calloc(1, sizeof *comm);
    if (!comm) return ncclSystemError;
    *comm = (struct ncclComm){.rank = rank, .ranks = ranks, .blocks = !config || config->blocking != 0};
    const ncclResult_t entered = room_enter(id.internal, rank, ranks, &comm->room);
    if (entered != ncclSuccess) {
        (void)complain(entered, room_why(comm->room));
        room_leave(comm->room);
        free(comm);
        return entered;
    }
    while (comm->blocks && !room_is_full(comm->room)) {
    }
    comm->ready = comm->blocks;
    *out = comm;
    return comm->blocks ? ncclSuccess : ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error)
{
    *error = (ncclResult_t)atomic_load(&comm->fate);
    if (*error != ncclSuccess) {
        (void)complain(*error, room_why(comm->room));
        return ncclSuccess;
    }
    if (!comm->ready) {
        if (room_is_full(comm->room))
            comm->ready = true;
        else
            *error = room_has_lost_one(comm->room) ? complain(ncclRemoteError, room_why(comm->room)) : ncclInProgress;
        return ncclSuccess;
    }
    if (comm->pending_count > 0 && comm->asked++ == 0) {
        *error = ncclInProgress;
        return ncclSuccess;
    }
    const int count = comm->pending_count;
    comm->pending_count = 0;
    for (int i = 0; i < count && *error == ncclSuccess; i++) *error = queue(&comm->pending[i]);
    return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm)
{
    return comm->blocks ? ncclSuccess : ncclInProgress;
}

/* What is queued runs first. */
ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    if (!comm) return ncclSuccess;
    (void)cudaDeviceSynchronize();
    room_leave(comm->room);
    free(comm);
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    if (!comm) return ncclSuccess;
    room_break(comm->room);
    int32_t well = ncclSuccess;
    (void)atomic_compare_exchange_strong(&comm->fate, &well,
                                         (int32_t)ncclInvalidUsage); /* what is queued does nothing */
    return ncclCommDestroy(comm);
}

const char *ncclGetErrorString(ncclResult_t result)
{
    static const char *const TEXT[ncclNumResults] = {"no error",
                                                     "unhandled cuda error",
                                                     "unhandled system error",
                                                     "internal error",
                                                     "invalid argument",
                                                     "invalid usage",
                                                     "remote process exited or there was a network error",
                                                     "NCCL operation in progress"};
    return result >= 0 && result < ncclNumResults ? TEXT[result] : "unknown result code";
}

const char *ncclGetLastError(ncclComm_t comm)
{
    return last_error;
}
