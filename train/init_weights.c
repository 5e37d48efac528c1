#include "train/init_weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "model/weights.h"
#include "train/checkpoint.h"
#include "train/checkpoint_arrays.h"
#include "train/checkpoint_manifest.h"
#include "train/checkpoint_snapshot.h"

static const char *const OPTIMIZER_WORDS[] = {"fresh", "kept", NULL};
static const ConfigField FIELDS[] = {
    {"from", CONFIG_STRING, offsetof(InitConfig, from), "\"\"", 0, 0, NULL, NULL,
     "weights that a new run begins with: a safetensors or PyTorch file under the published names, a checkpoint of "
     "ours "
     "or a run's folder; empty: drawn from the seed"},
    {"ema", CONFIG_BOOL, offsetof(InitConfig, ema), "true", 0, 0, NULL, NULL,
     "begin with the moving average of a checkpoint, where it has one; not with optimizer: kept"},
    {"optimizer", CONFIG_ENUM, offsetof(InitConfig, optimizer), "fresh", 0, 0, OPTIMIZER_WORDS, NULL,
     "fresh: moments begin at zero and the moving average as the weights; kept: the checkpoint's weights, moments, "
     "count "
     "of updates and moving average go on"},
};
const ConfigSchema INIT_CONFIG_SCHEMA = {"init", FIELDS, sizeof FIELDS / sizeof FIELDS[0], sizeof(InitConfig)};

bool init_weights_is_checkpoint(const char *path)
{
    static const char *const signs[] = {"manifest.json", "checkpoints", "latest"};
    char inside[PATH_MAX];
    if (!file_is_dir(path)) return false;
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
    if (!init_weights_is_checkpoint(path)) {
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

/* ---- a single file of a checkpoint ---- */

enum { NOT_AN_ARRAY = -1 };

/* Which array of a checkpoint (CHECKPOINT_ARRAY_WORDS) a file is by its name, WHAT.h5 or WHAT.shares.json. */
static int array_of(const char *name, bool *in_shares)
{
    for (int k = 0; k < CHECKPOINT_ARRAYS; k++) {
        const size_t length = strlen(CHECKPOINT_ARRAY_WORDS[k]);
        if (strncmp(name, CHECKPOINT_ARRAY_WORDS[k], length) != 0) continue;
        *in_shares = strcmp(name + length, ".shares.json") == 0;
        if (*in_shares || strcmp(name + length, ".h5") == 0) return k;
    }
    return NOT_AN_ARRAY;
}

/* Files of these names may have a manifest.json of another program beside them. One of ours that is newer than this
 * program is refused, as the whole checkpoint would be. */
static Status look_for_manifest(const char *folder, const char *path, bool *ours)
{
    Status status = STATUS_OK;
    FileFacts *files = NULL;
    size_t count;
    int64_t format;
    status = manifest_read(folder, &format, &files, &count);
    *ours = status == STATUS_OK;
    free(files);
    if (status != ERR_FORMAT) return status;
    log_warn("init.from: %s is not checked, for the manifest.json beside it is no checkpoint's, or damaged: %s", path,
             status_message());
    return STATUS_OK;
}

/* A file of a checkpoint, or a link to one, is held to the manifest beside it, as the whole checkpoint would be;
 * moments have the names and the shapes of weights, and are none. */
static Status check_file(const char *given)
{
    Status status = STATUS_OK;
    char folder[PATH_MAX], manifest[PATH_MAX], resolved[PATH_MAX];
    const char *path = realpath(given, resolved) ? resolved : given;
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    bool in_shares = false, listed = true, ours;
    const int array = array_of(name, &in_shares);
    if (array == NOT_AN_ARRAY) return STATUS_OK;
    if (array == CHECKPOINT_M || array == CHECKPOINT_V)
        FAIL(ERR_USAGE,
             "%s: these are moments of Adam (%s), no weights; name the checkpoint's folder, or its ema or weights file",
             path, CHECKPOINT_ARRAY_WORDS[array]);
    const size_t length = slash ? (size_t)(slash - path) : 0;
    if (length >= sizeof folder) FAIL(ERR_LIMIT, "a path of %zu bytes is too long", strlen(path));
    snprintf(folder, sizeof folder, "%.*s", (int)length, path);
    if (length == 0) snprintf(folder, sizeof folder, "%s", slash ? "/" : ".");
    TRY(path_join(manifest, sizeof manifest, folder, "manifest.json"));
    if (!file_exists(manifest)) return STATUS_OK;
    TRY(look_for_manifest(folder, path, &ours));
    if (!ours) return STATUS_OK;
    if (in_shares)
        TRY(manifest_verify(folder)); /* every share has a part of it */
    else
        TRY(manifest_verify_file(folder, name, &listed));
    if (!listed) log_warn("init.from: %s is not checked, for %s does not list it", path, manifest);
fail:
    return status;
}

Status init_weights_load(const InitConfig *init, ParamStore *store)
{
    Status status = STATUS_OK;
    char path[PATH_MAX];
    bool is_ema = false;
    int64_t narrow, wide;
    if (!init->from[0]) return STATUS_OK;
    TRY(init_weights_find(init->from, init->ema, path, &is_ema));
    if (strcmp(path, init->from) == 0) TRY(check_file(path));
    TRY(weights_load_unet(path, store, &narrow, &wide));
    log_info("the weights are those of %s%s", path, is_ema ? " (moving average)" : "");
    if (wide > 0)
        log_info(
            "widened for inpainting: input_blocks.0.0.weight takes %lld channels instead of %lld, the new ones begin "
            "at zero and change nothing yet",
            (long long)wide, (long long)narrow);
    return STATUS_OK;
fail:
    status_prefix("init.from: ");
    return status;
}
