/* What trainer.c (the loop), trainer_open.c (opening, closing) and the other trainer_*.c share. */
#ifndef TRAIN_TRAINER_INTERNAL_H
#define TRAIN_TRAINER_INTERNAL_H

#include "data/loader.h"
#include "engine/exchange.h"
#include "engine/recorder.h"
#include "optim/optimizer.h"
#include "train/checkpoint.h"
#include "train/checkpoint_saver.h"
#include "train/consistency.h"
#include "train/feed.h"
#include "train/metrics.h"
#include "train/network.h"
#include "train/preview.h"
#include "train/progress.h"
#include "train/run_dir.h"
#include "train/run_events.h"
#include "train/signals.h"
#include "train/trainer.h"
#include "train/validation.h"
#include "train/watch.h"

/* What a rank tells the others of the save under way: 1 or 0 each, summed. */
typedef enum SaveWord { SAVE_WRITTEN, SAVE_COMMITTED, SAVE_FAILED, SAVE_WORDS } SaveWord;

/* A save that goes on beside training. All ranks are in the same phase: they go on by the same sums. */
typedef enum SavePhase { SAVE_NONE, SAVE_WRITING, SAVE_COMMITTING } SavePhase;
typedef struct TrainerSave {
    CheckpointSaver *saver;
    SavePhase phase;
    int64_t step;            /* of the save under way, or of the last */
    double begun;            /* when the last one was */
    double stalled;          /* seconds that training stood still for it */
    double all_stalled, run; /* for all of them; when the loop began */
    int64_t count;
} TrainerSave;

/* What a rank tells the others at the end of a step, as doubles, and what comes of it. */
typedef struct StepTold {
    double losses[2];          /* mse, vb: sums over the samples */
    double wishes[WISH_COUNT]; /* sums */
    double save[SAVE_WORDS];   /* sums */
    double data, comm;         /* seconds waited: the longest of any rank */
    double ready, ended;       /* ranks that have the next step's batch; whose data does not reach for it */
    double stage_seconds;      /* trained in the stage: rank 0's */
} StepTold;
enum { STEP_TOLD = sizeof(StepTold) / sizeof(double) };
_Static_assert(sizeof(StepTold) == TRAINER_TOLD_BYTES, "scaling and bench comm count on it");

struct Trainer {
    RunConfig *run; /* of the stage; without stages the whole one */
    const Config *config;
    const RunConfig *whole; /* with all its stages */
    RunConfig of_stage;     /* what `run` points to with stages */
    StageRun stage;
    double stage_clock; /* clock_seconds at which the stage's seconds were 0 */
    int64_t stop_after; /* as in TrainerOptions */
    bool one_stage, switched;
    bool owes; /* the stage is over but for its last validation */
    Comm *comm;
    bool root;           /* rank 0: the one that writes */
    bool own_checkpoint; /* rank 0: the run's folder has the checkpoint that it went on from */

    int64_t step;          /* steps done */
    int64_t last_step;     /* where this process stops */
    int64_t total_steps;   /* where the run ends; with days ahead at the latest */
    int64_t saved_step;    /* of the newest whole checkpoint on disk; -1: none */
    int64_t samples;       /* seen by all ranks since the start of the run */
    int64_t micro_batches; /* of one step on this rank */
    int64_t skipped_in_a_row;

    Network network;
    Optimizer *optimizer;
    PrecomputedSpec precomputed; /* what the loader reads instead of running frozen networks */
    Loader *loader;
    DataMetrics *data_metrics; /* the root's; NULL elsewhere */
    Cursor *start;             /* where the data stood at the start, of other stages' sources, too; NULL: nowhere */
    Cursor *cursor;            /* after the last applied batch, this rank's lanes; NULL before the first */
    Cursor *saving;            /* the same of all ranks, put together while saving */
    double *positions;         /* cursor_value_count: room to add the ranks' cursors up */
    int64_t *position_values;  /* the same */

    Feed *feed;
    Recorder *recorder;
    const Batch *batch; /* the one in hand; NULL: none */
    bool filled;        /* the next micro-batch's inputs are in the feed already */
    float *terms;       /* (micro_batches, micro_batch, 2): mse, vb of each sample; page-locked with a GPU */
    Exchange *exchange;
    Consistency *consistency;
    Guard *guard;
    GuardLimits guard_limits; /* of this step */
    bool updates_last;        /* the update is queued once the losses are known */
    double data_seconds;      /* that this step's batch was waited for before the step */
    double *told;             /* (ranks, STEP_TOLD): what each rank tells the others at the end of a step */

