/* How long a training step takes on many ranks, from what the plan counts: nothing runs, and nothing but arithmetic is
 * in here. docs/scaling.md has the formulas with their sources, and what was measured against them.
 *
 * One rank's step is gone through op by op, as the executor does:
 *
 *   gather weights -> forward and backward of each micro-batch, buckets sent in the last one -> rest of the sums
 *   -> block sums of the norm -> the ranks agree -> update
 *
 * Sharded, weights are gathered in the order in which forward needs them, from the end of the update before; an op
 * waits for the buckets that it reads. A bucket's sum begins when the op has run after which it is complete and the
 * link is free: collectives go one behind the other. What the rank stands still for is exposed; without overlap that is
 * every collective. All ranks are taken to be equally fast. */
#ifndef TRAIN_SCALING_H
#define TRAIN_SCALING_H

#include "engine/plan.h"

/* Seconds of one stage of a collective among n ranks, of which each sends `bytes` x (n - 1) / n:
 * latency x ceil(log2 n) + that / bytes_per_second. */
typedef struct ScalingRate {
    double latency;          /* seconds */
    double bytes_per_second; /* that one rank sends, while it receives as many: nccl-tests' bus bandwidth */
} ScalingRate;

typedef enum ScalingCollective {
    SCALING_REDUCE,     /* every rank gets its share of the sums */
    SCALING_GATHER,     /* every rank gets the others' shares */
    SCALING_ALL_REDUCE, /* both: twice the bytes, twice the hops */
    SCALING_COLLECTIVES
} ScalingCollective;
extern const char *const SCALING_COLLECTIVE_WORDS[]; /* NULL-terminated */

typedef struct ScalingLink {
    ScalingRate rate[SCALING_COLLECTIVES];
} ScalingLink;

typedef struct ScalingNetwork {
    int64_t per_node;   /* ranks of a machine */
    ScalingLink local;  /* among them */
    ScalingLink remote; /* between machines: what one rank has of it while all of its machine use it */
    double slowdown;    /* computing takes 1 + slowdown times as long while a collective runs */
} ScalingNetwork;

typedef struct ScalingMode {
    int64_t ranks;
    int64_t group;     /* ranks that share a bucket (engine/comm.h) */
    bool sharded;      /* the optimizer is divided among a group */
    bool overlap;      /* collectives run beside computing */
    double wire_bytes; /* of one gradient on its way: 4 or 2 */
} ScalingMode;

/* What one rank has to do in a step. */
typedef struct ScalingWork {
    const double *op_seconds; /* per op of one micro-batch's graph, alone on the machine */
    int32_t op_count;
    const Bucket *buckets;
    int32_t bucket_count;
    int64_t micro_batches;
    double update_seconds; /* the whole update by one rank */
    double fixed_seconds;  /* what else a step takes on any number of ranks: packing weights, the host */
    double images;         /* of this rank */
    double flops;          /* of this rank's images; recomputation left out */
} ScalingWork;

typedef struct ScalingStep {
    double seconds;           /* of the whole step */
    double compute;           /* its ops, slowed down or not, and fixed_seconds */
    double exposed_gradients; /* stood still for sums */
    double exposed_weights;   /* and for weights */
    double agreement;         /* small collectives that nothing can run beside */
    double update;
    double communication;     /* all sums and gathers, hidden or not */
    double images_per_second; /* of all ranks */
} ScalingStep;

/* Seconds of one collective over `bytes` of data among `ranks` ranks, `local` of them on each machine. */
double scaling_collective_seconds(const ScalingNetwork *network, ScalingCollective what, int64_t local, int64_t nodes,
                                  double bytes);
/* A bucket's sum, `bytes` on the wire, with every share at every rank or only at its owner; and the gathering of its
 * weights. */
double scaling_reduce_seconds(const ScalingNetwork *network, const ScalingMode *mode, double bytes);
double scaling_gather_seconds(const ScalingNetwork *network, const ScalingMode *mode, double bytes);

/* Bytes that a rank sends in a step for `elements` gradients and, sharded, their weights. */
double scaling_traffic(const ScalingMode *mode, double elements);

/* ERR_MEMORY only. */
Status scaling_step(const ScalingWork *work, const ScalingNetwork *network, const ScalingMode *mode, ScalingStep *out);

/* Least squares of relative errors: seconds[i] ~ latency + amount[i] / rate. Neither is negative; rate is INFINITY
 * where time does not grow. `worst` is the largest relative error. False with fewer than two different amounts. */
bool scaling_fit(const double *amount, const double *seconds, int count, double *latency, double *rate, double *worst);

#endif
