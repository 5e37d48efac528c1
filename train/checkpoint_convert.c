#include "train/checkpoint_convert.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hdf5_file.h"
#include "base/log.h"
#include "model/weight_shares.h"
#include "train/checkpoint.h"
#include "train/checkpoint_arrays.h"
#include "train/checkpoint_folder.h"
#include "train/checkpoint_manifest.h"
#include "train/checkpoint_snapshot.h"
#include "train/share_index.h"

enum { STATE_FILE_LIMIT = 256 << 20, PIECE = 1 << 20, SHARE_ALIGN = 16 };

/* One array of the old checkpoint. */
typedef struct Source {
    WeightFile *file;
    const WeightTensor **tensors; /* (count) by name */
    int32_t count;
    int64_t largest, total; /* elements */
} Source;

typedef struct Conversion {
    const char *from;
    char to[PATH_MAX]; /* the temporary folder */
    ConvertOptions options;
    Source sources[CHECKPOINT_ARRAYS]; /* zero where the array is not there, or not wanted */
    FileFacts *facts;
    size_t fact_count;
    float *values; /* (largest tensor or PIECE) */
    ConvertTotals totals;
} Conversion;

/* ---- the old one ---- */

/* As a rank alone writes them, so that the same values make the same bytes. */
static int by_name(const void *a, const void *b)
{
    const WeightTensor *const *p = a, *const *q = b;
    return strcmp((*p)->name, (*q)->name);
}

static Status open_source(const char *folder, const char *what, Source *out)
{
    Status status = STATUS_OK;
    char path[PATH_MAX];
    TRY(checkpoint_array_path(path, folder, what));
    TRY(weight_file_open(path, &out->file));
    out->count = weight_file_count(out->file);
    out->tensors = mem_alloc_array((size_t)out->count + 1, sizeof(WeightTensor *));
    if (!out->tensors) FAIL(ERR_MEMORY, "out of memory");
    for (int32_t i = 0; i < out->count; i++) {
        const WeightTensor *t = weight_file_get(out->file, i);
        if (t->dtype != SAFE_F32) FAIL(ERR_FORMAT, "%s: %s is not of fp32 numbers", path, t->name);
        out->tensors[i] = t;
        out->total += t->count;
        if (t->count > out->largest) out->largest = t->count;
    }
    qsort(out->tensors, (size_t)out->count, sizeof(WeightTensor *), by_name);
fail:
    return status;
}

static Status open_sources(Conversion *c)
{
    Status status = STATUS_OK;
    int64_t largest = PIECE;
    const int last = c->options.optimizer ? CHECKPOINT_V : CHECKPOINT_EMA;
    for (int a = 0; a <= last; a++) {
        if (a != CHECKPOINT_WEIGHTS && !checkpoint_has(c->from, CHECKPOINT_ARRAY_WORDS[a])) continue;
        TRY(open_source(c->from, CHECKPOINT_ARRAY_WORDS[a], &c->sources[a]));
        if (c->sources[a].largest > largest) largest = c->sources[a].largest;
        c->totals.arrays++;
        c->totals.values += c->sources[a].total;
    }
    c->values = mem_alloc_array((size_t)largest, sizeof *c->values);
    c->facts = mem_alloc_array((size_t)c->options.shares + 2 * CHECKPOINT_ARRAYS, sizeof *c->facts);
    if (!c->values || !c->facts) FAIL(ERR_MEMORY, "no memory for the largest tensor of a checkpoint");
fail:
    return status;
}

static void close_sources(Conversion *c)
{
    for (int a = 0; a < CHECKPOINT_ARRAYS; a++) {
        free(c->sources[a].tensors);
        weight_file_close(c->sources[a].file);
    }
    free(c->values);
    free(c->facts);
}

/* Closing a file that could not be written fails again; the first message is the one to keep. */
static Status close_file(H5File *file, Status status)
{
    if (status == STATUS_OK) return h5_close(file);
    StatusRecord record;
    status_save(status, &record);
    (void)h5_close(file);
    return status_restore(&record);
}

/* ---- one file an array ---- */

