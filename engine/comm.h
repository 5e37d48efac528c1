/* Collectives between ranks, one process per device. MPI starts every process and carries the CPU path. One thread of
 * ours initialises MPI and makes every MPI call (MPI_THREAD_FUNNELED), so a collective that was begun goes on while the
 * caller computes.
 *
 * All ranks call the same collectives in the same order; counts and kinds are checked against each other and a
 * difference is ERR_MISMATCH naming the ranks. */
#ifndef ENGINE_COMM_H
#define ENGINE_COMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/flight_record.h"

typedef struct Comm Comm;
typedef struct CommRequest CommRequest;

/* Joins the world of the launcher (mpirun, srun), or a world of one without a launcher (no MPI is started then). */
Status comm_open(Comm **out);
void comm_close(Comm *comm); /* collective; NULL is fine */
int comm_rank(const Comm *comm);
int comm_world(const Comm *comm);
int comm_local_rank(const Comm *comm); /* among the ranks of this machine */
int comm_local_world(const Comm *comm);

/* Sums `count` floats over all ranks in place, the same bits on every rank. Begin returns at once; the buffer belongs
 * to the collective until comm_wait. Requests complete in the order begun. */
Status comm_all_reduce_begin(Comm *comm, float *data, int64_t count, CommRequest **request);
Status comm_wait(Comm *comm, CommRequest *request); /* seconds waited are added to comm_exposed_seconds */
double comm_exposed_seconds(const Comm *comm);      /* total time callers spent in comm_wait */

/* ---- shares ----
 *
 * A buffer may be divided into equal shares among the ranks of a group: `group` neighbouring ranks, group 0 being ranks
 * [0, group). At first all ranks are one group. Share k of a group belongs to its k-th rank; where there are several
 * groups, the owners of share k in each of them hold the same. */
Status comm_set_group(Comm *comm, int group); /* collective; ERR_CONFIG where it does not divide the world */
int comm_group(const Comm *comm);             /* ranks of a group, and so shares */
int comm_share(const Comm *comm);             /* which is this rank's */

/* What floats are rounded to on their way. BF16: each rank's addend and each sum are rounded to bf16, the additions are
 * fp32; half the traffic. */
typedef enum CommWire { COMM_WIRE_F32, COMM_WIRE_BF16 } CommWire;
/* Sums over all ranks: in every group, this rank's share of `data` becomes the sum; with `gather` all shares do. What
 * is not asked for is left undefined. `count` is a multiple of 16 x comm_group. With one group the additions are in
 * rank order; with several, in rank order inside each, then the groups' sums in the groups' order. With and without
 * `gather` the bits are the same. */
Status comm_reduce_begin(Comm *comm, float *data, int64_t count, CommWire wire, bool gather, CommRequest **request);
/* Every rank of the group gets the other ranks' shares of `data`. `count` as above. */
Status comm_gather_begin(Comm *comm, float *data, int64_t count, CommRequest **request);

typedef enum CommReduce { COMM_SUM, COMM_MIN, COMM_MAX } CommReduce;
Status comm_all_reduce_f64(Comm *comm, double *values, int count, CommReduce how);
Status comm_broadcast(Comm *comm, void *data, size_t bytes, int root);
/* `bytes` from each rank, in rank order, into `out` (world * bytes). */
Status comm_all_gather(Comm *comm, const void *data, size_t bytes, void *out);
Status comm_barrier(Comm *comm);
/* No data moves from here on, so that buffers of collectives under way may be freed; after a failure, before comm_abort
 * or comm_close. Not collective. */
void comm_stop(Comm *comm);
/* Ends every rank of the job with `code`; does not return. */
void comm_abort(Comm *comm, int code);
/* Every collective is recorded here, in the order begun. A device's own, which the host does not see, are to be
 * recorded by whoever queues them. Lives as long as `comm`. */
FlightRecord *comm_flight_record(Comm *comm);
/* What this rank is at: collectives from now on are for it, and the watchdog tells the others. `step` counts from 1; -1
 * before the first. `activity` is a static text. */
void comm_note_step(Comm *comm, int64_t step, const char *activity);
/* Bytes of the buffers that collectives of `world` ranks pass their data through, on each rank. */
int64_t comm_buffer_bytes(int world, CommWire wire);
/* The MPI library's version text, or "none". */
const char *comm_library_version(void);

#endif
