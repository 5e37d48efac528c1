/* vasily validate: the loss on held-out samples, with the weights of a checkpoint. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "engine/param_image.h"
#include "train/command.h"
#include "train/frozen_data.h"
#include "train/run_agreement.h"
#include "train/saved_model.h"
#include "train/validation.h"

typedef struct ValidateArguments {
    bool ema, no_ema, json;
} ValidateArguments;

typedef struct Job {
    const ValidateArguments *a;
    Comm *comm;
    bool from_config;
    SavedModel model;
    Backend *backend;
    Diffusion *diffusion;
    PrecomputedSpec precomputed;
    Validation *validation;
} Job;

/* Rows of a pass where validation.batch is 0: as the trainer had them, or would have on one rank, within reason. */
static int64_t micro_batch_of(const Job *job)
{
    const TrainConfig *train = &job->model.run.train;
    if (job->model.state.micro_batch > 0) return job->model.state.micro_batch;
    if (train->micro_batch > 0) return train->micro_batch;
    return train->global_batch < 16 ? train->global_batch : 16;
}

static Status open_model(Job *job, const char *path, const char *const *overrides, size_t override_count)
{
    Status status = STATUS_OK;
    job->from_config = file_exists(path) && !file_is_dir(path);
    if (job->from_config)
        TRY(saved_model_open_config(path, overrides, override_count, &job->model));
    else
        TRY(saved_model_open(path, false, overrides, override_count, &job->model));
    if (job->model.run.validation.sources.count == 0)
        FAIL_WITH(config_error(job->model.config, "validation.sources",
                               "is empty; give held-out shards, such as on the command line: "
                               "'validation.sources=[{name: held-out, shards: [path/*.tar]}]'"));
fail:
    return status;
}

/* The tokenizers become those of the run's folder, which need not be where the config says. */
static Status use_tokenizers(Job *job, Arena *arena, const char *const *overrides, size_t override_count)
{
    Status status = STATUS_OK;
    char paths[2][PATH_MAX];
    DataConfig *data = &job->model.run.data;
    if (job->model.run.frozen.text == FROZEN_PRECOMPUTED) return STATUS_OK;
    TRY(saved_model_tokenizers(&job->model, overrides, override_count, paths[0], paths[1]));
    data->tokenizer1.model = arena_strdup(arena, paths[0]);
    data->tokenizer2.model = arena_strdup(arena, paths[1]);
    if (!data->tokenizer1.model || !data->tokenizer2.model) FAIL(ERR_MEMORY, "out of memory");
fail:
    return status;
}

static Status open_validation(Job *job)
{
    Status status = STATUS_OK;
    RunConfig *run = &job->model.run;
    TRY(network_open_backend(run, job->comm, &job->backend));
    TRY(param_image_open(&job->model.store, job->backend, false));
    TRY(diffusion_create(&run->diffusion, &job->diffusion));
    TRY(frozen_spec_create(run, job->comm, false, &job->precomputed));
    TRY(validation_plan(&(ValidationOptions){.run = run,
                                             .backend = job->backend,
                                             .params = job->model.params,
                                             .diffusion = job->diffusion,
                                             .micro_batch = micro_batch_of(job),
                                             .ranks = comm_world(job->comm)},
                        &job->validation));
    TRY(validation_start(job->validation, &job->model.store, &job->precomputed, job->comm));
fail:
    return status;
}

/* Puts the live weights or their average into the store; *there: whether there are any. */
static Status load(Job *job, bool ema, bool *there)
{
    Status status = STATUS_OK;
    SavedModel *model = &job->model;
    char path[PATH_MAX];
    bool is_ema = false;
    *there = true;
    if (!job->from_config && !ema) return STATUS_OK; /* as it was opened */
    if (job->from_config) {
        InitConfig init = model->run.init;
        init.ema = ema;
        TRY(init_weights_find(init.from, ema, path, &is_ema));
        *there = is_ema == ema;
        if (*there) TRY(init_weights_load(&init, &model->store));
    } else {
        *there = checkpoint_has(model->path, "ema");
        if (*there) TRY(checkpoint_read_params(model->path, "ema", model->params, model->store.weights));
    }
    if (*there) TRY(param_image_upload(&model->store));
fail:
    return status;
}

