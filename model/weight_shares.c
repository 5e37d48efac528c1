#include "model/weight_shares.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hdf5_file.h"
#include "base/json.h"

enum { INDEX_LIMIT = 256 << 20, FORMAT = 1 };

/* One share's file, mapped when the first piece in it is met. */
typedef struct Share {
    FileMap map;
    const float *values; /* NULL: not opened */
    int64_t count;
} Share;

struct WeightShares {
    Arena *arena; /* the caller's */
    const char *path;
    char folder[PATH_MAX];
    const char *array;
    Share *shares; /* (share_count) */
    int share_count;
    WeightTensor *tensors; /* (count) */
    int32_t count;
};

void weight_share_name(char out[WEIGHT_SHARE_NAME_MAX], int share, int shares)
{
    snprintf(out, WEIGHT_SHARE_NAME_MAX, "share-%04d-of-%04d.h5", share, shares);
}

static Status open_share(WeightShares *w, int index)
{
    Status status = STATUS_OK;
    Share *share = &w->shares[index];
    H5File *file = NULL;
    char name[WEIGHT_SHARE_NAME_MAX], path[PATH_MAX];
    int64_t offset;
    share->count = -1; /* whatever it has */
    weight_share_name(name, index, w->share_count);
    TRY(path_join(path, sizeof path, w->folder, name));
    TRY(file_map(path, &share->map));
    TRY(h5_open(path, &file));
    TRY(h5_locate(file, w->array, H5_F32, 1, &share->count, &offset));
    if (offset < 0 || offset % (int64_t)sizeof(float) || (size_t)offset > share->map.size ||
        (size_t)share->count > (share->map.size - (size_t)offset) / sizeof(float))
        FAIL(ERR_FORMAT, "%s: the data of %s reach beyond the file; is it complete?", path, w->array);
    share->values = (const float *)(const void *)(share->map.data + offset);
fail:
    if (file) {
        StatusRecord record;
        status_save(status, &record);
        (void)h5_close(file);
        status = status ? status_restore(&record) : STATUS_OK;
    }
    return status;
}

/* ---- the index ---- */

static Status read_numbers(const WeightShares *w, const char *name, const char *key, const JsonValue *list, int64_t min,
                           int64_t out[WEIGHT_MAX_DIMS])
{
    Status status = STATUS_OK;
    for (size_t d = 0; d < json_count(list); d++)
        if (!json_integer(json_item(list, d), &out[d]) || out[d] < min)
            FAIL(ERR_FORMAT, "%s: \"%s\" of %s are not whole numbers of at least %lld", w->path, key, name,
                 (long long)min);
fail:
    return status;
}

/* Whether the strides reach every element of [0, count) and none beyond: each dimension, by growing stride, continues
 * where those before it end. */
static bool strides_fill(const WeightTensor *t)
{
    int64_t next = 1;
    bool used[WEIGHT_MAX_DIMS] = {false};
    for (int32_t k = 0; k < t->ndim; k++) {
        int32_t found = -1;
        for (int32_t d = 0; d < t->ndim && found < 0; d++)
            if (!used[d] && (t->shape[d] == 1 || t->stride[d] == next)) found = d;
        if (found < 0) return false;
        used[found] = true;
        next *= t->shape[found];
    }
    return true;
}

static Status read_shape(const WeightShares *w, const JsonValue *entry, WeightTensor *t)
{
    Status status = STATUS_OK;
    const JsonValue *shape = json_get(entry, "shape"), *stride = json_get(entry, "stride");
    if (!json_is_array(shape) || !json_is_array(stride) || json_count(shape) > WEIGHT_MAX_DIMS ||
        json_count(shape) != json_count(stride))
        FAIL(ERR_FORMAT, "%s: %s has no shape of at most %d dimensions, or another number of strides", w->path, t->name,
             WEIGHT_MAX_DIMS);
    t->ndim = (int32_t)json_count(shape);
    TRY(read_numbers(w, t->name, "shape", shape, 1, t->shape));
    TRY(read_numbers(w, t->name, "stride", stride, 1, t->stride));
    t->count = 1;
    for (int32_t d = 0; d < t->ndim; d++)
        if (__builtin_mul_overflow(t->count, t->shape[d], &t->count) || t->count > INT64_MAX / 16)
            FAIL(ERR_FORMAT, "%s: %s has an impossible shape", w->path, t->name);
    if (!strides_fill(t)) FAIL(ERR_FORMAT, "%s: the strides of %s leave gaps", w->path, t->name);
fail:
    return status;
}

static Status read_piece(WeightShares *w, const char *name, const JsonValue *entry, int64_t left, WeightPiece *piece,
                         int64_t *count)
{
    Status status = STATUS_OK;
    int64_t share, first;
    if (json_count(entry) != 3 || !json_integer(json_item(entry, 0), &share) ||
        !json_integer(json_item(entry, 1), &first) || !json_integer(json_item(entry, 2), count))
        FAIL(ERR_FORMAT, "%s: a piece of %s is not a share, a place and a count", w->path, name);
    if (share < 0 || share >= w->share_count)
        FAIL(ERR_FORMAT, "%s: %s has a piece in share %lld of %d", w->path, name, (long long)share, w->share_count);
    if (!w->shares[share].values) TRY(open_share(w, (int)share));
    if (first < 0 || *count < 1 || *count > left || first > w->shares[share].count ||
        *count > w->shares[share].count - first)
        FAIL(ERR_FORMAT, "%s: a piece of %s reaches beyond the tensor or its share", w->path, name);
    piece->data = w->shares[share].values + first;
fail:
    return status;
}

