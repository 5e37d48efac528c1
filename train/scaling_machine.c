#include "train/scaling_machine.h"

#include <limits.h>
#include <math.h>
#include <string.h>

#include "train/network.h"

#define FIELD_COUNT(fields) (sizeof(fields) / sizeof((fields)[0]))
#define AT(name) offsetof(ScalingMachine, name)

static const ConfigField FIELDS[] = {
    {"name", CONFIG_STRING, AT(name), NULL, 0, 0, NULL, NULL, "what --gpu and --cluster call it"},
    {"flops", CONFIG_FLOAT, AT(flops), NULL, 1e9, 1e18, NULL, NULL, "dense bf16 FLOP/s of a GPU, as its maker says"},
    {"flops_share", CONFIG_FLOAT, AT(flops_share), "0.5", 0.01, 1, NULL, NULL, "of it that an op's arithmetic reaches"},
    {"memory_bytes", CONFIG_FLOAT, AT(memory_bytes), NULL, 1e9, 1e15, NULL, NULL, "memory of a GPU"},
    {"memory_rate", CONFIG_FLOAT, AT(memory_rate), NULL, 1e9, 1e16, NULL, NULL, "bytes/s of that memory"},
    {"memory_share", CONFIG_FLOAT, AT(memory_share), "0.85", 0.01, 1, NULL, NULL, "of it that an op's traffic reaches"},
    {"op_seconds", CONFIG_FLOAT, AT(op_seconds), "4.0e-6", 0, 1, NULL, NULL, "the least time of an op"},
    {"per_node", CONFIG_INT, AT(per_node), "8", 1, 1024, NULL, NULL, "GPUs of a machine"},
    {"link_rate", CONFIG_FLOAT, AT(link_rate), NULL, 1e6, 1e15, NULL, NULL,
     "bytes/s of a GPU to the others of its machine, one direction"},
    {"link_share", CONFIG_FLOAT, AT(link_share), "0.8", 0.01, 1, NULL, NULL, "of it that collectives reach"},
    {"link_latency", CONFIG_FLOAT, AT(link_latency), "5.0e-6", 0, 1, NULL, NULL, "seconds of a hop inside a machine"},
    {"network_rate", CONFIG_FLOAT, AT(network_rate), NULL, 1e6, 1e15, NULL, NULL,
     "bytes/s of a GPU to other machines, one direction"},
    {"network_share", CONFIG_FLOAT, AT(network_share), "0.9", 0.01, 1, NULL, NULL, "of it that collectives reach"},
    {"network_latency", CONFIG_FLOAT, AT(network_latency), "1.5e-5", 0, 1, NULL, NULL,
     "seconds of a hop between machines"},
    {"slowdown", CONFIG_FLOAT, AT(slowdown), "0.1", 0, 10, NULL, NULL,
     "by how much computing is slower while a collective runs"},
};
static const ConfigSchema MACHINE_SCHEMA = {"machine", FIELDS, FIELD_COUNT(FIELDS), sizeof(ScalingMachine)};

static const ConfigField LIST_FIELDS[] = {
    {"machines", CONFIG_LIST, offsetof(ScalingMachines, list), NULL, 0, 0, NULL, &MACHINE_SCHEMA,
     "GPU machines that steps are predicted for"},
};
static const ConfigSchema LIST_SCHEMA = {"machines", LIST_FIELDS, FIELD_COUNT(LIST_FIELDS), sizeof(ScalingMachines)};

Status scaling_machines_load(const char *path, ScalingMachines *out, Config **config)
{
    Status status = STATUS_OK;
    char found[PATH_MAX];
    *config = NULL;
    if (!path) {
        if (!network_find_machine_file("clusters.yaml", found))
            FAIL(ERR_IO,
                 "configs/machines/clusters.yaml is neither here nor beside the program; name it by --machines");
        path = found;
    }
    TRY(config_load(path, NULL, &LIST_SCHEMA, NULL, 0, out, config));
fail:
    return status;
}

Status scaling_machines_find(const ScalingMachines *machines, const char *name, ScalingMachine *out)
{
    Status status = STATUS_OK;
    StrBuf names = {0};
    const ScalingMachine *items = machines->list.items;
    for (size_t i = 0; i < machines->list.count; i++) {
        if (strcmp(items[i].name, name) == 0) {
            *out = items[i];
            goto fail;
        }
        TRY(strbuf_printf(&names, "%s%s", i ? ", " : "", items[i].name));
    }
    FAIL(ERR_USAGE, "\"%s\" is no machine of the table (%s); choose one, or add it (configs/machines/clusters.yaml)",
         name, names.size ? names.data : "it is empty");
fail:
    strbuf_free(&names);
    return status;
}

bool scaling_machines_have(const char *path, const char *name)
{
    ScalingMachines machines;
    ScalingMachine found;
    Config *config = NULL;
    const bool have = scaling_machines_load(path, &machines, &config) == STATUS_OK &&
                      scaling_machines_find(&machines, name, &found) == STATUS_OK;
    config_free(config);
    return have;
}

static ScalingLink link_of(double latency, double bytes_per_second)
{
    const ScalingRate rate = {latency, bytes_per_second};
    return (ScalingLink){{rate, rate, rate}};
}

void scaling_machine_network(const ScalingMachine *m, ScalingNetwork *out)
{
    *out = (ScalingNetwork){.per_node = m->per_node,
                            .local = link_of(m->link_latency, m->link_rate * m->link_share),
                            .remote = link_of(m->network_latency, m->network_rate * m->network_share),
                            .slowdown = m->slowdown};
}

void scaling_machine_ops(const ScalingMachine *m, const Graph *graph, double *op_seconds)
{
    for (int32_t i = 0; i < graph_op_count(graph); i++) {
        const Op *op = graph_op(graph, i);
        const OpCost cost = op_info(op->kind)->cost(graph, op);
        const double work =
            fmax(cost.flops / (m->flops * m->flops_share), cost.bytes / (m->memory_rate * m->memory_share));
        op_seconds[i] = fmax(work, m->op_seconds);
    }
}

/* The norm reads the gradient; AdamW reads it again, reads and writes weight and two moments, and writes a bf16 copy.
 */
double scaling_machine_update(const ScalingMachine *m, int64_t elements, bool average)
{
    const double bytes = 4 + 4 + 3 * 8 + 2 + (average ? 8 : 0);
    return (double)elements * bytes / (m->memory_rate * m->memory_share);
}
