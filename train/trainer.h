/* The trainer: one object that holds a run, and the loop that advances it. */
#ifndef TRAIN_TRAINER_H
#define TRAIN_TRAINER_H

#include "engine/watchdog.h"
#include "train/run_config.h"
#include "train/stages.h"

enum { TRAINER_TOLD_BYTES = 104 }; /* what a rank tells all others at the end of a step */

typedef struct Trainer Trainer;

typedef struct TrainerOptions {
    const char *resume; /* NULL: a new run; "auto": the newest good checkpoint of run.dir, or a new run; else a path */
    int64_t stop_after; /* stop when so many steps are done in all; 0: train.steps */
    const Stages *stages; /* of the config; NULL: it has none */
    const char
        *only_stage; /* stop at this stage's end; ERR_USAGE where the run is in another one; NULL: no such wish */
    bool switches;   /* this process has trained the stage before */
    const int *lock; /* what trainer_give_lock gave, which the trainer takes over; NULL: nothing */
    /* Opened as soon as the ranks are known to have one config, also where the trainer then fails to open; the caller
     * closes it, or fails with it. One that is open already stays. NULL: none. */
    Watchdog **watchdog;
} TrainerOptions;

typedef enum TrainerEnd {
    TRAINER_DONE,      /* train.steps, stop_after or the end of only_stage reached */
    TRAINER_STAGE,     /* the stage is over and saved: to be opened again, with resume "auto", for the next one */
    TRAINER_STOPPED,   /* SIGINT; saved */
    TRAINER_REQUEUE,   /* SIGTERM or SIGUSR1; saved */
    TRAINER_DATA_ENDED /* no source repeats, and what is left does not reach for a step; saved */
} TrainerEnd;

/* Opens everything: run folder, device, plan, data, and the checkpoint to go on from; with stages for the one in which
 * that lies. `run` (whose micro_batch and total_steps are resolved here, without stages) and `config` must outlive the
 * trainer. Where it fails, *out is what there is so far, for trainer_free alone: freeing may take long, and the other
 * ranks are to be told before. Collective. */
Status trainer_open(RunConfig *run, const Config *config, Comm *comm, const TrainerOptions *options, Trainer **out);
/* Trains to the end, or until a signal asks to stop; saves before it returns. Collective. */
Status trainer_run(Trainer *trainer, TrainerEnd *end);
/* The trainer was there only for a validation that a stage which is over still lacked; it has saved nothing. */
bool trainer_made_up(const Trainer *trainer);
/* Rank 0: the run's folder has what it went on from (or a copy), also where that had another name before. */
bool trainer_goes_on_here(const Trainer *trainer);
/* Rank 0's hold on the run's folder, for the trainer of the next stage: nobody else may come in between. -1: there is
 * none, as for NULL and on other ranks. */
int trainer_give_lock(Trainer *trainer);
void trainer_free(Trainer *trainer); /* NULL is fine */

#endif
