/* Finding and loading checkpoints; how they are written is explained in the header. */
#include "train/checkpoint.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "train/checkpoint_arrays.h"
#include "train/checkpoint_folder.h"
#include "train/checkpoint_manifest.h"

enum { STATE_FILE_LIMIT = 256 << 20 };

Status checkpoint_verify(const char *path)
{
    return manifest_verify(path);
}

/* The newest good checkpoint in a checkpoints folder. */
static Status find_newest(const char *folder, char out[PATH_MAX], bool *found)
{
    Status status = STATUS_OK;
    int64_t *steps = NULL;
    size_t count = 0, bad = 0;
    *found = false;
    if (!file_is_dir(folder)) return STATUS_OK;
    TRY(checkpoint_list_steps(folder, &steps, &count));
    while (count-- > 0 && !*found) {
        TRY(checkpoint_step_path(out, folder, steps[count], ""));
        if (checkpoint_verify(out) == STATUS_OK) {
            *found = true;
        } else {
            log_warn("checkpoint %s is not usable: %s", out, status_message());
            bad++;
        }
    }
    if (*found && bad) log_warn("falling back to %s", out);
    if (!*found && bad)
        FAIL(ERR_FORMAT, "%s: none of its %zu checkpoints is usable; to start over, choose another run.dir", folder,
             bad);
fail:
    free(steps);
    return status;
}

Status checkpoint_find(const char *path, bool optional, char out[PATH_MAX], bool *found)
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
    TRY(find_newest(file_is_dir(inside) ? inside : path, out, found));
    if (!*found && !optional) FAIL(ERR_IO, "%s: holds no usable checkpoint", path);
fail:
    return status;
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

Status checkpoint_load(const char *path, const CheckpointState *state, Comm *comm, ParamStore *store,
                       Optimizer *optimizer)
{
    Status status = STATUS_OK;
    TRY(checkpoint_load_arrays(path, comm, store, optimizer));
    optimizer_set_state(optimizer, state->optimizer);
fail:
    return status;
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

Status checkpoint_set_aside_after(const char *folder, int64_t step)
{
    Status status = STATUS_OK;
    char **names = NULL, from[PATH_MAX], to[PATH_MAX];
    size_t count = 0;
    TRY(file_list(folder, &names, &count));
    for (size_t i = 0; i < count; i++) {
        TRY(path_join(from, sizeof from, folder, names[i]));
        if (strncmp(names[i], "step-", strlen("step-")) == 0 && ends_with(names[i], ".tmp")) {
            TRY(file_remove_tree(from));
            continue;
        }
        int64_t other = checkpoint_step_of_name(names[i]);
        if (other <= step) continue;
        TRY(checkpoint_step_path(to, folder, other, ".set-aside"));
        TRY(file_remove_tree(to));
        TRY(file_rename(from, to));
        log_warn("%s is of after step %lld, where this run goes on: renamed to %s", from, (long long)step, to);
    }
fail:
    file_free_list(names, count);
    return status;
}
