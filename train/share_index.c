#include "train/share_index.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/json.h"
#include "model/weight_shares.h"

enum { INDEX_FORMAT = 1 };

void share_map_free(ShareMap *map)
{
    free(map->tensors);
    free(map->segments);
    *map = (ShareMap){0};
}

void share_tensor_set_strides(ShareTensor *tensor)
{
    int64_t next = 1;
    for (int32_t d = tensor->ndim; d-- > 0; next *= tensor->shape[d]) tensor->stride[d] = next;
}

static void write_numbers(JsonWriter *w, const char *key, const int64_t *numbers, int32_t count)
{
    json_array(w, key);
    for (int32_t d = 0; d < count; d++) json_int(w, NULL, numbers[d]);
    json_end_array(w);
}

/* *at: the segment that has the tensor's first element, or one before it. */
static void write_tensor(JsonWriter *w, const ShareTensor *t, const ShareMap *map, size_t *at)
{
    const int64_t end = t->flat + t->count;
    json_object(w, t->name);
    write_numbers(w, "shape", t->shape, t->ndim);
    write_numbers(w, "stride", t->stride, t->ndim);
    json_array(w, "pieces");
    while (*at < map->segment_count && map->segments[*at].flat + map->segments[*at].count <= t->flat) (*at)++;
    for (size_t i = *at; i < map->segment_count && map->segments[i].flat < end; i++) {
        const ShareSegment *s = &map->segments[i];
        const int64_t from = t->flat > s->flat ? t->flat : s->flat;
        const int64_t to = end < s->flat + s->count ? end : s->flat + s->count;
        const int64_t piece[] = {s->share, s->local + (from - s->flat), to - from};
        write_numbers(w, NULL, piece, 3);
    }
    json_end_array(w);
    json_end_object(w);
}

Status share_index_write(const char *folder, const char *array, const ShareMap *map, FileFacts *facts)
{
    Status status = STATUS_OK;
    StrBuf text = {0};
    JsonWriter w;
    char path[PATH_MAX], name[FILE_NAME_MAX];
    size_t at = 0;
    snprintf(name, sizeof name, "%s" WEIGHT_SHARES_SUFFIX, array);
    json_begin(&w, &text);
    json_object(&w, NULL);
    json_int(&w, "format", INDEX_FORMAT);
    json_string(&w, "array", array);
    json_int(&w, "shares", map->shares);
    json_object(&w, "tensors");
    for (int32_t i = 0; i < map->tensor_count; i++) write_tensor(&w, &map->tensors[i], map, &at);
    json_end_object(&w);
    json_end_object(&w);
    TRY(strbuf_append(&text, "\n", 1));
    TRY(path_join(path, sizeof path, folder, name));
    TRY(file_write_atomic(path, text.data, text.size));
    TRY(file_facts_take(folder, name, facts));
fail:
    strbuf_free(&text);
    return status;
}
