/* The arguments of the commands that look at data alone: CONFIG [key.path=value ...], or SHARD ... */
#ifndef TRAIN_DATA_ARGUMENTS_H
#define TRAIN_DATA_ARGUMENTS_H

#include "train/command.h"
#include "train/run_config.h"

#define DATA_ARGUMENTS "CONFIG [key.path=value ...] | SHARD ... [data.KEY=value ...]"

/* A first argument that ends with .yaml or .yml is a config; else all are shards, as data.sources[].shards names them:
 * then config->data has one source, "shards", of which no filter leaves anything out. What begins with "data." and has
 * a "=" before any "/" is an override there, too. `stage`: of a config, as run_config_load_one has it. *file is to be
 * freed with config_free, after the last use of `config`.
 */
Status data_arguments_load(CommandCall *call, const char *stage, RunConfig *config, Config **file);

/* Called before the work whose result is to be written to `path`, as `option` says: makes the folder, and fails when
 * no file can be written there. */
Status data_output_prepare(const char *option, const char *path);

#endif
