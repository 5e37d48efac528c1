#include "train/run_config.h"

#include "data/precomputed.h"

static const char *const DEVICE_WORDS[] = {"auto", "cpu", "ref", "cuda", NULL};
static const char *const PACKED_WORDS[] = {"auto", "keep", "scratch", NULL};
static const char *const FROM_WORDS[] = {"inline", "precomputed", NULL};
static const char *const MICRO_BATCH_WORDS[] = {"auto", NULL};
const char *const SAMPLER_WORDS[] = {"ddpm", "ddim", "plms", "dpm++", NULL};

#define FIELD_COUNT(fields) (sizeof(fields) / sizeof((fields)[0]))
#define AT(type, name) offsetof(type, name)

static const ConfigField RUN_FIELDS[] = {
    {"dir", CONFIG_STRING, AT(RunSection, dir), "run", 0, 0, NULL, NULL,
     "folder of the run: config, metrics, checkpoints, previews"},
    {"lock_seconds", CONFIG_INT, AT(RunSection, lock_seconds), "0", 0, 1800, NULL, NULL,
     "--resume: how long to wait where another process still writes to the run, or a file server believes so of a "
     "machine that is lost; seconds"},
};
static const ConfigSchema RUN_SCHEMA = {"run", RUN_FIELDS, FIELD_COUNT(RUN_FIELDS), sizeof(RunSection)};

static const ConfigField TRAIN_FIELDS[] = {
    {"steps", CONFIG_INT, AT(TrainConfig, steps), "500000", 1, 1e12, NULL, NULL,
     "optimizer steps after which training is done"},
    {"global_batch", CONFIG_INT, AT(TrainConfig, global_batch), "48", 1, 1 << 24, NULL, NULL,
     "samples of one optimizer step, all ranks together"},
    {"micro_batch", CONFIG_INT, AT(TrainConfig, micro_batch), "0", 0, 1 << 20, MICRO_BATCH_WORDS, NULL,
     "samples of one forward and backward pass on one rank; 0: global_batch / ranks; auto: the most that fit the "
     "memory "
     "that is free when the run begins"},
    {"resolution", CONFIG_INT, AT(TrainConfig, resolution), "256", 1, 8192, NULL, NULL, "pixels a side"},
    {"recompute", CONFIG_BOOL, AT(TrainConfig, recompute), "false", 0, 0, NULL, NULL,
     "compute activations again in backward instead of keeping them: less memory, about a third more work"},
    {"plan_reuse", CONFIG_BOOL, AT(TrainConfig, plan_reuse), "true", 0, 0, NULL, NULL,
     "let tensors share memory over time; off gives the same bits with more memory"},
    {"bucket_bytes", CONFIG_INT, AT(TrainConfig, bucket_bytes), "0", 0, (double)(1ll << 32), NULL, NULL,
     "gradients that are summed over the ranks at once, bytes; 0: 8 Mi on processors, on GPUs up to 128 Mi"},
    {"log_every", CONFIG_INT, AT(TrainConfig, log_every), "50", 1, 1e9, NULL, NULL,
     "steps between lines in a log file (and at least every 10 s)"},
};
const ConfigSchema TRAIN_CONFIG_SCHEMA = {"train", TRAIN_FIELDS, FIELD_COUNT(TRAIN_FIELDS), sizeof(TrainConfig)};

static const ConfigField DEVICE_FIELDS[] = {
    {"name", CONFIG_ENUM, AT(DeviceConfig, name), "auto", 0, 0, DEVICE_WORDS, NULL,
     "what computes; auto takes the fastest there is"},
    {"threads", CONFIG_INT, AT(DeviceConfig, threads), "0", 0, 4096, NULL, NULL,
     "compute threads of one rank; 0: the processors it may use, shared by the ranks of one machine"},
    {"packed_weights", CONFIG_ENUM, AT(DeviceConfig, packed_weights), "auto", 0, 0, PACKED_WORDS, NULL,
     "weights in the kernels' own formats: kept beside the fp32 ones, or made in scratch memory whenever they are read "
     "(slower, less memory, the same bits); auto keeps them where everything fits in the memory available; GPUs keep "
     "bf16 copies beside the fp32 weights"},
    {"graphs", CONFIG_BOOL, AT(DeviceConfig, graphs), "true", 0, 0, NULL, NULL,
     "GPU: a step is recorded once as a CUDA graph and replayed; off gives the same bits more slowly"},
    {"deterministic", CONFIG_BOOL, AT(DeviceConfig, deterministic), "false", 0, 0, NULL, NULL,
     "GPU: only algorithms that give the same bits every time, so that a resumed run is exact; some are slower"},
    {"cache", CONFIG_STRING, AT(DeviceConfig, cache), "\"\"", 0, 0, NULL, NULL,
     "GPU: folder where choices of algorithms are kept between runs; empty: vasily in the user's cache folder; none: "
     "nowhere"},
};
static const ConfigSchema DEVICE_SCHEMA = {"device", DEVICE_FIELDS, FIELD_COUNT(DEVICE_FIELDS), sizeof(DeviceConfig)};

