/* Saving and loading; the order of operations is explained in the header. */
#include "train/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "train/checkpoint_arrays.h"

enum { STATE_FILE_LIMIT = 256 << 20, SPACE_MARGIN = 4 << 20 };

static const char step_prefix[] = "step-";

/* The step of a committed checkpoint's folder name; -1 for anything else. */
static int64_t step_of_name(const char *name)
{
    if (strncmp(name, step_prefix, sizeof step_prefix - 1) != 0) return -1;
    const char *digits = name + sizeof step_prefix - 1;
    size_t length = strlen(digits);
    if (length < 7 || length > 15 || strspn(digits, "0123456789") != length) return -1;
    return strtoll(digits, NULL, 10);
}

static Status step_path(char out[PATH_MAX], const char *folder, int64_t step, const char *suffix)
{
    char name[64];
    snprintf(name, sizeof name, "%s%07lld%s", step_prefix, (long long)step, suffix);
    return path_join(out, PATH_MAX, folder, name);
}

static Status write_all(const char *folder, const CheckpointState *state, const ParamStore *store, Optimizer *optimizer)
{
    Status status = STATUS_OK;
    StrBuf text = {0};
    char path[PATH_MAX];
    const char *names[CHECKPOINT_ARRAYS + 1];
    size_t count = 0;
    TRY(checkpoint_write_arrays(folder, store, optimizer, names, &count));
    TRY(checkpoint_format_state(state, &text));
    TRY(path_join(path, sizeof path, folder, "state.json"));
    TRY(file_write_atomic(path, text.data, text.size));
    names[count++] = "state.json";
    TRY(manifest_write(folder, state->step, names, count));
    TRY(file_sync(folder));
fail:
    strbuf_free(&text);
    return status;
}

static Status check_space(const char *folder, const ParamTable *table, bool has_ema)
{
    Status status = STATUS_OK;
    int64_t available;
    int64_t arrays = has_ema ? 4 : 3;
    int64_t needed = arrays * param_table_trainable_parameters(table) * (int64_t)sizeof(float) + SPACE_MARGIN;
    TRY(file_free_space(folder, &available));
    if (available < needed)
        FAIL(ERR_IO, "%s: a checkpoint takes %.1f MB and %.1f MB are free; free some space or lower checkpoint.keep",
             folder, (double)needed / 1e6, (double)available / 1e6);
fail:
    return status;
}

/* Puts the finished folder in its place. One of that step may be there already, from a branch that was given up: the
 * two change names in one operation, so a whole checkpoint of this step exists at every moment. */
static Status commit_folder(const char *temporary, const char *final)
{
    Status status = STATUS_OK;
    if (!file_exists(final)) return file_rename(temporary, final);
    if (renameat2(AT_FDCWD, temporary, AT_FDCWD, final, RENAME_EXCHANGE) == 0) {
        TRY(file_remove_tree(temporary));
    } else { /* a file system without exchange */
        TRY(file_remove_tree(final));
        TRY(file_rename(temporary, final));
    }
fail:
    return status;
}

/* `latest` is a link to the folder beside it, moved by rename. */
static Status move_latest(const char *folder, int64_t step)
{
    Status status = STATUS_OK;
    char latest[PATH_MAX], temporary[PATH_MAX], name[64];
    snprintf(name, sizeof name, "%s%07lld", step_prefix, (long long)step);
    TRY(path_join(latest, sizeof latest, folder, "latest"));
    TRY(path_join(temporary, sizeof temporary, folder, "latest.tmp"));
    unlink(temporary);
    if (symlink(name, temporary)) FAIL(ERR_IO, "%s: %s", temporary, strerror(errno));
    TRY(file_rename(temporary, latest));
fail:
    return status;
}

/* Steps of the committed checkpoints, ascending. The caller frees. */
static Status list_steps(const char *folder, int64_t **steps, size_t *count)
{
    Status status = STATUS_OK;
    char **names = NULL;
    size_t name_count = 0;
    *steps = NULL;
    *count = 0;
    TRY(file_list(folder, &names, &name_count));
    *steps = mem_alloc_array(name_count ? name_count : 1, sizeof **steps);
    if (!*steps) FAIL(ERR_MEMORY, "out of memory");
    for (size_t i = 0; i < name_count; i++) {
        int64_t step = step_of_name(names[i]);
        if (step < 0) continue;
        size_t at = (*count)++;
        for (; at > 0 && (*steps)[at - 1] > step; at--) (*steps)[at] = (*steps)[at - 1];
        (*steps)[at] = step;
    }
fail:
    file_free_list(names, name_count);
    return status;
}

static Status prune(const char *folder, int64_t newest, int64_t keep)
{
    Status status = STATUS_OK;
    int64_t *steps = NULL;
    size_t count = 0;
    char path[PATH_MAX];
    TRY(list_steps(folder, &steps, &count));
    while (count > 0 && steps[count - 1] > newest) count--;
    for (size_t i = 0; i + (size_t)keep < count; i++) {
        TRY(step_path(path, folder, steps[i], ""));
        TRY(file_remove_tree(path));
    }
fail:
    free(steps);
    return status;
}

Status checkpoint_save(const char *folder, const CheckpointState *state, const ParamStore *store, Optimizer *optimizer,
                       int64_t keep)
{
    Status status = STATUS_OK;
    char temporary[PATH_MAX] = "", final[PATH_MAX];
    TRY(step_path(final, folder, state->step, ""));
    TRY(step_path(temporary, folder, state->step, ".tmp"));
    TRY(file_make_dirs(folder));
    TRY(file_remove_tree(temporary));
    TRY(check_space(folder, store->table, optimizer_ema(optimizer) != NULL));
    TRY(file_make_dirs(temporary));
    TRY(write_all(temporary, state, store, optimizer));
    TRY(commit_folder(temporary, final));
    temporary[0] = 0; /* from here on the checkpoint is good, whatever becomes of the rest */
    TRY(move_latest(folder, state->step));
    TRY(prune(folder, state->step, keep));
    return STATUS_OK;
fail:
    if (temporary[0]) {
        StatusRecord record;
        status_save(status, &record);
        (void)file_remove_tree(temporary);
        status = status_restore(&record);
        status_prefix("the checkpoint of step %lld could not be saved, older ones are as they were: ",
                      (long long)state->step);
    }
    return status;
}

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
    TRY(list_steps(folder, &steps, &count));
    while (count-- > 0 && !*found) {
        TRY(step_path(out, folder, steps[count], ""));
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
        if (strncmp(names[i], step_prefix, sizeof step_prefix - 1) == 0 && ends_with(names[i], ".tmp")) {
            TRY(file_remove_tree(from));
            continue;
        }
        int64_t other = step_of_name(names[i]);
        if (other <= step) continue;
        TRY(step_path(to, folder, other, ".set-aside"));
        TRY(file_remove_tree(to));
        TRY(file_rename(from, to));
        log_warn("%s is of after step %lld, where this run goes on: renamed to %s", from, (long long)step, to);
    }
fail:
    file_free_list(names, count);
    return status;
}
