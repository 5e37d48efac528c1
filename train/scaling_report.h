/* Predictions for a config on 1, 2, 4, ... N ranks: `vasily plan --ranks N` with a machine or with measurements. */
#ifndef TRAIN_SCALING_REPORT_H
#define TRAIN_SCALING_REPORT_H

#include "base/json.h"
#include "train/args.h"
#include "train/calibration.h"
#include "train/network.h"
#include "train/scaling_machine.h"

typedef struct ScalingRequest {
    const char *machine;  /* of the table; NULL: everything is measured */
    const char *machines; /* the table's file; NULL: configs/machines/clusters.yaml */
    ArgTexts calibration; /* files of measurements; they replace what the machine says */
    int64_t ranks;        /* the most */
    int64_t per_node;     /* 0: the machine's, or as was measured */
    double link, network; /* GB/s that a rank's collectives reach; 0: as the machine has it */
    double compute_share; /* of the stated FLOP/s; 0: the machine's */
} ScalingRequest;

#define SCALING_ROWS_MOST 24
typedef struct ScalingRow {
    int64_t ranks;
    ScalingStep step;
} ScalingRow;

typedef struct ScalingReport {
    char name[64];
    ScalingNetwork network;
    ScalingRow rows[SCALING_ROWS_MOST]; /* the last one for all ranks */
    int row_count;
    int64_t images, micro_batch; /* of one rank */
    double flops;                /* of one rank's step, without recomputation */
    double peak;                 /* stated FLOP/s of a rank; 0: not known */
    int64_t steps;               /* of the run */
} ScalingReport;

/* How ranks exchange by `parallel`, in groups of `group`. */
ScalingMode scaling_mode_of(const ParallelConfig *parallel, int64_t ranks, int64_t group);
/* Ranks of a machine: request->per_node, the table's, or as was measured; ERR_USAGE where nothing says so. */
Status scaling_report_per_node(const ScalingRequest *request, Arena *arena, int64_t *out);

/* For a machine that nothing is planned for (`backend` is the host's): buckets of the size that a GPU's have, and where
 * run->train.micro_batch is MICRO_BATCH_AUTO the largest divisor of `images` with which what a step keeps fits the
 * machine's memory, by plans without kernels. */
Status scaling_report_choose(const ScalingRequest *request, RunConfig *run, Backend *backend, int64_t images);
/* `run`: checked for request->ranks, micro_batch resolved; every rank has `images` of its global batch, on any number
 * of ranks. ERR_USAGE where something is neither in the table nor measured. */
Status scaling_report_make(const ScalingRequest *request, const RunConfig *run, Backend *backend, int64_t images,
                           Arena *arena, ScalingReport *out);
void scaling_report_print(const ScalingReport *report);
void scaling_report_json(const ScalingReport *report, JsonWriter *w); /* members of an open object */

#endif
