#include "train/checkpoint_aside.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "train/checkpoint.h"
#include "train/checkpoint_folder.h"

enum { MANIFEST_LIMIT = 64 << 20 };

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

int64_t checkpoint_latest_only(const char *folder, char out[PATH_MAX])
{
    CheckpointState state;
    char path[PATH_MAX];
    if (!checkpoint_latest_is_folder(folder, out)) return -1;
    const int64_t step = checkpoint_read_state(out, &state) == STATUS_OK ? state.step : -1;
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
    const int64_t step = checkpoint_latest_only(folder, latest);
    TRY(path_join(latest, sizeof latest, folder, latest_name));
    if (lstat(latest, &info) != 0 || !S_ISDIR(info.st_mode)) return STATUS_OK;
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

static bool is_same_folder(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* Whether it is in the folder under a name that was given here; what has another is somebody's. */
static bool is_ours(const char *folder, const char *path)
{
    char parent[PATH_MAX];
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    return (is_aside(name) || strcmp(name, latest_name) == 0) &&
           path_join(parent, sizeof parent, path, "..") == STATUS_OK && is_same_folder(parent, folder);
}

/* Whether `path` is a good copy of `from`, to the byte: the manifests have the hashes of all files. */
static bool is_copy(const char *path, const char *from)
{
    char *texts[2] = {NULL, NULL}, manifest[PATH_MAX];
    const char *const folders[2] = {path, from};
    size_t sizes[2] = {0, 0};
    bool read = true;
    for (int i = 0; i < 2 && read; i++)
        read = path_join(manifest, sizeof manifest, folders[i], "manifest.json") == STATUS_OK &&
               file_read(manifest, MANIFEST_LIMIT, &texts[i], &sizes[i]) == STATUS_OK;
    const bool same = read && sizes[0] == sizes[1] && memcmp(texts[0], texts[1], sizes[0]) == 0;
    free(texts[0]);
    free(texts[1]);
    return same && checkpoint_verify(path) == STATUS_OK;
}

/* `from`, in the same folder, gets the name `place`, and what has it now (if anything) one of what is set aside. They
 * change names in one operation first: at every moment `place` is there, and a kill leaves either one or the other. */
static Status exchange(const char *place, const char *from)
{
    Status status = STATUS_OK;
    char to[PATH_MAX];
    const bool taken = file_exists(place);
    if (taken && renameat2(AT_FDCWD, from, AT_FDCWD, place, RENAME_EXCHANGE) == 0) {
        TRY(free_name(place, to));
        TRY(file_rename(from, to));
        log_warn("%s is of another branch, or damaged: renamed to %s", place, to);
    } else { /* a free place, or a file system without exchange */
        if (taken) TRY(checkpoint_set_aside(place, "is of another branch, or damaged"));
        TRY(file_rename(from, place));
    }
    log_info("%s, which this run goes on from, is called %s from now on", from, place);
fail:
    return status;
}

/* The run's checkpoint of `step` is the one that it goes on from, or none: another would be taken for it at the next
 * start. */
static Status settle_step(const char *folder, int64_t step, const char *from, bool *own)
{
    Status status = STATUS_OK;
    char place[PATH_MAX];
    TRY(checkpoint_step_path(place, folder, step, ""));
    *own = from[0] && (is_same_folder(place, from) || (file_exists(place) && is_copy(place, from)));
    if (!from[0] || *own) return STATUS_OK;
    if (is_ours(folder, from)) {
        TRY(exchange(place, from));
        *own = true;
    } else if (file_exists(place)) {
        TRY(checkpoint_set_aside(place, "is not what this run goes on from"));
    }
fail:
    return status;
}

Status checkpoint_set_aside(const char *path, const char *why)
{
    Status status = STATUS_OK;
    char to[PATH_MAX];
    TRY(free_name(path, to));
    TRY(file_rename(path, to));
    log_warn("%s %s: renamed to %s", path, why, to);
fail:
    return status;
}

/* The link may be gone, or name one that was set aside. */
static Status point_latest(const char *folder, int64_t step)
{
    Status status = STATUS_OK;
    char path[PATH_MAX], latest[PATH_MAX];
    TRY(path_join(latest, sizeof latest, folder, latest_name));
    TRY(checkpoint_step_path(path, folder, step, ""));
    if (file_is_dir(path) && !is_same_folder(latest, path)) TRY(checkpoint_move_latest(folder, step));
fail:
    return status;
}

Status checkpoint_set_aside_after(const char *folder, int64_t step, const char *from, bool *own)
{
    Status status = STATUS_OK;
    char **names = NULL, path[PATH_MAX], why[64];
    size_t count = 0;
    TRY(settle_step(folder, step, from, own));
    TRY(settle_latest(folder));
    TRY(file_list(folder, &names, &count));
    snprintf(why, sizeof why, "is of after step %lld, where this run goes on", (long long)step);
    for (size_t i = 0; i < count; i++) {
        TRY(path_join(path, sizeof path, folder, names[i]));
        if (strncmp(names[i], "step-", strlen("step-")) == 0 && ends_with(names[i], ".tmp"))
            TRY(file_remove_tree(path));
        else if (checkpoint_step_of_name(names[i]) > step)
            TRY(checkpoint_set_aside(path, why));
    }
    TRY(point_latest(folder, step));
fail:
    file_free_list(names, count);
    return status;
}
