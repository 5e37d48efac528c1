/* What the scaling model must know of a GPU machine: a row of configs/machines/clusters.yaml, or what was measured. */
#ifndef TRAIN_SCALING_MACHINE_H
#define TRAIN_SCALING_MACHINE_H

#include "base/config.h"
#include "train/scaling.h"

/* Of one GPU. Rates are those that the maker states; shares say what of them is reached. */
typedef struct ScalingMachine {
    char *name;
    double flops;        /* dense bf16, per second */
    double flops_share;  /* of a whole step's matrix products */
    double memory_bytes; /* its memory */
    double memory_rate;  /* bytes per second */
    double memory_share; /* of what only moves data */
    double op_seconds;   /* the least time of an op */
    int64_t per_node;    /* GPUs of a machine */
    double link_rate;    /* bytes per second to the others of the machine, one direction */
    double network_rate; /* and to other machines */
    double link_share;   /* that collectives reach */
    double network_share;
    double link_latency; /* seconds a hop */
    double network_latency;
    double slowdown; /* of computing beside a collective */
} ScalingMachine;

typedef struct ScalingMachines {
    ConfigList list; /* of ScalingMachine */
} ScalingMachines;

/* `path` NULL: configs/machines/clusters.yaml, here or beside the program. The file's memory is the Config's. */
Status scaling_machines_load(const char *path, ScalingMachines *out, Config **config);
/* ERR_USAGE, naming those that there are. */
Status scaling_machines_find(const ScalingMachines *machines, const char *name, ScalingMachine *out);
bool scaling_machines_have(const char *path, const char *name); /* false as well where the table cannot be read */
void scaling_machine_network(const ScalingMachine *machine, ScalingNetwork *out);

/* Seconds per op of `graph`, alone on the machine: its FLOPs or its bytes, whichever takes longer. */
void scaling_machine_ops(const ScalingMachine *machine, const Graph *graph, double *op_seconds);
/* The update of `elements` weights: norm, AdamW, moving average and bf16 copies, at the memory's rate. */
double scaling_machine_update(const ScalingMachine *machine, int64_t elements, bool average);

#endif
