/* vasily checkpoint list and prune: what a run has, and what of it is to go. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "train/checkpoint.h"
#include "train/checkpoint_aside.h"
#include "train/checkpoint_folder.h"
#include "train/checkpoint_manifest.h"
#include "train/command.h"
#include "train/run_config.h"

/* ---- list ---- */

/* `note`: what there is to say of it besides. */
static Status print_row(const char *path, const char *note)
{
    Status status = STATUS_OK;
    CheckpointState state = {0};
    FileFacts *files = NULL;
    size_t count = 0;
    int64_t format = 0, bytes = 0;
    TRY(manifest_read(path, &format, &files, &count));
    TRY(checkpoint_read_state(path, &state));
    for (size_t i = 0; i < count; i++) bytes += files[i].size;
    printf("%12lld %14lld %8lld %10.1f  %s%s%s\n", (long long)state.step, (long long)state.samples,
           (long long)state.world, 1e-6 * (double)bytes,
           format == CHECKPOINT_FORMAT_SHARES ? "shares" : "one file an array",
           checkpoint_lacks_optimizer(path) ? "; without optimizer state, so it cannot be resumed" : "", note);
fail:
    checkpoint_state_free(&state);
    free(files);
    return status;
}

/* Beside training one may go before its turn comes, which is no error. */
static void list_one(const char *path, const char *name, const char *note)
{
    if (print_row(path, note) == STATUS_OK) return;
    if (file_exists(path))
        printf("%12s  not readable: %s%s\n", name, status_message(), note);
    else
        printf("%12s  removed meanwhile\n", name);
}

static Status list_steps(const char *folder, const int64_t *steps, size_t count)
{
    Status status = STATUS_OK;
    char path[PATH_MAX], name[32];
    for (size_t i = 0; i < count; i++) {
        TRY(checkpoint_step_path(path, folder, steps[i], ""));
        snprintf(name, sizeof name, "%lld", (long long)steps[i]);
        list_one(path, name, "");
    }
    if (checkpoint_latest_is_folder(folder, path))
        list_one(path, "latest",
                 "; latest: a folder, not a link (a copy that has followed links?); the run's next start renames it");
fail:
    return status;
}

/* What was set aside: by its name, for several may be of one step. */
static Status list_aside(const char *folder, char *const *names, size_t count)
{
    Status status = STATUS_OK;
    char path[PATH_MAX], note[PATH_MAX];
    for (size_t i = 0; i < count; i++) {
        TRY(path_join(path, sizeof path, folder, names[i]));
        snprintf(note, sizeof note, "; %s", names[i]);
        list_one(path, "", note);
    }
fail:
    return status;
}

static Status list_removed(const char *folder)
{
    Status status = STATUS_OK;
    char **names = NULL;
    size_t count = 0;
    TRY(file_list(folder, &names, &count));
    for (size_t i = 0; i < count; i++)
        if (checkpoint_is_removed(names[i]))
            printf("%12s  %s: is being removed, or was when a process was killed; the run's next start or `checkpoint "
                   "prune` removes it\n",
                   "", names[i]);
fail:
    file_free_list(names, count);
    return status;
}

static Status run_list(CommandCall *call)
{
    Status status = STATUS_OK;
    int64_t *steps = NULL;
    char **aside = NULL;
    size_t count = 0, aside_count = 0;
    char folder[PATH_MAX], latest[PATH_MAX];
    if (call->positional.count != 1) FAIL(ERR_USAGE, "usage: vasily checkpoint list %s", call->command->usage);
    TRY(checkpoint_folder_of(call->positional.items[0], folder));
    TRY(checkpoint_list_steps(folder, &steps, &count));
    TRY(checkpoint_list_aside(folder, &aside, &aside_count));
    if (count + aside_count == 0 && !checkpoint_latest_is_folder(folder, latest))
        FAIL(ERR_IO, "%s: holds no checkpoint", folder);
    printf("%12s %14s %8s %10s  %s\n", "step", "samples", "ranks", "MB", "layout");
    TRY(list_steps(folder, steps, count));
    TRY(list_aside(folder, aside, aside_count));
    TRY(list_removed(folder));
fail:
    free(steps);
    file_free_list(aside, aside_count);
    return status;
}

const Command command_checkpoint_list = {
    .name = "checkpoint list",
    .summary = "the checkpoints of a run",
    .usage = "RUN",
    .details =
        "Steps, samples, the ranks that wrote them, and their size; then what was set aside when the run went on\n"
        "from an earlier step (step-N.set-aside, step-N.set-aside-2, ...), which `checkpoint prune RUN --set-aside`\n"
        "removes. Nothing is verified.\n",
    .run = run_list,
};