static Status read_tensor(WeightShares *w, const char *name, const JsonValue *entry, WeightTensor *t)
{
    Status status = STATUS_OK;
    const JsonValue *list = json_get(entry, "pieces");
    const size_t pieces = json_count(list);
    WeightPiece *items = arena_alloc_array(w->arena, pieces + 1, sizeof *items);
    WeightPieces *all = arena_alloc_array(w->arena, 1, sizeof *all);
    int64_t at = 0, count;
    *t = (WeightTensor){.name = arena_strdup(w->arena, name), .dtype = SAFE_F32};
    if (!t->name || !items || !all) FAIL(ERR_MEMORY, "%s: out of memory", w->path);
    if (pieces > INT32_MAX) FAIL(ERR_LIMIT, "%s: %s is in too many pieces", w->path, name);
    TRY(read_shape(w, entry, t));
    for (size_t i = 0; i < pieces; i++, at += count) {
        items[i].first = at;
        TRY(read_piece(w, name, json_item(list, i), t->count - at, &items[i], &count));
    }
    if (at != t->count)
        FAIL(ERR_FORMAT, "%s: %s has %lld elements, its pieces have %lld", w->path, name, (long long)t->count,
             (long long)at);
    items[pieces].first = at;
    *all = (WeightPieces){.items = items, .count = (int32_t)pieces};
    t->pieces = all;
fail:
    return status;
}

static Status read_head(WeightShares *w, const JsonValue *root)
{
    Status status = STATUS_OK;
    int64_t format, shares;
    size_t size;
    const char *array = json_text(json_get(root, "array"), &size);
    if (!json_integer(json_get(root, "format"), &format) || format != FORMAT)
        FAIL(ERR_UNSUPPORTED, "%s: its format is not %d, which this program reads", w->path, FORMAT);
    if (!array || !array[0] || strlen(array) != size || strchr(array, '/'))
        FAIL(ERR_FORMAT, "%s: does not name its array", w->path);
    if (!json_integer(json_get(root, "shares"), &shares) || shares < 1 || shares > WEIGHT_SHARES_MOST)
        FAIL(ERR_FORMAT, "%s: \"shares\" is not a number from 1 to %d", w->path, WEIGHT_SHARES_MOST);
    w->array = arena_strdup(w->arena, array);
    w->share_count = (int)shares;
    w->shares = mem_alloc_array((size_t)shares, sizeof *w->shares);
    if (!w->array || !w->shares) FAIL(ERR_MEMORY, "%s: out of memory", w->path);
fail:
    return status;
}

static Status read_index(WeightShares *w)
{
    Status status = STATUS_OK;
    JsonDoc *doc = NULL;
    char *text = NULL;
    size_t size;
    TRY(file_read(w->path, INDEX_LIMIT, &text, &size));
    status = json_parse(text, size, INDEX_LIMIT, &doc);
    if (status) {
        status_prefix("%s: ", w->path);
        goto fail;
    }
    if (json_has_duplicate_keys(doc)) FAIL(ERR_FORMAT, "%s: a key or a tensor is there twice", w->path);
    TRY(read_head(w, json_root(doc)));
    const JsonValue *tensors = json_get(json_root(doc), "tensors");
    const size_t count = json_count(tensors);
    if (!json_is_object(tensors) || count == 0 || count > INT32_MAX / 4)
        FAIL(ERR_FORMAT, "%s: lists no tensors, or too many", w->path);
    w->tensors = mem_alloc_array(count, sizeof *w->tensors);
    if (!w->tensors) FAIL(ERR_MEMORY, "%s: out of memory", w->path);
    for (size_t i = 0; i < count; i++) {
        const char *name = NULL;
        const JsonValue *entry = json_member(tensors, i, &name);
        TRY(read_tensor(w, name, entry, &w->tensors[w->count]));
        w->count++;
    }
fail:
    json_free(doc);
    free(text);
    return status;
}

Status weight_shares_open(const char *path, Arena *arena, WeightShares **out)
{
    Status status = STATUS_OK;
    const char *slash = strrchr(path, '/');
    const size_t length = slash ? (size_t)(slash - path) : 0;
    WeightShares *w = mem_alloc_array(1, sizeof *w);
    *out = NULL;
    if (!w) FAIL(ERR_MEMORY, "%s: out of memory", path);
    w->arena = arena;
    w->path = arena_strdup(arena, path);
    if (!w->path) FAIL(ERR_MEMORY, "%s: out of memory", path);
    if (length >= sizeof w->folder) FAIL(ERR_LIMIT, "%s: the path is too long", path);
    memcpy(w->folder, slash ? path : ".", slash ? length + (length == 0) : 1);
    TRY(read_index(w));
    *out = w;
    return STATUS_OK;
fail:
    weight_shares_close(w);
    return status;
}

void weight_shares_close(WeightShares *w)
{
    if (!w) return;
    for (int i = 0; w->shares && i < w->share_count; i++) file_unmap(&w->shares[i].map);
    free(w->shares);
    free(w->tensors);
    free(w);
}

int32_t weight_shares_count(const WeightShares *w)
{
    return w->count;
}

const WeightTensor *weight_shares_get(const WeightShares *w, int32_t index)
{
    return &w->tensors[index];
}
