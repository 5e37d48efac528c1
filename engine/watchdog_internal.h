/* What watchdog.c (the thread) and watchdog_tree.c (who is connected to whom) share. */
#ifndef ENGINE_WATCHDOG_INTERNAL_H
#define ENGINE_WATCHDOG_INTERNAL_H

#include <limits.h>
#include <pthread.h>

#include "engine/watch_link.h"
#include "engine/watchdog.h"

struct Watchdog {
    Comm *comm;
    FlightRecord *flight;
    int rank, world;
    double heartbeat, silent, stall; /* seconds; heartbeat as it is kept */
    char folder[PATH_MAX];

    /* watchdog_tree.c */
    char (*hosts)[WATCH_HOST_MAX]; /* (ranks) */
    int32_t *leaders;              /* (ranks) the lowest rank of each one's machine */
    WatchLink up;                  /* to the parent; none on rank 0 */
    WatchLink *down;               /* (children) */
    int children;

    pthread_t thread;
    bool started;
    int epoll, wake;
    pthread_mutex_t lock; /* orders for the thread: */
    bool closing, failing;
    Status fail_status;
    double fail_patience;
    char fail_message[1024];

    /* The thread's alone: */
    double looked, clock; /* the system's clock when it last looked; its own, which stands while it is stopped */
    double next_beat, next_judgement;
    WatchPosition own;
    WatchPosition *positions;    /* (ranks), on rank 0, as the next */
    double *heard;               /* when each rank's position came */
    double own_since;            /* `own.oldest` has been that */
    double progress, progressed; /* rank 0: sum of all positions, and when it last changed */
    double fail_at;              /* the system's clock; 0: not failing */
    WatchVerdict verdict;
    bool ending, own_failure; /* there is a verdict; it is this rank's own */
    bool told, over;          /* DONE was sent; nothing is left to do */
    double not_before;        /* of ending, where the way to the others is lost; the system's clock */
    double deadline;          /* of ending, the system's clock */
};

/* The rank above `rank` in the tree; -1 for rank 0. */
int watchdog_parent(const Watchdog *watchdog, int rank);
/* Collective: finds out who is where, and connects. `machine` as in WatchdogOptions. */
Status watchdog_tree_open(Watchdog *watchdog, const char *machine);
/* Waits for the ranks below this one, whoever else may come to the port. */
Status watchdog_accept_children(Watchdog *watchdog, int listener, const uint8_t secret[2 * WATCH_SECRET]);
void watchdog_tree_close(Watchdog *watchdog);

#endif
