/* The flight record: this rank's last collectives, to be looked at when a job has ended badly.
 *
 * A ring of fixed size; recording allocates nothing and costs a lock. Every collective has a sequence number, the order
 * of its begin on this rank from 0. All ranks make the same calls in the same order, so a number means the same
 * collective on every rank: the rank whose record ends first is the one that the others waited for.
 *
 * Every function but create and free may be called from any thread; a NULL record records nothing. */
#ifndef ENGINE_FLIGHT_RECORD_H
#define ENGINE_FLIGHT_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

enum { FLIGHT_ENTRIES = 1000 };

typedef struct FlightRecord FlightRecord;

typedef struct FlightWhat {
    const char *kind; /* "sum", "broadcast", ...; static text, as the next */
    const char *unit; /* what `count` counts; NULL: there is nothing to count */
    int64_t count;
    int32_t ranks;      /* that take part */
    int64_t stands_for; /* collectives of which the host sees no more than this: a recorded step's; 0 is 1 */
} FlightWhat;

typedef struct FlightPosition {
    int64_t step;         /* -1: before the first */
    const char *activity; /* static text, "" before the first note */
    int64_t begun;        /* collectives begun so far */
    int64_t oldest;       /* the oldest that has not ended; -1: all have */
    FlightWhat what;      /* that one, or else the last one begun; kind NULL: none was begun yet */
} FlightPosition;

Status flight_record_create(FlightRecord **out);
void flight_record_free(FlightRecord *record); /* NULL is fine */

/* Returns the sequence number. */
int64_t flight_record_begin(FlightRecord *record, const FlightWhat *what);
void flight_record_end(FlightRecord *record, int64_t number, bool failed);
/* What the collectives from now on are for. `activity` is a static text: "computing", "saving a checkpoint". */
void flight_record_note(FlightRecord *record, int64_t step, const char *activity);
void flight_record_position(FlightRecord *record, FlightPosition *out);

typedef struct FlightHeader {
    int rank, world;
    const char *host, *reason;
} FlightHeader;
/* JSON lines, oldest first: a header, then one collective a line. The file is whole or absent. */
Status flight_record_write(FlightRecord *record, const FlightHeader *header, const char *path);

#endif
