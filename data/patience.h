/* Trying again: pauses between tries that grow, that no two threads end together, and that a stop cuts short. */
#ifndef DATA_PATIENCE_H
#define DATA_PATIENCE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/status.h"
#include "data/read_config.h"

#define PATIENCE_LONGEST 60.0 /* seconds, of one pause */

typedef struct Patience {
    const ReadConfig *config;
    atomic_bool stopped;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* stopped; also for others' short waits */
} Patience;

Status patience_init(Patience *patience, const ReadConfig *config); /* the config must outlive it */
void patience_destroy(Patience *patience);
void patience_stop(Patience *patience);
static inline bool patience_stopped(Patience *patience)
{
    return atomic_load(&patience->stopped);
}

/* Sleeps before try `attempt` (1: the second one): retry_seconds x 2^(attempt - 1), of which a random part of up to
 * half is left out, but at least `least` seconds; never longer than PATIENCE_LONGEST. ERR_INTERRUPTED when stopped. */
Status patience_pause(Patience *patience, int64_t attempt, double least);
Status patience_sleep(Patience *patience, double seconds); /* exactly so long */

/* An errno of a file that may be other in a moment: what a parallel file system says while it has a bad one. */
bool patience_may_pass(int error);

#endif
