#include "data/filter_set.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

typedef struct SourceFilters {
    FilterItem *items; /* the source's own */
    size_t count;
    bool asks_caption_length;
    CaptionChoice captions;
} SourceFilters;

struct FilterSet {
    const DataConfig *data;
    FilterItem *items; /* of data.filter */
    size_t count;
    bool asks_caption_length;
    SourceFilters *sources;
};

/* The last failure, as one about `key`. */
static Status config_failure(const Config *config, const char *key)
{
    char message[1024];
    snprintf(message, sizeof message, "%s", status_message());
    if (config) return config_error(config, key, "%s", message);
    return status_fail(ERR_CONFIG, __FILE__, __LINE__, "%s: %s", key, message);
}

static Status parse_items(const Config *config, const char *key, const ConfigStrings *texts, FilterItem **out,
                          size_t *count, bool *asks_caption_length)
{
    Status status = STATUS_OK;
    char item_key[256];
    if (texts->count == 0) return STATUS_OK;
    FilterItem *items = *out = mem_alloc_array(texts->count, sizeof items[0]);
    if (!items) FAIL(ERR_MEMORY, "out of memory for filters");
    for (size_t i = 0; i < texts->count; i++) {
        status = filter_parse(texts->items[i], &items[i].expression);
        if (status == ERR_CONFIG) {
            snprintf(item_key, sizeof item_key, "%s[%zu]", key, i);
            FAIL_WITH(config_failure(config, item_key));
        }
        TRY(status);
        items[i].text = texts->items[i];
        *count = i + 1;
        if (filter_asks_caption_length(items[i].expression)) *asks_caption_length = true;
    }
fail:
    return status;
}

static Status parse_captions(const Config *config, const char *section, const DataConfig *data, size_t source,
                             CaptionChoice *out)
{
    char key[256];
    const char *own = data_config_source(data, source)->language;
    bool has_own = own && own[0];
    Status status = caption_choice_parse(has_own ? own : data->caption_language, out);
    if (status != ERR_CONFIG) return status;
    if (has_own)
        snprintf(key, sizeof key, "%s.sources[%zu].language", section, source);
    else
        snprintf(key, sizeof key, "%s.caption_language", section);
    return config_failure(config, key);
}

Status filter_set_create(const Config *config, const char *section, const DataConfig *data, FilterSet **out)
{
    Status status = STATUS_OK;
    char key[256];
    CaptionChoice common;
    *out = NULL;
    FilterSet *set = mem_alloc_array(1, sizeof *set);
    if (!set) FAIL(ERR_MEMORY, "out of memory for filters");
    set->data = data;
    set->sources = mem_alloc_array(data->sources.count + 1, sizeof set->sources[0]);
    if (!set->sources) FAIL(ERR_MEMORY, "out of memory for filters");
    snprintf(key, sizeof key, "%s.caption_language", section);
    status = caption_choice_parse(data->caption_language, &common);
    if (status == ERR_CONFIG) FAIL_WITH(config_failure(config, key));
    TRY(status);
    snprintf(key, sizeof key, "%s.filter.where", section);
    TRY(parse_items(config, key, &data->filter.where, &set->items, &set->count, &set->asks_caption_length));
    for (size_t i = 0; i < data->sources.count; i++) {
        SourceFilters *source = &set->sources[i];
        snprintf(key, sizeof key, "%s.sources[%zu].where", section, i);
        TRY(parse_items(config, key, &data_config_source(data, i)->where, &source->items, &source->count,
                        &source->asks_caption_length));
        TRY(parse_captions(config, section, data, i, &source->captions));
    }
    *out = set;
    return STATUS_OK;
fail:
    filter_set_free(set);
    return status;
}

static void free_items(FilterItem *items, size_t count)
{
    for (size_t i = 0; i < count; i++) filter_free(items[i].expression);
    free(items);
}

void filter_set_free(FilterSet *set)
{
    if (!set) return;
    free_items(set->items, set->count);
    for (size_t i = 0; set->sources && i < set->data->sources.count; i++)
        free_items(set->sources[i].items, set->sources[i].count);
    free(set->sources);
    free(set);
}

size_t filter_set_count(const FilterSet *set, int32_t source)
{
    return set->count + set->sources[source].count;
}

const FilterItem *filter_set_item(const FilterSet *set, int32_t source, size_t i)
{
    return i < set->count ? &set->items[i] : &set->sources[source].items[i - set->count];
}

bool filter_set_asks_caption_length(const FilterSet *set, int32_t source)
{
    return set->asks_caption_length || set->sources[source].asks_caption_length;
}

const CaptionChoice *filter_set_captions(const FilterSet *set, int32_t source)
{
    return &set->sources[source].captions;
}

SampleReason filter_item_check(const FilterItem *item, const Metadata *meta, MissingField missing, char *detail,
                               size_t detail_size)
{
    const char *field;
    switch (filter_evaluate(item->expression, meta, &field)) {
    case FILTER_TRUE:
        return SAMPLE_ACCEPTED;
    case FILTER_FALSE:
        snprintf(detail, detail_size, "not %s", item->text);
        return SAMPLE_WHERE;
    case FILTER_UNKNOWN:
        break;
    }
    if (missing == MISSING_PASS) return SAMPLE_ACCEPTED;
    snprintf(detail, detail_size, "no %s, which is asked for by %s", field, item->text);
    return SAMPLE_MISSING_FIELD;
}

SampleReason filter_set_check(const FilterSet *set, int32_t source, const Metadata *meta, int64_t min_side,
                              char *detail, size_t detail_size)
{
    const FilterConfig *filter = &set->data->filter;
    SampleReason reason = metadata_filter(meta, filter, min_side, detail, detail_size);
    for (size_t i = 0; i < filter_set_count(set, source) && reason == SAMPLE_ACCEPTED; i++)
        reason = filter_item_check(filter_set_item(set, source, i), meta, (MissingField)filter->missing, detail,
                                   detail_size);
    return reason;
}
