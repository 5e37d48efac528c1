/* Where the time of a graph's runs went: by kind of op, or by kind and shape, each against its own roof. */
#ifndef TRAIN_OP_TIMES_H
#define TRAIN_OP_TIMES_H

#include "base/json.h"
#include "engine/graph.h"

/* What the machine can do, measured in the same run; 0: not known. An op's roof is the time that its FLOPs or its bytes
 * (each operand once) would take at these rates, whichever is longer. */
typedef struct OpRoofs {
    double flops, bytes; /* per second */
} OpRoofs;

typedef struct OpTime {
    OpKind kind;
    char shape[96]; /* of the output; "" by kind alone */
    int32_t ops;
    double seconds, flops, bytes, roof_seconds; /* of one run, all of its ops together */
} OpTime;

typedef struct OpTimes {
    OpTime *items; /* the longest first */
    int32_t count;
} OpTimes;

/* `op_seconds`: per op of the graph, summed over `runs` runs. */
Status op_times_make(const Graph *graph, const double *op_seconds, double runs, const OpRoofs *roofs, bool by_shape,
                     OpTimes *out);
void op_times_free(OpTimes *times);
/* A table; shares are of `total` seconds. Times and counts are multiplied by `runs` (micro-batches of a step). */
void op_times_print(const OpTimes *times, double runs, double total);
/* A row of such a table for what is no op. */
void op_times_print_other(const char *name, double seconds, double total);
/* Items of an open array. */
void op_times_json(const OpTimes *times, double runs, JsonWriter *w);

#endif
