/* vasily checkpoint verify: whether checkpoints are what their manifests say, are of the model that their config
 * describes, and hold numbers. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "model/training_graph.h"
#include "model/weight_file.h"
#include "train/checkpoint.h"
#include "train/checkpoint_arrays.h"
#include "train/checkpoint_aside.h"
#include "train/checkpoint_folder.h"
#include "train/checkpoint_manifest.h"
#include "train/checkpoint_snapshot.h"
#include "train/command.h"
#include "train/run_config.h"

enum { PIECE = 1 << 18 };

/* What was looked at. */
typedef struct Verified {
    int64_t bytes, values;
    int arrays;
} Verified;

/* The parameters of the model that the checkpoint's own config describes. */
static Status make_table(const CheckpointState *state, ParamTable **out)
{
    Status status = STATUS_OK;
    RunConfig run;
    Config *config = NULL;
    TRY(run_config_load("config of the checkpoint", state->config, NULL, 0, &run, &config));
    TRY(param_table_create(out));
    TRY(model_declare_params(*out, &run.model));
    TRY(param_table_layout(*out, NULL, 0));
fail:
    config_free(config);
    return status;
}

/* Every value is a number; second moments are not negative. */
static Status check_values(const char *path, const WeightTensor *t, bool squares, float *piece)
{
    Status status = STATUS_OK;
    for (int64_t at = 0; at < t->count; at += PIECE) {
        const int64_t n = t->count - at < PIECE ? t->count - at : PIECE;
        weight_tensor_to_f32(t, at, n, piece);
        for (int64_t i = 0; i < n; i++) {
            if (!isfinite(piece[i]))
                FAIL(ERR_NUMERIC, "%s: %s has %f at element %lld", path, t->name, (double)piece[i],
                     (long long)(at + i));
            if (squares && piece[i] < 0)
                FAIL(ERR_NUMERIC, "%s: %s has a negative second moment at element %lld", path, t->name,
                     (long long)(at + i));
        }
    }
    weight_tensor_release(t);
fail:
    return status;
}

static Status check_array(const char *folder, CheckpointArray array, const ParamTable *table, float *piece,
                          Verified *verified)
{
    Status status = STATUS_OK;
    WeightFile *file = NULL;
    char path[PATH_MAX];
    TRY(checkpoint_check_array(folder, CHECKPOINT_ARRAY_WORDS[array], table));
    TRY(checkpoint_array_path(path, folder, CHECKPOINT_ARRAY_WORDS[array]));
    TRY(weight_file_open(path, &file));
    for (int32_t i = 0; i < weight_file_count(file); i++) {
        const WeightTensor *t = weight_file_get(file, i);
        TRY(check_values(path, t, array == CHECKPOINT_V, piece));
        verified->values += t->count;
    }
    verified->arrays++;
fail:
    weight_file_close(file);
    return status;
}

static Status add_sizes(const char *folder, Verified *verified)
{
    Status status = STATUS_OK;
    FileFacts *files = NULL;
    size_t count = 0;
    int64_t format;
    TRY(manifest_read(folder, &format, &files, &count));
    for (size_t i = 0; i < count; i++) verified->bytes += files[i].size;
fail:
    free(files);
    return status;
}

static Status verify(const char *folder, float *piece)
{
    Status status = STATUS_OK;
    CheckpointState state = {0};
    ParamTable *table = NULL;
    Verified verified = {0};
    TRY(checkpoint_verify(folder));
    TRY(checkpoint_read_state(folder, &state));
    TRY(make_table(&state, &table));
    TRY(add_sizes(folder, &verified));
    for (int a = 0; a < CHECKPOINT_ARRAYS; a++)
        if (a == CHECKPOINT_WEIGHTS || checkpoint_has(folder, CHECKPOINT_ARRAY_WORDS[a]))
            TRY(check_array(folder, (CheckpointArray)a, table, piece, &verified));
    const bool resumes = checkpoint_has(folder, "adam_m") && checkpoint_has(folder, "adam_v");
    printf("%s: good; step %lld, %.1f MB, %d arrays, %lld values, all finite%s\n", folder, (long long)state.step,
           1e-6 * (double)verified.bytes, verified.arrays, (long long)verified.values,
           resumes ? "" : "; without optimizer state, so it cannot be resumed");
fail:
    param_table_free(table);
    checkpoint_state_free(&state);
    return status;
}

