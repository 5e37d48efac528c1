/* The config section `parallel:`: how many ranks train together, and what happens when one of them does not answer. */
#ifndef TRAIN_PARALLEL_CONFIG_H
#define TRAIN_PARALLEL_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"

typedef enum ParallelShard {
    PARALLEL_SHARD_NONE, /* every rank has the whole optimizer */
    PARALLEL_SHARD_ALL,  /* divided among all ranks */
    PARALLEL_SHARD_NODE  /* divided among the ranks of a machine, the same on every machine */
} ParallelShard;

typedef struct ParallelConfig {
    int32_t shard;         /* ParallelShard */
    int64_t group;         /* ranks among which `node` divides; 0: those of one machine */
    int32_t wire;          /* CommWire: what gradients are rounded to on their way */
    bool overlap;          /* gradients and weights travel while the ranks compute */
    bool exchange_alone;   /* with one rank too */
    int64_t compare_every; /* steps between comparisons of the ranks' weights; 0: never */
    double heartbeat_seconds;
    double silent_seconds; /* a rank that is not heard of for so long is given up; 0: never */
    double stall_seconds;  /* likewise one that the others wait for in a collective */
} ParallelConfig;

extern const ConfigSchema PARALLEL_CONFIG_SCHEMA;

/* Ranks that share a bucket (engine/comm.h), of `world` ranks, `local_world` of them on this machine. ERR_CONFIG where
 * parallel.group does not divide them; one rank is a group by itself, whatever the config says. */
Status parallel_config_group(const ParallelConfig *parallel, const Config *config, int world, int local_world,
                             int *group);

#endif
