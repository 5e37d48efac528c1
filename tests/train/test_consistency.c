/* A bit is flipped in what one rank has in memory, while it trains: `mpirun -n N test_consistency CONFIG WHERE RANK
 * [OVERRIDE...]`, WHERE weights, ema, m or v. Five steps are trained and saved, the bit is flipped, and training goes
 * on; parallel.compare_every says when that is noticed. Ends as vasily train does; exit code 0: nobody noticed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "train/trainer_internal.h"

enum { FLIP_AFTER = 5, STEPS = 12 };

/* One of a weight's lower bits: a change that no loss shows. Of a moment or an average a high one, since these forget.
 */
static void flip(Trainer *t, const char *where)
{
    const bool weights = strcmp(where, "weights") == 0;
    float *values = weights                     ? t->network.store.weights
                    : strcmp(where, "ema") == 0 ? optimizer_ema(t->optimizer)
                    : strcmp(where, "m") == 0   ? optimizer_m(t->optimizer)
                                                : optimizer_v(t->optimizer);
    const Param *param = param_table_get(t->network.params, param_table_find(t->network.params, "out.2.weight"));
    uint32_t word;
    if (!weights) values -= param->offset - param->offset % exchange_local_elements(t->exchange); /* a share of them */
    memcpy(&word, values + param->offset, sizeof word);
    word ^= weights ? 1u << 8 : 1u << 20;
    memcpy(values + param->offset, &word, sizeof word);
}

static Status train(RunConfig *run, const Config *config, Comm *comm, const char *where, int rank)
{
    Status status = STATUS_OK;
    Trainer *t = NULL;
    TrainerEnd end;
    TRY(trainer_open(run, config, comm, &(TrainerOptions){.stop_after = FLIP_AFTER}, &t));
    TRY(trainer_run(t, &end));
    if (comm_rank(comm) == rank) flip(t, where);
    t->last_step = STEPS;
    TRY(trainer_run(t, &end));
fail:
    trainer_free(t);
    return status;
}

int main(int argc, char **argv)
{
    RunConfig run;
    Config *config = NULL;
    Comm *comm = NULL;
    if (argc < 4) return 2;
    Status status = comm_open(&comm);
    if (status == STATUS_OK) {
        log_configure(LOG_INFO, comm_rank(comm), comm_world(comm));
        status = run_config_load(argv[1], NULL, (const char *const *)(argv + 4), (size_t)(argc - 4), &run, &config);
    }
    if (status == STATUS_OK) status = train(&run, config, comm, argv[2], atoi(argv[3]));
    if (status) {
        log_error("%s", status_message());
        if (comm) comm_abort(comm, status_exit_code(status));
    }
    config_free(config);
    comm_close(comm);
    return status_exit_code(status);
}
