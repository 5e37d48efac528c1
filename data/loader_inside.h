/* The loader's parts: loader.c opens and closes it and is the caller's side, loader_order.c sets up the mixture and
 * where each lane stands, loader_walk.c is what its threads do. */
#ifndef DATA_LOADER_INSIDE_H
#define DATA_LOADER_INSIDE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/queue.h"
#include "data/batch.h"
#include "data/candidate.h"
#include "data/loader.h"
#include "data/order.h"

/* One (source, lane): its order, and its samples under way in that order. */
typedef struct Stream {
    OrderStream order;
    Candidate *head, *tail;
    int64_t epoch;       /* of the last sample taken */
    int64_t passed_over; /* in a row */
    bool fresh, kept;    /* that epoch was seen from its first sample on; something of it was accepted */
    bool once;           /* the source does not repeat: there is no second epoch */
} Stream;

struct Loader {
    const DataConfig *config;
    LoaderOptions options;
    ShardStore *store;
    BadLog *bad_log; /* NULL: none */
    OrderSource *sources;
    double *shares; /* (source_count) of the mixture, 1 in all */
    bool *ended;    /* (own_lanes, source_count): a source that does not repeat has nothing left for the lane */
    int32_t source_count, lanes, own_lanes;
    Stream *streams; /* (source_count, own_lanes): lane = rank + world * own lane */
    BatchMaker maker;
    FilterSet *filters;
    CandidateContext context;
    Cursor *cursor; /* as of the last sample taken */

    /* the walker's */
    Candidate *candidates;
    BatchRow *rows; /* (maker.count) of the batch that is filled; NULL where nothing is precomputed */
    int candidate_count, lookahead, under_way;
    int replaced; /* candidates in use that have a successor already */
    Candidate *free_list;
    int64_t take_index, issue_index, step;

    /* threads */
    pthread_t walker, workers[LOADER_MAX_THREADS];
    int thread_count, started;
    bool walking, locks;
    pthread_mutex_t lock;
    pthread_cond_t settled; /* what the walker waits for is done, or the loader stops */
    atomic_bool stop;
    Queue *jobs, *ready, *empty;
    OwnBatch **batches;
    int batch_count;
    StatusRecord failure; /* written before `ready` is closed */

    /* guarded by lock */
    int32_t rows_under_way;
    const Candidate *awaited; /* by the walker, which sleeps; NULL: it does not */
    BadSamples bad;
    int64_t bytes_read;
    double stage_seconds[CANDIDATE_STAGES];
    LoaderSourceStats *source_stats; /* (source_count) */
    /* the caller's */
    int64_t batches_given;
    double seconds_waited;
};

/* Opens the order of every source, and goes to `start` (NULL: the beginning). */
Status loader_open_order(Loader *loader, const Cursor *start);

/* A decode thread, and the walker: issues samples in order, takes the accepted ones in order, fills batches. The
 * argument is the loader. */
void *loader_decode(void *argument);
void *loader_walk(void *argument);

#endif