static Status write_tensors(Conversion *c, const Source *source, H5File *file)
{
    Status status = STATUS_OK;
    for (int32_t i = 0; i < source->count; i++) {
        const WeightTensor *t = source->tensors[i];
        weight_tensor_to_f32(t, 0, t->count, c->values);
        weight_tensor_release(t);
        TRY(h5_write(file, t->name, H5_F32, t->ndim, t->shape, c->values));
    }
fail:
    return status;
}

static Status write_whole(Conversion *c, CheckpointArray array)
{
    Status status = STATUS_OK;
    H5File *file = NULL;
    char path[PATH_MAX], name[FILE_NAME_MAX];
    snprintf(name, sizeof name, "%s.h5", CHECKPOINT_ARRAY_WORDS[array]);
    log_live_line(name);
    TRY(path_join(path, sizeof path, c->to, name));
    TRY(h5_create(path, &file));
    status = write_tensors(c, &c->sources[array], file);
    TRY(close_file(file, status));
    TRY(file_facts_take(c->to, name, &c->facts[c->fact_count++]));
fail:
    return status;
}

/* ---- shares: the tensors one after another, cut evenly ---- */

static int64_t share_start(int64_t total, int share, int shares)
{
    if (share == shares) return total;
    const int64_t start = total / shares * share + total % shares * share / shares;
    return start / SHARE_ALIGN * SHARE_ALIGN;
}

/* Elements [from, to) of all tensors of a source, as rows of the file's dataset. */
static Status write_range(Conversion *c, const Source *source, const char *what, int64_t from, int64_t to, H5File *file)
{
    Status status = STATUS_OK;
    const int64_t count = to - from;
    int64_t first = 0; /* of the tensor, in the array */
    TRY(h5_declare(file, what, H5_F32, 1, &count));
    for (int32_t i = 0; i < source->count && first < to; first += source->tensors[i++]->count) {
        const WeightTensor *t = source->tensors[i];
        const int64_t begin = from > first ? from - first : 0, end = to - first < t->count ? to - first : t->count;
        for (int64_t at = begin; at < end; at += PIECE) {
            const int64_t n = end - at < PIECE ? end - at : PIECE;
            weight_tensor_to_f32(t, at, n, c->values);
            TRY(h5_write_rows(file, what, first + at - from, n, c->values));
        }
        weight_tensor_release(t);
    }
fail:
    return status;
}

static Status write_share(Conversion *c, int share)
{
    Status status = STATUS_OK;
    H5File *file = NULL;
    char path[PATH_MAX], name[WEIGHT_SHARE_NAME_MAX];
    weight_share_name(name, share, c->options.shares);
    log_live_line(name);
    TRY(path_join(path, sizeof path, c->to, name));
    TRY(h5_create(path, &file));
    for (int a = 0; a < CHECKPOINT_ARRAYS && status == STATUS_OK; a++) {
        const Source *source = &c->sources[a];
        const int64_t from = share_start(source->total, share, c->options.shares);
        const int64_t to = share_start(source->total, share + 1, c->options.shares);
        if (from < to) status = write_range(c, source, CHECKPOINT_ARRAY_WORDS[a], from, to, file);
    }
    TRY(close_file(file, status));
    TRY(file_facts_take(c->to, name, &c->facts[c->fact_count++]));
fail:
    return status;
}

static Status make_map(const Source *source, int shares, ShareMap *map)
{
    Status status = STATUS_OK;
    int64_t flat = 0;
    *map = (ShareMap){.shares = shares, .tensor_count = source->count, .segment_count = (size_t)shares};
    map->tensors = mem_alloc_array((size_t)source->count + 1, sizeof *map->tensors);
    map->segments = mem_alloc_array((size_t)shares, sizeof *map->segments);
    if (!map->tensors || !map->segments) FAIL(ERR_MEMORY, "out of memory");
    for (int32_t i = 0; i < source->count; i++) {
        const WeightTensor *t = source->tensors[i];
        map->tensors[i] = (ShareTensor){.name = t->name, .ndim = t->ndim, .flat = flat, .count = t->count};
        memcpy(map->tensors[i].shape, t->shape, sizeof t->shape);
        share_tensor_set_strides(&map->tensors[i]);
        flat += t->count;
    }
    for (int k = 0; k < shares; k++) {
        const int64_t from = share_start(flat, k, shares);
        map->segments[k] = (ShareSegment){.flat = from, .count = share_start(flat, k + 1, shares) - from, .share = k};
    }
fail:
    return status;
}

