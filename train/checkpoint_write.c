#include "train/checkpoint_write.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hdf5_file.h"
#include "model/weight_shares.h"
#include "train/checkpoint_arrays.h"
#include "train/share_index.h"

/* Elements of a share that are written at once. The HDF5 library is locked meanwhile, which readers of precomputed
 * files wait for. */
#define PIECE ((int64_t)1 << 20)

struct CheckpointWriter {
    const Snapshot *snapshot;
    int rank, world;
    ParamOrder order; /* by name */
    float *room;      /* what was read: (largest parameter) alone, else (PIECE) */
    float *scratch;   /* (largest parameter) in file layout; alone */
};

/* Whatever the order of the flat buffers is: the same values make the same bytes. */
static int by_name(const void *a, const void *b)
{
    const Param *const *p = a, *const *q = b;
    return strcmp((*p)->name, (*q)->name);
}

Status checkpoint_writer_create(const Snapshot *snapshot, int rank, int world, CheckpointWriter **out)
{
    Status status = STATUS_OK;
    CheckpointWriter *w = mem_alloc_array(1, sizeof *w);
    *out = NULL;
    if (!w) FAIL(ERR_MEMORY, "out of memory");
    w->snapshot = snapshot;
    w->rank = rank;
    w->world = world;
    TRY(param_order_make(snapshot->options.store->table, &w->order));
    qsort(w->order.params, (size_t)w->order.count, sizeof(Param *), by_name);
    w->room = mem_alloc_array((size_t)(world > 1 ? PIECE : w->order.largest), sizeof *w->room);
    if (world == 1) w->scratch = mem_alloc_array((size_t)w->order.largest, sizeof *w->scratch);
    if (!w->room || (world == 1 && !w->scratch)) FAIL(ERR_MEMORY, "no memory for one parameter of a checkpoint");
    *out = w;
    return STATUS_OK;
fail:
    checkpoint_writer_free(w);
    return status;
}

void checkpoint_writer_free(CheckpointWriter *w)
{
    if (!w) return;
    param_order_free(&w->order);
    free(w->room);
    free(w->scratch);
    free(w);
}

