/* Saving and loading; the order of operations is explained in the header. */
#include "train/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hdf5_file.h"
#include "base/log.h"
#include "engine/param_image.h"

enum { STATE_FILE_LIMIT = 256 << 20, BROADCAST_PIECE = 64 << 20, SPACE_MARGIN = 4 << 20 };

static const char step_prefix[] = "step-";

/* The step of a committed checkpoint's folder name; -1 for anything else. */
static int64_t step_of_name(const char *name)
{
    if (strncmp(name, step_prefix, sizeof step_prefix - 1) != 0) return -1;
    const char *digits = name + sizeof step_prefix - 1;
    size_t length = strlen(digits);
    if (length < 7 || length > 15 || strspn(digits, "0123456789") != length) return -1;
    return strtoll(digits, NULL, 10);
}

static Status step_path(char out[PATH_MAX], const char *folder, int64_t step, const char *suffix)
{
    char name[64];
    snprintf(name, sizeof name, "%s%07lld%s", step_prefix, (long long)step, suffix);
    return path_join(out, PATH_MAX, folder, name);
}

static Status file_of(char out[PATH_MAX], const char *folder, const char *what)
{
    char name[64];
    snprintf(name, sizeof name, "%s.h5", what);
    return path_join(out, PATH_MAX, folder, name);
}

/* The trainable parameters' largest element count, for one buffer in file layout. */
static int64_t largest_parameter(const ParamTable *table)
{
    int64_t largest = 1;
    for (int32_t i = 0; i < param_table_size(table); i++) {
        const Param *param = param_table_get(table, i);
        if (param->trainable && param->count > largest) largest = param->count;
    }
    return largest;
}

/* A flat buffer of trainable parameters, in the host's memory or the optimizer's. */
typedef struct Flat {
    float *host; /* NULL: the optimizer's */
    Optimizer *optimizer;
    OptimizerArray which;
} Flat;

static Flat flat_of(Optimizer *optimizer, OptimizerArray which, float *array)
{
    return (Flat){optimizer_on_device(optimizer) ? NULL : array, optimizer, which};
}

/* `scratch` and, for what is not in the host's memory, `staged`: room for the largest parameter. */
static Status write_param(const Flat *flat, const Param *param, float *staged, H5File *file, float *scratch)
{
    Status status = STATUS_OK;
    const Shape shape = param_file_shape(param);
    const float *values = flat->host ? flat->host + param->offset : staged;
    if (!flat->host) TRY(optimizer_read(flat->optimizer, flat->which, param->offset, param->count, staged));
    param_to_file(param, values, scratch);
    TRY(h5_write(file, param->name, H5_F32, shape.ndim, shape.dim, scratch));
fail:
    return status;
}

static Status write_params(const char *path, const ParamTable *table, const Flat *flat, float *scratch, float *staged)
{
    Status status = STATUS_OK;
    H5File *file = NULL;
    TRY(h5_create(path, &file));
    for (int32_t i = 0; i < param_table_size(table); i++) {
        const Param *param = param_table_get(table, i);
        if (param->trainable) TRY(write_param(flat, param, staged, file, scratch));
    }
    H5File *closing = file;
    file = NULL;
    TRY(h5_close(closing));
    TRY(file_sync(path));
    return STATUS_OK;
fail:
    if (file) { /* closing a file that could not be written fails again; the first message is the one to keep */
        StatusRecord record;
        status_save(status, &record);
        (void)h5_close(file);
        status = status_restore(&record);
    }
    return status;
}

