/* Measurements for the scaling model: what `vasily bench step --json` and `vasily bench comm --json` have written. */
#ifndef TRAIN_CALIBRATION_H
#define TRAIN_CALIBRATION_H

#include "base/arena.h"
#include "train/scaling.h"

typedef struct CalibrationRow {
    const char *op, *shape; /* shape "": all of that op */
    int64_t count;          /* of ops */
    double seconds;         /* of one micro-batch */
} CalibrationRow;

/* A file of `vasily bench step`. */
typedef struct CalibrationStep {
    const char *path;
    int64_t parameters, micro_batch, micro_batches;
    CalibrationRow *rows;
    size_t row_count;
    double update_seconds, fixed_seconds; /* of a step */
} CalibrationStep;

/* A file of `vasily bench comm`. */
typedef struct CalibrationComm {
    const char *path;
    int64_t ranks, local_ranks;
    struct {
        bool there;
        double latency, bytes_per_second; /* of the whole collective, and of the bytes a rank sends */
    } fit[SCALING_COLLECTIVES][2];        /* by wire: f32, bf16 */
    double slowdown;
} CalibrationComm;

typedef struct Calibration {
    CalibrationStep *steps; /* of the same step; their mean counts */
    size_t step_count;
    CalibrationComm *comms;
    size_t comm_count;
} Calibration;

/* ERR_FORMAT names the file and what is wrong with it. Everything lives in the arena. */
Status calibration_read(const char *const *paths, size_t count, Arena *arena, Calibration *out);

/* Seconds per op of the graph, of the update and of the rest; ERR_MISMATCH, with the remedy, where another network or
 * micro-batch was measured. A row's seconds are divided among its ops as their FLOPs, or where it has none their bytes.
 */
Status calibration_ops(const Calibration *calibration, const Graph *graph, int64_t micro_batch, double *op_seconds,
                       double *update_seconds, double *fixed_seconds);

/* Replaces what was measured: ranks of one machine give the local link, single ranks of several the remote one; the
 * mean of several files counts. */
Status calibration_network(const Calibration *calibration, bool bf16_wire, ScalingNetwork *network);
/* Ranks of a machine: those of the largest that was measured by itself; 1 where only single ranks of several were;
 * 0: nothing says so. */
int64_t calibration_per_node(const Calibration *calibration);

#endif
