/* A sample's .json: fields and filters; and the same bytes as a checkpoint's data cursor. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/cursor.h"
#include "data/filter.h"
#include "data/metadata.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every field: what one of them has is known. */
static void try_filter(const Metadata *meta)
{
    static FilterExpression *filter;
    if (!filter &&
        filter_parse("has watermark and has similarity and has unsafe and has aesthetic and has side and "
                     "has caption_length and has language and has status and (watermark < 0.5 or "
                     "similarity > 0.26 or unsafe == 0 or aesthetic != 5 or width in [1, 2] or height > 1 or "
                     "side >= 1 or aspect < 2 or pixels > 3 or caption_length > 4 or language in [ru, en] or "
                     "status == success)",
                     &filter) != STATUS_OK)
        abort();
    if (filter_evaluate(filter, meta, NULL) == FILTER_UNKNOWN) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const FilterConfig filter = {.watermark_max = 0.5,
                                 .unsafe_max = 0.5,
                                 .similarity_min = 0.26,
                                 .aesthetic_min = 5,
                                 .missing = data && size && data[0] & 1 ? MISSING_DROP : MISSING_PASS};
    JsonDoc *doc = NULL;
    if (json_parse((const char *)data, size, 1 << 20, &doc) == STATUS_OK) {
        Metadata meta;
        char detail[256] = "";
        metadata_read(json_root(doc), &meta);
        if (isinf(meta.watermark) || isinf(meta.similarity) || meta.width < 0 || meta.height < 0) abort();
        if (meta.caption && strlen(meta.caption) > meta.caption_size) abort();
        SampleReason reason = metadata_filter(&meta, &filter, 64, detail, sizeof detail);
        if ((reason == SAMPLE_ACCEPTED) != (detail[0] == 0)) abort();
        if (meta.caption_length < (meta.caption ? 0 : -1) || meta.caption_length > (int64_t)size) abort();
        try_filter(&meta);
        json_free(doc);
    }
    Cursor *cursor = NULL;
    if (cursor_load((const char *)data, size, &cursor) == STATUS_OK) {
        StrBuf text = {0};
        Cursor *again = NULL;
        if (cursor_save(cursor, &text) != STATUS_OK || cursor_load(text.data, text.size, &again) != STATUS_OK) abort();
        if (again->next_index != cursor->next_index || again->lanes != cursor->lanes) abort();
        cursor_free(again);
        strbuf_free(&text);
    }
    cursor_free(cursor);
    return 0;
}
