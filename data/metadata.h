/* The logical fields of a sample's .json, each under its many spellings, and the filters over them. */
#ifndef DATA_METADATA_H
#define DATA_METADATA_H

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"
#include "data/bad_samples.h"
#include "data/data_config.h"

typedef struct Metadata {
    double watermark, unsafe, similarity, aesthetic; /* NaN: missing. 0 is a value like any other */
    int64_t width, height;                           /* of the original picture; 0: missing */
    const char *caption, *language;                  /* NULL: missing; owned by the JSON document */
    size_t caption_size, language_size;
    const JsonValue *captions; /* object of language -> caption; NULL: missing */
    bool failed;               /* img2dataset's status is there and begins with "failed" */
} Metadata;

/* root NULL: everything is missing. Fields of the wrong type, NaN and null count as missing. */
void metadata_read(const JsonValue *root, Metadata *out);

/* SAMPLE_ACCEPTED or the filter's reason, with a word about it in `detail` (at least 128 bytes). The stored picture's
 * own size is checked by the decoder. SAMPLE_MISSING_FIELD under both `drop` and `error`. */
SampleReason metadata_filter(const Metadata *meta, const FilterConfig *filter, int64_t min_side, char *detail,
                             size_t detail_size);

#endif
