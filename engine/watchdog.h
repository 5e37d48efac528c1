/* The watchdog: a job of several ranks never hangs.
 *
 * A thread on every rank tells the others that it lives and where it is (heartbeats), over connections of its own:
 * ranks to the leader of their machine, the lowest rank there, and leaders to rank 0. Rank 0 so has one connection a
 * machine.
 *
 *   died     a connection closes without a goodbye                              seen at once, by both neighbours in the
 * tree silent   nothing is heard for silent_seconds: stopped, or the machine gone  likewise behind   lives, but has not
 * begun a collective in which others have waited for stall_seconds       seen by rank 0 hangs    all ranks have begun
 * it, and it does not end                                              likewise stuck    no rank comes further likewise
 *   failed   says so itself (watchdog_fail)
 *
 * What one of them decides goes to all. Each rank then logs one line that names the rank, its machine, step and
 * collective, writes its flight record, and ends its process, whatever its other threads are at. The exit code is
 * WATCHDOG_EXIT_CODE, or that of the rank that failed.
 *
 * Time in which a rank was itself stopped (SIGSTOP, a suspended machine) does not count on its clock, so stopping all
 * ranks alarms nobody. */
#ifndef ENGINE_WATCHDOG_H
#define ENGINE_WATCHDOG_H

#include "engine/comm.h"

enum { WATCHDOG_EXIT_CODE = 76 };

typedef struct Watchdog Watchdog;

typedef struct WatchdogOptions {
    Comm *comm;               /* must outlive the watchdog */
    double heartbeat_seconds; /* beats come more often where a bound below is less than four of them */
    double silent_seconds;    /* 0: silence is borne */
    double stall_seconds;     /* 0: waiting is borne; while a rank opens (comm_note_step), half an hour longer */
    const char *folder;       /* for rank-N.jsonl, made when it is needed */
    const char *machine;      /* for tests: ranks with the same text are on one machine; NULL: the truth */
} WatchdogOptions;

/* Collective; the same times on every rank. *out is NULL in a world of one, where nobody waits for anybody, and with
 * both bounds 0. ERR_COMM where a rank cannot be connected, on every rank. */
Status watchdog_open(const WatchdogOptions *options, Watchdog **out);
/* In order: waits until all ranks are here, and frees it. Where that fails, watchdog_fail is due. Collective. NULL is
 * fine. */
Status watchdog_close(Watchdog *watchdog);
/* This rank fails with `status` and status_message(), which the caller has logged: others may fail with messages of
 * their own, and the first that is heard of ends all. The others end with status_exit_code(status) and say why. Returns
 * when they are ready to, after a few seconds at most; then comm_abort is due. With ERR_COMM another rank's death may
 * be the reason; that is waited for a second, and then this does not return. Frees it. NULL is fine. */
void watchdog_fail(Watchdog *watchdog, Status status);

#endif
