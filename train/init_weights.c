#include "train/init_weights.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/log.h"
#include "model/weight_names.h"
#include "train/checkpoint.h"

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
    TRY(path_join(out, PATH_MAX, checkpoint, *is_ema ? "ema.h5" : "weights.h5"));
fail:
    return status;
}

static int64_t longest(const ParamTable *table)
{
    int64_t most = 1;
    for (int32_t p = 0; p < param_table_size(table); p++) {
        const Param *param = param_table_get(table, p);
        if (param->trainable && param->count > most) most = param->count;
    }
    return most;
}

Status init_weights_load(const InitConfig *init, ParamStore *store)
{
    Status status = STATUS_OK;
    WeightFile *file = NULL;
    WeightMatch match = {0};
    float *values = NULL;
    char path[PATH_MAX];
    bool is_ema = false;
    if (!init->from[0]) return STATUS_OK;
    TRY(init_weights_find(init->from, init->ema, path, &is_ema));
    TRY(weight_file_open(path, &file));
    TRY(weight_match(file, store->table, WEIGHTS_UNET, &match));
    TRY(weight_match_check(&match, path, WEIGHTS_UNET, false,
                           "is it of this model? `vasily import unet` lists every name and can leave unknown tensors "
                           "out"));
    values = mem_alloc_array((size_t)longest(store->table), sizeof *values);
    if (!values) FAIL(ERR_MEMORY, "no memory for one parameter");
    for (int32_t p = 0; p < param_table_size(store->table); p++) {
        const Param *param = param_table_get(store->table, p);
        if (!match.tensors[p]) continue;
        weight_tensor_to_f32(match.tensors[p], 0, param->count, values);
        weight_tensor_release(match.tensors[p]);
        param_from_file(param, values, param_store_weight(store, p));
    }
    log_info("the weights are those of %s%s", path, is_ema ? " (moving average)" : "");
fail:
    if (status) status_prefix("init.from: ");
    free(values);
    weight_match_free(&match);
    weight_file_close(file);
    return status;
}
