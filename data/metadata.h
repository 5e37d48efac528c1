/* The logical fields of a sample's .json, each under its many spellings, and the thresholds over them
 * (docs/filters.md).
 *
 * A number is a JSON number or a text that is one in decimal notation ("0.25"). What is not finite, null, or of another
 * type is missing; where a field has several names, the first that is there counts. */
#ifndef DATA_METADATA_H
#define DATA_METADATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/json.h"
#include "data/bad_samples.h"
#include "data/data_config.h"

typedef struct Metadata {
    double watermark, unsafe, similarity, aesthetic; /* NaN: missing. 0 is a value like any other */
    int64_t width, height;                           /* of the original picture; 0: missing */
    int64_t caption_length;                          /* caption_length(caption); -1: missing */
    const char *caption, *language, *status;         /* NULL: missing; owned by the JSON document */
    size_t caption_size, language_size, status_size;
    const JsonValue *captions; /* language -> caption or list of captions, or a list of captions; NULL: missing */
    const JsonValue *root;     /* the object itself; NULL: there is none */
    bool failed;               /* img2dataset's status is there and begins with "failed" */
} Metadata;

/* root NULL: everything is missing. Fields of the wrong type, NaN and null count as missing. */
void metadata_read(const JsonValue *root, Metadata *out);

/* Leaves the blanks of ASCII around a caption out, and a byte order mark before it. */
void caption_trim(const char **text, size_t *size);
/* Characters (Unicode code points) without the blanks around it. */
int64_t caption_length(const char *text, size_t size);

/* The thresholds of FilterConfig, in the order in which they are asked. */
typedef enum MetadataRule {
    RULE_DOWNLOADED,
    RULE_WATERMARK,
    RULE_UNSAFE,
    RULE_SIMILARITY,
    RULE_AESTHETIC,
    RULE_SIDE,
    METADATA_RULES
} MetadataRule;

/* Whether the config asks for it: min_side 0 and scores that keep all are not asked. */
bool metadata_rule_asked(MetadataRule rule, const FilterConfig *filter, int64_t min_side);
/* As one reads it: "watermark < 0.5". */
Status metadata_rule_format(MetadataRule rule, const FilterConfig *filter, int64_t min_side, StrBuf *out);
/* The sample lacks the field that the rule is about. */
bool metadata_rule_lacks(MetadataRule rule, const Metadata *meta);
/* SAMPLE_ACCEPTED or the rule's reason, with a word about it in `detail` (at least 128 bytes). SAMPLE_MISSING_FIELD
 * under both `drop` and `error`; never of RULE_SIDE: the stored picture's own size is checked by the decoder. */
SampleReason metadata_rule_check(MetadataRule rule, const Metadata *meta, const FilterConfig *filter, int64_t min_side,
                                 char *detail, size_t detail_size);
/* All of them: the first that leaves the sample out. */
SampleReason metadata_filter(const Metadata *meta, const FilterConfig *filter, int64_t min_side, char *detail,
                             size_t detail_size);

#endif
