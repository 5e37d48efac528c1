#include "train/init_weights.h"

#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "model/weights.h"
#include "train/checkpoint.h"
#include "train/checkpoint_arrays.h"

static const ConfigField FIELDS[] = {
    {"from", CONFIG_STRING, offsetof(InitConfig, from), "\"\"", 0, 0, NULL, NULL,
     "weights that a new run begins with: a safetensors or PyTorch file under the published names, a checkpoint of "
     "ours "
     "or a run's folder; empty: drawn from the seed"},
    {"ema", CONFIG_BOOL, offsetof(InitConfig, ema), "true", 0, 0, NULL, NULL,
     "begin with the moving average of a checkpoint, where it has one"},
};
const ConfigSchema INIT_CONFIG_SCHEMA = {"init", FIELDS, sizeof FIELDS / sizeof FIELDS[0], sizeof(InitConfig)};

/* A checkpoint, a folder of them or a run's folder. */
static bool holds_checkpoints(const char *path)
{
    static const char *const signs[] = {"manifest.json", "checkpoints", "latest"};
    char inside[PATH_MAX];
    for (size_t i = 0; i < sizeof signs / sizeof signs[0]; i++)
        if (path_join(inside, sizeof inside, path, signs[i]) == STATUS_OK && file_exists(inside)) return true;
    return false;
}

Status init_weights_find(const char *path, bool ema, char out[PATH_MAX], bool *is_ema)
{
    Status status = STATUS_OK;
    char checkpoint[PATH_MAX];
    bool found;
    *is_ema = false;
    if (!file_is_dir(path) || !holds_checkpoints(path)) {
        size_t length = strlen(path);
        if (length >= PATH_MAX) FAIL(ERR_LIMIT, "a path of %zu bytes is too long", length);
        memcpy(out, path, length + 1);
        return STATUS_OK;
    }
    TRY(checkpoint_find(path, false, checkpoint, &found));
    *is_ema = ema && checkpoint_has(checkpoint, "ema");
    TRY(checkpoint_array_path(out, checkpoint, *is_ema ? "ema" : "weights"));
fail:
    return status;
}

Status init_weights_load(const InitConfig *init, ParamStore *store)
{
    Status status = STATUS_OK;
    char path[PATH_MAX];
    bool is_ema = false;
    if (!init->from[0]) return STATUS_OK;
    TRY(init_weights_find(init->from, init->ema, path, &is_ema));
    TRY(weights_load(path, store, WEIGHTS_UNET, false));
    log_info("the weights are those of %s%s", path, is_ema ? " (moving average)" : "");
    return STATUS_OK;
fail:
    status_prefix("init.from: ");
    return status;
}