static Status write_all(const char *folder, const CheckpointState *state, const ParamStore *store, Optimizer *optimizer)
{
    Status status = STATUS_OK;
    StrBuf text = {0};
    char path[PATH_MAX];
    const char *names[8];
    size_t count = 0;
    const struct {
        const char *what, *name;
        bool present;
        Flat flat;
    } arrays[] = {
        {"weights", "weights.h5", true, {.host = store->weights}},
        {"ema", "ema.h5", optimizer_ema(optimizer), flat_of(optimizer, OPTIMIZER_EMA, optimizer_ema(optimizer))},
        {"adam_m", "adam_m.h5", true, flat_of(optimizer, OPTIMIZER_M, optimizer_m(optimizer))},
        {"adam_v", "adam_v.h5", true, flat_of(optimizer, OPTIMIZER_V, optimizer_v(optimizer))}};
    const size_t largest = (size_t)largest_parameter(store->table);
    float *scratch = mem_alloc_array(largest, sizeof *scratch);
    float *staged = optimizer_on_device(optimizer) ? mem_alloc_array(largest, sizeof *staged) : NULL;
    if (!scratch || (optimizer_on_device(optimizer) && !staged))
        FAIL(ERR_MEMORY, "no memory for one parameter of a checkpoint");
    TRY(param_image_download_weights(store));
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        if (!arrays[i].present) continue;
        TRY(file_of(path, folder, arrays[i].what));
        TRY(write_params(path, store->table, &arrays[i].flat, scratch, staged));
        names[count++] = arrays[i].name;
    }
    TRY(checkpoint_format_state(state, &text));
    TRY(path_join(path, sizeof path, folder, "state.json"));
    TRY(file_write_atomic(path, text.data, text.size));
    names[count++] = "state.json";
    TRY(manifest_write(folder, state->step, names, count));
    TRY(file_sync(folder));
fail:
    free(scratch);
    free(staged);
    strbuf_free(&text);
    return status;
}

static Status check_space(const char *folder, const ParamTable *table, bool has_ema)
{
    Status status = STATUS_OK;
    int64_t available;
    int64_t arrays = has_ema ? 4 : 3;
    int64_t needed = arrays * param_table_trainable_parameters(table) * (int64_t)sizeof(float) + SPACE_MARGIN;
    TRY(file_free_space(folder, &available));
    if (available < needed)
        FAIL(ERR_IO, "%s: a checkpoint takes %.1f MB and %.1f MB are free; free some space or lower checkpoint.keep",
             folder, (double)needed / 1e6, (double)available / 1e6);
fail:
    return status;
}

/* Puts the finished folder in its place. One of that step may be there already, from a branch that was given up: the
 * two change names in one operation, so a whole checkpoint of this step exists at every moment. */
static Status commit_folder(const char *temporary, const char *final)
{
    Status status = STATUS_OK;
    if (!file_exists(final)) return file_rename(temporary, final);
    if (renameat2(AT_FDCWD, temporary, AT_FDCWD, final, RENAME_EXCHANGE) == 0) {
        TRY(file_remove_tree(temporary));
    } else { /* a file system without exchange */
        TRY(file_remove_tree(final));
        TRY(file_rename(temporary, final));
    }
fail:
    return status;
}

/* `latest` is a link to the folder beside it, moved by rename. */
static Status move_latest(const char *folder, int64_t step)
{
    Status status = STATUS_OK;
    char latest[PATH_MAX], temporary[PATH_MAX], name[64];
    snprintf(name, sizeof name, "%s%07lld", step_prefix, (long long)step);
    TRY(path_join(latest, sizeof latest, folder, "latest"));
    TRY(path_join(temporary, sizeof temporary, folder, "latest.tmp"));
    unlink(temporary);
    if (symlink(name, temporary)) FAIL(ERR_IO, "%s: %s", temporary, strerror(errno));
    TRY(file_rename(temporary, latest));
fail:
    return status;
}

/* Steps of the committed checkpoints, ascending. The caller frees. */
static Status list_steps(const char *folder, int64_t **steps, size_t *count)
{
    Status status = STATUS_OK;
    char **names = NULL;
    size_t name_count = 0;
    *steps = NULL;
    *count = 0;
    TRY(file_list(folder, &names, &name_count));
    *steps = mem_alloc_array(name_count ? name_count : 1, sizeof **steps);
    if (!*steps) FAIL(ERR_MEMORY, "out of memory");
    for (size_t i = 0; i < name_count; i++) {
        int64_t step = step_of_name(names[i]);
        if (step < 0) continue;
        size_t at = (*count)++;
        for (; at > 0 && (*steps)[at - 1] > step; at--) (*steps)[at] = (*steps)[at - 1];
        (*steps)[at] = step;
    }
fail:
    file_free_list(names, name_count);
    return status;
}

