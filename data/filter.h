/* Filter expressions over the logical fields of a sample (data/metadata.h), evaluated before its picture is decoded.
 *
 *     watermark < 0.5 and similarity >= 0.26 and (language in [ru, uk] or caption_length > 10)
 *
 *     expression  = term { "or" term }                    term  = factor { "and" factor }
 *     factor      = "not" factor | "(" expression ")" | "has" field | comparison
 *     comparison  = field ("<" | "<=" | ">" | ">=" | "==" | "!=") value | field ["not"] "in" "[" value {"," value} "]"
 *     field       = watermark | similarity | unsafe | aesthetic | language | width | height | side | aspect | pixels |
 *                   caption_length | status | json.NAME
 *     value       = number | word | "quoted"
 *
 * A field that a sample lacks makes a comparison unknown (Kleene's third value); `has` asks for it. What becomes of a
 * sample for which an expression is unknown is the filter's missing-field policy. Numbers compare with numbers, texts
 * with texts; another type counts as missing. NaN counts as missing, infinities are numbers. */
#ifndef DATA_FILTER_H
#define DATA_FILTER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"
#include "data/metadata.h"

typedef enum FilterVerdict { FILTER_FALSE, FILTER_TRUE, FILTER_UNKNOWN } FilterVerdict;

typedef struct FilterExpression FilterExpression;

/* ERR_CONFIG names the place in the text and what was expected there (the nearest known field for a misspelt one).
 * At most 4096 bytes, 64 levels, 256 comparisons. */
Status filter_parse(const char *text, FilterExpression **out);
void filter_free(FilterExpression *expression); /* NULL is fine */
/* Safe from several threads. `missing` (may be NULL): the first field that made it unknown. */
FilterVerdict filter_evaluate(const FilterExpression *expression, const Metadata *meta, const char **missing);

#endif
