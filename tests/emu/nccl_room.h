/* Where the emulated communicators of several processes of one machine meet: a file in shared memory, named by the
 * unique id. Each rank has a slot there; it puts a piece of its data in and reads the pieces of all:
 *
 *   room_begin, fill room_slot(room, own rank), room_meet, read room_slot of all ranks, room_end
 *
 * A rank whose process has ended, that has broken the room, that does something else, or that does not come within two
 * minutes is an error; room_why tells more. */
#ifndef TESTS_EMU_NCCL_ROOM_H
#define TESTS_EMU_NCCL_ROOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nccl.h"

enum { ROOM_RANKS = 16, ROOM_SLOT_BYTES = 1 << 18, ROOM_NAME_BYTES = 64 };

/* What the ranks do together; equal for all of them. */
typedef struct RoomCall {
    uint64_t number; /* of the communicator's collectives, from 1 */
    uint64_t count;
    int32_t kind; /* RoomKind */
    int32_t type; /* ncclDataType_t */
} RoomCall;
typedef enum RoomKind { ROOM_REDUCE_SCATTER, ROOM_ALL_GATHER, ROOM_ALL_REDUCE } RoomKind;

typedef struct Room Room;

void room_name(char out[ROOM_NAME_BYTES]); /* one that no other call of any process makes */
ncclResult_t room_enter(const char *name, int rank, int ranks, Room **out);
void room_leave(Room *room);        /* NULL is fine */
bool room_is_full(Room *room);      /* all ranks have entered; its name is free then */
bool room_has_lost_one(Room *room); /* broken, or a rank's process has ended */
void room_break(Room *room);        /* the others' waits fail */
const char *room_why(const Room *room);

ncclResult_t room_begin(Room *room); /* waits until all ranks have ended the piece before */
ncclResult_t room_meet(Room *room, const RoomCall *call);
void room_end(Room *room);
unsigned char *room_slot(Room *room, int rank);

#endif
