#include "train/init_kept.h"

#include <string.h>

#include "base/log.h"
#include "train/checkpoint.h"

bool init_keeps_optimizer(const InitConfig *init)
{
    return init->optimizer == INIT_KEPT;
}

Status init_kept_check(const InitConfig *init, const Config *config)
{
    Status status = STATUS_OK;
    if (!init->from[0])
        FAIL_WITH(config_error(config, "init.optimizer",
                               "kept, but init.from is empty; it names the checkpoint or run whose optimizer goes on"));
    if (!init_weights_is_checkpoint(init->from))
        FAIL_WITH(config_error(config, "init.optimizer",
                               "kept, but init.from, %s, is no checkpoint of ours and no run's folder, and so has no "
                               "moments (adam_m, adam_v); name one, or choose fresh",
                               init->from));
fail:
    return status;
}

/* Rank 0: finds and verifies the checkpoint, and what it counts. */
static Status find(const InitConfig *init, char path[PATH_MAX], CheckpointState *state)
{
    Status status = STATUS_OK;
    bool found;
    TRY(checkpoint_find(init->from, false, path, &found));
    if (!checkpoint_has(path, "adam_m") || !checkpoint_has(path, "adam_v"))
        FAIL(ERR_FORMAT, "%s has no moments (adam_m, adam_v); init.optimizer: fresh goes without", path);
    TRY(checkpoint_read_state(path, state));
fail:
    return status;
}

Status init_kept_load(const InitConfig *init, Comm *comm, ParamStore *store, Optimizer *optimizer)
{
    Status status = STATUS_OK;
    CheckpointState found = {0}, state = {0};
    char path[PATH_MAX] = "";
    if (comm_rank(comm) == 0) TRY(find(init, path, &found));
    state.optimizer.t = found.optimizer.t; /* steps passed over are counted from the new run's start */
    TRY(comm_broadcast(comm, &state.optimizer, sizeof state.optimizer, 0));
    TRY(checkpoint_load(path, &state, comm, store, optimizer));
    log_info("weights, moments and moving average are those of %s, after %lld updates", path,
             (long long)state.optimizer.t);
fail:
    if (status == ERR_MISMATCH)
        status_prefix(
            "init.optimizer: kept: goes on with the same network only; fresh takes the weights alone, and widens "
            "them for inpainting: ");
    else if (status)
        status_prefix("init.optimizer: kept: ");
    checkpoint_state_free(&found);
    return status;
}
