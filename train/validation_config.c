#include "train/validation_config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

/* Losses of one validation: of every sample at every timestep. */
#define TERMS_MAX ((int64_t)1 << 24)

#define AT(name) offsetof(ValidationConfig, name)

static const ConfigField FIELDS[] = {
    {"every", CONFIG_INT, AT(every), "1000", 0, 1e12, NULL, NULL,
     "steps between measurements of the loss on held-out samples; 0: none. They come at the beginning and the end, "
     "too"},
    {"sources", CONFIG_LIST, AT(sources), NULL, 0, 0, NULL, &source_config_schema,
     "held-out shards, as data.sources (weight and repeat aside); none: no validation"},
    {"samples", CONFIG_INT, AT(samples), "256", 1, 1 << 20, NULL, NULL,
     "samples, always the same: the first that the filters of data accept, in an order drawn from validation.seed"},
    {"timesteps", CONFIG_INT_LIST, AT(timesteps), "[]", 0, 1e6, NULL, NULL,
     "timesteps at which each sample's loss is measured; empty: timestep_count evenly spaced ones"},
    {"timestep_count", CONFIG_INT, AT(timestep_count), "8", 1, 1e6, NULL, NULL,
     "how many evenly spaced timesteps where validation.timesteps is empty: the middles of equal parts of the noise "
     "process"},
    {"seed", CONFIG_INT, AT(seed), "0", 0, 9e15, NULL, NULL,
     "of the samples' order, captions and noise; runs with the same seed and shards can be compared"},
    {"batch", CONFIG_INT, AT(batch), "0", 0, 1 << 20, NULL, NULL,
     "samples at once on one rank; 0: the micro-batch of training"},
    {"ema", CONFIG_BOOL, AT(ema), "true", 0, 0, NULL, NULL,
     "measure with the moving average of the weights, too, where there is one"},
};
const ConfigSchema VALIDATION_CONFIG_SCHEMA = {"validation", FIELDS, sizeof FIELDS / sizeof FIELDS[0],
                                               sizeof(ValidationConfig)};

int64_t validation_config_timesteps(const ValidationConfig *validation, int64_t diffusion_steps, int64_t *out)
{
    const int64_t listed = (int64_t)validation->timesteps.count, spaced = validation->timestep_count;
    for (int64_t k = 0; out && k < (listed ? listed : spaced); k++)
        out[k] = listed ? validation->timesteps.items[k] : (2 * k + 1) * diffusion_steps / (2 * spaced);
    return listed ? listed : spaced;
}

static Status check_timesteps(const ValidationConfig *v, int64_t diffusion_steps, const Config *config)
{
    Status status = STATUS_OK;
    char key[64];
    for (size_t i = 0; i < v->timesteps.count; i++) {
        snprintf(key, sizeof key, "validation.timesteps[%zu]", i);
        if (v->timesteps.items[i] >= diffusion_steps)
            FAIL_WITH(config_error(config, key, "%lld is none of the noise process, which has 0 to %lld",
                                   (long long)v->timesteps.items[i], (long long)diffusion_steps - 1));
        for (size_t j = 0; j < i; j++)
            if (v->timesteps.items[j] == v->timesteps.items[i])
                FAIL_WITH(config_error(config, key, "%lld is there twice", (long long)v->timesteps.items[i]));
    }
    if (v->timesteps.count == 0 && v->timestep_count > diffusion_steps)
        FAIL_WITH(config_error(config, "validation.timestep_count", "%lld is more than diffusion.steps, %lld",
                               (long long)v->timestep_count, (long long)diffusion_steps));
    const int64_t count = validation_config_timesteps(v, diffusion_steps, NULL);
    if (v->samples > TERMS_MAX / count)
        FAIL_WITH(config_error(config, "validation.samples",
                               "%lld samples at %lld timesteps each are more than %lld losses; take fewer of either",
                               (long long)v->samples, (long long)count, (long long)TERMS_MAX));
fail:
    return status;
}

Status validation_config_check(const ValidationConfig *v, const DataConfig *training, int64_t diffusion_steps,
                               const Config *config)
{
    Status status = STATUS_OK;
    char key[64];
    DataConfig data = *training;
    if (v->sources.count == 0) return STATUS_OK;
    data.sources = v->sources;
    data.filter.where = (ConfigStrings){0}; /* checked where it stands, in section data */
    TRY(data_config_check(config, "validation", &data));
    for (size_t i = 0; i < data.sources.count; i++)
        for (size_t j = 0; j < training->sources.count; j++)
            if (strcmp(data_config_source(&data, i)->name, data_config_source(training, j)->name) == 0) {
                snprintf(key, sizeof key, "validation.sources[%zu].name", i);
                FAIL_WITH(config_error(config, key, "a source of training is called %s, too; give each its own name",
                                       data_config_source(&data, i)->name));
            }
    TRY(check_timesteps(v, diffusion_steps, config));
fail:
    return status;
}

/* A copy of the sources, those of `first` before those of `second`. */
static Status copy_sources(const ConfigList *first, const ConfigList *second, ConfigList *out)
{
    Status status = STATUS_OK;
    const size_t count = first->count + second->count;
    SourceConfig *items = mem_alloc_array(count + 1, sizeof *items);
    if (!items) FAIL(ERR_MEMORY, "out of memory for %zu sources of data", count);
    if (first->count) memcpy(items, first->items, first->count * sizeof *items);
    if (second->count) memcpy(items + first->count, second->items, second->count * sizeof *items);
    *out = (ConfigList){items, count};
fail:
    return status;
}

Status validation_config_data(const ValidationConfig *validation, const DataConfig *training, DataConfig *out)
{
    Status status = STATUS_OK;
    *out = *training;
    out->section = "validation";
    TRY(copy_sources(&validation->sources, &(ConfigList){0}, &out->sources));
    for (size_t i = 0; i < out->sources.count; i++) ((SourceConfig *)out->sources.items)[i].repeat = false;
    out->lanes = 1;
    out->text_dropout = 0;
    out->augment = (AugmentConfig){.crop = CROP_MIDDLE, .flip = 0};
fail:
    return status;
}

Status validation_config_all_data(const ValidationConfig *validation, const DataConfig *training, DataConfig *out)
{
    *out = *training;
    return copy_sources(&training->sources, &validation->sources, &out->sources);
}

void validation_config_free_data(DataConfig *data)
{
    free(data->sources.items);
    data->sources = (ConfigList){0};
}
