/* A model out of a checkpoint, for use rather than for training: sampling, export. */
#ifndef TRAIN_SAVED_MODEL_H
#define TRAIN_SAVED_MODEL_H

#include <limits.h>

#include "model/diffusion.h"
#include "model/frozen_weights.h"
#include "train/checkpoint.h"
#include "train/run_config.h"

typedef struct SavedModel {
    char path[PATH_MAX];   /* of the checkpoint; empty when opened from a config */
    CheckpointState state; /* zero when opened from a config */
    RunConfig run;
    Config *config;
    ParamTable *params;
    ParamStore store; /* no gradients; frozen parameters as the run drew them, or out of their files */
    FrozenWeights *frozen;
    bool ema; /* which of the two the weights are */
} SavedModel;

/* `path`: a run's folder or a checkpoint, verified first. With `ema`, the moving average where there is one. */
Status saved_model_open(const char *path, bool ema, const char *const *overrides, size_t override_count,
                        SavedModel *out);
/* The model of a config file, its weights those that `init.from` names: for published weights without a run. */
Status saved_model_open_config(const char *path, const char *const *overrides, size_t override_count, SavedModel *out);
/* The SentencePiece models: the copies in the run's folder, or what the config (or an override) names. */
Status saved_model_tokenizers(const SavedModel *model, const char *const *overrides, size_t override_count,
                              char tokenizer1[PATH_MAX], char tokenizer2[PATH_MAX]);
void saved_model_close(SavedModel *model); /* zeroed is fine */

#endif