/* ---- prune ---- */

enum { LOOKS = 10 }; /* at a folder whose newest goes while it is looked at, before that is an error */

typedef struct PruneArguments {
    int64_t keep, permanent_every; /* -1: as the run's config says */
    bool set_aside, dry_run;
} PruneArguments;

/* What the config of the newest checkpoint says. */
static Status read_config(const char *folder, int64_t newest, CheckpointKeep *keep)
{
    Status status = STATUS_OK;
    CheckpointState state = {0};
    RunConfig run;
    Config *config = NULL;
    char path[PATH_MAX];
    TRY(checkpoint_step_path(path, folder, newest, ""));
    TRY(checkpoint_read_state(path, &state));
    TRY(run_config_load("config of the checkpoint", state.config, NULL, 0, &run, &config));
    if (keep->keep < 0) keep->keep = run.checkpoint.keep;
    if (keep->permanent_every < 0) keep->permanent_every = run.checkpoint.permanent_every;
fail:
    if (status) status_prefix("what is to stay is not known; give --keep and --permanent-every: ");
    config_free(config);
    checkpoint_state_free(&state);
    return status;
}

static bool is_among(int64_t step, const int64_t *steps, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (steps[i] == step) return true;
    return false;
}

/* The newest of those that stay is whole, or nothing may be removed: it might be the only good one that goes. A damaged
 * one has no config to speak of, so that comes after. */
static Status check_newest(const char *folder, int64_t newest, CheckpointKeep *keep)
{
    Status status = STATUS_OK;
    char path[PATH_MAX];
    TRY(checkpoint_step_path(path, folder, newest, ""));
    if (checkpoint_verify(path) != STATUS_OK) {
        status_prefix("nothing is removed, for the newest checkpoint is not good; remove that one first: ");
        return ERR_FORMAT;
    }
    if (keep->keep < 0 || keep->permanent_every < 0) TRY(read_config(folder, newest, keep));
fail:
    return status;
}

typedef struct PruneSteps {
    int64_t *all, *old; /* old: first those that can be resumed, then those of them that are to go */
    size_t count, old_count;
} PruneSteps;

static void free_steps(PruneSteps *steps)
{
    free(steps->all);
    free(steps->old);
    *steps = (PruneSteps){0};
}

static Status list_for_prune(const char *folder, PruneSteps *out)
{
    Status status = STATUS_OK;
    free_steps(out);
    TRY(checkpoint_list_steps(folder, &out->all, &out->count));
    if (out->count == 0) FAIL(ERR_IO, "%s: holds no checkpoint", folder);
    TRY(checkpoint_list_resumable(folder, &out->old, &out->old_count));
    if (out->old_count == 0)
        FAIL(ERR_IO, "%s: nothing is removed, for none of its checkpoints has optimizer state to resume with", folder);
fail:
    return status;
}

/* Beside training the newest may go while it is verified: then there are newer ones. */
static Status choose_steps(const char *folder, CheckpointKeep keep, PruneSteps *out)
{
    Status status = STATUS_OK;
    char path[PATH_MAX];
    for (int look = 0;; look++) {
        TRY(list_for_prune(folder, out));
        const int64_t newest = out->old[out->old_count - 1];
        TRY(checkpoint_step_path(path, folder, newest, ""));
        const Status checked = check_newest(folder, newest, &keep);
        if (checked == STATUS_OK) break;
        if (file_exists(path)) TRY(checked);
        if (look == LOOKS)
            FAIL(ERR_IO, "%s: nothing is removed, for its newest checkpoints went while they were looked at; try again",
                 folder);
    }
    out->old_count = checkpoint_choose_old(out->old, out->old_count, keep);
fail:
    return status;
}

static Status remove_steps(const char *folder, const int64_t *steps, size_t count, bool dry_run)
{
    Status status = STATUS_OK;
    char path[PATH_MAX];
    for (size_t i = 0; i < count; i++) {
        TRY(checkpoint_step_path(path, folder, steps[i], ""));
        printf("%s%s\n", dry_run ? "would be removed: " : "removed: ", path);
        if (!dry_run) TRY(checkpoint_remove(folder, steps[i]));
    }
fail:
    return status;
}