/* The first failure is the one that the command ends with. */
static void note(const char *path, Status status, Status *worst)
{
    if (status == STATUS_OK) return;
    log_error("%s: not good: %s", path, status_message());
    if (*worst == STATUS_OK) *worst = status;
}

/* Also one whose files are gone in part. */
static bool is_checkpoint(const char *path)
{
    static const char *const SIGNS[] = {"manifest.json", "state.json", "weights.h5"};
    char inside[PATH_MAX];
    for (size_t i = 0; i < sizeof SIGNS / sizeof SIGNS[0]; i++)
        if (path_join(inside, sizeof inside, path, SIGNS[i]) == STATUS_OK && file_exists(inside)) return true;
    return false;
}

/* All of a run. One that the run itself removes before its turn comes, or while it is read, is none of the bad. */
static Status verify_run(const char *path, float *piece, Status *worst)
{
    Status status = STATUS_OK;
    int64_t *steps = NULL;
    size_t count = 0, gone = 0;
    char folder[PATH_MAX], one[PATH_MAX];
    TRY(checkpoint_folder_of(path, folder));
    TRY(checkpoint_list_steps(folder, &steps, &count));
    for (size_t i = 0; i < count; i++) {
        TRY(checkpoint_step_path(one, folder, steps[i], ""));
        const Status verified = verify(one, piece);
        if (verified && !file_exists(one)) {
            printf("%s: removed meanwhile\n", one);
            gone++;
            continue;
        }
        note(one, verified, worst);
    }
    if (count > 0 && gone == count)
        FAIL(ERR_IO, "%s: all its checkpoints were removed while they were looked at; try again", path);
    if (checkpoint_latest_is_folder(folder, one)) {
        log_warn("%s is a folder, not a link to the newest checkpoint (a copy that has followed links?); the run's "
                 "next start renames it",
                 one);
        note(one, verify(one, piece), worst);
    } else if (count == 0) {
        FAIL(ERR_IO, "%s: holds no checkpoint", path);
    }
fail:
    free(steps);
    return status;
}

/* A checkpoint, or all of a run. */
static void verify_path(const char *path, float *piece, Status *worst)
{
    Status status = STATUS_OK;
    if (is_checkpoint(path)) {
        note(path, verify(path, piece), worst);
        return;
    }
    TRY(verify_run(path, piece, worst));
    return;
fail: /* the other paths have their turn all the same */
    log_error("%s", status_message());
    if (*worst == STATUS_OK) *worst = status;
}

static Status run(CommandCall *call)
{
    Status status = STATUS_OK, worst = STATUS_OK;
    float *piece = mem_alloc_array(PIECE, sizeof *piece);
    if (!piece) FAIL(ERR_MEMORY, "out of memory");
    if (call->positional.count == 0) FAIL(ERR_USAGE, "usage: vasily checkpoint verify %s", call->command->usage);
    for (size_t i = 0; i < call->positional.count; i++) verify_path(call->positional.items[i], piece, &worst);
    call->exit_code = worst ? status_exit_code(worst) : 0; /* each was told as it was found */
fail:
    free(piece);
    return status;
}

const Command command_checkpoint_verify = {
    .name = "checkpoint verify",
    .summary = "read checkpoints and say whether they are good",
    .usage = "RUN|CHECKPOINT ...",
    .details =
        "Of each: the sizes and hashes of its manifest, its state, names and shapes of its arrays against the\n"
        "model of its config, and whether all values are finite. Of a run, all its checkpoints; what was set\n"
        "aside (step-N.set-aside) is verified by its own path. Exit code 0 when all are good, 3 for a damaged one\n"
        "or a path without any, 5 for values that are no numbers; the first failure's where there are several.\n",
    .run = run,
};