static Status write_index(Conversion *c, CheckpointArray array)
{
    Status status = STATUS_OK;
    ShareMap map = {0};
    TRY(make_map(&c->sources[array], c->options.shares, &map));
    TRY(share_index_write(c->to, CHECKPOINT_ARRAY_WORDS[array], &map, &c->facts[c->fact_count++]));
fail:
    share_map_free(&map);
    return status;
}

/* ---- all of it ---- */

/* Without optimizer state, among a run's own checkpoints, it would be the newest, and cannot be gone on from. */
static Status check_place(const char *to)
{
    Status status = STATUS_OK;
    char parent[PATH_MAX], real[PATH_MAX], name[FILE_NAME_MAX];
    size_t end = strlen(to), start;
    while (end > 0 && to[end - 1] == '/') end--;
    for (start = end; start > 0 && to[start - 1] != '/';) start--;
    if (start >= sizeof parent) FAIL(ERR_LIMIT, "%s: the path is too long", to);
    snprintf(name, sizeof name, "%.*s", (int)(end - start), to + start);
    snprintf(parent, sizeof parent, "%.*s", start ? (int)start : 1, start ? to : ".");
    if (checkpoint_step_of_name(name) < 0 || !realpath(parent, real)) return STATUS_OK;
    const char *slash = strrchr(real, '/');
    if (slash && strcmp(slash, "/checkpoints") == 0)
        FAIL(ERR_USAGE,
             "%s: a run goes on from what has such a name in its folder of checkpoints, and from one without optimizer "
             "state it cannot; name another folder",
             to);
fail:
    return status;
}

static Status write_arrays(Conversion *c)
{
    Status status = STATUS_OK;
    for (int k = 0; k < c->options.shares; k++) TRY(write_share(c, k));
    for (int a = 0; a < CHECKPOINT_ARRAYS; a++) {
        if (c->sources[a].count == 0) continue;
        TRY(c->options.shares > 0 ? write_index(c, (CheckpointArray)a) : write_whole(c, (CheckpointArray)a));
    }
fail:
    log_live_line(NULL);
    return status;
}

static Status copy_state(Conversion *c, int64_t *step)
{
    Status status = STATUS_OK;
    CheckpointState state = {0};
    char path[PATH_MAX], *text = NULL;
    size_t size;
    TRY(checkpoint_read_state(c->from, &state));
    *step = state.step;
    TRY(path_join(path, sizeof path, c->from, "state.json"));
    TRY(file_read(path, STATE_FILE_LIMIT, &text, &size));
    TRY(path_join(path, sizeof path, c->to, "state.json"));
    TRY(file_write_atomic(path, text, size));
    TRY(file_facts_take(c->to, "state.json", &c->facts[c->fact_count++]));
fail:
    checkpoint_state_free(&state);
    free(text);
    return status;
}

Status checkpoint_convert(const char *from, const char *to, const ConvertOptions *options, ConvertTotals *totals)
{
    Status status = STATUS_OK;
    Conversion c = {.from = from, .options = *options};
    int64_t step;
    bool made = false;
    if (file_exists(to)) FAIL(ERR_USAGE, "%s exists already; name a new folder", to);
    TRY(open_sources(&c));
    if (!c.sources[CHECKPOINT_M].file && !c.sources[CHECKPOINT_V].file) TRY(check_place(to));
    TRY(file_make_temporary_dir(to, c.to, sizeof c.to));
    made = true;
    TRY(write_arrays(&c));
    TRY(copy_state(&c, &step));
    TRY(manifest_write(c.to, options->shares > 0 ? CHECKPOINT_FORMAT_SHARES : CHECKPOINT_FORMAT_WHOLE, step, c.facts,
                       c.fact_count));
    TRY(file_sync(c.to));
    TRY(file_rename(c.to, to));
    made = false;
    *totals = c.totals;
fail:
    if (made) {
        StatusRecord record;
        status_save(status, &record);
        (void)file_remove_tree(c.to);
        status = status_restore(&record);
    }
    close_sources(&c);
    return status;
}
