#include "data/patience.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <time.h>

#include "base/file.h"
#include "base/log.h"

Status patience_init(Patience *patience, const ReadConfig *config)
{
    Status status = STATUS_OK;
    pthread_condattr_t clock;
    patience->config = config;
    atomic_init(&patience->stopped, false);
    if (pthread_condattr_init(&clock) != 0) FAIL(ERR_MEMORY, "cannot create a lock");
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    int error = pthread_cond_init(&patience->changed, &clock);
    pthread_condattr_destroy(&clock);
    if (error) FAIL(ERR_MEMORY, "cannot create a lock");
    if (pthread_mutex_init(&patience->lock, NULL) != 0) {
        pthread_cond_destroy(&patience->changed);
        FAIL(ERR_MEMORY, "cannot create a lock");
    }
fail:
    return status;
}

void patience_destroy(Patience *patience)
{
    pthread_mutex_destroy(&patience->lock);
    pthread_cond_destroy(&patience->changed);
}

void patience_stop(Patience *patience)
{
    pthread_mutex_lock(&patience->lock);
    atomic_store(&patience->stopped, true);
    pthread_cond_broadcast(&patience->changed);
    pthread_mutex_unlock(&patience->lock);
}

Status patience_sleep(Patience *patience, double seconds)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)seconds;
    until.tv_nsec += (long)((seconds - floor(seconds)) * 1e9);
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    int waited = 0;
    pthread_mutex_lock(&patience->lock);
    while (!patience_stopped(patience) && waited == 0)
        waited = pthread_cond_timedwait(&patience->changed, &patience->lock, &until);
    pthread_mutex_unlock(&patience->lock);
    if (patience_stopped(patience)) return status_fail(ERR_INTERRUPTED, __FILE__, __LINE__, "stopped");
    return STATUS_OK;
}

/* 1 to 3, then powers of ten. */
static bool is_worth_a_line(uint64_t count)
{
    if (count <= 3) return true;
    while (count % 10 == 0) count /= 10;
    return count == 1;
}

Status patience_pause(Patience *patience, int64_t attempt, double least)
{
    static atomic_uint_least64_t firsts;
    if (attempt == 1) {
        uint64_t count = atomic_fetch_add(&firsts, 1) + 1;
        if (is_worth_a_line(count)) log_warn("trying again (number %" PRIu64 "): %s", count, status_message());
    }
    static atomic_uint_least64_t draws;
    double pause = patience->config->retry_seconds * exp2((double)(attempt > 30 ? 30 : attempt - 1));
    if (pause > PATIENCE_LONGEST) pause = PATIENCE_LONGEST;
    /* Nothing that is computed depends on it, so it may differ between processes: the clock and a count do. */
    double jitter = fmod(clock_seconds() * 1e4 + (double)atomic_fetch_add(&draws, 1) * 0.618034, 1.0);
    pause *= 1 - jitter / 2;
    if (least > PATIENCE_LONGEST) least = PATIENCE_LONGEST;
    return patience_sleep(patience, pause < least ? least : pause);
}

/* What a parallel file system says while it has a bad moment. */
bool patience_may_pass(int error)
{
    switch (error) {
    case EIO:
    case ESTALE:
    case ENOENT:
    case ENOTCONN:
    case EAGAIN:
    case EBUSY:
    case ENFILE:
    case EMFILE:
    case ENXIO:
    case ENODEV:
    case ETIMEDOUT:
    case ECONNRESET:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENETDOWN:
    case ENETUNREACH:
    case ENETRESET:
    case EREMOTEIO:
        return true;
    default:
        return false;
    }
}
