#include "train/parallel_config.h"

#define FIELD_COUNT(fields) (sizeof(fields) / sizeof((fields)[0]))
#define AT(name) offsetof(ParallelConfig, name)

static const char *const SHARD_WORDS[] = {"none", "all", "node", NULL};
static const char *const WIRE_WORDS[] = {"f32", "bf16", NULL};

static const ConfigField FIELDS[] = {
    {"shard", CONFIG_ENUM, AT(shard), "none", 0, 0, SHARD_WORDS, NULL,
     "optimizer (moments, moving average): whole on every rank, divided among all of them, or among those of each "
     "machine; the same weights, less memory"},
    {"group", CONFIG_INT, AT(group), "0", 0, 65536, NULL, NULL,
     "neighbouring ranks among which shard: node divides; 0: those of one machine"},
    {"wire", CONFIG_ENUM, AT(wire), "f32", 0, 0, WIRE_WORDS, NULL,
     "what gradients are rounded to while they travel; bf16 halves the traffic"},
    {"overlap", CONFIG_BOOL, AT(overlap), "true", 0, 0, NULL, NULL,
     "gradients and weights travel while the ranks compute; off gives the same bits more slowly"},
    {"exchange_alone", CONFIG_BOOL, AT(exchange_alone), "false", 0, 0, NULL, NULL,
     "go through the collectives with one rank too: the same bits, for tests"},
    {"compare_every", CONFIG_INT, AT(compare_every), "1000", 0, 1e12, NULL, NULL,
     "steps between comparisons of the ranks' weights, which must be the same to the bit; 0: never"},
    {"heartbeat_seconds", CONFIG_FLOAT, AT(heartbeat_seconds), "1", 0.05, 3600, NULL, NULL,
     "a rank tells the others so often that it lives"},
    {"silent_seconds", CONFIG_FLOAT, AT(silent_seconds), "60", 0, 1e6, NULL, NULL,
     "a rank that was not heard of for so long is named and the job ended; 0: never"},
    {"stall_seconds", CONFIG_FLOAT, AT(stall_seconds), "1800", 0, 1e6, NULL, NULL,
     "the same for one that lives but that others have waited for in a collective for so long; 0: never"},
};
const ConfigSchema PARALLEL_CONFIG_SCHEMA = {"parallel", FIELDS, FIELD_COUNT(FIELDS), sizeof(ParallelConfig)};

Status parallel_config_group(const ParallelConfig *parallel, const Config *config, int world, int local_world,
                             int *group)
{
    Status status = STATUS_OK;
    *group = world;
    if (parallel->shard != PARALLEL_SHARD_NODE || world == 1) return STATUS_OK;
    *group = parallel->group > 0 ? (int)parallel->group : local_world;
    if (*group > world || world % *group)
        FAIL_WITH(config_error(config, "parallel.group", "%d does not divide the %d ranks into equal groups; %s",
                               *group, world,
                               parallel->group > 0 ? "choose a divisor, or 0 for the ranks of one machine"
                                                   : "every machine must have as many ranks, or choose a divisor"));
fail:
    return status;
}
