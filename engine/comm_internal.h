/* What the files of the collectives share; for comm*.c only.
 *
 * comm.c is the front: arguments, the request pool, a world of one. comm_mpi.c owns the thread that makes every MPI
 * call. comm_pipeline.c is what that thread runs: checks, and pieces (comm_piece.c) in order. */
#ifndef ENGINE_COMM_INTERNAL_H
#define ENGINE_COMM_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/comm.h"

typedef enum CommKind {
    COMM_KIND_ALL_REDUCE,     /* count floats, in place */
    COMM_KIND_ALL_REDUCE_F64, /* count doubles, in place; detail: CommReduce */
    COMM_KIND_BROADCAST,      /* count bytes; detail: root */
    COMM_KIND_ALL_GATHER,     /* count bytes from each rank */
    COMM_KIND_REDUCE,         /* count floats, in shares of the group; detail: COMM_REDUCE_... */
    COMM_KIND_GATHER,         /* the shares of count floats in the group */
    COMM_KIND_SET_GROUP,      /* groups of count ranks from now on */
    COMM_KIND_BARRIER,
    COMM_KIND_CLOSE
} CommKind;

enum { COMM_REDUCE_BF16 = 1, COMM_REDUCE_GATHER = 2 };

struct CommRequest {
    CommKind kind;
    const void *input;
    void *output;
    int64_t count;
    int64_t detail;
    bool done, failed;    /* guarded by the lock of CommMpi */
    FlightRecord *flight; /* NULL: not recorded */
    int64_t number;       /* there */
    CommRequest *next;
};

typedef struct CommWorld {
    int rank, world, local_rank, local_world;
} CommWorld;

/* comm_mpi.c */
typedef struct CommMpi CommMpi;
/* True when a launcher started this process as one of several ranks, or as one whose world only MPI can tell. */
bool comm_mpi_is_launched(void);
Status comm_mpi_open(CommMpi **out, CommWorld *world);
void comm_mpi_close(CommMpi *mpi, int64_t number);        /* of the last collective, the end */
void comm_mpi_submit(CommMpi *mpi, CommRequest *request); /* the request is the thread's until done */
Status comm_mpi_wait(CommMpi *mpi, CommRequest *request);
void comm_mpi_stop(CommMpi *mpi);
void comm_mpi_abort(CommMpi *mpi, int code) __attribute__((noreturn));

/* comm_pipeline.c; every call from the MPI thread. */
typedef struct CommPipeline CommPipeline;
Status comm_pipeline_create(CommWorld *world, CommPipeline **out); /* collective; fills *world; MPI has been started */
void comm_pipeline_free(CommPipeline *pipeline);                   /* collective; before MPI_Finalize */
void comm_pipeline_push(CommPipeline *pipeline, CommRequest *request);
/* Moves whatever can move without waiting. *moved: some state changed, so another call is worth it at once. After an
 * error every request pushed comes back from comm_pipeline_pop with `failed` set, in `failure` the reason. */
void comm_pipeline_step(CommPipeline *pipeline, bool *moved);
void comm_pipeline_stop(CommPipeline *pipeline); /* as if an MPI call had failed */
/* The oldest request if it has finished, else NULL. */
CommRequest *comm_pipeline_pop(CommPipeline *pipeline, bool *failed);
const StatusRecord *comm_pipeline_failure(const CommPipeline *pipeline);
bool comm_pipeline_is_idle(const CommPipeline *pipeline);

#endif
