/* The whole config of a run: the sections of every room put together, and the checks that involve several of them.
 * `vasily config` prints the schema with defaults and help. */
#ifndef TRAIN_RUN_CONFIG_H
#define TRAIN_RUN_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "data/data_config.h"
#include "data/mask_config.h"
#include "engine/plan.h"
#include "model/model_config.h"
#include "optim/optim_config.h"
#include "train/checkpoint_config.h"
#include "train/guard.h"
#include "train/init_weights.h"
#include "train/parallel_config.h"
#include "train/stages_config.h"
#include "train/validation_config.h"
#include "train/watch_config.h"

typedef struct RunSection {
    char *dir;
    int64_t lock_seconds;
} RunSection;

#define MICRO_BATCH_AUTO (-1) /* the largest that fits the memory: network_choose_micro_batch decides */

typedef struct TrainConfig {
    int64_t steps;
    int64_t global_batch; /* samples of one optimizer step, all ranks together */
    int64_t
        micro_batch;    /* samples of one forward and backward on one rank; 0: global_batch / ranks; MICRO_BATCH_AUTO */
    int64_t resolution; /* pixels a side */
    bool recompute;
    bool plan_reuse;
    int64_t bucket_bytes;
    int64_t log_every;
} TrainConfig;

typedef enum DeviceName { DEVICE_AUTO, DEVICE_CPU, DEVICE_REF, DEVICE_CUDA } DeviceName;
typedef enum PackedWeights { PACKED_AUTO, PACKED_KEEP, PACKED_SCRATCH } PackedWeights;
typedef struct DeviceConfig {
    int32_t name;           /* DeviceName */
    int64_t threads;        /* 0: the processors this process may use, shared by the ranks of one machine */
    int32_t packed_weights; /* PackedWeights */
    bool graphs;            /* GPU: a step is recorded once and replayed */
    bool deterministic;     /* GPU: only algorithms that give the same bits every time */
    char *cache;            /* GPU: folder of choices kept between runs; "": the user's cache folder; "none" */
} DeviceConfig;
const char *device_word(const DeviceConfig *device); /* "auto", "cpu", ... */

typedef struct PreviewConfig {
    int64_t every; /* steps; 0: none */
    ConfigStrings prompts;
    int64_t steps;
    double scale;
    int32_t sampler; /* SamplerKind of model/sampler.h */
    double eta;
    double threshold;
    int64_t seed;
    int64_t batch;     /* pictures at once */
    char *init, *mask; /* a model that paints: paths of the picture that is completed, and of what to keep of it */
} PreviewConfig;

typedef enum FrozenFrom {
    FROZEN_INLINE,     /* the networks run in every step */
    FROZEN_PRECOMPUTED /* `vasily precompute` has run them; see data/precomputed.h */
} FrozenFrom;
/* Where the outputs of the frozen networks come from, each on its own. */
typedef struct FrozenConfig {
    int32_t latents, text; /* FrozenFrom */
    int32_t dtype;         /* PrecomputedType of data/precomputed.h: what both are rounded to, inline too */
    char *path;            /* folder of the precomputed files; "": beside each shard */
} FrozenConfig;

typedef struct RunConfig {
    int64_t seed;
    RunSection run;
    TrainConfig train;
    DeviceConfig device;
    ParallelConfig parallel;
    CheckpointConfig checkpoint;
    PreviewConfig preview;
    InitConfig init;
    OptimConfig optim;
    GuardConfig guard;
    ModelConfig model;
    DiffusionConfig diffusion;
    DataConfig data;
    FrozenConfig frozen;
    ValidationConfig validation;
    WatchConfig watch;
    MaskConfig inpainting; /* a model that paints only */
    ConfigList stages;     /* of StageConfig; none: the run is one piece */
    /* no key: */
    char stage[STAGE_NAME_MOST + 1]; /* which of them this is the config of (run_config_load_stage); "": the whole's */
} RunConfig;

extern const ConfigSchema RUN_CONFIG_SCHEMA;
extern const ConfigSchema TRAIN_CONFIG_SCHEMA, FROZEN_CONFIG_SCHEMA, PREVIEW_CONFIG_SCHEMA;
PlanPack run_config_pack(const RunConfig *run); /* device.packed_weights */
extern const char *const SAMPLER_WORDS[];

/* Loads the file (or, with `text`, that text under the name `path`), applies the overrides and checks everything that
 * does not depend on data or the number of ranks. optim.total_steps 0 becomes train.steps, so that a config written out
 * keeps its schedule when train.steps is changed later. */
Status run_config_load(const char *path, const char *text, const char *const *overrides, size_t override_count,
                       RunConfig *out, Config **config);
/* What run_config_load checks of a config, or of a stage's, by itself. */
Status run_config_check(const RunConfig *run, const Config *config);
/* The same, checking no more than the UNet by itself: for commands that run only it. */
Status run_config_load_unet(const char *path, const char *const *overrides, size_t override_count, RunConfig *out,
                            Config **config);

static inline const StageConfig *run_config_stage(const RunConfig *run, size_t i)
{
    return (const StageConfig *)run->stages.items + i;
}
bool run_config_has_days(const RunConfig *run); /* whether some stage is as long as its days */
/* ERR_USAGE names the stages there are. */
Status run_config_find_stage(const RunConfig *run, const char *name, size_t *out);
/* The run as stage `i` trains it: without stages; train.steps and optim.total_steps are those of the whole run. *stage
 * is independent of `config`; keep it as long as *out is used. */
Status run_config_load_stage(const RunConfig *run, const Config *config, size_t i, RunConfig *out, Config **stage);
/* run_config_load for a command that looks at one stage: `stage`; NULL: at what stands outside the stages, which the
 * log says where there are some. */
Status run_config_load_one(const char *path, const char *const *overrides, size_t override_count, const char *stage,
                           RunConfig *out, Config **config);

/* Resolves micro_batch (but for MICRO_BATCH_AUTO) and parallel.group (then: the ranks that share a bucket,
 * engine/comm.h), and checks that batch, lanes and groups fit `world` ranks, `local_world` of them on this machine. */
Status run_config_check_ranks(RunConfig *run, const Config *config, int world, int local_world);
/* Of what is below, all that needs no file. */
Status run_config_check_settings(const RunConfig *run, const Config *config);
/* That, of every stage where there are some: what training refuses wherever and on however many ranks it runs; with
 * `batch` the micro-batches, too. Without sources, as a run is that is only measured, what there is of `data`. */
Status run_config_check_trainable(const RunConfig *run, const Config *config, bool batch);
/* What a command needs that reads samples: sources, tokenizers of the model's length. */
Status run_config_check_data(const RunConfig *run, const Config *config);
/* The same for a command that makes precomputed data: tokenizers only where text is. */
Status run_config_check_precompute(const RunConfig *run, const Config *config);
/* The part of it for which no file is read. */
Status run_config_check_precompute_settings(const RunConfig *run, const Config *config);

#endif
