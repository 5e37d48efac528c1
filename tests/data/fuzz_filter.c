/* A filter expression, up to a NUL, is parsed; what follows is a sample's .json, on which it is evaluated. */
#include <stdlib.h>
#include <string.h>

#include "data/caption_choice.h"
#include "data/filter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first 100 bytes are also read as a choice of captions: what it is written as is the same choice. */
static void try_choice(const char *text)
{
    CaptionChoice choice, again;
    StrBuf out = {0};
    if (caption_choice_parse(text, &choice) == STATUS_OK) {
        if (caption_choice_format(&choice, &out) != STATUS_OK || caption_choice_parse(out.data, &again) != STATUS_OK)
            abort();
        if (memcmp(&choice, &again, sizeof choice) != 0) abort();
        for (int i = 0; i < choice.count; i++)
            if (caption_choice_rank(&choice, choice.codes[i], strlen(choice.codes[i])) > i) abort();
    }
    strbuf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FilterExpression *filter = NULL, *negated = NULL;
    JsonDoc *doc = NULL;
    StrBuf text = {0};
    const char *missing;
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    size_t length = nul ? (size_t)(nul - data) : size;
    if (strbuf_printf(&text, "not (%.*s)", (int)length, size ? (const char *)data : "") != STATUS_OK) abort();
    text.data[text.size - 1] = 0;
    char *expression = text.data + 5;
    Status status = filter_parse(expression, &filter);
    if ((status == STATUS_OK) != (filter != NULL) || (status != STATUS_OK && status != ERR_CONFIG)) abort();
    try_choice(expression);
    if (filter && nul && json_parse((const char *)nul + 1, size - length - 1, 1 << 20, &doc) == STATUS_OK) {
        Metadata meta;
        metadata_read(json_root(doc), &meta);
        FilterVerdict verdict = filter_evaluate(filter, &meta, &missing);
        if ((verdict == FILTER_UNKNOWN) != (missing != NULL)) abort();
        text.data[text.size - 1] = ')';
        if (filter_parse(text.data, &negated) == STATUS_OK) { /* else it is too long or too deep now */
            FilterVerdict other = filter_evaluate(negated, &meta, NULL);
            if ((verdict == FILTER_UNKNOWN) != (other == FILTER_UNKNOWN) || (verdict == other && missing == NULL))
                abort();
        }
    }
    filter_free(filter);
    filter_free(negated);
    json_free(doc);
    strbuf_free(&text);
    return 0;
}
