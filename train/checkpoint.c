/* Finding and loading checkpoints; how they are written is explained in the header. */
#include "train/checkpoint.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "model/weight_shares.h"
#include "train/checkpoint_arrays.h"
#include "train/checkpoint_aside.h"
#include "train/checkpoint_folder.h"
#include "train/checkpoint_manifest.h"

enum { STATE_FILE_LIMIT = 256 << 20 };

Status checkpoint_verify(const char *path)
{
    return manifest_verify(path);
}

/* What was passed over on the way to a good one. */
typedef struct PassedOver {
    size_t bad, light; /* light: whole, but without optimizer state */
} PassedOver;

/* Whether it will do: a good one, and for `resumes` one with optimizer state. */
static bool is_usable(const char *path, bool resumes, PassedOver *passed)
{
    if (resumes && checkpoint_lacks_optimizer(path)) {
        log_warn("checkpoint %s has no optimizer state, so it cannot be resumed", path);
        passed->light++;
        return false;
    }
    if (checkpoint_verify(path) == STATUS_OK) return true;
    log_warn("checkpoint %s is not usable: %s", path, status_message());
    passed->bad++;
    return false;
}

/* Nothing is wrong where there is no checkpoint at all. Where all were set aside, beginning anew would throw away what
 * metrics and previews there are, and the run with it. */
static Status none_usable(const char *folder, PassedOver passed)
{
    char **names = NULL, aside[PATH_MAX] = "", path[PATH_MAX], manifest[PATH_MAX];
    size_t count = 0, whole = 0;
    if (checkpoint_list_aside(folder, &names, &count) != STATUS_OK) count = 0;
    for (size_t i = 0; i < count; i++) {
        if (path_join(path, sizeof path, folder, names[i]) != STATUS_OK ||
            path_join(manifest, sizeof manifest, path, "manifest.json") != STATUS_OK || !file_exists(manifest))
            continue;
        whole++;
        snprintf(aside, sizeof aside, "; set aside, and to be named by their path: %zu, the last of them %s", whole,
                 names[i]);
    }
    file_free_list(names, count);
    if (passed.bad + passed.light + whole == 0) return STATUS_OK;
    if (passed.bad + passed.light == 0)
        return status_fail(ERR_FORMAT, __FILE__, __LINE__,
                           "%s: has no checkpoint but what was set aside%s; to start over, choose another run.dir",
                           folder, aside);
    if (!passed.bad)
        return status_fail(
            ERR_FORMAT, __FILE__, __LINE__,
            "%s: none of its %zu checkpoints has optimizer state; to begin a new run with the weights of "
            "one, name it in init.from and choose another run.dir%s",
            folder, passed.light, aside);
    return status_fail(ERR_FORMAT, __FILE__, __LINE__,
                       "%s: none of its %zu checkpoints is usable; to start over, choose another run.dir%s", folder,
                       passed.bad + passed.light, aside);
}

/* The newest good checkpoint in a checkpoints folder. A `latest` that is a folder has its turn by its step where there
 * is no other of this step; else it is a copy of that one, and looked at only where none will do. */
static Status find_newest(const char *folder, bool resumes, char out[PATH_MAX], bool *found)
{
    Status status = STATUS_OK;
    char latest[PATH_MAX];
    int64_t *steps = NULL;
    size_t count = 0;
    PassedOver passed = {0};
    *found = false;
    if (!file_is_dir(folder)) return STATUS_OK;
    TRY(checkpoint_list_steps(folder, &steps, &count));
    const int64_t only = checkpoint_latest_only(folder, latest); /* -1: its turn comes last */
    bool looked = false;
    while (!*found && (count > 0 || !looked)) {
        if (!looked && (count == 0 || steps[count - 1] < only)) {
            looked = true;
            *found = checkpoint_latest_is_folder(folder, out) && is_usable(out, resumes, &passed);
        } else {
            TRY(checkpoint_step_path(out, folder, steps[--count], ""));
            *found = is_usable(out, resumes, &passed);
        }
    }
    if (*found && passed.bad + passed.light) log_warn("falling back to %s", out);
    if (!*found) {
        out[0] = '\0';
        TRY(none_usable(folder, passed));
    }
fail:
    free(steps);
    return status;
}

static Status find(const char *path, bool resumes, bool optional, char out[PATH_MAX], bool *found)
{
    Status status = STATUS_OK;
    char inside[PATH_MAX];
    *found = false;
    if (!file_exists(path)) {
        if (optional) return STATUS_OK;
        FAIL(ERR_IO, "%s: %s; name a run's folder or one of its checkpoints", path, strerror(ENOENT));
    }
    TRY(path_join(inside, sizeof inside, path, "manifest.json"));
    if (file_exists(inside)) {
        TRY(checkpoint_verify(path));
        if (!realpath(path, out)) FAIL(ERR_IO, "%s: %s", path, strerror(errno));
        *found = true;
        return STATUS_OK;
    }
    TRY(path_join(inside, sizeof inside, path, "checkpoints"));
    TRY(find_newest(file_is_dir(inside) ? inside : path, resumes, out, found));
    if (!*found && !optional) FAIL(ERR_IO, "%s: holds no usable checkpoint", path);
fail:
    return status;
}

Status checkpoint_find(const char *path, bool optional, char out[PATH_MAX], bool *found)
{
    return find(path, false, optional, out, found);
}

Status checkpoint_find_to_resume(const char *path, bool optional, char out[PATH_MAX], bool *found)
{
    return find(path, true, optional, out, found);
}

Status checkpoint_read_state(const char *path, CheckpointState *out)
{
    Status status = STATUS_OK;
    char file[PATH_MAX], *text = NULL;
    size_t size;
    memset(out, 0, sizeof *out);
    TRY(path_join(file, sizeof file, path, "state.json"));
    TRY(file_read(file, STATE_FILE_LIMIT, &text, &size));
    TRY(checkpoint_parse_state(file, text, size, out));
fail:
    free(text);
    return status;
}

bool checkpoint_has(const char *path, const char *what)
{
    char file[PATH_MAX];
    return checkpoint_array_path(file, path, what) == STATUS_OK && file_exists(file);
}

/* As the manifest says: where files that it lists are gone, the checkpoint is damaged and not light. */
bool checkpoint_lacks_optimizer(const char *path)
{
    static const char *const MOMENTS[] = {"adam_m.h5", "adam_v.h5", "adam_m" WEIGHT_SHARES_SUFFIX,
                                          "adam_v" WEIGHT_SHARES_SUFFIX};
    FileFacts *files = NULL;
    size_t count = 0;
    int64_t format;
    bool listed = false;
    if (manifest_read(path, &format, &files, &count) != STATUS_OK) return false;
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < sizeof MOMENTS / sizeof MOMENTS[0]; k++)
            listed = listed || strcmp(files[i].name, MOMENTS[k]) == 0;
    free(files);
    return !listed;
}

Status checkpoint_load(const char *path, const CheckpointState *state, Comm *comm, ParamStore *store,
                       Optimizer *optimizer)
{
    Status status = STATUS_OK;
    TRY(checkpoint_load_arrays(path, comm, store, optimizer));
    optimizer_set_state(optimizer, state->optimizer);
fail:
    return status;
}
