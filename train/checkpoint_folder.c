#include "train/checkpoint_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/file.h"
#include "train/checkpoint.h"
#include "train/checkpoint_aside.h"

enum { SPACE_MARGIN = 4 << 20 };

static const char step_prefix[] = "step-", removed_word[] = ".removed.tmp";

int64_t checkpoint_step_of_name(const char *name)
{
    if (strncmp(name, step_prefix, sizeof step_prefix - 1) != 0) return -1;
    const char *digits = name + sizeof step_prefix - 1;
    size_t length = strlen(digits);
    if (length < 7 || length > 15 || strspn(digits, "0123456789") != length) return -1;
    return strtoll(digits, NULL, 10);
}

Status checkpoint_step_path(char out[PATH_MAX], const char *folder, int64_t step, const char *suffix)
{
    char name[64];
    snprintf(name, sizeof name, "%s%07lld%s", step_prefix, (long long)step, suffix);
    return path_join(out, PATH_MAX, folder, name);
}

Status checkpoint_folder_of(const char *path, char out[PATH_MAX])
{
    Status status = STATUS_OK;
    TRY(path_join(out, PATH_MAX, path, "checkpoints"));
    if (file_is_dir(out)) return STATUS_OK;
    if (!file_is_dir(path)) FAIL(ERR_IO, "%s is no folder; name a run's folder", path);
    const size_t length = strlen(path);
    if (length >= PATH_MAX) FAIL(ERR_LIMIT, "a path of %zu bytes is too long", length);
    memcpy(out, path, length + 1);
fail:
    return status;
}

Status checkpoint_list_steps(const char *folder, int64_t **steps, size_t *count)
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
        int64_t step = checkpoint_step_of_name(names[i]);
        if (step < 0) continue;
        size_t at = (*count)++;
        for (; at > 0 && (*steps)[at - 1] > step; at--) (*steps)[at] = (*steps)[at - 1];
        (*steps)[at] = step;
    }
fail:
    file_free_list(names, name_count);
    return status;
}

Status checkpoint_list_resumable(const char *folder, int64_t **steps, size_t *count)
{
    Status status = STATUS_OK;
    char path[PATH_MAX];
    size_t all = 0;
    *count = 0;
    TRY(checkpoint_list_steps(folder, steps, &all));
    for (size_t i = 0; i < all; i++) {
        TRY(checkpoint_step_path(path, folder, (*steps)[i], ""));
        if (!checkpoint_lacks_optimizer(path)) (*steps)[(*count)++] = (*steps)[i];
    }
fail:
    return status;
}

/* ---- a new one ---- */

Status checkpoint_prepare(const char *folder, int64_t step, int64_t bytes)
{
    Status status = STATUS_OK;
    char temporary[PATH_MAX];
    int64_t available;
    TRY(checkpoint_step_path(temporary, folder, step, ".tmp"));
    TRY(file_make_dirs(folder));
    TRY(file_remove_tree(temporary));
    TRY(file_free_space(folder, &available));
    if (available < bytes + SPACE_MARGIN)
        FAIL(ERR_IO, "%s: a checkpoint takes %.1f MB and %.1f MB are free; free some space or lower checkpoint.keep",
             folder, (double)(bytes + SPACE_MARGIN) / 1e6, (double)available / 1e6);
    TRY(file_make_dirs(temporary));
fail:
    return status;
}

/* Puts the finished folder in its place. One of that step may be there already, from a branch that was given up: the
 * two change names in one operation, so a whole checkpoint of this step exists at every moment. One without optimizer
 * state is somebody's, and only steps aside. */
static Status move_into_place(const char *temporary, const char *final)
{
    Status status = STATUS_OK;
    if (checkpoint_lacks_optimizer(final)) TRY(checkpoint_set_aside(final, "is without optimizer state"));
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

Status checkpoint_move_latest(const char *folder, int64_t step)
{
    Status status = STATUS_OK;
    char latest[PATH_MAX], temporary[PATH_MAX], name[64];
    snprintf(name, sizeof name, "%s%07lld", step_prefix, (long long)step);
    TRY(path_join(latest, sizeof latest, folder, "latest"));
    TRY(path_join(temporary, sizeof temporary, folder, "latest.tmp"));
    unlink(temporary);
    if (symlink(name, temporary)) FAIL_WITH(file_system_error(errno, "make the link", temporary));
    status = file_rename(temporary, latest);
    if (status) unlink(temporary);
fail:
    return status;
}

/* ---- old ones ---- */

size_t checkpoint_choose_old(int64_t *steps, size_t count, CheckpointKeep keep)
{
    size_t chosen = 0;
    for (size_t i = 0; i + (size_t)keep.keep < count; i++)
        if (keep.permanent_every <= 0 || steps[i] % keep.permanent_every != 0) steps[chosen++] = steps[i];
    return chosen;
}

Status checkpoint_remove(const char *folder, int64_t step)
{
    Status status = STATUS_OK;
    char path[PATH_MAX], doomed[PATH_MAX];
    TRY(checkpoint_step_path(path, folder, step, ""));
    TRY(checkpoint_step_path(doomed, folder, step, removed_word));
    TRY(file_remove_tree(doomed));
    if (!file_exists(path)) return STATUS_OK;
    const Status renamed = file_rename(path, doomed);
    if (file_exists(path)) TRY(renamed); /* else `checkpoint prune` beside the run was faster, or it than us */
    TRY(file_remove_tree(doomed));
fail:
    return status;
}

bool checkpoint_is_removed(const char *name)
{
    char before[32];
    const char *word = strstr(name, removed_word);
    if (!word || strcmp(word, removed_word) != 0 || (size_t)(word - name) >= sizeof before) return false;
    snprintf(before, sizeof before, "%.*s", (int)(word - name), name);
    return checkpoint_step_of_name(before) >= 0;
}

static Status prune(const char *folder, int64_t newest, CheckpointKeep keep)
{
    Status status = STATUS_OK;
    int64_t *steps = NULL;
    size_t count = 0;
    TRY(checkpoint_list_resumable(folder, &steps, &count));
    while (count > 0 && steps[count - 1] > newest) count--;
    count = checkpoint_choose_old(steps, count, keep);
    for (size_t i = 0; i < count; i++) TRY(checkpoint_remove(folder, steps[i]));
fail:
    free(steps);
    return status;
}

Status checkpoint_commit(const char *folder, int64_t step, CheckpointKeep keep, bool *committed)
{
    Status status = STATUS_OK;
    char temporary[PATH_MAX], final[PATH_MAX];
    *committed = false;
    TRY(checkpoint_step_path(final, folder, step, ""));
    TRY(checkpoint_step_path(temporary, folder, step, ".tmp"));
    TRY(file_sync(temporary));
    TRY(move_into_place(temporary, final));
    *committed = true;
    TRY(checkpoint_move_latest(folder, step));
    TRY(prune(folder, step, keep));
fail:
    return status;
}
