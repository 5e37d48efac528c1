/* Pictures from captions: tokenizers and a generator, run in batches. Previews and `vasily sample` draw through this.
 */
#ifndef TRAIN_SAMPLING_H
#define TRAIN_SAMPLING_H

#include "engine/executor.h"
#include "model/generate.h"
#include "train/init_picture.h"
#include "train/run_config.h"

typedef struct SamplingOptions {
    int64_t height, width; /* pixels */
    int64_t batch;         /* pictures at once */
    int32_t steps;
    double scale;
    SamplerOptions sampler; /* threshold_bound is filled in here */
    uint64_t seed;
    bool init;                           /* a picture will be given to start from */
    PlanPack pack;                       /* how packed weights are held */
    const char *tokenizer1, *tokenizer2; /* SentencePiece models */
} SamplingOptions;

/* What the run's preview section asks for. */
SamplingOptions sampling_options(const RunConfig *run);

typedef struct Sampling Sampling;

/* Everything is allocated here. All arguments but the options must outlive it. */
Status sampling_create(const RunConfig *run, Backend *backend, ParamTable *params, const ParamStore *store,
                       const Diffusion *diffusion, const SamplingOptions *options, Sampling **out);
void sampling_free(Sampling *sampling); /* NULL is fine */
/* What it would allocate with packed weights kept, and made in scratch: most of it, and nothing is allocated. */
Status sampling_plan_bytes(const RunConfig *run, Backend *backend, ParamTable *params, const Diffusion *diffusion,
                           const SamplingOptions *options, int64_t *kept, int64_t *scratch);

/* The picture that all are drawn from, at the size of the options; it is encoded at once and need not outlive the call.
 * A warning counts what its mask wants drawn anew and no latent is drawn anew for. */
Status sampling_use_picture(Sampling *sampling, const InitPicture *picture);

/* Called as steps are done: `done` of `total` over all batches. May be NULL. */
typedef void (*SamplingProgress)(void *context, int64_t done, int64_t total);

/* Draws `count` pictures, height x width x 3 bytes each, into `rgb`. Picture i starts from noise `first_noise` + i, so
 * the same captions give the same pictures in batches of any size. `weights`: a flat buffer such as the EMA, or NULL
 * for the store's own. */
Status sampling_draw(Sampling *sampling, const float *weights, const char *const *captions, int64_t count,
                     uint64_t first_noise, uint8_t *rgb, SamplingProgress progress, void *context);
/* The same with the store's weights, and all pictures from one noise: that of picture `noise` of `seed`, whatever the
 * options' seed. So a picture is the one that sampling_draw draws with that seed and first noise. */
Status sampling_draw_alike(Sampling *sampling, const char *const *captions, int64_t count, uint64_t seed,
                           uint64_t noise, uint8_t *rgb, SamplingProgress progress, void *context);
/* Seconds of all that was drawn so far: in the sampler itself, and in all. */
void sampling_times(const Sampling *sampling, double *sampler, double *all);

/* "de<TAB>Katze" is the caption "Katze" under the label "de"; a prompt without a tab has itself as its label. The label
 * is copied into `label`. */
const char *prompt_caption(const char *prompt);
void prompt_label(const char *prompt, char *label, size_t capacity);

#endif
