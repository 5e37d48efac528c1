/* vasily train: opens a run and trains it to its end. */
#include "base/log.h"
#include "engine/watchdog.h"
#include "train/command.h"
#include "train/run_config.h"
#include "train/signals.h"
#include "train/trainer.h"

typedef struct TrainArguments {
    const char *resume, *only_stage;
    int64_t stop_after;
} TrainArguments;

static void report_end(TrainerEnd ended, const RunConfig *config)
{
    if (ended == TRAINER_DONE)
        log_info("done: %s; `vasily sample %s --prompt TEXT` draws from it", config->run.dir, config->run.dir);
    else if (ended == TRAINER_DATA_ENDED)
        log_info(
            "done: the sources of data have ended before train.steps%s (samples that did not fill a step of all lanes "
            "are left over; fewer data.lanes leave fewer); `vasily sample %s --prompt TEXT` draws from it",
            config->stages.count ? ", in the middle of a stage; fewer steps of it would let the next one begin" : "",
            config->run.dir);
    else
        log_info("stopped by a signal; go on with --resume auto");
}

/* Stage after stage: each ends with a checkpoint, from which the next one resumes in this process. All that the old
 * stage held is gone before anything of the new one is made. *trainer is the last one, to be freed. */
static Status train(const TrainArguments *arguments, RunConfig *config, const Config *file, const Stages *stages,
                    Comm *comm, Watchdog **watchdog, Trainer **trainer, TrainerEnd *ended)
{
    Status status = STATUS_OK;
    TrainerOptions options = {.resume = arguments->resume,
                              .stop_after = arguments->stop_after,
                              .stages = stages,
                              .only_stage = arguments->only_stage,
                              .watchdog = watchdog};
    int lock;
    do {
        lock = trainer_give_lock(*trainer);
        options.lock = &lock;
        trainer_free(*trainer);
        TRY(trainer_open(config, file, comm, &options, trainer));
        TRY(trainer_run(*trainer, ended));
        /* What only made up for a validation has saved nothing: then as it was asked for, unless that is here. */
        if (!trainer_made_up(*trainer) || trainer_goes_on_here(*trainer)) options.resume = "auto";
        options.switches = true;
    } while (*ended == TRAINER_STAGE);
fail:
    return status;
}

static Status load(CommandCall *call, RunConfig *config, Config **file)
{
    Status status = STATUS_OK;
    const TrainArguments *arguments = call->options;
    const char *const *overrides;
    size_t override_count, stage;
    TRY(command_arguments(call, 1, &overrides, &override_count));
    TRY(run_config_load(call->positional.items[0], NULL, overrides, override_count, config, file));
    if (arguments->only_stage) TRY(run_config_find_stage(config, arguments->only_stage, &stage));
fail:
    return status;
}

static Status run(CommandCall *call)
{
    Status status = STATUS_OK;
    const TrainArguments *arguments = call->options;
    RunConfig config;
    Config *file = NULL;
    Stages *stages = NULL;
    Trainer *trainer = NULL;
    Watchdog *watchdog = NULL;
    TrainerEnd ended;
    TRY(load(call, &config, &file));
    TRY(stages_open(&config, file, &stages));
    TRY(signals_install()); /* one that comes while the run is opened is heeded after the first step */
    TRY(train(arguments, &config, file, stages, call->comm, &watchdog, &trainer, &ended));
    if (ended == TRAINER_STOPPED) call->exit_code = 130;
    if (ended == TRAINER_REQUEUE) call->exit_code = status_exit_code(ERR_INTERRUPTED);
    report_end(ended, &config);
    TRY(watchdog_close(watchdog));
    watchdog = NULL;
fail:
    /* Before the others end, and with them the job; and before freeing, which may take long. */
    command_report(call, status);
    watchdog_fail(watchdog, status);
    trainer_free(trainer);
    stages_free(stages);
    config_free(file);
    return status;
}

static const ArgSpec options[] = {
    {"resume", ARG_TEXT, offsetof(TrainArguments, resume), "auto|PATH",
     "go on from the newest good checkpoint of run.dir, or from the one at PATH", 0, 0, NULL},
    {"stop-after", ARG_INT, offsetof(TrainArguments, stop_after), "N",
     "stop, saved, when N steps are done in all; the schedule stays that of the whole run", 1, 1e12, NULL},
    {"only-stage", ARG_TEXT, offsetof(TrainArguments, only_stage), "NAME",
     "train this stage and stop, saved, at its end; refused where the run is in another one", 0, 0, NULL},
};

const Command command_train = {
    .name = "train",
    .summary = "train a model",
    .usage = "CONFIG [key.path=value ...] [--resume auto|PATH]",
    .details =
        "Trains as the YAML file CONFIG says; overrides are checked as the file is. Everything goes into the folder\n"
        "run.dir: config.yaml, metrics.jsonl, events.jsonl, checkpoints/, previews/. Under\n"
        "`mpirun -n W` the W ranks share each batch.\n"
        "With stages in the config they are trained one after the other, and a resumed run goes on in the right one.\n"
        "\n"
        "Signals: INT saves and stops (a second one stops at once); TERM and USR1 save and exit with 75, which asks a\n"
        "scheduler to queue the job again; USR2 saves and goes on.\n"
        "Under mpirun send USR1 to mpirun: INT and TERM it does not forward, and kills the ranks after a second.\n"
        "Exit codes: 0 done, 2 usage or config, 3 files, 4 memory, 5 numbers, 6 communication, or files of\n"
        "another config or run, 70 a bug, 75 queue again, 76 another rank has died, stopped or fallen behind (the log\n"
        "names it; resume), 130 interrupted. `vasily config` lists the keys.\n",
    .table = COMMAND_TABLE(options),
    .options_size = sizeof(TrainArguments),
    .parallel = true,
    .computes = true,
    .run = run,
    .load = load,
};
