/* The config section `guard:`, and the guard: it finds steps whose loss or gradient norm stands out from those before.
 *
 * A step's z is the distance of the value's logarithm from the median of the last `window` steps' logarithms, in
 * spreads (train/guard_history.h), of which one is at least 0.01, that is 1% of the value. Only values that are too
 * large stand out. Values that stood out are part of the history like others: a few of them move neither median nor
 * spread, and after a lasting change the guard has accustomed itself in half a window.
 *
 * Every rank computes it from the same loss and norm, so all decide alike. Nothing here is collective. */
#ifndef TRAIN_GUARD_H
#define TRAIN_GUARD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "base/json.h"

#define GUARD_WINDOW_MOST 5000

typedef enum GuardAction {
    GUARD_LOG,  /* a line in log, metrics and events */
    GUARD_SKIP, /* and the update is left out */
    GUARD_STOP  /* and the run ends, the update left out */
} GuardAction;

typedef struct GuardConfig {
    int32_t action;         /* GuardAction */
    int64_t window;         /* steps that are compared with */
    double loss_z;          /* a larger z stands out; 0: none does */
    double grad_norm_z;     /* likewise */
    int64_t warmup;         /* steps from the run's start in which none stands out */
    int64_t skips_in_a_row; /* so many end the run */
} GuardConfig;

extern const ConfigSchema GUARD_CONFIG_SCHEMA;

/* What a checkpoint keeps. Logarithms, oldest first. */
typedef struct GuardState {
    double *loss, *norm;
    int64_t loss_count, norm_count;
    int64_t in_a_row;                 /* steps that stood out, up to the last one */
    int64_t resolution, global_batch; /* with others, losses and norms are others too */
} GuardState;
void guard_state_write(const GuardState *state, JsonWriter *w); /* members of the open object */
/* `object` absent: an empty state. ERR_FORMAT names `path`; to be freed. */
Status guard_state_read(const char *path, const JsonValue *object, GuardState *out);
void guard_state_free(GuardState *state);

typedef struct Guard Guard;

Status guard_create(const GuardConfig *config, int64_t resolution, int64_t global_batch, Guard **out);
void guard_free(Guard *guard); /* NULL is fine */
/* The arrays stay the guard's. */
GuardState guard_state(const Guard *guard);
/* Goes on from a checkpoint's; of another resolution or batch the history begins anew, and false is returned. */
bool guard_restore(Guard *guard, const GuardState *state);

/* Whether a step that stands out is not applied. */
bool guard_holds(const Guard *guard);
/* Whether the update must wait until the loss is known. */
bool guard_waits_for_loss(const Guard *guard);

/* Above these the coming step stands out; infinity: it cannot. `steps_done`: before it. */
typedef struct GuardLimits {
    double loss, norm;
} GuardLimits;
GuardLimits guard_limits(const Guard *guard, int64_t steps_done);
bool guard_is_over(double value, double limit); /* what is no number is over every limit but infinity */

typedef struct GuardVerdict {
    double loss_z, norm_z; /* NAN: too few steps to compare with */
    double loss_middle, norm_middle;
    bool loss_over, norm_over;
} GuardVerdict;
/* The step that has been done, which becomes part of the history; to be called once a step, but for steps whose
 * gradient is not finite. `limits`: those that were in force. */
GuardVerdict guard_judge(Guard *guard, const GuardLimits *limits, double loss, double norm);
int64_t guard_in_a_row(const Guard *guard);

extern const char *const GUARD_ACTION_WORDS[]; /* by GuardAction, NULL at the end */

#endif
