#include "train/watch_config.h"

#define FIELD_COUNT(fields) (sizeof(fields) / sizeof((fields)[0]))
#define AT(name) offsetof(WatchConfig, name)

static const ConfigField FIELDS[] = {
    {"tensorboard", CONFIG_BOOL, AT(tensorboard), "true", 0, 0, NULL, NULL,
     "write event files for TensorBoard to run.dir/tensorboard"},
    {"every", CONFIG_INT, AT(every), "10", 1, 1e9, NULL, NULL,
     "steps between numbers in them; metrics.jsonl has every step"},
    {"report", CONFIG_BOOL, AT(report), "true", 0, 0, NULL, NULL,
     "write run.dir/report.html, again and again as the run goes on, and at its end"},
    {"report_every", CONFIG_INT, AT(report_every), "0", 0, 1e12, NULL, NULL,
     "steps between reports; 0: as checkpoint.every"},
};
const ConfigSchema WATCH_CONFIG_SCHEMA = {"watch", FIELDS, FIELD_COUNT(FIELDS), sizeof(WatchConfig)};