/* Only where it is asked for: it may be what somebody wants to go back to. */
static Status handle_aside(const char *folder, const PruneArguments *arguments)
{
    Status status = STATUS_OK;
    char **names = NULL, path[PATH_MAX];
    size_t count = 0;
    TRY(checkpoint_list_aside(folder, &names, &count));
    for (size_t i = 0; i < count && arguments->set_aside; i++) {
        TRY(path_join(path, sizeof path, folder, names[i]));
        printf("%s%s\n", arguments->dry_run ? "would be removed: " : "removed: ", path);
        if (!arguments->dry_run) TRY(file_remove_tree(path));
    }
    if (count > 0 && !arguments->set_aside) printf("set aside, and kept: %zu; --set-aside removes them\n", count);
fail:
    file_free_list(names, count);
    return status;
}

static Status print_kept(const char *folder, const int64_t *removed, size_t removed_count, const int64_t *steps,
                         size_t count)
{
    Status status = STATUS_OK;
    char path[PATH_MAX];
    printf("kept:");
    for (size_t i = 0; i < count; i++) {
        if (is_among(steps[i], removed, removed_count)) continue;
        TRY(checkpoint_step_path(path, folder, steps[i], ""));
        printf(" %lld%s", (long long)steps[i],
               checkpoint_lacks_optimizer(path) ? " (without optimizer state: not counted)" : "");
    }
    printf("\n");
fail:
    return status;
}

/* What a process that was killed while it removed has left. */
static Status finish_removals(const char *folder, bool dry_run)
{
    Status status = STATUS_OK;
    char **names = NULL, path[PATH_MAX];
    size_t count = 0;
    TRY(file_list(folder, &names, &count));
    for (size_t i = 0; i < count; i++) {
        if (!checkpoint_is_removed(names[i])) continue;
        TRY(path_join(path, sizeof path, folder, names[i]));
        printf("%s%s\n", dry_run ? "would be removed: " : "removed: ", path);
        if (!dry_run) TRY(file_remove_tree(path));
    }
fail:
    file_free_list(names, count);
    return status;
}

static Status run_prune(CommandCall *call)
{
    Status status = STATUS_OK;
    const PruneArguments *arguments = call->options;
    const CheckpointKeep keep = {.keep = arguments->keep, .permanent_every = arguments->permanent_every};
    PruneSteps steps = {0};
    char folder[PATH_MAX];
    if (call->positional.count != 1) FAIL(ERR_USAGE, "usage: vasily checkpoint prune %s", call->command->usage);
    TRY(checkpoint_folder_of(call->positional.items[0], folder));
    TRY(choose_steps(folder, keep, &steps));
    TRY(finish_removals(folder, arguments->dry_run));
    TRY(remove_steps(folder, steps.old, steps.old_count, arguments->dry_run));
    TRY(handle_aside(folder, arguments));
    TRY(print_kept(folder, steps.old, steps.old_count, steps.all, steps.count));
fail:
    free_steps(&steps);
    return status;
}

static const ArgSpec prune_options[] = {
    {"keep", ARG_INT, offsetof(PruneArguments, keep), "N", "the newest that stay (default: as the run's config says)",
     1, 1e6, NULL},
    {"permanent-every", ARG_INT, offsetof(PruneArguments, permanent_every), "M",
     "steps that are a multiple of M stay; 0: none for that (default: as the run's config says)", 0, 1e12, NULL},
    {"set-aside", ARG_FLAG, offsetof(PruneArguments, set_aside), NULL,
     "also remove what was set aside (step-N.set-aside, step-N.set-aside-2, ...)", 0, 0, NULL},
    {"dry-run", ARG_FLAG, offsetof(PruneArguments, dry_run), NULL, "only say what would be removed", 0, 0, NULL},
};
static const PruneArguments prune_defaults = {.keep = -1, .permanent_every = -1};

const Command command_checkpoint_prune = {
    .name = "checkpoint prune",
    .summary = "remove old checkpoints of a run",
    .usage = "RUN [--keep N] [--permanent-every M] [--set-aside] [--dry-run]",
    .details =
        "The newest checkpoint that can be resumed is verified first; where it is damaged nothing is removed. What a\n"
        "run that goes on will keep is its config's checkpoint.keep and checkpoint.permanent_every. Checkpoints\n"
        "without optimizer state cannot be resumed: they are neither counted nor removed. What a killed process\n"
        "has half removed (step-N.removed.tmp) goes, too.\n",
    .table = COMMAND_TABLE(prune_options),
    .options_size = sizeof(PruneArguments),
    .defaults = &prune_defaults,
    .run = run_prune,
};