static Status print(const Job *job, bool ema, const ValidationResult *r)
{
    Status status = STATUS_OK;
    StrBuf line = {0};
    if (comm_rank(job->comm) != 0) return STATUS_OK;
    if (job->a->json) {
        TRY(validation_line(job->model.state.step, ema, r, &line));
        fputs(line.data, stdout);
        goto fail;
    }
    printf("%-15s loss %.6g  mse %.6g  vb %.6g  (%lld samples at %lld timesteps, %.1f s)\n",
           ema ? "moving average" : "weights", r->loss, r->mse, r->vb, (long long)r->samples,
           (long long)r->timestep_count, r->seconds);
    for (int64_t k = 0; k < r->timestep_count; k++)
        printf("    timestep %5lld  loss %.6g\n", (long long)r->timesteps[k], r->by_timestep[k]);
fail:
    strbuf_free(&line);
    return status;
}

static Status measure(Job *job, bool ema)
{
    Status status = STATUS_OK;
    ValidationResult result;
    bool there;
    TRY(load(job, ema, &there));
    if (!there && ema && job->a->ema)
        FAIL(ERR_USAGE, "%s has no moving average; leave --ema away",
             job->from_config ? job->model.run.init.from : job->model.path);
    if (!there) return STATUS_OK;
    TRY(validation_run(job->validation, NULL, (ValidationPause){NULL}, &result));
    TRY(print(job, ema, &result));
fail:
    return status;
}

static Status run(CommandCall *call)
{
    Status status = STATUS_OK;
    Job job = {.a = call->options, .comm = call->comm};
    const char *const *overrides;
    size_t override_count;
    TRY(command_arguments(call, 1, &overrides, &override_count));
    if (job.a->ema && job.a->no_ema) FAIL(ERR_USAGE, "vasily validate: --ema and --no-ema exclude each other");
    TRY(open_model(&job, call->positional.items[0], overrides, override_count));
    TRY(run_agreement_check(&job.model.run, "validate", call->comm));
    TRY(use_tokenizers(&job, call->arena, overrides, override_count));
    TRY(open_validation(&job));
    if (!job.a->ema) TRY(measure(&job, false));
    if (job.a->ema || (!job.a->no_ema && job.model.run.validation.ema)) TRY(measure(&job, true));
fail:
    validation_free(job.validation);
    precomputed_spec_free(&job.precomputed);
    diffusion_free(job.diffusion);
    saved_model_close(&job.model);
    if (job.backend) backend_close(job.backend);
    return status;
}

static const ArgSpec options[] = {
    {"ema", ARG_FLAG, offsetof(ValidateArguments, ema), NULL, "only the moving average of the weights", 0, 0, NULL},
    {"no-ema", ARG_FLAG, offsetof(ValidateArguments, no_ema), NULL, "only the weights themselves", 0, 0, NULL},
    {"json", ARG_FLAG, offsetof(ValidateArguments, json), NULL, "the lines that a run's validation.jsonl would have", 0,
     0, NULL},
};

const Command command_validate = {
    .name = "validate",
    .summary = "measure the loss on held-out samples",
    .usage = "RUN|CHECKPOINT|CONFIG [key.path=value ...] [--ema|--no-ema] [--json]",
    .details =
        "Measures as the config's section `validation` says, at fixed timesteps and with fixed noise, with the "
        "weights\n"
        "and with their moving average (validation.ema): the figures that the run itself writes to validation.jsonl. "
        "A\n"
        "run's folder stands for its newest good checkpoint; a config for the weights that its init.from names, so "
        "that\n"
        "`CONFIG init.from=RUN` measures any run's weights as that config says. Under `mpirun -n W` the samples are\n"
        "shared by W ranks. docs/validation.md tells all of it.\n",
    .table = COMMAND_TABLE(options),
    .options_size = sizeof(ValidateArguments),
    .parallel = true,
    .computes = true,
    .run = run,
};
