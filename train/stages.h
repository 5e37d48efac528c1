/* The stages of a run while it trains: which one a checkpoint lies in, when it is over, and what a checkpoint keeps of
 * it. The switch itself is a resume: save, close the trainer, open it for the next stage (train/command_train.c). */
#ifndef TRAIN_STAGES_H
#define TRAIN_STAGES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"
#include "train/run_config.h"

#define SECONDS_OF_DAY 86400.0

/* Where a run stands in its stages: part of state.json. */
typedef struct StageEnd {
    char name[STAGE_NAME_MOST + 1];
    int64_t step;   /* of the run, with which it ended */
    double seconds; /* trained in it; 0 where nothing told */
} StageEnd;

typedef struct StagePlace {
    char name[STAGE_NAME_MOST + 1]; /* of the stage; "": the run has none */
    int64_t steps;                  /* done in it */
    double seconds;                 /* of wall time trained in it, over all starts */
    int32_t ended_count;
    StageEnd ended[STAGES_MOST]; /* the stages before it, in order */
} StagePlace;

/* An object "stage", into an open one; nothing without stages. */
void stage_place_write(const StagePlace *place, JsonWriter *writer);
/* NULL, or JSON's null: no stages, as in checkpoints of earlier versions. `path` and `step`, the steps done in all, for
 * errors and to be checked against. */
Status stage_place_read(const char *path, const JsonValue *object, int64_t step, StagePlace *out);

/* Every stage's own config, made once when the program starts. */
typedef struct Stage {
    const StageConfig *stage; /* of the whole config */
    RunConfig run;
    Config *config;
} Stage;
typedef struct Stages {
    const RunConfig *run; /* the whole */
    const Config *config;
    size_t count;
    Stage *items;
} Stages;

/* *out is NULL where the config has no stages. `run` and `config` must outlive it. */
Status stages_open(const RunConfig *run, const Config *config, Stages **out);
void stages_free(Stages *stages); /* NULL is fine */

/* The stage that the trainer is open for. */
typedef struct StageRun {
    const Stages *stages; /* NULL: the run has none */
    size_t index;
    StagePlace place; /* as the trainer found it; `ended` is as long as the trainer lives */
    int64_t begin;    /* steps done before it */
    double seconds;   /* trained in it, as the ranks have agreed on last */
} StageRun;

/* The stage in which the checkpoint of `step` steps says that it lies (`saved`; NULL: a new run), be it over or not.
 * Stages that are done or begun keep their names and their order, else ERR_CONFIG tells both; a checkpoint of a run
 * without stages is put where its steps say, with a warning by rank 0 (`root`). */
Status stages_enter(const Stages *stages, const StagePlace *saved, int64_t step, bool root, StageRun *out);
/* To the next stage, where this one is over after `step` steps and another comes. */
void stage_run_go_on(StageRun *run, int64_t step);
const Stage *stage_run_now(const StageRun *run); /* NULL without stages */
const char *stage_run_name(const StageRun *run); /* NULL without stages */

/* Where the stage ends, in steps of the whole run; of one given in days at the latest. Without stages `steps`, which is
 * train.steps. */
int64_t stage_run_last_step(const StageRun *run, int64_t steps);
/* How many steps the whole run has, as `step` of them are done: those, what is left of the stage in hand, and the
 * stages that follow. What the config says now of stages that are over is not what they had. With days ahead `steps`,
 * which is then the most there can be. */
int64_t stage_run_total_steps(const StageRun *run, int64_t step, int64_t steps);
/* After `step` steps: the stage is over; and another one comes, of the `steps` of train.steps. */
bool stage_run_is_over(const StageRun *run, int64_t step);
bool stage_run_has_next(const StageRun *run, int64_t step, int64_t steps);
/* What a checkpoint of `step` keeps. */
StagePlace stage_run_place(const StageRun *run, int64_t step);
/* "clean begins, the 3rd of 3 stages; 512 has ended after 30 steps". */
void stage_run_describe(const StageRun *run, char *out, size_t capacity);

#endif