static Status prune(const char *folder, int64_t newest, int64_t keep)
{
    Status status = STATUS_OK;
    int64_t *steps = NULL;
    size_t count = 0;
    char path[PATH_MAX];
    TRY(list_steps(folder, &steps, &count));
    while (count > 0 && steps[count - 1] > newest) count--;
    for (size_t i = 0; i + (size_t)keep < count; i++) {
        TRY(step_path(path, folder, steps[i], ""));
        TRY(file_remove_tree(path));
    }
fail:
    free(steps);
    return status;
}

Status checkpoint_save(const char *folder, const CheckpointState *state, const ParamStore *store, Optimizer *optimizer,
                       int64_t keep)
{
    Status status = STATUS_OK;
    char temporary[PATH_MAX] = "", final[PATH_MAX];
    TRY(step_path(final, folder, state->step, ""));
    TRY(step_path(temporary, folder, state->step, ".tmp"));
    TRY(file_make_dirs(folder));
    TRY(file_remove_tree(temporary));
    TRY(check_space(folder, store->table, optimizer_ema(optimizer) != NULL));
    TRY(file_make_dirs(temporary));
    TRY(write_all(temporary, state, store, optimizer));
    TRY(commit_folder(temporary, final));
    temporary[0] = 0; /* from here on the checkpoint is good, whatever becomes of the rest */
    TRY(move_latest(folder, state->step));
    TRY(prune(folder, state->step, keep));
    return STATUS_OK;
fail:
    if (temporary[0]) {
        StatusRecord record;
        status_save(status, &record);
        (void)file_remove_tree(temporary);
        status = status_restore(&record);
        status_prefix("the checkpoint of step %lld could not be saved, older ones are as they were: ",
                      (long long)state->step);
    }
    return status;
}

Status checkpoint_verify(const char *path)
{
    return manifest_verify(path);
}

/* The newest good checkpoint in a checkpoints folder. */
static Status find_newest(const char *folder, char out[PATH_MAX], bool *found)
{
    Status status = STATUS_OK;
    int64_t *steps = NULL;
    size_t count = 0, bad = 0;
    *found = false;
    if (!file_is_dir(folder)) return STATUS_OK;
    TRY(list_steps(folder, &steps, &count));
    while (count-- > 0 && !*found) {
        TRY(step_path(out, folder, steps[count], ""));
        if (checkpoint_verify(out) == STATUS_OK) {
            *found = true;
        } else {
            log_warn("checkpoint %s is not usable: %s", out, status_message());
            bad++;
        }
    }
    if (*found && bad) log_warn("falling back to %s", out);
    if (!*found && bad)
        FAIL(ERR_FORMAT, "%s: none of its %zu checkpoints is usable; to start over, choose another run.dir", folder,
             bad);
fail:
    free(steps);
    return status;
}

Status checkpoint_find(const char *path, bool optional, char out[PATH_MAX], bool *found)
{
    Status status = STATUS_OK;
    char inside[PATH_MAX];
    *found = false;
    if (!file_exists(path)) {
        if (optional) return STATUS_OK;
        FAIL(ERR_IO, "%s: %s; name a run's folder or one of its checkpoints", path, strerror(ENOENT));
    }
    TRY(path_join(inside, sizeof inside, path, "manifest.json"));
    if (file_exists(inside)) {
        TRY(checkpoint_verify(path));
        if (!realpath(path, out)) FAIL(ERR_IO, "%s: %s", path, strerror(errno));
        *found = true;
        return STATUS_OK;
    }
    TRY(path_join(inside, sizeof inside, path, "checkpoints"));
    TRY(find_newest(file_is_dir(inside) ? inside : path, out, found));
    if (!*found && !optional) FAIL(ERR_IO, "%s: holds no usable checkpoint", path);
fail:
    return status;
}

