/* A bit is flipped in what one rank has in memory, while it trains: `mpirun -n N test_consistency CONFIG WHERE RANK
 * [OVERRIDE...]`, WHERE weights, ema, m or v. Five steps are trained and saved, the bit is flipped, and training goes
 * on; parallel.compare_every says when that is noticed. Ends as vasily train does; exit code 0: nobody noticed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "train/trainer_internal.h"

enum { FLIP_AFTER = 5, STEPS = 12 };

/* The parameter that value `local` of the flat buffer belongs to, or of what this rank has of the optimizer's. */
static const char *name_of(const Trainer *t, bool weights, int64_t local)
{
    const UpdateSpan *spans;
    int32_t count = exchange_spans(t->exchange, &spans);
    int64_t flat = local;
    for (int32_t s = 0; s < count && !weights; s++)
        if (local >= spans[s].local && local < spans[s].local + spans[s].count)
            flat = spans[s].flat + local - spans[s].local;
    for (int32_t p = 0; p < param_table_size(t->network.params); p++) {
        const Param *param = param_table_get(t->network.params, p);
        if (param->trainable && flat >= param->offset && flat < param->offset + param->count) return param->name;
    }
    return "padding";
}

/* A low bit of a weight: a change that no loss shows. Of moments and averages a high one, since these forget. */
static Status flip(Trainer *t, const char *where)
{
    Status status = STATUS_OK;
    Backend *backend = t->network.backend;
    const ParamStore *store = &t->network.store;
    const bool weights = strcmp(where, "weights") == 0;
    float *values = weights                     ? (store->image ? store->image->weights : store->weights)
                    : strcmp(where, "ema") == 0 ? optimizer_ema(t->optimizer)
                    : strcmp(where, "m") == 0   ? optimizer_m(t->optimizer)
                                                : optimizer_v(t->optimizer);
    const int64_t at = exchange_local_elements(t->exchange) * 2 / 3;
    uint32_t word;
    TRY(backend->download(backend, &word, values + at, sizeof word));
    word ^= weights ? 1u << 8 : 1u << 20;
    TRY(backend->upload(backend, values + at, &word, sizeof word));
    fprintf(stderr, "flipped a bit of %s\n", name_of(t, weights, at));
fail:
    return status;
}

static Status train(RunConfig *run, const Config *config, Comm *comm, const char *where, int rank)
{
    Status status = STATUS_OK;
    Trainer *t = NULL;
    TrainerEnd end;
    TRY(trainer_open(run, config, comm, &(TrainerOptions){.stop_after = FLIP_AFTER}, &t));
    TRY(trainer_run(t, &end));
    if (comm_rank(comm) == rank) TRY(flip(t, where));
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
