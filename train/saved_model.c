#include "train/saved_model.h"

#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "model/training_graph.h"
#include "train/run_dir.h"

/* The copy in the run's folder, two above the checkpoint, where there is one; else the path of the config. */
static Status find_tokenizer(const SavedModel *model, const char *copy, const char *configured, char out[PATH_MAX])
{
    Status status = STATUS_OK;
    char folder[PATH_MAX];
    memcpy(folder, model->path, sizeof folder);
    TRY(path_join(out, PATH_MAX, model->path[0] ? dirname(dirname(folder)) : "", copy));
    if (copy[0] && model->path[0] && file_exists(out)) return STATUS_OK;
    if (!file_exists(configured) && !model->path[0])
        FAIL(ERR_IO,
             "%s does not exist; data.tokenizer1.model and data.tokenizer2.model are the paths of the SentencePiece "
             "models",
             configured[0] ? configured : "a tokenizer");
    if (!file_exists(configured))
        FAIL(ERR_IO,
             "neither %s nor %s, which the config names, exists; data.tokenizer1.model=PATH and "
             "data.tokenizer2.model=PATH on the command line say where the SentencePiece models are",
             out, configured);
    size_t length = strlen(configured);
    if (length >= PATH_MAX) FAIL(ERR_LIMIT, "the path of a tokenizer has %zu bytes", length);
    memcpy(out, configured, length + 1);
fail:
    return status;
}

static bool is_overridden(const char *key, const char *const *overrides, size_t count)
{
    size_t length = strlen(key);
    for (size_t i = 0; i < count; i++)
        if (strncmp(overrides[i], key, length) == 0 && overrides[i][length] == '=') return true;
    return false;
}

Status saved_model_tokenizers(const SavedModel *model, const char *const *overrides, size_t override_count,
                              char tokenizer1[PATH_MAX], char tokenizer2[PATH_MAX])
{
    Status status = STATUS_OK;
    const DataConfig *data = &model->run.data;
    bool own1 = is_overridden("data.tokenizer1.model", overrides, override_count);
    bool own2 = is_overridden("data.tokenizer2.model", overrides, override_count);
    TRY(find_tokenizer(model, own1 ? "" : RUN_DIR_TOKENIZER1, data->tokenizer1.model, tokenizer1));
    TRY(find_tokenizer(model, own2 ? "" : RUN_DIR_TOKENIZER2, data->tokenizer2.model, tokenizer2));
fail:
    return status;
}

/* Parameters and buffers of out->run, the frozen ones filled. The frozen networks without files are drawn from `seed`.
 */
static Status make_store(SavedModel *out, uint64_t seed)
{
    Status status = STATUS_OK;
    TRY(param_table_create(&out->params));
    TRY(model_declare_params(out->params, &out->run.model));
    TRY(param_table_layout(out->params, NULL, 0));
    TRY(param_store_create(out->params, false, &out->store));
    TRY(frozen_weights_load(&out->run.model, &out->store, &out->frozen));
    param_store_init(&out->store, seed);
fail:
    return status;
}

/* A config is a text: no zero among its first bytes, as files of weights and arrays have. Of UTF-16, which has some
 * too, the config's own errors tell. Only of plain files: what a pipe gives, it gives once. */
static Status check_text(const char *path)
{
    Status status = STATUS_OK;
    char head[512];
    struct stat info;
    if (stat(path, &info) || !S_ISREG(info.st_mode)) return STATUS_OK;
    FILE *file = fopen(path, "rb");
    if (!file) return STATUS_OK; /* who reads it says why */
    const size_t size = fread(head, 1, sizeof head, file);
    fclose(file);
    const bool utf16 = size >= 2 && (memcmp(head, "\xff\xfe", 2) == 0 || memcmp(head, "\xfe\xff", 2) == 0);
    if (!utf16 && memchr(head, 0, size))
        FAIL(ERR_USAGE,
             "%s: is no text, and so no config; name a run, the folder of a checkpoint, or a config (weights in a file "
             "need a config that describes them: CONFIG init.from=%s)",
             path, path);
fail:
    return status;
}

Status saved_model_open_config(const char *path, const char *const *overrides, size_t override_count, SavedModel *out)
{
    Status status = STATUS_OK;
    memset(out, 0, sizeof *out);
    TRY(check_text(path));
    TRY(run_config_load(path, NULL, overrides, override_count, &out->run, &out->config));
    if (!out->run.init.from[0])
        FAIL_WITH(config_error(out->config, "init.from",
                               "is empty; a config without a run needs it: the weight file or checkpoint to use"));
    TRY(make_store(out, (uint64_t)out->run.seed));
    TRY(init_weights_load(&out->run.init, &out->store));
    return STATUS_OK;
fail:
    saved_model_close(out);
    return status;
}

Status saved_model_open(const char *path, bool ema, const char *const *overrides, size_t override_count,
                        SavedModel *out)
{
    Status status = STATUS_OK;
    bool found;
    memset(out, 0, sizeof *out);
    TRY(checkpoint_find(path, false, out->path, &found));
    TRY(checkpoint_read_state(out->path, &out->state));
    TRY(run_config_load("config of the checkpoint", out->state.config, overrides, override_count, &out->run,
                        &out->config));
    TRY(make_store(out, (uint64_t)out->state.seed));
    out->ema = ema && checkpoint_has(out->path, "ema");
    if (ema && !out->ema) log_warn("%s has no moving average: using its weights", out->path);
    TRY(checkpoint_read_params(out->path, out->ema ? "ema" : "weights", out->params, out->store.weights));
    return STATUS_OK;
fail:
    saved_model_close(out);
    return status;
}

void saved_model_close(SavedModel *model)
{
    param_store_free(&model->store);
    frozen_weights_free(model->frozen);
    param_table_free(model->params);
    config_free(model->config);
    checkpoint_state_free(&model->state);
    memset(model, 0, sizeof *model);
}
