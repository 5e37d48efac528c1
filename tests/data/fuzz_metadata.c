/* A sample's .json: fields and filters; and the same bytes as a checkpoint's data cursor. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/cursor.h"
#include "data/metadata.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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
