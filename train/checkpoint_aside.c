#include "train/checkpoint_aside.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "train/checkpoint.h"
#include "train/checkpoint_folder.h"

static const char aside_word[] = ".set-aside", latest_name[] = "latest";

/* ---- names ---- */

/* A name that nothing has yet: PATH.set-aside, PATH.set-aside-2, ... */
static Status free_name(const char *path, char out[PATH_MAX])
{
    Status status = STATUS_OK;
    struct stat info;
    char number[32] = "";
    for (int64_t k = 2;; k++) {
        if (snprintf(out, PATH_MAX, "%s%s%s", path, aside_word, number) >= PATH_MAX)
            FAIL(ERR_LIMIT, "%s: the path is too long", path);
        if (lstat(out, &info) != 0) return STATUS_OK;
        snprintf(number, sizeof number, "-%lld", (long long)k);
    }
fail:
    return status;
}

static bool is_aside(const char *name)
{
    const char *word = strstr(name, aside_word);
    char before[64];
    if (!word || (size_t)(word - name) >= sizeof before) return false;
    snprintf(before, sizeof before, "%.*s", (int)(word - name), name);
    if (checkpoint_step_of_name(before) < 0 && strcmp(before, latest_name) != 0) return false;
    const char *number = word + strlen(aside_word);
    return !number[0] || (number[0] == '-' && number[1] && !number[1 + strspn(number + 1, "0123456789")]);
}

Status checkpoint_list_aside(const char *folder, char ***names, size_t *count)
{
    Status status = STATUS_OK;
    char **all = NULL;
    size_t all_count = 0, kept = 0;
    *names = NULL;
    *count = 0;
    TRY(file_list(folder, &all, &all_count));
    for (size_t i = 0; i < all_count; i++) {
        if (!is_aside(all[i])) continue;
        char *name = all[i];
        all[i] = all[kept];
        all[kept++] = name;
    }
    for (size_t i = kept; i < all_count; i++) free(all[i]);
    *names = all;
    *count = kept;
fail:
    return status;
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

/* ---- latest ---- */

bool checkpoint_latest_is_folder(const char *folder, char out[PATH_MAX])
{
    struct stat info;
    char inside[PATH_MAX];
    return path_join(out, PATH_MAX, folder, latest_name) == STATUS_OK && lstat(out, &info) == 0 &&
           S_ISDIR(info.st_mode) && path_join(inside, sizeof inside, out, "manifest.json") == STATUS_OK &&
           file_exists(inside);
}

/* The step of the checkpoint in it, where the folder has none of that step; -1 else. */
static int64_t missing_step(const char *folder, const char *latest)
{
    CheckpointState state;
    char path[PATH_MAX];
    const int64_t step = checkpoint_read_state(latest, &state) == STATUS_OK ? state.step : -1;
    checkpoint_state_free(&state);
    const bool there = step >= 0 && checkpoint_step_path(path, folder, step, "") == STATUS_OK && file_exists(path);
    return there ? -1 : step;
}

/* A link cannot be moved over a folder. What is in it may be the only copy of its step, and gets that step's name. */
static Status settle_latest(const char *folder)
{
    Status status = STATUS_OK;
    struct stat info;
    char latest[PATH_MAX], to[PATH_MAX];
    TRY(path_join(latest, sizeof latest, folder, latest_name));
    if (lstat(latest, &info) != 0 || !S_ISDIR(info.st_mode)) return STATUS_OK;
    const int64_t step = checkpoint_latest_is_folder(folder, latest) ? missing_step(folder, latest) : -1;
    if (step >= 0)
        TRY(checkpoint_step_path(to, folder, step, ""));
    else
        TRY(free_name(latest, to));
    TRY(file_rename(latest, to));
    log_warn("%s was a folder, not a link to the newest checkpoint (a copy that has followed links?): renamed to %s%s",
             latest, to, step >= 0 ? "" : "; it may be removed where the other checkpoints are good");
fail:
    return status;
}

/* ---- a run goes on ---- */

static Status set_aside(const char *path, int64_t step)
{
    Status status = STATUS_OK;
    char to[PATH_MAX];
    TRY(free_name(path, to));
    TRY(file_rename(path, to));
    log_warn("%s is of after step %lld, where this run goes on: renamed to %s", path, (long long)step, to);
fail:
    return status;
}

Status checkpoint_set_aside_after(const char *folder, int64_t step)
{
    Status status = STATUS_OK;
    char **names = NULL, path[PATH_MAX], latest[PATH_MAX];
    size_t count = 0;
    TRY(settle_latest(folder));
    TRY(file_list(folder, &names, &count));
    for (size_t i = 0; i < count; i++) {
        TRY(path_join(path, sizeof path, folder, names[i]));
        if (strncmp(names[i], "step-", strlen("step-")) == 0 && ends_with(names[i], ".tmp"))
            TRY(file_remove_tree(path));
        else if (checkpoint_step_of_name(names[i]) > step)
            TRY(set_aside(path, step));
    }
    /* The link may be gone, or name one that was set aside. */
    TRY(path_join(latest, sizeof latest, folder, latest_name));
    TRY(checkpoint_step_path(path, folder, step, ""));
    if (!file_exists(latest) && file_is_dir(path)) TRY(checkpoint_move_latest(folder, step));
fail:
    file_free_list(names, count);
    return status;
}
