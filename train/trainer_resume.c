/* Which checkpoint a run goes on from, and what has changed since it was written. */
#include "train/trainer_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "train/config_difference.h"

enum { STATE_FILE_LIMIT = 256 << 20 };

/* Rank 0 finds and checks it; every rank gets the text of its state.json. */
Status trainer_find_checkpoint(Trainer *t, const char *resume, char path[PATH_MAX], CheckpointState *state, bool *found)
{
    Status status = STATUS_OK;
    bool automatic = strcmp(resume, "auto") == 0;
    char file[PATH_MAX], *text = NULL;
    int64_t header[2] = {0, 0}; /* found, size of the text */
    size_t size = 0;
    *found = false;
    if (t->root) {
        /* Locked before it is looked at; a folder that is not there is made when the config is known to be good. */
        if (file_is_dir(t->dir.path)) TRY(run_dir_open(&t->dir, true, t->run->run.lock_seconds));
        TRY(checkpoint_find_to_resume(automatic ? t->dir.checkpoints : resume, automatic, path, found));
        if (*found) {
            TRY(path_join(file, sizeof file, path, "state.json"));
            TRY(file_read(file, STATE_FILE_LIMIT, &text, &size));
        } else {
            log_info("%s has no checkpoint yet: starting from the beginning", t->dir.path);
        }
        header[0] = *found;
        header[1] = (int64_t)size;
    }
    TRY(comm_broadcast(t->comm, header, sizeof header, 0));
    *found = header[0] != 0;
    if (!*found) return STATUS_OK;
    size = (size_t)header[1];
    if (!t->root) {
        text = mem_alloc_array(size + 1, 1);
        if (!text) FAIL(ERR_MEMORY, "out of memory");
    }
    TRY(comm_broadcast(t->comm, text, size, 0));
    TRY(checkpoint_parse_state(t->root ? path : "state.json", text, size, state));
fail:
    free(text);
    return status;
}

/* What has changed since the checkpoint was written, and whether the run can still be the same to the bit. */
void trainer_log_differences(const Trainer *t, const CheckpointState *state)
{
    config_log_differences(state->config, t->config_text.data);
    if (state->world != comm_world(t->comm))
        log_warn("saved by %lld ranks, going on with %d: equal up to rounding, not to the bit", (long long)state->world,
                 comm_world(t->comm));
    if (state->threads != t->network.backend->threads)
        log_warn("saved with %lld threads a rank, going on with %d: equal up to rounding, not to the bit",
                 (long long)state->threads, t->network.backend->threads);
    for (int n = 0; n < FROZEN_NETWORK_COUNT; n++)
        if (state->frozen[n][0] && t->frozen[n][0] && strcmp(state->frozen[n], t->frozen[n]) != 0)
            log_warn("model.%s has other weights than so far (%s, now %s): the network goes on with other inputs",
                     FROZEN_NETWORK_WORDS[n], state->frozen[n], t->frozen[n]);
    if (strcmp(state->backend, t->backend_text) != 0)
        log_warn("computed so far on: %s; now on: %s: equal up to rounding, not to the bit", state->backend,
                 t->backend_text);
}

Status trainer_check_resumable(const Trainer *t, const CheckpointState *state)
{
    Status status = STATUS_OK;
    if (state->seed != t->run->seed)
        FAIL_WITH(config_error(t->config, "seed",
                               "%lld differs from the checkpoint's, %lld; every random number and the order "
                               "of samples follow from it, so a run keeps its seed",
                               (long long)t->run->seed, (long long)state->seed));
    if (t->run->optim.total_steps != state->total_steps && t->root)
        log_warn("optim.total_steps is frozen when a run begins: the schedule stays one of %lld steps, not %lld",
                 (long long)state->total_steps, (long long)t->run->optim.total_steps);
    if (t->total_steps > state->total_steps && t->root)
        log_warn(
            "train.steps %lld is past the schedule's %lld steps (optim.total_steps, frozen when the run began); from "
            "there the learning rate keeps its last value",
            (long long)t->total_steps, (long long)state->total_steps);
fail:
    return status;
}
