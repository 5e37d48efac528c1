/* train.micro_batch: auto. */
#include "train/network.h"
#include "train/validation.h"

/* Beyond this a larger micro-batch gains nothing and only makes the search longer. */
enum { MICRO_BATCH_MOST = 4096 };

Status network_check_memory(const RunConfig *run, Backend *backend, NetworkInputs inputs,
                            const NetworkSurroundings *around, bool estimate)
{
    Status status = STATUS_OK;
    Network network;
    NetworkSurroundings with = *around;
    if (estimate)
        TRY(network_estimate(run, backend, inputs, &network));
    else
        TRY(network_plan(run, backend, inputs, &network));
    if (around->training) status = validation_plan_bytes(run, &network, around->ranks, estimate, &with.validation);
    if (status == STATUS_OK) {
        network_plan_memory(&network, run, &with);
        status = memory_plan_check(&network.memory, run, backend, around->sharing);
    }
    network_free(&network);
fail:
    return status;
}

/* Whether run->train.micro_batch fits, by an estimate or a whole plan. */
static Status fits(const RunConfig *run, Backend *backend, NetworkInputs inputs, const NetworkSurroundings *around,
                   bool estimate, bool *out)
{
    const Status status = network_check_memory(run, backend, inputs, around, estimate);
    *out = status == STATUS_OK;
    return status == ERR_MEMORY && run->train.micro_batch > 1 ? STATUS_OK : status; /* a smaller one may do */
}

/* The divisor of `value` next below `than`; 0: none. */
static int64_t divisor_below(int64_t value, int64_t than)
{
    int64_t d = than > value ? value : than - 1;
    while (d > 0 && value % d) d--;
    return d;
}

Status network_choose_micro_batch(RunConfig *run, Backend *backend, NetworkInputs inputs,
                                  const NetworkSurroundings *around, int64_t preferred)
{
    Status status = STATUS_OK;
    const int64_t share = run->train.global_batch / around->ranks;
    bool good = false;
    if (run->train.micro_batch != MICRO_BATCH_AUTO) return STATUS_OK;
    if (preferred > 0 && share % preferred == 0) {
        run->train.micro_batch = preferred;
        TRY(fits(run, backend, inputs, around, false, &good));
        if (good) return STATUS_OK;
    }
    /* Estimates, which take no kernels, find where to begin: memory grows with the batch. */
    int64_t least = 0, most = share < MICRO_BATCH_MOST ? share : MICRO_BATCH_MOST;
    while (least < most) {
        run->train.micro_batch = least + (most - least + 1) / 2;
        TRY(fits(run, backend, inputs, around, true, &good));
        if (good)
            least = run->train.micro_batch;
        else
            most = run->train.micro_batch - 1;
    }
    for (int64_t n = divisor_below(share, least + 1); n > 1; n = divisor_below(share, n)) {
        run->train.micro_batch = n;
        TRY(fits(run, backend, inputs, around, false, &good));
        if (good) return STATUS_OK;
    }
    run->train.micro_batch = 1;
    TRY(fits(run, backend, inputs, around, false, &good));
fail:
    if (status != STATUS_OK) run->train.micro_batch = MICRO_BATCH_AUTO;
    return status;
}
