/* The config section `validation:`: held-out samples, and at which noise levels the loss is measured on them. */
#ifndef TRAIN_VALIDATION_CONFIG_H
#define TRAIN_VALIDATION_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "data/data_config.h"

typedef struct ValidationConfig {
    int64_t every;          /* steps; 0: none */
    ConfigList sources;     /* of SourceConfig; none: no validation */
    int64_t samples;        /* the first accepted ones */
    ConfigInts timesteps;   /* none: timestep_count evenly spaced ones */
    int64_t timestep_count; /* where `timesteps` is empty */
    int64_t seed;           /* of order, captions and noise */
    int64_t batch;          /* rows of one forward pass on one rank; 0: the micro-batch */
    bool ema;               /* with the moving average, too */
} ValidationConfig;

extern const ConfigSchema VALIDATION_CONFIG_SCHEMA;

/* What no single key shows: names of sources that are those of training too, timesteps that the noise process of
 * `diffusion_steps` does not have. Nothing without sources. */
Status validation_config_check(const ValidationConfig *validation, const DataConfig *training, int64_t diffusion_steps,
                               const Config *config);

/* How many timesteps; with `out` not NULL they are put there, ascending where they are spaced: the middles of equal
 * parts of [0, diffusion_steps), so that their mean stands for a uniform draw. */
int64_t validation_config_timesteps(const ValidationConfig *validation, int64_t diffusion_steps, int64_t *out);

/* How the held-out samples are read: as those of training, but from one lane, once, without dropped captions and
 * without augmentation, so that sample i is the same on any number of ranks and whatever training does. Free the
 * sources with validation_config_free_data; everything else is borrowed. */
Status validation_config_data(const ValidationConfig *validation, const DataConfig *training, DataConfig *out);
/* Training's sources and the held-out ones together, for what is done with all shards alike. Free it likewise. */
Status validation_config_all_data(const ValidationConfig *validation, const DataConfig *training, DataConfig *out);
void validation_config_free_data(DataConfig *data);

#endif
