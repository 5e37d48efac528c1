/* What the watchdog knows of a rank, and what it decides: no sockets and no threads here.
 *
 * Both structs travel between ranks as they are, which the same program on every rank allows; `..._check` makes those
 * that were received fit to be used. */
#ifndef ENGINE_WATCH_VERDICT_H
#define ENGINE_WATCH_VERDICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/flight_record.h"

enum { WATCH_HOST_MAX = 64, WATCH_TEXT_MAX = 2048 };
/* Waiting for a rank that is still opening (reading a checkpoint, say) may take so much longer, in seconds. */
enum { WATCH_OPENING_SECONDS = 1800 };

/* Where a rank is. */
typedef struct WatchPosition {
    int64_t step;   /* -1: opening */
    int64_t begun;  /* collectives begun; -1: this rank has not been heard of yet */
    int64_t oldest; /* the oldest that has not ended; -1: none */
    double waited;  /* seconds that it has been the oldest, without those in which the rank was stopped */
    char activity[40];
    char collective[72]; /* the oldest, or else the last one begun: "sum of 65536 floats" */
} WatchPosition;

typedef enum WatchReason {
    WATCH_DIED,   /* its connection closed without a goodbye */
    WATCH_SILENT, /* connected, but not heard of: stopped, or its machine or the network to it is gone */
    WATCH_BEHIND, /* lives, but has not begun the collective that others wait in */
    WATCH_HANGS,  /* every rank has begun the collective, but it does not end: this rank has waited longest */
    WATCH_STUCK,  /* no rank has come further, and this one has come least far */
    WATCH_FAILED, /* has said so itself */
    WATCH_REASONS
} WatchReason;

typedef struct WatchVerdict {
    int32_t reason, rank; /* WatchReason; of the rank that is named */
    int32_t code;         /* the job's exit code */
    int32_t status;       /* FAILED: the rank's Status */
    double seconds;       /* it was not heard of, or waited for */
    int64_t collective;   /* BEHIND and HANGS: the one that is waited for */
    char host[WATCH_HOST_MAX];
    char awaited[72];       /* that one, as in WatchPosition */
    WatchPosition position; /* of the named rank */
    char message[1024];     /* FAILED: its message */
} WatchVerdict;

/* `waited` is the caller's. */
void watch_position_read(FlightRecord *record, WatchPosition *out);
bool watch_position_check(WatchPosition *position);
bool watch_verdict_check(WatchVerdict *verdict, int world);

/* Whether, by the positions of all ranks, others have waited too long for one. `still` says how many seconds ago any of
 * them changed. Fills all of the verdict but the host. Nothing is decided before all ranks have been heard of. */
bool watch_judge(const WatchPosition *positions, int world, double stall_seconds, double still, WatchVerdict *out);

/* One line for the log of a rank at `own`. */
void watch_verdict_text(const WatchVerdict *verdict, const WatchPosition *own, char out[WATCH_TEXT_MAX]);

#endif