Status checkpoint_read_state(const char *path, CheckpointState *out)
{
    Status status = STATUS_OK;
    char file[PATH_MAX], *text = NULL;
    size_t size;
    memset(out, 0, sizeof *out);
    TRY(path_join(file, sizeof file, path, "state.json"));
    TRY(file_read(file, STATE_FILE_LIMIT, &text, &size));
    TRY(checkpoint_parse_state(file, text, size, out));
fail:
    free(text);
    return status;
}

bool checkpoint_has(const char *path, const char *what)
{
    char file[PATH_MAX];
    return file_of(file, path, what) == STATUS_OK && file_exists(file);
}

static Status read_param(H5File *file, const Param *param, float *scratch, const Flat *flat, float *staged)
{
    Status status = STATUS_OK;
    TRY(h5_read(file, param->name, H5_F32, param->count, scratch));
    param_from_file(param, scratch, flat->host ? flat->host + param->offset : staged);
    if (!flat->host) TRY(optimizer_write(flat->optimizer, flat->which, param->offset, param->count, staged));
fail:
    return status;
}

static Status read_params(const char *path, const char *what, const ParamTable *table, const Flat *flat)
{
    Status status = STATUS_OK;
    H5File *file = NULL;
    char **names = NULL, name[PATH_MAX];
    size_t name_count = 0;
    const size_t largest = (size_t)largest_parameter(table);
    float *scratch = mem_alloc_array(largest, sizeof *scratch);
    float *staged = flat->host ? NULL : mem_alloc_array(largest, sizeof *staged);
    if (!scratch || (!flat->host && !staged)) FAIL(ERR_MEMORY, "no memory for one parameter of a checkpoint");
    TRY(file_of(name, path, what));
    TRY(h5_open(name, &file));
    TRY(h5_list(file, &names, &name_count));
    for (size_t i = 0; i < name_count; i++) {
        int32_t index = param_table_find(table, names[i]);
        if (index < 0 || !param_table_get(table, index)->trainable)
            FAIL(ERR_MISMATCH, "%s: holds %s, which this model does not have; is it of another model config?", name,
                 names[i]);
    }
    for (int32_t i = 0; i < param_table_size(table); i++) {
        const Param *param = param_table_get(table, i);
        if (!param->trainable) continue;
        Shape want = param_file_shape(param), have = {0};
        H5Type type;
        int ndim;
        int64_t dims[H5_MAX_DIMS];
        TRY(h5_shape(file, param->name, &type, &ndim, dims));
        have.ndim = ndim <= SHAPE_MAX_DIMS ? ndim : 0;
        for (int32_t k = 0; k < have.ndim; k++) have.dim[k] = dims[k];
        if (!shape_equal(&want, &have)) {
            char want_text[64], have_text[64];
            shape_format(&want, want_text, sizeof want_text);
            shape_format(&have, have_text, sizeof have_text);
            FAIL(ERR_MISMATCH, "%s: %s is %s, this model's is %s; is it of another model config?", name, param->name,
                 have_text, want_text);
        }
        TRY(read_param(file, param, scratch, flat, staged));
    }
fail:
    file_free_list(names, name_count);
    if (file) {
        StatusRecord record;
        status_save(status, &record);
        (void)h5_close(file);
        status = status ? status_restore(&record) : STATUS_OK;
    }
    free(scratch);
    free(staged);
    return status;
}

Status checkpoint_read_params(const char *path, const char *what, const ParamTable *table, float *flat)
{
    return read_params(path, what, table, &(Flat){.host = flat});
}

static Status load_on_root(const char *path, ParamStore *store, Optimizer *optimizer)
{
    Status status = STATUS_OK;
    TRY(checkpoint_read_params(path, "weights", store->table, store->weights));
    TRY(param_image_upload(store));
    const Flat m = flat_of(optimizer, OPTIMIZER_M, optimizer_m(optimizer));
    const Flat v = flat_of(optimizer, OPTIMIZER_V, optimizer_v(optimizer));
    const Flat ema = flat_of(optimizer, OPTIMIZER_EMA, optimizer_ema(optimizer));
    TRY(read_params(path, "adam_m", store->table, &m));
    TRY(read_params(path, "adam_v", store->table, &v));
    if (optimizer_ema(optimizer)) {
        if (checkpoint_has(path, "ema")) {
            TRY(read_params(path, "ema", store->table, &ema));
        } else {
            log_warn("%s has no moving average; it begins anew from the weights", path);
            TRY(optimizer_restart_ema(optimizer));
        }
    }
fail:
    return status;
}