    bool draws; /* rank 0 has previews to draw */
    TrainerSave save;

    Validation *validation; /* NULL: none is asked for */
    int64_t validated_step; /* that validation.jsonl has; -1: none */

    /* root only */
    RunDir dir;
    Metrics metrics;
    Progress progress;
    Preview *preview;
    Watch *watch;
    char backend_text[512];
    char frozen[FROZEN_NETWORK_COUNT][33]; /* fingerprints; "" where the outputs are precomputed */
    StrBuf config_text;                    /* the effective config */
};

/* trainer_save.c; all are collective but those that say so. */
Status trainer_keep_cursor(Trainer *trainer, const Cursor *cursor); /* not */
Status trainer_open_saver(Trainer *trainer);
/* Saves this step: after the save before is over, and without waiting for the end of this one where checkpoints are
 * written beside training. */
Status trainer_save(Trainer *trainer);
/* Of the save under way. tell: what this rank has to say, not collective; also wishes for a save whose time has come.
 * follow: what comes of the ranks' sums. finish: waits for its end. */
void trainer_save_tell(Trainer *trainer, double words[SAVE_WORDS], double wishes[WISH_COUNT]);
Status trainer_save_follow(Trainer *trainer, const double sums[SAVE_WORDS]);
Status trainer_save_finish(Trainer *trainer);
void trainer_log_saves(const Trainer *trainer);             /* not */
Status trainer_compare(Trainer *trainer);                   /* the ranks' weights, unless parallel.compare_every is 0 */
Status trainer_preview(Trainer *trainer, const char *mark); /* rank 0 draws, if the config asks for pictures */

/* trainer_resume.c. `resume`: as in TrainerOptions. Collective but for log_differences, which is rank 0's. */
Status trainer_find_checkpoint(Trainer *trainer, const char *resume, char path[PATH_MAX], CheckpointState *state,
                               bool *found);
Status trainer_check_resumable(const Trainer *trainer, const CheckpointState *state);
void trainer_log_differences(const Trainer *trainer, const CheckpointState *state);

/* trainer_stage.c */
Status trainer_enter_stage(Trainer *trainer, const TrainerOptions *options, const CheckpointState *state);
Status trainer_check_settings(const Trainer *trainer); /* once the stage is known */
int64_t trainer_last_step(const Trainer *trainer);
Status trainer_write_config(const Trainer *trainer); /* RUN/config.yaml. Rank 0 */
Status trainer_begin_stage(Trainer *trainer);        /* collective, before the first step of a process */
void trainer_end_stage(Trainer *trainer);            /* after its last step, which of days is known only then */
bool trainer_stage_is_over(const Trainer *trainer);  /* false without stages */
bool trainer_stage_follows(const Trainer *trainer);  /* it is over, and the process goes on with the next one */
bool trainer_is_at_end(const Trainer *trainer);      /* of the whole run: no step comes, now or after a resume */

/* The whole moving average, in the memory of the gradients, which between steps nobody reads: on rank 0, or
 * `everywhere`. And that memory back, as gradients need it. Both on the ranks that had it; the first is collective. */
Status trainer_gather_average(Trainer *trainer, bool everywhere, const float **weights);
Status trainer_return_gradients(Trainer *trainer);

/* trainer_validate.c; collective. */
Status trainer_start_validation(Trainer *trainer, bool resumed);
/* Measures where it is due at this step, or with `ended` because the run has ended, and has not been done yet. Signals
 * that come meanwhile are added to `wishes`, and a checkpoint that one asks for is saved; one that asks to stop leaves
 * it for the next start. */
Status trainer_validate(Trainer *trainer, bool ended, double wishes[WISH_COUNT]);

/* trainer_guard.c: in the order of a step. `mse`: the mean over the global batch. */
Status trainer_guard_open(Trainer *trainer, const GuardState *state);
void trainer_guard_begin(Trainer *trainer);
Status trainer_guard_losses(Trainer *trainer, double mse);
void trainer_guard_judge(Trainer *trainer, StepMetrics *step);       /* fills in loss_z, grad_norm_z and guard */
Status trainer_guard_end(Trainer *trainer, const StepMetrics *step); /* ERR_NUMERIC on all ranks: the run ends */

#endif