static const ConfigField PREVIEW_FIELDS[] = {
    {"every", CONFIG_INT, AT(PreviewConfig, every), "1000", 0, 1e12, NULL, NULL,
     "steps between preview pictures; 0: none"},
    {"prompts", CONFIG_STRING_LIST, AT(PreviewConfig, prompts), "[]", 0, 0, NULL, NULL,
     "captions to draw, always from the same noise; \"de\\tKatze\" puts \"de\" under the picture"},
    {"steps", CONFIG_INT, AT(PreviewConfig, steps), "50", 1, 1e6, NULL, NULL, "sampling steps"},
    {"scale", CONFIG_FLOAT, AT(PreviewConfig, scale), "4", 0, 1000, NULL, NULL, "classifier-free guidance; 1: none"},
    {"sampler", CONFIG_ENUM, AT(PreviewConfig, sampler), "ddim", 0, 0, SAMPLER_WORDS, NULL,
     "how noise becomes a picture"},
    {"eta", CONFIG_FLOAT, AT(PreviewConfig, eta), "0.05", 0, 1, NULL, NULL,
     "ddim: 0 is deterministic, 1 as random as ddpm"},
    {"threshold", CONFIG_FLOAT, AT(PreviewConfig, threshold), "99.5", 0, 100, NULL, NULL,
     "dynamic thresholding: percentile of the predicted picture's magnitudes; 0: none"},
    {"seed", CONFIG_INT, AT(PreviewConfig, seed), "0", 0, 9e15, NULL, NULL, "of the noise that pictures start from"},
    {"batch", CONFIG_INT, AT(PreviewConfig, batch), "8", 1, 4096, NULL, NULL, "pictures drawn at once"},
    {"init", CONFIG_STRING, AT(PreviewConfig, init), "\"\"", 0, 0, NULL, NULL,
     "inpainting models: the picture that previews complete; empty: none, they paint the whole picture"},
    {"mask", CONFIG_STRING, AT(PreviewConfig, mask), "\"\"", 0, 0, NULL, NULL,
     "a picture of the size of preview.init, white where that is kept"},
};
const ConfigSchema PREVIEW_CONFIG_SCHEMA = {"preview", PREVIEW_FIELDS, FIELD_COUNT(PREVIEW_FIELDS),
                                            sizeof(PreviewConfig)};

static const ConfigField FROZEN_FIELDS[] = {
    {"latents", CONFIG_ENUM, AT(FrozenConfig, latents), "inline", 0, 0, FROM_WORDS, NULL,
     "the autoencoder's outputs: computed in every step, or read from what `vasily precompute` wrote"},
    {"text", CONFIG_ENUM, AT(FrozenConfig, text), "inline", 0, 0, FROM_WORDS, NULL, "the same of the text encoders"},
    {"dtype", CONFIG_ENUM, AT(FrozenConfig, dtype), "f32", 0, 0, PRECOMPUTED_TYPE_WORDS, NULL,
     "what their outputs are rounded to, in the files and inline alike"},
    {"path", CONFIG_STRING, AT(FrozenConfig, path), "\"\"", 0, 0, NULL, NULL,
     "folder of the precomputed files; empty: beside each shard"},
};
const ConfigSchema FROZEN_CONFIG_SCHEMA = {"frozen", FROZEN_FIELDS, FIELD_COUNT(FROZEN_FIELDS), sizeof(FrozenConfig)};