int64_t checkpoint_writer_bytes(const ParamTable *table, int64_t ranks)
{
    int64_t largest = 0;
    if (ranks > 1) return PIECE * (int64_t)sizeof(float);
    for (int32_t i = 0; i < param_table_size(table); i++) {
        const Param *param = param_table_get(table, i);
        if (param->trainable && param->count > largest) largest = param->count;
    }
    return 2 * largest * (int64_t)sizeof(float);
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

/* ---- alone ---- */

/* A rank alone has the flat buffers as they are. */
static Status write_param(CheckpointWriter *w, H5File *file, CheckpointArray array, const Param *param)
{
    Status status = STATUS_OK;
    const Shape shape = param_file_shape(param);
    const float *values;
    TRY(snapshot_read(w->snapshot, array, param->offset, param->count, w->room, &values));
    if (param->layout == PARAM_CONV) {
        param_to_file(param, values, w->scratch);
        values = w->scratch;
    }
    TRY(h5_write(file, param->name, H5_F32, shape.ndim, shape.dim, values));
fail:
    return status;
}

static Status write_whole(CheckpointWriter *w, const char *folder, CheckpointArray array, FileFacts *facts)
{
    Status status = STATUS_OK;
    H5File *file = NULL;
    char path[PATH_MAX], name[FILE_NAME_MAX];
    snprintf(name, sizeof name, "%s.h5", CHECKPOINT_ARRAY_WORDS[array]);
    TRY(path_join(path, sizeof path, folder, name));
    TRY(h5_create(path, &file));
    for (int32_t i = 0; i < w->order.count && status == STATUS_OK; i++)
        status = write_param(w, file, array, w->order.params[i]);
    TRY(close_file(file, status));
    TRY(file_facts_take(folder, name, facts));
fail:
    return status;
}

/* ---- a share ---- */

static Status write_flat(CheckpointWriter *w, H5File *file, CheckpointArray array)
{
    Status status = STATUS_OK;
    const char *name = CHECKPOINT_ARRAY_WORDS[array];
    const int64_t count = w->snapshot->options.deal->elements;
    const float *values;
    TRY(h5_declare(file, name, H5_F32, 1, &count));
    for (int64_t at = 0; at < count; at += PIECE) {
        const int64_t n = count - at < PIECE ? count - at : PIECE;
        TRY(snapshot_read(w->snapshot, array, at, n, w->room, &values));
        TRY(h5_write_rows(file, name, at, n, values));
        sched_yield();
    }
fail:
    return status;
}

static Status write_share(CheckpointWriter *w, const char *folder, FileFacts *facts)
{
    Status status = STATUS_OK;
    H5File *file = NULL;
    char path[PATH_MAX], name[WEIGHT_SHARE_NAME_MAX];
    weight_share_name(name, w->rank, w->world);
    TRY(path_join(path, sizeof path, folder, name));
    TRY(h5_create(path, &file));
    for (int a = 0; a < CHECKPOINT_ARRAYS && status == STATUS_OK; a++)
        if (snapshot_has(w->snapshot, (CheckpointArray)a) && w->snapshot->options.deal->elements > 0)
            status = write_flat(w, file, (CheckpointArray)a);
    TRY(close_file(file, status));
    TRY(file_facts_take(folder, name, facts));
fail:
    return status;
}

Status checkpoint_writer_write(CheckpointWriter *w, const char *folder, FileFacts facts[CHECKPOINT_ARRAYS],
                               size_t *count)
{
    Status status = STATUS_OK;
    *count = 0;
    if (w->world > 1) {
        TRY(write_share(w, folder, &facts[(*count)++]));
        return STATUS_OK;
    }
    for (int a = 0; a < CHECKPOINT_ARRAYS; a++)
        if (snapshot_has(w->snapshot, (CheckpointArray)a))
            TRY(write_whole(w, folder, (CheckpointArray)a, &facts[(*count)++]));
fail:
    return status;
}

/* ---- the indices ---- */

static int by_flat(const void *a, const void *b)
{
    const ShareSegment *p = a, *q = b;
    return (p->flat > q->flat) - (p->flat < q->flat);
}

/* Which elements of the flat buffers each rank has written. */
static Status map_segments(const Exchange *exchange, int group, ShareMap *map)
{
    Status status = STATUS_OK;
    CheckpointDeal deal = {0};
    for (int rank = 0; rank < map->shares; rank++) {
        TRY(checkpoint_deal_make(exchange, map->shares, group, rank, &deal));
        TRY(mem_grow(&map->segments, &map->segment_capacity, map->segment_count + (size_t)deal.count + 1,
                     sizeof *map->segments));
        for (int32_t s = 0; s < deal.count; s++) {
            const DealSpan *span = &deal.spans[s];
            map->segments[map->segment_count++] = (ShareSegment){span->flat, span->count, span->local, rank};
        }
        checkpoint_deal_free(&deal);
    }
    if (map->segment_count > 1) qsort(map->segments, map->segment_count, sizeof *map->segments, by_flat);
    for (size_t i = 1; i < map->segment_count; i++)
        if (map->segments[i].flat != map->segments[i - 1].flat + map->segments[i - 1].count)
            FAIL(ERR_INTERNAL, "the shares of a checkpoint leave a gap, or overlap");
fail:
    checkpoint_deal_free(&deal);
    return status;
}

/* In memory a convolution is O,KH,KW,C. */
static void describe_param(const Param *param, ShareTensor *out)
{
    const Shape shape = param_file_shape(param);
    *out = (ShareTensor){.name = param->name, .ndim = shape.ndim, .flat = param->offset, .count = param->count};
    memcpy(out->shape, shape.dim, (size_t)shape.ndim * sizeof shape.dim[0]);
    share_tensor_set_strides(out);
    if (param->layout != PARAM_CONV) return;
    out->stride[1] = 1;
    out->stride[3] = shape.dim[1];
    out->stride[2] = shape.dim[1] * shape.dim[3];
}

static Status map_params(const ParamTable *table, ShareMap *map)
{
    Status status = STATUS_OK;
    ParamOrder order = {0};
    TRY(param_order_make(table, &order));
    map->tensors = mem_alloc_array((size_t)order.count + 1, sizeof *map->tensors);
    if (!map->tensors) FAIL(ERR_MEMORY, "no memory for the index of a checkpoint");
    map->tensor_count = order.count;
    for (int32_t i = 0; i < order.count; i++) describe_param(order.params[i], &map->tensors[i]);
fail:
    param_order_free(&order);
    return status;
}

Status checkpoint_write_indices(const Snapshot *snapshot, const Exchange *exchange, int world, int group,
                                const char *folder, FileFacts facts[CHECKPOINT_ARRAYS], size_t *count)
{
    Status status = STATUS_OK;
    ShareMap map = {.shares = world};
    *count = 0;
    TRY(map_params(snapshot->options.store->table, &map));
    TRY(map_segments(exchange, group, &map));
    for (int a = 0; a < CHECKPOINT_ARRAYS; a++)
        if (snapshot_has(snapshot, (CheckpointArray)a))
            TRY(share_index_write(folder, CHECKPOINT_ARRAY_WORDS[a], &map, &facts[(*count)++]));
fail:
    share_map_free(&map);
    return status;
}
