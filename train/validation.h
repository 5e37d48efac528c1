/* Validation: the training loss on held-out samples, at fixed timesteps and with fixed noise, so that its figures are
 * smooth over a run and comparable between runs.
 *
 * Sample i at timestep t has the noise of Philox(validation.seed, i 2^20 + t), whatever other samples and timesteps
 * there are. A pass of the network takes rows, each a sample at a timestep; sample i belongs to rank i modulo the
 * ranks. Losses are put together and summed in one order, so any number of ranks and any batch give the same figures
 * but for what the network itself rounds in another way.
 *
 * It is a forward graph over the parameters of training, with a slab of its own. Packed weights are made in scratch
 * memory as they are needed: it takes little memory, the weights that are measured change, and the bits are the same.
 */
#ifndef TRAIN_VALIDATION_H
#define TRAIN_VALIDATION_H

#include "data/precomputed.h"
#include "engine/comm.h"
#include "model/diffusion.h"
#include "train/network.h"

typedef struct Validation Validation;

/* Whether the trainer validates: there are held-out shards, and `every` is not 0. */
bool validation_is_wanted(const RunConfig *run);
/* Whether it does so after `step` steps, by its schedule. */
bool validation_is_due(const RunConfig *run, int64_t step);

typedef struct ValidationOptions {
    const RunConfig *run;
    Backend *backend;
    ParamTable *params; /* laid out; all of the model's parameters */
    const Diffusion *diffusion;
    int64_t micro_batch; /* rows of a pass where validation.batch is 0 */
    int64_t ranks;
    bool estimate; /* as PlanOptions.estimate; such a one cannot be started */
} ValidationOptions;

/* Graph and plan: allocates nothing that grows with the model. What the options point to must outlive it. */
Status validation_plan(const ValidationOptions *options, Validation **out);
ValidationBytes validation_bytes(const Validation *validation);
/* Both for what the trainer would make of a planned network on one of `ranks`; nothing is left behind. */
Status validation_plan_bytes(const RunConfig *run, const Network *network, int64_t ranks, bool estimate,
                             ValidationBytes *out);
/* Reads the samples and makes it ready to run. `store` and `comm` must outlive it; `precomputed` is that of training.
 * Collective. */
Status validation_start(Validation *validation, const ParamStore *store, const PrecomputedSpec *precomputed,
                        Comm *comm);
void validation_free(Validation *validation); /* NULL is fine */

typedef struct ValidationResult {
    double loss, mse, vb; /* means over samples and timesteps; loss = mse + vb, as in training */
    int64_t samples, timestep_count;
    const int64_t *timesteps;  /* (timestep_count) */
    const double *by_timestep; /* the mean loss at each of them; the validation's, until its next run */
    double seconds;
    bool stopped; /* by a pause: there are no figures */
} ValidationResult;

/* Called on all ranks alike after each pass of the network, which may take seconds: what must not wait for the end.
 * *stop: no more passes. */
typedef struct ValidationPause {
    Status (*call)(void *context, bool *stop); /* NULL: none */
    void *context;
} ValidationPause;

/* With `weights`, a flat buffer in the backend's memory such as the EMA; NULL: the store's own. Every rank gets the
 * result. Collective. */
Status validation_run(Validation *validation, const float *weights, ValidationPause pause, ValidationResult *out);

/* ---- RUN/validation.jsonl ----
 *
 *   {"step": steps done, "weights": "live" or "ema", "loss": x, "mse": x, "vb": x, "by_timestep": [[t, loss], ...]}
 */

/* Appends such a line, with its end. */
Status validation_line(int64_t step, bool ema, const ValidationResult *result, StrBuf *out);
/* How many of them a step has: that of the live weights, and of their average where there is one. */
int validation_lines(const RunConfig *run);
/* *there: the file has so many of `step`. No file is fine. */
Status validation_file_has(const char *path, int64_t step, int lines, bool *there);
/* Cuts the file back to steps up to `step` (-1: nothing is kept). *there: `step` has its `lines` lines; fewer, as a
 * kill may leave them, go too. No file is fine. */
Status validation_file_resume(const char *path, int64_t step, int lines, bool *there);

#endif