static const ConfigField FIELDS[] = {
    {"seed", CONFIG_INT, AT(RunConfig, seed), "0", 0, 9e15, NULL, NULL, "of every random number of the run"},
    {"run", CONFIG_SECTION, AT(RunConfig, run), NULL, 0, 0, NULL, &RUN_SCHEMA, "where the run lives"},
    {"train", CONFIG_SECTION, AT(RunConfig, train), NULL, 0, 0, NULL, &TRAIN_CONFIG_SCHEMA, "steps, batch, resolution"},
    {"device", CONFIG_SECTION, AT(RunConfig, device), NULL, 0, 0, NULL, &DEVICE_SCHEMA, "what computes"},
    {"parallel", CONFIG_SECTION, AT(RunConfig, parallel), NULL, 0, 0, NULL, &PARALLEL_CONFIG_SCHEMA,
     "many ranks: what they exchange and how, and what happens when one does not answer"},
    {"checkpoint", CONFIG_SECTION, AT(RunConfig, checkpoint), NULL, 0, 0, NULL, &CHECKPOINT_CONFIG_SCHEMA,
     "when to save, and what is kept"},
    {"preview", CONFIG_SECTION, AT(RunConfig, preview), NULL, 0, 0, NULL, &PREVIEW_CONFIG_SCHEMA,
     "pictures drawn while training, and the defaults of `vasily sample`"},
    {"init", CONFIG_SECTION, AT(RunConfig, init), NULL, 0, 0, NULL, &INIT_CONFIG_SCHEMA, "what a new run begins with"},
    {"optim", CONFIG_SECTION, AT(RunConfig, optim), NULL, 0, 0, NULL, &OPTIM_CONFIG_SCHEMA,
     "optimizer, schedule, clipping, moving average"},
    {"guard", CONFIG_SECTION, AT(RunConfig, guard), NULL, 0, 0, NULL, &GUARD_CONFIG_SCHEMA,
     "steps whose loss or gradient norm stands out: what is done about them"},
    {"model", CONFIG_SECTION, AT(RunConfig, model), NULL, 0, 0, NULL, &MODEL_CONFIG_SCHEMA, "the networks"},
    {"diffusion", CONFIG_SECTION, AT(RunConfig, diffusion), NULL, 0, 0, NULL, &DIFFUSION_CONFIG_SCHEMA,
     "the noise process"},
    {"data", CONFIG_SECTION, AT(RunConfig, data), NULL, 0, 0, NULL, &data_config_schema, "where samples come from"},
    {"frozen", CONFIG_SECTION, AT(RunConfig, frozen), NULL, 0, 0, NULL, &FROZEN_CONFIG_SCHEMA,
     "autoencoder and text encoders: inline or precomputed, each on its own"},
    {"validation", CONFIG_SECTION, AT(RunConfig, validation), NULL, 0, 0, NULL, &VALIDATION_CONFIG_SCHEMA,
     "the loss on held-out samples, at fixed timesteps and with fixed noise"},
    {"watch", CONFIG_SECTION, AT(RunConfig, watch), NULL, 0, 0, NULL, &WATCH_CONFIG_SCHEMA,
     "event files for TensorBoard, and the report"},
    {"inpainting", CONFIG_SECTION, AT(RunConfig, inpainting), NULL, 0, 0, NULL, &MASK_CONFIG_SCHEMA,
     "the masks that a model of 2C + 1 input channels is trained with"},
    {"stages", CONFIG_LIST, AT(RunConfig, stages), NULL, 0, 0, NULL, &STAGE_CONFIG_SCHEMA,
     "parts of the run, one after the other under one schedule; each writes what differs (docs/stages.md)"},
};
const ConfigSchema RUN_CONFIG_SCHEMA = {"vasily", FIELDS, FIELD_COUNT(FIELDS), sizeof(RunConfig)};

const char *device_word(const DeviceConfig *device)
{
    return DEVICE_WORDS[device->name];
}

PlanPack run_config_pack(const RunConfig *run)
{
    return run->device.packed_weights == PACKED_KEEP      ? PLAN_PACK_KEEP
           : run->device.packed_weights == PACKED_SCRATCH ? PLAN_PACK_SCRATCH
                                                          : PLAN_PACK_AUTO;
}

Status run_config_load(const char *path, const char *text, const char *const *overrides, size_t override_count,
                       RunConfig *out, Config **config)
{
    Status status = STATUS_OK;
    *config = NULL;
    TRY(config_load(path, text, &RUN_CONFIG_SCHEMA, overrides, override_count, out, config));
    TRY(run_config_check(out, *config));
    TRY(stages_config_check(out, *config));
    if (out->optim.total_steps == 0) out->optim.total_steps = out->train.steps;
    TRY(stages_config_check_each(out, *config));
    return STATUS_OK;
fail:
    config_free(*config);
    *config = NULL;
    return status;
}

Status run_config_load_unet(const char *path, const char *const *overrides, size_t override_count, RunConfig *out,
                            Config **config)
{
    Status status = STATUS_OK;
    *config = NULL;
    TRY(config_load(path, NULL, &RUN_CONFIG_SCHEMA, overrides, override_count, out, config));
    TRY(model_config_check_unet(&out->model, *config));
    return STATUS_OK;
fail:
    config_free(*config);
    *config = NULL;
    return status;
}