static Status broadcast_floats(Comm *comm, float *data, int64_t count)
{
    Status status = STATUS_OK;
    const int64_t piece = BROADCAST_PIECE / (int64_t)sizeof *data;
    for (int64_t at = 0; data && at < count; at += piece)
        TRY(comm_broadcast(comm, data + at, (size_t)(count - at < piece ? count - at : piece) * sizeof *data, 0));
fail:
    return status;
}

/* The optimizer's arrays from rank 0, where they are not in the host's memory: piece by piece through it. */
static Status broadcast_array(Comm *comm, Optimizer *optimizer, OptimizerArray which)
{
    Status status = STATUS_OK;
    const int64_t piece = BROADCAST_PIECE / (int64_t)sizeof(float), all = optimizer_elements(optimizer);
    float *staged = mem_alloc_aligned(BROADCAST_PIECE);
    if (!staged) FAIL(ERR_MEMORY, "no memory for a piece of a checkpoint");
    for (int64_t at = 0; at < all; at += piece) {
        const int64_t count = all - at < piece ? all - at : piece;
        if (comm_rank(comm) == 0) TRY(optimizer_read(optimizer, which, at, count, staged));
        TRY(comm_broadcast(comm, staged, (size_t)count * sizeof *staged, 0));
        if (comm_rank(comm) != 0) TRY(optimizer_write(optimizer, which, at, count, staged));
    }
fail:
    mem_free_aligned(staged);
    return status;
}

static Status broadcast_optimizer(Comm *comm, Optimizer *optimizer)
{
    Status status = STATUS_OK;
    const int64_t count = optimizer_elements(optimizer);
    if (optimizer_on_device(optimizer)) {
        TRY(broadcast_array(comm, optimizer, OPTIMIZER_M));
        TRY(broadcast_array(comm, optimizer, OPTIMIZER_V));
        if (optimizer_ema(optimizer)) TRY(broadcast_array(comm, optimizer, OPTIMIZER_EMA));
    } else {
        TRY(broadcast_floats(comm, optimizer_m(optimizer), count));
        TRY(broadcast_floats(comm, optimizer_v(optimizer), count));
        TRY(broadcast_floats(comm, optimizer_ema(optimizer), count));
    }
fail:
    return status;
}

Status checkpoint_load(const char *path, const CheckpointState *state, Comm *comm, ParamStore *store,
                       Optimizer *optimizer)
{
    Status status = STATUS_OK;
    if (comm_rank(comm) == 0) TRY(load_on_root(path, store, optimizer));
    if (comm_world(comm) > 1) {
        TRY(broadcast_floats(comm, store->weights, optimizer_elements(optimizer)));
        if (comm_rank(comm) != 0) TRY(param_image_upload(store));
        TRY(broadcast_optimizer(comm, optimizer));
    }
    optimizer_set_state(optimizer, state->optimizer);
fail:
    return status;
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

Status checkpoint_set_aside_after(const char *folder, int64_t step)
{
    Status status = STATUS_OK;
    char **names = NULL, from[PATH_MAX], to[PATH_MAX];
    size_t count = 0;
    TRY(file_list(folder, &names, &count));
    for (size_t i = 0; i < count; i++) {
        TRY(path_join(from, sizeof from, folder, names[i]));
        if (strncmp(names[i], step_prefix, sizeof step_prefix - 1) == 0 && ends_with(names[i], ".tmp")) {
            TRY(file_remove_tree(from));
            continue;
        }
        int64_t other = step_of_name(names[i]);
        if (other <= step) continue;
        TRY(step_path(to, folder, other, ".set-aside"));
        TRY(file_remove_tree(to));
        TRY(file_rename(from, to));
        log_warn("%s is of after step %lld, where this run goes on: renamed to %s", from, (long long)step, to);
    }
fail:
    file_free_list(names, count);
    return status;
}
