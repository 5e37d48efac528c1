/* The config's list `stages`: parts of one run that differ in resolution, batch, data, frozen networks or previews.
 *
 * A stage writes, nested as in the config itself, only what differs (ConfigPatch); run_config_load_stage lays that over
 * the rest. Everything else, the schedule above all, is one for the whole run. */
#ifndef TRAIN_STAGES_CONFIG_H
#define TRAIN_STAGES_CONFIG_H

#include <stdint.h>

#include "base/config.h"

enum { STAGES_MOST = 64, STAGE_NAME_MOST = 64 };

typedef struct StageConfig {
    char *name;    /* letters, digits, '-', '_', '.': it stands in the names of files */
    int64_t steps; /* of this stage; 0: `days` says how long it is */
    double days;   /* of wall time trained in it; 0: `steps` */
    ConfigPatch train, data, frozen, preview;
} StageConfig;

extern const ConfigSchema STAGE_CONFIG_SCHEMA;

struct RunConfig;

/* Names and lengths of the stages, and train.steps, which becomes their sum (where one is given in days, and
 * train.steps is not written: optim.total_steps). Nothing without stages. */
Status stages_config_check(struct RunConfig *run, const Config *config);
/* Every stage's own config by itself, and that data which goes on from one to the next is the same data. After the
 * above, and when optim.total_steps is known. */
Status stages_config_check_each(const struct RunConfig *run, const Config *config);

#endif
