/* vasily checkpoint list and prune: what a run has, and what of it is to go. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "train/checkpoint.h"
#include "train/checkpoint_folder.h"
#include "train/checkpoint_manifest.h"
#include "train/command.h"
#include "train/run_config.h"

/* ---- list ---- */

static Status list_one(const char *path, int64_t step)
{
    Status status = STATUS_OK;
    CheckpointState state = {0};
    FileFacts *files = NULL;
    size_t count = 0;
    int64_t format = 0, bytes = 0;
    TRY(manifest_read(path, &format, &files, &count));
    TRY(checkpoint_read_state(path, &state));
    for (size_t i = 0; i < count; i++) bytes += files[i].size;
    printf("%12lld %14lld %8lld %10.1f  %s\n", (long long)step, (long long)state.samples, (long long)state.world,
           1e-6 * (double)bytes, format == CHECKPOINT_FORMAT_SHARES ? "shares" : "one file an array");
fail:
    checkpoint_state_free(&state);
    free(files);
    return status;
}

static Status run_list(CommandCall *call)
{
    Status status = STATUS_OK;
    int64_t *steps = NULL;
    size_t count = 0;
    char folder[PATH_MAX], path[PATH_MAX];
    if (call->positional.count != 1) FAIL(ERR_USAGE, "usage: vasily checkpoint list %s", call->command->usage);
    TRY(checkpoint_folder_of(call->positional.items[0], folder));
    TRY(checkpoint_list_steps(folder, &steps, &count));
    if (count == 0) FAIL(ERR_IO, "%s: holds no checkpoint", folder);
    printf("%12s %14s %8s %10s  %s\n", "step", "samples", "ranks", "MB", "layout");
    for (size_t i = 0; i < count; i++) {
        TRY(checkpoint_step_path(path, folder, steps[i], ""));
        if (list_one(path, steps[i]) != STATUS_OK)
            printf("%12lld  not readable: %s\n", (long long)steps[i], status_message());
    }
fail:
    free(steps);
    return status;
}

const Command command_checkpoint_list = {
    .name = "checkpoint list",
    .summary = "the checkpoints of a run",
    .usage = "RUN",
    .details = "Steps, samples, the ranks that wrote them, and their size. Nothing is verified.\n",
    .run = run_list,
};

/* ---- prune ---- */

typedef struct PruneArguments {
    int64_t keep, permanent_every; /* -1: as the run's config says */
    bool dry_run;
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

/* The newest of those that stay is whole, or nothing may be removed: it might be the only good one that goes. */
static Status check_newest(const char *folder, int64_t newest)
{
    Status status = STATUS_OK;
    char path[PATH_MAX];
    TRY(checkpoint_step_path(path, folder, newest, ""));
    if (checkpoint_verify(path) == STATUS_OK) return STATUS_OK;
    status_prefix("nothing is removed, for the newest checkpoint is not good; remove that one first: ");
    return ERR_FORMAT;
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
        if (!dry_run) TRY(file_remove_tree(path));
    }
fail:
    return status;
}

static Status run_prune(CommandCall *call)
{
    Status status = STATUS_OK;
    const PruneArguments *arguments = call->options;
    CheckpointKeep keep = {.keep = arguments->keep, .permanent_every = arguments->permanent_every};
    int64_t *steps = NULL, *old = NULL;
    size_t count = 0;
    char folder[PATH_MAX];
    if (call->positional.count != 1) FAIL(ERR_USAGE, "usage: vasily checkpoint prune %s", call->command->usage);
    TRY(checkpoint_folder_of(call->positional.items[0], folder));
    TRY(checkpoint_list_steps(folder, &steps, &count));
    if (count == 0) FAIL(ERR_IO, "%s: holds no checkpoint", folder);
    if (keep.keep < 0 || keep.permanent_every < 0) TRY(read_config(folder, steps[count - 1], &keep));
    TRY(check_newest(folder, steps[count - 1]));
    old = mem_alloc_array(count, sizeof *old);
    if (!old) FAIL(ERR_MEMORY, "out of memory");
    memcpy(old, steps, count * sizeof *old);
    const size_t removed = checkpoint_choose_old(old, count, keep);
    TRY(remove_steps(folder, old, removed, arguments->dry_run));
    printf("kept:");
    for (size_t i = 0; i < count; i++)
        if (!is_among(steps[i], old, removed)) printf(" %lld", (long long)steps[i]);
    printf("\n");
fail:
    free(steps);
    free(old);
    return status;
}

static const ArgSpec prune_options[] = {
    {"keep", ARG_INT, offsetof(PruneArguments, keep), "N", "the newest that stay (default: as the run's config says)",
     1, 1e6, NULL},
    {"permanent-every", ARG_INT, offsetof(PruneArguments, permanent_every), "M",
     "steps that are a multiple of M stay; 0: none for that (default: as the run's config says)", 0, 1e12, NULL},
    {"dry-run", ARG_FLAG, offsetof(PruneArguments, dry_run), NULL, "only say what would be removed", 0, 0, NULL},
};
static const PruneArguments prune_defaults = {.keep = -1, .permanent_every = -1};

const Command command_checkpoint_prune = {
    .name = "checkpoint prune",
    .summary = "remove old checkpoints of a run",
    .usage = "RUN [--keep N] [--permanent-every M] [--dry-run]",
    .details =
        "The newest checkpoint is verified first; where it is damaged nothing is removed. What a run that goes on\n"
        "will keep is its config's checkpoint.keep and checkpoint.permanent_every.\n",
    .table = COMMAND_TABLE(prune_options),
    .options_size = sizeof(PruneArguments),
    .defaults = &prune_defaults,
    .run = run_prune,
};
