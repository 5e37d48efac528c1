#include "nccl_room.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { EAGER_TURNS = 200, PAUSE_NANOSECONDS = 50000, LOOK_EVERY = 64, WAIT_SECONDS = 120 };

typedef struct Slot {
    _Atomic int32_t process;  /* 0: nobody so far */
    _Atomic uint64_t written; /* pieces that its rank has put in */
    _Atomic uint64_t read;    /* pieces of all that its rank has read */
    RoomCall call;            /* of the last piece written */
    _Alignas(64) unsigned char data[ROOM_SLOT_BYTES];
} Slot;

typedef struct Shared {
    _Atomic int32_t ranks, present, breaker; /* breaker: a rank + 1, or 0 */
    Slot slot[ROOM_RANKS];
} Shared;

struct Room {
    Shared *shared;
    int rank, ranks;
    uint64_t piece; /* under way, from 1 */
    bool named;
    char name[ROOM_NAME_BYTES], why[256];
};

void room_name(char out[ROOM_NAME_BYTES])
{
    static atomic_int made;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    snprintf(out, ROOM_NAME_BYTES, "/emulated-nccl-%d-%d-%lld", (int)getpid(), atomic_fetch_add(&made, 1),
             (long long)t.tv_sec * 1000000000 + t.tv_nsec);
}

static ncclResult_t map(Room *room)
{
    const int file = shm_open(room->name, O_CREAT | O_RDWR, 0600);
    if (file < 0) return ncclSystemError;
    void *memory = MAP_FAILED;
    if (ftruncate(file, (off_t)sizeof(Shared)) == 0)
        memory = mmap(NULL, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (memory == MAP_FAILED) return ncclSystemError;
    room->shared = memory;
    room->named = true;
    return ncclSuccess;
}

ncclResult_t room_enter(const char *name, int rank, int ranks, Room **out)
{
    int32_t nobody = 0, none = 0;
    *out = NULL;
    if (rank < 0 || ranks < 1 || rank >= ranks || ranks > ROOM_RANKS) return ncclInvalidArgument;
    if (strlen(name) >= ROOM_NAME_BYTES || strncmp(name, "/emulated-nccl-", 15) != 0) return ncclInvalidArgument;
    Room *room = calloc(1, sizeof *room);
    if (!room) return ncclSystemError;
    room->rank = rank;
    room->ranks = ranks;
    strcpy(room->name, name);
    *out = room;
    const ncclResult_t mapped = map(room);
    if (mapped != ncclSuccess) {
        snprintf(room->why, sizeof room->why, "shared memory %s: %s", name, strerror(errno));
        return mapped;
    }
    if (!atomic_compare_exchange_strong(&room->shared->ranks, &none, ranks) && none != ranks) {
        snprintf(room->why, sizeof room->why, "rank %d says that there are %d ranks, another says %d", rank, ranks,
                 none);
        return ncclInvalidArgument;
    }
    if (!atomic_compare_exchange_strong(&room->shared->slot[rank].process, &nobody, (int32_t)getpid())) {
        snprintf(room->why, sizeof room->why, "there are two ranks %d", rank);
        return ncclInvalidUsage;
    }
    atomic_fetch_add(&room->shared->present, 1);
    return ncclSuccess;
}

void room_leave(Room *room)
{
    if (!room) return;
    if (room->named) shm_unlink(room->name);
    if (room->shared) munmap(room->shared, sizeof(Shared));
    free(room);
}

bool room_is_full(Room *room)
{
    if (atomic_load(&room->shared->present) < room->ranks) return false;
    if (room->named) shm_unlink(room->name);
    room->named = false;
    return true;
}

void room_break(Room *room)
{
    int32_t nobody = 0;
    atomic_compare_exchange_strong(&room->shared->breaker, &nobody, room->rank + 1);
}

bool room_has_lost_one(Room *room)
{
    const int breaker = atomic_load(&room->shared->breaker);
    if (breaker != 0) {
        snprintf(room->why, sizeof room->why, "rank %d has given up", breaker - 1);
        return true;
    }
    for (int k = 0; k < room->ranks; k++) {
        const int32_t process = atomic_load(&room->shared->slot[k].process);
        if (process == 0 || kill(process, 0) == 0 || errno != ESRCH) continue;
        snprintf(room->why, sizeof room->why, "the process of rank %d has ended", k);
        return true;
    }
    return false;
}

const char *room_why(const Room *room)
{
    return room ? room->why : "";
}

static bool all_reached(const Room *room, uint64_t piece, bool reading, int *missing)
{
    for (int k = 0; k < room->ranks; k++) {
        const Slot *slot = &room->shared->slot[k];
        if (atomic_load(reading ? &slot->read : &slot->written) >= piece) continue;
        *missing = k;
        return false;
    }
    return true;
}

static ncclResult_t wait_for_all(Room *room, uint64_t piece, bool reading)
{
    int missing = 0;
    const time_t start = time(NULL);
    for (int64_t turn = 0; !all_reached(room, piece, reading, &missing); turn++) {
        if (turn % LOOK_EVERY == LOOK_EVERY - 1) {
            /* One may have ended after its last piece. */
            if (room_has_lost_one(room) && !all_reached(room, piece, reading, &missing)) return ncclRemoteError;
            if (time(NULL) - start > WAIT_SECONDS) {
                snprintf(room->why, sizeof room->why, "rank %d has not come within %d seconds", missing, WAIT_SECONDS);
                return ncclSystemError;
            }
        }
        if (turn < EAGER_TURNS)
            sched_yield();
        else
            nanosleep(&(struct timespec){.tv_nsec = PAUSE_NANOSECONDS}, NULL);
    }
    return ncclSuccess;
}

ncclResult_t room_begin(Room *room)
{
    return wait_for_all(room, room->piece++, true);
}

static const char *kind_name(int32_t kind)
{
    return kind == ROOM_REDUCE_SCATTER ? "reduce-scatter" : kind == ROOM_ALL_GATHER ? "all-gather" : "all-reduce";
}

ncclResult_t room_meet(Room *room, const RoomCall *call)
{
    Slot *own = &room->shared->slot[room->rank];
    own->call = *call;
    atomic_store(&own->written, room->piece);
    const ncclResult_t met = wait_for_all(room, room->piece, false);
    if (met != ncclSuccess) return met;
    for (int k = 0; k < room->ranks; k++) {
        const RoomCall *other = &room->shared->slot[k].call;
        if (memcmp(other, call, sizeof *call) == 0) continue;
        snprintf(
            room->why, sizeof room->why,
            "collective %llu of rank %d is %s of %llu elements of type %d; number %llu of rank %d is %s of %llu of "
            "type %d",
            (unsigned long long)call->number, room->rank, kind_name(call->kind), (unsigned long long)call->count,
            call->type, (unsigned long long)other->number, k, kind_name(other->kind), (unsigned long long)other->count,
            other->type);
        return ncclInvalidUsage;
    }
    return ncclSuccess;
}

void room_end(Room *room)
{
    atomic_store(&room->shared->slot[room->rank].read, room->piece);
}

unsigned char *room_slot(Room *room, int rank)
{
    return room->shared->slot[rank].data;
}
